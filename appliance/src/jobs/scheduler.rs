//! What is to be run next, and why: a state machine over times that are passed in.
//!
//! A job is done up to some time; the first time of its schedule after that, and a delay, is when it is due ([`due`]). What else was due by
//! then is done with it. What may run beside what already runs is decided by [`claims`], when a run is full by [`full`], who is told of it by [`alarm`]. Events go in
//! ([`Scheduler::configure`], [`Scheduler::ask`], [`Scheduler::ended`], [`Scheduler::ended_late`], [`Scheduler::connected`]); what to do comes out of
//! [`Scheduler::poll`].
//!
//! Invariants: a job has one run at a time, a volume has one, the pool's upkeep has one; asking comes first, in the order of asking, then
//! what is due longest; a job leaves its agent to end what it does with the job's volumes; what cannot run yet keeps others from its volumes, so it is not passed by for ever; what was due before the
//! daemon started, or while the agent was away, is told as such; a clock that was put back by more than a day does not stop a job.

mod alarm;
mod claims;
mod due;
mod entry;
mod full;

use crate::config::{Job, JobLimits};
pub use alarm::{Lag, Notice, lag};
use claims::Claims;
pub use claims::Hindrance;
pub use due::{Cause, Due};
use entry::{Entry, Pick};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use understudy_format::access::ClientName;
use understudy_format::agent::{VolumeReport, Work};
use understudy_format::history::{Ended, JOBS_MAX, JobHistory, JobRecord, Why};
use understudy_format::point::VolumeName;

/// How far a job can be done ahead of the clock before the clock is believed.
const AHEAD_MAX: SignedDuration = SignedDuration::from_hours(24);

/// See the module documentation.
#[derive(Debug)]
pub struct Scheduler {
    seed: Vec<u8>,
    started: Timestamp,
    is_configured: bool,
    limits: JobLimits,
    jobs: BTreeMap<String, Entry>,
    /// Of jobs that are not configured any more.
    former: BTreeMap<String, JobHistory>,
    asked: VecDeque<String>,
    /// By the names of their jobs.
    running: BTreeMap<String, Running>,
    /// Those that are connected, with the volumes that they do something with.
    agents: BTreeMap<ClientName, BTreeSet<VolumeName>>,
}

#[derive(Debug)]
struct Running {
    started: Started,
    is_stopped: bool,
}

/// A run that was started.
#[derive(Debug, Clone)]
pub struct Started {
    /// What is run.
    pub job: Arc<Job>,
    /// Its number among the runs of the job.
    pub number: u64,
    /// The time that it is for.
    pub nominal: Timestamp,
    /// Why.
    pub why: Why,
    /// Which try it is, from 1.
    pub attempt: u16,
    /// Why it is to be full, if it is.
    pub full: Option<String>,
    /// Most bytes a second; 0: no limit.
    pub bytes_per_second: u64,
    /// When its window ends, if it does.
    pub until: Option<Timestamp>,
}

/// How a run ended.
#[derive(Debug)]
pub struct End {
    /// In which way.
    pub ended: Ended,
    /// The last that it said.
    pub detail: String,
    /// What it did to volumes.
    pub volumes: Vec<VolumeReport>,
}

