//! The agents: which are connected, what they offer, and what each is doing.
//!
//! A control session ([`session`]) tells what it hears; who wants something done on a host waits in [`Agents::carry_out`] until the
//! agent there reports. Invariants: everything known of agents is in one place, behind one lock, and nobody waits for a network while
//! holding it; a run ends once, by a report, a refusal, or because it is certain that no report will come; a lost session ends no run.

pub mod args;
pub mod commands;
mod patience;
mod run;
pub mod session;
#[cfg(test)]
mod tests;

use crate::clock::{self, Clock, SystemClock};
use crate::error::{Error, Result};
use crate::locks::lock;
use crate::upkeep::Told;
use patience::Patience;
use run::Run;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use understudy_format::access::ClientName;
use understudy_format::agent::{Announcement, Assignment, Report, Work};
use understudy_format::point::VolumeName;
use understudy_format::wire::Control;
use uuid::Uuid;

/// Most agents that are remembered.
pub const AGENTS_MAX: usize = 4096;
/// Most reports of runs that nobody waits for that are kept.
const LATE_MAX: usize = 1024;
/// How often who waits for a run looks whether it is still to go on.
const LOOK: Duration = Duration::from_millis(200);
/// Messages that wait for an agent.
const QUEUE: usize = 64;

/// What is known of an agent.
#[derive(Debug, Clone)]
pub struct AgentInfo {
    /// Its name.
    pub name: ClientName,
    /// Whether it has a session.
    pub connected: bool,
    /// Since when that is so, nanoseconds since 1970-01-01T00:00:00Z.
    pub since_ns: i64,
    /// Program and version.
    pub software: String,
    /// What it offers.
    pub announcement: Announcement,
    /// What it does.
    pub runs: Vec<RunInfo>,
}

/// What is known of a run that is under way.
#[derive(Debug, Clone)]
pub struct RunInfo {
    /// The run.
    pub run: Uuid,
    /// What it does.
    pub work: Work,
    /// Of each volume that it came to: bytes that are done, and bytes in all.
    pub progress: BTreeMap<VolumeName, (u64, u64)>,
}

/// An agent that opens a control session.
#[derive(Debug)]
pub struct Arrival {
    /// Who it is.
    pub name: ClientName,
    /// Program and version.
    pub software: String,
    /// How long its session may be silent, milliseconds.
    pub silence_ms: u32,
    /// What it offers and does.
    pub announcement: Announcement,
}

/// How a run ended that nobody waited for any more.
#[derive(Debug)]
pub struct Late {
    /// Who did it.
    pub agent: ClientName,
    /// What was to be done.
    pub work: Work,
    /// How it ended.
    pub report: Report,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Agents {
    state: Mutex<State>,
    changed: Condvar,
    arrivals: Notify,
}

#[derive(Debug, Default)]
struct State {
    agents: BTreeMap<ClientName, Agent>,
    /// Sessions that there were: each has a number.
    sessions: u64,
    /// What nobody asked for yet, oldest first.
    late: VecDeque<Late>,
    closing: bool,
}

#[derive(Debug)]
struct Agent {
    session: Option<Session>,
    since_ns: i64,
    software: String,
    announcement: Announcement,
    runs: BTreeMap<Uuid, Run>,
}

#[derive(Debug)]
struct Session {
    number: u64,
    outgoing: mpsc::Sender<Control>,
}

/// What is new of a run.
struct Seen {
    told: Vec<Told>,
    end: Option<Result<Report>>,
    /// The number of the session that its agent has.
    session: Option<u64>,
}

impl Agents {
    /// All agents that were here, by name.
    pub fn list(&self) -> Vec<AgentInfo> {
        lock(&self.state).agents.iter().map(|(name, agent)| agent.info(name)).collect()
    }

    /// The agents that are connected, each with the volumes that it does something with.
    pub fn present(&self) -> BTreeMap<ClientName, BTreeSet<VolumeName>> {
        let state = lock(&self.state);
        let connected = state.agents.iter().filter(|(_, agent)| agent.session.is_some());
        connected.map(|(name, agent)| (name.clone(), agent.busy())).collect()
    }

    /// How runs ended that nobody waited for; each is told once.
    pub fn late(&self) -> Vec<Late> {
        lock(&self.state).late.drain(..).collect()
    }

    /// The one agent that offers all these volumes.
    pub fn offering(&self, volumes: &[VolumeName]) -> Result<ClientName> {
        let state = lock(&self.state);
        let offers = |agent: &Agent| volumes.iter().all(|volume| agent.offers(volume));
        let found: Vec<&ClientName> =
            state.agents.iter().filter(|(_, agent)| offers(agent)).map(|(name, _)| name).collect();
        match found[..] {
            [only] => Ok(only.clone()),
            [] => Err(Error::refused(format!("no agent that was here offers {}", names(volumes)))),
            _ => Err(Error::refused(format!("{} are offered by agents {}: name one", names(volumes), names(&found)))),
        }
    }

