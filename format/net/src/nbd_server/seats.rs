//! How many connections use each export.
//!
//! Invariant: a seat is given back by being dropped; an export that nobody uses takes no memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use understudy_format::nbd::{OptionError, Refusal};

/// The seats of all exports, by canonical name.
pub(super) struct Seats {
    taken: Arc<Mutex<HashMap<String, usize>>>,
    limit: usize,
}

impl Seats {
    pub(super) fn new(limit: usize) -> Self {
        Self { taken: Arc::default(), limit }
    }

    /// A seat at an export; a refusal when all of them are taken.
    pub(super) fn take(&self, export: &str) -> Result<Seat, Refusal> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.get(export).copied().unwrap_or(0);
        if count >= self.limit {
            let text =
                format!("{export} has {count} connections already, which is the limit; try again when one is closed");
            return Err(Refusal::new(OptionError::Policy, text));
        }
        taken.insert(export.to_owned(), count + 1);
        Ok(Seat { taken: Arc::clone(&self.taken), export: export.to_owned() })
    }
}

/// The right of one connection to use one export.
pub(super) struct Seat {
    taken: Arc<Mutex<HashMap<String, usize>>>,
    export: String,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.export) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.export)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_free_again_once_it_is_left() {
        let seats = Seats::new(2);
        let (first, second) = (seats.take("v@1").unwrap(), seats.take("v@1").unwrap());
        let refusal = seats.take("v@1").map(drop).unwrap_err();
        assert!(refusal.text.starts_with("v@1 has 2 connections already"), "{refusal:?}");
        let other = seats.take("v@2").unwrap();
        drop(first);
        drop((second, seats.take("v@1").unwrap(), other));
        assert!(seats.taken.lock().unwrap().is_empty());
    }
}