/// What is to be done now.
#[derive(Debug)]
pub enum Step {
    /// Record that this runs, then run it.
    Start(Box<Started>),
    /// Stop the run of this job: its window ends.
    Stop(String),
    /// Nothing before this time, or before something happens.
    Wait(Option<Timestamp>),
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
            limits: JobLimits::default(),
            jobs: BTreeMap::new(),
            former,
            asked: VecDeque::new(),
            running: BTreeMap::new(),
            agents: BTreeMap::new(),
        }
    }

    /// From now on these are the jobs. One that is new, or whose schedule is another, is done up to now.
    pub fn configure(&mut self, jobs: &[Arc<Job>], limits: JobLimits, now: Timestamp) {
        let is_first = !std::mem::replace(&mut self.is_configured, true);
        let before = std::mem::take(&mut self.jobs);
        self.former.extend(before.into_iter().map(|(name, entry)| (name, entry.history)));
        for job in jobs {
            let schedule = job.schedule.to_string();
            let known = self.former.remove(&job.name);
            let mut history = known.unwrap_or_else(|| JobHistory::new(&job.name, nanoseconds(now)));
            believe(&mut history, now);
            let is_new = history.schedule != schedule;
            if is_new || (is_first && !job.catch_up) {
                history.record.done_ns = nanoseconds(now);
            }
            history.schedule = schedule;
            self.jobs.insert(job.name.clone(), Entry { job: job.clone(), history, is_late: false });
        }
        self.limits = limits;
        self.asked.retain(|name| self.jobs.contains_key(name));
    }

    /// From now on these agents are connected, and do something with these volumes.
    pub fn connected(&mut self, agents: BTreeMap<ClientName, BTreeSet<VolumeName>>) {
        self.agents = agents;
    }

    /// Runs this job as soon as it may; whether there is such a job.
    pub fn ask(&mut self, name: &str) -> bool {
        let known = self.jobs.contains_key(name);
        if known && !self.is_asked(name) {
            self.asked.push_back(name.to_owned());
        }
        known
    }

    /// What is to be done at this time. A start counts as begun, a stop as told.
    pub fn poll(&mut self, now: Timestamp) -> Step {
        if let Some((name, run)) = self.running.iter_mut().find(|(_, run)| run.is_over(now)) {
            run.is_stopped = true;
            return Step::Stop(name.clone());
        }
        self.jobs.values_mut().for_each(|entry| believe(&mut entry.history, now));
        self.note_late(now);
        match self.pick(now) {
            Some(pick) => self.start(pick, now),
            None => Step::Wait(self.wake(now)),
        }
    }

    /// What is due while its agent is away waits for it, or is passed over when that is wanted.
    fn note_late(&mut self, now: Timestamp) {
        let Self { jobs, running, agents, seed, .. } = self;
        for (name, entry) in jobs {
            let is_away = entry.job.agent().is_some_and(|agent| !agents.contains_key(agent));
            if is_away && !running.contains_key(name) && entry.due(seed, now).is_some_and(|due| due.starts <= now) {
                entry.is_late = entry.job.catch_up;
                if !entry.job.catch_up {
                    entry.history.record.done_ns = nanoseconds(now);
                }
            }
        }
    }

    /// The first that may start.
    fn pick(&self, now: Timestamp) -> Option<Pick> {
        let mut claims = Claims::of(self.running.values().map(|run| &*run.started.job));
        let asked =
            self.asked.iter().map(|name| Pick { name: name.clone(), nominal: now, why: Why::Asked, attempt: 1 });
        for pick in asked.chain(self.ready(now)) {
            let job = &self.jobs.get(&pick.name)?.job;
            match claims.hindrance(job, self.limits, &self.agents) {
                None => return Some(pick),
                Some(Hindrance::Away(_)) => {}
                Some(_) => claims.reserve(job),
            }
        }
        None
    }

    /// What is due and inside its window, the longest due first.
    fn ready(&self, now: Timestamp) -> Vec<Pick> {
        let idle = self.jobs.iter().filter(|(name, _)| !self.running.contains_key(*name));
        let due = idle.filter_map(|(name, entry)| Some((entry.due(&self.seed, now)?, name, entry)));
        let mut due: Vec<_> = due.filter(|(due, ..)| due.starts <= now).collect();
        due.sort_by_key(|(due, ..)| (due.at, due.nominal));
        due.into_iter().map(|(due, name, entry)| entry.pick(name, &due, self.started, now)).collect()
    }

    /// When something comes by itself that is not here yet.
    fn wake(&self, now: Timestamp) -> Option<Timestamp> {
        let idle = self.jobs.iter().filter(|(name, _)| !self.running.contains_key(*name));
        let starts = idle.filter_map(|(_, entry)| entry.due(&self.seed, now)).map(|due| due.starts);
        let ends = self.running.values().filter(|run| !run.is_stopped).filter_map(|run| run.started.until);
        starts.chain(ends).filter(|at| *at > now).min()
    }

    fn start(&mut self, pick: Pick, now: Timestamp) -> Step {
        self.asked.retain(|name| pick.why != Why::Asked || *name != pick.name);
        let Some(entry) = self.jobs.get_mut(&pick.name) else { return Step::Wait(Some(now)) };
        let started = entry.start(&pick, now);
        self.running.insert(pick.name, Running { started: started.clone(), is_stopped: false });
        Step::Start(Box::new(started))
    }

    /// The run of this job ended. One that was cut, or stopped by the end of its window, is due again.
    pub fn ended(&mut self, name: &str, end: End, now: Timestamp) {
        let Some(Running { started, is_stopped }) = self.running.remove(name) else { return };
        let history = match self.jobs.get_mut(name) {
            Some(entry) => &mut entry.history,
            // It was taken out of the configuration meanwhile.
            None => match self.former.get_mut(name) {
                Some(history) => history,
                None => return,
            },
        };
        let ended = if end.ended == Ended::Cut && is_stopped { Ended::Closed } else { end.ended };
        entry::settle(history, started.number, End { ended, ..end }, now);
    }

    /// An agent ended work that nobody waited for: of which job a run was cut that is over now.
    pub fn ended_late(&mut self, agent: &ClientName, work: &Work, end: End, now: Timestamp) -> Option<String> {
        let Self { jobs, running, .. } = self;
        let is_meant =
            |(name, entry): &(&String, &mut Entry)| !running.contains_key(*name) && entry.was_cut_in(agent, work);
        let (name, entry) = jobs.iter_mut().find(is_meant)?;
        let number = entry.history.record.count;
        entry::settle(&mut entry.history, number, end, now);
        Some(name.clone())
    }

    /// Whether somebody asked for this job, and it did not start yet.
    pub fn is_asked(&self, name: &str) -> bool {
        self.asked.iter().any(|asked| asked == name)
    }

    /// The run of this job that is under way.
    pub fn running(&self, name: &str) -> Option<&Started> {
        self.running.get(name).map(|run| &run.started)
    }

    /// What keeps a job, that was asked for or is due, from running now.
    pub fn hindrance(&self, name: &str, now: Timestamp) -> Option<Hindrance> {
        let entry = self.jobs.get(name)?;
        let is_due = || entry.due(&self.seed, now).is_some_and(|due| due.starts <= now);
        if self.running.contains_key(name) || !(self.is_asked(name) || is_due()) {
            return None;
        }
        Claims::of(self.running.values().map(|run| &*run.started.job)).hindrance(&entry.job, self.limits, &self.agents)
    }

    /// The jobs with their history, by name.
    pub fn jobs(&self) -> impl Iterator<Item = (&Arc<Job>, &JobHistory)> {
        self.jobs.values().map(|entry| (&entry.job, &entry.history))
    }

    /// What is to be kept of all jobs, also former ones.
    pub fn histories(&self) -> Vec<JobHistory> {
        let current = self.jobs.values().map(|entry| &entry.history);
        current.chain(self.former.values()).take(JOBS_MAX as usize).cloned().collect()
    }

    /// When a job runs next, seen from now, and then, and so on, as far as it depends on time.
    pub fn next<'a>(&'a self, name: &str, now: Timestamp) -> impl Iterator<Item = Due> + use<'a> {
        let entry = self.jobs.get(name);
        let running = self.running(name).filter(|run| run.why != Why::Asked).map(|run| run.nominal);
        due::all(entry, running, &self.seed, now)
    }
}

/// What was done far ahead of the clock was done by a clock that was wrong.
fn believe(history: &mut JobHistory, now: Timestamp) {
    let JobRecord { done_ns, full_ns, .. } = &mut history.record;
    let far = nanoseconds(now.checked_add(AHEAD_MAX).unwrap_or(Timestamp::MAX));
    [done_ns, full_ns].into_iter().filter(|ns| **ns > far).for_each(|ns| *ns = nanoseconds(now));
}

impl Running {
    fn is_over(&self, now: Timestamp) -> bool {
        !self.is_stopped && self.started.until.is_some_and(|until| until <= now)
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