    /// Has an agent do something, and waits until it reports how that went.
    ///
    /// Fails when the agent is not connected, refuses, or is gone for longer than a network that comes back.
    pub fn carry_out(
        &self,
        agent: &ClientName,
        work: Work,
        stop: &AtomicBool,
        tell: &mut dyn FnMut(Told),
    ) -> Result<Report> {
        let run = clock::random_uuid();
        self.assign(agent, Assignment { run, work })?;
        let result = self.wait(agent, run, stop, tell);
        if let Some(agent) = lock(&self.state).agents.get_mut(agent) {
            agent.let_go(run);
        }
        // Its volumes are free.
        self.arrivals.notify_one();
        result
    }

    /// Waits for an agent to come, or to end a run; also for what happened since this was waited for before.
    pub async fn arrival(&self) {
        self.arrivals.notified().await;
    }

    /// Nothing is waited for any more: the daemon ends, and what agents do goes on without it.
    pub fn close(&self) {
        lock(&self.state).closing = true;
        self.changed.notify_all();
    }

    fn assign(&self, name: &ClientName, assignment: Assignment) -> Result<()> {
        let mut state = lock(&self.state);
        let Some(agent) = state.agents.get_mut(name) else {
            let there: Vec<&ClientName> = state.agents.keys().collect();
            return Err(Error::refused(format!("no agent {name} was here; there is: {}", names(&there))));
        };
        agent.say(name, Control::Assign(assignment.clone()))?;
        agent.runs.insert(assignment.run, Run::waited_for(assignment.work));
        Ok(())
    }

    /// Waits for the end of a run.
    fn wait(&self, name: &ClientName, run: Uuid, stop: &AtomicBool, tell: &mut dyn FnMut(Told)) -> Result<Report> {
        let (clock, mut patience, mut cancelled) = (SystemClock::start(), Patience::default(), None);
        loop {
            let Seen { told, end, session } = self.look(name, run)?;
            told.into_iter().for_each(&mut *tell);
            if let Some(end) = end {
                return end;
            }
            if stop.load(Ordering::SeqCst) && cancelled != session {
                cancelled = session;
                self.cancel(name, run);
            }
            if patience.is_over(session, stop.load(Ordering::SeqCst), clock.elapsed_ns()) {
                return Err(Error::Busy(format!(
                    "agent {name} gives no sign of run {run} any more; the log tells how it ended, should the agent come back"
                )));
            }
            self.pause();
        }
    }

    /// What is new of a run.
    fn look(&self, name: &ClientName, run: Uuid) -> Result<Seen> {
        let mut state = lock(&self.state);
        let closing = state.closing;
        let agent = state.agents.get_mut(name).expect("an agent with a run that is waited for stays");
        let session = agent.session.as_ref().map(|session| session.number);
        let found = agent.runs.get_mut(&run).expect("a run that is waited for stays");
        let (told, end) = found.take_news();
        if closing && end.is_none() {
            return Err(Error::Closing);
        }
        Ok(Seen { told, end, session })
    }

    fn cancel(&self, name: &ClientName, run: Uuid) {
        if let Some(agent) = lock(&self.state).agents.get_mut(name) {
            // Who is not connected is told when it comes back.
            let _ = agent.say(name, Control::Cancel { run });
        }
    }

    /// Returns when something changed, or after a while.
    fn pause(&self) {
        let state = lock(&self.state);
        drop(self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner));
    }
}

impl Agent {
    fn info(&self, name: &ClientName) -> AgentInfo {
        AgentInfo {
            name: name.clone(),
            connected: self.session.is_some(),
            since_ns: self.since_ns,
            software: self.software.clone(),
            announcement: self.announcement.clone(),
            runs: self.runs.iter().map(|(run, what)| what.info(*run)).collect(),
        }
    }

    fn offers(&self, volume: &VolumeName) -> bool {
        self.announcement.volumes.iter().any(|offer| offer.name == *volume)
    }

    fn busy(&self) -> BTreeSet<VolumeName> {
        self.runs.values().flat_map(|run| run.work().volumes()).cloned().collect()
    }

    fn say(&self, name: &ClientName, control: Control) -> Result<()> {
        let Some(session) = &self.session else {
            let since = understudy_format::text::time(self.since_ns);
            return Err(Error::Busy(format!("agent {name} is not connected since {since}")));
        };
        let sent = session.outgoing.try_send(control);
        sent.map_err(|_| Error::Busy(format!("agent {name} does not take what it is told")))
    }

    /// Nobody waits for this run any more; one that did not end is still told of.
    fn let_go(&mut self, run: Uuid) {
        if self.runs.get_mut(&run).is_some_and(Run::let_go) {
            self.runs.remove(&run);
        }
    }

    /// Of what was under way before, only this is.
    fn take_stock(&mut self) {
        let listed: BTreeMap<Uuid, Work> = std::mem::take(&mut self.announcement.under_way)
            .into_iter()
            .map(|assignment| (assignment.run, assignment.work))
            .collect();
        self.runs.retain(|run, what| listed.contains_key(run) || what.lose());
        for (run, work) in listed {
            self.runs.entry(run).or_insert_with(|| Run::of(work));
        }
    }

    /// Whether nothing is lost when it is forgotten.
    fn is_gone(&self) -> bool {
        self.session.is_none() && !self.runs.values().any(Run::is_waited_for)
    }
}

/// Names, as people list them.
fn names(names: &[impl ToString]) -> String {
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}
