//! Five-field cron, as Vixie's cron reads it: `minute hour day-of-month month day-of-week`, a time zone at the end if wanted.
//!
//! Where both days are restricted, either will do; where one of them starts with `*`, both must hold. The parsing and the
//! matching are cronexpr's; it is asked about UTC, where every time exists once, because what becomes of
//! times at changes of the clock is decided in [`super::wall`] for all schedules alike. Its additions to cron (`L`, `W`, `#`) are refused:
//! its `L` never comes in December, and calendar expressions have `~`.

use super::Wrong;
use cronexpr::{Crontab, FallbackTimezoneOption, MakeTimestamp, ParseOptions};
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, ToSpan};

/// Cron's names for whole expressions.
const NAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];
/// How often cronexpr is asked, which looks four years ahead: far enough for a 29th of February on a given weekday, also around
/// a year 2100 that has none.
const LOOKS_MAX: usize = 11;

/// An expression, and whether it goes through hours or minutes.
#[derive(Debug, Clone)]
pub(super) struct Cron {
    crontab: Crontab,
    interval: bool,
}

/// Five words or more, or four without a time of day: one too few. A calendar expression has at most four, with one.
pub(super) fn looks_like(text: &str) -> bool {
    let fields: Vec<_> = text.split_ascii_whitespace().collect();
    text.starts_with('@') || fields.len() >= 5 || (fields.len() == 4 && !text.contains(':'))
}

pub(super) fn parse(text: &str) -> Result<(Cron, Option<TimeZone>), Wrong> {
    if text.starts_with('@') {
        return parse_name(text);
    }
    let mut words: Vec<_> = words(text).collect();
    let zone = match words.len() {
        6 => Some(words.remove(5)),
        5 => None,
        4 => {
            return Err(Wrong::new(text.len(), "expected five fields: minute, hour, day of month, month, day of week"));
        }
        _ => {
            return Err(Wrong::new(
                words[6].0,
                "expected five fields and at most a time zone, as in 0 2 * * 1-5 Europe/Berlin",
            ));
        }
    };
    let zone = zone.map(|(at, name)| super::zone(name, at)).transpose()?;
    Ok((fields(&words)?, zone))
}

fn parse_name(text: &str) -> Result<(Cron, Option<TimeZone>), Wrong> {
    let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let fields = NAMES
        .iter()
        .find(|known| known.0 == name)
        .map(|known| known.1)
        .ok_or_else(|| Wrong::new(0, format!("expected one of {}", NAMES.map(|known| known.0).join(", "))))?;
    let zone = match rest.trim() {
        "" => None,
        zone => Some(super::zone(zone, text.len() - rest.trim_start().len())?),
    };
    parse(fields).map(|(cron, _)| (cron, zone))
}

/// The words of a text, and where they start.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let at = |word: &str| word.as_ptr().addr() - text.as_ptr().addr();
    text.split_ascii_whitespace().map(move |word| (at(word), word))
}

fn fields(words: &[(usize, &str)]) -> Result<Cron, Wrong> {
    words.iter().try_for_each(|(at, word)| only_vixies(word).map_err(|wrong| wrong.after(*at)))?;
    let plain: Vec<&str> = words.iter().map(|(_, word)| *word).collect();
    let crontab = crontab(&plain).map_err(|_| blame(words))?;
    let goes_through = |word: &&str| word.contains(['*', '/']);
    Ok(Cron { crontab, interval: plain[..2].iter().any(goes_through) })
}

/// Numbers, names of three letters and `*`, with `,`, `-` and `/` between.
fn only_vixies(word: &str) -> Result<(), Wrong> {
    let mut at = 0;
    for atom in word.split([',', '-', '/']) {
        let number = !atom.is_empty() && atom.bytes().all(|byte| byte.is_ascii_digit());
        let name = atom.len() == 3 && atom.bytes().all(|byte| byte.is_ascii_alphabetic());
        if !(number || name || atom == "*") {
            return Err(Wrong::new(at, "expected a number, a name such as mon or jan, or *"));
        }
        at += atom.len() + 1;
    }
    Ok(())
}

fn crontab(fields: &[&str]) -> Result<Crontab, cronexpr::Error> {
    let mut options = ParseOptions::default();
    options.fallback_timezone_option = FallbackTimezoneOption::UTC;
    cronexpr::parse_crontab_with(&fields.join(" "), options)
}

/// Which of the fields is refused when all others are `*`.
fn blame(words: &[(usize, &str)]) -> Wrong {
    const RANGES: [&str; 5] = [
        "minutes are 0 to 59",
        "hours are 0 to 23",
        "days of the month are 1 to 31",
        "months are 1 to 12 or jan to dec",
        "days of the week are 0 to 7 or sun to sat (0 and 7 are Sunday)",
    ];
    let is_wrong = |index: &usize| {
        let mut alone = ["*"; 5];
        alone[*index] = words[*index].1;
        crontab(&alone).is_err()
    };
    let index = (0..5).find(is_wrong).unwrap_or(0);
    let range = RANGES[index];
    Wrong::new(words[index].0, format!("{range}; ranges go upwards, as in 1-5, and steps are */15 or 8-18/2"))
}

impl Cron {
    /// The first that is meant, from this one on.
    pub(super) fn at_least(&self, from: DateTime) -> Option<DateTime> {
        let mut after = Offset::UTC.to_timestamp(from).ok()?.checked_sub(1.microsecond()).ok()?;
        for _ in 0..LOOKS_MAX {
            if let Ok(found) = self.crontab.find_next(MakeTimestamp(after)) {
                return Some(found.datetime());
            }
            after = far(after)?;
        }
        None
    }

    pub(super) fn is_interval(&self) -> bool {
        self.interval
    }
}

/// Less than four years later, whatever the leap years.
fn far(time: Timestamp) -> Option<Timestamp> {
    time.checked_add((24 * 1459).hours()).ok()
}
