//! One directory: the names that a reader sees, those that are durable, and what was changed since.
//!
//! Invariants: each unsynced change is lost or kept by itself, in the order in which they were made; a rename
//! is one change, so its target has the old file or the new one, never none.

use super::file::Loss;
use crate::rng::Rng;
use std::collections::BTreeMap;

/// A file or directory, whatever its names are.
pub type NodeId = u64;

/// A change of a directory's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A name for a new file or directory.
    Link(String, NodeId),
    /// A name is gone.
    Unlink(String),
    /// What had the first name has the second, and whatever had that is gone.
    Rename(String, String),
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, NodeId>) {
        match self {
            Self::Link(name, node) => drop(names.insert(name.clone(), *node)),
            Self::Unlink(name) => drop(names.remove(name)),
            Self::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }
}

/// See the module documentation.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    seen: BTreeMap<String, NodeId>,
    durable: BTreeMap<String, NodeId>,
    unsynced: Vec<Change>,
}

impl Directory {
    /// What a reader sees.
    pub fn names(&self) -> &BTreeMap<String, NodeId> {
        &self.seen
    }

    /// Changes the names, not yet durably.
    pub fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }

    /// Makes all changes durable.
    pub fn sync(&mut self) {
        self.unsynced.clear();
        self.durable.clone_from(&self.seen);
    }

    /// What is there after a loss of power.
    pub fn lose_power(&mut self, loss: Loss, rng: &mut Rng) {
        for change in self.unsynced.drain(..) {
            let kept = rng.chance(50);
            match loss {
                Loss::Nothing => change.apply(&mut self.durable),
                Loss::Some if kept => change.apply(&mut self.durable),
                Loss::Some | Loss::All => {}
            }
        }
        self.seen.clone_from(&self.durable);
    }
}
