//! One run, from its bracket's beginning to its report.
//!
//! Invariants: nothing is read before `pre` succeeded; `post` runs whenever `pre` was started, whatever became of the rest, and is not cut
//! short by a cancellation; a run ends with exactly one report, whose code is the worst of its parts.

use super::config::{Bracket, Target};
use super::desk::{Order, Task};
use super::heard::Heard;
use super::process::{Cancel, Ended, Tail, cancelled, command, finish};
use crate::outcome::FAILED;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use understudy_format::agent::{LocalName, Progress, Report, VolumeReport};
use understudy_format::point::VolumeName;
use uuid::Uuid;

/// Names the process that a command of the agent must not outlive.
pub const PARENT: &str = "UNDERSTUDY_AGENT_PID";
/// This very program.
const PROGRAM: &str = "/proc/self/exe";
/// The exit code of what is done with warnings.
const WARNINGS: u8 = 3;

/// What is told of a run while it goes on.
#[derive(Debug, PartialEq)]
pub enum Told {
    /// How far it is.
    Progress(Progress),
    /// It ended.
    Ended(Report),
}

/// Carries an order out.
pub async fn carry_out(order: Order, cancel: Cancel, tell: mpsc::Sender<Told>) {
    let (run, ran) = (order.run, Run { order, cancel, tell: tell.clone() });
    let (code, text, volumes) = ran.bracketed().await;
    // Nobody listens only when the agent has ended.
    let _ = tell.send(Told::Ended(Report { run, code, text, volumes })).await;
}

/// Makes up for the end of an earlier agent in the middle of a run.
pub async fn make_up(
    run: Uuid,
    volumes: Vec<VolumeName>,
    bracket: Option<(LocalName, Bracket)>,
    tell: mpsc::Sender<Told>,
) {
    let mut text = "the agent ended before the run did".to_owned();
    if let Some((name, bracket)) = &bracket
        && let Err(why) = post(run, name, bracket, &volumes, FAILED).await
    {
        text = format!("{text}; {why}");
    }
    let _ = tell.send(Told::Ended(Report { run, code: FAILED, text, volumes: Vec::new() })).await;
}

struct Run {
    order: Order,
    cancel: Cancel,
    tell: mpsc::Sender<Told>,
}

impl Run {
    /// Code, text and volumes of the report.
    async fn bracketed(mut self) -> (u8, String, Vec<VolumeReport>) {
        let names: Vec<VolumeName> = self.order.tasks.iter().map(|task| task.volume.clone()).collect();
        let Some((name, bracket)) = self.order.bracket.clone() else { return self.work().await };
        let run = self.order.run;
        let begun = pre(run, &name, &bracket, &names, &mut self.cancel).await;
        let (code, text, volumes) = match begun {
            Ok(()) => self.work().await,
            Err(why) => (FAILED, format!("{why}; nothing was read"), Vec::new()),
        };
        match post(run, &name, &bracket, &names, code).await {
            Ok(()) => (code, text, volumes),
            Err(why) => (FAILED, format!("{why}; before that: {text}"), volumes),
        }
    }

    async fn work(mut self) -> (u8, String, Vec<VolumeReport>) {
        let tasks = std::mem::take(&mut self.order.tasks);
        let mut volumes = if self.order.together { self.together(tasks).await } else { self.one_by_one(tasks).await };
        let (code, text) = judged(&volumes, *self.cancel.borrow());
        volumes.sort_by(|one, other| one.volume.cmp(&other.volume));
        (code, text, volumes)
    }

    async fn one_by_one(&self, tasks: Vec<Task>) -> Vec<VolumeReport> {
        let mut volumes = Vec::new();
        for task in tasks {
            volumes
                .push(carry_out_task(task, self.order.run, self.full(), self.cancel.clone(), self.tell.clone()).await);
        }
        volumes
    }

    /// All at the same time. When one fails none is committed, so the others are ended instead of waiting for it.
    async fn together(&self, tasks: Vec<Task>) -> Vec<VolumeReport> {
        let (give_up, given_up) = watch::channel(false);
        let mut running = JoinSet::new();
        for task in tasks {
            running.spawn(carry_out_task(task, self.order.run, self.full(), given_up.clone(), self.tell.clone()));
        }
        let (mut volumes, mut cancel) = (Vec::new(), self.cancel.clone());
        while !running.is_empty() {
            tokio::select! {
                ended = running.join_next() => {
                    let volume = ended.expect("one runs").expect("it neither panics nor is aborted");
                    give_up.send_if_modified(|giving_up| is_failure(&volume) && !std::mem::replace(giving_up, true));
                    volumes.push(volume);
                }
                () = cancelled(&mut cancel), if !*give_up.borrow() => drop(give_up.send_replace(true)),
            }
        }
        volumes
    }

    fn full(&self) -> Option<String> {
        self.order.full.clone()
    }
}

fn is_failure(volume: &VolumeReport) -> bool {
    ![0, WARNINGS].contains(&volume.figures.code)
}

/// The code of all volumes together, and what is said of them, in the order in which they ended.
fn judged(volumes: &[VolumeReport], cancelled: bool) -> (u8, String) {
    // Failed, then wrongly asked for, not identical, with warnings.
    let worst =
        [FAILED, 2, 4, WARNINGS].into_iter().find(|code| volumes.iter().any(|volume| volume.figures.code == *code));
    let Some(code) = worst else { return (0, "done".into()) };
    let said: Vec<String> = volumes
        .iter()
        .filter(|volume| volume.figures.code != 0)
        .map(|volume| format!("{}: {}", volume.volume, volume.text))
        .collect();
    (code, if cancelled { format!("cancelled; {}", said.join("; ")) } else { said.join("; ") })
}

