//! Ranges that are being changed: who changes something has it alone until that is done.
//!
//! For exports that are written to: what must not meet within one claims its range. Invariants: no two claims that are held overlap; those that
//! meet are held in the order in which they were asked for, so nobody waits for ever. As many claims are
//! held as there are threads that serve exports, so they are looked through one by one.

use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Claims {
    asked: Mutex<Asked>,
    given_back: Condvar,
}

#[derive(Debug, Default)]
struct Asked {
    count: u64,
    /// Held or waited for, in the order in which they were asked for.
    claims: Vec<(u64, Range<u64>)>,
    /// Those that wait. Nobody is woken where nobody does: that is a system call.
    waiting: usize,
}

/// A range for its holder alone, until this is dropped.
#[derive(Debug)]
pub struct Claim<'a> {
    claims: &'a Claims,
    number: u64,
}

impl Claims {
    /// The range, once nobody who asked before has any of it.
    pub fn take(&self, range: Range<u64>) -> Claim<'_> {
        let mut asked = self.lock();
        asked.count += 1;
        let number = asked.count;
        asked.claims.push((number, range.clone()));
        while asked.has_before(number, &range) {
            asked.waiting += 1;
            asked = self.given_back.wait(asked).unwrap_or_else(PoisonError::into_inner);
            asked.waiting -= 1;
        }
        Claim { claims: self, number }
    }

    /// The range, unless somebody who asked before has any of it.
    pub fn take_now(&self, range: Range<u64>) -> Option<Claim<'_>> {
        let mut asked = self.lock();
        asked.count += 1;
        let number = asked.count;
        asked.claims.push((number, range.clone()));
        match asked.has_before(number, &range) {
            true => {
                asked.claims.pop();
                None
            }
            false => Some(Claim { claims: self, number }),
        }
    }

    /// Everything.
    pub fn all(&self) -> Claim<'_> {
        self.take(0..u64::MAX)
    }

    /// What is held or waited for.
    pub fn asked(&self) -> Vec<Range<u64>> {
        self.lock().claims.iter().map(|(_, range)| range.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked {
    fn has_before(&self, number: u64, range: &Range<u64>) -> bool {
        let before = self.claims.iter().take_while(|(other, _)| *other != number);
        before.map(|(_, other)| other).any(|other| range.start < other.end && other.start < range.end)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut asked = self.claims.lock();
        asked.claims.retain(|(number, _)| *number != self.number);
        if asked.waiting > 0 {
            self.claims.given_back.notify_all();
        }
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
        assert!(claims.take_now(3..5).is_none() && claims.take_now(5..6).is_some());
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

    #[test]
    fn who_asked_first_is_first() {
        let claims = Claims::default();
        let first = claims.take(0..4);
        let (told, events) = channel();
        std::thread::scope(|scope| {
            let ask = |name, range, asked| {
                let (claims, told) = (&claims, told.clone());
                scope.spawn(move || {
                    let _claim = claims.take(range);
                    told.send(name).unwrap();
                });
                while claims.asked().len() < asked {
                    std::thread::yield_now();
                }
            };
            ask("all", 0..u64::MAX, 2);
            ask("beside the first", 8..9, 3);
            drop(first);
        });
        assert_eq!(events.try_iter().collect::<Vec<_>>(), ["all", "beside the first"]);
    }
}
