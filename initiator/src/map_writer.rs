//! Writes a digest map while the blocks of a volume go by in order, and computes its root.
//!
//! Invariants: memory is one page a level; each page is written once, and pages that are zero never
//! (the file stays sparse there), unless they held something before a rewind. Written by `pwrite`, not through the
//! mapping, so that a full disk is an error and not a signal. Without a file only the root is computed. What is unchanged is
//! copied from the base by whole subtrees, never digested again.

use crate::digest_map::MapFile;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use understudy_format::map::{FANOUT, Map, PAGE_SIZE, Page, span, top_level};
use understudy_format::mapfile::Shape;
use understudy_format::{Digest, Geometry};

/// Writes a map; see the module documentation.
#[derive(Debug)]
pub struct MapWriter {
    file: Option<File>,
    base: Option<Arc<MapFile>>,
    geometry: Geometry,
    shape: Shape,
    /// `open[level]` is the page being filled with nodes of `level`.
    open: Vec<Open>,
    next: u64,
    top: Digest,
}

#[derive(Debug, Clone)]
struct Open {
    index: u64,
    page: Page,
}

impl MapWriter {
    /// A writer into `file`, which must be empty.
    pub fn new(geometry: Geometry, file: Option<File>) -> io::Result<Self> {
        let shape = Shape::new(&geometry);
        if let Some(file) = &file {
            file.set_len(shape.file_length())?;
        }
        let levels = top_level(geometry.block_count());
        let open = (0..levels).map(|_| Open { index: 0, page: Page::zero() }).collect();
        Ok(Self { file, base: None, geometry, shape, open, next: 0, top: Digest::ZERO })
    }

    /// The same, over a map of the same block size from which unchanged blocks are taken.
    pub fn over(self, base: Option<Arc<MapFile>>) -> Self {
        Self { base, ..self }
    }

    /// The next blocks have these digests.
    pub fn blocks(&mut self, digests: &[Digest]) -> io::Result<()> {
        for digest in digests {
            if !digest.is_zero() {
                self.set(0, self.next, *digest)?;
            }
            self.next += 1;
        }
        Ok(())
    }

    /// The next `count` blocks are zero.
    pub fn zeros(&mut self, count: u64) {
        self.next += count;
    }

    /// The next `count` blocks are as in the base, which has them with the same length.
    ///
    /// Whole subtrees are taken over with their pages: nothing is digested, and what is zero is not touched.
    pub fn unchanged(&mut self, mut count: u64) -> io::Result<()> {
        let base = self.base.clone().expect("only over a base anything is unchanged");
        while count > 0 {
            let level = self.largest(&base, count);
            let taken = match level {
                0 => self.digests_of(&base, count)?,
                _ => self.subtree_of(&base, level)?,
            };
            count -= taken;
        }
        Ok(())
    }

    /// The level of the largest subtree that starts at the next block and that the base has within `count` blocks.
    fn largest(&self, base: &MapFile, count: u64) -> u8 {
        let highest = base.shape().top_level().min(self.open.len() as u8);
        let fits = |level: &u8| self.next.is_multiple_of(span(*level)) && span(*level) <= count;
        (1..=highest).rev().find(fits).unwrap_or(0)
    }

    /// Takes blocks over from the base, at most to the end of the page.
    fn digests_of(&mut self, base: &MapFile, count: u64) -> io::Result<u64> {
        let taken = count.min(FANOUT - self.next % FANOUT);
        let digests: Vec<Digest> = base.blocks(self.next, taken).iter().map(|bytes| Digest(*bytes)).collect();
        self.blocks(&digests)?;
        Ok(taken)
    }

    fn subtree_of(&mut self, base: &MapFile, level: u8) -> io::Result<u64> {
        let index = self.next / span(level);
        if let Some(file) = &self.file {
            base.copy_below(&self.shape, level, index, file)?;
        }
        // What is open below belongs before the subtree.
        (0..usize::from(level)).try_for_each(|below| self.close(below))?;
        let digest = base.node(level, index);
        if !digest.is_zero() {
            self.set(level.into(), index, digest)?;
        }
        self.next += span(level);
        Ok(span(level))
    }

    /// The next block.
    pub fn next_block(&self) -> u64 {
        self.next
    }

