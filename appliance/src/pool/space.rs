//! The reserve: space on the pool's disk that streams and secondaries leave free.
//!
//! Invariant: what writes in bulk asks here first, so the index, state files and everything that
//! frees space can always write. Collecting copies what is needed of a segment before it removes it, so the reserve
//! holds a whole segment; on a small disk segments are small. Without it a full disk would end in a pool that cannot be helped.

use super::disk::Disk;
use crate::error::{Error, Result, at};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What stays free beside the room for a segment, bytes: a journal and a table of the index.
const INDEX: u64 = 16 << 20;
/// Segments are this part of the disk, ...
const DIVISOR: u64 = 64;
/// ... at least this, bytes, and at most [`super::SEGMENT_SIZE`].
const SEGMENT_MIN: u64 = 16 << 20;

/// The size at which segments are sealed on a disk of `total` bytes.
pub fn segment_size(total: u64) -> u64 {
    (total / DIVISOR).clamp(SEGMENT_MIN, super::SEGMENT_SIZE)
}

/// See the module documentation.
#[derive(Debug, Clone)]
pub struct Space {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_size: u64,
    reserve: u64,
}

impl Space {
    /// The space of the disk that `dir` is on, for a pool with segments of this size.
    pub fn of(disk: Arc<dyn Disk>, dir: &Path, segment_size: u64) -> Self {
        Self { disk, dir: dir.to_owned(), segment_size, reserve: segment_size + INDEX }
    }

    /// The size at which segments are sealed: what is of the same order on a disk of this size.
    pub fn segment_size(&self) -> u64 {
        self.segment_size
    }

    /// Fails unless `bytes` can be written without touching the reserve.
    pub fn check(&self, bytes: u64) -> Result<()> {
        let free = self.disk.free(&self.dir).map_err(at(&self.dir))?;
        let (reserve, needed) = (self.reserve, bytes.saturating_add(self.reserve));
        match needed.checked_sub(free) {
            None | Some(0) => Ok(()),
            Some(missing) => Err(Error::Full {
                detail: format!(
                    "{missing} bytes are missing: {needed} needed ({reserve} of them kept in reserve), {free} free"
                ),
            }),
        }
    }
}
