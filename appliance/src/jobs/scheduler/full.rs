//! When a run reads and sends everything, whatever is known of the last point: never, every so many runs, or after times of a schedule.
//!
//! The count goes on over runs that failed, so a full that was wanted comes; one that came for another reason counts as well.

use super::time;
use crate::config::Full;
use jiff::Timestamp;
use understudy_format::agent::VolumeReport;
use understudy_format::history::JobHistory;

/// Why a run that starts now is to be full, if it is.
pub(super) fn reason(full: &Full, history: &JobHistory, now: Timestamp) -> Option<String> {
    let by_count = full.every.filter(|every| history.record.since_full.saturating_add(1) >= *every);
    if let Some(every) = by_count {
        return Some(format!("full-every: {every}, and {} runs since the last full", history.record.since_full));
    }
    let schedule = full.schedule.as_ref()?;
    let came = schedule.missed(time(history.record.full_ns.max(history.record.since_ns)), now)?;
    Some(format!("full-schedule: {schedule}, and {} has come", came.strftime("%Y-%m-%dT%H:%M:%SZ")))
}

/// This run ended well.
pub(super) fn note(history: &mut JobHistory, volumes: &[VolumeReport], number: u64) {
    let started = history.runs.iter().rfind(|run| run.number == number).map(|run| run.started_ns);
    let is_full = !volumes.is_empty() && volumes.iter().all(|volume| !volume.full_reason.is_empty());
    match started.filter(|_| is_full) {
        Some(started_ns) => (history.record.full_ns, history.record.since_full) = (started_ns, 0),
        None => history.record.since_full = history.record.since_full.saturating_add(1),
    }
}
