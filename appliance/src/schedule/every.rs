//! Intervals: `every 15m`, moments at multiples of a length of time since 1970-01-01T00:00:00Z.
//!
//! Counted from a fixed moment and not from the last run, so they neither drift nor depend on when the daemon was started;
//! days are left to calendar expressions, because a day is not always 24 hours.

use super::Wrong;
use jiff::{SignedDuration, Timestamp};

/// The shortest interval, seconds.
const SECONDS_MIN: i64 = 1;
/// The longest interval, seconds: 100 years.
const SECONDS_MAX: i64 = 100 * 366 * 86_400;

/// So many seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Every(i64);

pub(super) fn parse(text: &str) -> Result<Every, Wrong> {
    let expected = "expected a length such as 15m, 2h or 1h30m: whole seconds, at least one \
                    (units: h, m, s; for days and more, a calendar expression such as daily)";
    let wrong = || Wrong::new(text.len() - text.trim_start().len(), expected);
    let length: SignedDuration = text.trim().parse().map_err(|_| wrong())?;
    let whole = length.subsec_nanos() == 0 && (SECONDS_MIN..=SECONDS_MAX).contains(&length.as_secs());
    if whole { Ok(Every(length.as_secs())) } else { Err(wrong()) }
}

impl Every {
    pub(super) fn next(self, after: Timestamp) -> Option<Timestamp> {
        let second = after.as_second() - i64::from(after.subsec_nanosecond() < 0);
        let next = second.div_euclid(self.0).checked_add(1)?.checked_mul(self.0)?;
        Timestamp::from_second(next).ok()
    }
}
