//! Whose turn it is at a secondary: one at a time, and who is urgent goes first.
//!
//! Invariant: a comparison, which takes hours, asks for its turn again for each of its pieces and gets it only while
//! nobody urgent waits; so it delays applying by one piece, and needs no lock over its whole length.

use crate::locks::lock;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
struct Waiting {
    taken: bool,
    urgent: usize,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Turn {
    waiting: Mutex<Waiting>,
    freed: Condvar,
}

/// A turn; over when this is dropped.
#[derive(Debug)]
pub struct Held<'a>(&'a Turn);

impl Turn {
    /// Waits for the turn, ahead of all that are not urgent.
    pub fn urgent(&self) -> Held<'_> {
        let mut waiting = lock(&self.waiting);
        waiting.urgent += 1;
        waiting = self.wait_while(waiting, |waiting| waiting.taken);
        waiting.urgent -= 1;
        waiting.taken = true;
        Held(self)
    }

    /// Waits for the turn until nobody urgent wants it.
    pub fn patient(&self) -> Held<'_> {
        self.wait_while(lock(&self.waiting), |waiting| waiting.taken || waiting.urgent > 0).taken = true;
        Held(self)
    }

    fn wait_while<'a>(
        &'a self,
        waiting: MutexGuard<'a, Waiting>,
        condition: impl Fn(&Waiting) -> bool,
    ) -> MutexGuard<'a, Waiting> {
        self.freed.wait_while(waiting, |waiting| condition(waiting)).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        lock(&self.0.waiting).taken = false;
        self.0.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn the_urgent_go_first_however_long_others_wait() {
        let (turn, (send, receive)) = (Turn::default(), mpsc::channel());
        std::thread::scope(|scope| {
            let held = turn.patient();
            scope.spawn(|| {
                let _held = turn.patient();
                send.send("patient").unwrap();
            });
            scope.spawn(|| {
                let _held = turn.urgent();
                send.send("urgent").unwrap();
            });
            while lock(&turn.waiting).urgent == 0 {
                std::thread::yield_now();
            }
            drop(held);
            assert_eq!([receive.recv().unwrap(), receive.recv().unwrap()], ["urgent", "patient"]);
        });
    }
}
