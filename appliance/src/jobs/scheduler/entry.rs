//! One job of the scheduler, with its history: which run comes next, and its start.

use super::{Cause, Due, End, Started, full, nanoseconds};
use crate::config::{Job, Task};
use jiff::Timestamp;
use std::sync::Arc;
use understudy_format::access::ClientName;
use understudy_format::agent::Work;
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
        self.history.record.count += 1;
        let started = Started {
            job: self.job.clone(),
            number: self.history.record.count,
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

    /// Whether its last run was cut, and was of this work of this agent.
    pub(super) fn was_cut_in(&self, agent: &ClientName, work: &Work) -> bool {
        let is_cut = self.history.runs.last().is_some_and(|run| matches!(run.ended, Some((_, Ended::Cut))));
        let is_its_work = match (&self.job.task, work) {
            (Task::Replicate(own), Work::Replicate(work)) => own.volumes == work.volumes && own.group == work.group,
            (Task::Verify { volumes, .. }, Work::Verify { volume, point: 0 }) => volumes[..] == [volume.clone()],
            _ => false,
        };
        is_cut && is_its_work && self.job.agent() == Some(agent)
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

/// A run ended. What was cut, or closed by its window, is not done.
pub(super) fn settle(history: &mut JobHistory, number: u64, end: End, now: Timestamp) {
    let End { ended, detail, volumes } = end;
    if ended.is_good() {
        history.record.success_ns = nanoseconds(now);
        full::note(history, &volumes, number);
    }
    let Some(run) = history.runs.iter_mut().rfind(|run| run.number == number) else { return };
    (run.ended, run.detail, run.volumes) = (Some((nanoseconds(now), ended)), detail, volumes);
    if run.why != Why::Asked && !matches!(ended, Ended::Cut | Ended::Closed) {
        history.record.done_ns = history.record.done_ns.max(run.nominal_ns);
    }
}
