//! One job of the scheduler, with its history: which run comes next, and its start.

use super::{Cause, Due, Started, full, nanoseconds};
use crate::config::{Job, Task};
use jiff::Timestamp;
use std::sync::Arc;
use understudy_format::history::{Ended, JobHistory, RUNS_MAX, Run, Why};

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) job: Arc<Job>,
    pub(super) history: JobHistory,
    /// Whether it was due while its agent was not connected.
    pub(super) is_late: bool,
}

/// A run that may be started.
pub(super) struct Pick {
    pub(super) name: String,
    pub(super) nominal: Timestamp,
    pub(super) why: Why,
    pub(super) attempt: u16,
}

impl Entry {
    pub(super) fn pick(&self, name: &str, due: &Due, daemon_started: Timestamp, now: Timestamp) -> Pick {
        let last = self.history.runs.last().and_then(|run| run.ended);
        let was_closed = !self.job.windows.is_open(due.at) || last.is_some_and(|(_, ended)| ended == Ended::Closed);
        let why = match due.cause {
            Cause::Retry(_) => Why::Retried,
            Cause::Schedule if due.at < daemon_started => Why::Missed,
            Cause::Schedule if self.is_late => Why::Away,
            Cause::Schedule if was_closed => Why::Window,
            Cause::Schedule => Why::Due,
        };
        // A run now is for the last time that has come.
        let (nominal, attempt) = match due.cause {
            Cause::Retry(attempt) => (due.nominal, attempt),
            Cause::Schedule => (self.job.schedule.missed(self.done(), now).unwrap_or(due.nominal), 1),
        };
        Pick { name: name.to_owned(), nominal, why, attempt }
    }

    pub(super) fn start(&mut self, pick: &Pick, now: Timestamp) -> Started {
        let full = match &self.job.task {
            Task::Replicate(replicate) => full::reason(&replicate.full, &self.history, now),
            _ => None,
        };
        self.is_late = false;
        self.history.count += 1;
        let started = Started {
            job: self.job.clone(),
            number: self.history.count,
            nominal: pick.nominal,
            why: pick.why,
            attempt: pick.attempt,
            full,
            bytes_per_second: match &self.job.task {
                Task::Replicate(replicate) => replicate.bandwidth.at(now),
                _ => 0,
            },
            // Who asks wants it now, whatever the time is.
            until: if pick.why == Why::Asked { None } else { self.job.windows.closes(now) },
        };
        self.record(&started, now);
        started
    }

    fn record(&mut self, started: &Started, now: Timestamp) {
        let runs = &mut self.history.runs;
        runs.push(Run {
            number: started.number,
            nominal_ns: nanoseconds(started.nominal),
            started_ns: nanoseconds(now),
            why: started.why,
            attempt: started.attempt,
            ended: None,
            full: started.full.clone().unwrap_or_default(),
            detail: String::new(),
            volumes: Vec::new(),
        });
        runs.drain(..runs.len().saturating_sub(RUNS_MAX as usize));
    }
}
