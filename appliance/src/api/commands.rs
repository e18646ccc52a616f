//! Commands: what changes something, or takes a while, carried out on a thread and told event by event.
//!
//! A client that accepts a stream of events gets them as they come ([`TOLD`], then [`ENDED`] or [`FAILED`]); any other gets all of it when it
//! is over. Invariants: who left, and the end of the daemon, stop the command; a client that does not read delays nothing but what it
//! asked for; whatever is told is told to whoever listens to the daemon as well, but for what is about clients, tokens among it: that is for who
//! asked alone.

use super::context::{Context, Works};
use super::input::{InBody, InPath};
use super::options::{self, Options};
use super::problem::Problem;
use crate::access::{ClientName, Right};
use crate::agents::args::OfAgents;
use crate::args::{Clients, Command, Jobs, Upkeep};
use crate::error::{Error, Result};
use crate::upkeep::{Outcome, Told};
use crate::{agents, jobs};
use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use hyper::HeaderMap;
use hyper::header::ACCEPT;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use understudy_format::FormatError;
use understudy_format::point::VolumeName;
use understudy_net::http::EVENT_STREAM;

/// Something happened: its `text`, and its `event` for programs.
pub const TOLD: &str = "told";
/// It is done: the exit code as `code`, and `outcome`.
pub const ENDED: &str = "ended";
/// It failed: a problem.
pub const FAILED: &str = "failed";

/// Events that wait for the client.
const QUEUE: usize = 64;
/// How often a client is told that the daemon is still there.
pub(super) const ALIVE: Duration = Duration::from_secs(15);

/// What comes of a command.
enum Message {
    Told(Told),
    Ended(Result<Outcome>),
}

/// A command that is under way; whoever drops this stops it.
struct UnderWay {
    messages: mpsc::Receiver<Message>,
    stop: Arc<AtomicBool>,
    works: Works,
}

/// `POST /v1/commands/{command}`.
pub(super) async fn carry_out(
    State(context): State<Context>,
    headers: HeaderMap,
    InPath(name): InPath<String>,
    InBody(options): InBody<Options>,
) -> Result<Response, Problem> {
    if !options::commands().iter().any(|command| command.get_name() == name) {
        return Err(Problem::unknown(format!("there is no command {name:?}; /v1/openapi.json has them all")));
    }
    let command = options::read(&name, &options).map_err(Problem::misunderstood)?;
    may(&context, &command)?;
    if is_recorded(&command) {
        let what = format!("{name} {}", Value::from(options));
        context.daemon.access.record("command", &context.peer, what).await?;
    }
    let under_way = start(&context, name, command);
    match accepts_events(&headers) {
        true => Ok(as_events(under_way)),
        false => as_a_whole(under_way).await,
    }
}

/// Whether it goes into the audit log: what changes what is kept or set, or has something done.
fn is_recorded(command: &Command) -> bool {
    match command {
        Command::Upkeep(upkeep) => !matches!(upkeep, Upkeep::Collect(_) | Upkeep::Scrub(_)),
        Command::Jobs(Jobs::Run(_)) => true,
        Command::Clients(clients) => !matches!(clients, Clients::Clients(_)),
        Command::OfAgents(of_agents) => !matches!(of_agents, OfAgents::Agents(_)),
        _ => false,
    }
}

/// Fails unless whoever asks may have this done: to the volumes that it names, or to the pool as a whole. A client instructs the agent of its own
/// name; for another one, or whichever offers the volumes, it needs the right to the whole pool.
fn may(context: &Context, command: &Command) -> Result<(), Problem> {
    let misunderstood = |error: FormatError| Problem::misunderstood(error.to_string());
    let (right, volumes) = match command {
        Command::Upkeep(upkeep) => (Right::Administer, upkeep.volumes().map_err(misunderstood)?),
        Command::Jobs(Jobs::Run(_)) | Command::Clients(_) => (Right::Administer, Vec::new()),
        Command::OfAgents(of_agents) => of_agents.needs().map_err(misunderstood)?,
        _ => (Right::Read, Vec::new()),
    };
    let is_of_another = matches!(command, Command::OfAgents(what) if !context.is_agent(what.agent()));
    if volumes.is_empty() || is_of_another {
        context.may(right, None)?;
    }
    volumes.iter().try_for_each(|volume| context.may(right, Some(volume)))?;
    if !context.has_all(Right::Read) {
        is_there(context, command, &volumes)?;
    }
    match command {
        Command::Upkeep(upkeep) if upkeep.takes_away() => Ok(context.daemon.access.may_destroy(&context.peer)?),
        _ => Ok(()),
    }
}

