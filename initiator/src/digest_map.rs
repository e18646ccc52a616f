//! The digest map of a point, mapped into memory: what blocks are compared with while they are read.
//!
//! Invariants: a map file is never changed in place (a new one is written beside it and renamed over
//! it), so what is mapped does not change; a map is trusted as a base only after [`MapFile::check`] found that its root
//! follows from its digests. Layout: `understudy_format::mapfile`.

use crate::source::{Extent, FileSource, Source};
use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use thiserror::Error;
use understudy_format::layout::{Field, Layout};
use understudy_format::map::{FANOUT, PAGE_SIZE, root, span};
use understudy_format::mapfile::{DIGESTS_OFFSET, MapFileHeader, MapFileId, Shape};
use understudy_format::{Digest, FormatError, digest::is_zero};

/// Most blocks that one [`MapFile::run`] looks at one by one.
const RUN_STEPS_MAX: u64 = 1 << 16;

/// Why a map file cannot be used.
#[derive(Debug, Error)]
pub enum MapFault {
    /// There is none.
    #[error("there is no digest map here")]
    Missing,
    /// It cannot be read.
    #[error("the digest map cannot be read: {0}")]
    Io(io::Error),
    /// It is not a digest map, or a damaged one.
    #[error("{0}")]
    Format(#[from] FormatError),
    /// It contradicts itself.
    #[error("the digest map is damaged: {0}")]
    Damaged(String),
}

impl From<io::Error> for MapFault {
    fn from(e: io::Error) -> Self {
        if e.kind() == io::ErrorKind::NotFound { Self::Missing } else { Self::Io(e) }
    }
}

/// A digest map in memory; see the module documentation.
#[derive(Debug)]
pub struct MapFile {
    file: File,
    bytes: Mmap,
    id: MapFileId,
    shape: Shape,
}

impl MapFile {
    /// Opens a map file; its header and length are checked, its digests are not.
    pub fn open(path: &Path) -> Result<Self, MapFault> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        if length < MapFileHeader::SIZE as u64 {
            return Err(FormatError::Truncated {
                what: "digest map",
                needed: MapFileHeader::SIZE as u64,
                found: length,
            }
            .into());
        }
        let bytes = map(&file)?;
        let id = MapFileId::decode(&bytes, length)?;
        Ok(Self { file, bytes, id, shape: Shape::new(&id.geometry) })
    }

    /// The map in a file that was just written and stands for `id`, whatever its header says.
    pub fn of_file(file: File, id: MapFileId) -> io::Result<Self> {
        let bytes = map(&file)?;
        Ok(Self { file, bytes, id, shape: Shape::new(&id.geometry) })
    }

    /// What it stands for.
    pub fn id(&self) -> &MapFileId {
        &self.id
    }

    /// The digest of node `index` of `level`; zero for nodes that the map does not have.
    pub fn node(&self, level: u8, index: u64) -> Digest {
        match level <= self.shape.top_level() && index < self.shape.nodes(level) {
            true => Digest::get(&self.bytes[self.shape.node(level, index)]),
            false => Digest::ZERO,
        }
    }

    /// The page of nodes `256 * index ..` of `level`, which must have it.
    pub fn page(&self, level: u8, index: u64) -> &[u8] {
        &self.bytes[self.shape.page(level, index)]
    }

    /// Where the nodes stand.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The digests of `count` blocks from `first` on, all of them blocks of the map.
    pub fn blocks(&self, first: u64, count: u64) -> &[[u8; 32]] {
        let start = self.shape.node(0, first).start;
        self.bytes[start..start + count as usize * 32].as_chunks().0
    }

    /// Whether block `first` is zero, and how many blocks from it on are the same in that; at most `max`.
    ///
    /// May tell less than there are, never more.
    pub fn run(&self, first: u64, max: u64) -> (bool, u64) {
        let zero = self.node(0, first).is_zero();
        let end = first + max;
        let mut at = first;
        while at < end && (zero || at - first < RUN_STEPS_MAX) {
            match self.zero_span(at) {
                0 if !zero => at += 1,
                count if zero && count > 0 => at += count,
                _ => break,
            }
        }
        (zero, at.min(end) - first)
    }

    /// Blocks of the largest subtree that starts at a block and is all zero; 0 when the block is not.
    ///
    /// Looks at the highest level first: what is below a node that is zero is not touched, so that a file that is
    /// mostly holes is not read through the page cache.
    fn zero_span(&self, block: u64) -> u64 {
        let levels = (1..=self.shape.top_level()).take_while(|level| block.is_multiple_of(span(*level)));
        let highest = levels.last().unwrap_or(0);
        let zero = (0..=highest).rev().find(|level| self.node(*level, block / span(*level)).is_zero());
        zero.map_or(0, span)
    }

