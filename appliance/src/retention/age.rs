//! How old a point may or must be: a length of time as people write it, counted on the calendar of a time zone.
//!
//! The grammar, which leaves nothing to guess:
//! - `1y6mo2w3d12h30min10s`: numbers with units, each unit at most once, the largest first, no spaces;
//! - `m` means months, as it does for restic, and only beside `y`, `w` or `d`; `30m` alone could be either: refused;
//! - `P1Y6M2W3DT12H30M10S`: the same as an ISO 8601 duration, where the `T` tells months from minutes.
//!
//! Invariants: an age is longer than nothing and fits jiff's ranges, so arithmetic with it cannot fail; what is printed
//! reads back as the same age. Units are never converted into one another here: a day is what the calendar says it is.

use crate::error::{Error, Result};
use jiff::tz::TimeZone;
use jiff::{Span, SpanFieldwise};
use std::fmt;
use std::str::FromStr;

/// The units, largest first.
const UNITS: [&str; 7] = ["y", "mo", "w", "d", "h", "min", "s"];
/// The designators of an ISO 8601 duration before its `T`; at the place of the same unit in [`UNITS`].
const ISO_DATE: [&str; 7] = ["Y", "M", "W", "D", "", "", ""];
/// The designators after the `T`.
const ISO_TIME: [&str; 7] = ["", "", "", "", "H", "M", "S"];

/// A length of time such as `7d` or `1y6mo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Age(SpanFieldwise);

impl Age {
    /// The time that lies this long before `ns` on the calendar of `zone`; both in nanoseconds since
    /// 1970-01-01T00:00:00Z, clamped to what an `i64` of them can say (1677 to 2262).
    pub fn before(&self, ns: i64, zone: &TimeZone) -> i64 {
        let then = super::timestamp(ns).to_zoned(zone.clone()).saturating_sub(self.0.0);
        let ns = then.timestamp().as_nanosecond().clamp(i64::MIN.into(), i64::MAX.into());
        i64::try_from(ns).unwrap_or(i64::MIN)
    }

    /// As an ISO 8601 duration, as settings store it.
    pub fn iso(&self) -> String {
        self.0.0.to_string()
    }

    /// From one number for each of [`UNITS`]; nothing if it is nothing, or longer than jiff's ranges.
    fn new(amounts: [u32; 7]) -> Option<Self> {
        let [years, months, weeks, days, hours, minutes, seconds] = amounts;
        let date = Span::new().try_years(years).ok()?.try_months(months).ok()?.try_weeks(weeks).ok()?;
        let span = date.try_days(days).ok()?.try_hours(hours).ok()?.try_minutes(minutes).ok()?;
        let span = span.try_seconds(seconds).ok()?;
        (!span.is_zero()).then_some(Self(span.fieldwise()))
    }

    fn amounts(&self) -> [i64; 7] {
        let span = self.0.0;
        let [years, months, weeks] = [span.get_years().into(), span.get_months().into(), span.get_weeks().into()];
        let [days, hours] = [span.get_days().into(), span.get_hours().into()];
        [years, months, weeks, days, hours, span.get_minutes(), span.get_seconds()]
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.amounts().into_iter().zip(UNITS).filter(|(amount, _)| *amount != 0);
        parts.into_iter().try_for_each(|(amount, unit)| write!(f, "{amount}{unit}"))
    }
}

impl FromStr for Age {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let amounts = match text.strip_prefix('P') {
            Some(duration) => parse_iso(duration),
            None => parse_units(text),
        };
        amounts.and_then(Self::new).ok_or_else(|| {
            Error::refused(format!(
                "{text:?} is no length of time: expected numbers with units, largest first, such as 7d, 36h or 1y6mo \
                 (units: y, mo for months, w, d, h, min for minutes, s; m means months and only beside y, w or d), \
                 or an ISO 8601 duration such as P1Y6M; longer than nothing and at most 19998 years"
            ))
        })
    }
}

fn parse_units(text: &str) -> Option<[u32; 7]> {
    let mut parts = split(text)?;
    let beside_dates = parts.iter().any(|(_, unit)| ["y", "w", "d"].contains(unit));
    let months = parts.iter_mut().filter(|(_, unit)| *unit == "m" && beside_dates);
    months.for_each(|(_, unit)| *unit = "mo");
    place(&parts, &UNITS)
}

fn parse_iso(text: &str) -> Option<[u32; 7]> {
    let Some((date, time)) = text.split_once('T') else { return place(&split(text)?, &ISO_DATE) };
    let time = place(&split(time)?, &ISO_TIME)?;
    let date = if date.is_empty() { [0; 7] } else { place(&split(date)?, &ISO_DATE)? };
    Some(std::array::from_fn(|unit| date[unit] + time[unit]))
}

/// Cuts `1y6mo` into `(1, "y")`, `(6, "mo")`; at least one, each of a number and a unit.
fn split(text: &str) -> Option<Vec<(u32, &str)>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() || parts.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        parts.push((number.parse().ok()?, unit));
        rest = tail;
    }
    Some(parts)
}

