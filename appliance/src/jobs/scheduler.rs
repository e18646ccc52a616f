//! What is to be run next, and why: a state machine over times that are passed in.
//!
//! A job is done up to some time; the first time of its schedule after that, and a delay, is when it is due. What else was due by
//! then is done with it. Events go in ([`Scheduler::configure`], [`Scheduler::ask`], [`Scheduler::ended`]); what to do comes out of
//! [`Scheduler::poll`].
//!
//! Invariants: one run at a time, the one that is due longest first; asking comes before that, in the order of asking; what was due before the
//! daemon started is told as missed; a clock that was put back by more than a day does not stop a job.

use crate::config::Job;
use crate::schedule::delay;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use understudy_format::history::{Ended, JobHistory, RUNS_MAX, Run, Why};

/// How far a job can be done ahead of the clock before the clock is believed.
const AHEAD_MAX: SignedDuration = SignedDuration::from_hours(24);

/// See the module documentation.
#[derive(Debug)]
pub struct Scheduler {
    seed: Vec<u8>,
    started: Timestamp,
    is_configured: bool,
    jobs: BTreeMap<String, Entry>,
    /// Of jobs that are not configured any more.
    former: BTreeMap<String, JobHistory>,
    asked: VecDeque<String>,
    running: Option<Started>,
}

#[derive(Debug)]
struct Entry {
    job: Arc<Job>,
    history: JobHistory,
}

/// A run that was started.
#[derive(Debug, Clone)]
pub struct Started {
    /// What is run.
    pub job: Arc<Job>,
    /// The time that it is for.
    pub nominal: Timestamp,
    /// Why.
    pub why: Why,
}

/// What is to be done now.
#[derive(Debug)]
pub enum Step {
    /// Record that this runs, then run it.
    Start(Started),
    /// Nothing before this time, or before something happens.
    Wait(Option<Timestamp>),
}

/// When a job is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// With its delay.
    pub at: Timestamp,
    /// The time of the schedule.
    pub nominal: Timestamp,
}

impl Scheduler {
    /// Without jobs, but with what is known of them. Runs that are recorded as running were cut.
    pub fn new(seed: Vec<u8>, mut known: Vec<JobHistory>, now: Timestamp) -> Self {
        for run in known.iter_mut().flat_map(|job| &mut job.runs).filter(|run| run.ended.is_none()) {
            run.ended = Some((nanoseconds(now), Ended::Cut));
        }
        let former = known.into_iter().map(|job| (job.name.clone(), job)).collect();
        Self {
            seed,
            started: now,
            is_configured: false,
            jobs: BTreeMap::new(),
            former,
            asked: VecDeque::new(),
            running: None,
        }
    }

    /// From now on these are the jobs. One that is new, or whose schedule is another, is done up to now.
    pub fn configure(&mut self, jobs: &[Arc<Job>], now: Timestamp) {
        let is_first = !std::mem::replace(&mut self.is_configured, true);
        let before = std::mem::take(&mut self.jobs);
        self.former.extend(before.into_iter().map(|(name, entry)| (name, entry.history)));
        for job in jobs {
            let schedule = job.schedule.to_string();
            let new = || JobHistory { name: job.name.clone(), schedule: String::new(), done_ns: 0, runs: Vec::new() };
            let mut history = self.former.remove(&job.name).unwrap_or_else(new);
            let is_new = history.schedule != schedule || time(history.done_ns) > now + AHEAD_MAX;
            if is_new || (is_first && !job.catch_up) {
                history.done_ns = nanoseconds(now);
            }
            history.schedule = schedule;
            self.jobs.insert(job.name.clone(), Entry { job: job.clone(), history });
        }
        self.asked.retain(|name| self.jobs.contains_key(name));
    }

    /// Runs this job as soon as nothing else runs; whether there is such a job.
    pub fn ask(&mut self, name: &str) -> bool {
        let known = self.jobs.contains_key(name);
        if known && !self.asked.iter().any(|asked| asked == name) {
            self.asked.push_back(name.to_owned());
        }
        known
    }

    /// What is to be done at this time. A start counts as begun.
    pub fn poll(&mut self, now: Timestamp) -> Step {
        if self.running.is_some() {
            return Step::Wait(None);
        }
        if let Some(name) = self.asked.pop_front() {
            return self.start(&name, now, Why::Asked, now);
        }
        match self.first_due() {
            Some((name, due)) if due.at <= now => {
                let nominal = self.last_due(&name, now).unwrap_or(due.nominal);
                let why = if due.at < self.started { Why::Missed } else { Why::Due };
                self.start(&name, nominal, why, now)
            }
            first => Step::Wait(first.map(|(_, due)| due.at)),
        }
    }