/// One volume: `understudy` with the words of the task.
async fn carry_out_task(
    task: Task,
    run: Uuid,
    full: Option<String>,
    mut cancel: Cancel,
    tell: mpsc::Sender<Told>,
) -> VolumeReport {
    let mut heard = Heard::new(task.volume.clone());
    match listen(&task, run, &mut heard, &mut cancel, &tell).await {
        Ok((code, text)) => {
            let mut report = heard.report(code, text);
            if let Some(reason) = full.filter(|_| !report.full_reason.is_empty()) {
                report.full_reason = format!("asked for: {reason}");
            }
            report
        }
        Err(why) => heard.report(FAILED, why),
    }
}

async fn listen(
    task: &Task,
    run: Uuid,
    heard: &mut Heard,
    cancel: &mut Cancel,
    tell: &mpsc::Sender<Told>,
) -> Result<(u8, String), String> {
    let mut words = task.words.clone();
    if let Some(target) = &task.target {
        words.splice(1..1, force(target)?);
    }
    // Not by its path: there may be another version by now, or none.
    let mut command = command(Path::new(PROGRAM), &words);
    command.env(PARENT, std::process::id().to_string());
    let mut child = command.spawn().map_err(|e| format!("{PROGRAM} cannot be started: {e}"))?;
    let errors = Tail::of(child.stderr.take());
    let lines = child.stdout.take().map(|out| BufReader::new(out).lines());
    let told = tell_lines(lines, task, run, heard, tell);
    let (ended, ()) = tokio::join!(finish(&mut child, None, cancel), told);
    let text = last_line(&errors.text().await);
    match ended.map_err(|e| format!("it cannot be waited for: {e}"))? {
        Ended::Exited(status) => Ok((code_of(status), text)),
        Ended::Cancelled | Ended::TimedOut => Ok((FAILED, "ended early, as it was told to".into())),
    }
}

async fn tell_lines(
    lines: Option<Lines<BufReader<ChildStdout>>>,
    task: &Task,
    run: Uuid,
    heard: &mut Heard,
    tell: &mpsc::Sender<Told>,
) {
    let Some(mut lines) = lines else { return };
    while let Ok(Some(line)) = lines.next_line().await {
        let text = heard.line(&line);
        let ((done, total), volume) = (heard.progress, task.volume.clone());
        let _ = tell.send(Told::Progress(Progress { run, volume, done, total, text })).await;
    }
}

/// A target that may not have content is absent, or an empty file, which may be made larger.
fn force(target: &Target) -> Result<Option<OsString>, String> {
    let path = target.path.display();
    match std::fs::metadata(&target.path) {
        Ok(meta) if meta.is_file() && meta.len() == 0 => Ok(Some("--force".into())),
        Ok(_) if !target.overwrite => {
            Err(format!("target {path} has content, and this agent's configuration does not say `overwrite: true`"))
        }
        _ => Ok(None),
    }
}

fn code_of(status: ExitStatus) -> u8 {
    status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code <= 4).unwrap_or(FAILED)
}

fn last_line(text: &str) -> String {
    let line = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

async fn pre(
    run: Uuid,
    name: &LocalName,
    bracket: &Bracket,
    volumes: &[VolumeName],
    cancel: &mut Cancel,
) -> Result<(), String> {
    hook("pre", name, &bracket.pre, bracket.pre_timeout, &environment(run, name, volumes), cancel).await
}

async fn post(run: Uuid, name: &LocalName, bracket: &Bracket, volumes: &[VolumeName], code: u8) -> Result<(), String> {
    let (_never, mut cancel) = watch::channel(false);
    let mut environment = environment(run, name, volumes);
    environment.push(("UNDERSTUDY_CODE", code.to_string()));
    hook("post", name, &bracket.post, bracket.post_timeout, &environment, &mut cancel).await
}

/// What hooks are told of what they are run for.
fn environment(run: Uuid, name: &LocalName, volumes: &[VolumeName]) -> Vec<(&'static str, String)> {
    let volumes: Vec<&str> = volumes.iter().map(VolumeName::as_str).collect();
    vec![
        ("UNDERSTUDY_BRACKET", name.to_string()),
        ("UNDERSTUDY_RUN", run.to_string()),
        ("UNDERSTUDY_VOLUMES", volumes.join(" ")),
    ]
}

async fn hook(
    phase: &str,
    name: &LocalName,
    words: &[String],
    limit: Duration,
    environment: &[(&'static str, String)],
    cancel: &mut Cancel,
) -> Result<(), String> {
    let Some((program, words)) = words.split_first() else { return Ok(()) };
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    let failed = |why: String| format!("{phase} of bracket {name}: {program}: {why}");
    let mut command = command(Path::new(program), &words);
    command.env("UNDERSTUDY_PHASE", phase).envs(environment.iter().map(|(key, value)| (*key, value)));
    let mut child = command.spawn().map_err(|e| failed(format!("cannot be started: {e}")))?;
    let (out, errors) = (Tail::of(child.stdout.take()), Tail::of(child.stderr.take()));
    let ended = finish(&mut child, Some(limit), cancel).await.map_err(|e| failed(e.to_string()))?;
    let said = last_line(&format!("{}\n{}", out.text().await, errors.text().await));
    match ended {
        Ended::Exited(status) if status.success() => Ok(()),
        Ended::Exited(status) => Err(failed(format!("{status}: {said}"))),
        Ended::TimedOut => Err(failed(format!("not done after {limit:?}, and was ended: {said}"))),
        Ended::Cancelled => Err(failed("ended early, as it was told to".into())),
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
