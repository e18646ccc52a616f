//! The clock: the one place of the tools where time is taken and passes. Nothing is decided by the time of day.

use std::time::{Duration, Instant};

/// How often something that cannot be waited for is looked at.
pub const POLL: Duration = Duration::from_millis(10);

/// Runs from when it was made.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[expect(clippy::disallowed_methods, reason = "the sanctioned caller: a benchmark measures time")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Since the start.
    pub fn seconds(&self) -> f64 {
        self.elapsed().as_secs_f64()
    }
}

/// Lets time pass between two looks at another process, which gives no event to wait for.
#[expect(clippy::disallowed_methods, reason = "the sanctioned caller: other processes are polled")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
