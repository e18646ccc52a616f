//! How many connections have not said yet who they are, from each address and in all.
//!
//! Invariant: a place is given back by being dropped; an address without connections takes no memory.

use crate::locks::lock;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

/// At once, in all.
const ALL_MAX: usize = 256;
/// At once, from one address; where there is no TLS all are from this host, and one has no less than all.
const ADDRESS_MAX: usize = 64;

type Counts = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Handshakes {
    counts: Counts,
    address_max: usize,
}

impl Handshakes {
    pub(super) fn new(encrypted: bool) -> Self {
        Self { counts: Counts::default(), address_max: if encrypted { ADDRESS_MAX } else { ALL_MAX } }
    }

    /// A place for one more; none when there are too many.
    pub(super) fn begin(&self, address: IpAddr) -> Option<Place> {
        let mut counts = lock(&self.counts);
        let own = counts.get(&address).copied().unwrap_or(0);
        let free = own < self.address_max && counts.values().sum::<usize>() < ALL_MAX;
        free.then(|| {
            counts.insert(address, own + 1);
            Place { counts: self.counts.clone(), address }
        })
    }
}

/// The right of one connection to shake hands.
#[derive(Debug)]
pub(super) struct Place {
    counts: Counts,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        match counts.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [127, 0, 0, last].into()
    }

    #[test]
    fn one_address_cannot_take_all_places() {
        let handshakes = Handshakes::new(true);
        let mut held: Vec<_> = (0..ADDRESS_MAX).map(|_| handshakes.begin(address(1)).unwrap()).collect();
        assert!(handshakes.begin(address(1)).is_none());
        assert!(handshakes.begin(address(2)).is_some());
        held.pop();
        held.push(handshakes.begin(address(1)).unwrap());
        drop(held);
        assert!(lock(&handshakes.counts).is_empty());
    }

    #[test]
    fn many_addresses_together_cannot_have_more_than_all() {
        let handshakes = Handshakes::new(true);
        let held: Vec<_> = (0..ALL_MAX).map(|number| handshakes.begin(address(number as u8)).unwrap()).collect();
        assert!(handshakes.begin(address(1)).is_none());
        drop(held);
        assert!(handshakes.begin(address(1)).is_some());
    }
}