    /// All blocks went by: writes what is still open, and returns the map.
    pub fn finish(&mut self) -> io::Result<Map> {
        assert_eq!(self.next, self.geometry.block_count(), "every block must have gone by");
        self.close_all()?;
        self.write(self.shape.node(self.open.len() as u8, 0).start, &self.top.0)?;
        Ok(Map { geometry: self.geometry, top: self.top })
    }

    /// Root of the volume whose blocks from the next one on are all zero.
    pub fn prefix_root(&self) -> Digest {
        let Self { geometry, shape, next, top, .. } = *self;
        let mut copy = Self { file: None, base: None, geometry, shape, open: self.open.clone(), next, top };
        copy.close_all().expect("without a file nothing is written");
        Map { geometry, top: copy.top }.root()
    }

    /// Forgets the blocks from `to` on; returns how many of them are zero.
    ///
    /// Needs a file. Costs what is forgotten, not what is kept.
    pub fn rewind(&mut self, to: u64) -> io::Result<u64> {
        assert!(to <= self.next, "a map is rewound to where it has been");
        let end = self.next;
        if to == end {
            return Ok(0);
        }
        self.close_all()?;
        let forgotten = self.forget_pages(to, end)?;
        (self.next, self.top) = (to, Digest::ZERO);
        Ok(end - to - forgotten)
    }

    /// Clears the nodes over the blocks `from..end` in each level, and opens the pages in which the first of them are;
    /// returns how many of the blocks are not zero.
    fn forget_pages(&mut self, from: u64, end: u64) -> io::Result<u64> {
        let mut data = 0;
        for level in 0..self.open.len() as u8 {
            let (first, last) = (from / span(level), (end - 1) / span(level));
            for index in first / FANOUT..=last / FANOUT {
                let mut page = self.read(level, index)?;
                let kept = first.saturating_sub(index * FANOUT) as usize;
                let cleared = clear(&mut page, kept);
                data += if level == 0 { cleared } else { 0 };
                if cleared > 0 {
                    self.write(self.shape.page(level, index).start, page.bytes())?;
                }
                if index == first / FANOUT {
                    self.open[usize::from(level)] = Open { index, page };
                }
            }
        }
        Ok(data)
    }

    fn read(&self, level: u8, index: u64) -> io::Result<Page> {
        let mut bytes = [0; PAGE_SIZE];
        let file = self.file.as_ref().expect("only a map in a file is rewound");
        file.read_exact_at(&mut bytes, self.shape.page(level, index).start as u64)?;
        Ok(Page::from_bytes(&bytes))
    }

    fn close_all(&mut self) -> io::Result<()> {
        (0..self.open.len()).try_for_each(|level| self.close(level))
    }

    /// Sets a node that is not zero; nodes of a level come in ascending order.
    fn set(&mut self, level: usize, index: u64, digest: Digest) -> io::Result<()> {
        if level == self.open.len() {
            self.top = digest;
            return Ok(());
        }
        if self.open[level].index != index / FANOUT {
            self.close(level)?;
            self.open[level].index = index / FANOUT;
        }
        self.open[level].page.set((index % FANOUT) as usize, digest);
        Ok(())
    }

    fn close(&mut self, level: usize) -> io::Result<()> {
        let Open { index, ref mut page } = self.open[level];
        let page = std::mem::replace(page, Page::zero());
        let digest = page.digest();
        if digest.is_zero() {
            return Ok(());
        }
        self.write(self.shape.page(level as u8, index).start, page.bytes())?;
        self.set(level + 1, index, digest)
    }

    fn write(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| file.write_all_at(bytes, offset as u64))
    }
}

