//! Turns the scheduler: asks the clock, runs what is due on threads, and records it.
//!
//! Invariants: the history is written before a run and after it; where the disk does not take it, the job runs all the same (it may be the
//! one that makes room) and that is said. Settings that the configuration wants are in force before any run. Who asked for a run
//! hears of its end, also when it panics, or never comes because its job was taken out. Nobody who is to be told of something is waited for.
//! A turn that panics is not the last one.

use super::history;
use super::notify::Notifier;
use super::run;
use super::scheduler::{Notice, Scheduler, Started, Step, time};
use crate::agents::Late;
use crate::clock;
use crate::config::{Job, JobLimits};
use crate::daemon::Daemon;
use crate::locks::lock;
use crate::upkeep::{Outcome, Told};
use crossbeam_channel::Sender;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use understudy_format::history::Why;
use understudy_format::point::VolumeName;

/// The clock is asked at least this often: it may be set, and the machine may sleep.
const LOOK: Duration = Duration::from_secs(20);

/// What who asked for a run hears of it.
#[derive(Debug)]
pub enum Heard {
    /// Something happened.
    Told(Told),
    /// It ended so, or failed.
    Ended(Result<Outcome, String>),
}

/// The jobs of a daemon.
#[derive(Debug)]
pub struct Jobs {
    scheduler: Mutex<Scheduler>,
    wake: Notify,
    /// Who waits for a run that was asked for and did not start, by the name of its job. Locked before the scheduler.
    waiting: Mutex<Vec<(String, Sender<Heard>)>>,
    /// What stops the runs that are under way, by the names of their jobs.
    stops: Mutex<BTreeMap<String, Arc<AtomicBool>>>,
    /// Held while the history is written, so that what is newer stays.
    recording: Mutex<()>,
}

impl Jobs {
    /// With what the scheduler knows.
    pub fn new(scheduler: Scheduler) -> Self {
        Self {
            scheduler: Mutex::new(scheduler),
            wake: Notify::new(),
            waiting: Mutex::default(),
            stops: Mutex::default(),
            recording: Mutex::default(),
        }
    }

    /// Looks at the scheduler.
    pub fn look<T>(&self, look: impl FnOnce(&Scheduler) -> T) -> T {
        look(&lock(&self.scheduler))
    }

    /// Tells the scheduler something; then what is to be done is decided again.
    pub fn with<T>(&self, act: impl FnOnce(&mut Scheduler) -> T) -> T {
        let done = act(&mut lock(&self.scheduler));
        self.wake();
        done
    }

    /// Something happened that may let a job run, such as an agent that came.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Asks for a run of this job, and to hear of it; whether there is such a job.
    pub fn ask(&self, name: &str, hear: Sender<Heard>) -> bool {
        let mut waiting = lock(&self.waiting);
        let known = self.with(|scheduler| scheduler.ask(name));
        if known {
            waiting.push((name.to_owned(), hear));
        }
        known
    }

    /// From now on these are the jobs. Who waits for one that was taken out is told so.
    pub fn configure(&self, jobs: &[Arc<Job>], limits: JobLimits, now: Timestamp) {
        let mut waiting = lock(&self.waiting);
        let left = self.with(|scheduler| {
            scheduler.configure(jobs, limits, now);
            waiting.extract_if(.., |(name, _)| !scheduler.is_asked(name)).collect::<Vec<_>>()
        });
        for (name, hear) in left {
            let reason = format!("job {name} was taken out of the configuration before it ran");
            // Who left does not hear it.
            let _ = hear.send(Heard::Ended(Err(reason)));
        }
    }

    /// What is to be done at this time, and who hears of it. One who asks from now on waits for the next run.
    pub(super) fn poll(&self, now: Timestamp) -> (Step, Vec<Sender<Heard>>) {
        let mut waiting = lock(&self.waiting);
        let step = lock(&self.scheduler).poll(now);
        let is_theirs = |name: &str| match &step {
            Step::Start(started) => started.why == Why::Asked && started.job.name == name,
            Step::Stop(_) | Step::Wait(_) => false,
        };
        let theirs = waiting.extract_if(.., |(name, _)| is_theirs(name)).map(|(_, hear)| hear).collect();
        (step, theirs)
    }

    /// What is to be told now of jobs, and when it is to be asked again at the latest.
    pub(super) fn alarms(
        &self,
        newest: &dyn Fn(&VolumeName) -> Option<Timestamp>,
        repeat: SignedDuration,
        now: Timestamp,
    ) -> (Vec<Notice>, Option<Timestamp>) {
        lock(&self.scheduler).alarms(newest, repeat, now)
    }

    /// This could not be told.
    pub(super) fn untold(&self, notice: &Notice) {
        lock(&self.scheduler).untold(notice);
    }

