//! The volume as a source of which only what is stale at the appliance is read.
//!
//! What is read may be of many moments, and need not be of one: whatever is written meanwhile is in the journal, which is replayed over it.

use super::snapshot::DirtySnapshot;
use crate::source::{Extent, FileSource, Source};
use anyhow::Result;
use std::io;
use std::ops::Range;
use understudy_format::wire::BlockRange;
use understudy_format::{BlockId, Geometry};

/// See the module documentation.
#[derive(Debug)]
pub struct Stale {
    volume: FileSource,
    geometry: Geometry,
    snapshot: DirtySnapshot,
    /// Blocks that the appliance lost: ascending, apart.
    lost: Vec<BlockRange>,
}

impl Stale {
    /// What is dirty in `snapshot`, and what the appliance lost.
    pub fn new(volume: FileSource, geometry: Geometry, snapshot: DirtySnapshot, lost: Vec<BlockRange>) -> Self {
        Self { volume, geometry, snapshot, lost }
    }

    /// Whether some of these blocks have to be compared.
    pub fn has_any(&self, blocks: Range<u64>) -> bool {
        if blocks.is_empty() {
            return false;
        }
        let bytes = self.geometry.byte_range(BlockId(blocks.start), blocks.end - blocks.start);
        let (is_stale, end) = self.run_at(bytes.start);
        is_stale || end < bytes.end
    }

    /// Whether the byte at `offset` has to be read, and up to where that is known.
    fn run_at(&self, offset: u64) -> (bool, u64) {
        let (is_dirty, end) = self.snapshot.run_at(offset);
        if is_dirty {
            return (true, end);
        }
        let lost = self.lost.iter().map(|range| self.geometry.byte_range(BlockId(range.first), range.count));
        match lost.into_iter().find(|range| range.end > offset) {
            Some(range) if range.start <= offset => (true, range.end),
            Some(range) => (false, end.min(range.start)),
            None => (false, end),
        }
    }
}

impl Source for Stale {
    fn name(&self) -> &str {
        self.volume.name()
    }

    fn size(&self) -> u64 {
        self.volume.size()
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let (is_stale, end) = self.run_at(offset);
        if !is_stale {
            return Ok(Extent { end, hole: false, clean: true });
        }
        let found = self.volume.extent_at(offset)?;
        Ok(Extent { end: found.end.min(end), ..found })
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.volume.read_at(offset, into)
    }

    /// The journal has what was written while it was read.
    fn doubt(&self) -> Result<Option<String>> {
        self.volume.doubt().map(|_| None)
    }

    fn may_have_moved(&self) -> Result<bool> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::super::bits::Bits;
    use super::*;
    use std::sync::Arc;
    use understudy_format::BlockSize;
    use understudy_format::journal::Position;
    use uuid::Uuid;

    const BLOCK: u64 = 4096;

    /// A volume of 100 blocks, of which the first two have data.
    fn stale(dirty: &[Range<u64>], lost: &[(u64, u64)]) -> Stale {
        let file = tempfile::tempfile().unwrap();
        file.set_len(100 * BLOCK).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 2 * BLOCK as usize], 0).unwrap();
        let volume = FileSource::from_file(file, "volume".into()).unwrap();
        let geometry = Geometry::new(100 * BLOCK, BlockSize::new(4096).unwrap()).unwrap();
        let mut bits = Bits::none(100);
        dirty.iter().for_each(|range| bits.insert(range.clone()));
        let snapshot = DirtySnapshot::new(Position { journal: Uuid::nil(), sequence: 0 }, geometry, Arc::new(bits));
        let lost = lost.iter().map(|(first, count)| BlockRange { first: *first, count: *count }).collect();
        Stale::new(volume, geometry, snapshot, lost)
    }

    /// (end in blocks, hole, clean)
    fn extents(stale: &Stale) -> Vec<(u64, bool, bool)> {
        let (mut all, mut at) = (Vec::new(), 0);
        while at < stale.size() {
            let extent = stale.extent_at(at).unwrap();
            assert!(extent.end > at);
            all.push((extent.end / BLOCK, extent.hole, extent.clean));
            at = extent.end;
        }
        all
    }

    #[test]
    fn what_is_dirty_or_lost_is_read_and_nothing_else() {
        let clean = |end| (end, false, true);
        assert_eq!(extents(&stale(&[], &[])), [clean(100)]);
        let both = stale(&[0..4, 50..60], &[(40, 5), (99, 1)]);
        let expected = [
            (2, false, false),
            (4, true, false),
            clean(40),
            (45, true, false),
            clean(50),
            (60, true, false),
            clean(99),
            (100, true, false),
        ];
        assert_eq!(extents(&both), expected);
    }

    #[test]
    fn runs_of_blocks_are_stale_where_one_of_them_is() {
        let stale = stale(&[10..11, 12..12], &[(40, 5)]);
        for (blocks, expected) in [
            (0..10, false),
            (0..11, true),
            (11..40, false),
            (11..41, true),
            (44..100, true),
            (45..100, false),
            (7..7, false),
        ] {
            assert_eq!(stale.has_any(blocks.clone()), expected, "{blocks:?}");
        }
    }
}
