//! Calendar expressions of systemd.time(7), evaluated over dates and times without a zone.
//!
//! Invariants: years end where systemd's do, in 2199; every search is over fields, largest first, so its cost follows from
//! the calendar and not from the distance in time.

use super::field::Field;
use jiff::civil::{Date, DateTime, Time, Weekday};

/// The years that can be meant.
pub(super) const YEARS: std::ops::RangeInclusive<u32> = 1970..=2199;
/// Microseconds of a second: as fine as expressions are.
pub(super) const SECOND_US: u32 = 1_000_000;

/// What a date and a time must be to be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Calendar {
    /// Monday first.
    pub(super) weekdays: [bool; 7],
    pub(super) year: Field,
    pub(super) month: Field,
    pub(super) day: Field,
    /// Whether days count from the end of the month.
    pub(super) from_end: bool,
    pub(super) hour: Field,
    pub(super) minute: Field,
    /// Microseconds.
    pub(super) second: Field,
}

impl Calendar {
    /// The first that is meant, from this one on.
    pub(super) fn at_least(&self, from: DateTime) -> Option<DateTime> {
        let date = self.date(from.date())?;
        if date == from.date()
            && let Some(time) = self.time(from.time())
        {
            return Some(date.to_datetime(time));
        }
        let date = if date == from.date() { self.date(date.tomorrow().ok()?)? } else { date };
        Some(date.to_datetime(self.time(Time::midnight())?))
    }

    /// Whether the time of day is one among many, rather than a time that is named.
    pub(super) fn is_interval(&self) -> bool {
        [&self.hour, &self.minute, &self.second].into_iter().any(Field::repeats)
    }

    fn date(&self, from: Date) -> Option<Date> {
        let (mut year, mut month, mut day) = (from.year() as u32, from.month() as u32, from.day() as u32);
        loop {
            let found = self.year.at_least(year.max(*YEARS.start()), *YEARS.end())?;
            if found > year {
                (year, month, day) = (found, 1, 1);
            }
            let Some(found) = self.month.at_least(month, 12) else {
                (year, month, day) = (year + 1, 1, 1);
                continue;
            };
            if found > month {
                (month, day) = (found, 1);
            }
            match self.day_in(year, month, day)? {
                Some(date) => return Some(date),
                None => (month, day) = (month + 1, 1),
            }
        }
    }

    /// The first day from this one on in its month; the outer `None` is the end of all dates.
    fn day_in(&self, year: u32, month: u32, mut day: u32) -> Option<Option<Date>> {
        let first = Date::new(year as i16, month as i8, 1).ok()?;
        let days = first.days_in_month() as u32;
        while let Some(found) = self.day(day, days) {
            let date = Date::new(year as i16, month as i8, found as i8).ok()?;
            if self.weekdays[monday_first(date.weekday())] {
                return Some(Some(date));
            }
            day = found + 1;
        }
        Some(None)
    }

    fn day(&self, from: u32, days: u32) -> Option<u32> {
        match self.from_end {
            true => self.day.at_least_from_end(from, days),
            false => self.day.at_least(from, days),
        }
    }

    fn time(&self, from: Time) -> Option<Time> {
        let (hour, minute) = (from.hour() as u32, from.minute() as u32);
        let second = from.second() as u32 * SECOND_US + (from.subsec_nanosecond() as u32).div_ceil(1000);
        let found = self.hour.at_least(hour, 23)?;
        if found == hour
            && let Some((minute, second)) = self.in_hour(minute, second)
        {
            return clock(hour, minute, second);
        }
        let hour = if found == hour { self.hour.at_least(hour + 1, 23)? } else { found };
        let (minute, second) = self.in_hour(0, 0)?;
        clock(hour, minute, second)
    }

    fn in_hour(&self, minute: u32, second: u32) -> Option<(u32, u32)> {
        let found = self.minute.at_least(minute, 59)?;
        if found == minute
            && let Some(second) = self.in_minute(second)
        {
            return Some((minute, second));
        }
        let minute = if found == minute { self.minute.at_least(minute + 1, 59)? } else { found };
        Some((minute, self.in_minute(0)?))
    }

    /// `*` is every second, not every microsecond.
    fn in_minute(&self, second: u32) -> Option<u32> {
        match self.second {
            Field::Any => Some(second.div_ceil(SECOND_US) * SECOND_US).filter(|second| *second < 60 * SECOND_US),
            Field::Parts(_) => self.second.at_least(second, 60 * SECOND_US - 1),
        }
    }
}

pub(super) fn monday_first(day: Weekday) -> usize {
    day.to_monday_zero_offset() as usize
}

fn clock(hour: u32, minute: u32, second_us: u32) -> Option<Time> {
    let (second, us) = (second_us / SECOND_US, second_us % SECOND_US);
    Time::new(hour as i8, minute as i8, second as i8, us as i32 * 1000).ok()
}
