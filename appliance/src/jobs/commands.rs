//! What people ask the daemon about its jobs, and how it is told: as lines and as JSON objects.

use super::driver::{Heard, now};
use super::scheduler::{Due, Scheduler, lag};
use super::{log, show};
use crate::args;
use crate::config::Job;
use crate::daemon::Daemon;
use crate::error::{Error, Result};
use crate::upkeep::{Outcome, Told};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use understudy_format::history::{Ended, JobHistory, Why};

/// How often it is looked whether who asked for a run still listens.
const LISTENS: Duration = Duration::from_millis(200);

/// Answers.
pub fn run(daemon: &Daemon, what: &args::Jobs, stop: &AtomicBool, tell: &mut dyn FnMut(Told)) -> Result<Outcome> {
    match what {
        args::Jobs::Jobs(args) => list(daemon, args, tell),
        args::Jobs::Next(args) => next(daemon, args, tell),
        args::Jobs::Run(args) => run_now(daemon, &args.job, stop, tell),
    }
}

/// Why a run started, in words.
pub fn why(why: Why) -> &'static str {
    match why {
        Why::Due => "due",
        Why::Missed => "missed while no daemon ran",
        Why::Asked => "asked for",
        Why::Retried => "tried again",
        Why::Away => "due while its agent was away",
        Why::Window => "due while its window was closed",
    }
}

/// How a run ended, in words.
pub fn how(ended: Ended) -> &'static str {
    match ended {
        Ended::Done => "done",
        Ended::Warnings => "done with warnings",
        Ended::Damage => "not identical",
        Ended::Failed => "failed",
        Ended::Cut => "cut by the end of the daemon",
        Ended::Closed => "stopped at the end of its window",
    }
}

/// What was said last, behind a colon, where that says more than how it ended.
pub fn said(ended: Ended, detail: &str) -> String {
    let last = detail.lines().next_back().unwrap_or_default();
    if last.is_empty() || last == how(ended) { String::new() } else { format!(": {last}") }
}

fn unknown(scheduler: &Scheduler, name: &str) -> Error {
    let names: Vec<&str> = scheduler.jobs().map(|(job, _)| job.name.as_str()).collect();
    let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Error::refused(format!("there is no job {name:?} in the daemon's configuration; there is: {there}"))
}

fn list(daemon: &Daemon, args: &args::JobsList, tell: &mut dyn FnMut(Told)) -> Result<Outcome> {
    let told = match (&args.job, args.log) {
        (Some(name), Some(number)) => {
            daemon.jobs.look(|scheduler| told_runs(scheduler, name))?;
            let text = log::read(&daemon.pool, name, number)?;
            let event = json!({"event": "log", "job": name, "run": number, "text": text});
            vec![Told { text: text.trim_end().to_owned(), event }]
        }
        (Some(name), None) => daemon.jobs.look(|scheduler| told_runs(scheduler, name))?,
        (None, _) => daemon.jobs.look(|scheduler| {
            scheduler.jobs().map(|(job, history)| told_job(daemon, scheduler, job, history)).collect()
        }),
    };
    if told.is_empty() {
        let text = if args.job.is_some() { "it has not run yet" } else { "the daemon's configuration has no jobs" };
        tell(Told { text: text.to_owned(), event: json!({"event": "none"}) });
    }
    told.into_iter().for_each(tell);
    Ok(Outcome::Done)
}

fn told_runs(scheduler: &Scheduler, name: &str) -> Result<Vec<Told>> {
    let found = scheduler.jobs().find(|(job, _)| job.name == name);
    let (job, history) = found.ok_or_else(|| unknown(scheduler, name))?;
    Ok(history.runs.iter().map(|run| show::told_run(job, run)).collect())
}

fn told_job(daemon: &Daemon, scheduler: &Scheduler, job: &Job, history: &JobHistory) -> Told {
    let now = now();
    let state = show::State {
        job,
        history,
        running: scheduler.running(&job.name),
        is_asked: scheduler.is_asked(&job.name),
        hindrance: scheduler.hindrance(&job.name, now),
        next: scheduler.next(&job.name, now).next(),
        lag: lag(job, history, &|volume| daemon.newest_point(volume)),
        now,
    };
    state.told()
}

fn next(daemon: &Daemon, args: &args::Next, tell: &mut dyn FnMut(Told)) -> Result<Outcome> {
    let told = daemon.jobs.look(|scheduler| told_dues(scheduler, args.job.as_deref(), args.count.into()))?;
    told.into_iter().for_each(tell);
    Ok(Outcome::Done)
}

fn told_dues(scheduler: &Scheduler, only: Option<&str>, count: usize) -> Result<Vec<Told>> {
    let (now, is_meant) = (now(), |job: &Job| only.is_none_or(|name| job.name == name));
    let jobs: Vec<&Arc<Job>> = scheduler.jobs().map(|(job, _)| job).filter(|job| is_meant(job)).collect();
    if let (Some(name), true) = (only, jobs.is_empty()) {
        return Err(unknown(scheduler, name));
    }
    let of = |job: &&Arc<Job>| {
        scheduler.next(&job.name, now).take(count).map(|due| (due, job.name.clone())).collect::<Vec<_>>()
    };
    let mut dues: Vec<(Due, String)> = jobs.iter().flat_map(of).collect();
    dues.sort();
    dues.truncate(count);
    let find = |name: &str| jobs.iter().find(|job| job.name == name);
    let told = |(due, name): &(Due, String)| {
        Some(show::told_due(due, find(name)?, scheduler.hindrance(name, now).as_ref(), now))
    };
    Ok(dues.iter().filter_map(told).collect())
}

/// Waits for the run; the run does not wait for whoever left.
fn run_now(daemon: &Daemon, name: &str, stop: &AtomicBool, tell: &mut dyn FnMut(Told)) -> Result<Outcome> {
    let (hear, heard) = crossbeam_channel::unbounded();
    if !daemon.jobs.ask(name, hear) {
        return Err(daemon.jobs.look(|scheduler| unknown(scheduler, name)));
    }
    if let Some(hindrance) = daemon.jobs.look(|scheduler| scheduler.hindrance(name, now())) {
        let event = json!({"event": "waits", "job": name, "reason": hindrance.to_string()});
        tell(Told { text: format!("it waits: {hindrance}"), event });
    }
    loop {
        match heard.recv_timeout(LISTENS) {
            Ok(Heard::Told(told)) => tell(told),
            Ok(Heard::Ended(result)) => return result.map_err(Error::Refused),
            Err(crossbeam_channel::RecvTimeoutError::Timeout) if !stop.load(Ordering::SeqCst) => {}
            Err(_) => return Err(Error::Closing),
        }
    }
}
