//! `understudy failback`: a primary becomes what was written at the appliance since that was promoted, and is what is written to again.
//!
//! The appliance makes a point of what was written there. What may differ here from the point that was promoted (what the tap's state has: entries
//! that did not arrive, dirty blocks, extents that were written to at the end) is read and digested; with the map of that point this is the map of
//! the volume, and only where the new point's map differs from it, blocks are brought. Where nothing is known of the volume all of it is read.
//! Invariants: the state directory is held, so no tap writes; each step may be cut anywhere and the command run again; the
//! appliance learns that the primary is what is written to only after volume and state are durable.

use super::blocking;
use super::core::{Core, Parts};
use super::files::{FileVolume, StateDirectory, SystemClock};
use super::snapshot::DirtySnapshot;
use super::{disk::Directory, state};
use crate::apply::Sink;
use crate::args::Failback;
use crate::connection::{Appliance, Listing};
use crate::descend::{Descent, Finding};
use crate::digest_map::MapFile;
use crate::failover::ask;
use crate::fetch_map::{fetch_map, id_of};
use crate::map_writer::MapWriter;
use crate::outcome::Outcome;
use crate::report::{Lines, Report};
use crate::restore::{Done, prove, write_differences};
use crate::scan::Job;
use crate::scan_map::{scan_into, scan_map};
use crate::source::Source;
use crate::state::scratch_file;
use crate::target::Target;
use crate::text;
use crate::verify::each_difference;
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use understudy_format::journal::Position;
use understudy_format::mapfile::MapFileId;
use understudy_format::point::Point;
use understudy_format::wire::{Failover, Message, Tap};
use understudy_format::{BlockId, Geometry};
use uuid::Uuid;

/// Limit of a journal that is not written.
const NO_JOURNAL: u64 = 0;

/// What the appliance gives back.
struct Given {
    from: Point,
    to: Point,
    position: Position,
    generation: u64,
    durable: u64,
}

/// The map of the volume here, and what was read for it.
struct Here {
    map: MapFile,
    file: File,
    bytes_read: u64,
}

/// Runs the command.
pub async fn run(args: &Failback) -> Result<Outcome> {
    let mut report = Report::new(args.json, Lines::Output).limited(args.rate.bandwidth);
    let directory =
        Arc::new(StateDirectory::open(&args.state()).context("while a tap serves the volume: stop that first")?);
    let mut appliance = connect(args).await?;
    let Some(given) = given(&mut appliance, args, &*directory).await? else {
        let event = json!({"event": "following", "volume": args.name.as_str()});
        report.tell(event, &format!("{} is failed back already: `understudy tap` goes on from there", args.name));
        return Ok(Outcome::Done);
    };
    let geometry = given.to.map.geometry;
    let target = Target::open(&args.path, geometry.volume_size(), args.force)?;
    let core = open(args, directory, geometry).await?;
    let (snapshot, reason) = core.differing_from(given.from.position, given.durable)?;
    let everything = reason.map(|reason| reason.to_string());
    tell_start(args, &given, &snapshot, everything.as_deref(), &mut report);
    let here = here(args, &mut appliance, &given.from, &snapshot, &target, &mut report).await?;
    drop(appliance);
    let bytes_read = here.bytes_read;
    let written = write(args, &given, here, target, &core, &mut report).await;
    let done = written.with_context(|| {
        format!("volume {} is IN BETWEEN, do not use it; run the command again", args.path.display())
    })?;
    let (volume, generation, position) = (given.to.volume, given.generation, given.position);
    blocking(move || core.became(volume, generation, position)).await?.context("the state of the tap")?;
    settle(args, given.to.number).await?;
    tell_summary(args, &given, &done, bytes_read, &mut report);
    Ok(Outcome::Done)
}

async fn connect(args: &Failback) -> Result<Appliance> {
    Ok(Appliance::connect(&args.appliance).await?.limited(args.rate.bandwidth))
}

