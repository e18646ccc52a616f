//! The store of the index on a simulated disk: it goes off with it, and its changes and syncs are operations
//! like others.
//!
//! Invariant: a batch or sync that failed was not done; of batches that were not synced a loss of power leaves a first
//! part.

use crate::disk::SimDisk;
use crate::disk::fault::Kind;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use understudy_appliance::error::{Error, Result};
use understudy_appliance::pool::store::memory::MemoryStores;
use understudy_appliance::pool::store::{Change, Pairs, Store, Stores, Table};

/// Opens stores that are on `disk` and kept in `memory`.
#[derive(Debug)]
pub struct SimStores {
    /// What they go off with.
    pub disk: SimDisk,
    /// What survives a restart.
    pub memory: Arc<MemoryStores>,
}

impl Stores for SimStores {
    fn open(&self, dir: &Path) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(SimStore { store: self.memory.open(dir)?, disk: self.disk.clone(), dir: dir.to_owned() }))
    }

    fn remove(&self, dir: &Path) -> Result<()> {
        self.memory.remove(dir)
    }
}

#[derive(Debug)]
struct SimStore {
    store: Arc<dyn Store>,
    disk: SimDisk,
    dir: PathBuf,
}

impl SimStore {
    fn step(&self, kind: Kind) -> Result<bool> {
        let failed = |source: io::Error| Error::Disk { path: self.dir.clone(), source };
        self.disk.foreign(kind, &self.dir).map_err(failed)
    }
}

impl Store for SimStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.store.get(table, key)
    }

    fn prefix(&self, table: Table, prefix: &[u8]) -> Result<Pairs> {
        self.store.prefix(table, prefix)
    }

    fn apply(&self, changes: Vec<Change>) -> Result<()> {
        self.step(Kind::IndexApply)?;
        self.store.apply(changes)
    }

    fn sync(&self) -> Result<()> {
        match self.step(Kind::IndexSync)? {
            true => self.store.sync(),
            false => Ok(()),
        }
    }
}
