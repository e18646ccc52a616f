//! What people ask the daemon about its jobs, and how it is told: as lines and as JSON objects.

use super::driver::Heard;
use super::scheduler::{Due, Scheduler, time};
use crate::args;
use crate::config::Job;
use crate::daemon::Daemon;
use crate::error::{Error, Result};
use crate::upkeep::{Outcome, Told};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use understudy_format::history::{Ended, JobHistory, Run, Why};
use understudy_format::text;

/// How often it is looked whether who asked for a run still listens.
const LISTENS: Duration = Duration::from_millis(200);

/// Answers.
pub fn run(daemon: &Daemon, what: &args::Jobs, stop: &AtomicBool, tell: &mut dyn FnMut(Told)) -> Result<Outcome> {
    match what {
        args::Jobs::Jobs(args) => list(daemon, args.job.as_deref(), tell),
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
    }
}

/// How a run ended, in words.
pub fn how(ended: Ended) -> &'static str {
    match ended {
        Ended::Done => "done",
        Ended::Warnings => "done with warnings",
        Ended::Damage => "damage remains",
        Ended::Failed => "failed",
        Ended::Cut => "cut by the end of the daemon",
    }
}

fn unknown(scheduler: &Scheduler, name: &str) -> Error {
    let names: Vec<&str> = scheduler.jobs().map(|(job, _)| job.name.as_str()).collect();
    let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Error::refused(format!("there is no job {name:?} in the daemon's configuration; there is: {there}"))
}

fn list(daemon: &Daemon, only: Option<&str>, tell: &mut dyn FnMut(Told)) -> Result<Outcome> {
    let told = daemon.jobs.with(|scheduler| match only {
        Some(name) => told_runs(scheduler, name),
        None => Ok(scheduler.jobs().map(|(job, history)| told_job(scheduler, job, history)).collect()),
    })?;
    if told.is_empty() {
        let text = if only.is_some() { "it has not run yet" } else { "the daemon's configuration has no jobs" };
        tell(Told { text: text.to_owned(), event: json!({"event": "none"}) });
    }
    told.into_iter().for_each(tell);
    Ok(Outcome::Done)
}

fn told_runs(scheduler: &Scheduler, name: &str) -> Result<Vec<Told>> {
    let found = scheduler.jobs().find(|(job, _)| job.name == name);
    let (_, history) = found.ok_or_else(|| unknown(scheduler, name))?;
    Ok(history.runs.iter().map(|run| told_run(name, run)).collect())
}

fn told_job(scheduler: &Scheduler, job: &Job, history: &JobHistory) -> Told {
    let last = history.runs.last();
    let next = scheduler.next(&job.name).next();
    let state = match scheduler.is_asked(&job.name) {
        true => "asked for, waits".to_owned(),
        false => next.map_or("never".to_owned(), |due| shown(due.at)),
    };
    let delay = if job.delay_max.is_zero() { String::new() } else { format!(", up to {:#} later", job.delay_max) };
    let text = format!(
        "{}: {}\n  schedule  {}{delay}\n  last      {}\n  next      {state}",
        job.name,
        job.run,
        job.schedule,
        last.map_or("never".to_owned(), line),
    );
    let event = json!({
        "event": "job", "job": job.name, "run": job.run, "schedule": job.schedule.to_string(),
        "random_delay_s": job.delay_max.as_secs(), "catch_up": job.catch_up,
        "last": last.map_or(Value::Null, |run| run_json(&job.name, run)),
        "next": next.map(|due| shown(due.at)), "asked": scheduler.is_asked(&job.name),
    });
    Told { text, event }
}

fn told_run(job: &str, run: &Run) -> Told {
    Told { text: line(run), event: run_json(job, run) }
}

fn line(run: &Run) -> String {
    let started = text::time(run.started_ns);
    let Some((ended_ns, ended)) = run.ended else { return format!("{started}  runs ({})", why(run.why)) };
    let seconds = ended_ns.saturating_sub(run.started_ns) as f64 / 1e9;
    let detail = run.detail.lines().next_back().map_or(String::new(), |line| format!(": {line}"));
    format!("{started}  {} after {seconds:.1} s ({}){detail}", how(ended), why(run.why))
}

fn run_json(job: &str, run: &Run) -> Value {
    json!({
        "event": "run", "job": job, "why": format!("{:?}", run.why).to_lowercase(),
        "nominal": text::time(run.nominal_ns), "started": text::time(run.started_ns),
        "ended": run.ended.map(|(ns, _)| text::time(ns)),
        "outcome": run.ended.map_or("running".to_owned(), |(_, ended)| format!("{ended:?}").to_lowercase()),
        "detail": run.detail,
    })
}

fn shown(at: jiff::Timestamp) -> String {
    text::time(super::scheduler::nanoseconds(at))
}

fn next(daemon: &Daemon, args: &args::Next, tell: &mut dyn FnMut(Told)) -> Result<Outcome> {
    let told = daemon.jobs.with(|scheduler| told_dues(scheduler, args.job.as_deref(), args.count.into()))?;
    told.into_iter().for_each(tell);
    Ok(Outcome::Done)
}

fn told_dues(scheduler: &Scheduler, only: Option<&str>, count: usize) -> Result<Vec<Told>> {
    let is_meant = |job: &Job| only.is_none_or(|name| job.name == name);
    let jobs: Vec<&Arc<Job>> = scheduler.jobs().map(|(job, _)| job).filter(|job| is_meant(job)).collect();
    if let (Some(name), true) = (only, jobs.is_empty()) {
        return Err(unknown(scheduler, name));
    }
    let of =
        |job: &&Arc<Job>| scheduler.next(&job.name).take(count).map(|due| (due, job.name.clone())).collect::<Vec<_>>();
    let mut dues: Vec<(Due, String)> = jobs.iter().flat_map(of).collect();
    dues.sort();
    dues.truncate(count);
    let told = |(due, name): &(Due, String)| Some(told_due(due, jobs.iter().find(|job| job.name == *name)?));
    Ok(dues.iter().filter_map(told).collect())
}

fn told_due(due: &Due, job: &Job) -> Told {
    let delay = due.at.duration_since(due.nominal);
    let late = due.at < time(crate::clock::now_ns());
    let reason = match (delay.is_zero(), late) {
        (_, true) => format!("{} is over, and it has not run since", shown(due.nominal)),
        (true, _) => format!("{} comes", job.schedule),
        (false, _) => format!("{} comes at {}, and {delay:#} later", job.schedule, shown(due.nominal)),
    };
    let event = json!({
        "event": "due", "job": job.name, "at": shown(due.at), "nominal": shown(due.nominal), "reason": reason,
    });
    Told { text: format!("{}  {}: {reason}", shown(due.at), job.name), event }
}

/// Waits for the run; the run does not wait for whoever left.
fn run_now(daemon: &Daemon, name: &str, stop: &AtomicBool, tell: &mut dyn FnMut(Told)) -> Result<Outcome> {
    let (hear, heard) = crossbeam_channel::unbounded();
    if !daemon.jobs.ask(name, hear) {
        return Err(daemon.jobs.with(|scheduler| unknown(scheduler, name)));
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
