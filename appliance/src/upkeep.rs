//! What is done to a pool from time to time: removing, protecting and pruning points, settings, giving space back.
//!
//! Invariants: the same code runs inside the daemon and, when there is none, in the command itself; everything that happens is
//! told as it happens, as a line and as a JSON object; nothing is destroyed without having been asked for by name.

mod fold;
mod points;
mod prune;
mod reindex;
mod scrub;
mod set;
mod space;

use crate::args;
use crate::error::{Error, Result};
use crate::journals::Journals;
use crate::pool::{Pool, VolumeEntry};
use crate::secondary::Secondaries;
pub use fold::FOLDED;
use jiff::tz::TimeZone;
pub use points::point;
use serde_json::Value;
pub use set::{parse_mode, show_mode};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use understudy_format::point::VolumeName;

/// How something ended, as far as it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// All is well.
    Done,
    /// Done, and something was warned of or repaired.
    Warnings,
    /// Damage remains.
    Different,
}

impl Outcome {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Warnings => 3,
            Self::Different => 4,
        }
    }

    /// The outcome with this exit code.
    pub fn from_code(code: u64) -> Option<Self> {
        [Self::Done, Self::Warnings, Self::Different].into_iter().find(|outcome| u64::from(outcome.code()) == code)
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome.code())
    }
}

/// Something that happened: for people and for programs.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// A line, or several; empty where people need not know.
    pub text: String,
    /// The same as an object with an `event`.
    pub event: Value,
}

impl Told {
    /// Whether it only tells how far something is.
    pub fn is_progress(&self) -> bool {
        self.event["event"] == "progress"
    }
}

/// What upkeep works on.
pub struct Upkeep<'a> {
    /// The pool.
    pub pool: &'a Arc<Pool>,
    /// Its secondaries.
    pub secondaries: &'a Arc<Secondaries>,
    /// Its journals.
    pub journals: &'a Arc<Journals>,
    /// Whether to end early.
    pub stop: &'a AtomicBool,
    /// Of days, weeks and so on, and of times without an offset.
    pub zone: TimeZone,
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    pub now_ns: i64,
    /// Takes what happens.
    pub tell: &'a mut dyn FnMut(Told),
}

impl std::fmt::Debug for Upkeep<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upkeep").field("pool", &self.pool.dir()).finish_non_exhaustive()
    }
}

impl Upkeep<'_> {
    /// Does what is asked.
    pub fn run(&mut self, what: &args::Upkeep) -> Result<Outcome> {
        match what {
            args::Upkeep::Prune(prune) => self.prune(prune),
            args::Upkeep::Protect(points) => self.protect(points, true),
            args::Upkeep::Unprotect(points) => self.protect(points, false),
            args::Upkeep::Remove(remove) => self.remove(remove),
            args::Upkeep::Set(set) => self.set(set),
            args::Upkeep::Collect(collect) => self.collect(collect),
            args::Upkeep::Scrub(scrub) => self.scrub(scrub),
            args::Upkeep::Fold(fold) => self.fold(fold),
            args::Upkeep::Reindex(_) => self.reindex(),
        }
    }

    fn tell(&mut self, text: impl Into<String>, event: Value) {
        (self.tell)(Told { text: text.into(), event });
    }

    fn volume(&self, name: &VolumeName) -> Result<Arc<VolumeEntry>> {
        volume(self.pool, name)
    }
}

/// A volume by its name; or what there is instead.
fn volume(pool: &Pool, name: &VolumeName) -> Result<Arc<VolumeEntry>> {
    let unknown = || {
        let names: Vec<_> = pool.volumes().iter().map(|entry| entry.volume.name.to_string()).collect();
        let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Error::refused(format!("there is no volume {name} in this pool; there is: {there}"))
    };
    pool.volume(name).ok_or_else(unknown)
}
