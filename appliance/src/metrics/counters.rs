//! What adds up from the start of the daemon, counted while it happens; and what only an event tells.
//!
//! Invariants: counting never fails and never waits for a disk; what agents say of a run does not make a number of its own.

use super::{Family, Labels};
use crate::locks::lock;
use crate::upkeep::FOLDED;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use understudy_format::agent::VolumeReport;
use understudy_format::point::{Point, VolumeName};

/// What is counted, and for people.
const COUNTED: [(&str, &str); 9] = [
    (POINTS, "Points that streams made, by volume and kind"),
    (STORED, "Bytes that streams added to the pool"),
    (NEW, "Bytes of blocks that streams brought and the pool lacked"),
    (READ, "Bytes that agents read from a volume's source"),
    (SENT, "Bytes of blocks whose content agents sent"),
    (DEDUPLICATED, "Bytes of changed blocks that the appliance had already"),
    (FOLDS, "Points that were made of a volume's journal"),
    (FOLD_FAILURES, "Tries to make a point of a volume's journal that failed"),
    (FULLS, "Runs of agents that made a full, by volume and reason"),
];
const POINTS: &str = "points_made";
const STORED: &str = "stored_bytes";
const NEW: &str = "new_bytes";
const READ: &str = "read_bytes";
const SENT: &str = "sent_bytes";
const DEDUPLICATED: &str = "deduplicated_bytes";
const FOLDS: &str = "folds";
const FOLD_FAILURES: &str = "fold_failures";
const FULLS: &str = "fulls";

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Counters {
    totals: Mutex<BTreeMap<&'static str, BTreeMap<Labels, u64>>>,
    sessions: AtomicU64,
    /// Bytes that nobody needed at the last collection, dry or not, and that it did not give back.
    reclaimable: Mutex<Option<u64>>,
}

/// A session that is counted until this is dropped.
#[derive(Debug)]
pub struct InSession(Arc<Counters>);

impl Counters {
    /// A stream was committed.
    pub fn committed(&self, volume: &VolumeName, point: &Point) {
        let kind = if point.base.is_some() { "incremental" } else { "full" };
        self.add(POINTS, vec![of(volume), ("kind", kind.to_owned())], 1);
        self.add(STORED, vec![of(volume)], point.stored_bytes);
        self.add(NEW, vec![of(volume)], point.new_bytes);
    }

    /// An agent reported what it did to a volume.
    pub fn reported(&self, report: &VolumeReport) {
        let VolumeReport { volume, figures, full_reason, .. } = report;
        self.add(READ, vec![of(volume)], figures.read_bytes);
        self.add(SENT, vec![of(volume)], figures.sent_bytes);
        self.add(DEDUPLICATED, vec![of(volume)], figures.deduplicated_bytes);
        if !full_reason.is_empty() {
            self.add(FULLS, vec![of(volume), ("reason", kind_of(full_reason).to_owned())], 1);
        }
    }

    /// A try to fold a journal failed.
    pub fn fold_failed(&self, volume: &VolumeName) {
        self.add(FOLD_FAILURES, vec![of(volume)], 1);
    }

    /// Something happened of which only the event tells.
    pub fn heard(&self, event: &Value) {
        if event["event"] == FOLDED {
            let volume = event["volume"].as_str().unwrap_or_default();
            self.add(FOLDS, vec![("volume", volume.to_owned())], 1);
        }
        if event["event"] == "collected" {
            let bytes = |key: &str| event[key].as_u64().unwrap_or(0);
            let dead = bytes("bytes").saturating_sub(bytes("live_bytes"));
            *lock(&self.reclaimable) = Some(dead.saturating_sub(bytes("freed_bytes")));
        }
    }

    /// A session begins.
    pub fn session(self: &Arc<Self>) -> InSession {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        InSession(self.clone())
    }

    /// Sessions that there are.
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Bytes that the next collection may give back, as far as the last one told.
    pub fn reclaimable(&self) -> Option<u64> {
        *lock(&self.reclaimable)
    }

