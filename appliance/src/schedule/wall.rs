//! From what the clock on the wall shows to moments, where clocks are put forward and back.
//!
//! - A schedule that names its times of day (`02:30`, `30 2 * * *`) means each of them once: one that is left out when the
//!   clocks go forward is the moment right after the gap, one that comes twice is the first of the two. So does Vixie's cron: jobs
//!   of "the time that was skipped will be run soon after the change", those of "the repeated time will not be re-run" (cron(8)).
//!   systemd.time(7) is silent; systemd 252 passes over the day on which the time does not exist.
//! - One that goes through hours, minutes or seconds (with `*` or `/` there) goes on with the clock: every moment at which
//!   the clock shows one of its times, so nothing is made up for after a gap, and an hour that comes twice counts
//!   twice. So does Vixie's cron with a `*` in hour or minute; systemd 252 pauses for the second of the two hours.

use super::Wall;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

/// As fine as expressions are.
const STEP: SignedDuration = SignedDuration::from_micros(1);

impl Wall {
    /// The first that is meant, from this one on.
    fn at_least(&self, from: DateTime) -> Option<DateTime> {
        match self {
            Self::Calendar(calendar) => calendar.at_least(from),
            Self::Cron(cron) => cron.at_least(from),
        }
    }

    fn is_interval(&self) -> bool {
        match self {
            Self::Calendar(calendar) => calendar.is_interval(),
            Self::Cron(cron) => cron.is_interval(),
        }
    }

    pub(super) fn next(&self, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        if self.is_interval() { self.next_shown(zone, after) } else { self.next_named(zone, after) }
    }

    /// Each time of the wall clock once. Moments never go back while those times go forward, so the first that is later will do.
    fn next_named(&self, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        let mut from = zone.to_datetime(after);
        loop {
            let time = self.at_least(from)?;
            let moment = once(zone, time)?;
            if moment > after {
                return Some(moment);
            }
            from = time.checked_add(STEP).ok()?;
        }
    }

    /// Each moment at which the wall clock shows such a time.
    fn next_shown(&self, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        first_shown(zone, after.checked_add(STEP).ok()?, |from| self.at_least(from))
    }
}

/// The first moment from this one on at which the wall clock shows what `at_least` finds from a time on: stretch by stretch between
/// changes of the clock.
pub(super) fn first_shown(
    zone: &TimeZone,
    mut from: Timestamp,
    at_least: impl Fn(DateTime) -> Option<DateTime>,
) -> Option<Timestamp> {
    loop {
        let time = at_least(zone.to_datetime(from))?;
        let moment = zone.to_offset(from).to_timestamp(time).ok()?;
        match zone.following(from).next().map(|change| change.timestamp()) {
            Some(change) if change <= moment => from = change,
            _ => return Some(moment.max(from)),
        }
    }
}

/// The moment of a time: the first of two, or right after the gap that it is in.
fn once(zone: &TimeZone, time: DateTime) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(time);
    if !matches!(ambiguous.offset(), jiff::tz::AmbiguousOffset::Gap { .. }) {
        return ambiguous.earlier().ok();
    }
    // Read with the offset from after the gap, the time lies before it; the gap is the next change.
    let before = ambiguous.earlier().ok()?.checked_sub(1.second()).ok()?;
    zone.following(before).next().map(|change| change.timestamp())
}