    fn start(&mut self, name: &str, nominal: Timestamp, why: Why, now: Timestamp) -> Step {
        let Some(entry) = self.jobs.get_mut(name) else { return Step::Wait(Some(now)) };
        let (nominal_ns, started_ns) = (nanoseconds(nominal), nanoseconds(now));
        entry.history.runs.push(Run { nominal_ns, started_ns, why, ended: None, detail: String::new() });
        let surplus = entry.history.runs.len().saturating_sub(RUNS_MAX as usize);
        entry.history.runs.drain(..surplus);
        let started = Started { job: entry.job.clone(), nominal, why };
        self.running = Some(started.clone());
        Step::Start(started)
    }

    /// The run that was started ended. One that was cut is due again.
    pub fn ended(&mut self, ended: Ended, detail: String, now: Timestamp) {
        let Some(Started { job, nominal, why }) = self.running.take() else { return };
        let history = match self.jobs.get_mut(&job.name) {
            Some(entry) => &mut entry.history,
            // It was taken out of the configuration meanwhile.
            None => match self.former.get_mut(&job.name) {
                Some(history) => history,
                None => return,
            },
        };
        if let Some(run) = history.runs.iter_mut().rfind(|run| run.ended.is_none()) {
            (run.ended, run.detail) = (Some((nanoseconds(now), ended)), detail);
        }
        if why != Why::Asked && ended != Ended::Cut {
            history.done_ns = history.done_ns.max(nanoseconds(nominal));
        }
    }

    /// Whether somebody asked for this job, and it did not start yet.
    pub fn is_asked(&self, name: &str) -> bool {
        self.asked.iter().any(|asked| asked == name)
    }

    /// The jobs with their history, by name.
    pub fn jobs(&self) -> impl Iterator<Item = (&Arc<Job>, &JobHistory)> {
        self.jobs.values().map(|entry| (&entry.job, &entry.history))
    }

    /// What is to be kept of all jobs, also former ones.
    pub fn histories(&self) -> Vec<JobHistory> {
        let current = self.jobs.values().map(|entry| &entry.history);
        current.chain(self.former.values()).take(understudy_format::history::JOBS_MAX as usize).cloned().collect()
    }

    /// When a job is due next, and then, and so on.
    pub fn next<'a>(&'a self, name: &str) -> impl Iterator<Item = Due> + use<'a> {
        let entry = self.jobs.get(name);
        let mut after = entry.map(|entry| self.done(entry));
        std::iter::from_fn(move || {
            let due = self.due_after(&entry?.job, after?)?;
            after = Some(due.nominal);
            Some(due)
        })
    }

    /// What a job is done up to: what runs is as good as done.
    fn done(&self, entry: &Entry) -> Timestamp {
        let running = self.running.as_ref().filter(|run| run.why != Why::Asked && run.job.name == entry.job.name);
        let nominal = running.map(|run| run.nominal);
        nominal.into_iter().fold(time(entry.history.done_ns), Timestamp::max)
    }

    fn due_after(&self, job: &Job, after: Timestamp) -> Option<Due> {
        let nominal = job.schedule.next(after)?;
        let at = nominal.checked_add(delay(job.delay_max, &self.seed, &job.name, nominal)).ok()?;
        Some(Due { at, nominal })
    }

    fn first_due(&self) -> Option<(String, Due)> {
        let due = |entry: &Entry| Some((entry.job.name.clone(), self.due_after(&entry.job, self.done(entry))?));
        self.jobs.values().filter_map(due).min_by_key(|(_, due)| *due)
    }

    /// The last time that a run now is for.
    fn last_due(&self, name: &str, now: Timestamp) -> Option<Timestamp> {
        let entry = self.jobs.get(name)?;
        entry.job.schedule.missed(self.done(entry), now)
    }
}

/// Times of the history are nanoseconds, which reach from 1677 to 2262.
pub fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(if time < Timestamp::UNIX_EPOCH { i64::MIN } else { i64::MAX })
}

/// The time of so many nanoseconds.
pub fn time(ns: i64) -> Timestamp {
    Timestamp::from_nanosecond(ns.into()).unwrap_or(Timestamp::UNIX_EPOCH)
}