    /// What stops the run of this job that starts now.
    fn begin(&self, name: &str) -> Arc<AtomicBool> {
        lock(&self.stops).entry(name.to_owned()).insert_entry(Arc::default()).get().clone()
    }

    /// Stops the run of this job, or all that are under way.
    fn stop(&self, only: Option<&str>) {
        let stops = lock(&self.stops);
        let meant = stops.iter().filter(|(name, _)| only.is_none_or(|only| only == *name));
        meant.for_each(|(_, stop)| stop.store(true, Ordering::SeqCst));
    }
}

/// Runs jobs until `stopped`; those that run then are cut, and due again when the daemon is started.
pub async fn drive(daemon: Arc<Daemon>, stopped: impl Future<Output = ()>) {
    let mut stopped = std::pin::pin!(stopped);
    let (notifier, mut runs) = (Arc::new(Notifier::start(&daemon)), JoinSet::new());
    loop {
        let tell = notifier.clone();
        let (step, listeners) = match blocking(&daemon, move |daemon| turn(daemon, &tell)).await {
            Ok(next) => next,
            Err(error) if error.is_panic() => {
                tracing::error!(%error, "internal error: what jobs are due could not be found out; it is tried again");
                (Step::Wait(None), Vec::new())
            }
            Err(_) => break,
        };
        match step {
            Step::Start(started) => {
                let stop = daemon.jobs.begin(&started.job.name);
                runs.spawn(carry_out(daemon.clone(), started, listeners, stop));
            }
            Step::Stop(job) => daemon.jobs.stop(Some(&job)),
            Step::Wait(until) => tokio::select! {
                // Before what a run that ended makes due again.
                biased;
                () = &mut stopped => break,
                () = daemon.jobs.wake.notified() => {}
                () = daemon.agents.arrival() => {}
                Some(_) = runs.join_next() => {}
                () = tokio::time::sleep(pause(until)) => {}
            },
        }
    }
    daemon.jobs.stop(None);
    while runs.join_next().await.is_some() {}
}

/// Looks around, and asks the scheduler what is to be done.
fn turn(daemon: &Daemon, notifier: &Notifier) -> (Step, Vec<Sender<Heard>>) {
    daemon.govern();
    // Before what ended: a run is in one of them.
    let agents = daemon.agents.present();
    daemon.agents.late().into_iter().for_each(|late| end_late(daemon, late));
    let again = notifier.look(daemon, now());
    lock(&daemon.jobs.scheduler).connected(agents);
    match daemon.jobs.poll(now()) {
        (Step::Wait(until), listeners) => (Step::Wait(until.into_iter().chain(again).min()), listeners),
        step => step,
    }
}

/// Enters how a run ended that was cut here, and that its agent went on with.
fn end_late(daemon: &Daemon, Late { agent, work, report }: Late) {
    let end = run::end_late(report);
    end.volumes.iter().for_each(|report| daemon.counters.reported(report));
    let job = lock(&daemon.jobs.scheduler).ended_late(&agent, &work, end, now());
    if let Some(job) = job {
        tracing::info!(job, %agent, "the agent ended the run that was cut");
        record(daemon);
    }
}

pub(super) fn now() -> Timestamp {
    time(clock::now_ns())
}

fn pause(until: Option<Timestamp>) -> Duration {
    until.map_or(LOOK, |until| until.duration_since(now()).try_into().unwrap_or_default()).min(LOOK)
}

/// On a thread that may wait for disks; an error when it panics, or when the program is ending.
async fn blocking<T: Send + 'static>(
    daemon: &Arc<Daemon>,
    act: impl FnOnce(&Daemon) -> T + Send + 'static,
) -> Result<T, JoinError> {
    let daemon = daemon.clone();
    tokio::task::spawn_blocking(move || act(&daemon)).await
}

async fn carry_out(daemon: Arc<Daemon>, started: Box<Started>, listeners: Vec<Sender<Heard>>, stop: Arc<AtomicBool>) {
    // A run that panics is told of where it is carried out.
    let _ = blocking(&daemon, move |daemon| {
        record(daemon);
        let (end, outcome) = run::run(daemon, &started, &stop, &listeners);
        let name = started.job.name.as_str();
        lock(&daemon.jobs.stops).remove(name);
        daemon.jobs.with(|scheduler| scheduler.ended(name, end, now()));
        record(daemon);
        // Who left does not hear it.
        listeners.iter().for_each(|hear| drop(hear.send(Heard::Ended(outcome.clone()))));
    })
    .await;
}

/// Writes the history down, and forgets the logs of runs that are not in it any more.
pub fn record(daemon: &Daemon) {
    let _recording = lock(&daemon.jobs.recording);
    let histories = lock(&daemon.jobs.scheduler).histories();
    if let Err(error) = history::save(&daemon.pool, &histories) {
        tracing::warn!(%error, "the history of jobs could not be written");
    }
    super::log::forget(&daemon.pool, &histories);
}
