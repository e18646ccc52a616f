//! Holds a secondary's image against the point that it claims to be: every block is read and digested.
//!
//! Invariants: one block is in memory at a time; holes are not read, they are zeros by definition; the root is computed
//! from what was read alone, and the point's map only names the blocks that differ.

use super::known::GoodPages;
use crate::stream::Forget;
use anyhow::Context;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use understudy_format::map::{Builder, Lookup, Map};
use understudy_format::{BlockId, Digest, Geometry};

/// How an image differs from its point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// In length.
    Size {
        /// Bytes of the image.
        found: u64,
    },
    /// In content.
    Content {
        /// The root of what was read.
        root: Digest,
        /// The first block that differs, when the point's map can be read.
        first: Option<BlockId>,
        /// How many blocks differ.
        count: u64,
    },
}

/// What is different between an image and a point; `None` when it is the point.
pub fn compare(path: &Path, map: &Map, pages: Option<GoodPages<'_>>) -> anyhow::Result<Option<Difference>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let found = file.metadata()?.len();
    if found != map.geometry.volume_size() {
        return Ok(Some(Difference::Size { found }));
    }
    let expected = pages.map(|pages| Expected { lookup: Lookup::new(*map), pages, first: None, count: 0 });
    let image = Image { file, geometry: map.geometry, builder: Builder::new(map.geometry, None), expected };
    image.read(map.root()).with_context(|| format!("cannot read {}", path.display()))
}

struct Image<'a> {
    file: File,
    geometry: Geometry,
    builder: Builder,
    expected: Option<Expected<'a>>,
}

struct Expected<'a> {
    lookup: Lookup,
    pages: GoodPages<'a>,
    first: Option<BlockId>,
    count: u64,
}

impl Image<'_> {
    fn read(mut self, root: Digest) -> io::Result<Option<Difference>> {
        let mut next = 0;
        while next < self.geometry.block_count() {
            next = match self.hole(BlockId(next))? {
                0 => self.block(BlockId(next))?,
                count => self.zeros(next, count)?,
            };
        }
        let Ok(map) = self.builder.finish(&mut Forget);
        let (first, count) = self.expected.map_or((None, 0), |expected| (expected.first, expected.count));
        Ok((map.root() != root).then(|| Difference::Content { root: map.root(), first, count }))
    }

    /// How many whole blocks from this one are a hole.
    fn hole(&self, block: BlockId) -> io::Result<u64> {
        let (start, size) = (self.geometry.offset(block), self.geometry.volume_size());
        let data = match seek(&self.file, SeekFrom::Data(start)) {
            Ok(data) => data.min(size),
            Err(Errno::NXIO) => size,
            // Not every filesystem knows where its holes are.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => start,
            Err(error) => return Err(error.into()),
        };
        let end = if data == size { self.geometry.block_count() } else { self.geometry.block_at(data).0 };
        Ok(end.saturating_sub(block.0))
    }

    fn block(&mut self, block: BlockId) -> io::Result<u64> {
        let mut content = vec![0; self.geometry.block_len(block) as usize];
        self.file.read_exact_at(&mut content, self.geometry.offset(block))?;
        let digest = Digest::of_block(&content);
        self.expect(block, digest)?;
        let Ok(()) = self.builder.block(digest, &mut Forget);
        Ok(block.0 + 1)
    }

    fn zeros(&mut self, first: u64, count: u64) -> io::Result<u64> {
        if self.expected.is_some() {
            (first..first + count).try_for_each(|block| self.expect(BlockId(block), Digest::ZERO))?;
        }
        let Ok(()) = self.builder.zero(count, &mut Forget);
        Ok(first + count)
    }

    fn expect(&mut self, block: BlockId, digest: Digest) -> io::Result<()> {
        let Some(expected) = &mut self.expected else { return Ok(()) };
        let wanted = expected.lookup.block(block, &mut expected.pages).map_err(io::Error::other)?;
        if wanted != digest {
            expected.first.get_or_insert(block);
            expected.count += 1;
        }
        Ok(())
    }
}
