//! Ranges that are being changed: who changes granules has them for itself until it is done.
//!
//! A granule that is written in part for the first time takes its rest from the point, so two writes of it must not meet;
//! keeping an overlay needs all of it to stand still. Invariant: no two claims overlap. As many claims are
//! held as there are threads that serve exports, so they are looked through one by one.

use crate::locks::lock;
use std::ops::Range;
use std::sync::{Condvar, Mutex, PoisonError};

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Claims {
    held: Mutex<Vec<Range<u64>>>,
    given_back: Condvar,
}

/// A range of granules for its holder alone, until this is dropped.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    claims: &'a Claims,
    range: Range<u64>,
}

impl Claims {
    /// The range, once nobody has any of it.
    pub fn take(&self, range: Range<u64>) -> Claim<'_> {
        let meets = |other: &Range<u64>| range.start < other.end && other.start < range.end;
        let mut held = lock(&self.held);
        while held.iter().any(meets) {
            held = self.given_back.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        held.push(range.clone());
        Claim { claims: self, range }
    }

    /// Everything.
    pub fn all(&self) -> Claim<'_> {
        self.take(0..u64::MAX)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut held = lock(&self.claims.held);
        if let Some(at) = held.iter().position(|range| *range == self.range) {
            held.swap_remove(at);
        }
        self.claims.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn ranges_that_meet_wait_and_others_do_not() {
        let claims = Claims::default();
        let (first, beside) = (claims.take(0..4), claims.take(4..5));
        let (told, events) = channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _all = claims.all();
                told.send("all").unwrap();
            });
            drop(beside);
            assert!(events.try_recv().is_err(), "the first claim is still held");
            told.send("given back").unwrap();
            drop(first);
        });
        assert_eq!(events.try_iter().collect::<Vec<_>>(), ["given back", "all"]);
    }
}
