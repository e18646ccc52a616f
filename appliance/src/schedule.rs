//! When something is to be done again and again: parsed from what administrators write, evaluated over times passed in.
//!
//! Three notations, told apart by how they look:
//! - `every 15m`: moments at multiples of that length since 1970-01-01T00:00:00Z, whatever the clocks on the wall do;
//! - `0 2 * * mon-fri` or `@daily`: five-field cron, read as Vixie's cron reads it ([`cron`]);
//! - anything else: a calendar expression of systemd.time(7), such as `Mon..Fri 02:00` ([`calendar`]).
//!
//! The last two mean the wall clock of a time zone: the one named at their end, or the one passed in. [`wall`] says what
//! becomes of times that a change of the clocks leaves out or repeats. A [`window`] is not a moment but the time from one to another.
//!
//! Invariants: no clock and no randomness in here; `next` is later than what it was asked about, and nothing lies between;
//! who asks for what was missed gets one time, however many there were.

mod calendar;
mod cron;
mod delay;
mod every;
mod field;
mod parse;
#[cfg(test)]
mod tests;
mod wall;
mod window;

use calendar::Calendar;
use cron::Cron;
pub use delay::delay;
use every::Every;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::fmt;
use thiserror::Error;
pub use window::{Window, Windows};

/// What was wrong with an expression, and where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is no {kind}, at character {at}: {reason}")]
pub struct ScheduleError {
    /// What it was to be.
    pub kind: &'static str,
    /// The expression.
    pub text: String,
    /// Its first character that cannot be right, counted from 1.
    pub at: usize,
    /// What was expected.
    pub reason: String,
}

/// Moments in time, for ever or until they end.
#[derive(Debug, Clone)]
pub struct Schedule {
    text: String,
    rule: Rule,
}

#[derive(Debug, Clone)]
enum Rule {
    Every(Every),
    Wall(Wall, TimeZone),
}

/// What the clock on the wall shows at the moments of a schedule.
#[derive(Debug, Clone)]
enum Wall {
    Calendar(Calendar),
    Cron(Cron),
}

impl Schedule {
    /// Reads an expression; without a zone of its own it is about `zone`.
    pub fn parse(text: &str, zone: &TimeZone) -> Result<Self, ScheduleError> {
        let rule = Self::rule(text.trim(), zone).map_err(|wrong| wrong.of("schedule", text))?;
        Ok(Self { text: text.trim().to_owned(), rule })
    }

    fn rule(text: &str, zone: &TimeZone) -> Result<Rule, Wrong> {
        if let Some(length) = text.strip_prefix("every ") {
            return every::parse(length).map(Rule::Every).map_err(|wrong| wrong.after("every ".len()));
        }
        if cron::looks_like(text) {
            let (cron, own) = cron::parse(text)?;
            return Ok(Rule::Wall(Wall::Cron(cron), own.unwrap_or_else(|| zone.clone())));
        }
        let (calendar, own) = parse::calendar(text)?;
        Ok(Rule::Wall(Wall::Calendar(calendar), own.unwrap_or_else(|| zone.clone())))
    }

    /// The first moment after this one.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            Rule::Every(every) => every.next(after),
            Rule::Wall(wall, zone) => wall.next(zone, after),
        }
    }

    /// The last moment after `last` and not after `now`: what is to be done now, once, for all that was missed since.
    pub fn missed(&self, last: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let mut found = self.next(last).filter(|first| *first <= now)?;
        // Looking back twice as far each time: from where something is found, the rest of the way has few moments.
        let mut back = SignedDuration::from_secs(1);
        let from = loop {
            let from = now.checked_sub(back).unwrap_or(Timestamp::MIN);
            if from <= found {
                break found;
            }
            if let Some(near) = self.next(from).filter(|near| *near <= now) {
                break near;
            }
            back = back.saturating_mul(2);
        };
        found = from;
        while let Some(next) = self.next(found).filter(|next| *next <= now) {
            found = next;
        }
        Some(found)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A part of an expression that cannot be right: bytes from the start of what was looked at.
#[derive(Debug)]
struct Wrong {
    at: usize,
    reason: String,
}

impl Wrong {
    fn new(at: usize, reason: impl Into<String>) -> Self {
        Self { at, reason: reason.into() }
    }

    /// What was wrong with this text, of which blanks around it were left out.
    fn of(self, kind: &'static str, text: &str) -> ScheduleError {
        let start = text.len() - text.trim_start().len();
        let at = text.get(..start + self.at).map_or(text.len(), |before| before.chars().count()) + 1;
        ScheduleError { kind, text: text.to_owned(), at, reason: self.reason }
    }

    /// The same, seen from `bytes` earlier.
    fn after(self, bytes: usize) -> Self {
        Self { at: self.at + bytes, ..self }
    }
}

/// The time zone of this name; `at` is where the name stands.
fn zone(name: &str, at: usize) -> Result<TimeZone, Wrong> {
    TimeZone::get(name)
        .map_err(|_| Wrong::new(at, format!("no time zone {name:?} is known here, such as Europe/Berlin")))
}