/// Fails when what a client names is not there, and tells it nothing of what is: that is for who may read all.
fn is_there(context: &Context, command: &Command, volumes: &[VolumeName]) -> Result<(), Problem> {
    let daemon = &context.daemon;
    if let Command::OfAgents(of_agents) = command {
        let is_gone = |name: &&ClientName| !daemon.agents.list().iter().any(|agent| agent.name == **name);
        if let Some(name) = of_agents.agent().filter(is_gone) {
            return Err(
                Error::refused(format!("no agent {name} was here; start `understudy agent` on its host")).into()
            );
        }
    }
    // What is replicated may not be there yet.
    let makes = matches!(command, Command::OfAgents(OfAgents::Replicate(_)));
    match volumes.iter().find(|name| !makes && daemon.pool.volume(name).is_none()) {
        Some(name) => Err(Error::refused(format!("there is no volume {name}; /v1/volumes has them all")).into()),
        None => Ok(()),
    }
}

/// Whether the client wants a stream of events.
fn accepts_events(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT).iter().any(|accept| accept.to_str().is_ok_and(|accept| accept.contains(EVENT_STREAM)))
}

fn start(context: &Context, name: String, command: Command) -> UnderWay {
    let (tell, messages) = mpsc::channel(QUEUE);
    let stop = Arc::new(AtomicBool::new(false));
    let (own, context, works) = (stop.clone(), context.clone(), context.works.clone());
    tokio::task::spawn_blocking(move || {
        // Nobody may listen any more: then the stop flag is set.
        let send = |message| drop(tell.blocking_send(message));
        let mut told = |told: Told| {
            if !matches!(command, Command::Clients(_)) {
                context.daemon.events.tell(&name, &told);
            }
            send(Message::Told(told));
        };
        let result = jobs::run::survived(|| act(&context, &command, &own, &mut told));
        send(Message::Ended(result));
    });
    UnderWay { messages, stop, works }
}

fn act(context: &Context, command: &Command, stop: &AtomicBool, tell: &mut dyn FnMut(Told)) -> Result<Outcome> {
    let daemon = &context.daemon;
    match command {
        Command::Upkeep(args) => daemon.check(args).and_then(|()| daemon.upkeep(args, stop, tell)),
        Command::Clients(args) => daemon.access.carry_out(args, &context.peer, tell),
        Command::Jobs(args) => jobs::commands::run(daemon, args, stop, tell),
        Command::OfAgents(args) => agents::commands::run(daemon, args, stop, tell),
        _ => Err(Error::refused("that is not for a running daemon")),
    }
}

impl UnderWay {
    /// What came of it next; `None` after the end. When the daemon ends the command is stopped, and still tells how it ended.
    async fn next(&mut self) -> Option<Message> {
        let is_stopping = self.stop.load(Ordering::SeqCst);
        tokio::select! {
            biased;
            () = self.works.stopping(), if !is_stopping => self.stop.store(true, Ordering::SeqCst),
            message = self.messages.recv() => return message,
        }
        self.messages.recv().await
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn as_events(under_way: UnderWay) -> Response {
    let events = stream::unfold(under_way, |mut under_way| async {
        let event = match under_way.next().await? {
            Message::Told(told) => Event::default().event(TOLD).data(told_json(&told).to_string()),
            Message::Ended(Ok(outcome)) => Event::default().event(ENDED).data(ended_json(outcome).to_string()),
            Message::Ended(Err(error)) => Event::default().event(FAILED).data(Problem::from(error).json().to_string()),
        };
        Some((Ok::<_, Infallible>(event), under_way))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)).into_response()
}

async fn as_a_whole(mut under_way: UnderWay) -> Result<Response, Problem> {
    let mut events = Vec::new();
    while let Some(message) = under_way.next().await {
        match message {
            // How far it is, is of no interest once it is over.
            Message::Told(told) if told.is_progress() => {}
            Message::Told(told) => events.push(told.event),
            Message::Ended(Ok(outcome)) => {
                let mut whole = ended_json(outcome);
                whole["events"] = events.into();
                return Ok(Json(whole).into_response());
            }
            Message::Ended(Err(error)) => return Err(error.into()),
        }
    }
    Err(Error::Closing.into())
}

/// What was told, as it is sent.
pub(super) fn told_json(told: &Told) -> Value {
    json!({"text": told.text, "event": told.event})
}

fn ended_json(outcome: Outcome) -> Value {
    let name = match outcome {
        Outcome::Done => "done",
        Outcome::Warnings => "warnings",
        Outcome::Different => "damage",
    };
    json!({"code": outcome.code(), "outcome": name})
}
