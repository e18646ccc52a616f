//! Keeping to a rate, and ending when that is asked for.
//!
//! Invariants: what is read keeps to the rate ([`Bucket`]); the time is passed in; a wait ends within a tenth of a second after a stop was asked for.

use crate::clock::Clock;
use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use understudy_format::bucket::Bucket;

/// How long nobody looks whether to stop, nanoseconds.
const WAIT_NS: u64 = 100_000_000;

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
        assert!(now <= full && now >= full - SECOND, "{now}");
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
