//! The running agent: one owner of all that it knows, one loop, one thing at a time.
//!
//! Session, runs, signals and the watchdog's clock tell this loop what happened; it decides ([`Desk`]), writes down ([`Store`]), and tells
//! session and runs what to do. Invariants: a run is written down before it begins and its report before it is sent; a lost session, and a
//! configuration that is read again, end no run; at the end every run is asked to end and waited for. The watchdog is told by this loop alone, so
//! it is told that the loop goes round.

use super::config::Config;
use super::desk::{Desk, Order};
use super::link::{self, Heard, Terms};
use super::run::{self, Told};
use super::store::{Store, Stored};
use anyhow::{Context, Result};
use sd_notify::NotifyState;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Interval, interval};
use understudy_config::log::Logs;
use understudy_format::agent::{Assignment, Report};
use understudy_format::wire::Control;
use understudy_format::{ErrorKind, agent};
use uuid::Uuid;

/// How long reports are waited for to be taken when the agent ends; they are kept in files all the same.
const LINGER: Duration = Duration::from_secs(2);
/// What wakes the loop where no watchdog does.
const BEAT: Duration = Duration::from_secs(60);
/// Events that wait for the loop.
const QUEUE: usize = 256;

/// Something that happened.
#[derive(Debug)]
enum Event {
    Session(Heard),
    Run(Told),
    End,
    ReadAgain,
    Beat,
}

/// See the module documentation.
pub struct Service<'a> {
    file: &'a Path,
    logs: &'a Logs,
    config: Arc<Config>,
    desk: Desk,
    store: Store,
    session: Link,
    say: Option<mpsc::Sender<Control>>,
    /// How to end each run.
    cancels: BTreeMap<Uuid, watch::Sender<bool>>,
    runs: (mpsc::Sender<Told>, mpsc::Receiver<Told>),
    ending: bool,
}

/// The task that holds the session.
struct Link {
    terms: Terms,
    heard: mpsc::Receiver<Heard>,
    task: JoinHandle<()>,
}

impl Link {
    fn to(terms: Terms) -> Self {
        let (tell, heard) = mpsc::channel(QUEUE);
        Self { task: tokio::spawn(link::hold(terms.clone(), tell)), terms, heard }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Outside {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    beat: Interval,
}

impl Outside {
    fn new() -> Result<Self> {
        let on = |kind| signal(kind).context("signals cannot be waited for");
        // Twice within the time that systemd waits.
        let every = sd_notify::watchdog_enabled().map_or(BEAT, |limit| limit / 2).max(Duration::from_millis(1));
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hangup: on(SignalKind::hangup())?,
            beat: interval(every),
        })
    }

    async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.terminate.recv() => Event::End,
            _ = self.interrupt.recv() => Event::End,
            _ = self.hangup.recv() => Event::ReadAgain,
            _ = self.beat.tick() => Event::Beat,
        }
    }
}

impl<'a> Service<'a> {
    /// With what an earlier agent of this host left.
    pub fn new(file: &'a Path, config: Config, logs: &'a Logs) -> Result<Self> {
        let config = Arc::new(config);
        let store = Store::open(&config.state_dir)?;
        let desk = Desk::new(config.clone());
        let session = Link::to(terms(&config));
        let (say, cancels, runs, ending) = (None, BTreeMap::new(), mpsc::channel(QUEUE), false);
        let mut service = Self { file, logs, config, desk, store, session, say, cancels, runs, ending };
        service.recall()?;
        Ok(service)
    }

    /// Serves until a signal ends it.
    pub async fn serve(mut self) -> Result<()> {
        let mut outside = Outside::new()?;
        notify(&[NotifyState::Ready]);
        self.tell_status();
        while !self.is_done() {
            let event = self.next(&mut outside).await;
            self.apply(event);
        }
        let last_words = async {
            while self.say.is_some() && self.desk.reports().next().is_some() {
                let event = self.next(&mut outside).await;
                self.apply(event);
            }
        };
        let _ = tokio::time::timeout(LINGER, last_words).await;
        Ok(())
    }

    async fn next(&mut self, outside: &mut Outside) -> Event {
        tokio::select! {
            event = outside.next() => event,
            Some(told) = self.runs.1.recv() => Event::Run(told),
            Some(heard) = self.session.heard.recv() => Event::Session(heard),
        }
    }

