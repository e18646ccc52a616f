//! Chunks: a group of consecutive blocks travelling together, with the mapping that says what each is.
//!
//! A chunk is a 128-byte header, the mapping (64 bytes an entry), then the payload. Without its
//! payload it is an *offer*. Invariants, checked by [`ChunkHead::decode`] before anyone sees a
//! value: the entries cover `first_block..first_block + block_count` in ascending order without gap
//! or overlap; only zero and unchanged entries are runs; the payload regions of data
//! entries follow each other from 0 to `payload_length`. Nothing here decompresses.

use crate::codec::Codec;
use crate::digest::{Digest, is_zero};
use crate::error::{FormatError, Result};
use crate::geometry::{BlockId, Geometry};
use crate::layout::{Layout, check_crc, check_magic, check_range, check_version, need};
use bytes::Bytes;
use uuid::Uuid;

/// "Understudy CHunK".
pub const CHUNK_MAGIC: [u8; 4] = *b"UCHK";
/// The chunk layout that this program writes and reads.
pub const CHUNK_VERSION: u16 = 1;
/// Most entries of a mapping.
pub const ENTRIES_MAX: u32 = 1 << 16;
/// Most payload of a chunk, bytes.
pub const PAYLOAD_MAX: u32 = 16 << 20;

crate::layout! {
    /// The header of a chunk.
    pub struct ChunkHeader, 128 {
        /// [`CHUNK_MAGIC`].
        0 magic: [u8; 4],
        /// [`CHUNK_VERSION`].
        4 version: u16,
        /// 128: where the mapping starts, bytes from the start of the header.
        6 header_length: u16,
        /// The volume; nil in an offline stream that belongs to no appliance's volume yet.
        8 volume: Uuid,
        /// The stream; the same in its begin and commit records.
        24 stream: Uuid,
        /// Position in the stream, from 0.
        40 sequence: u64,
        /// The first block covered.
        48 first_block: BlockId,
        /// Number of blocks covered.
        56 block_count: u64,
        /// Bytes.
        64 volume_size: u64,
        /// Bytes.
        72 block_size: u32,
        /// Entries of the mapping.
        76 entry_count: u32,
        /// Bytes of the payload.
        80 payload_length: u32,
        /// CRC-32 of the payload.
        84 payload_crc: u32,
        /// 0.
        88 reserved: [u8; 36],
        /// CRC-32 of the 124 bytes before and of the mapping.
        124 header_crc: u32,
    }
}

crate::layout! {
    /// One entry of a mapping.
    pub struct MappingEntry, 64 {
        /// The (first) block.
        0 block: BlockId,
        /// Number of blocks; 1 for data and reference.
        8 count: u64,
        /// 1 data, 2 zero, 3 unchanged, 4 reference.
        16 kind: u8,
        /// See [`Codec`]; 0 unless data.
        17 codec: u8,
        /// 0.
        18 reserved: u16,
        /// Where the encoded block starts, bytes from the start of the payload; 0 unless data.
        20 payload_offset: u32,
        /// Bytes of the encoded block; 0 unless data (and in an offer, where nothing is encoded yet).
        24 payload_length: u32,
        /// Bytes of the block itself; 0 for runs.
        28 block_length: u32,
        /// Of the block; zeros for runs.
        32 digest: Digest,
    }
}

/// What a mapping entry says about its block or run of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// One block whose encoded bytes are in the payload.
    Data {
        /// Of the content.
        digest: Digest,
        /// Of the encoded bytes.
        codec: Codec,
        /// Start in the payload, bytes.
        payload_offset: u32,
        /// Encoded length, bytes.
        payload_length: u32,
        /// Content length, bytes.
        block_length: u32,
    },
    /// A run of blocks that are all zero.
    Zero {
        /// Number of blocks.
        count: u64,
    },
    /// A run of blocks that are as in the base.
    Unchanged {
        /// Number of blocks.
        count: u64,
    },
    /// One block that the receiver has, or that came earlier in the stream.
    Reference {
        /// Of the content.
        digest: Digest,
        /// Content length, bytes.
        block_length: u32,
    },
}

impl Entry {
    /// Number of blocks.
    pub fn count(&self) -> u64 {
        match *self {
            Self::Data { .. } | Self::Reference { .. } => 1,
            Self::Zero { count } | Self::Unchanged { count } => count,
        }
    }

