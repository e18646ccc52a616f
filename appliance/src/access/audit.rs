//! The audit log: every act that matters for who may do what, and every refusal, as lines of JSON in the pool.
//!
//! Invariants: a line is durable before the act that it tells of takes effect outside; refusals have files of their own, so that no flood of them
//! pushes out what was done, and of those who are not known so many are recorded a second and the others counted; what a peer sent is not
//! in it, but for names and options that were understood, and those are cut at a fixed length.

mod flood;
mod lines;

use crate::clock::{self, Clock, SystemClock};
use crate::error::Result;
use crate::locks::lock;
use crate::pool::disk::Disk;
use flood::Flood;
use lines::Lines;
use serde_json::json;
use std::fmt::Display;
use std::path::Path;
use std::sync::{Arc, Mutex};
use understudy_format::text::time;

/// Most bytes of what is told of an act.
const WHAT_MAX: usize = 256;

/// See the module documentation.
#[derive(Debug)]
pub struct Audit {
    acts: Lines,
    refusals: Lines,
    clock: SystemClock,
    flood: Mutex<Flood>,
}

impl Audit {
    pub(super) fn of(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        let (acts, refusals) = (Lines::of(disk.clone(), dir, "audit"), Lines::of(disk, dir, "refused"));
        Self { acts, refusals, clock: SystemClock::start(), flood: Mutex::default() }
    }

    /// Records that `who` did something, durably.
    pub fn record(&self, act: &str, who: &dyn Display, what: &str) -> Result<()> {
        add(&self.acts, act, who, what)
    }

    /// Records that a client was denied something.
    pub fn deny(&self, who: &dyn Display, what: &str) {
        self.refused("denied", who, what);
    }

    /// Records that somebody who is not known was refused.
    pub fn refuse(&self, from: &dyn Display, what: &str) {
        let admitted = lock(&self.flood).admit(self.clock.elapsed_ns());
        let Some(left_out) = admitted else { return };
        if left_out > 0 {
            self.refused("refused", &"others", &format!("{left_out} more"));
        }
        self.refused("refused", from, what);
    }

    /// A refusal stands, whether or not it can be recorded: that it cannot is told in the log of the daemon.
    fn refused(&self, act: &str, who: &dyn Display, what: &str) {
        if let Err(error) = add(&self.refusals, act, who, what) {
            tracing::error!(%error, act, %who, "the audit log cannot be written");
        }
    }
}

fn add(to: &Lines, act: &str, who: &dyn Display, what: &str) -> Result<()> {
    let what = cut(what);
    tracing::info!(act, %who, what, "audit");
    let line = json!({"time": time(clock::now_ns()), "act": act, "who": who.to_string(), "what": what});
    to.add(&line.to_string())
}

/// As much of a text as is recorded.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(WHAT_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::disk::RealDisk;

    #[test]
    fn what_is_refused_pushes_out_nothing_that_was_done() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::of(Arc::new(RealDisk), dir.path());
        audit.record("revoke", &"web", &"\u{e9}".repeat(1000)).unwrap();
        audit.deny(&"web", "a \"name\"\nof two lines");
        (0..100).for_each(|_| audit.refuse(&"127.0.0.1:1", "handshake"));
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        let act: serde_json::Value = serde_json::from_str(&read("audit.jsonl")).unwrap();
        assert_eq!(act["what"], "\u{e9}".repeat(128));
        assert!(read("refused.jsonl").lines().count() < 50, "most are counted only");
    }
}
