//! The reserve: space on the pool's disk that streams and secondaries leave free.
//!
//! Invariant: what writes in bulk asks here first, so the index, state files and everything that
//! frees space can always write. Without it a full disk would end in a pool that cannot be helped.

use super::disk::Disk;
use crate::error::{Error, Result, at};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The reserve is this part of what is free when the pool is opened, ...
const DIVISOR: u64 = 64;
/// ... at least this, bytes: a journal and a table of the index ...
const MIN: u64 = 16 << 20;
/// ... and at most this, bytes.
const MAX: u64 = 256 << 20;

/// See the module documentation.
#[derive(Debug, Clone)]
pub struct Space {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    reserve: u64,
}

impl Space {
    /// The space of the disk that `dir` is on.
    pub fn of(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        let free = disk.free(dir).unwrap_or(0);
        Self { disk, dir: dir.to_owned(), reserve: (free / DIVISOR).clamp(MIN, MAX) }
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
