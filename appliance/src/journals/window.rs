//! How long any moment of a volume can be gone back to, and how often its journal becomes a point.
//!
//! Invariant: what is not set is the usual; settings keep the text of a length of time, as those of retention do.

use crate::error::Result;
use crate::retention::age::Age;
use jiff::tz::TimeZone;
use std::fmt;
use understudy_format::catalogue::Settings;
use understudy_format::point::Point;

/// What is kept of a journal that is in points, when nothing is set.
const KEEP_JOURNAL: &str = "24h";
/// How often it is folded into a point, when nothing is set.
const FOLD_EVERY: &str = "5min";

/// What is said of the journal of a volume; `None` is left as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// How long any moment of a journal can be gone back to.
    pub keep_journal: Option<Age>,
    /// How often a journal is folded into a point.
    pub fold_every: Option<Age>,
}

/// What is in force for a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// How long any moment of a journal can be gone back to.
    pub keep_journal: Age,
    /// How often a journal is folded into a point.
    pub fold_every: Age,
}

impl Window {
    /// What is set for a volume, or usual.
    pub fn of(settings: &Settings) -> Result<Self> {
        let age = |text: &str, usual: &str| if text.is_empty() { usual.parse() } else { text.parse() };
        Ok(Self {
            keep_journal: age(&settings.keep_journal, KEEP_JOURNAL)?,
            fold_every: age(&settings.fold_every, FOLD_EVERY)?,
        })
    }

    /// From when on any moment can be gone back to.
    pub fn from_ns(&self, now_ns: i64) -> i64 {
        self.keep_journal.before(now_ns, &TimeZone::UTC)
    }

    /// Whether the last fold, or try, is so long ago that the next is due.
    pub fn is_fold_due(&self, last_ns: i64, now_ns: i64) -> bool {
        self.fold_every.before(now_ns, &TimeZone::UTC) >= last_ns
    }

    /// The point that the oldest of these moments comes after: without it, all up to the next point are lost.
    pub fn oldest_base<'a>(&self, points: &'a [Point], now_ns: i64) -> Option<&'a Point> {
        let from_ns = self.from_ns(now_ns);
        points.iter().rev().find(|point| point.position.is_some() && point.created_ns <= from_ns)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kept {}, folded every {}", self.keep_journal, self.fold_every)
    }
}

impl Wanted {
    /// Whether anything is said.
    pub fn given(&self) -> bool {
        *self != Self::default()
    }

    /// This, and of the other what this does not say.
    pub fn over(self, other: &Self) -> Self {
        Self {
            keep_journal: self.keep_journal.or(other.keep_journal),
            fold_every: self.fold_every.or(other.fold_every),
        }
    }

    /// Whether all that is said is set already.
    pub fn is_set(&self, settings: &Settings) -> bool {
        let mut wanted = settings.clone();
        self.store(&mut wanted);
        wanted == *settings
    }

    /// Sets what is said, and leaves what else is set.
    pub fn store(&self, settings: &mut Settings) {
        let set = |text: &mut String, age: Option<Age>| age.iter().for_each(|age| *text = age.iso());
        set(&mut settings.keep_journal, self.keep_journal);
        set(&mut settings.fold_every, self.fold_every);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_set_and_the_rest_is_usual() {
        let mut settings = Settings::default();
        assert_eq!(Window::of(&settings).unwrap().to_string(), "kept 24h, folded every 5min");
        let wanted = Wanted { keep_journal: "3d".parse().ok(), fold_every: None };
        assert!(wanted.given() && !Wanted::default().given() && !wanted.is_set(&settings));
        wanted.store(&mut settings);
        assert!(wanted.is_set(&settings) && Wanted::default().is_set(&settings));
        assert_eq!((settings.keep_journal.as_str(), settings.fold_every.as_str()), ("P3D", ""));
        assert_eq!(Window::of(&settings).unwrap().to_string(), "kept 3d, folded every 5min");
        let other = Wanted { keep_journal: "1d".parse().ok(), fold_every: "30s".parse().ok() };
        other.over(&wanted).store(&mut settings);
        assert_eq!((settings.keep_journal.as_str(), settings.fold_every.as_str()), ("P1D", "PT30S"));
        assert!(Window::of(&Settings { fold_every: "soon".to_owned(), ..settings }).is_err());
    }
}
