//! What is stale at the appliance travels as a stream beside the journal: everything the first time, later what was dirty when the journal began.
//!
//! The appliance folds the journal over what was read, from its beginning to what is durable when the stream is committed; so the commit waits until
//! that covers everything that reading may have met. Invariants: a stream outlives the connections that carry it, and ends with the
//! journal that it was begun beside; only what was dirty at its start is clean once its point is stored.

use super::blocking;
use super::core::Core;
use super::open::VolumeFile;
use super::ship::Followed;
use super::snapshot::DirtySnapshot;
use super::stale::Stale;
use super::tell;
use super::terms::Terms;
use crate::base::Base;
use crate::clock::{self, Stopwatch};
use crate::connection::Appliance;
use crate::digest_map::MapFile;
use crate::engine::Engine;
use crate::fetch_map::{fetch_part, id_of};
use crate::flight::{Ahead, Flight};
use crate::online;
use crate::pack::Compress;
use crate::plan::{Existing, Kind, Wish, goes_on, plan};
use crate::replicate::{Answer, begin, open_stream};
use crate::report::Report;
use crate::retry;
use crate::sample::Sample;
use crate::state::scratch_file;
use crate::text;
use anyhow::{Context, Result, bail};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use understudy_format::point::Point;
use understudy_format::session::Cursor;
use understudy_format::wire::{BlockRange, Message};
use uuid::Uuid;

/// See the module documentation.
pub struct Resync {
    core: Arc<Core>,
    terms: Arc<Terms>,
    volume: VolumeFile,
    followed: Followed,
    report: Report,
}

impl Resync {
    /// Streams what is stale of this volume.
    pub fn new(core: Arc<Core>, terms: Arc<Terms>, volume: VolumeFile, followed: Followed) -> Self {
        let report = Report::endless(terms.json).limited(terms.bandwidth);
        Self { core, terms, volume, followed, report }
    }

    /// Streams whenever something is stale, for ever.
    pub async fn hold(mut self) {
        while let Some(snapshot) = self.next().await {
            let (journal, mut followed) = (snapshot.over.journal, self.followed.clone());
            let run = Run::new(&mut self, snapshot);
            tokio::select! {
                () = run.run() => {}
                // The journal was given up, and with it what was streamed beside it.
                _ = followed.wait_for(|at| at.is_some_and(|at| at.journal != journal)) => {}
            }
        }
    }

    /// What is stale, once the appliance follows the journal that has the rest; `None` when nobody ships any more.
    async fn next(&mut self) -> Option<DirtySnapshot> {
        loop {
            let at = *self.followed.borrow_and_update();
            let snapshot =
                self.core.dirty().filter(|snapshot| at.is_some_and(|at| at.journal == snapshot.over.journal));
            if snapshot.is_some() {
                return snapshot;
            }
            self.followed.changed().await.ok()?;
        }
    }
}

/// One stream, over as many connections as it takes.
struct Run<'a> {
    of: &'a mut Resync,
    snapshot: DirtySnapshot,
    flight: Option<Box<Flight>>,
    /// Blocks that the appliance lost.
    lost: Vec<BlockRange>,
    bytes_sent: u64,
    /// Tries since the appliance had more than ever, and how far that was.
    tries: (u32, u64),
    watch: Stopwatch,
}

impl<'a> Run<'a> {
    fn new(of: &'a mut Resync, snapshot: DirtySnapshot) -> Self {
        let (flight, lost) = (None, Vec::new());
        Self { of, snapshot, flight, lost, bytes_sent: 0, tries: (0, 0), watch: Stopwatch::start() }
    }

