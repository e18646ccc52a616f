//! Folding: what was written over a point becomes the map of another one.
//!
//! The blocks that were touched are read from the base, changed, digested and stored; all others are taken over, with the map pages
//! above them, so folding costs what was written and not what there is. It is the same for the entries of a journal ([`fold`]) and for
//! an overlay that is kept ([`Folding`]). Invariants: the base is durable; a block that was overwritten as a whole is not read before, so
//! it may be damaged; nothing is recorded here: that is the caller's, and until then the [`StreamGuard`] keeps what was stored. When the
//! journals of volumes become points is [`driver`]'s.

pub mod driver;
mod journal;

pub use journal::{Folder, Laid};

use crate::error::{Error, Result};
use crate::pool::{Pages, Pool, StreamGuard};
use std::ops::Range;
use understudy_format::codec::encode_into;
use understudy_format::map::{Builder, Lookup, Map};
use understudy_format::point::Point;
use understudy_format::{BlockId, Digest, Geometry};
use uuid::Uuid;

/// What was written over a volume.
pub trait Overwrites {
    /// Where, in bytes: ascending, and apart from each other.
    fn extents(&self) -> impl Iterator<Item = Range<u64>>;
    /// Makes of the bytes from `offset` on, as they were before, what they are afterwards.
    fn apply(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;
}

/// What folding made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Folded {
    /// The new map.
    pub map: Map,
    /// Blocks that were touched.
    pub changed_blocks: u64,
    /// Bytes that were added to segments.
    pub stored_bytes: u64,
    /// Content bytes of the blocks among them.
    pub new_bytes: u64,
}

impl Folded {
    /// The base itself: nothing was written over it.
    pub fn nothing(base: Map) -> Self {
        Self { map: base, changed_blocks: 0, stored_bytes: 0, new_bytes: 0 }
    }

    /// The point that it is, brought by what stands for a stream; over no other point and with no name, until somebody says so.
    pub fn point(&self, volume: Uuid, number: u64, stream: Uuid, created_ns: i64) -> Point {
        let Self { map, changed_blocks, stored_bytes, new_bytes } = *self;
        let (base, label, position) = (None, None, None);
        Point {
            volume,
            number,
            base,
            created_ns,
            map,
            stream,
            changed_blocks,
            stored_bytes,
            new_bytes,
            label,
            position,
        }
    }

    /// All of this, after what `before` made.
    pub fn after(self, before: &Self) -> Self {
        Self {
            map: self.map,
            changed_blocks: before.changed_blocks + self.changed_blocks,
            stored_bytes: before.stored_bytes + self.stored_bytes,
            new_bytes: before.new_bytes + self.new_bytes,
        }
    }
}

/// Folds `changes` over `base`.
pub fn fold(pool: &Pool, guard: &StreamGuard, base: Map, changes: &impl Overwrites) -> Result<Folded> {
    let mut before = Before { pool, lookup: Lookup::new(base) };
    let mut folding = Folding::over(pool, guard, base);
    let (geometry, mut content, mut next) = (base.geometry, Vec::new(), 0);
    for extent in changes.extents() {
        check(&geometry, &extent)?;
        let first = geometry.block_at(extent.start).0.max(next);
        next = geometry.block_at(extent.end - 1).0 + 1;
        for block in (first..next).map(BlockId) {
            let bytes = geometry.byte_range(block, 1);
            content.resize((bytes.end - bytes.start) as usize, 0);
            if extent.start > bytes.start || extent.end < bytes.end {
                before.read(block, &mut content)?;
            }
            changes.apply(bytes.start, &mut content)?;
            folding.put(block, &content)?;
        }
    }
    folding.finish()
}

fn check(geometry: &Geometry, extent: &Range<u64>) -> Result<()> {
    let size = geometry.volume_size();
    match extent.start < extent.end && extent.end <= size {
        true => Ok(()),
        false => {
            let Range { start, end } = extent;
            Err(Error::Refused(format!("bytes {start} to {end} were written to a volume that has {size} bytes")))
        }
    }
}

/// The blocks of the base.
struct Before<'a> {
    pool: &'a Pool,
    lookup: Lookup,
}

impl Before<'_> {
    fn read(&mut self, block: BlockId, content: &mut [u8]) -> Result<()> {
        let digest = self.lookup.block(block, &mut self.pool.pages(None))?;
        if digest.is_zero() {
            content.fill(0);
            return Ok(());
        }
        let stored = self.pool.block_once(digest)?;
        let (expected, found) = (content.len(), stored.len());
        if expected != found {
            return Err(Error::Refused(format!("block {block} has {found} bytes, {expected} expected")));
        }
        content.copy_from_slice(&stored);
        Ok(())
    }
}

/// A map on its way: a base, and blocks that come in ascending order.
#[derive(Debug)]
pub struct Folding<'a> {
    pool: &'a Pool,
    guard: &'a StreamGuard,
    pages: Pages<'a>,
    builder: Builder,
    folded: Folded,
    /// The block after the last one that came.
    next: u64,
}

impl<'a> Folding<'a> {
    /// Over `base`, nothing yet.
    pub fn over(pool: &'a Pool, guard: &'a StreamGuard, base: Map) -> Self {
        let builder = Builder::new(base.geometry, Some(base));
        Self { pool, guard, pages: pool.pages(Some(guard)), builder, folded: Folded::nothing(base), next: 0 }
    }

    /// A block has this content; those between the one before and this are as in the base.
    pub fn put(&mut self, block: BlockId, content: &[u8]) -> Result<()> {
        self.builder.unchanged(block.0 - self.next, &mut self.pages)?;
        self.next = block.0 + 1;
        self.folded.changed_blocks += 1;
        let digest = Digest::of_block(content);
        if digest.is_zero() {
            return self.builder.zero(1, &mut self.pages);
        }
        self.store(digest, content)?;
        self.builder.block(digest, &mut self.pages)
    }

    fn store(&mut self, digest: Digest, content: &[u8]) -> Result<()> {
        if self.pool.block_length(self.guard, &digest)?.is_some() {
            return Ok(());
        }
        let mut stored = Vec::new();
        let (codec, length) = (encode_into(content, &mut stored), content.len() as u32);
        self.folded.stored_bytes += self.pool.store_block(self.guard, digest, codec, length, &stored)?;
        self.folded.new_bytes += u64::from(length);
        Ok(())
    }

    /// The blocks after the last one are as in the base, too.
    pub fn finish(mut self) -> Result<Folded> {
        let rest = self.folded.map.geometry.block_count() - self.next;
        self.builder.unchanged(rest, &mut self.pages)?;
        let map = self.builder.finish(&mut self.pages)?;
        Ok(Folded { map, stored_bytes: self.folded.stored_bytes + self.pages.stored_bytes, ..self.folded })
    }
}
