//! The control session of an agent: what it says goes to [`Agents`], what it is told comes from there.
//!
//! Invariants: both directions go on by themselves, joined by bounded queues, so an agent that floods or takes nothing ends only its own
//! session; a silence as long as the agent announced is the end, as is a later session of the same name.

use super::run::declined;
use super::{AGENTS_MAX, Agent, Agents, Arrival, LATE_MAX, Late, QUEUE, Session, State};
use crate::clock;
use crate::locks::lock;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::{self, Receiver, Sender};
use understudy_format::ErrorKind;
use understudy_format::access::ClientName;
use understudy_format::agent::{Announcement, Report};
use understudy_format::wire::{Control, Message};
use understudy_net::NetError;
use understudy_net::framed::{MessageReader, MessageWriter};

/// Serves the control session that an announcement opened.
pub async fn serve<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    agents: &Arc<Agents>,
    arrival: Arrival,
    reader: &mut MessageReader<R>,
    writer: &mut MessageWriter<W>,
) -> Result<(), NetError> {
    let silence = Duration::from_millis(arrival.silence_ms.into());
    reader.set_idle_max(silence);
    writer.set_idle_max(silence);
    let (seat, outgoing) = Seat::take(agents, arrival)?;
    let (answer, answers) = mpsc::channel(QUEUE);
    tokio::select! {
        ended = listen(&seat, reader, answer) => ended,
        ended = speak(&seat, writer, outgoing, answers) => ended,
    }
}

async fn listen<R: AsyncRead + Unpin>(
    seat: &Seat,
    reader: &mut MessageReader<R>,
    answer: Sender<Control>,
) -> Result<(), NetError> {
    while let Some(message) = reader.next().await? {
        let control = match message {
            Message::Control(control) => control,
            other => return Err(out_of_place(&other)),
        };
        if let Some(answered) = seat.hear(control)?
            && answer.send(answered).await.is_err()
        {
            break;
        }
    }
    Ok(())
}

async fn speak<W: AsyncWrite + Unpin>(
    seat: &Seat,
    writer: &mut MessageWriter<W>,
    mut outgoing: Receiver<Control>,
    mut answers: Receiver<Control>,
) -> Result<(), NetError> {
    loop {
        let control = tokio::select! {
            told = outgoing.recv() => told.ok_or_else(|| seat.taken_over())?,
            Some(answer) = answers.recv() => answer,
        };
        writer.send(&control.into()).await?;
    }
}

fn out_of_place(message: &Message) -> NetError {
    NetError::Unexpected { expected: "a message of an agent", found: message.name() }
}

/// The one session of an agent, until this is dropped or another one takes its place.
#[derive(Debug)]
pub(super) struct Seat {
    agents: Arc<Agents>,
    name: ClientName,
    number: u64,
}

impl Seat {
    /// The session of an agent that arrived, and what the agent is to be told.
    pub(super) fn take(agents: &Arc<Agents>, arrival: Arrival) -> Result<(Self, Receiver<Control>), NetError> {
        let Arrival { name, software, announcement, .. } = arrival;
        let mut state = lock(&agents.state);
        if !state.agents.contains_key(&name) && state.agents.len() >= AGENTS_MAX {
            state.agents.retain(|_, agent| !agent.is_gone());
        }
        if !state.agents.contains_key(&name) && state.agents.len() >= AGENTS_MAX {
            let text = format!("there are {AGENTS_MAX} agents already");
            return Err(NetError::Remote { kind: ErrorKind::Refused, text });
        }
        state.sessions += 1;
        let (number, (outgoing, receiver)) = (state.sessions, mpsc::channel(QUEUE));
        let (session, since_ns) = (Some(Session { number, outgoing }), clock::now_ns());
        tracing::info!(agent = %name, software, volumes = announcement.volumes.len(), "an agent is connected");
        let runs = state.agents.remove(&name).map(|agent| agent.runs).unwrap_or_default();
        let mut agent = Agent { session, since_ns, software, announcement, runs };
        agent.take_stock();
        state.agents.insert(name.clone(), agent);
        drop(state);
        agents.changed.notify_all();
        agents.arrivals.notify_one();
        Ok((Self { agents: agents.clone(), name, number }, receiver))
    }

    /// Takes what the agent said; what is answered to that.
    pub(super) fn hear(&self, control: Control) -> Result<Option<Control>, NetError> {
        let answer = match control {
            // Nothing is new.
            Control::Ping => return Ok(Some(Control::Pong)),
            Control::Report(report) => {
                let run = report.run;
                self.reported(report);
                Some(Control::Taken { run })
            }
            Control::Announce { name, announcement, .. } => {
                self.announced(&name, announcement)?;
                None
            }
            Control::Progress(progress) => {
                self.with(|agent| {
                    if let Some(run) = agent.runs.get_mut(&progress.run) {
                        run.came_to(progress);
                    }
                });
                None
            }
            Control::Decline { run, kind, text } => {
                self.with(|agent| {
                    let is_waited_for = agent.runs.get_mut(&run).is_some_and(|run| run.end(Err(declined(kind, text))));
                    if !is_waited_for {
                        agent.runs.remove(&run);
                    }
                });
                None
            }
            other => return Err(out_of_place(&other.into())),
        };
        self.agents.changed.notify_all();
        Ok(answer)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Agent) -> T) -> Option<T> {
        lock(&self.agents.state).agents.get_mut(&self.name).map(act)
    }

    /// A run ended: who waits for it hears that; otherwise it is kept for who asks.
    fn reported(&self, report: Report) {
        let mut state = lock(&self.agents.state);
        let State { agents, late, .. } = &mut *state;
        let Some(agent) = agents.get_mut(&self.name) else { return };
        let Some(known) = agent.runs.get_mut(&report.run) else { return };
        let report = known.own(report);
        if known.end(Ok(report.clone())) {
            return;
        }
        let work = known.work().clone();
        agent.runs.remove(&report.run);
        let Report { run, code, text, .. } = &report;
        tracing::info!(agent = %self.name, %run, code, text, "a run ended that nobody waits for any more");
        late.push_back(Late { agent: self.name.clone(), work, report });
        late.drain(..late.len().saturating_sub(LATE_MAX));
        self.agents.arrivals.notify_one();
    }

    /// What the agent offers changed.
    fn announced(&self, name: &ClientName, announcement: Announcement) -> Result<(), NetError> {
        if *name != self.name {
            let text = format!("this is the session of agent {}, not of {name}", self.name);
            return Err(NetError::Remote { kind: ErrorKind::Refused, text });
        }
        self.with(|agent| {
            // What is under way is known better here: an assignment may have crossed the announcement.
            if agent.session.as_ref().is_some_and(|session| session.number == self.number) {
                agent.announcement = Announcement { under_way: Vec::new(), ..announcement };
            }
        });
        Ok(())
    }

    fn taken_over(&self) -> NetError {
        let text = format!("another session of agent {} has taken the place of this one", self.name);
        NetError::Remote { kind: ErrorKind::Refused, text }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.with(|agent| {
            if agent.session.as_ref().is_some_and(|session| session.number == self.number) {
                (agent.session, agent.since_ns) = (None, clock::now_ns());
                tracing::info!(agent = %self.name, "an agent is not connected any more");
            }
        });
        self.agents.changed.notify_all();
    }
}
