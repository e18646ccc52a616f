//! What somebody is to be told of jobs: that one fails and does well again, that it fell behind and caught up.
//!
//! A job fails when its last run failed, none is under way, and it is not tried again before its next time; it is behind while the newest point of one of its
//! volumes is older than its RPO. Invariants: each is told once, and again only after it went on for the time of `repeat`; the end of each
//! is told once, and only of what was told; what could not be told is told again ([`Scheduler::untold`]). What was told is in the history, so
//! the end of a daemon repeats nothing.

use super::entry::Entry;
use super::{Scheduler, nanoseconds, time};
use crate::config::{Event, Job, Task};
use jiff::{SignedDuration, Timestamp};
use understudy_format::history::{Ended, JobHistory, Run};
use understudy_format::point::VolumeName;

/// Something that somebody may want to be told.
#[derive(Debug, Clone)]
pub struct Notice {
    /// What happened.
    pub event: Event,
    /// To which job.
    pub job: String,
    /// What it does.
    pub task: String,
    /// When.
    pub at: Timestamp,
    /// For people.
    pub text: String,
    /// The run that it is about.
    pub run: Option<Run>,
    /// The volume that is the furthest behind.
    pub lag: Option<Lag>,
}

/// From when on writes to a volume are in no point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// Which volume.
    pub volume: VolumeName,
    /// The time of its newest point; when the job became known, where there is none.
    pub since: Timestamp,
    /// Whether there is a point.
    pub has_point: bool,
}

/// Of the volumes that a job replicates, the one that is the furthest behind; `newest` knows the times of newest points.
pub fn lag(job: &Job, history: &JobHistory, newest: &dyn Fn(&VolumeName) -> Option<Timestamp>) -> Option<Lag> {
    let Task::Replicate(replicate) = &job.task else { return None };
    let lags = replicate.volumes.iter().map(|volume| {
        let point = newest(volume);
        let since = point.unwrap_or_else(|| time(history.record.since_ns));
        Lag { volume: volume.clone(), since, has_point: point.is_some() }
    });
    lags.min_by_key(|lag| lag.since)
}

impl Scheduler {
    /// What is to be told now, and when it is to be asked again at the latest.
    pub fn alarms(
        &mut self,
        newest: &dyn Fn(&VolumeName) -> Option<Timestamp>,
        repeat: SignedDuration,
        now: Timestamp,
    ) -> (Vec<Notice>, Option<Timestamp>) {
        let (mut notices, mut again) = (Vec::new(), None);
        for entry in self.jobs.values_mut() {
            notices.extend(entry.failure(repeat, now));
            let lag = lag(&entry.job, &entry.history, newest);
            if let Some((lag, rpo)) = lag.zip(entry.job.rpo) {
                let behind_at = lag.since.checked_add(rpo).unwrap_or(Timestamp::MAX);
                again = again.into_iter().chain([behind_at]).filter(|at| *at > now).min();
                notices.extend(entry.behind(lag, rpo, repeat, now));
            }
        }
        (notices, again)
    }

    /// This could not be told: it is to be told again.
    pub fn untold(&mut self, notice: &Notice) {
        let Some(entry) = self.jobs.get_mut(&notice.job) else { return };
        let (history, then) = (&mut entry.history, nanoseconds(notice.at));
        match notice.event {
            Event::Failure => history.record.failed_told_ns = 0,
            Event::Recovery => history.record.failed_told_ns = then,
            Event::Behind => history.record.behind_told_ns = 0,
            Event::CaughtUp => history.record.behind_told_ns = then,
        }
    }
}

/// Whether something that was told then is to be told now; a clock that was put back does not silence it.
fn is_to_be_told(told_ns: i64, repeat: SignedDuration, now: Timestamp) -> bool {
    told_ns == 0 || !(SignedDuration::ZERO..repeat).contains(&now.duration_since(time(told_ns)))
}

impl Entry {
    fn failure(&mut self, repeat: SignedDuration, now: Timestamp) -> Option<Notice> {
        if self.history.runs.last().is_some_and(|run| run.ended.is_none()) {
            return None;
        }
        let counts = |run: &&Run| !matches!(run.ended, None | Some((_, Ended::Cut | Ended::Closed)));
        let run = self.history.runs.iter().rfind(counts).cloned()?;
        let is_good = run.ended.is_some_and(|(_, ended)| ended.is_good());
        let told_ns = self.history.record.failed_told_ns;
        let (event, text) = match is_good {
            true if told_ns == 0 => return None,
            true => (Event::Recovery, format!("job {} does well again", self.job.name)),
            false if self.is_tried_again() || !is_to_be_told(told_ns, repeat, now) => return None,
            false => (Event::Failure, format!("job {} failed: {}", self.job.name, run.detail)),
        };
        self.history.record.failed_told_ns = if is_good { 0 } else { nanoseconds(now) };
        Some(Notice { run: Some(run), ..self.notice(event, text, now) })
    }

    fn behind(&mut self, lag: Lag, rpo: SignedDuration, repeat: SignedDuration, now: Timestamp) -> Option<Notice> {
        let (is_behind, told_ns) = (now.duration_since(lag.since) > rpo, self.history.record.behind_told_ns);
        let (job, volume, since) = (&self.job.name, &lag.volume, lag.since.strftime("%Y-%m-%dT%H:%M:%SZ"));
        let (event, text) = match is_behind {
            false if told_ns == 0 => return None,
            false => (Event::CaughtUp, format!("job {job} caught up: the newest points are no older than {rpo:#}")),
            true if !is_to_be_told(told_ns, repeat, now) => return None,
            true if lag.has_point => (
                Event::Behind,
                format!(
                    "replication fell behind: the newest point of {volume} is of {since}, and job {job} is to keep it within {rpo:#}"
                ),
            ),
            true => (
                Event::Behind,
                format!(
                    "replication fell behind: {volume} has no point, and job {job} is to keep one within {rpo:#} since {since}"
                ),
            ),
        };
        self.history.record.behind_told_ns = if is_behind { nanoseconds(now) } else { 0 };
        Some(Notice { lag: Some(lag), ..self.notice(event, text, now) })
    }

    fn notice(&self, event: Event, text: String, at: Timestamp) -> Notice {
        Notice { event, job: self.job.name.clone(), task: self.job.task.to_string(), at, text, run: None, lag: None }
    }
}
