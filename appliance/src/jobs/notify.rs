//! Tells whoever is to know that a job failed, does well again, fell behind or caught up: by a command, by a webhook.
//!
//! The way of a notice: the scheduler -> a bounded queue -> one task, which tries each way a bounded number of times, with a time limit each.
//! Invariants: nothing waits for a notice, and what the queue cannot take is told again; every notice is in the log; a command is run without a
//! shell, with the notice as JSON on its standard input; it is killed when its time is over, or when the daemon ends.

mod webhook;

use super::driver::record;
use super::scheduler::{Notice, nanoseconds};
use super::show;
use crate::config::{Event, Notify};
use crate::daemon::Daemon;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use understudy_format::history::JOBS_MAX;
use understudy_format::text;

/// Notices that wait: all that jobs can tell at a time.
const QUEUE: usize = 2 * JOBS_MAX as usize;
/// How long after the first failure it is tried again; after each further one twice as long.
const AGAIN: Duration = Duration::from_secs(1);

/// See the module documentation.
#[derive(Debug)]
pub struct Notifier {
    queue: mpsc::Sender<Notice>,
    /// Ends with this.
    _task: JoinSet<()>,
}

impl Notifier {
    /// Tells what is passed on, as the configuration that is then in force says.
    pub fn start(daemon: &Arc<Daemon>) -> Self {
        let (queue, mut notices) = mpsc::channel::<Notice>(QUEUE);
        let (daemon, mut task) = (daemon.clone(), JoinSet::new());
        task.spawn(async move {
            while let Some(notice) = notices.recv().await {
                tell(&daemon.config().notify, &notice).await;
            }
        });
        Self { queue, _task: task }
    }

    /// Passes on what is to be told now; when it is to be asked again at the latest.
    pub(super) fn look(&self, daemon: &Daemon, now: Timestamp) -> Option<Timestamp> {
        let repeat = daemon.config().notify.repeat;
        let newest = |volume: &_| daemon.newest_point(volume);
        let (notices, again) = daemon.jobs.alarms(&newest, repeat, now);
        let is_new = !notices.is_empty();
        notices.into_iter().for_each(|notice| self.pass(daemon, notice));
        if is_new {
            record(daemon);
        }
        again
    }

    fn pass(&self, daemon: &Daemon, notice: Notice) {
        let Notice { event, job, text, .. } = &notice;
        match event {
            Event::Failure | Event::Behind => tracing::warn!(job, event = event.name(), "{text}"),
            Event::Recovery | Event::CaughtUp => tracing::info!(job, event = event.name(), "{text}"),
        }
        if let Err(TrySendError::Full(notice)) = self.queue.try_send(notice) {
            tracing::error!(job = notice.job, "too many notices wait: this one is told again later");
            daemon.jobs.untold(&notice);
        }
    }
}

/// What is told, for programs.
fn message(notice: &Notice) -> Value {
    json!({
        "event": notice.event.name(), "job": notice.job, "task": notice.task, "time": text::time(nanoseconds(notice.at)),
        "text": notice.text,
        "run": notice.run.as_ref().map(|run| show::run_json(&notice.job, run)),
        "lag": notice.lag.as_ref().map(|lag| show::lag_json(lag, notice.at)),
    })
}

async fn tell(notify: &Notify, notice: &Notice) {
    if !notify.on.contains(&notice.event) {
        return;
    }
    let message = message(notice).to_string();
    tokio::join!(
        tried(notify, "command", !notify.command.is_empty(), || command(notify, &message)),
        tried(notify, "webhook", notify.webhook.is_some(), || webhook::post(notify, message.clone())),
    );
}

/// Tries one way of telling, as often as that may be.
async fn tried<F: Future<Output = Result<(), String>>>(
    notify: &Notify,
    way: &str,
    is_wanted: bool,
    act: impl Fn() -> F,
) {
    let mut pause = AGAIN;
    for attempt in (0..=notify.retries).filter(|_| is_wanted) {
        let reason = match timeout(notify.timeout, act()).await {
            Ok(Ok(())) => return,
            Ok(Err(reason)) => reason,
            Err(_) => format!("it took longer than {} s", notify.timeout.as_secs_f64()),
        };
        tracing::warn!(way, reason, attempt = attempt + 1, "a notice could not be delivered");
        if attempt < notify.retries {
            sleep(pause).await;
            pause *= 2;
        }
    }
}

async fn command(notify: &Notify, message: &str) -> Result<(), String> {
    let [program, args @ ..] = notify.command.as_slice() else { return Ok(()) };
    let said = |error: std::io::Error| format!("{program}: {error}");
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().map_err(said)?;
    if let Some(mut stdin) = child.stdin.take() {
        // Whether it reads is its own business.
        let _ = stdin.write_all(message.as_bytes()).await;
    }
    let status = child.wait().await.map_err(said)?;
    if status.success() { Ok(()) } else { Err(format!("{program}: {status}")) }
}
