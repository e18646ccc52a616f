//! A store in memory, whose power can be cut: for pools that are simulated.
//!
//! Invariant: it keeps exactly what [`Store`] promises, so that nothing relies on more.

use super::{Change, Pairs, Store, Stores, Table};
use crate::error::Result;
use crate::locks::lock;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

type Tables = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// The stores of one simulated machine, by directory.
#[derive(Debug, Default)]
pub struct MemoryStores {
    stores: Mutex<HashMap<PathBuf, Arc<MemoryStore>>>,
}

impl MemoryStores {
    /// Cuts the power: of the batches that were not synced, each store keeps the first `keep(count)`, at most all of them.
    pub fn cut(&self, mut keep: impl FnMut(usize) -> usize) {
        for store in lock(&self.stores).values_mut() {
            let cut = lock(&store.state).cut(&mut keep);
            *store = Arc::new(MemoryStore { state: Mutex::new(cut) });
        }
    }
}

impl Stores for MemoryStores {
    fn open(&self, dir: &Path) -> Result<Arc<dyn Store>> {
        Ok(lock(&self.stores).entry(dir.to_owned()).or_default().clone())
    }

    fn remove(&self, dir: &Path) -> Result<()> {
        lock(&self.stores).remove(dir);
        Ok(())
    }
}

/// One store.
#[derive(Debug, Default)]
struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    durable: Tables,
    unsynced: Vec<Vec<Change>>,
    now: Tables,
}

impl State {
    fn cut(&self, keep: &mut impl FnMut(usize) -> usize) -> Self {
        let mut durable = self.durable.clone();
        let count = keep(self.unsynced.len()).min(self.unsynced.len());
        self.unsynced[..count].iter().for_each(|batch| change(&mut durable, batch));
        Self { now: durable.clone(), durable, unsynced: Vec::new() }
    }
}

fn change(tables: &mut Tables, batch: &[Change]) {
    for change in batch.iter().cloned() {
        match change {
            Change::Put(table, key, value) => tables.insert((table, key), value),
            Change::Remove(table, key) => tables.remove(&(table, key)),
        };
    }
}

impl Store for MemoryStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(lock(&self.state).now.get(&(table, key.to_vec())).cloned())
    }

    fn prefix(&self, table: Table, prefix: &[u8]) -> Result<Pairs> {
        let state = lock(&self.state);
        let from = state.now.range((table, prefix.to_vec())..);
        let same = from.take_while(|((own, key), _)| *own == table && key.starts_with(prefix));
        Ok(same.map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }

    fn apply(&self, changes: Vec<Change>) -> Result<()> {
        let mut state = lock(&self.state);
        change(&mut state.now, &changes);
        state.unsynced.push(changes);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let mut state = lock(&self.state);
        let batches = std::mem::take(&mut state.unsynced);
        batches.iter().for_each(|batch| change(&mut state.durable, batch));
        Ok(())
    }
}
