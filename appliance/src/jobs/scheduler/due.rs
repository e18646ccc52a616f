//! When a job is due: by its schedule, or again after it failed; and when its window lets it.

use super::entry::Entry;
use super::time;
use crate::schedule::delay;
use jiff::Timestamp;
use understudy_format::history::{Ended, Run, Why};

/// Why a job is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Its time comes.
    Schedule,
    /// It failed; this is the next attempt.
    Retry(u16),
}

/// When a job is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// When it can start: at `at`, or when its window opens.
    pub starts: Timestamp,
    /// With its delay.
    pub at: Timestamp,
    /// The time of the schedule that it is for.
    pub nominal: Timestamp,
    /// Why.
    pub cause: Cause,
}

impl Entry {
    /// What it is done up to.
    pub(super) fn done(&self) -> Timestamp {
        time(self.history.record.done_ns)
    }

    /// When it is due, seen from now.
    pub(super) fn due(&self, seed: &[u8], now: Timestamp) -> Option<Due> {
        self.first(self.done(), seed, now)
    }

    /// The first due time after what is done: a time of the schedule that came makes a retry needless.
    fn first(&self, done: Timestamp, seed: &[u8], now: Timestamp) -> Option<Due> {
        let due = match (self.scheduled(done, seed), self.retry()) {
            (Some(scheduled), Some(retry)) if scheduled.at <= now.max(retry.at) => scheduled,
            (_, Some(retry)) => retry,
            (scheduled, None) => scheduled?,
        };
        // What is due already cannot start before now.
        let opens = self.job.windows.opens(due.at.max(now))?;
        Some(Due { starts: opens.max(due.starts), ..due })
    }

    /// Whether a run that failed is tried again before the next time of the schedule.
    pub(super) fn is_tried_again(&self) -> bool {
        let next = self.job.schedule.next(self.done());
        self.retry().is_some_and(|retry| next.is_none_or(|next| retry.at < next))
    }

    fn scheduled(&self, after: Timestamp, seed: &[u8]) -> Option<Due> {
        let nominal = self.job.schedule.next(after)?;
        let at = nominal.checked_add(delay(self.job.delay_max, seed, &self.job.name, nominal)).ok()?;
        Some(Due { starts: self.job.windows.opens(at)?, at, nominal, cause: Cause::Schedule })
    }

    /// The next attempt, after a run that failed and that nobody asked for; one that was cut is made again.
    fn retry(&self) -> Option<Due> {
        let last = self.settling().filter(|run| run.why != Why::Asked)?;
        let (at, attempt) = match last.ended? {
            (ended_ns, Ended::Failed) => {
                (time(ended_ns).checked_add(self.job.retry.after(last.attempt)?).ok()?, last.attempt.saturating_add(1))
            }
            (ended_ns, Ended::Cut | Ended::Closed) if last.why == Why::Retried => (time(ended_ns), last.attempt),
            _ => return None,
        };
        let (starts, nominal) = (self.job.windows.opens(at)?, time(last.nominal_ns));
        // What came while nobody could do it is made up for only when that is wanted.
        let is_wanted = self.job.catch_up || at > self.done();
        is_wanted.then_some(Due { starts, at, nominal, cause: Cause::Retry(attempt) })
    }

    /// The run that says whether there is another attempt: who asked for one in vain changes nothing.
    fn settling(&self) -> Option<&Run> {
        let settles = |run: &&Run| run.why != Why::Asked || run.ended.is_some_and(|(_, ended)| ended.is_good());
        self.history.runs.iter().rfind(settles)
    }
}

/// All due times, seen from now, as far as they follow from time alone; what runs is as good as done.
pub(super) fn all<'a>(
    entry: Option<&'a Entry>,
    running: Option<Timestamp>,
    seed: &'a [u8],
    now: Timestamp,
) -> impl Iterator<Item = Due> + use<'a> {
    let done = entry.map(|entry| running.into_iter().fold(entry.done(), Timestamp::max));
    let mut next = entry.zip(done).and_then(|(entry, done)| entry.first(done, seed, now));
    let mut done = done;
    std::iter::from_fn(move || {
        let (entry, due) = (entry?, next?);
        // What else comes until it starts is done with it.
        let covered = entry.job.schedule.missed(done?, due.starts);
        done = Some(covered.into_iter().fold(done?, Timestamp::max));
        next = entry.scheduled(done?, seed);
        Some(due)
    })
}
