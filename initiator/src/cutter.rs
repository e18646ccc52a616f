//! Cuts a source into what is scanned: pieces to read and runs that are zero without being read.
//!
//! Invariants: cuts come in ascending order and cover the blocks asked for once; a piece is at most
//! [`PIECE_MAX`] bytes of whole blocks (or one short last one); a run of holes has only blocks that lie wholly in holes, and is
//! answered from the base at the cost of the base's tree, not of its blocks. A hint that says which extents are
//! clean (a dirty bitmap) belongs here, in front of the source's own extents.

use crate::digest_map::MapFile;
use crate::source::{Extent, Source};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use understudy_format::wire::BlockRange;
use understudy_format::{BlockId, Digest, Geometry};

/// Largest piece, bytes; a multiple of every block size.
pub const PIECE_MAX: usize = 1 << 20;

/// The next blocks of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// To be read.
    Piece {
        /// The first block.
        first: BlockId,
        /// Number of blocks.
        count: u64,
    },
    /// In a hole.
    Hole {
        /// The first block.
        first: BlockId,
        /// Number of blocks.
        count: u64,
        /// Whether they are zero in the base as well.
        unchanged: bool,
    },
}

/// The map of the base, as far as blocks can be compared with it.
#[derive(Debug, Clone)]
pub struct Base {
    /// The map.
    pub map: Arc<MapFile>,
    /// Blocks from the first on that base and volume have with the same length.
    pub comparable: u64,
    /// Blocks that the appliance lost: none of them counts as unchanged. Ascending, apart.
    pub again: Arc<[BlockRange]>,
}

impl Base {
    /// The base `map` of a volume with this geometry, which has the same block size.
    pub fn new(map: Arc<MapFile>, geometry: &Geometry) -> Self {
        let (own, new) = (map.id().geometry.volume_size(), geometry.volume_size());
        let comparable = match own == new {
            true => geometry.block_count(),
            false => own.min(new) / u64::from(geometry.block_size().bytes()),
        };
        Self { map, comparable, again: Arc::new([]) }
    }

    /// Whether the base has this block with this digest and the same length.
    pub fn has(&self, block: BlockId, digest: &Digest) -> bool {
        block.0 < self.comparable && self.map.blocks(block.0, 1) == [digest.0] && !self.again_from(block.0).0
    }

    /// Whether a block must be sent again, and where that changes at the latest.
    fn again_from(&self, block: u64) -> (bool, u64) {
        let next = self.again.partition_point(|range| range.first + range.count <= block);
        match self.again.get(next) {
            Some(range) if range.first <= block => (true, range.first + range.count),
            Some(range) => (false, range.first),
            None => (false, u64::MAX),
        }
    }

    /// Whether a block that is zero is unchanged, and how many blocks from it on, at most `max`, are the same in that.
    fn zeros(&self, first: u64, max: u64) -> (bool, u64) {
        let (again, end) = self.again_from(first);
        let max = max.min(end - first);
        if again { (false, max) } else { self.map.run(first, max) }
    }
}

/// Cuts a source; see the module documentation.
#[derive(Debug)]
pub struct Cutter {
    source: Arc<dyn Source>,
    geometry: Geometry,
    base: Option<Base>,
    next: u64,
    end: u64,
    /// What was found last: a source is asked once for each extent, however long it is.
    extent: Option<Extent>,
}

impl Cutter {
    /// Cuts these blocks of `source`.
    pub fn new(source: Arc<dyn Source>, geometry: Geometry, base: Option<Base>, blocks: Range<u64>) -> Self {
        Self { source, geometry, base, next: blocks.start, end: blocks.end, extent: None }
    }

    /// The next cut; `None` when all is covered.
    pub fn next_cut(&mut self) -> io::Result<Option<Cut>> {
        if self.next >= self.end {
            return Ok(None);
        }
        let first = BlockId(self.next);
        let cut = match self.hole_blocks(self.next)? {
            0 => Cut::Piece { first, count: self.piece_blocks()? },
            count => self.hole(first, count.min(self.end - self.next)),
        };
        let (Cut::Piece { count, .. } | Cut::Hole { count, .. }) = cut;
        self.next += count;
        Ok(Some(cut))
    }

    fn hole(&self, first: BlockId, count: u64) -> Cut {
        match &self.base {
            Some(base) if first.0 < base.comparable => {
                let (unchanged, count) = base.zeros(first.0, count.min(base.comparable - first.0));
                Cut::Hole { first, count, unchanged }
            }
            _ => Cut::Hole { first, count, unchanged: false },
        }
    }