    fn to_wire(self, block: BlockId) -> MappingEntry {
        let blank = MappingEntry {
            block,
            count: self.count(),
            kind: 0,
            codec: 0,
            reserved: 0,
            payload_offset: 0,
            payload_length: 0,
            block_length: 0,
            digest: Digest::ZERO,
        };
        match self {
            Self::Data { digest, codec, payload_offset, payload_length, block_length } => {
                let codec = codec as u8;
                MappingEntry { kind: 1, codec, payload_offset, payload_length, block_length, digest, ..blank }
            }
            Self::Zero { .. } => MappingEntry { kind: 2, ..blank },
            Self::Unchanged { .. } => MappingEntry { kind: 3, ..blank },
            Self::Reference { digest, block_length } => MappingEntry { kind: 4, block_length, digest, ..blank },
        }
    }

    fn from_wire(wire: &MappingEntry, geometry: &Geometry) -> Result<Self> {
        let MappingEntry { count, payload_offset, payload_length, block_length, digest, .. } = *wire;
        check_range("mapping", "count", count, 1, if matches!(wire.kind, 1 | 4) { 1 } else { u64::MAX })?;
        if matches!(wire.kind, 1 | 4) {
            let length = u64::from(geometry.block_len(wire.block));
            check_range("mapping", "block length", block_length.into(), length, length)?;
        }
        let entry = match wire.kind {
            1 => {
                let codec = Codec::from_wire(wire.codec)?;
                Self::Data { digest, codec, payload_offset, payload_length, block_length }
            }
            2 => Self::Zero { count },
            3 => Self::Unchanged { count },
            4 => Self::Reference { digest, block_length },
            kind => return Err(FormatError::invalid("mapping", format!("block {}: unknown kind {kind}", wire.block))),
        };
        // One value has one encoding: what an entry does not use is zero.
        match entry.to_wire(wire.block) == *wire && digest.is_zero() != matches!(wire.kind, 1 | 4) {
            true => Ok(entry),
            false => Err(FormatError::invalid("mapping", format!("block {}: contradictory entry", wire.block))),
        }
    }
}

/// A chunk without its payload: the validated header and mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkHead {
    /// The volume (see [`ChunkHeader::volume`]).
    pub volume: Uuid,
    /// The stream.
    pub stream: Uuid,
    /// Position in the stream, from 0.
    pub sequence: u64,
    /// Of the volume.
    pub geometry: Geometry,
    /// The first block covered.
    pub first_block: BlockId,
    /// What the blocks are, in order.
    pub entries: Vec<Entry>,
    /// Bytes of the payload.
    pub payload_length: u32,
    /// CRC-32 of the payload.
    pub payload_crc: u32,
}

impl ChunkHead {
    /// Number of blocks covered.
    pub fn block_count(&self) -> u64 {
        self.entries.iter().map(Entry::count).sum()
    }

    /// The entries with the ID of their (first) block.
    pub fn blocks(&self) -> impl Iterator<Item = (BlockId, &Entry)> {
        self.entries.iter().scan(self.first_block.0, |next, entry| {
            let block = BlockId(*next);
            *next += entry.count();
            Some((block, entry))
        })
    }

