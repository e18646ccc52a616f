//! The blocks that are read to catch up: those that were dirty when the journal began.
//!
//! Invariant: every other block is, at the appliance, what it was on the volume when the journal began; so only these have to be read, at any
//! time since, and all entries of the journal replayed over them.

use super::bits::Bits;
use std::sync::Arc;
use understudy_format::Geometry;
use understudy_format::journal::Position;

/// See the module documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirtySnapshot {
    /// What the stream is announced to be over: the start of the journal.
    pub over: Position,
    geometry: Geometry,
    blocks: Arc<Bits>,
}

impl DirtySnapshot {
    pub(super) fn new(over: Position, geometry: Geometry, blocks: Arc<Bits>) -> Self {
        Self { over, geometry, blocks }
    }

    /// Whether the byte at `offset` has to be read, and up to which offset that is so.
    pub fn run_at(&self, offset: u64) -> (bool, u64) {
        let block_size = u64::from(self.geometry.block_size().bytes());
        let (is_dirty, end) = self.blocks.run(offset / block_size);
        (is_dirty, (end * block_size).min(self.geometry.volume_size()))
    }

    /// Bytes that have to be read.
    pub fn bytes(&self) -> u64 {
        let block_size = u64::from(self.geometry.block_size().bytes());
        (self.blocks.ones() * block_size).min(self.geometry.volume_size())
    }

    /// Whether that is everything.
    pub fn is_everything(&self) -> bool {
        self.blocks.ones() == self.blocks.count()
    }
}
