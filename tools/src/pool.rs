//! Pools read from outside, by a second reading of the format: the appliance's code is nowhere in here.
//!
//! [`check`] proves what can be proved of a pool at rest; [`extract`] writes one point to a file, without a daemon;
//! [`rebuild`] has everything that can be lost made again. They share what reads a pool: [`segment`] (one segment,
//! record by record), [`catalogue`] (volumes and points as the log has them) and [`secondaries`].
//!
//! Invariants: only [`rebuild`] writes into a pool, and nothing but the file `pool`; the index is a cache, so it is
//! neither read nor believed.

pub mod catalogue;
pub mod check;
pub mod content;
pub mod extract;
pub mod findings;
pub mod image;
pub mod journals;
pub mod known;
pub mod overlays;
pub mod places;
pub mod rebuild;
pub mod report;
pub mod secondaries;
pub mod segment;
pub mod survey;
pub mod walk;
mod window;

pub use check::check;

use anyhow::{Context, bail};
use known::segment_name;
use std::fs::{File, TryLockError};
use std::path::Path;
use understudy_format::pool::PoolRecord;
use uuid::Uuid;

/// The name of the pool in `dir`, from its file.
pub fn identity(dir: &Path) -> anyhow::Result<Uuid> {
    let path = dir.join("pool");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => bail!("{} is not a pool: cannot read {}: {error}", dir.display(), path.display()),
    };
    let record = PoolRecord::decode(&bytes);
    Ok(record.with_context(|| format!("{} is not a pool, or damaged", dir.display()))?.pool)
}

/// A shared hold of the lock, so that no daemon starts meanwhile; `None` when there is nothing to hold.
fn look(dir: &Path, live: bool) -> anyhow::Result<Option<File>> {
    let path = dir.join("lock");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) if live => Ok(None),
        Err(TryLockError::WouldBlock) => bail!(
            "the pool {} is in use by a running understudyd: stop it first, or look all the same with --live",
            dir.display()
        ),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// The numbers of the segments of a pool, ascending, and the names of what else is beside them.
fn segment_numbers(dir: &Path) -> anyhow::Result<(Vec<u64>, Vec<String>)> {
    let dir = dir.join("segments");
    let cannot = || format!("cannot read {}", dir.display());
    let (mut numbers, mut strangers) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(&dir).with_context(cannot)? {
        let name = entry.with_context(cannot)?.file_name().to_string_lossy().into_owned();
        let number = u64::from_str_radix(name.trim_end_matches(".seg"), 16).ok();
        match number.filter(|number| segment_name(*number) == name) {
            Some(number) => numbers.push(number),
            None => strangers.push(name),
        }
    }
    numbers.sort_unstable();
    Ok((numbers, strangers))
}
