//! What the index asks of a key-value store, and nothing more: so that stores can be compared, and power can be cut under one.
//!
//! A store promises: a batch is applied as a whole or not at all; after [`Store::sync`] returned, all batches before it
//! survive a loss of power; of those after it, any first part may. It need not keep more, for the index is a cache.

mod fjall;
pub mod memory;

pub use fjall::FjallStores;

use crate::error::Result;
use std::path::Path;
use std::sync::Arc;

/// A table of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Where each digest is.
    Records,
    /// Where digests are whose record is damaged.
    Damaged,
    /// Volumes, points, and what is recorded of them.
    Catalogue,
    /// Up to which byte each segment is indexed.
    Segments,
    /// When each segment was last read and found whole.
    Scrubbed,
    /// Which segments have a record of each point, whether that counts or not.
    PointRecords,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Records, Self::Damaged, Self::Catalogue, Self::Segments, Self::Scrubbed, Self::PointRecords];
}

/// One change of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The key has this value now.
    Put(Table, Vec<u8>, Vec<u8>),
    /// The key is not there any more.
    Remove(Table, Vec<u8>),
}

/// Keys and their values.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// An open store.
pub trait Store: std::fmt::Debug + Send + Sync {
    /// The value of a key.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// The keys that start with `prefix`, ascending, with their values.
    fn prefix(&self, table: Table, prefix: &[u8]) -> Result<Pairs>;
    /// Applies a batch as a whole; after an error nothing of it is there, then or later.
    fn apply(&self, changes: Vec<Change>) -> Result<()>;
    /// Makes everything that was applied durable.
    fn sync(&self) -> Result<()>;
}

/// Opens stores.
pub trait Stores: std::fmt::Debug + Send + Sync {
    /// The store in `dir`, created when absent.
    fn open(&self, dir: &Path) -> Result<Arc<dyn Store>>;
    /// Removes the store in `dir` with all that is in it.
    fn remove(&self, dir: &Path) -> Result<()>;
}
