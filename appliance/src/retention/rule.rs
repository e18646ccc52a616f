//! The rules that count points, and the periods that they count: moments, hours, days, ISO weeks, months, years.
//!
//! A period is what a clock on the wall of a time zone shows. An hour is told by its offset too: when the clocks go
//! back, the hour that occurs twice is two hours; the hour that is left out in spring has no points and is none.

use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use std::fmt;

/// A rule of a policy: the newest point of each of the last so many periods is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Each point is a period of its own.
    Last,
    /// Hours of the clock.
    Hourly,
    /// Days.
    Daily,
    /// ISO weeks, from Monday; one that spans two years belongs to one of them.
    Weekly,
    /// Months.
    Monthly,
    /// Years.
    Yearly,
}

impl Rule {
    /// All, in the order in which they are applied.
    pub const ALL: [Self; 6] = [Self::Last, Self::Hourly, Self::Daily, Self::Weekly, Self::Monthly, Self::Yearly];

    /// The period of the point at place `index`, taken at `local`.
    pub(super) fn period(self, index: usize, local: &Local) -> Period {
        let date = local.time.date();
        match self {
            Self::Last => Period::Point(index),
            Self::Hourly => Period::Hour(date, local.time.hour(), local.offset),
            Self::Daily => Period::Day(date),
            Self::Weekly => Period::Week(date.iso_week_date().year(), date.iso_week_date().week()),
            Self::Monthly => Period::Month(date.year(), date.month()),
            Self::Yearly => Period::Year(date.year()),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Last => "last",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        })
    }
}

/// What a clock on the wall showed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Local {
    time: DateTime,
    offset: Offset,
}

impl Local {
    /// At `ns` nanoseconds since 1970-01-01T00:00:00Z.
    pub fn new(ns: i64, zone: &TimeZone) -> Self {
        let timestamp = super::timestamp(ns);
        let offset = zone.to_offset(timestamp);
        Self { time: offset.to_datetime(timestamp), offset }
    }
}

/// A period that a rule counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Period {
    /// The place of the point among those that are planned for.
    Point(usize),
    Hour(Date, i8, Offset),
    Day(Date),
    /// ISO year and week.
    Week(i16, i8),
    Month(i16, i8),
    Year(i16),
}

/// The name of the period after a blank; nothing for a single point.
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Point(_) => Ok(()),
            Self::Hour(date, hour, offset) => write!(f, " {date} {hour:02}h {offset}"),
            Self::Day(date) => write!(f, " {date}"),
            Self::Week(year, week) => write!(f, " {year}-W{week:02}"),
            Self::Month(year, month) => write!(f, " {year}-{month:02}"),
            Self::Year(year) => write!(f, " {year}"),
        }
    }
}
