//! How often a journal is folded, and how far back any moment of it can be gone to: what is set for a volume, or the usual.

use crate::error::Result;
use crate::pool::VolumeEntry;
use crate::retention::age::Age;
use jiff::tz::TimeZone;
use understudy_format::catalogue::Settings;
use understudy_format::point::Point;

/// How far back any moment can be gone to, unless it is set.
const KEEP: &str = "24h";
/// How often a journal is folded, unless it is set.
const EVERY: &str = "5min";

/// See the module documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How far back any moment can be gone to.
    pub keep: Age,
    /// How often a journal is folded.
    pub every: Age,
}

impl Terms {
    /// What is set for a volume.
    pub fn of(settings: &Settings) -> Result<Self> {
        let age = |set: &str, usual: &str| if set.is_empty() { usual.parse() } else { set.parse() };
        Ok(Self { keep: age(&settings.keep_journal, KEEP)?, every: age(&settings.fold_every, EVERY)? })
    }

    /// From when on any moment can be gone to.
    pub fn keep_from_ns(&self, now_ns: i64) -> i64 {
        self.keep.before(now_ns, &TimeZone::UTC)
    }

    /// Whether the last fold, or try, is so long ago that the next is due.
    pub fn is_due(&self, last_ns: i64, now_ns: i64) -> bool {
        self.every.before(now_ns, &TimeZone::UTC) >= last_ns
    }

    /// The point that the oldest of these moments comes after: without it, all up to the next point are lost.
    pub fn oldest_base<'a>(&self, entry: &'a VolumeEntry, now_ns: i64) -> Option<&'a Point> {
        let keep_from_ns = self.keep_from_ns(now_ns);
        let is_old = |point: &&Point| point.position.is_some() && point.created_ns <= keep_from_ns;
        entry.points.iter().rev().find(is_old)
    }
}
