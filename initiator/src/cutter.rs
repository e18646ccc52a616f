//! Cuts a source into what is scanned: pieces to read and runs that are zero without being read.
//!
//! Invariants: cuts come in ascending order and cover the blocks asked for once; a piece is at most
//! [`PIECE_MAX`] bytes of whole blocks (or one short last one); a run of holes has only blocks that lie wholly in holes, and is
//! answered from the base at the cost of the base's tree, not of its blocks. A run that a dirty bitmap calls clean is unchanged
//! where the base may be believed about it; a sample of such blocks is read and compared before the last cut is given
//! away, so that nobody is done before.

use crate::base::Base;
use crate::source::{Extent, Source};
use anyhow::Result;
use std::ops::Range;
use std::sync::Arc;
use understudy_format::{BlockId, Geometry};

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
    /// As in the base, says a dirty bitmap.
    Clean {
        /// The first block.
        first: BlockId,
        /// Number of blocks.
        count: u64,
    },
    /// To be read again, so to speak: a block that was clean, and must be as in the base.
    Check {
        /// The block.
        block: BlockId,
    },
}

/// What the next blocks are, as far as that is known without reading them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be read.
    Data,
    /// Zero.
    Hole {
        /// Whether a bitmap that is believed calls them unchanged, too.
        clean: bool,
    },
    /// Unchanged, says a bitmap that is believed.
    Clean,
}

/// Cuts a source; see the module documentation.
#[derive(Debug)]
pub struct Cutter {
    source: Arc<dyn Source>,
    geometry: Geometry,
    base: Option<Base>,
    next: u64,
    end: u64,
    /// What was found last and where it starts: a source is asked once for each extent, however long it is.
    extent: Option<(u64, Extent)>,
    /// The state that was found last, and of which blocks.
    run: Option<(Range<u64>, State)>,
    /// Clean blocks that are still to be read and compared, before the last cut.
    checks: Vec<u64>,
    last: Option<Cut>,
}

impl Cutter {
    /// Cuts these blocks of `source`.
    pub fn new(source: Arc<dyn Source>, geometry: Geometry, base: Option<Base>, blocks: Range<u64>) -> Self {
        let (next, end) = (blocks.start, blocks.end);
        Self { source, geometry, base, next, end, extent: None, run: None, checks: Vec::new(), last: None }
    }

    /// The next cut; `None` when all is covered.
    pub fn next_cut(&mut self) -> Result<Option<Cut>> {
        if self.next < self.end {
            let cut = self.cut()?;
            if self.next < self.end {
                return Ok(Some(cut));
            }
            self.last = Some(cut);
            self.checks = self.base.as_ref().map(Base::sampled).unwrap_or_default();
        }
        let check = self.checks.pop().map(|block| Cut::Check { block: BlockId(block) });
        Ok(check.or_else(|| self.last.take()))
    }

    fn cut(&mut self) -> Result<Cut> {
        let first = BlockId(self.next);
        let (state, count) = self.state(self.next)?;
        let count = count.min(self.end - self.next);
        let cut = match state {
            State::Data => Cut::Piece { first, count: self.piece_blocks()? },
            State::Clean => self.clean(first, count),
            State::Hole { clean } => self.hole(first, count, clean)?,
        };
        self.next += match cut {
            Cut::Piece { count, .. } | Cut::Hole { count, .. } | Cut::Clean { count, .. } => count,
            Cut::Check { .. } => 0,
        };
        Ok(cut)
    }

    fn clean(&self, first: BlockId, count: u64) -> Cut {
        let sample = self.base.as_ref().and_then(|base| base.believed.as_ref());
        sample.inspect(|sample| sample.lock().expect("no panic while locked").offer(first.0, count));
        Cut::Clean { first, count }
    }

    fn hole(&self, first: BlockId, count: u64, clean: bool) -> Result<Cut> {
        match &self.base {
            Some(base) if first.0 < base.comparable => {
                let (unchanged, count) = base.zeros(first.0, count.min(base.comparable - first.0));
                match clean && !unchanged {
                    true => Err(base.lie(first, &self.geometry).into()),
                    false => Ok(Cut::Hole { first, count, unchanged }),
                }
            }
            _ => Ok(Cut::Hole { first, count, unchanged: false }),
        }
    }

    /// Number of blocks of the piece that starts at the next block.
    fn piece_blocks(&mut self) -> Result<u64> {
        let size = u64::from(self.geometry.block_size().bytes());
        let last = (self.next + PIECE_MAX as u64 / size).min(self.end);
        let mut end = self.next;
        while end < last {
            match self.state(end)? {
                (State::Data, count) => end += count,
                _ => break,
            }
        }
        Ok(end.min(last) - self.next)
    }

