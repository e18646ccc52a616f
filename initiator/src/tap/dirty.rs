//! Blocks that may differ from what the appliance has.
//!
//! Two layers: those that were dirty when the journal began, which are read to catch up, and those that were written since something
//! began of which the appliance has no point yet. Invariant: what [`Dirty::store`] found is durable when it returned, both
//! layers as one; only becoming a point clears a block.

use super::bits::Bits;
use super::lock;
use super::pages::PageFile;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use understudy_format::Geometry;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Dirty {
    geometry: Geometry,
    layers: Mutex<Layers>,
    /// Locked before `layers`.
    file: Mutex<PageFile>,
}

#[derive(Debug)]
struct Layers {
    old: Arc<Bits>,
    since: Bits,
}

impl Dirty {
    /// The blocks that a file has.
    pub fn new(geometry: Geometry, file: PageFile) -> Self {
        let (old, since) = (Arc::new(file.bits().clone()), Bits::none(geometry.block_count()));
        Self { geometry, layers: Mutex::new(Layers { old, since }), file: Mutex::new(file) }
    }

    /// A range of bytes may differ.
    pub fn insert(&self, bytes: Range<u64>) {
        let block_size = u64::from(self.geometry.block_size().bytes());
        lock(&self.layers).since.insert(bytes.start / block_size..bytes.end.div_ceil(block_size));
    }

    /// Everything may differ.
    pub fn insert_all(&self) {
        lock(&self.layers).since = Bits::all(self.geometry.block_count());
    }

    /// A journal begins: all that is dirty is to be read.
    pub fn begin(&self) -> Arc<Bits> {
        let mut layers = lock(&self.layers);
        layers.old = Arc::new(layers.both());
        layers.since = Bits::none(self.geometry.block_count());
        layers.old.clone()
    }

    /// What is to be read.
    pub fn old(&self) -> Arc<Bits> {
        lock(&self.layers).old.clone()
    }

    /// All of it is a point, with what was written since in a journal.
    pub fn clear(&self) {
        let none = Bits::none(self.geometry.block_count());
        *lock(&self.layers) = Layers { old: Arc::new(none.clone()), since: none };
    }

    /// Bytes that may differ.
    pub fn bytes(&self) -> u64 {
        let blocks = lock(&self.layers).both().ones();
        (blocks * u64::from(self.geometry.block_size().bytes())).min(self.geometry.volume_size())
    }

    /// Makes durable what is dirty now.
    pub fn store(&self) -> io::Result<()> {
        let mut file = lock(&self.file);
        let both = lock(&self.layers).both();
        file.store(&both)
    }
}

impl Layers {
    fn both(&self) -> Bits {
        let mut both = self.since.clone();
        both.merge(&self.old);
        both
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tap::disk::Directory;
    use crate::tap::memory::MemoryDirectory;
    use understudy_format::BlockSize;

    #[test]
    fn what_is_dirty_stays_until_it_is_a_point() {
        let geometry = Geometry::new(1 << 20, BlockSize::new(4096).unwrap()).unwrap();
        let directory = MemoryDirectory::default();
        let file = || directory.open("dirty").unwrap();
        let stored = || PageFile::open(file(), 256).unwrap().bits().runs().collect::<Vec<_>>();
        let dirty = Dirty::new(geometry, PageFile::create(file(), 256).unwrap());
        dirty.insert(4095..4097);
        assert!(dirty.begin().runs().eq(std::iter::once(0..2)));
        dirty.insert(8 * 4096..8 * 4096 + 1);
        dirty.store().unwrap();
        assert_eq!((stored(), dirty.bytes()), (vec![0..2, 8..9], 3 * 4096));
        assert!(dirty.old().runs().eq(std::iter::once(0..2)), "what was written since need not be read");
        dirty.clear();
        dirty.store().unwrap();
        assert_eq!((stored(), dirty.bytes()), (vec![], 0));
        dirty.insert_all();
        assert_eq!(dirty.bytes(), 1 << 20);
    }
}
