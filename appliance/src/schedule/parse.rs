//! Reading calendar expressions: `[WEEKDAYS] [[YEAR-]MONTH-DAY] [HOUR:MINUTE[:SECOND]] [ZONE]`, or a name such as `daily`.
//!
//! The grammar and its limits are systemd's (systemd.time(7), "Calendar events"). It refuses some lists of days from the end of a month
//! (`*~2,27`) and ranges of one second (`0:0:5..5`) that its manual allows: they are read here.

use super::Wrong;
use super::calendar::{Calendar, SECOND_US, YEARS};
use super::field::{Field, Part};
use jiff::tz::TimeZone;

/// systemd's names for whole expressions.
const NAMES: [(&str, &str); 10] = [
    ("minutely", "*-*-* *:*:00"),
    ("hourly", "*-*-* *:00:00"),
    ("daily", "*-*-* 00:00:00"),
    ("weekly", "Mon *-*-* 00:00:00"),
    ("monthly", "*-*-01 00:00:00"),
    ("quarterly", "*-01,04,07,10-01 00:00:00"),
    ("semiannually", "*-01,07-01 00:00:00"),
    ("yearly", "*-01-01 00:00:00"),
    ("annually", "*-01-01 00:00:00"),
    ("anually", "*-01-01 00:00:00"),
];
const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
/// Days that can be counted from the end of every month.
const FROM_END_MAX: u32 = 28;

pub(super) fn calendar(text: &str) -> Result<(Calendar, Option<TimeZone>), Wrong> {
    let (expression, zone) = split_zone(text)?;
    let name = NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(expression));
    // The names are right: an error can only be in what was written out.
    let calendar = Scanner { text: name.map_or(expression, |(_, long)| long), at: 0 }.calendar()?;
    Ok((calendar, zone))
}

/// The weekdays at the start of an expression, and how many bytes they take with the blanks after them.
pub(super) fn weekdays(text: &str) -> Result<([bool; 7], usize), Wrong> {
    let mut scanner = Scanner { text, at: 0 };
    let days = scanner.weekdays()?;
    Ok((days, scanner.at))
}

/// A last word that starts with a letter, and is not the only one, names a time zone.
pub(super) fn split_zone(text: &str) -> Result<(&str, Option<TimeZone>), Wrong> {
    let Some((rest, last)) = text.rsplit_once(' ') else { return Ok((text, None)) };
    if !last.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Ok((text, None));
    }
    let zone = super::zone(last, text.len() - last.len())?;
    Ok((rest.trim_end(), Some(zone)))
}