    /// What `block` is, and how many blocks from it on are the same in that, at least.
    fn state(&mut self, block: u64) -> Result<(State, u64)> {
        if let Some((blocks, state)) = self.run.as_ref().filter(|(blocks, _)| blocks.contains(&block)) {
            return Ok((*state, blocks.end - block));
        }
        let (extent, count) = self.extent_of(block)?;
        let (believed, count) = self.base.as_ref().map_or((false, count), |base| base.believes(block, count));
        let state = match (extent.hole, extent.clean && believed) {
            (true, clean) => State::Hole { clean },
            (false, true) => State::Clean,
            (false, false) => State::Data,
        };
        self.run = Some((block..block + count, state));
        Ok((state, count))
    }

    /// What holds for all of `block`, and for how many blocks from it on.
    fn extent_of(&mut self, block: u64) -> Result<(Extent, u64)> {
        let mut extent = self.extent_at(self.geometry.offset(BlockId(block)))?;
        let whole = match extent.end == self.geometry.volume_size() {
            true => self.geometry.block_count(),
            false => extent.end / u64::from(self.geometry.block_size().bytes()),
        };
        if whole > block {
            return Ok((extent, whole - block));
        }
        let end = self.geometry.byte_range(BlockId(block), 1).end;
        while extent.end < end {
            let next = self.extent_at(extent.end)?;
            extent = Extent { end: next.end, hole: extent.hole && next.hole, clean: extent.clean && next.clean };
        }
        Ok((extent, 1))
    }