/// Makes the slots from `kept` on zero; returns how many were not.
fn clear(page: &mut Page, kept: usize) -> u64 {
    let data = (kept..FANOUT as usize).filter(|slot| !page.get(*slot).is_zero());
    let data: Vec<usize> = data.collect();
    data.iter().for_each(|slot| page.set(*slot, Digest::ZERO));
    data.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest_map::{MapFault, MapFile};
    use understudy_format::BlockSize;
    use understudy_format::mapfile::MapFileId;
    use uuid::Uuid;

    fn digest(n: u64) -> Digest {
        Digest::of_block(&n.to_le_bytes().map(|byte| byte | 1))
    }

    /// A map of `blocks` blocks, of which those in `data` are not zero.
    fn write(blocks: u64, data: &[u64]) -> (tempfile::NamedTempFile, MapFile) {
        let geometry = Geometry::new(blocks * 4096, BlockSize::new(4096).unwrap()).unwrap();
        let temporary = tempfile::NamedTempFile::new().unwrap();
        let file = temporary.reopen().unwrap();
        let mut writer = MapWriter::new(geometry, Some(file.try_clone().unwrap())).unwrap();
        for block in data {
            writer.zeros(block - writer.next_block());
            writer.blocks(&[digest(*block)]).unwrap();
        }
        writer.zeros(blocks - writer.next_block());
        let root = writer.finish().unwrap().root();
        let id = MapFileId { pool: Uuid::nil(), volume: Uuid::nil(), point: 0, geometry, root };
        file.write_all_at(&id.encode(), 0).unwrap();
        let map = MapFile::open(temporary.path()).unwrap();
        (temporary, map)
    }

    #[test]
    fn what_is_written_is_read_back_and_consistent() {
        for (blocks, data) in
            [(1, vec![0]), (256, vec![255]), (257, vec![0, 256]), (70_000, vec![3, 255, 256, 65_536, 69_999])]
        {
            let (_file, map) = write(blocks, &data);
            map.check().unwrap();
            for block in data {
                assert_eq!(map.node(0, block), digest(block));
            }
        }
        let (_file, map) = write(1000, &[]);
        map.check().unwrap();
        assert!(map.node(2, 0).is_zero());
    }

    /// Whatever was there before: after a rewind the map is that of the blocks that came last.
    #[test]
    fn a_map_that_was_rewound_is_that_of_what_came_last() {
        let blocks = 70_000;
        let geometry = Geometry::new(blocks * 4096, BlockSize::new(4096).unwrap()).unwrap();
        let at = |step: u64, seed: u64| {
            (0..blocks).map(move |n| if n % step == 0 { digest(n + seed) } else { Digest::ZERO })
        };
        let old: Vec<Digest> = at(3, 0).collect();
        let new: Vec<Digest> = at(700, 1 << 20).collect();
        for to in [0, 1, 255, 256, 257, 65_535, 65_536, 65_537, 69_999, 70_000] {
            for end in [to, to + 1, to + 300, blocks].map(|end| end.min(blocks)) {
                let temporary = tempfile::NamedTempFile::new().unwrap();
                let file = temporary.reopen().unwrap();
                let mut writer = MapWriter::new(geometry, Some(file.try_clone().unwrap())).unwrap();
                writer.blocks(&old[..end as usize]).unwrap();
                if end == blocks {
                    writer.finish().unwrap();
                }
                let zeros = old[to as usize..end as usize].iter().filter(|digest| digest.is_zero()).count();
                assert_eq!(writer.rewind(to).unwrap(), zeros as u64, "{to} of {end}");
                let mut prefix = MapWriter::new(geometry, None).unwrap();
                prefix.blocks(&old[..to as usize]).unwrap();
                prefix.zeros(blocks - to);
                assert_eq!(writer.prefix_root(), prefix.finish().unwrap().root(), "{to} of {end}");
                writer.blocks(&new[to as usize..]).unwrap();
                let root = writer.finish().unwrap().root();
                let id = MapFileId { pool: Uuid::nil(), volume: Uuid::nil(), point: 0, geometry, root };
                file.write_all_at(&id.encode(), 0).unwrap();
                let map = MapFile::open(temporary.path()).unwrap();
                map.check().unwrap_or_else(|fault| panic!("{to} of {end}: {fault}"));
                assert!((0..to).all(|block| map.node(0, block) == old[block as usize]));
                assert!((to..blocks).all(|block| map.node(0, block) == new[block as usize]));
            }
        }
    }

    /// However much is taken from a base, of the same size or not: the map is that of all blocks.
    #[test]
    fn what_is_taken_from_a_base_is_as_if_it_was_written() {
        for (had, has) in [(70_000, 70_000), (70_000, 66_000), (66_000, 140_000), (300, 70_000), (1, 256), (256, 257)] {
            let data: Vec<u64> = (0..had).filter(|block| block % 3 == 0 || (2_000..9_000).contains(block)).collect();
            // A hole in the middle of a subtree, and one without.
            let gap = if had == 66_000 { 0..0 } else { 20_000..50_000 };
            let data: Vec<u64> = data.into_iter().filter(|block| !gap.contains(block)).collect();
            let (_file, base) = write(had, &data);
            let base = Arc::new(base);
            let comparable = if had == has { has } else { had.min(has) };
            let geometry = Geometry::new(has * 4096, BlockSize::new(4096).unwrap()).unwrap();
            for step in [1_000_000u64, 65_536, 65_537, 300, 256, 7] {
                let temporary = tempfile::NamedTempFile::new().unwrap();
                let file = temporary.reopen().unwrap();
                let writer = MapWriter::new(geometry, Some(file.try_clone().unwrap())).unwrap();
                let mut writer = writer.over(Some(base.clone()));
                let mut expected = Vec::new();
                while writer.next_block() < has {
                    let (at, left) = (writer.next_block(), comparable.saturating_sub(writer.next_block()));
                    match left {
                        0 => writer.zeros(has - at),
                        _ => writer.unchanged(left.min(step)).unwrap(),
                    }
                    expected.extend((at..writer.next_block()).map(|block| base.node(0, block)));
                    if writer.next_block() < has {
                        expected.push(digest(1 << 40));
                        writer.blocks(&[digest(1 << 40)]).unwrap();
                    }
                }
                let root = writer.finish().unwrap().root();
                let id = MapFileId { pool: Uuid::nil(), volume: Uuid::nil(), point: 0, geometry, root };
                file.write_all_at(&id.encode(), 0).unwrap();
                let map = MapFile::open(temporary.path()).unwrap();
                map.check().unwrap_or_else(|fault| panic!("{had} to {has} by {step}: {fault}"));
                let differs = (0..has).find(|block| map.node(0, *block) != expected[*block as usize]);
                assert_eq!(differs, None, "{had} to {has} by {step}");
            }
        }
    }

    #[test]
    fn zero_runs_are_told_by_subtrees() {
        let (_file, map) = write(1 << 24, &[5, 6, 1 << 20]);
        assert_eq!(map.run(0, 100), (true, 5));
        assert_eq!(map.run(5, 100), (false, 2));
        assert_eq!(map.run(7, 1 << 24), (true, (1 << 20) - 7));
        assert!(map.run((1 << 20) + 1, 1 << 24).0);
        assert_eq!(map.run(7, 3), (true, 3));
    }

    #[test]
    fn what_stands_in_holes_of_the_file_is_zero_and_all_of_it_is_told() {
        let blocks = 1 << 20;
        let (_file, map) = write(blocks, &[5, 6, 1 << 19, blocks - 1]);
        let (mut extents, mut next, mut in_holes) = (map.extents().unwrap(), 0, 0);
        while next < blocks {
            let (hole, count) = extents.run(next, blocks - next).unwrap();
            assert!(count > 0 && next + count <= blocks);
            if hole {
                assert!((next..next + count).all(|block| map.node(0, block).is_zero()), "{count} blocks from {next}");
                in_holes += count;
            }
            next += count;
        }
        assert!(in_holes > blocks / 2, "{in_holes}");
    }

    #[test]
    fn every_damaged_page_is_noticed() {
        let (file, map) = write(70_000, &[3, 69_999]);
        let shape = *map.shape();
        let spots = [
            shape.node(0, 3).start,
            shape.node(0, 30_000).start,
            shape.node(1, 0).start,
            shape.node(1, 100).start,
            shape.node(2, 0).start,
            shape.node(3, 0).start,
        ];
        for spot in spots {
            let mut was = [0];
            file.as_file().read_exact_at(&mut was, spot as u64).unwrap();
            file.as_file().write_all_at(&[was[0] ^ 1], spot as u64).unwrap();
            let found = MapFile::open(file.path()).unwrap().check();
            assert!(matches!(found, Err(MapFault::Format(_) | MapFault::Damaged(_))), "{spot}");
            file.as_file().write_all_at(&was, spot as u64).unwrap();
        }
        MapFile::open(file.path()).unwrap().check().unwrap();
    }

    #[test]
    fn alien_files_are_told_apart() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(MapFile::open(file.path()), Err(MapFault::Format(_))));
        std::fs::write(file.path(), vec![7; 5000]).unwrap();
        let text = MapFile::open(file.path()).unwrap_err().to_string();
        assert!(text.contains("wrong magic"), "{text}");
        assert!(matches!(MapFile::open(std::path::Path::new("/nonexistent")), Err(MapFault::Missing)));
    }
}