/// One number for each unit, where the parts name units in descending order, so none twice.
fn place(parts: &[(u32, &str)], units: &[&str; 7]) -> Option<[u32; 7]> {
    let mut amounts = [0; 7];
    let mut next = 0;
    for (amount, name) in parts {
        let unit = next + units[next..].iter().position(|unit| unit == name)?;
        amounts[unit] = *amount;
        next = unit + 1;
    }
    Some(amounts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use proptest::prelude::*;
    use understudy_format::catalogue::SPAN_MAX;

    #[track_caller]
    fn reads(text: &str, canonical: &str) {
        let age: Age = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(age.to_string(), canonical);
        assert_eq!(canonical.parse::<Age>().unwrap(), age, "{canonical} reads back");
    }

    #[test]
    fn reads_units_and_iso_durations() {
        for (text, canonical) in [
            ("7d", "7d"),
            ("36h", "36h"),
            ("2w", "2w"),
            ("90min", "90min"),
            ("5s", "5s"),
            ("6mo", "6mo"),
            ("1y6m", "1y6mo"),
            ("6m2w", "6mo2w"),
            ("2y5m7d3h", "2y5mo7d3h"),
            ("1y0mo3d", "1y3d"),
            ("P1Y6M", "1y6mo"),
            ("P2W", "2w"),
            ("PT36H", "36h"),
            ("PT5M", "5min"),
            ("P1Y2M3W4DT5H6M7S", "1y2mo3w4d5h6min7s"),
        ] {
            reads(text, canonical);
        }
    }

    #[test]
    fn refuses_what_could_mean_two_things_or_nothing() {
        let bad = [
            "",
            "7",
            "d",
            "0d",
            "30m",
            "6m12h",
            "d7",
            "1d1d",
            "1d1y",
            "1d6m",
            "1y6mo3m",
            "1y 6mo",
            " 1d",
            "1d ",
            "-1d",
            "+1d",
            "1.5d",
            "1D",
            "1hour",
            "1days",
            "P",
            "PT",
            "P1YT",
            "PT1Y",
            "P1H",
            "P1M1Y",
            "p1y",
            "P0D",
            "-P1D",
            "99999y",
            "4294967296s",
            "99999999999999999999d",
            "1ü",
            "ü",
            "1d\0",
        ];
        for text in bad {
            let error = text.parse::<Age>().expect_err(text);
            let start =
                format!("{text:?} is no length of time: expected numbers with units, largest first, such as 7d");
            assert!(error.to_string().starts_with(&start), "{error}");
        }
    }

    #[test]
    fn counts_on_the_calendar() {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let before = |age: &str, from: &str| {
            let from: Timestamp = from.parse().unwrap();
            let ns = age.parse::<Age>().unwrap().before(i64::try_from(from.as_nanosecond()).unwrap(), &berlin);
            Timestamp::from_nanosecond(ns.into()).unwrap().to_string()
        };
        // The clocks went forward on 2026-03-29: the day before noon of that day is 23 hours long.
        assert_eq!(before("1d", "2026-03-29T10:00:00Z"), "2026-03-28T11:00:00Z");
        assert_eq!(before("24h", "2026-03-29T10:00:00Z"), "2026-03-28T10:00:00Z");
        assert_eq!(before("1mo", "2026-03-31T10:00:00Z"), "2026-02-28T11:00:00Z");
        assert_eq!(before("1y", "2024-02-29T10:00:00Z"), "2023-02-28T10:00:00Z");
    }

    #[test]
    fn the_longest_fits_into_settings() {
        let longest = "19998y239976mo1043497w7304484d175307616h4294967295min4294967295s";
        let age: Age = longest.parse().unwrap();
        assert_eq!(age.to_string(), longest);
        assert!(age.iso().len() <= SPAN_MAX, "{}", age.iso());
        assert_eq!(age.iso().parse::<Age>().unwrap(), age);
    }

    #[test]
    fn clamps_at_the_ends_of_time() {
        let age: Age = "19998y".parse().unwrap();
        for ns in [i64::MIN, 0, i64::MAX] {
            assert_eq!(age.before(ns, &TimeZone::UTC), i64::MIN);
        }
    }

    proptest! {
        #[test]
        fn reads_back_what_it_prints(amounts in prop::array::uniform7(0..2000_u32)) {
            prop_assume!(amounts != [0; 7]);
            let age = Age::new(amounts).unwrap();
            prop_assert_eq!(age.to_string().parse::<Age>().unwrap(), age);
            prop_assert_eq!(age.iso().parse::<Age>().unwrap(), age);
        }

        #[test]
        fn never_panics(text in "P?[0-9]{0,12}[ymowdhinsTYMWDHS]{0,3}[0-9]{0,3}.{0,4}", ns: i64) {
            if let Ok(age) = text.parse::<Age>() {
                prop_assert!(age.before(ns, &TimeZone::UTC) <= ns);
            }
        }
    }
}