    fn is_done(&self) -> bool {
        self.ending && self.cancels.is_empty()
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Session(heard) => self.hear(heard),
            Event::Run(Told::Progress(progress)) => {
                if !progress.text.is_empty() {
                    tracing::info!(run = %progress.run, volume = %progress.volume, "{}", progress.text);
                }
                self.say(Control::Progress(progress));
            }
            Event::Run(Told::Ended(report)) => self.ended(report),
            Event::End => self.end(),
            Event::ReadAgain => self.read_again(),
            Event::Beat => notify(&[NotifyState::Watchdog]),
        }
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Up(say) => {
                self.say = Some(say);
                tracing::info!(appliance = self.config.appliance, "connected");
                self.announce();
                let reports: Vec<Report> = self.desk.reports().cloned().collect();
                reports.into_iter().for_each(|report| self.say(Control::Report(report)));
                self.tell_status();
            }
            Heard::Said(control) => self.told(control),
            Heard::Down(why, wait) => {
                self.say = None;
                tracing::warn!(appliance = self.config.appliance, why, again_in = ?wait, "not connected");
                self.tell_status();
            }
        }
    }

    /// The appliance said something.
    fn told(&mut self, control: Control) {
        match control {
            Control::Assign(assignment) => self.assigned(assignment),
            Control::Cancel { run } => {
                if let Some(cancel) = self.cancels.get(&run) {
                    tracing::info!(%run, "cancelled by the appliance");
                    cancel.send_replace(true);
                }
            }
            Control::Taken { run } => {
                if self.desk.taken(run)
                    && let Err(error) = self.store.forget(run)
                {
                    tracing::warn!(%run, "{error:#}");
                }
            }
            other => tracing::warn!(?other, "the appliance said something that has no place here"),
        }
    }

    fn assigned(&mut self, assignment: Assignment) {
        let run = assignment.run;
        match self.accept(&assignment) {
            Ok(Some(order)) => {
                tracing::info!(%run, "{}", assignment.work);
                let (cancel, cancelled) = watch::channel(false);
                self.cancels.insert(run, cancel);
                tokio::spawn(run::carry_out(order, cancelled, self.runs.0.clone()));
                self.tell_status();
            }
            Ok(None) => tracing::debug!(%run, "assigned again"),
            Err((kind, text)) => {
                tracing::warn!(%run, text, "declined: {}", assignment.work);
                self.say(Control::Decline { run, kind, text });
            }
        }
    }

    /// Decides, and writes down what is going to be done.
    fn accept(&mut self, assignment: &Assignment) -> Result<Option<Order>, (ErrorKind, String)> {
        if self.ending {
            return Err((ErrorKind::Retry, "the agent is being stopped".into()));
        }
        let order = self.desk.assign(assignment.clone()).map_err(|refusal| (refusal.kind, refusal.text))?;
        if order.is_some()
            && let Err(error) = self.store.keep(assignment, None)
        {
            self.desk.forget(assignment.run);
            return Err((ErrorKind::Retry, format!("{error:#}")));
        }
        Ok(order)
    }

    fn ended(&mut self, report: Report) {
        let (run, code) = (report.run, report.code);
        self.cancels.remove(&run);
        tracing::info!(%run, code, "ended: {}", report.text);
        if let Some(assignment) = self.desk.reported(report.clone())
            && let Err(error) = self.store.keep(&assignment, Some(&report))
        {
            tracing::error!(%run, "the report is not kept, should the agent end now: {error:#}");
        }
        self.say(Control::Report(report));
        self.tell_status();
    }

    fn end(&mut self) {
        tracing::info!(runs = self.cancels.len(), "stopping");
        notify(&[NotifyState::Stopping]);
        self.ending = true;
        for cancel in self.cancels.values() {
            cancel.send_replace(true);
        }
    }

    fn read_again(&mut self) {
        let reloading = NotifyState::monotonic_usec_now().ok();
        notify(&[NotifyState::Reloading].into_iter().chain(reloading).collect::<Vec<_>>());
        match Config::read(self.file) {
            Ok(config) => self.configure(config),
            Err(error) => tracing::error!("the configuration is wrong: what was in force still is: {error}"),
        }
        notify(&[NotifyState::Ready]);
        self.tell_status();
    }

    fn configure(&mut self, mut config: Config) {
        config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        if config.state_dir != self.config.state_dir {
            tracing::warn!(
                "state-dir was changed in the configuration: that takes a restart; what was is still in force"
            );
            config.state_dir.clone_from(&self.config.state_dir);
        }
        self.logs.set_level(config.log_level.as_deref());
        let is_other = config.name != self.config.name;
        self.config = Arc::new(config);
        self.desk.configure(self.config.clone());
        let terms = terms(&self.config);
        if is_other || terms != self.session.terms {
            (self.session, self.say) = (Link::to(terms), None);
        }
        self.announce();
        tracing::info!(file = %self.file.display(), "the configuration was read again and is in force");
    }

    fn announce(&mut self) {
        let (name, announcement) = (self.config.name.clone(), self.desk.announcement());
        let silence = u32::try_from(self.config.keep_alive.as_millis()).unwrap_or(agent::SILENCE_MS_MAX);
        self.say(Control::Announce { name, silence_ms: silence, announcement });
    }

    /// Says something to the appliance, if it is there; a session that takes nothing any more is over.
    fn say(&mut self, control: Control) {
        if self.say.as_ref().is_some_and(|say| say.try_send(control).is_err()) {
            self.say = None;
        }
    }

    /// Takes up what an earlier agent of this host left.
    fn recall(&mut self) -> Result<()> {
        let (found, unread) = self.store.load()?;
        unread.iter().for_each(|error| tracing::warn!("{error:#}"));
        for Stored { assignment, report } in found {
            let (run, is_open) = (assignment.run, report.is_none());
            let (volumes, bracket) = (assignment.work.volumes().to_vec(), self.desk.bracket_of(&assignment.work));
            self.desk.remember(assignment, report);
            if is_open {
                tracing::warn!(%run, "an earlier agent did not finish this run");
                self.cancels.insert(run, watch::channel(false).0);
                tokio::spawn(run::make_up(run, volumes, bracket, self.runs.0.clone()));
            }
        }
        Ok(())
    }

    fn tell_status(&self) {
        let session = if self.say.is_some() { "connected to" } else { "not connected to" };
        let status = format!("{session} {}; {} runs under way", self.config.appliance, self.cancels.len());
        notify(&[NotifyState::Status(&status)]);
    }
}

fn terms(config: &Config) -> Terms {
    let (appliance, identity) = (config.appliance.clone(), config.identity.clone());
    Terms { appliance, identity, silence: config.keep_alive, delay_max: config.reconnect }
}

/// Tells systemd, where there is one that listens.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be told");
    }
}
