//! What is appended and not yet published: the log finds it here, the index does not yet.
//!
//! Invariant: what is here was appended in the generation that stands beside it, and goes when the sync of that has been published, or
//! when the streams that brought it ended.

use super::index::{Batch, Location};
use super::record::{Place, Record};
use std::collections::HashMap;
use understudy_format::Digest;

/// Records that are appended and not yet published, with the generation of the sync that publishes them.
#[derive(Debug, Default)]
pub struct Pending {
    records: HashMap<Digest, (Location, Option<Place>, u64)>,
    catalogue: Vec<(Record, Place, u64)>,
    moves: u64,
}

impl Pending {
    /// How often something left for the index: as long as that is the same, whatever is neither there nor here is nowhere.
    pub fn moves(&self) -> u64 {
        self.moves
    }

    /// Where a block or page stands.
    pub fn get(&self, digest: &Digest) -> Option<Location> {
        self.records.get(digest).map(|(location, ..)| *location)
    }

    /// Takes a block or page; one that was copied from another place is published only while that counts.
    pub fn store(&mut self, digest: Digest, location: Location, copied_from: Option<Place>, generation: u64) {
        self.records.insert(digest, (location, copied_from, generation));
    }

    /// Takes a record of the catalogue.
    pub fn enter(&mut self, entry: Record, place: Place, generation: u64) {
        self.catalogue.push((entry, place, generation));
    }

    /// What was appended in `generation` or before.
    pub fn batch(&self, generation: u64, indexed: (u64, u64)) -> Batch {
        let records = self.records.iter().filter(|(_, (_, _, own))| *own <= generation);
        let catalogue = self.catalogue.iter().filter(|(_, _, own)| *own <= generation);
        Batch {
            records: records.map(|(digest, (location, copied_from, _))| (*digest, *location, *copied_from)).collect(),
            catalogue: catalogue.map(|(record, place, _)| (record.clone(), *place)).collect(),
            indexed: Some(indexed),
        }
    }

    /// Forgets what was appended in `generation` or before: it is published.
    pub fn published(&mut self, generation: u64) {
        self.records.retain(|_, (_, _, own)| *own > generation);
        self.catalogue.retain(|(_, _, own)| *own > generation);
        self.moves += 1;
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.records.clear();
        self.catalogue.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who looked into the index before must look again exactly when this changed.
    #[test]
    fn what_leaves_for_the_index_is_counted() {
        let location = Location { segment: 1, offset: 64, stored_length: 0, content_length: 0, ordinal: 0, kind: 1 };
        let (mut pending, digest) = (Pending::default(), Digest([7; 32]));
        pending.store(digest, location, None, 3);
        assert_eq!((pending.get(&digest), pending.moves()), (Some(location), 0));
        pending.published(3);
        assert_eq!((pending.get(&digest), pending.moves()), (None, 1));
        pending.clear();
        assert_eq!(pending.moves(), 1, "what was given up is not in the index");
    }
}
