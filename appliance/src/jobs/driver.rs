//! Turns the scheduler: asks the clock, runs what is due on a thread, and records it.
//!
//! Invariants: the history is written before a run and after it; where the disk does not take it, the job runs all the same (it may be the
//! one that makes room) and that is said. Settings that the configuration wants are in force before any run. Who asked for a run
//! hears of its end, also when it panics, or never comes because its job was taken out.

use super::history;
use super::scheduler::{Scheduler, Started, Step, time};
use crate::clock;
use crate::config::Job;
use crate::daemon::Daemon;
use crate::error::{Error, Result};
use crate::locks::lock;
use crate::upkeep::{Outcome, Told};
use crossbeam_channel::Sender;
use jiff::Timestamp;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use understudy_format::history::{Ended, Why};

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
            recording: Mutex::default(),
        }
    }

    /// Looks at the scheduler, or tells it something; then what is to be done is decided again.
    pub fn with<T>(&self, act: impl FnOnce(&mut Scheduler) -> T) -> T {
        let done = act(&mut lock(&self.scheduler));
        self.wake.notify_one();
        done
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
    pub fn configure(&self, jobs: &[Arc<Job>], now: Timestamp) {
        let mut waiting = lock(&self.waiting);
        let left = self.with(|scheduler| {
            scheduler.configure(jobs, now);
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
            Step::Wait(_) => false,
        };
        let theirs = waiting.extract_if(.., |(name, _)| is_theirs(name)).map(|(_, hear)| hear).collect();
        (step, theirs)
    }
}

/// Runs jobs until `stopped`; one that runs then is cut, and due again when the daemon is started.
pub async fn drive(daemon: Arc<Daemon>, stopped: impl Future<Output = ()>) {
    let mut stopped = std::pin::pin!(stopped);
    loop {
        let step = blocking(&daemon, |daemon| {
            daemon.govern();
            daemon.jobs.poll(now())
        });
        match step.await {
            Some((Step::Start(started), listeners)) => {
                let stop = Arc::new(AtomicBool::new(false));
                let mut work = std::pin::pin!(run(daemon.clone(), started, listeners, stop.clone()));
                tokio::select! {
                    () = &mut work => {}
                    () = &mut stopped => {
                        stop.store(true, Ordering::SeqCst);
                        return work.await;
                    }
                }
            }
            Some((Step::Wait(until), _)) => tokio::select! {
                () = &mut stopped => return,
                () = daemon.jobs.wake.notified() => {}
                () = tokio::time::sleep(pause(until)) => {}
            },
            None => return,
        }
    }
}

fn now() -> Timestamp {
    time(clock::now_ns())
}

fn pause(until: Option<Timestamp>) -> Duration {
    until.map_or(LOOK, |until| until.duration_since(now()).try_into().unwrap_or_default()).min(LOOK)
}

/// On a thread that may wait for disks; `None` when the program is ending.
async fn blocking<T: Send + 'static>(
    daemon: &Arc<Daemon>,
    act: impl FnOnce(&Daemon) -> T + Send + 'static,
) -> Option<T> {
    let daemon = daemon.clone();
    tokio::task::spawn_blocking(move || act(&daemon)).await.ok()
}

async fn run(daemon: Arc<Daemon>, started: Started, listeners: Vec<Sender<Heard>>, stop: Arc<AtomicBool>) {
    blocking(&daemon, move |daemon| {
        let name = started.job.name.as_str();
        record(daemon);
        tracing::info!(job = name, why = super::commands::why(started.why), run = started.job.run, "a job starts");
        let mut last = String::new();
        let mut tell = |told: Told| {
            told.text.lines().for_each(|line| tracing::info!(job = name, "{line}"));
            last.clone_from(&told.text);
            // Who left does not hear it.
            listeners.iter().for_each(|hear| drop(hear.send(Heard::Told(told.clone()))));
        };
        let result = survived(|| act(daemon, &started, &stop, &mut tell));
        let (ended, detail) = match (&result, stop.load(Ordering::SeqCst)) {
            (_, true) => (Ended::Cut, "the daemon was stopped".to_owned()),
            (Ok(Outcome::Done), _) => (Ended::Done, last),
            (Ok(Outcome::Warnings), _) => (Ended::Warnings, last),
            (Ok(Outcome::Different), _) => (Ended::Damage, last),
            (Err(error), _) => (Ended::Failed, error.to_string()),
        };
        match ended {
            Ended::Done => tracing::info!(job = name, "a job is done"),
            _ => tracing::warn!(job = name, how = super::commands::how(ended), detail, "a job ended"),
        }
        daemon.jobs.with(|scheduler| scheduler.ended(ended, history::shortened(&detail), now()));
        record(daemon);
        let result = result.map_err(|error| error.to_string());
        listeners.iter().for_each(|hear| drop(hear.send(Heard::Ended(result.clone()))));
    })
    .await;
}

/// What a command comes to; a panic in it is a failure of this run, and the next one comes.
pub(super) fn survived(command: impl FnOnce() -> Result<Outcome>) -> Result<Outcome> {
    catch_unwind(AssertUnwindSafe(command))
        .unwrap_or_else(|_| Err(Error::refused("internal error: the command panicked; the log says where")))
}

fn act(daemon: &Daemon, started: &Started, stop: &AtomicBool, tell: &mut dyn FnMut(Told)) -> Result<Outcome> {
    match stop.load(Ordering::SeqCst) {
        true => Err(Error::Closing),
        false => daemon.upkeep(&started.job.command, stop, tell),
    }
}

/// Writes the history down.
pub fn record(daemon: &Daemon) {
    let _recording = lock(&daemon.jobs.recording);
    let histories = lock(&daemon.jobs.scheduler).histories();
    if let Err(error) = history::save(&daemon.pool, &histories) {
        tracing::warn!(%error, "the history of jobs could not be written");
    }
}
