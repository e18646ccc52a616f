//! `understudy replicate`: plan, send the stream, and remember what the new point looks like.
//!
//! Invariants: the local map is replaced only after the appliance said that the point is durable, and is
//! then the map of that very point; a failure at any time leaves map and points as they were.

use crate::args::Replicate;
use crate::clock;
use crate::connection::Appliance;
use crate::cutter::Base;
use crate::digest_map::{MapFault, MapFile};
use crate::engine::Engine;
use crate::fetch_map::{fetch_map, id_of};
use crate::map_writer::MapWriter;
use crate::online::{self, Stored};
use crate::outcome::Outcome;
use crate::plan::{Existing, Kind, MapFrom, Plan, Wish, plan};
use crate::report::{Lines, Report};
use crate::scan::Job;
use crate::source::{self, Source};
use crate::state::{NewFile, VolumeState};
use crate::text;
use anyhow::{Context, Result};
use serde_json::json;
use std::sync::Arc;
use understudy_format::point::Point;
use understudy_format::stream;
use understudy_format::wire::Message;

/// Runs the command.
pub async fn run(args: &Replicate) -> Result<Outcome> {
    let mut report = Report::new(args.json, Lines::Output);
    let source: Arc<dyn Source> = Arc::new(source::open(&args.source)?);
    let mut appliance = Appliance::connect(&args.appliance.address).await?;
    let state = VolumeState::lock(&args.state.directory(), appliance.pool, &args.volume)?;
    let (plan, local) = make_plan(args, &*source, &mut appliance, &state, &mut report).await?;
    tell_start(args, &plan, &mut report);
    let base = base_map(&mut appliance, &plan, local, &state).await?;
    let begin = begin(&plan, base.is_some());
    let window = open_stream(args, &mut appliance, &begin).await?;

    let new_map = NewFile::create(state.map_path())?;
    let map = MapWriter::new(plan.geometry, Some(new_map.file()?)).context("digest map: writing")?;
    let engine = Engine::new(begin, Some(window), args.compress, map);
    let base = base.map(|map| Base::new(map, &plan.geometry));
    let job = Job { source, geometry: plan.geometry, base };
    report.begin("replicating", plan.geometry.volume_size());
    let pool = appliance.pool;
    let stored = online::send(appliance, engine, job, &mut report).await?;
    if let Err(e) = new_map.publish_map(&id_of(pool, &stored.point)) {
        report.warn(&format!("point {} is stored, but its map is not kept here: {e:#}", stored.point.number));
    }
    tell_summary(args, &plan, &stored, &mut report);
    Ok(if report.warnings() > 0 { Outcome::Warnings } else { Outcome::Done })
}

async fn make_plan(
    args: &Replicate,
    source: &dyn Source,
    appliance: &mut Appliance,
    state: &VolumeState,
    report: &mut Report,
) -> Result<(Plan, Option<MapFile>)> {
    let found = appliance.points(&args.volume, 1).await?;
    let existing = found.map(|(info, mut points)| Existing { volume: info.volume, newest: points.pop() });
    let local = open_map(state);
    if let Err(fault) = &local
        && !matches!(fault, MapFault::Missing)
    {
        report.warn(&format!("{}: {fault}; it is not used", state.map_path().display()));
    }
    let why = local.as_ref().map(MapFile::id).map_err(ToString::to_string);
    let wish = Wish { full: args.full, block_size: args.block_size, size: source.size() };
    let plan = plan(appliance.pool, why.as_ref().copied().map_err(String::as_str), existing.as_ref(), wish);
    let plan = plan.with_context(|| format!("source {}", source.name()))?;
    Ok((plan, local.ok()))
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

fn begin(plan: &Plan, incremental: bool) -> stream::Begin {
    let base = match &plan.kind {
        Kind::Incremental(base, _) if incremental => {
            Some(stream::Base { root: base.map.root(), size: base.map.geometry.volume_size() })
        }
        _ => None,
    };
    stream::Begin {
        volume: plan.volume.unwrap_or_else(clock::random_id),
        stream: clock::random_id(),
        geometry: plan.geometry,
        base,
        created_ns: clock::now_ns(),
    }
}

async fn open_stream(args: &Replicate, appliance: &mut Appliance, begin: &stream::Begin) -> Result<u32> {
    appliance.send(&Message::Push { name: args.volume.clone(), label: args.label.clone() }).await?;
    match appliance.ask(&Message::Begin(*begin), "Accept").await? {
        Message::Accept { window } => Ok(window),
        other => Err(appliance.unexpected("Accept", &other)),
    }
}

fn base_of(plan: &Plan) -> Option<&Point> {
    match &plan.kind {
        Kind::Full => None,
        Kind::Incremental(base, _) => Some(base),
    }
}

fn tell_start(args: &Replicate, plan: &Plan, report: &mut Report) {
    let (base, geometry) = (base_of(plan).map(|base| base.number), &plan.geometry);
    let event = json!({
        "event": "start", "volume": args.volume.as_str(), "kind": kind(plan), "reason": plan.reason, "base": base,
        "size": geometry.volume_size(), "block_size": geometry.block_size().bytes(),
    });
    let what = base.map_or("full".into(), |base| format!("incremental on point {base}"));
    let size = text::bytes(geometry.volume_size());
    let line = format!(
        "{} -> {} at {}: {what} ({}); {size} in blocks of {}",
        args.source,
        args.volume,
        args.appliance.address,
        plan.reason,
        geometry.block_size()
    );
    report.tell(event, &line);
}

fn kind(plan: &Plan) -> &'static str {
    if base_of(plan).is_some() { "incremental" } else { "full" }
}

fn tell_summary(args: &Replicate, plan: &Plan, stored: &Stored, report: &mut Report) {
    let Stored { point, commit, counts, bytes_sent } = stored;
    let seconds = report.elapsed().as_secs_f64();
    let (size, root) = (plan.geometry.volume_size(), commit.root.to_string());
    let ratio = (size as f64 / (*bytes_sent).max(1) as f64 * 100.0).round() / 100.0;
    let event = json!({
        "event": "summary", "volume": args.volume.as_str(), "point": point.number, "kind": kind(plan),
        "reason": plan.reason, "blocks_total": plan.geometry.block_count(), "blocks_read": counts.read,
        "blocks_zero": counts.zero, "blocks_changed": counts.changed, "blocks_sent": counts.sent,
        "blocks_deduplicated": counts.deduplicated, "bytes_read": counts.bytes_read, "bytes_sent": bytes_sent,
        "ratio": ratio, "seconds": (seconds * 1000.0).round() / 1000.0, "root": root,
    });
    let rate = text::bytes((size as f64 / seconds.max(0.001)) as u64);
    let line = format!(
        "{}@{} is stored ({}) after {seconds:.1} s, {rate}/s\n\
         blocks: {} in all, {} read, {} zero, {} changed, {} sent, {} deduplicated\n\
         bytes:  {} read, {} sent, 1/{ratio} of the volume\n\
         root:   {root}",
        args.volume,
        point.number,
        kind(plan),
        plan.geometry.block_count(),
        counts.read,
        counts.zero,
        counts.changed,
        counts.sent,
        counts.deduplicated,
        text::bytes(counts.bytes_read),
        text::bytes(*bytes_sent),
    );
    report.tell(event, &line);
}