    /// All that is counted.
    pub(super) fn families(&self) -> Vec<Family> {
        let totals = lock(&self.totals);
        let samples = |name| totals.get(name).into_iter().flatten();
        let family = |(name, help)| {
            let samples = samples(name).map(|(labels, total)| (labels.clone(), *total as f64)).collect();
            Family { name, help, is_counter: true, samples }
        };
        COUNTED.into_iter().map(family).collect()
    }

    fn add(&self, name: &'static str, labels: Labels, more: u64) {
        let mut totals = lock(&self.totals);
        let total = totals.entry(name).or_default().entry(labels).or_default();
        *total = total.saturating_add(more);
    }
}

impl Drop for InSession {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a full was made for: few words, whatever agents say.
fn kind_of(reason: &str) -> &'static str {
    match reason {
        "first point of this volume" => "first point of this volume",
        reason if reason.starts_with("asked for") => "asked for",
        _ => "other",
    }
}

fn of(volume: &VolumeName) -> (&'static str, String) {
    ("volume", volume.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use understudy_format::agent::VolumeFigures;
    use understudy_format::layout::Layout;

    fn report(full_reason: &str) -> VolumeReport {
        let mut figures = VolumeFigures::get(&[0; VolumeFigures::SIZE]).expect("zeros");
        (figures.read_bytes, figures.sent_bytes, figures.deduplicated_bytes) = (100, 7, 3);
        let volume = "db".parse().expect("a name");
        VolumeReport { volume, figures, full_reason: full_reason.to_owned(), text: String::new() }
    }

    fn total(counters: &Counters, name: &str) -> Vec<(Labels, f64)> {
        counters.families().into_iter().find(|family| family.name == name).expect("a family").samples
    }

    #[test]
    fn reports_add_up_and_fulls_are_told_apart_by_reason() {
        let counters = Counters::default();
        let (first, asked) = ("first point of this volume", "asked for: full-every: 9, and 9 runs since the last full");
        ["", first, asked].into_iter().for_each(|reason| counters.reported(&report(reason)));
        let db = || vec![("volume", "db".to_owned())];
        assert_eq!(total(&counters, READ), [(db(), 300.0)]);
        assert_eq!(total(&counters, SENT), [(db(), 21.0)]);
        assert_eq!(total(&counters, DEDUPLICATED), [(db(), 9.0)]);
        let of = |reason: &str| ([db(), vec![("reason", reason.to_owned())]].concat(), 1.0);
        assert_eq!(total(&counters, FULLS), [of("asked for"), of(first)]);
        counters.reported(&report("whatever\nelse"));
        assert_eq!(total(&counters, FULLS), [of("asked for"), of(first), of("other")]);
        let mut most = report("");
        most.figures.read_bytes = u64::MAX;
        counters.reported(&most);
        assert_eq!(total(&counters, READ), [(db(), u64::MAX as f64)], "more than can be counted is no panic");
        assert_eq!(total(&counters, POINTS), []);
    }

    #[test]
    fn what_a_collection_left_can_be_collected() {
        let counters = Counters::default();
        counters.heard(&json!({"event": "pruned", "bytes": 9}));
        assert_eq!(counters.reclaimable(), None);
        counters.heard(&json!({"event": "collected", "bytes": 100, "live_bytes": 60, "freed_bytes": 0}));
        assert_eq!(counters.reclaimable(), Some(40));
        counters.heard(&json!({"event": "collected", "bytes": 100, "live_bytes": 60, "freed_bytes": 30}));
        assert_eq!(counters.reclaimable(), Some(10));
    }

    #[test]
    fn a_session_counts_until_it_ends() {
        let counters = Arc::new(Counters::default());
        let (one, two) = (counters.session(), counters.session());
        assert_eq!(counters.sessions(), 2);
        drop((one, two));
        assert_eq!(counters.sessions(), 0);
    }
}
