//! The tap: a volume is served over NBD, and what is written to it follows to the appliance.
//!
//! The way of the data: a write claims its range, becomes the next entry of the journal, and goes to the volume; the journal is shipped in
//! order ([`ship`]), and what the appliance has durably is forgotten here. The [`core`] owns where the tap stands: *following*, all that the appliance
//! lacks is in the journal; *catching up*, the blocks that were dirty when the journal began are on their way as a stream beside it ([`resync`]);
//! *dirty*, there is no journal, and a bitmap says which blocks may differ from what the appliance has ([`snapshot`], [`bits`]).
//! What that is when a tap begins, and what the appliance's answer means for it, is decided by [`start`]; a volume that was written to at the appliance comes back by [`failback`].
//! Whatever goes wrong with journal, state directory, network or appliance ends in the last of these, for a [`reason`] that is told; a
//! write fails only when the volume fails. All bytes go through [`disk`], which on a machine is [`files`]; clients see an [`export`], which is
//! served ([`serve`]) from the start of a tap to its end ([`run`]).

mod active;
pub mod bits;
pub mod core;
mod dirty;
pub mod disk;
pub mod export;
pub mod failback;
pub mod files;
mod journal;
pub mod lag;
#[cfg(test)]
mod memory;
pub mod observe;
pub mod open;
mod pages;
pub mod reason;
pub mod resync;
pub mod run;
pub mod serve;
pub mod ship;
pub mod snapshot;
pub mod stale;
pub mod start;
mod state;
mod tell;
pub mod terms;

use anyhow::{Context, Result};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks; what a lock guards here is valid between any two statements, so it is used also when a holder panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does what waits for disks on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("a thread panicked (a fault of this program)")
}