/// What a component is called, its smallest and its largest value.
#[derive(Clone, Copy, PartialEq)]
struct Unit(&'static str, u32, u32);

const YEAR: Unit = Unit("years", *YEARS.start(), *YEARS.end());
const MONTH: Unit = Unit("months", 1, 12);
const DAY: Unit = Unit("days", 1, 31);
const DAY_FROM_END: Unit = Unit("days from the end of a month", 1, FROM_END_MAX);
const HOUR: Unit = Unit("hours", 0, 23);
const MINUTE: Unit = Unit("minutes", 0, 59);
const SECOND: Unit = Unit("seconds", 0, 60 * SECOND_US - 1);

/// A component as it was written: what it means depends on what follows it.
struct Written {
    at: usize,
    field: Field,
}

impl Written {
    fn check(self, unit: Unit) -> Result<Field, Wrong> {
        let Unit(name, min, max) = unit;
        let scale = if max > YEAR.2 { SECOND_US } else { 1 };
        let Field::Parts(parts) = &self.field else { return Ok(self.field) };
        for part in parts {
            let inside = |value: u32| (min..=max).contains(&value);
            if !inside(part.start) || !part.end.is_none_or(inside) {
                return Err(Wrong::new(self.at, format!("{name} are {min} to {}", max / scale)));
            }
            // From the end of a month, repetitions go down to its last day.
            let second = match unit == DAY_FROM_END {
                true => part.start.checked_sub(part.step),
                false => part.start.checked_add(part.step),
            };
            if part.end.is_none() && !second.is_some_and(inside) {
                let reason = format!("{name} are {min} to {}: this never repeats", max / scale);
                return Err(Wrong::new(self.at, reason));
            }
        }
        Ok(self.field)
    }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl Scanner<'_> {
    fn calendar(mut self) -> Result<Calendar, Wrong> {
        if self.text.is_empty() {
            return Err(
                self.wrong("expected a calendar expression such as Mon..Fri 02:00 or daily, cron, or every 15m")
            );
        }
        let weekdays = self.weekdays()?;
        let [mut year, mut month, mut day] = [Field::Any, Field::Any, Field::Any];
        let mut from_end = false;
        if self.has_date() {
            (year, month, day, from_end) = self.date()?;
            self.blanks();
        }
        let [hour, minute, second] = self.time()?;
        // Every day counts, wherever it is counted from.
        let from_end = from_end && day != Field::Any;
        Ok(Calendar { weekdays, year, month, day, from_end, hour, minute, second })
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn wrong(&self, reason: impl Into<String>) -> Wrong {
        Wrong::new(self.at, reason)
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    fn blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start_matches(' ').len();
    }

    /// All of them when none is named.
    fn weekdays(&mut self) -> Result<[bool; 7], Wrong> {
        let starts = |rest: &str| rest.starts_with(|c: char| c.is_ascii_alphabetic());
        if !starts(self.rest()) {
            return Ok([true; 7]);
        }
        let mut days = [false; 7];
        while starts(self.rest()) {
            let (at, first) = (self.at, self.weekday()?);
            let last = if self.take("..") || self.take("-") { self.weekday()? } else { first };
            if last < first {
                return Err(Wrong::new(
                    at,
                    "weekdays go from Monday to Sunday: write Sat,Sun,Mon for one across the end of a week",
                ));
            }
            days[first..=last].fill(true);
            // A comma at the end is allowed: `Wed, 17:48`.
            if !self.take(",") {
                break;
            }
        }
        if !self.rest().is_empty() && !self.rest().starts_with(' ') {
            return Err(self.wrong("expected a blank after the weekdays"));
        }
        self.blanks();
        Ok(days)
    }

    fn weekday(&mut self) -> Result<usize, Wrong> {
        let length = self.rest().bytes().take_while(u8::is_ascii_alphabetic).count();
        let word = self.rest()[..length].to_ascii_lowercase();
        let is_it = |name: &&str| word == **name || word == name[..3];
        let found = WEEKDAYS.iter().position(is_it).ok_or_else(|| {
            let names = NAMES.map(|(name, _)| name)[..9].join(", ");
            self.wrong(format!("expected a weekday such as Mon or Monday, or, alone, one of {names}"))
        })?;
        self.at += length;
        Ok(found)
    }

    /// A date has a `-` or a `~` before the next blank, a time a `:`.
    fn has_date(&self) -> bool {
        let word = self.rest().split(' ').next().unwrap_or_default();
        word.contains(['-', '~']) && !word.contains(':')
    }

    fn date(&mut self) -> Result<(Field, Field, Field, bool), Wrong> {
        let first = self.component(1)?;
        let (second, from_end) = self.after_date_part()?;
        let third = if from_end || !self.rest().starts_with(['-', '~']) { None } else { Some(self.after_date_part()?) };
        if !self.rest().is_empty() && !self.rest().starts_with(' ') {
            return Err(self.wrong("expected a blank or the end after the date"));
        }
        let (year, month, day, from_end) = match third {
            Some((day, from_end)) => (full_years(first).check(YEAR)?, second, day, from_end),
            None => (Field::Any, first, second, from_end),
        };
        let unit = if from_end { DAY_FROM_END } else { DAY };
        Ok((year, month.check(MONTH)?, day.check(unit)?, from_end))
    }

    /// `-5` or `~5`: a component, and whether it counts from the end of the month.
    fn after_date_part(&mut self) -> Result<(Written, bool), Wrong> {
        let from_end = self.take("~");
        if !from_end && !self.take("-") {
            return Err(self.wrong("expected - or ~, as in 2026-11-21, 11-21 or *-*~1"));
        }
        Ok((self.component(1)?, from_end))
    }

    /// Midnight when there is none.
    fn time(&mut self) -> Result<[Field; 3], Wrong> {
        let zero = || Field::Parts(vec![Part::one(0)]);
        if self.rest().is_empty() {
            return Ok([zero(), zero(), zero()]);
        }
        let hour = self.component(1)?.check(HOUR)?;
        if !self.take(":") {
            return Err(self.wrong("expected : and minutes, as in 02:00, or a date such as *-*-01"));
        }
        let minute = self.component(1)?.check(MINUTE)?;
        let second = if self.take(":") { self.component(SECOND_US)?.check(SECOND)? } else { zero() };
        if !self.rest().is_empty() {
            return Err(self.wrong("expected the end, or a blank and a time zone"));
        }
        Ok([hour, minute, second])
    }

    /// `*`, or parts with commas between; numbers are in units of a millionth where `scale` says so.
    fn component(&mut self, scale: u32) -> Result<Written, Wrong> {
        let at = self.at;
        if self.take("*") {
            return Ok(Written { at, field: Field::Any });
        }
        let mut parts = vec![self.part(scale)?];
        while self.take(",") {
            parts.push(self.part(scale)?);
        }
        Ok(Written { at, field: Field::Parts(parts) })
    }

    fn part(&mut self, scale: u32) -> Result<Part, Wrong> {
        let start = self.number(scale)?;
        let at = self.at;
        let end = if self.take("..") { Some(self.number(scale)?) } else { None };
        if end.is_some_and(|end| end < start) {
            return Err(Wrong::new(at, "a range goes upwards"));
        }
        let at = self.at;
        let step = if self.take("/") { Some(self.number(scale)?) } else { None };
        match (end, step) {
            (_, Some(0)) => Err(Wrong::new(at, "a repetition is at least 1")),
            (None, None) => Ok(Part::one(start)),
            (end, None) => Ok(Part { start, end, step: scale }),
            // The end is the last value that is meant: from the end of a month, repetitions start there.
            (Some(end), Some(step)) => Ok(Part { start, end: Some(end - (end - start) % step), step }),
            (None, Some(step)) => Ok(Part { start, end: None, step }),
        }
    }

    fn number(&mut self, scale: u32) -> Result<u32, Wrong> {
        let expected = |scanner: &Self| scanner.wrong("expected a number or *");
        let digits = self.digits();
        let too_large = Wrong::new(self.at, "this number is too large");
        let whole: u32 = digits.parse().map_err(|_| if digits.is_empty() { expected(self) } else { too_large })?;
        self.at += digits.len();
        let fraction = if scale > 1 && self.rest().starts_with('.') && !self.rest().starts_with("..") {
            self.at += 1;
            let digits = self.digits();
            self.at += digits.len();
            if digits.is_empty() { return Err(expected(self)) } else { millionths(&digits) }
        } else {
            0
        };
        let number = whole.checked_mul(scale).and_then(|number| number.checked_add(fraction));
        number.ok_or_else(|| self.wrong("this number is too large"))
    }

    fn digits(&self) -> String {
        self.rest().chars().take_while(char::is_ascii_digit).collect()
    }
}

/// A fraction, rounded to six places.
fn millionths(digits: &str) -> u32 {
    let digit = |index: usize| digits.as_bytes().get(index).map_or(0, |byte| u32::from(byte - b'0'));
    (0..6).fold(0, |number, index| number * 10 + digit(index)) + u32::from(digit(6) >= 5)
}

/// 12 is 2012, and 70 is 1970.
fn full_years(written: Written) -> Written {
    let full = |year: u32| match year {
        0..=69 => year + 2000,
        70..=99 => year + 1900,
        _ => year,
    };
    let field = match written.field {
        Field::Any => Field::Any,
        Field::Parts(parts) => {
            let part = |part: Part| Part { start: full(part.start), end: part.end.map(full), ..part };
            Field::Parts(parts.into_iter().map(part).collect())
        }
    };
    Written { field, ..written }
}
