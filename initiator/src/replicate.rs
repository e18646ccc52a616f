//! `understudy replicate`: plan, send the stream over as many connections as it takes, and remember what the new point
//! looks like.
//!
//! Invariants: the local map is replaced only after the appliance said that the point is durable, and is
//! then the map of that very point; a failure at any time leaves map and points as they were. What is known of an interrupted
//! stream saves work and decides nothing: where it does not fit any more it is dropped with a message, never an error.

mod bitmap;
mod tell;

use crate::args::Replicate;
use crate::base::Base;
use crate::clock;
use crate::connection::Appliance;
use crate::digest_map::{MapFault, MapFile};
use crate::engine::Engine;
use crate::fetch_map::{fetch_map, id_of};
use crate::flight::{Ahead, Flight};
use crate::online;
use crate::outcome::Outcome;
use crate::plan::{Existing, Kind, MapFrom, Plan, Wish, goes_on, plan};
use crate::report::{Lines, Report};
use crate::retry::{self, Tries};
use crate::source::{self, Capture, Source};
use crate::state::{NewFile, VolumeState};
use crate::text;
use anyhow::{Context, Result, bail};
use bitmap::Belief;
use std::sync::Arc;
use std::time::Duration;
use tell::Stored;
use understudy_format::point::Point;
use understudy_format::session::{Cursor, Unfinished};
use understudy_format::stream::{self, Begin};
use understudy_format::wire::{BlockRange, Message};
use uuid::Uuid;

/// Runs the command.
pub async fn run(args: &Replicate) -> Result<Outcome> {
    let report = Report::new(args.json, Lines::Output).limited(args.rate.bandwidth);
    let source = source::open(&args.source, args.bitmap.as_deref())?;
    let appliance = Appliance::connect(&args.appliance).await?.limited(args.rate.bandwidth);
    let pool = appliance.pool;
    let state = VolumeState::lock(&args.state.directory(), pool, &args.volume)?;
    let tries = Tries::new(args.retries, Duration::from_millis(args.retry_delay));
    let resumes = Vec::new();
    let (flight, accepted, belief) = (None, false, Belief::default());
    let (captured, bytes_sent) = (source.clone(), 0);
    let run = Run { args, report, source, pool, state, tries, flight, accepted, bytes_sent, resumes, belief };
    let outcome = run.run(appliance).await;
    // What was stored is released already.
    source::released(&*captured, outcome)
}

/// A run: what outlives its connections.
struct Run<'a> {
    args: &'a Replicate,
    report: Report,
    source: Arc<dyn Source>,
    pool: Uuid,
    state: VolumeState,
    tries: Tries,
    flight: Option<Box<Flight>>,
    /// Whether an appliance accepted a stream of this run: only then a lost connection is tried again. Before, what is wrong
    /// is mostly the address.
    accepted: bool,
    bytes_sent: u64,
    resumes: Vec<u64>,
    belief: Belief,
}

/// How a connection ended, as far as it did not fail.
enum Ended {
    Stored(Box<Point>),
    /// Another one is needed at once.
    Again,
}

/// What the appliance answers to a begin record.
pub(crate) enum Answer {
    /// With the window, from this cursor on; these blocks of the base are lost.
    Accepted(u32, Cursor, Vec<BlockRange>),
    /// The point of this very stream is there.
    Stored(Box<Point>),
}

