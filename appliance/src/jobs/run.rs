//! One run of a job, from its start to how it ended.
//!
//! The way of what is said: the command or the agent -> the daemon's log, the run's own log, and who asked for it. Invariants: a panic is a
//! failure of this run alone; a run that was stopped and did what it was to do is done all the same, unless it was upkeep, of which nobody knows.

use super::commands;
use super::driver::Heard;
use super::hands::{Hands, works};
use super::history::shortened;
use super::log::RunLog;
use super::scheduler::{End, Started};
use crate::clock;
use crate::config::Task;
use crate::daemon::Daemon;
use crate::error::{Error, Result};
use crate::upkeep::{Outcome, Told};
use crossbeam_channel::Sender;
use serde_json::json;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use understudy_format::access::ClientName;
use understudy_format::agent::{Report, VolumeReport};
use understudy_format::history::Ended;
use understudy_format::text;

/// What a run came to that did not fail.
struct Carried {
    ended: Ended,
    text: String,
    volumes: Vec<VolumeReport>,
}

/// Carries out a run; how it ended, and the same for who asked for it.
pub(super) fn run(
    daemon: &Daemon,
    started: &Started,
    stop: &AtomicBool,
    listeners: &[Sender<Heard>],
) -> (End, Result<Outcome, String>) {
    let (name, why) = (started.job.name.as_str(), commands::why(started.why));
    let mut log = RunLog::create(&daemon.pool, name, started.number);
    let mut say = |text: &str| text.lines().for_each(|line| log.line(&text::time(clock::now_ns()), line));
    tracing::info!(job = name, run = started.number, why, task = %started.job.task, "a job starts");
    say(&format!("run {} starts ({why}): {}", started.number, started.job.task));
    let mut tell = |told: Told| {
        // How far it is, is for who looks on: in a log it would hide what happened.
        if told.event["event"] != "progress" {
            told.text.lines().for_each(|line| tracing::info!(job = name, "{line}"));
            say(&told.text);
        }
        daemon.events.tell(&format!("job {name}"), &told);
        // Who left does not hear it.
        listeners.iter().for_each(|hear| drop(hear.send(Heard::Told(told.clone()))));
    };
    if let Some(reason) = &started.full {
        let event = json!({"event": "full", "reason": reason});
        tell(Told { text: format!("it is to be full: {reason}"), event });
    }
    let result = survived(|| act(daemon, started, stop, &mut tell));
    let end = end(result, stop.load(Ordering::SeqCst));
    let said = commands::said(end.ended, &end.detail);
    say(&format!("run {} ends: {}{said}", started.number, commands::how(end.ended)));
    log.finish();
    match end.ended {
        Ended::Done => tracing::info!(job = name, run = started.number, "a job is done"),
        _ => tracing::warn!(
            job = name,
            run = started.number,
            how = commands::how(end.ended),
            detail = end.detail,
            "a job ended"
        ),
    }
    end.volumes.iter().for_each(|report| daemon.counters.reported(report));
    let outcome = outcome(&end);
    (end, outcome)
}

/// How a run ended that its agent went on with while nobody waited.
pub(super) fn end_late(report: Report) -> End {
    let mut all = Carried::default();
    all.add(report);
    end(Ok(all), false)
}

fn end(result: Result<Carried>, is_stopped: bool) -> End {
    let (ended, text, volumes) = match result {
        Ok(Carried { ended, text, volumes }) => (ended, text, volumes),
        Err(Error::Closing) => (Ended::Cut, "it was stopped".to_owned(), Vec::new()),
        Err(error) if is_stopped => (Ended::Cut, format!("it was stopped: {error}"), Vec::new()),
        Err(error) => (Ended::Failed, error.to_string(), Vec::new()),
    };
    End { ended, detail: shortened(&text), volumes }
}

/// How it ended, for who asked for it.
fn outcome(end: &End) -> Result<Outcome, String> {
    match end.ended {
        Ended::Done => Ok(Outcome::Done),
        Ended::Warnings => Ok(Outcome::Warnings),
        Ended::Damage => Ok(Outcome::Different),
        Ended::Failed | Ended::Cut | Ended::Closed => Err(end.detail.clone()),
    }
}

/// What a run comes to; a panic in it is a failure of this run, and the next one comes.
pub(crate) fn survived<T>(command: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(command))
        .unwrap_or_else(|_| Err(Error::refused("internal error: the command panicked; the log says where")))
}