    /// The digests of the data entries, in order: what an offer offers.
    pub fn offered(&self) -> impl Iterator<Item = Digest> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Data { digest, .. } => Some(*digest),
            _ => None,
        })
    }

    /// Header and mapping as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ChunkHeader::SIZE + self.entries.len() * MappingEntry::SIZE);
        let mut header = ChunkHeader {
            magic: CHUNK_MAGIC,
            version: CHUNK_VERSION,
            header_length: ChunkHeader::SIZE as u16,
            volume: self.volume,
            stream: self.stream,
            sequence: self.sequence,
            first_block: self.first_block,
            block_count: self.block_count(),
            volume_size: self.geometry.volume_size(),
            block_size: self.geometry.block_size().bytes(),
            entry_count: self.entries.len() as u32,
            payload_length: self.payload_length,
            payload_crc: self.payload_crc,
            reserved: [0; 36],
            header_crc: 0,
        };
        header.put(&mut out);
        self.blocks().for_each(|(block, entry)| entry.to_wire(block).put(&mut out));
        header.header_crc = header_crc(&out);
        out[ChunkHeader::SIZE - 4..ChunkHeader::SIZE].copy_from_slice(&header.header_crc.to_le_bytes());
        out
    }

    /// Reads header and mapping from the start of `bytes`; returns the bytes that follow as well.
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8])> {
        let header = ChunkHeader::get(bytes)?;
        check_magic("chunk", header.magic, CHUNK_MAGIC)?;
        check_version("chunk", header.version, CHUNK_VERSION)?;
        let size = ChunkHeader::SIZE as u64;
        check_range("chunk", "header length", header.header_length.into(), size, size)?;
        check_range("chunk", "entry count", header.entry_count.into(), 1, ENTRIES_MAX.into())?;
        check_range("chunk", "payload length", header.payload_length.into(), 0, PAYLOAD_MAX.into())?;
        let length = ChunkHeader::SIZE + header.entry_count as usize * MappingEntry::SIZE;
        need("chunk mapping", bytes, length)?;
        let (own, rest) = bytes.split_at(length);
        check_crc("chunk header and mapping", header.header_crc, header_crc(own))?;
        check_range("chunk", "reserved", u64::from(!is_zero(&header.reserved)), 0, 0)?;
        let head = Self {
            volume: header.volume,
            stream: header.stream,
            sequence: header.sequence,
            geometry: Geometry::from_wire(header.volume_size, header.block_size)?,
            first_block: header.first_block,
            entries: Vec::with_capacity(header.entry_count as usize),
            payload_length: header.payload_length,
            payload_crc: header.payload_crc,
        };
        Ok((head.with_mapping(&header, &own[ChunkHeader::SIZE..])?, rest))
    }

    fn with_mapping(mut self, header: &ChunkHeader, mapping: &[u8]) -> Result<Self> {
        let wrong = |at: BlockId, reason: &str| Err(FormatError::invalid("mapping", format!("block {at}: {reason}")));
        let end = header.first_block.0.checked_add(header.block_count);
        let end = end.filter(|end| *end <= self.geometry.block_count());
        let end = end.ok_or_else(|| FormatError::invalid("chunk", "covers blocks past the end of the volume"))?;
        let (mut next, mut payload) = (header.first_block.0, 0u64);
        for bytes in mapping.chunks_exact(MappingEntry::SIZE) {
            let wire = MappingEntry::get(bytes)?;
            if wire.block.0 != next || next >= end {
                return wrong(wire.block, &format!("block {next} (before {end}) expected here"));
            }
            let entry = Entry::from_wire(&wire, &self.geometry)?;
            next = next.checked_add(entry.count()).filter(|next| *next <= end).ok_or_else(|| {
                FormatError::invalid("mapping", format!("block {}: a run past the end of its chunk", wire.block))
            })?;
            if let Entry::Data { payload_offset, payload_length, .. } = entry {
                if u64::from(payload_offset) != payload {
                    return wrong(wire.block, "its payload does not follow the one before");
                }
                payload += u64::from(payload_length);
            }
            self.entries.push(entry);
        }
        match next == end && payload == u64::from(self.payload_length) {
            true => Ok(self),
            false => wrong(BlockId(next), "the mapping does not cover its chunk and payload"),
        }
    }

    /// Checks a payload against length and checksum in the header, and joins the two.
    pub fn with_payload(self, payload: Bytes) -> Result<Chunk> {
        let length = u64::from(self.payload_length);
        check_range("chunk", "payload length", payload.len() as u64, length, length)?;
        check_crc("chunk payload", self.payload_crc, crc32fast::hash(&payload))?;
        Ok(Chunk { head: self, payload })
    }
}

/// CRC-32 of header (without its last field) and mapping.
fn header_crc(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..ChunkHeader::SIZE - 4]);
    hasher.update(&bytes[ChunkHeader::SIZE..]);
    hasher.finalize()
}

/// A whole chunk whose checksums match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Header and mapping.
    pub head: ChunkHead,
    /// The encoded blocks, one after another.
    pub payload: Bytes,
}

impl Chunk {
    /// Reads a whole chunk: a frame's body.
    pub fn decode(body: &Bytes) -> Result<Self> {
        let (head, rest) = ChunkHead::decode(body)?;
        let payload = body.slice_ref(rest);
        head.with_payload(payload)
    }

    /// The encoded bytes of a data entry of this chunk.
    pub fn encoded(&self, entry: &Entry) -> Option<(Codec, Bytes)> {
        match *entry {
            Entry::Data { codec, payload_offset, payload_length, .. } => {
                let start = payload_offset as usize;
                Some((codec, self.payload.slice(start..start + payload_length as usize)))
            }
            _ => None,
        }
    }
}