    /// Copies all pages below a node into the file of a map of this shape; below one that is zero there are none.
    pub fn copy_below(&self, shape: &Shape, level: u8, index: u64, into: &File) -> io::Result<()> {
        if level == 0 || self.node(level, index).is_zero() {
            return Ok(());
        }
        into.write_all_at(self.page(level - 1, index), shape.page(level - 1, index).start as u64)?;
        let children = index * FANOUT..(index + 1) * FANOUT;
        match level {
            1 => Ok(()),
            // The lowest pages, nearly all of the file, follow each other.
            2 if children.clone().all(|child| !self.node(1, child).is_zero()) => {
                let bytes = self.shape.page(0, children.start).start..self.shape.page(0, children.end - 1).end;
                into.write_all_at(&self.bytes[bytes], shape.page(0, children.start).start as u64)
            }
            _ => children.into_iter().try_for_each(|child| self.copy_below(shape, level - 1, child, into)),
        }
    }

    /// Fails unless every node follows from the nodes below it, and the root from the top.
    pub fn check(&self) -> Result<(), MapFault> {
        let top = self.shape.top_level();
        let computed = root(&self.id.geometry, self.node(top, 0));
        if computed != self.id.root {
            return Err(FormatError::Digest { what: "root of the digest map", expected: self.id.root, computed }.into());
        }
        self.check_node(top, 0)?;
        self.check_nothing_under_zeros()
    }

    fn check_node(&self, level: u8, index: u64) -> Result<(), MapFault> {
        let expected = self.node(level, index);
        if level == 0 || expected.is_zero() {
            return Ok(());
        }
        let computed = Digest::of_page(self.page(level - 1, index));
        if computed != expected {
            return Err(FormatError::Digest { what: "digest map", expected, computed }.into());
        }
        let children = index * FANOUT..((index + 1) * FANOUT).min(self.shape.nodes(level - 1));
        children.into_iter().try_for_each(|child| self.check_node(level - 1, child))
    }

    /// Pages under a zero node must be zero, too; where the file has holes they are.
    fn check_nothing_under_zeros(&self) -> Result<(), MapFault> {
        let source = self.extents()?.file;
        let mut at = DIGESTS_OFFSET;
        while at < source.size() {
            let extent = source.extent_at(at).map_err(io::Error::other)?;
            if !extent.hole {
                self.check_zeros(at, extent.end)?;
            }
            at = extent.end;
        }
        Ok(())
    }

    /// Where the file has holes.
    pub fn extents(&self) -> io::Result<Extents> {
        let file = FileSource::from_file(self.file.try_clone()?, "digest map".into());
        Ok(Extents { file: file.map_err(io::Error::other)?, shape: self.shape, last: None })
    }

    fn check_zeros(&self, start: u64, end: u64) -> Result<(), MapFault> {
        for level in 0..self.shape.top_level() {
            let (base, page) = (self.shape.page(level, 0).start as u64, PAGE_SIZE as u64);
            let first = start.saturating_sub(base) / page;
            let last = end.saturating_sub(base).div_ceil(page).min(self.shape.pages(level));
            let stray = (first..last)
                .find(|index| self.node(level + 1, *index).is_zero() && !is_zero(self.page(level, *index)));
            if let Some(index) = stray {
                return Err(MapFault::Damaged(format!("page {index} of level {level} is not zero, its node is")));
            }
        }
        Ok(())
    }
}

/// Where the file of a digest map has holes: the digests that stand there are zero, and need not be read.
#[derive(Debug)]
pub struct Extents {
    file: FileSource,
    shape: Shape,
    /// The last extent that was found: the file is asked once for each.
    last: Option<Extent>,
}

impl Extents {
    /// Whether the digest of block `first` stands in a hole, and how many blocks from it on are the same in that; at most
    /// `max`. Blocks are asked for in ascending order.
    pub fn run(&mut self, first: u64, max: u64) -> io::Result<(bool, u64)> {
        let start = self.shape.node(0, first).start as u64;
        let extent = match self.last.filter(|extent| start < extent.end) {
            Some(extent) => extent,
            None => *self.last.insert(self.file.extent_at(start).map_err(io::Error::other)?),
        };
        // A digest that only begins in a hole is one that is read.
        let whole = (extent.end - start) / <Digest as Field>::SIZE as u64;
        Ok(if whole == 0 { (false, 1) } else { (extent.hole, whole.min(max)) })
    }
}

/// Maps a file into memory.
#[allow(unsafe_code)]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: map files belong to this program alone: they are replaced by renaming and never cut or
    // written after they are mapped, except for digests patched into an unlinked file by `restore`,
    // which reads them only after the last patch. The lock of the volume keeps other initiators away.
    unsafe { Mmap::map(file) }
}
