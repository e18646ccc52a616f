//! The secondary as the shorter way to the bytes of its point: nothing to look up, nothing to decompress, nothing to copy.
//!
//! Invariants: no byte is given that was not checked against the digest that its block has in the map of the point. So it does not matter that the
//! secondary becomes a newer point meanwhile, or is damaged: what is not as it should be comes out of the history.

use crate::pool::disk::DiskFile;
use crate::secondary::Secondaries;
use crate::view::PointView;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use understudy_format::{BlockId, Digest};

/// After so many blocks that are not as they should be, the secondary has moved on: looking there costs more than it helps.
const MISSES_MAX: u32 = 256;

/// The image of the secondary.
#[derive(Debug)]
pub(super) struct Image {
    file: Arc<dyn DiskFile>,
    misses: AtomicU32,
}

impl Image {
    /// That of the volume, if it is the point at present.
    pub(super) fn of(view: &PointView, secondaries: &Secondaries) -> Option<Self> {
        let file = secondaries.image(view.volume(), view.point())?;
        Some(Self { file, misses: AtomicU32::new(0) })
    }

    /// Fills `target` with a whole block; whether it is that block. If not, `target` holds anything.
    pub(super) fn fill(&self, view: &PointView, block: BlockId, digest: Digest, target: &mut [u8]) -> bool {
        if self.misses.load(Ordering::Relaxed) >= MISSES_MAX {
            return false;
        }
        let read = self.file.read_at(target, view.geometry().offset(block));
        let is_it = read.is_ok() && Digest::of_block(target) == digest;
        if !is_it {
            self.misses.fetch_add(1, Ordering::Relaxed);
        }
        is_it
    }

    /// A block, if it is there.
    pub(super) fn block(&self, view: &PointView, block: BlockId, digest: Digest) -> Option<Bytes> {
        let mut content = vec![0; view.geometry().block_len(block) as usize];
        self.fill(view, block, digest, &mut content).then(|| content.into())
    }
}