    async fn run(mut self) {
        loop {
            match self.connection().await {
                Ok(Some(point)) => return self.finish(&point).await,
                Ok(None) => {}
                Err(error) => {
                    let delay = retry::endless(self.tries.0, clock::random_number(), self.of.terms.reconnect);
                    self.tries.0 += 1;
                    tell::stream_failed(&error, delay, &mut self.of.report);
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }

    /// One connection, from its beginning to its end; `None` when another one is needed at once.
    async fn connection(&mut self) -> Result<Option<Point>> {
        let journal = self.snapshot.over.journal;
        self.of.followed.wait_for(|at| at.is_some_and(|at| at.journal == journal)).await?;
        let mut appliance = Appliance::connect(&self.of.terms.appliance).await?.limited(self.of.terms.bandwidth);
        let found = appliance.points(&self.of.terms.volume, 1).await?;
        let existing = found.map(Existing::from);
        if let Some(point) = self.stored_before(existing.as_ref()) {
            return Ok(Some(point));
        }
        let source = self.source()?;
        let flight = match self.flight.take() {
            Some(flight) if goes_on(&flight.begin, existing.as_ref(), self.wish()).is_ok() => flight,
            _ => self.begin(&mut appliance, existing.as_ref(), &source).await?,
        };
        let push = Message::Push {
            name: self.of.terms.volume.clone(),
            label: None,
            group: None,
            over: Some(self.snapshot.over),
        };
        match open_stream(&mut appliance, push, &flight.begin).await {
            Ok(Answer::Accepted(window, cursor, lost)) if lost == self.lost => {
                self.go_on(appliance, flight, source, window, &cursor).await
            }
            // They are compared as well, in another stream.
            Ok(Answer::Accepted(_, _, lost)) => {
                self.lost = lost;
                Ok(None)
            }
            Ok(Answer::Stored(point)) => Ok(Some(*point)),
            Err(error) if flight.remembered && retry::is_void(&error) => Err(error),
            Err(error) => {
                self.flight = Some(flight);
                Err(error)
            }
        }
    }

    /// From the cursor on.
    async fn go_on(
        &mut self,
        appliance: Appliance,
        mut flight: Box<Flight>,
        source: Arc<Stale>,
        window: u32,
        cursor: &Cursor,
    ) -> Result<Option<Point>> {
        flight.send_again(self.lost.clone());
        if flight.turn_to(cursor, &*source)? != Ahead::Send {
            bail!("the appliance has another beginning of the stream than was sent: another stream is begun");
        }
        if cursor.next_block.0 > self.tries.1 {
            self.tries = (0, cursor.next_block.0);
        }
        if std::mem::replace(&mut flight.remembered, true) {
            tell::resumed(&flight.begin, cursor, &mut self.of.report);
        }
        let Resync { core, followed, report, .. } = &mut *self.of;
        let job = flight.job(source);
        report.begin("reading", flight.plan.geometry.volume_size());
        let covered = covered(core.clone(), followed.clone(), self.snapshot.over.journal);
        let (begin, met) = (flight.begin, flight.met);
        let engine = Engine::online(begin, window, cursor, Compress::Auto, &mut flight.map, met);
        let sent = online::send(appliance, engine, job, self.bytes_sent, covered, |_| false, report).await;
        self.bytes_sent += sent.bytes_sent;
        flight.came_to(&sent.counts, sent.commit);
        self.flight = Some(flight);
        sent.stored.map(Some)
    }

    /// A stream against the newest point, with as much of its map as what is stale needs.
    async fn begin(
        &mut self,
        appliance: &mut Appliance,
        existing: Option<&Existing>,
        source: &Arc<Stale>,
    ) -> Result<Box<Flight>> {
        let plan = plan(appliance.pool, Err("none is kept here"), existing, self.wish())?;
        let base = match &plan.kind {
            Kind::Full => None,
            Kind::Incremental(base, _) => Some(self.base(appliance, base, source).await?),
        };
        tell::stream(&plan, &self.snapshot, &self.of.core.standing(), &mut self.of.report);
        let begin = begin(&plan);
        Flight::new(plan, begin, base, false, &self.of.terms.state.join("stream.map")).map(Box::new)
    }

    async fn base(&self, appliance: &mut Appliance, base: &Point, source: &Arc<Stale>) -> Result<Base> {
        let (geometry, file) = (self.of.terms.geometry, scratch_file(&self.of.terms.state)?);
        let (is_other, source) = (base.map.geometry != geometry, source.clone());
        // Subtrees are cut at the end of the volume: that is where its pages are needed, whatever is stale.
        let last = geometry.block_count() - 1;
        let wanted = move |blocks: Range<u64>| is_other || blocks.contains(&last) || source.has_any(blocks);
        fetch_part(appliance, base, &wanted, &file).await?;
        let map = MapFile::of_file(file, id_of(appliance.pool, base)).context("digest map: the one just fetched")?;
        let believed = Some(Arc::new(Mutex::new(Sample::nothing())));
        Ok(Base { believed, ..Base::new(Arc::new(map), &geometry) })
    }

    fn source(&self) -> Result<Arc<Stale>> {
        let volume = self.of.volume.source()?;
        Ok(Arc::new(Stale::new(volume, self.of.terms.geometry, self.snapshot.clone(), self.lost.clone())))
    }

    fn wish(&self) -> Wish {
        let geometry = self.of.terms.geometry;
        Wish { full: false, block_size: Some(geometry.block_size()), size: geometry.volume_size() }
    }

    /// The point of the stream under way, when all that was lost is the news of it.
    fn stored_before(&self, existing: Option<&Existing>) -> Option<Point> {
        let (flight, newest) = (self.flight.as_ref()?, existing?.newest.as_ref()?);
        (flight.commit.is_some() && newest.stream == flight.begin.stream).then(|| newest.clone())
    }

    async fn finish(self, point: &Point) {
        let (core, snapshot, report) = (self.of.core.clone(), self.snapshot, &mut self.of.report);
        match blocking(move || core.resynchronised(&snapshot)).await {
            Ok(Ok(true)) => {
                let met = self.flight.map(|flight| flight.met).unwrap_or_default();
                tell::stored(point, &met, self.bytes_sent, self.watch.elapsed(), report);
            }
            Ok(Ok(false)) => {}
            Ok(Err(error)) => {
                report.warn(&format!("point {} is stored, but that is not known here: {error}", point.number))
            }
            Err(error) => report.warn(&text::one_line(&error)),
        }
    }
}

/// Waits until the appliance has every entry that there is when this is begun.
async fn covered(core: Arc<Core>, mut followed: Followed, journal: Uuid) -> Result<()> {
    let last = core.last_sequence();
    followed.wait_for(|at| at.is_some_and(|at| at.journal == journal && at.sequence >= last)).await?;
    Ok(())
}
