//! How people name a point: `NAME`, `NAME@3`, `NAME@latest`, `NAME@label`, `NAME@2026-11-21T10:00`,
//! `NAME@now`.
//!
//! A pure function from text and points to a point; the time zone is passed in. What the choice
//! means: numbers and labels name one point or none (of several points with the same label the newest);
//! a time names the newest point at or before it, where a second without a fraction means all of that second.

use crate::error::{FormatError, Result};
use crate::point::{Label, Point, VolumeName};
use crate::text::exact_time;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use std::fmt;

/// One point of a volume, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The newest point.
    Latest,
    /// The newest moment: what a journal has after the newest point included.
    Now,
    /// By its number.
    Number(u64),
    /// The newest with this label.
    Label(Label),
    /// The newest at or before this time, nanoseconds since 1970-01-01T00:00:00Z; and the text it came from.
    AtOrBefore(i64, String),
}

/// A volume and one of its points, as asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointName {
    /// The volume.
    pub volume: VolumeName,
    /// The point.
    pub selector: Selector,
}

impl PointName {
    /// Reads `NAME` or `NAME@POINT`; times without an offset are in `zone`.
    pub fn parse(text: &str, zone: &TimeZone) -> Result<Self> {
        let (name, selector) = text.split_once('@').unwrap_or((text, "latest"));
        Ok(Self { volume: name.parse()?, selector: Selector::parse(selector, zone)? })
    }
}

impl PointName {
    /// What names this point, or this moment, again: its number, or its exact time.
    pub fn of(volume: &VolumeName, point: &Point) -> Self {
        let selector = match point.recorded() {
            Some(number) => Selector::Number(number),
            None => Selector::AtOrBefore(point.created_ns, exact_time(point.created_ns)),
        };
        Self { volume: volume.clone(), selector }
    }
}

impl fmt::Display for PointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.volume, self.selector)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Now => f.write_str("now"),
            Self::Number(number) => number.fmt(f),
            Self::Label(label) => f.write_str(label.as_str()),
            Self::AtOrBefore(_, text) => f.write_str(text),
        }
    }
}

impl Selector {
    /// Reads the part after the `@`.
    pub fn parse(text: &str, zone: &TimeZone) -> Result<Self> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        if text == "now" {
            return Ok(Self::Now);
        }
        if let (true, Ok(number)) = (text.bytes().all(|byte| byte.is_ascii_digit()), text.parse()) {
            return Ok(Self::Number(number));
        }
        if let Ok(label) = text.parse() {
            return Ok(Self::Label(label));
        }
        let ns = parse_time(text, zone).ok_or_else(|| {
            let expected = "expected a number, \"latest\", \"now\", a label, or a time such as 2026-11-21T10:00";
            FormatError::invalid("point", format!("{text:?}: {expected}"))
        })?;
        Ok(Self::AtOrBefore(ns, text.to_owned()))
    }

    /// The time that is asked for, where a second without a fraction means all of it; `None` of what names one point.
    pub fn at_or_before(&self) -> Option<i64> {
        match self {
            Self::Now => Some(i64::MAX),
            Self::AtOrBefore(ns, text) => Some(last_ns(*ns, text)),
            Self::Latest | Self::Number(_) | Self::Label(_) => None,
        }
    }

    /// The point that is meant, out of all points of the volume in ascending order; moments between them are not looked at.
    pub fn find<'a>(&self, points: &'a [Point]) -> Option<&'a Point> {
        let mut newest_first = points.iter().rev();
        match self {
            Self::Latest | Self::Now => newest_first.next(),
            Self::Number(number) => newest_first.find(|point| point.number == *number),
            Self::Label(label) => newest_first.find(|point| point.label.as_ref() == Some(label)),
            Self::AtOrBefore(ns, text) => newest_first.find(|point| point.created_ns <= last_ns(*ns, text)),
        }
    }
}

/// People are shown points by the second: one without a fraction means all of it, so that what is shown can be typed.
fn last_ns(ns: i64, text: &str) -> i64 {
    let is_exact = text.contains(['.', ',']);
    if is_exact { ns } else { ns.saturating_add(999_999_999) }
}

/// A date, or a date and time of day, with or without an offset. A time without seconds means its first moment.
///
/// A zone in brackets is refused: a civil time would be read without it, in another zone.
fn parse_time(text: &str, zone: &TimeZone) -> Option<i64> {
    if text.contains('[') {
        return None;
    }
    let timestamp = match text.parse::<jiff::Timestamp>() {
        Ok(timestamp) => timestamp,
        Err(_) => zone.to_timestamp(text.parse::<DateTime>().ok()?).ok()?,
    };
    // Clocks of points end in 2262: a later time is after all of them, an earlier one before.
    let ns = timestamp.as_nanosecond().clamp(i64::MIN.into(), i64::MAX.into());
    i64::try_from(ns).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_numbers_and_bracketed_zones_are_no_selectors() {
        for text in ["+5", "-5", "2026-11-21T10:00[Europe/Berlin]", "2026-11-21T10:00+01:00[Europe/Berlin]"] {
            let expected = "expected a number, \"latest\", \"now\", a label, or a time such as 2026-11-21T10:00";
            let error = FormatError::invalid("point", format!("{text:?}: {expected}"));
            assert_eq!(Selector::parse(text, &TimeZone::UTC), Err(error));
        }
    }

    #[test]
    fn a_second_is_all_of_it_and_a_fraction_is_exact() {
        let last_ns = |text: &str| Selector::parse(text, &TimeZone::UTC).unwrap().at_or_before().unwrap();
        let second = 1_795_255_203_000_000_000;
        assert_eq!(last_ns("2026-11-21T10:00:03"), second + 999_999_999);
        assert_eq!(last_ns("2026-11-21T10:00:03.0"), second);
        assert_eq!(last_ns("2026-11-21T10:00:03.250Z"), second + 250_000_000);
        assert_eq!(last_ns("2026-11-21T11:00:03,25+01:00"), second + 250_000_000);
        assert_eq!(last_ns("now"), i64::MAX);
    }
}
