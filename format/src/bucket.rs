//! Keeping to a rate: a token bucket, without a clock.
//!
//! Invariant: over any span of time no more is spent than the rate allows, but for a burst at its beginning and the debt of
//! the last lump.

/// How much may be spent at once before the rate counts: the worth of this many nanoseconds.
const BURST_NS: u64 = 250_000_000;
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

    /// Spends `bytes` at the moment `now_ns`; returns the nanoseconds to wait before they move.
    pub fn spend(&mut self, bytes: u64, now_ns: u64) -> u64 {
        let cost_ns = (u128::from(bytes) * SECOND_NS).div_ceil(self.rate.into());
        let wait_ns = self.paid_ns.saturating_sub(now_ns);
        let start_ns = self.paid_ns.max(now_ns.saturating_sub(BURST_NS));
        self.paid_ns = start_ns.saturating_add(u64::try_from(cost_ns).unwrap_or(u64::MAX));
        wait_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn time_that_passed_unused_is_worth_one_burst() {
        let mut bucket = Bucket::new(100);
        assert_eq!(bucket.spend(25, 3600 * SECOND), 0);
        assert_eq!(bucket.spend(100, 3600 * SECOND), 0, "the burst was spent, and nothing more");
        assert_eq!(bucket.spend(1, 3600 * SECOND), SECOND);
    }

    /// Whatever the lumps and however long the spender is busy elsewhere: never ahead of the rate, and not behind it either.
    #[test]
    fn lumps_of_any_size_keep_to_the_rate() {
        const RATE: u64 = 1 << 20;
        for lump in [1000, 65_536, 3 << 20] {
            let (mut bucket, mut now_ns, mut spent) = (Bucket::new(RATE), 0, 0);
            while now_ns < 100 * SECOND {
                now_ns += bucket.spend(lump, now_ns) + 1_000;
                spent += lump;
                let allowed = (u128::from(RATE) * u128::from(now_ns + BURST_NS) / SECOND_NS) as u64;
                assert!(spent <= allowed + lump, "{spent} of {allowed} after {now_ns} ns");
            }
            assert!(spent >= 99 * RATE, "{spent} in lumps of {lump}");
        }
    }
}