    fn extent_at(&mut self, offset: u64) -> Result<Extent> {
        match self.extent {
            Some((start, extent)) if start <= offset && offset < extent.end => Ok(extent),
            _ => {
                let extent = self.source.extent_at(offset)?;
                self.extent = Some((offset, extent));
                Ok(extent)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest_map::MapFile;
    use crate::map_writer::MapWriter;
    use crate::sample::Sample;
    use crate::source::Mistrust;
    use std::sync::Mutex;
    use understudy_format::mapfile::MapFileId;
    use understudy_format::wire::BlockRange;
    use understudy_format::{BlockSize, Digest};
    use uuid::Uuid;

    /// A source made of extents: (end, hole, clean).
    #[derive(Debug)]
    struct Extents(Vec<(u64, bool, bool)>);

    impl Source for Extents {
        fn name(&self) -> &str {
            "extents"
        }
        fn size(&self) -> u64 {
            self.0.last().unwrap().0
        }
        fn extent_at(&self, offset: u64) -> Result<Extent> {
            let (end, hole, clean) = *self.0.iter().find(|(end, ..)| *end > offset).unwrap();
            Ok(Extent { end, hole, clean })
        }
        fn read_at(&self, _: u64, _: &mut [u8]) -> std::io::Result<()> {
            unreachable!("cutting reads nothing")
        }
        fn doubt(&self) -> Result<Option<String>> {
            Ok(None)
        }
        fn may_have_moved(&self) -> Result<bool> {
            Ok(false)
        }
    }

    /// The cuts of blocks of 4096 bytes: (first, count, hole).
    fn cuts(extents: &[(u64, bool)]) -> Vec<(u64, u64, bool)> {
        cuts_of(extents, 0..u64::MAX)
    }

    fn cuts_of(extents: &[(u64, bool)], blocks: Range<u64>) -> Vec<(u64, u64, bool)> {
        let source = Extents(extents.iter().map(|(end, hole)| (*end, *hole, false)).collect());
        let geometry = Geometry::new(source.size(), BlockSize::new(4096).unwrap()).unwrap();
        let blocks = blocks.start..blocks.end.min(geometry.block_count());
        let mut cutter = Cutter::new(Arc::new(source), geometry, None, blocks);
        let mut cuts = Vec::new();
        while let Some(cut) = cutter.next_cut().unwrap() {
            cuts.push(match cut {
                Cut::Piece { first, count } => (first.0, count, false),
                Cut::Hole { first, count, .. } => (first.0, count, true),
                other => panic!("nothing is clean: {other:?}"),
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

    /// A base of `blocks` blocks, of which those in `zero` are zero.
    fn base(blocks: u64, zero: Range<u64>, geometry: &Geometry) -> Base {
        let (own, file) = (Geometry::new(blocks * 4096, geometry.block_size()).unwrap(), tempfile::tempfile().unwrap());
        let mut writer = MapWriter::new(own, Some(file.try_clone().unwrap())).unwrap();
        for block in 0..blocks {
            let digest = if zero.contains(&block) { Digest::ZERO } else { Digest([1; 32]) };
            writer.blocks(&[digest]).unwrap();
        }
        let root = writer.finish().unwrap().root();
        let id = MapFileId { pool: Uuid::nil(), volume: Uuid::nil(), point: 3, geometry: own, root };
        let base = Base::new(Arc::new(MapFile::of_file(file, id).unwrap()), geometry);
        Base { believed: Some(Arc::new(Mutex::new(Sample::new(geometry.block_size(), 1)))), ..base }
    }

    /// What is cut of extents in blocks, (end, hole, clean), over a base of `blocks` blocks; sampled blocks are sorted.
    fn told(
        extents: &[(u64, bool, bool)],
        blocks: u64,
        zero: Range<u64>,
        change: impl Fn(&mut Base),
    ) -> Result<Vec<Cut>> {
        let source = Extents(extents.iter().map(|(end, hole, clean)| (end * 4096, *hole, *clean)).collect());
        let geometry = Geometry::new(source.size(), BlockSize::new(4096).unwrap()).unwrap();
        let mut base = base(blocks, zero, &geometry);
        change(&mut base);
        let mut cutter = Cutter::new(Arc::new(source), geometry, Some(base), 0..geometry.block_count());
        std::iter::from_fn(|| cutter.next_cut().transpose()).collect()
    }

    fn clean(first: u64, count: u64) -> Cut {
        Cut::Clean { first: BlockId(first), count }
    }

    fn piece(first: u64, count: u64) -> Cut {
        Cut::Piece { first: BlockId(first), count }
    }

    fn check(block: u64) -> Cut {
        Cut::Check { block: BlockId(block) }
    }

    #[test]
    fn what_is_clean_is_not_read_and_its_sample_is_before_the_last_cut() {
        let cuts = told(&[(2, false, true), (5, false, false), (6, false, true)], 6, 0..0, |_| ()).unwrap();
        assert_eq!(cuts, [clean(0, 2), piece(2, 3), check(5), check(1), check(0), clean(5, 1)]);
    }

    #[test]
    fn a_bitmap_that_is_not_believed_makes_nothing_clean() {
        let cuts = told(&[(6, false, true)], 6, 0..0, |base| base.believed = None).unwrap();
        assert_eq!(cuts, [piece(0, 6)]);
    }

    #[test]
    fn only_blocks_that_the_base_has_are_clean() {
        // The volume grew: block 4 and all behind it are new.
        let cuts = told(&[(8, false, true)], 4, 0..0, |_| ()).unwrap();
        assert_eq!(cuts[..2], [clean(0, 4), check(3)]);
        assert_eq!(cuts.last(), Some(&piece(4, 4)));
        // The appliance lost two.
        let lost: Arc<[BlockRange]> = Arc::new([BlockRange { first: 1, count: 2 }]);
        let cuts = told(&[(5, false, true)], 5, 0..0, |base| base.again = lost.clone()).unwrap();
        assert_eq!(cuts, [clean(0, 1), piece(1, 2), check(4), check(3), check(0), clean(3, 2)]);
    }

    #[test]
    fn a_clean_hole_that_the_base_does_not_have_is_a_lie() {
        let extents = [(2, true, true), (4, true, false)];
        let hole = |first, unchanged| Cut::Hole { first: BlockId(first), count: 2, unchanged };
        assert_eq!(told(&extents, 4, 0..4, |_| ()).unwrap(), [hole(0, true), hole(2, true)]);
        assert_eq!(told(&extents, 4, 0..2, |_| ()).unwrap(), [hole(0, true), hole(2, false)]);
        let error = told(&extents, 4, 2..4, |_| ()).unwrap_err();
        let text = "it calls block 0 at offset 0 clean, which differs from point 3".to_owned();
        assert_eq!(error.downcast::<Mistrust>().unwrap(), Mistrust::Lie(text));
    }

    #[test]
    fn pieces_are_limited_and_follow_each_other() {
        let size = PIECE_MAX as u64;
        assert_eq!(cuts(&[(size + 512, false)]), [(0, 256, false), (256, 1, false)]);
        assert_eq!(cuts(&[(4096, true), (2 * size, false)]), [(0, 1, true), (1, 256, false), (257, 255, false)]);
    }
}
