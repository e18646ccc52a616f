//! Writes a digest map while the blocks of a volume go by in order, and computes its root.
//!
//! Invariants: memory is one page a level; each page is written once, and pages that are zero never
//! (the file stays sparse there). Written by `pwrite`, not through the mapping, so that a full disk is an
//! error and not a signal. Without a file only the root is computed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use understudy_format::map::{FANOUT, Map, Page, top_level};
use understudy_format::mapfile::Shape;
use understudy_format::{Digest, Geometry};

/// Writes a map; see the module documentation.
#[derive(Debug)]
pub struct MapWriter {
    file: Option<File>,
    geometry: Geometry,
    shape: Shape,
    /// `open[level]` is the page being filled with nodes of `level`.
    open: Vec<Open>,
    next: u64,
    top: Digest,
}

#[derive(Debug)]
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
        Ok(Self { file, geometry, shape, open, next: 0, top: Digest::ZERO })
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

    /// The next block.
    pub fn next_block(&self) -> u64 {
        self.next
    }

    /// All blocks went by: writes what is still open, and returns the map.
    pub fn finish(mut self) -> io::Result<Map> {
        assert_eq!(self.next, self.geometry.block_count(), "every block must have gone by");
        (0..self.open.len()).try_for_each(|level| self.close(level))?;
        self.write(self.shape.node(self.open.len() as u8, 0).start, &self.top.0)?;
        Ok(Map { geometry: self.geometry, top: self.top })
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
