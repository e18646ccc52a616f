//! How far the appliance is behind: the delay from an entry to its being durable there, as it was achieved.
//!
//! Invariant: only what was durable counts as achieved; what still travels is the caller's to add.

use std::collections::VecDeque;
use std::time::Duration;

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Lag {
    /// The last entry of what was sent and when its first one was written, ascending.
    sent: VecDeque<(u64, i64)>,
    worst: Duration,
}

impl Lag {
    /// A session begins: what is not durable is sent again.
    pub fn begin(&mut self) {
        self.sent.clear();
    }

    /// Entries up to `through` were sent, of which the first was written at `oldest_ns`.
    pub fn sent(&mut self, through: u64, oldest_ns: i64) {
        self.sent.push_back((through, oldest_ns));
    }

    /// All entries up to `through` are durable now.
    pub fn durable(&mut self, through: u64, now_ns: i64) {
        while let Some((_, oldest_ns)) = self.sent.pop_front_if(|(last, _)| *last <= through) {
            self.worst = self.worst.max(since(oldest_ns, now_ns));
        }
    }

    /// The longest delay since this was asked last.
    pub fn take_worst(&mut self) -> Duration {
        std::mem::take(&mut self.worst)
    }
}

/// How long ago something was; nothing when clocks went back.
pub fn since(then_ns: i64, now_ns: i64) -> Duration {
    Duration::from_nanos(now_ns.saturating_sub(then_ns).max(0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_delay_is_told_once() {
        let mut lag = Lag::default();
        lag.sent(5, 1_000);
        lag.sent(9, 7_000);
        lag.durable(5, 3_000);
        assert_eq!((lag.take_worst(), lag.take_worst()), (Duration::from_nanos(2_000), Duration::ZERO));
        lag.durable(9, 6_000);
        assert_eq!(lag.take_worst(), Duration::ZERO);
    }

    #[test]
    fn what_is_sent_again_counts_from_when_it_was_written() {
        let mut lag = Lag::default();
        lag.sent(5, 1_000);
        lag.begin();
        lag.sent(3, 1_000);
        lag.durable(9, 11_000);
        assert_eq!(lag.take_worst(), Duration::from_nanos(10_000));
    }
}