    /// Number of blocks from `block` on that lie wholly in one hole.
    fn hole_blocks(&mut self, block: u64) -> io::Result<u64> {
        let extent = self.extent_at(block)?;
        let whole = match extent.end == self.geometry.volume_size() {
            true => self.geometry.block_count(),
            false => extent.end / u64::from(self.geometry.block_size().bytes()),
        };
        Ok(if extent.hole { whole.saturating_sub(block) } else { 0 })
    }

    /// Number of blocks of the piece that starts at the next block.
    fn piece_blocks(&mut self) -> io::Result<u64> {
        let size = u64::from(self.geometry.block_size().bytes());
        let last = (self.next + PIECE_MAX as u64 / size).min(self.end);
        let mut end = self.next;
        while end < last && self.hole_blocks(end)? == 0 {
            let extent = self.extent_at(end)?;
            end = if extent.hole { end + 1 } else { extent.end.div_ceil(size).max(end + 1) };
        }
        Ok(end.min(last) - self.next)
    }

    fn extent_at(&mut self, block: u64) -> io::Result<Extent> {
        let offset = self.geometry.offset(BlockId(block));
        match self.extent {
            Some(extent) if offset < extent.end => Ok(extent),
            _ => {
                let extent = self.source.extent_at(offset)?;
                self.extent = Some(extent);
                Ok(extent)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_format::BlockSize;

    /// A source made of extents: (end, hole).
    #[derive(Debug)]
    struct Extents(Vec<(u64, bool)>);

    impl Source for Extents {
        fn name(&self) -> &str {
            "extents"
        }
        fn size(&self) -> u64 {
            self.0.last().unwrap().0
        }
        fn extent_at(&self, offset: u64) -> io::Result<Extent> {
            let (end, hole) = *self.0.iter().find(|(end, _)| *end > offset).unwrap();
            Ok(Extent { end, hole })
        }
        fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
            unreachable!("cutting reads nothing")
        }
        fn doubt(&self) -> anyhow::Result<Option<String>> {
            Ok(None)
        }
        fn may_have_moved(&self) -> anyhow::Result<bool> {
            Ok(false)
        }
    }

    /// The cuts of blocks of 4096 bytes: (first, count, hole).
    fn cuts(extents: &[(u64, bool)]) -> Vec<(u64, u64, bool)> {
        cuts_of(extents, 0..u64::MAX)
    }

    fn cuts_of(extents: &[(u64, bool)], blocks: Range<u64>) -> Vec<(u64, u64, bool)> {
        let source = Extents(extents.to_vec());
        let geometry = Geometry::new(source.size(), BlockSize::new(4096).unwrap()).unwrap();
        let blocks = blocks.start..blocks.end.min(geometry.block_count());
        let mut cutter = Cutter::new(Arc::new(source), geometry, None, blocks);
        let mut cuts = Vec::new();
        while let Some(cut) = cutter.next_cut().unwrap() {
            cuts.push(match cut {
                Cut::Piece { first, count } => (first.0, count, false),
                Cut::Hole { first, count, .. } => (first.0, count, true),
            });
        }
        cuts
    }

    #[test]
    fn only_blocks_wholly_in_a_hole_are_not_read() {
        assert_eq!(cuts(&[(8192, true), (12288, false)]), [(0, 2, true), (2, 1, false)]);
        assert_eq!(cuts(&[(8704, true), (12288, false)]), [(0, 2, true), (2, 1, false)]);
        assert_eq!(cuts(&[(512, false), (12288, true)]), [(0, 1, false), (1, 2, true)]);
        assert_eq!(cuts(&[(4096, false), (8000, true), (8704, false), (16384, true)]), [(0, 3, false), (3, 1, true)]);
        assert_eq!(cuts(&[(512, true), (1024, false), (4608, true)]), [(0, 1, false), (1, 1, true)], "a short tail");
    }

    #[test]
    fn only_the_blocks_asked_for_are_cut() {
        let extents = [(8192, true), (40960, false), (81920, true)];
        assert_eq!(cuts_of(&extents, 0..1), [(0, 1, true)]);
        assert_eq!(cuts_of(&extents, 1..5), [(1, 1, true), (2, 3, false)]);
        assert_eq!(cuts_of(&extents, 5..12), [(5, 5, false), (10, 2, true)]);
        assert_eq!(cuts_of(&extents, 12..20), [(12, 8, true)]);
        assert_eq!(cuts_of(&extents, 20..20), []);
    }

    #[test]
    fn pieces_are_limited_and_follow_each_other() {
        let size = PIECE_MAX as u64;
        assert_eq!(cuts(&[(size + 512, false)]), [(0, 256, false), (256, 1, false)]);
        assert_eq!(cuts(&[(4096, true), (2 * size, false)]), [(0, 1, true), (1, 256, false), (257, 255, false)]);
    }
}
