//! Keeping to a rate, and ending when that is asked for.
//!
//! Invariants: over any span of time no more than the rate allows is read, but for a burst at its beginning; the time is
//! passed in, so the arithmetic is pure; a wait ends within a tenth of a second after a stop was asked for.

use crate::clock::Clock;
use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};

/// How much may be read at once before the rate counts: the worth of this many nanoseconds.
const BURST_NS: u64 = 250_000_000;
/// How long nobody looks whether to stop, nanoseconds.
const WAIT_NS: u64 = 100_000_000;
const SECOND_NS: u128 = 1_000_000_000;

/// What may be spent: bytes that come in at a rate and go out in lumps, which may leave a debt.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    /// Bytes a second, at least 1.
    rate: u64,
    /// The moment at which everything that was spent is paid, nanoseconds.
    paid_ns: u64,
}

impl Bucket {
    /// A full bucket; `rate` in bytes a second.
    pub fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), paid_ns: 0 }
    }

    /// Spends `bytes` at the moment `now_ns`; returns the nanoseconds to wait before they are read.
    pub fn spend(&mut self, bytes: u64, now_ns: u64) -> u64 {
        let cost_ns = (u128::from(bytes) * SECOND_NS).div_ceil(self.rate.into());
        let wait_ns = self.paid_ns.saturating_sub(now_ns);
        let start_ns = self.paid_ns.max(now_ns.saturating_sub(BURST_NS));
        self.paid_ns = start_ns.saturating_add(u64::try_from(cost_ns).unwrap_or(u64::MAX));
        wait_ns
    }
}

/// What every step of a long run asks before it reads.
pub struct Pace<'a> {
    limit: Option<(Bucket, &'a dyn Clock)>,
    stop: &'a AtomicBool,
}

impl<'a> Pace<'a> {
    /// At most `rate` bytes a second; `stop` ends everything.
    pub fn new(rate: Option<u64>, clock: &'a dyn Clock, stop: &'a AtomicBool) -> Self {
        Self { limit: rate.map(|rate| (Bucket::new(rate), clock)), stop }
    }

    /// As fast as it goes; `stop` ends everything.
    pub fn unlimited(stop: &'a AtomicBool) -> Self {
        Self { limit: None, stop }
    }

    /// Whether to go on.
    pub fn go_on(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(Error::Closing) } else { Ok(()) }
    }

    /// Returns when `bytes` may be read.
    pub fn take(&mut self, bytes: u64) -> Result<()> {
        self.go_on()?;
        let Some((bucket, clock)) = &mut self.limit else { return Ok(()) };
        let now_ns = clock.elapsed_ns();
        let until_ns = now_ns.saturating_add(bucket.spend(bytes, now_ns));
        loop {
            let left_ns = until_ns.saturating_sub(clock.elapsed_ns());
            if left_ns == 0 {
                return Ok(());
            }
            clock.wait(left_ns.min(WAIT_NS));
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::Closing);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    const MIB: u64 = 1 << 20;
    const SECOND: u64 = 1_000_000_000;

    /// A clock that only waiting moves.
    #[derive(Default)]
    struct Simulated {
        now_ns: AtomicU64,
        waits: AtomicU64,
        stop_at: Option<u64>,
        stop: AtomicBool,
    }

    impl Clock for Simulated {
        fn elapsed_ns(&self) -> u64 {
            self.now_ns.load(Ordering::SeqCst)
        }
        fn wait(&self, ns: u64) {
            assert!(ns > 0 && ns <= WAIT_NS, "{ns}");
            let now = self.now_ns.fetch_add(ns, Ordering::SeqCst) + ns;
            self.waits.fetch_add(1, Ordering::SeqCst);
            self.stop.store(self.stop_at.is_some_and(|at| now >= at), Ordering::SeqCst);
        }
    }

    #[test]
    fn a_long_run_takes_the_time_that_the_rate_gives_it() {
        let clock = Simulated::default();
        let mut pace = Pace::new(Some(50 * MIB), &clock, &clock.stop);
        (0..250).for_each(|_| pace.take(4 * MIB).unwrap());
        let (now, full) = (clock.elapsed_ns(), 20 * SECOND);
        assert!(now <= full && now >= full - BURST_NS - SECOND / 10, "{now}");
    }

    #[test]
    fn time_that_passed_unused_is_worth_one_burst() {
        let mut bucket = Bucket::new(100);
        assert_eq!(bucket.spend(25, 3600 * SECOND), 0);
        assert_eq!(bucket.spend(100, 3600 * SECOND), 0, "the burst was spent, and nothing more");
        assert_eq!(bucket.spend(1, 3600 * SECOND), SECOND);
    }

    #[test]
    fn without_a_rate_nobody_waits_and_a_stop_ends_a_wait() {
        let clock = Simulated { stop_at: Some(3 * WAIT_NS), ..Simulated::default() };
        let mut free = Pace::unlimited(&clock.stop);
        (0..1000).for_each(|_| free.take(u64::MAX).unwrap());
        assert_eq!(clock.waits.load(Ordering::SeqCst), 0);
        let mut slow = Pace::new(Some(1), &clock, &clock.stop);
        slow.take(MIB).unwrap();
        assert!(matches!(slow.take(1), Err(Error::Closing)));
        assert_eq!(clock.waits.load(Ordering::SeqCst), 3);
        assert!(matches!(free.take(1), Err(Error::Closing)));
    }
}