/// What the appliance gives back; nothing when the volume here has it already, and is what is written to.
async fn given(appliance: &mut Appliance, args: &Failback, directory: &dyn Directory) -> Result<Option<Given>> {
    let asked = Failover::Failback { name: args.name.clone() };
    let (from, to, generation, durable) = match ask(appliance, asked, "FailingBack").await? {
        Message::Failover(Failover::FailingBack { from, to, generation, durable, .. }) => {
            (from, to, generation, durable)
        }
        Message::Tap(Tap::Following { generation, position, .. }) => {
            let known = state::load(directory).ok().flatten();
            let is_back =
                known.is_some_and(|state| state.generation == generation && state.base == position && generation > 1);
            ensure!(
                is_back,
                "volume {} is not promoted at {}: there is nothing to fail back",
                args.name,
                appliance.address
            );
            return Ok(None);
        }
        other => return Err(appliance.unexpected("FailingBack", &other)),
    };
    let Some(Listing { points, .. }) = appliance.points(&args.name, u32::MAX).await? else {
        bail!("volume {} is gone from the appliance {}", args.name, appliance.address)
    };
    let find = |number: u64| {
        let found = points.iter().find(|point| point.number == number).cloned();
        found.with_context(|| format!("point {}@{number} is gone from the appliance", args.name))
    };
    let (from, to) = (find(from)?, find(to)?);
    let position = to.position.context("the point that the appliance gives back has no position")?;
    Ok(Some(Given { from, to, position, generation, durable }))
}

async fn open(args: &Failback, directory: Arc<StateDirectory>, geometry: Geometry) -> Result<Arc<Core>> {
    // The target is open exclusively already.
    let volume = Arc::new(FileVolume::open(&args.path, true)?);
    let parts = Parts { volume, directory, geometry, journal_max: NO_JOURNAL, clock: Arc::new(SystemClock) };
    let core = blocking(move || Core::open(parts)).await?;
    Ok(Arc::new(core.with_context(|| format!("the state of the tap in {}", args.state().display()))?))
}

/// The map of the volume: that of the point that was promoted, and of what may differ, what is read.
async fn here(
    args: &Failback,
    appliance: &mut Appliance,
    from: &Point,
    snapshot: &DirtySnapshot,
    target: &Target,
    report: &mut Report,
) -> Result<Here> {
    let (geometry, directory) = (from.map.geometry, args.state());
    let source: Arc<dyn Source> = Arc::new(target.source(geometry.volume_size())?);
    report.begin("reading", geometry.volume_size());
    if snapshot.is_everything() {
        let (map, file) = scan_map(source, geometry, &directory, report)?;
        return Ok(Here { map, file, bytes_read: geometry.volume_size() });
    }
    let base = scratch_file(&directory)?;
    fetch_map(appliance, from, None, &base).await?;
    let base = Arc::new(MapFile::of_file(base, id_of(appliance.pool, from))?);
    let file = scratch_file(&directory)?;
    let mut map = MapWriter::new(geometry, Some(file.try_clone()?))?.over(Some(base));
    let mut bytes_read = 0;
    while map.next_block() < geometry.block_count() {
        let first = map.next_block();
        let (is_dirty, end) = snapshot.run_at(geometry.offset(BlockId(first)));
        let end = geometry.block_at(end - 1).0 + 1;
        match is_dirty {
            true => {
                let job = Job { source: source.clone(), geometry, base: None, blocks: first..end };
                bytes_read += scan_into(&mut map, job, report)?.bytes_read;
            }
            false => map.unchanged(end - first)?,
        }
    }
    let root = map.finish()?.root();
    let id = MapFileId { pool: Uuid::nil(), volume: Uuid::nil(), point: 0, geometry, root };
    Ok(Here { map: MapFile::of_file(file.try_clone()?, id)?, file, bytes_read })
}