fn act(daemon: &Daemon, started: &Started, stop: &AtomicBool, tell: &mut dyn FnMut(Told)) -> Result<Carried> {
    if stop.load(Ordering::SeqCst) {
        return Err(Error::Closing);
    }
    match (&started.job.task, started.job.agent()) {
        (Task::Upkeep { command, .. }, _) => upkeep(daemon, command, stop, tell),
        (_, Some(agent)) => by_agent(&*daemon.agents, agent, started, stop, tell),
        (_, None) => Err(Error::refused("internal error: a job of agents without an agent")),
    }
}

fn upkeep(
    daemon: &Daemon,
    command: &crate::args::Upkeep,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(Told),
) -> Result<Carried> {
    let mut last = String::new();
    let outcome = daemon.upkeep(command, stop, &mut |told: Told| {
        last.clone_from(&told.text);
        tell(told);
    })?;
    if stop.load(Ordering::SeqCst) {
        return Err(Error::Closing);
    }
    let ended = match outcome {
        Outcome::Done => Ended::Done,
        Outcome::Warnings => Ended::Warnings,
        Outcome::Different => Ended::Damage,
    };
    Ok(Carried { ended, text: last, volumes: Vec::new() })
}

/// Has the agent do all of it, and puts its reports together.
fn by_agent(
    hands: &dyn Hands,
    agent: &ClientName,
    started: &Started,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(Told),
) -> Result<Carried> {
    let mut all = Carried::default();
    for work in works(started) {
        let report = hands.carry_out(agent, work, stop, tell)?;
        all.add(report);
    }
    match all.ended {
        Ended::Failed if stop.load(Ordering::SeqCst) => Err(Error::Closing),
        _ => Ok(all),
    }
}

impl Default for Carried {
    /// Nothing was to be done.
    fn default() -> Self {
        Self { ended: Ended::Done, text: String::new(), volumes: Vec::new() }
    }
}

impl Carried {
    /// The worst of all is how it ended, and what was said of it is told.
    fn add(&mut self, report: Report) {
        let ended = match report.code {
            0 => Ended::Done,
            3 => Ended::Warnings,
            4 => Ended::Damage,
            _ => Ended::Failed,
        };
        if ended as u8 > self.ended as u8 || self.text.is_empty() {
            (self.ended, self.text) = (ended, report.text);
        }
        let shortened = |volume: VolumeReport| VolumeReport { text: shortened(&volume.text), ..volume };
        self.volumes.extend(report.volumes.into_iter().map(shortened));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::tests::started;
    use std::sync::Mutex;
    use understudy_format::agent::Work;
    use uuid::Uuid;

    /// An agent that reports these codes, one after the other, and then is lost.
    #[derive(Debug)]
    struct Fake(Mutex<Vec<u8>>);

    impl Hands for Fake {
        fn carry_out(
            &self,
            agent: &ClientName,
            work: Work,
            _stop: &AtomicBool,
            tell: &mut dyn FnMut(Told),
        ) -> Result<Report> {
            let text = format!("{agent} does {work}");
            tell(Told { text: text.clone(), event: json!({}) });
            let code = self.0.lock().unwrap().pop().ok_or_else(|| Error::Busy("agent web1 is lost".into()))?;
            Ok(Report { run: Uuid::nil(), code, text: format!("{text}: {code}"), volumes: Vec::new() })
        }
    }

    /// How verifying three volumes ends, with these codes, and what was told of it.
    fn verified(mut codes: Vec<u8>, stopped: bool) -> (Ended, String, usize) {
        codes.reverse();
        let (fake, stop, mut told) = (Fake(Mutex::new(codes)), AtomicBool::new(stopped), 0);
        let started = started("  v: {verify: [x, y, z], agent: web1, schedule: daily}\n");
        let result = by_agent(&fake, &"web1".parse().unwrap(), &started, &stop, &mut |_| told += 1);
        let end = end(result, stopped);
        (end.ended, end.detail, told)
    }

    #[test]
    fn the_worst_report_is_how_a_run_ended() {
        let said = |volume: &str, code: u8| format!("web1 does verify {volume}@latest: {code}");
        assert_eq!(verified(vec![0, 0, 0], false), (Ended::Done, said("x", 0), 3));
        assert_eq!(verified(vec![0, 3, 0], false), (Ended::Warnings, said("y", 3), 3));
        assert_eq!(verified(vec![3, 0, 4], false), (Ended::Damage, said("z", 4), 3));
        assert_eq!(verified(vec![1, 4, 0], false), (Ended::Failed, said("x", 1), 3));
        assert_eq!(verified(vec![0], false), (Ended::Failed, "agent web1 is lost".into(), 2));
        // What was stopped is cut, unless it did all the same what it was to do.
        assert_eq!(verified(vec![0, 0, 1], true).0, Ended::Cut);
        assert_eq!(verified(vec![0, 0, 0], true).0, Ended::Done);
    }
}
