//! Windows: from one time of day to another on some days of the week, in which something may be: `Mon..Fri 08:00..18:00`.
//!
//! `[WEEKDAYS] [HOUR:MINUTE[:SECOND]..HOUR:MINUTE[:SECOND]] [ZONE]`: weekdays as in calendar expressions, all of them when none is
//! named, the whole day when no times are. A window whose end is not after its start (`22:00..06:00`) goes on into the next day, and
//! belongs to the day on which it starts.
//!
//! Invariants: whether a window is open follows from what the clock on the wall shows and from nothing else, so an hour that comes twice
//! counts twice and one that is left out not at all; the end is the first moment that is outside.

use super::calendar::monday_first;
use super::wall::first_shown;
use super::{ScheduleError, Wrong, parse};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use std::fmt;

/// Seconds of a day.
const DAY_S: i64 = 86_400;
/// More windows than this one after the other, without a moment between them, never end.
const CHAIN_MAX: usize = 64;

/// One window.
#[derive(Debug, Clone)]
pub struct Window {
    text: String,
    /// Monday first.
    weekdays: [bool; 7],
    /// Seconds since midnight.
    start_s: i64,
    /// The same, of the next day where it is more than a day.
    end_s: i64,
    zone: TimeZone,
}

impl Window {
    /// Reads a window; without a zone of its own it is about `zone`.
    pub fn parse(text: &str, zone: &TimeZone) -> Result<Self, ScheduleError> {
        Self::read(text.trim(), zone).map_err(|wrong| wrong.of("window", text))
    }

    fn read(text: &str, zone: &TimeZone) -> Result<Self, Wrong> {
        let (rest, own) = parse::split_zone(text)?;
        let (weekdays, at) = parse::weekdays(rest)?;
        let (start_s, end_s) = times(&rest[at..]).map_err(|wrong| wrong.after(at))?;
        let zone = own.unwrap_or_else(|| zone.clone());
        Ok(Self { text: text.to_owned(), weekdays, start_s, end_s, zone })
    }

    /// Whether it is open at this moment.
    pub fn is_open(&self, at: Timestamp) -> bool {
        self.end_of(self.zone.to_datetime(at)).is_some()
    }

    /// The first moment from this one on at which it is open.
    fn opens(&self, from: Timestamp) -> Option<Timestamp> {
        first_shown(&self.zone, from, |shown| self.open_from(shown))
    }

    /// The first moment from this one on at which it is closed.
    fn closes(&self, from: Timestamp) -> Option<Timestamp> {
        first_shown(&self.zone, from, |shown| {
            let ends = std::iter::successors(Some(shown), |time| self.end_of(*time));
            ends.take(CHAIN_MAX).find(|time| self.end_of(*time).is_none())
        })
    }

    /// The end of the stretch that a time is in, if it is in one.
    fn end_of(&self, shown: DateTime) -> Option<DateTime> {
        [0, 1].into_iter().find_map(|back| {
            let (start, end) = self.on_day(shown, -back)?;
            (start <= shown && shown < end).then_some(end)
        })
    }

    fn open_from(&self, shown: DateTime) -> Option<DateTime> {
        let is_open = self.end_of(shown).map(|_| shown);
        is_open
            .or_else(|| (0..8).find_map(|day| self.on_day(shown, day).map(|(start, _)| start).filter(|s| *s >= shown)))
    }

    /// The stretch that starts so many days after a time, if one does.
    fn on_day(&self, shown: DateTime, days: i64) -> Option<(DateTime, DateTime)> {
        let day = shown.date().checked_add(days.days()).ok()?;
        let midnight = day.at(0, 0, 0, 0);
        let time = |seconds| midnight.checked_add(SignedDuration::from_secs(seconds)).ok();
        self.weekdays[monday_first(day.weekday())].then_some((time(self.start_s)?, time(self.end_s)?))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Start and end, seconds.
fn times(text: &str) -> Result<(i64, i64), Wrong> {
    if text.is_empty() {
        return Ok((0, DAY_S));
    }
    let missing = || Wrong::new(text.len(), "expected a start and an end such as 08:00..18:00");
    let (start, end) = text.split_once("..").ok_or_else(missing)?;
    let second = start.len() + 2;
    let (start, end) = (seconds(start)?, seconds(end).map_err(|wrong| wrong.after(second))?);
    match end - start {
        _ if start == DAY_S => Err(Wrong::new(0, "a window starts before 24:00")),
        0 => Err(Wrong::new(second, "it ends when it starts: write 00:00..24:00 for a whole day")),
        1.. => Ok((start, end)),
        _ => Ok((start, end + DAY_S)),
    }
}

/// `HOUR:MINUTE[:SECOND]`, up to 24:00.
fn seconds(text: &str) -> Result<i64, Wrong> {
    let wrong = || Wrong::new(0, format!("{text:?} is no time of day: expected one such as 08:00, up to 24:00"));
    let parts: Vec<&str> = text.split(':').collect();
    let is_number = |part: &&str| (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    if !(2..=3).contains(&parts.len()) || !parts.iter().all(is_number) {
        return Err(wrong());
    }
    let numbers: Vec<i64> = parts.iter().filter_map(|part| part.parse().ok()).collect();
    let second = numbers.get(2).copied().unwrap_or(0);
    let total = numbers[0] * 3600 + numbers[1] * 60 + second;
    if numbers[1] < 60 && second < 60 && total <= DAY_S { Ok(total) } else { Err(wrong()) }
}

/// Windows of which one is enough; without any it is always open.
#[derive(Debug, Clone, Default)]
pub struct Windows(pub Vec<Window>);

impl Windows {
    /// Whether one is open at this moment.
    pub fn is_open(&self, at: Timestamp) -> bool {
        self.0.is_empty() || self.0.iter().any(|window| window.is_open(at))
    }

    /// The first moment from this one on at which one is open; `None` where none ever is again.
    pub fn opens(&self, from: Timestamp) -> Option<Timestamp> {
        match self.0.is_empty() {
            true => Some(from),
            false => self.0.iter().filter_map(|window| window.opens(from)).min(),
        }
    }

    /// The first moment from this one on at which all are closed; `None` where that never comes.
    pub fn closes(&self, from: Timestamp) -> Option<Timestamp> {
        let mut at = from;
        for _ in 0..CHAIN_MAX {
            match self.0.iter().find(|window| window.is_open(at)) {
                Some(window) => at = window.closes(at)?,
                None => return (!self.0.is_empty()).then_some(at),
            }
        }
        None
    }
}

impl fmt::Display for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<&str> = self.0.iter().map(|window| window.text.as_str()).collect();
        f.write_str(&texts.join(", "))
    }
}