/// Makes the volume the point, durably.
async fn write(
    args: &Failback,
    given: &Given,
    here: Here,
    target: Target,
    core: &Core,
    report: &mut Report,
) -> Result<Done> {
    let (point, geometry) = (&given.to, given.to.map.geometry);
    let mut done = Done::default();
    let Here { map, file, .. } = here;
    let sink = Arc::new(Sink { target, map: file, geometry });
    if map.id().root != point.map.root() {
        let mut appliance = connect(args).await?;
        let differing = differing(&mut appliance, point, &map).await?;
        core.will_write(differing.into_iter().map(|blocks| bytes_of(&geometry, &blocks)))?;
        write_differences(&mut appliance, point, &map, &sink, &mut done, report).await?;
        done.received = appliance.reader.bytes_received();
    }
    sink.target.sync()?;
    prove(&map, point)?;
    if args.verify {
        report.begin("verifying", geometry.volume_size());
        let source = Arc::new(sink.target.source(geometry.volume_size())?);
        let (found, _file) = scan_map(source, geometry, &args.state(), report)?;
        let (found, expected) = (found.id().root, point.map.root());
        ensure!(found == expected, "the volume has root {found}, point {} has {expected}", point.number);
    }
    Ok(done)
}

fn bytes_of(geometry: &Geometry, blocks: &Range<u64>) -> Range<u64> {
    geometry.byte_range(BlockId(blocks.start), blocks.end - blocks.start)
}

/// Runs of blocks where a point differs from a map.
async fn differing(appliance: &mut Appliance, point: &Point, map: &MapFile) -> Result<Vec<Range<u64>>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    let mut visit = |finding: Finding<'_>| {
        each_difference(&finding, map, |block, _| match runs.last_mut() {
            Some(run) if run.end == block => run.end += 1,
            _ => runs.push(block..block + 1),
        });
        Ok(())
    };
    let mut descent = Descent::new(point, Some(map));
    descent.start(&mut visit)?;
    while descent.step(appliance, &mut visit).await? {}
    Ok(runs)
}

/// Tells the appliance that the primary is what is written to.
async fn settle(args: &Failback, point: u64) -> Result<()> {
    let mut appliance = connect(args).await?;
    let told = Failover::FailedBack { name: args.name.clone(), point };
    match ask(&mut appliance, told, "Following").await? {
        Message::Tap(Tap::Following { .. }) => Ok(()),
        other => Err(appliance.unexpected("Following", &other)),
    }
}

fn tell_start(args: &Failback, given: &Given, snapshot: &DirtySnapshot, everything: Option<&str>, report: &mut Report) {
    let (name, path, bytes) = (args.name.as_str(), args.path.display().to_string(), snapshot.bytes());
    let (from, to) = (given.from.number, given.to.number);
    let event = json!({
        "event": "start", "volume": name, "path": path, "promoted_point": from, "point": to, "bytes_to_read": bytes,
        "reason": everything,
    });
    let why = match everything {
        Some(reason) => format!("all of it is compared: {reason}"),
        None => format!("{} may differ from point {from}", text::bytes(bytes)),
    };
    report.tell(event, &format!("{name}@{to} -> {path}: {why}"));
}

fn tell_summary(args: &Failback, given: &Given, done: &Done, bytes_read: u64, report: &mut Report) {
    let (name, to, blocks) = (args.name.as_str(), given.to.number, given.to.map.geometry.block_count());
    let kept = blocks - done.written - done.zeroed;
    let (seconds, generation) = (report.elapsed().as_secs_f64(), given.generation);
    let event = json!({
        "event": "summary", "volume": name, "point": to, "generation": generation, "bytes_read": bytes_read,
        "blocks_total": blocks, "blocks_written": done.written, "blocks_zeroed": done.zeroed, "blocks_kept": kept,
        "bytes_received": done.received, "seconds": (seconds * 1000.0).round() / 1000.0,
        "root": given.to.map.root().to_string(),
    });
    let line = format!(
        "{} is {name}@{to} after {seconds:.1} s, and what is written to again (generation {generation}): {} read, {} of {blocks} blocks \
         brought, {} made zero, {kept} kept, {} received\nnext:   understudy tap {} --volume {name} ...",
        args.path.display(),
        text::bytes(bytes_read),
        done.written,
        done.zeroed,
        text::bytes(done.received),
        args.path.display(),
    );
    report.tell(event, &line);
}