impl Run<'_> {
    async fn run(mut self, appliance: Appliance) -> Result<Outcome> {
        let mut connected = Some(appliance);
        let point = loop {
            match self.connection(connected.take()).await {
                Ok(Ended::Stored(point)) => break *point,
                Ok(Ended::Again) => {}
                Err(error) => match bitmap::mistrust(&error) {
                    Some(mistrust) => self.stop_believing(mistrust),
                    None => self.wait_after(error).await?,
                },
            }
        };
        self.finish(point)
    }

    /// One connection, from its beginning to its end.
    async fn connection(&mut self, connected: Option<Appliance>) -> Result<Ended> {
        let mut appliance = match connected {
            Some(appliance) => appliance,
            None => self.connect().await?,
        };
        let found = appliance.points(&self.args.volume, 1).await?;
        let existing = found.map(Existing::from);
        if let Some(point) = self.stored_before(existing.as_ref()) {
            return Ok(Ended::Stored(Box::new(point)));
        }
        let mut flight = self.flight(&mut appliance, existing).await?;
        let resumed = flight.remembered;
        let (name, label, group) = (self.args.volume.clone(), self.args.label.clone(), self.args.group);
        let push = Message::Push { name, label, group, over: None };
        let (window, cursor, again) = match open_stream(&mut appliance, push, &flight.begin).await {
            Ok(Answer::Accepted(window, cursor, again)) => (window, cursor, again),
            Ok(Answer::Stored(point)) => return Ok(self.stored_elsewhere(flight, *point)),
            Err(error) if resumed && retry::is_void(&error) => return Ok(self.void(flight, &text::one_line(&error))),
            Err(error) => {
                self.flight = Some(flight);
                return Err(error);
            }
        };
        if !(resumed || cursor.is_start()) {
            bail!("appliance {}: it goes on with a stream that it never had: report this", appliance.address);
        }
        self.accepted = true;
        if !again.is_empty() {
            tell::again(&again, &mut self.report);
        }
        flight.send_again(again);
        self.tries.came_to(cursor.next_block.0);
        if !std::mem::replace(&mut flight.remembered, true) {
            self.state.remember(&Unfinished { pool: self.pool, begin: flight.begin })?;
        }
        self.go_on(appliance, flight, resumed, window, &cursor).await
    }

    /// From the cursor on.
    async fn go_on(
        &mut self,
        appliance: Appliance,
        mut flight: Box<Flight>,
        resumed: bool,
        window: u32,
        cursor: &Cursor,
    ) -> Result<Ended> {
        match flight.turn_to(cursor, &*self.source)? {
            Ahead::Differs => {
                let reason = format!("the source changed before block {}, where it was cut", cursor.next_block);
                return Ok(self.void(flight, &reason));
            }
            Ahead::Check => {
                // The appliance does not wait as long as reading may take.
                self.bytes_sent += appliance.writer.bytes_sent();
                drop(appliance);
                tell::check(&flight.begin, cursor, &mut self.report);
                flight.check(cursor, self.source.clone(), &mut self.report)?;
                self.flight = Some(flight);
                return Ok(Ended::Again);
            }
            Ahead::Send => {}
        }
        match cursor.is_start() {
            true if resumed => tell::nothing_durable(&mut self.report),
            true => {}
            false => {
                tell::resume(&flight.begin, cursor, &mut self.report);
                self.resumes.push(cursor.next_block.0);
            }
        }
        self.send(appliance, flight, window, cursor).await
    }

    async fn send(
        &mut self,
        appliance: Appliance,
        mut flight: Box<Flight>,
        window: u32,
        cursor: &Cursor,
    ) -> Result<Ended> {
        let job = flight.job(self.source.clone());
        self.report.begin("replicating", flight.plan.geometry.volume_size());
        let (begin, met) = (flight.begin, flight.met);
        let engine = Engine::online(begin, window, cursor, self.args.compress, &mut flight.map, met);
        let gives_up = |error: &anyhow::Error| retry::is_own(error) && bitmap::mistrust(error).is_none();
        let at_once = std::future::ready(Ok(()));
        let sent = online::send(appliance, engine, job, self.bytes_sent, at_once, gives_up, &mut self.report).await;
        self.bytes_sent += sent.bytes_sent;
        flight.came_to(&sent.counts, sent.commit);
        self.flight = Some(flight);
        Ok(Ended::Stored(Box::new(sent.stored?)))
    }

    async fn connect(&self) -> Result<Appliance> {
        let appliance = Appliance::connect(&self.args.appliance).await?.limited(self.args.rate.bandwidth);
        if appliance.pool != self.pool {
            let (address, found, pool) = (&appliance.address, appliance.pool, self.pool);
            bail!("appliance {address}: pool {found} is there now, the stream goes to pool {pool}: run it again");
        }
        Ok(appliance)
    }

    /// The stream under way, or that of an earlier run, or a new one.
    async fn flight(&mut self, appliance: &mut Appliance, existing: Option<Existing>) -> Result<Box<Flight>> {
        let wish = self.wish();
        if let Some(flight) = self.flight.take() {
            match goes_on(&flight.begin, existing.as_ref(), wish) {
                Ok(()) => return Ok(flight),
                Err(reason) => drop(self.void(flight, &reason)),
            }
        }
        let (plan, local) = self.make_plan(existing.as_ref())?;
        tell::start(self.args, &plan, &mut self.report);
        let unfinished = self.unfinished(existing.as_ref());
        let base = base_map(appliance, &plan, local, &self.state).await?;
        let mut base = base.map(|map| Base::new(map, &plan.geometry));
        let begin = unfinished.unwrap_or_else(|| begin(&plan));
        let of = tell::base_of(&plan).map(|base| base.stream);
        self.source.capture(Some(Capture { volume: begin.volume, stream: begin.stream, base: of }))?;
        self.believe(&plan, base.as_mut());
        Flight::new(plan, begin, base, unfinished.is_some(), self.state.map_path()).map(Box::new)
    }

    /// The stream that an earlier run did not finish, unless it is of no use any more.
    fn unfinished(&mut self, existing: Option<&Existing>) -> Option<Begin> {
        if self.source.is_held() {
            // Its image was of another moment, after which its bitmap is named.
            self.state.forget();
            return None;
        }
        let fits = |stream: Unfinished| goes_on(&stream.begin, existing, self.wish()).map(|()| stream.begin);
        match self.state.unfinished()?.map_err(|error| text::one_line(&error)).and_then(fits) {
            Ok(begin) => Some(begin),
            Err(reason) => {
                self.state.forget();
                tell::dropped(&reason, &mut self.report);
                None
            }
        }
    }

    fn wish(&self) -> Wish {
        Wish { full: self.args.full, block_size: self.args.block_size, size: self.source.size() }
    }

    fn make_plan(&mut self, existing: Option<&Existing>) -> Result<(Plan, Option<MapFile>)> {
        let local = open_map(&self.state);
        if let Err(fault) = &local
            && !matches!(fault, MapFault::Missing)
        {
            self.report.warn(&format!("{}: {fault}; it is not used", self.state.map_path().display()));
        }
        let why = local.as_ref().map(MapFile::id).map_err(ToString::to_string);
        let plan = plan(self.pool, why.as_ref().copied().map_err(String::as_str), existing, self.wish());
        let plan = plan.with_context(|| format!("source {}", self.source.name()))?;
        Ok((plan, local.ok()))
    }

    /// The point of the stream under way, when all that was lost is the news of it.
    fn stored_before(&self, existing: Option<&Existing>) -> Option<Point> {
        let (flight, newest) = (self.flight.as_ref()?, existing?.newest.as_ref()?);
        let same = newest.stream == flight.begin.stream && flight.commit?.root == newest.map.root();
        same.then(|| newest.clone())
    }

    /// The stream was stored since the points were listed.
    fn stored_elsewhere(&mut self, flight: Box<Flight>, point: Point) -> Ended {
        if flight.commit.is_some_and(|commit| commit.root == point.map.root()) {
            self.flight = Some(flight);
            return Ended::Stored(Box::new(point));
        }
        self.void(flight, &format!("it is stored as point {}", point.number))
    }

    /// The stream is of no use: the next connection begins another one.
    fn void(&mut self, flight: Box<Flight>, reason: &str) -> Ended {
        drop(flight);
        self.state.forget();
        tell::dropped(reason, &mut self.report);
        Ended::Again
    }

    /// Waits before the next try; gives the error back when none may help.
    async fn wait_after(&mut self, error: anyhow::Error) -> Result<()> {
        let again = if self.accepted { retry::may_help(&error) } else { retry::is_busy(&error) };
        if !again {
            if retry::is_void(&error) {
                self.state.forget();
            }
            return Err(error);
        }
        let Some(next) = self.tries.next_try() else {
            let reason = format!("gave up after {} tries; run it again: the stream goes on", self.tries.max());
            return Err(if self.tries.max() > 0 { error.context(reason) } else { error });
        };
        tell::retry(&next, &self.tries, &error, &mut self.report);
        tokio::time::sleep(next.delay).await;
        Ok(())
    }

    fn finish(mut self, point: Point) -> Result<Outcome> {
        let Flight { plan, commit, met, file, .. } = *self.flight.take().expect("what was stored was under way");
        self.report.end();
        if let Err(e) = file.publish_map(&id_of(self.pool, &point)) {
            self.report.warn(&format!("point {} is stored, but its map is not kept here: {e:#}", point.number));
        }
        self.remember_bitmap(&point);
        self.state.forget();
        if let Err(e) = self.source.release(true) {
            self.report.warn(&format!("point {} is stored, but the source goes on as before: {e:#}", point.number));
        }
        let commit = commit.expect("what was stored was committed");
        let (bytes_sent, resumes, belief) = (self.bytes_sent, self.resumes, self.belief);
        let stored = Stored { point, commit, met, bytes_sent, resumes, belief };
        tell::summary(self.args, &plan, &stored, &mut self.report);
        Ok(if self.report.warnings() > 0 { Outcome::Warnings } else { Outcome::Done })
    }
}

