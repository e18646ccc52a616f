//! The streams that come in, by their UUIDs: an initiator that lost its connection may be back long before the
//! appliance notices that the old one is dead.
//!
//! Invariants: a stream has one turn at a time; who comes later ends the turn before and waits until it is over, so
//! that all that the older connection brought is recorded first. A stream's UUID is random and known to its initiator alone.

use crate::locks::lock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::{OwnedMutexGuard, watch};
use uuid::Uuid;

type Seats = Arc<Mutex<HashMap<Uuid, Arc<Seat>>>>;

/// What all connections with one stream share.
#[derive(Debug)]
struct Seat {
    /// How many have come.
    arrivals: watch::Sender<u64>,
    /// Held by the turn.
    taken: Arc<tokio::sync::Mutex<()>>,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Running(Seats);

/// The right to bring a stream in, until this is dropped.
#[derive(Debug)]
pub struct Turn {
    seats: Seats,
    stream: Uuid,
    arrivals: watch::Receiver<u64>,
    own: u64,
    _taken: OwnedMutexGuard<()>,
}

impl Running {
    /// A turn for the stream, once the one before it is over.
    pub async fn take_over(&self, stream: Uuid) -> Turn {
        let (arrivals, own, taken) = self.arrive(stream);
        Turn { seats: self.0.clone(), stream, arrivals, own, _taken: taken.lock_owned().await }
    }

    fn arrive(&self, stream: Uuid) -> (watch::Receiver<u64>, u64, Arc<tokio::sync::Mutex<()>>) {
        let mut seats = lock(&self.0);
        let fresh = || Arc::new(Seat { arrivals: watch::channel(0).0, taken: Arc::default() });
        let seat = seats.entry(stream).or_insert_with(fresh);
        seat.arrivals.send_modify(|arrivals| *arrivals += 1);
        let arrivals = seat.arrivals.subscribe();
        let own = *arrivals.borrow();
        (arrivals, own, seat.taken.clone())
    }
}

impl Turn {
    /// Returns when somebody else has come with the same stream.
    pub async fn over(&mut self) {
        let own = self.own;
        // The sender lives as long as its seat, and the seat as long as this.
        let _ = self.arrivals.wait_for(|arrivals| *arrivals > own).await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut seats = lock(&self.seats);
        if *self.arrivals.borrow() == self.own {
            seats.remove(&self.stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_later_connection_has_the_stream_once_the_earlier_one_is_done() {
        let running = Arc::new(Running::default());
        let stream = Uuid::from_u128(1);
        let mut first = running.take_over(stream).await;
        let other = running.take_over(Uuid::from_u128(2)).await;
        let later = running.clone();
        let second = tokio::spawn(async move { later.take_over(stream).await });
        first.over().await;
        assert!(!second.is_finished());
        drop((first, other));
        let second = second.await.unwrap();
        assert_eq!(lock(&running.0).len(), 1);
        drop(second);
        assert!(lock(&running.0).is_empty());
    }

    #[tokio::test]
    async fn a_connection_that_came_before_the_last_one_is_over_at_once() {
        let running = Arc::new(Running::default());
        let stream = Uuid::from_u128(1);
        let first = running.take_over(stream).await;
        let come = || {
            let running = running.clone();
            tokio::spawn(async move { running.take_over(stream).await.over().await })
        };
        let second = come();
        while *first.arrivals.borrow() < 2 {
            tokio::task::yield_now().await;
        }
        let third = running.clone();
        let third = tokio::spawn(async move { third.take_over(stream).await });
        while *first.arrivals.borrow() < 3 {
            tokio::task::yield_now().await;
        }
        drop(first);
        second.await.unwrap();
        drop(third.await.unwrap());
        assert!(lock(&running.0).is_empty());
    }
}
