//! The digest map file: what an initiator remembers of the last point of a volume.
//!
//! A 4096-byte header, then the nodes of every level of the point's map as plain arrays, level 0
//! first, each array padded with zeros to a whole number of pages. Invariants: node `i` of level
//! `L` stands at a computable offset, so the file can be mapped into memory and compared while the source
//! is read; zeros are [`Digest::ZERO`], so the file may be sparse; the header says which pool,
//! volume and point it stands for, and a file whose root does not follow from its digests is stale.

use crate::digest::Digest;
use crate::error::{FormatError, Result};
use crate::geometry::Geometry;
use crate::layout::{Layout, check_magic, check_range, check_version, encode_sealed, unseal};
use crate::map::{FANOUT, PAGE_SIZE, span, top_level};
use std::ops::Range;
use uuid::Uuid;

/// "Understudy MAP".
pub const MAP_FILE_MAGIC: [u8; 4] = *b"UMAP";
/// The map file layout that this program writes and reads.
pub const MAP_FILE_VERSION: u16 = 1;
/// Where level 0 starts, bytes.
pub const DIGESTS_OFFSET: u64 = 4096;

crate::layout! {
    /// The header of a digest map file; zeros up to 4096 bytes follow.
    pub struct MapFileHeader, 128 {
        /// [`MAP_FILE_MAGIC`].
        0 magic: [u8; 4],
        /// [`MAP_FILE_VERSION`].
        4 version: u16,
        /// 0.
        6 reserved: u16,
        /// The pool; nil when the map was made without an appliance.
        8 pool: Uuid,
        /// The volume; nil when the map was made without an appliance.
        24 volume: Uuid,
        /// The number of the point; 0 when the map was made without an appliance.
        40 point: u64,
        /// Bytes.
        48 volume_size: u64,
        /// Bytes.
        56 block_size: u32,
        /// 0.
        60 reserved_middle: u32,
        /// Of the point.
        64 root: Digest,
        /// 0.
        96 reserved_tail: [u8; 28],
        /// CRC-32 of the bytes before.
        124 crc: u32,
    }
}

/// What a digest map file stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapFileId {
    /// The pool; nil without an appliance.
    pub pool: Uuid,
    /// The volume; nil without an appliance.
    pub volume: Uuid,
    /// The number of the point; 0 without an appliance.
    pub point: u64,
    /// Size and block size.
    pub geometry: Geometry,
    /// Of the point.
    pub root: Digest,
}

impl MapFileId {
    /// The bytes of the header.
    pub fn encode(&self) -> Vec<u8> {
        encode_sealed(&MapFileHeader {
            magic: MAP_FILE_MAGIC,
            version: MAP_FILE_VERSION,
            reserved: 0,
            pool: self.pool,
            volume: self.volume,
            point: self.point,
            volume_size: self.geometry.volume_size(),
            block_size: self.geometry.block_size().bytes(),
            reserved_middle: 0,
            root: self.root,
            reserved_tail: [0; 28],
            crc: 0,
        })
    }

    /// Reads the header of a file of `file_length` bytes.
    pub fn decode(bytes: &[u8], file_length: u64) -> Result<Self> {
        let header = MapFileHeader::get(bytes)?;
        check_magic("digest map", header.magic, MAP_FILE_MAGIC)?;
        check_version("digest map", header.version, MAP_FILE_VERSION)?;
        unseal("digest map header", &bytes[..MapFileHeader::SIZE])?;
        let geometry = Geometry::from_wire(header.volume_size, header.block_size)?;
        let length = Shape::new(&geometry).file_length();
        check_range("digest map", "file length", file_length, length, length)?;
        if header.root.is_zero() {
            return Err(FormatError::invalid("digest map", "has no root"));
        }
        Ok(Self { pool: header.pool, volume: header.volume, point: header.point, geometry, root: header.root })
    }
}

/// Where the nodes of a map stand in a digest map file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    blocks: u64,
}

impl Shape {
    /// The shape for a volume.
    pub fn new(geometry: &Geometry) -> Self {
        Self { blocks: geometry.block_count() }
    }

    /// The level of the top.
    pub fn top_level(&self) -> u8 {
        top_level(self.blocks)
    }

    /// Number of nodes of `level` that stand for anything.
    pub fn nodes(&self, level: u8) -> u64 {
        self.blocks.div_ceil(span(level))
    }

    /// Pages that hold the nodes of `level`.
    pub fn pages(&self, level: u8) -> u64 {
        self.nodes(level).div_ceil(FANOUT)
    }

    /// The bytes of node `index` of `level`.
    pub fn node(&self, level: u8, index: u64) -> Range<usize> {
        let start = (self.level_offset(level) + index * 32) as usize;
        start..start + 32
    }

    /// The bytes of page `index` of `level`: the nodes `256 * index ..` of that level.
    pub fn page(&self, level: u8, index: u64) -> Range<usize> {
        let start = self.node(level, index * FANOUT).start;
        start..start + PAGE_SIZE
    }

    /// Bytes of the whole file.
    pub fn file_length(&self) -> u64 {
        self.level_offset(self.top_level() + 1)
    }

    fn level_offset(&self, level: u8) -> u64 {
        DIGESTS_OFFSET + (0..level).map(|below| self.pages(below) * PAGE_SIZE as u64).sum::<u64>()
    }
}
