//! The only place that asks for the time or for randomness; everything else gets them passed in.

use std::time::{Duration, Instant};
use uuid::Uuid;

/// Time that passes, for what keeps to a rate.
pub trait Clock: Sync {
    /// Nanoseconds since some moment, never less than before.
    fn elapsed_ns(&self) -> u64;
    /// Returns after `ns` nanoseconds, or earlier.
    fn wait(&self, ns: u64);
}

/// The clock of this machine.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl SystemClock {
    /// A clock that starts now.
    #[expect(clippy::disallowed_methods, reason = "the one sanctioned caller")]
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn elapsed_ns(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }

    fn wait(&self, ns: u64) {
        // Who unparks the thread ends the waiting.
        std::thread::park_timeout(Duration::from_nanos(ns));
    }
}

/// Nanoseconds since 1970-01-01T00:00:00Z.
#[expect(clippy::disallowed_methods, reason = "the one sanctioned caller")]
pub fn now_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// A new random name.
#[expect(clippy::disallowed_methods, reason = "the one sanctioned caller")]
pub fn random_uuid() -> Uuid {
    Uuid::new_v4()
}
