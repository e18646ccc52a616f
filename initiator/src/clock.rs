//! The one place of this program that asks for the time and for randomness.
//!
//! Everything else is given a [`Stopwatch`], a timestamp or an identifier, so that tests own them.

use std::time::{Duration, Instant};
use uuid::Uuid;

/// Nanoseconds since 1970-01-01T00:00:00Z.
#[expect(clippy::disallowed_methods, reason = "the sanctioned caller")]
pub fn now_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// A fresh random identifier, for a stream, a new volume or a device.
#[expect(clippy::disallowed_methods, reason = "the sanctioned caller")]
pub fn random_id() -> Uuid {
    Uuid::new_v4()
}

/// A random number, for what must not happen at the same time everywhere.
pub fn random_number() -> u64 {
    random_id().as_u64_pair().1
}

/// Measures how long something takes.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[expect(clippy::disallowed_methods, reason = "the sanctioned caller")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