fn open_map(state: &VolumeState) -> Result<MapFile, MapFault> {
    let map = MapFile::open(state.map_path())?;
    map.check()?;
    Ok(map)
}

/// The map of the base, fetched or refreshed when the local one is not it.
async fn base_map(
    appliance: &mut Appliance,
    plan: &Plan,
    local: Option<MapFile>,
    state: &VolumeState,
) -> Result<Option<Arc<MapFile>>> {
    let Kind::Incremental(base, from) = &plan.kind else { return Ok(None) };
    let stale = match (from, local) {
        (MapFrom::Local, Some(local)) => return Ok(Some(Arc::new(local))),
        (MapFrom::Refresh, local) => local,
        _ => None,
    };
    let file = NewFile::create(state.map_path())?;
    fetch_map(appliance, base, stale.as_ref(), &file.file()?).await?;
    file.publish_map(&id_of(appliance.pool, base))?;
    let map = MapFile::open(state.map_path()).context("digest map: the one just fetched")?;
    Ok(Some(Arc::new(map)))
}

/// The begin record of a stream that was planned.
pub(crate) fn begin(plan: &Plan) -> Begin {
    let base = tell::base_of(plan);
    Begin {
        volume: plan.volume.unwrap_or_else(clock::random_id),
        stream: clock::random_id(),
        geometry: plan.geometry,
        base: base.map(|base| stream::Base { root: base.map.root(), size: base.map.geometry.volume_size() }),
        created_ns: clock::now_ns(),
    }
}

/// Announces a stream, and begins it or goes on with it.
pub(crate) async fn open_stream(appliance: &mut Appliance, push: Message, begin: &Begin) -> Result<Answer> {
    appliance.send(&push).await?;
    match appliance.ask(&Message::Begin(*begin), "Accept").await? {
        Message::Accept { window, cursor, again } => Ok(Answer::Accepted(window, cursor, again)),
        Message::Stored(point) => Ok(Answer::Stored(Box::new(point))),
        other => Err(appliance.unexpected("Accept", &other)),
    }
}
