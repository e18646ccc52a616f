//! The directory of a pool: making it, locking it, and what it is called.
//!
//! Invariants: a directory that holds something else is left alone; the names of a new pool are durable before anything in it is
//! used; the index is a cache, so one that cannot be opened is made anew.

use super::Options;
use super::disk::{self, Disk, Lock};
use super::index::Index;
use super::store::Stores;
use crate::error::{Error, Result, at};
use std::path::Path;
use understudy_format::pool::PoolRecord;
use uuid::Uuid;

/// Makes a directory whose name, and the names of those above it that are new, survive a loss of power.
pub fn make_durable(disk: &dyn Disk, dir: &Path) -> std::io::Result<()> {
    let new: Vec<_> =
        dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && disk.list(dir).is_err()).collect();
    disk.make_dir(dir)?;
    let parents = new.iter().filter_map(|dir| dir.parent());
    parents
        .map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir })
        .try_for_each(|dir| disk.sync_dir(dir))
}

/// Makes the directories of a pool, unless `dir` holds something else.
pub(super) fn prepare(disk: &dyn Disk, dir: &Path) -> Result<()> {
    make_durable(disk, dir).map_err(at(dir))?;
    let names = disk.list(dir).map_err(at(dir))?;
    let ours = [
        "pool",
        "pool.new",
        "lock",
        "control",
        "segments",
        "index",
        "volumes",
        "overlays",
        "journals",
        "access",
        "lost+found",
    ];
    if !names.iter().any(|name| name == "pool") && names.iter().any(|name| !ours.contains(&name.as_str())) {
        let reason = format!("{} is neither a pool nor an empty directory; name another one", dir.display());
        return Err(Error::Refused(reason));
    }
    for name in ["segments", "volumes"] {
        disk.make_dir(&dir.join(name)).map_err(at(dir))?;
    }
    disk.sync_dir(dir).map_err(at(dir))
}

pub(super) fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn Lock>> {
    let path = dir.join("lock");
    disk.lock(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => Error::Busy(format!(
            "the pool {} is in use by another understudyd; stop that one first or name another pool",
            dir.display()
        )),
        _ => at(&path)(error),
    })
}

pub(super) fn identity(dir: &Path, options: &Options) -> Result<Uuid> {
    let path = dir.join("pool");
    if let Some(bytes) = disk::read_all(&*options.disk, &path).map_err(at(&path))? {
        return Ok(PoolRecord::decode(&bytes)?.pool);
    }
    let record = PoolRecord::new(options.uuid, options.now_ns);
    disk::replace(&*options.disk, &path, &record.encode()).map_err(at(&path))?;
    Ok(record.pool)
}

/// The index is a cache: one that cannot be opened is made anew from the segments.
pub(super) fn open_index(stores: &dyn Stores, dir: &Path) -> Result<Index> {
    let store = match stores.open(dir) {
        Err(Error::Index(error)) if !matches!(error, fjall::Error::Io(_) | fjall::Error::Locked) => {
            tracing::warn!(%error, "the index cannot be opened and is rebuilt from the segments");
            stores.remove(dir)?;
            stores.open(dir)
        }
        store => store,
    };
    Ok(Index::new(store?))
}
