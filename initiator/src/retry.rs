//! Connecting again: which failures that may help against, how often and after how long.
//!
//! Invariants: the number of tries without progress is bounded, and so is the wait before each; what the appliance
//! refused, what is damaged and what failed here is never tried again.

use crate::connection::Unreachable;
use anyhow::Error;
use std::time::Duration;
use tokio::time::error::Elapsed;
use understudy_format::{ErrorKind, FormatError};
use understudy_net::NetError;

/// The first wait of tries without end.
const DELAY: Duration = Duration::from_secs(1);
/// Longest wait before a try.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// Counts tries; see the module documentation.
#[derive(Debug)]
pub struct Tries {
    max: u32,
    first_delay: Duration,
    done: u32,
    /// The furthest block that the appliance had.
    furthest: u64,
}

/// The next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Try {
    /// From 1.
    pub number: u32,
    /// To be waited before it.
    pub delay: Duration,
}

impl Tries {
    /// At most `max` tries in a row without progress, the first after `first_delay`.
    pub fn new(max: u32, first_delay: Duration) -> Self {
        Self { max, first_delay, done: 0, furthest: 0 }
    }

    /// How many there may be.
    pub fn max(&self) -> u32 {
        self.max
    }

    /// The next try; `None` when there were enough.
    pub fn next_try(&mut self) -> Option<Try> {
        let doubled = 1u32.checked_shl(self.done).unwrap_or(u32::MAX);
        let delay = self.first_delay.saturating_mul(doubled).min(DELAY_MAX);
        self.done = (self.done < self.max).then_some(self.done + 1)?;
        Some(Try { number: self.done, delay })
    }

    /// The appliance has everything before this block: when that is more than ever, all tries are there again.
    pub fn came_to(&mut self, next_block: u64) {
        if next_block > self.furthest {
            (self.furthest, self.done) = (next_block, 0);
        }
    }
}

/// The wait before a try, after so many, where there is no end of them: twice as long with each, up to a maximum; between half of that and all of
/// it, so never the same for two hosts.
pub fn endless(tries: u32, random: u64, max: Duration) -> Duration {
    let longest = DELAY.min(max).saturating_mul(1u32.checked_shl(tries).unwrap_or(u32::MAX)).min(max);
    let half = longest / 2;
    half + half.mul_f64(random as f64 / u64::MAX as f64)
}

/// Whether the connection is what failed, so that another one may help.
pub fn may_help(error: &Error) -> bool {
    error.chain().any(|cause| match cause.downcast_ref::<NetError>() {
        // The connection ended within a frame.
        Some(NetError::Format(FormatError::Truncated { what: "frame", .. })) => true,
        Some(net) => matches!(net.kind(), ErrorKind::Retry | ErrorKind::Closed),
        None => cause.is::<Unreachable>() || cause.is::<Elapsed>(),
    })
}

/// Whether the appliance said that it is not possible just now: another stream into the volume, mostly one whose
/// initiator is gone.
pub fn is_busy(error: &Error) -> bool {
    let net = error.chain().find_map(|cause| cause.downcast_ref::<NetError>());
    net.is_some_and(|net| net.kind() == ErrorKind::Retry)
}

/// Whether it is here that something failed, so that the appliance does not know of it.
pub fn is_own(error: &Error) -> bool {
    !may_help(error) && error.chain().all(|cause| !cause.is::<NetError>())
}

/// Whether the appliance said that the very stream is wrong: it is of no use to go on with it.
pub fn is_void(error: &Error) -> bool {
    let kinds = error.chain().filter_map(|cause| cause.downcast_ref::<NetError>()).map(NetError::kind);
    !may_help(error) && kinds.into_iter().any(|kind| matches!(kind, ErrorKind::Refused | ErrorKind::Corrupt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_end() {
        let mut tries = Tries::new(9, Duration::from_secs(1));
        let waits: Vec<u64> = std::iter::from_fn(|| tries.next_try()).map(|next| next.delay.as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(tries.next_try(), None);
        let mut many = Tries::new(u32::MAX, Duration::from_secs(1));
        assert_eq!((0..100).filter_map(|_| many.next_try()).last().unwrap().delay, DELAY_MAX);
        assert_eq!(Tries::new(0, Duration::from_secs(1)).next_try(), None);
    }

    #[test]
    fn endless_waits_double_up_to_the_maximum_and_are_spread() {
        let max = Duration::from_secs(60);
        let longest: Vec<u64> = (0..9).map(|tries| endless(tries, u64::MAX, max).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(endless(u32::MAX, 0, max), Duration::from_secs(30));
        assert_eq!(endless(0, 0, max), Duration::from_millis(500));
        assert_eq!(endless(5, u64::MAX, Duration::from_millis(100)), Duration::from_millis(100));
    }

    #[test]
    fn progress_gives_all_tries_back_and_standing_still_does_not() {
        let mut tries = Tries::new(2, Duration::ZERO);
        tries.came_to(5);
        assert_eq!(tries.next_try().unwrap().number, 1);
        tries.came_to(5);
        assert_eq!(tries.next_try().unwrap().number, 2);
        tries.came_to(4);
        assert_eq!(tries.next_try(), None);
        tries.came_to(6);
        assert_eq!(tries.next_try().unwrap().number, 1);
    }

    #[test]
    fn only_lost_connections_are_tried_again() {
        let remote = |kind| Error::new(NetError::Remote { kind, text: String::new() }).context("appliance");
        let io = |kind| std::io::Error::from(kind);
        let reset = Error::new(NetError::Io(io(std::io::ErrorKind::ConnectionReset))).context("appliance");
        let cut = FormatError::Truncated { what: "frame", needed: 5, found: 1 };
        for (error, helps, void, busy) in [
            (reset, true, false, false),
            (Error::new(NetError::Closed("x")), true, false, false),
            (Error::new(NetError::Format(cut)), true, false, false),
            (Error::new(NetError::Silent { seconds: 1 }), true, false, false),
            (remote(ErrorKind::Retry), true, false, true),
            (remote(ErrorKind::Closed), true, false, false),
            (remote(ErrorKind::Full), false, false, false),
            (remote(ErrorKind::Bug), false, false, false),
            (remote(ErrorKind::Group), false, false, false),
            (remote(ErrorKind::Refused), false, true, false),
            (remote(ErrorKind::Corrupt), false, true, false),
            (Error::new(io(std::io::ErrorKind::UnexpectedEof)).context("source"), false, false, false),
        ] {
            assert_eq!((may_help(&error), is_void(&error), is_busy(&error)), (helps, void, busy), "{error:?}");
            assert_eq!(is_own(&error), error.to_string() == "source", "{error:?}");
        }
    }
}
