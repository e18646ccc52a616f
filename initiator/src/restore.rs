//! `understudy restore`: makes a target equal to a point by writing only what differs.
//!
//! The target is read and digested first, its map is compared with the point's page by page, the blocks
//! that differ are read from the appliance and written, zeros become holes, everything is made durable. Invariants: success is
//! said only when the digests of what was compared and of what was written give the point's root; once the first byte
//! was written every failure says that the target is incomplete.

use crate::apply::{Applier, Sink};
use crate::args::Restore;
use crate::connection::Appliance;
use crate::descend::{Descent, Finding};
use crate::digest_map::MapFile;
use crate::map_writer::MapWriter;
use crate::outcome::Outcome;
use crate::report::{Lines, Report};
use crate::scan_map::scan_map;
use crate::target::Target;
use crate::text;
use crate::verify::each_difference;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::collections::VecDeque;
use std::sync::Arc;
use understudy_format::chunk::ChunkHead;
use understudy_format::map::FANOUT;
use understudy_format::point::Point;
use understudy_format::select::PointName;
use understudy_format::wire::{BlockRange, Message, RANGES_MAX};
use understudy_format::{BlockId, Digest, Geometry};

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Blocks that were written.
    pub written: u64,
    /// Blocks that were made zero.
    pub zeroed: u64,
    /// Bytes that came from the appliance.
    pub received: u64,
}

/// Runs of blocks that differ.
#[derive(Debug, Default)]
struct Wanted {
    data: Vec<BlockRange>,
    zero: Vec<BlockRange>,
}

impl Wanted {
    fn add(&mut self, block: u64, digest: Digest) {
        let runs = if digest.is_zero() { &mut self.zero } else { &mut self.data };
        match runs.last_mut() {
            Some(run) if run.first + run.count == block => run.count += 1,
            _ => runs.push(BlockRange { first: block, count: 1 }),
        }
    }
}

/// Runs the command.
pub async fn run(args: &Restore) -> Result<Outcome> {
    let mut report = Report::new(args.json, Lines::Output).limited(args.rate.bandwidth);
    let point = Appliance::connect(&args.appliance).await?.find(&args.point).await?;
    let geometry = point.map.geometry;
    let target = Target::open(&args.target, geometry.volume_size(), args.force)?;
    tell_start(args, &point, &target, &mut report);
    let written = write(args, &point, target, &mut report).await;
    let done = written
        .with_context(|| format!("target {} is INCOMPLETE, do not use it; restore again", args.target.display()))?;
    tell_summary(args, &point, &done, &mut report);
    Ok(Outcome::Done)
}

async fn write(args: &Restore, point: &Point, target: Target, report: &mut Report) -> Result<Done> {
    let geometry = point.map.geometry;
    report.begin("comparing", geometry.volume_size());
    let source = Arc::new(target.source(geometry.volume_size())?);
    let (map, file) = scan_map(source, geometry, &args.state.directory(), report)?;
    let sink = Arc::new(Sink { target, map: file, geometry });
    let mut done = Done::default();
    if map.id().root != point.map.root() {
        // A new connection: comparing may have taken longer than an appliance waits for a request.
        let mut appliance = Appliance::connect(&args.appliance).await?.limited(args.rate.bandwidth);
        let point = appliance.find_again(&args.point.volume, point).await?;
        write_differences(&mut appliance, &point, &map, &sink, &mut done, report).await?;
        done.received = appliance.reader.bytes_received();
    }
    sink.target.sync()?;
    prove(&map, point)?;
    Ok(done)
}

/// Writes the blocks of a target in which a point differs from its map.
pub(crate) async fn write_differences(
    appliance: &mut Appliance,
    point: &Point,
    map: &MapFile,
    sink: &Arc<Sink>,
    done: &mut Done,
    report: &mut Report,
) -> Result<()> {
    report.begin("writing", point.map.geometry.volume_size());
    let mut descent = Descent::new(point, Some(map));
    let mut wanted = Wanted::default();
    let mut first = true;
    loop {
        let mut visit = |finding: Finding<'_>| {
            each_difference(&finding, map, |block, digest| wanted.add(block, digest));
            Ok(())
        };
        if std::mem::take(&mut first) {
            descent.start(&mut visit)?;
        } else if !descent.step(appliance, &mut visit).await? {
            return Ok(());
        }
        let wanted = std::mem::take(&mut wanted);
        for run in &wanted.zero {
            sink.zero(BlockId(run.first), run.count)?;
            done.zeroed += run.count;
        }
        for ranges in wanted.data.chunks(RANGES_MAX as usize) {
            done.written += read(appliance, point, ranges, sink, report).await?;
        }
    }
}

/// Reads ranges of the point into the target; returns the number of blocks.
async fn read(
    appliance: &mut Appliance,
    point: &Point,
    ranges: &[BlockRange],
    sink: &Arc<Sink>,
    report: &mut Report,
) -> Result<u64> {
    let request = Message::Read { volume: point.volume, point: point.number, ranges: ranges.to_vec() };
    appliance.send(&request).await?;
    let applier = Applier::start(sink);
    let mut left: VecDeque<BlockRange> = ranges.iter().copied().collect();
    loop {
        match appliance.next("Chunk or ReadEnd").await? {
            Message::Chunk(chunk) => {
                take(&mut left, &chunk.head, &point.map.geometry)?;
                let end = sink.geometry.byte_range(chunk.head.first_block, chunk.head.block_count()).end;
                if !applier.apply(chunk) {
                    break;
                }
                report.progress(end, appliance.reader.bytes_received());
            }
            Message::ReadEnd => break,
            other => return Err(appliance.unexpected("Chunk or ReadEnd", &other)),
        }
    }
    applier.finish()?;
    ensure!(left.is_empty(), "appliance {}: the read ended before all blocks came", appliance.address);
    Ok(ranges.iter().map(|range| range.count).sum())
}

/// A chunk must be the next blocks that were asked for.
fn take(left: &mut VecDeque<BlockRange>, head: &ChunkHead, geometry: &Geometry) -> Result<()> {
    let count = head.block_count();
    let fits = left.front().is_some_and(|range| range.first == head.first_block.0 && range.count >= count);
    ensure!(fits && head.geometry == *geometry, "the appliance sent blocks from {} unasked", head.first_block);
    let range = left.front_mut().expect("just seen");
    *range = BlockRange { first: range.first + count, count: range.count - count };
    if range.count == 0 {
        left.pop_front();
    }
    Ok(())
}

/// The digests of the target, compared or written, must give the point's root.
pub(crate) fn prove(map: &MapFile, point: &Point) -> Result<()> {
    let blocks = point.map.geometry.block_count();
    let mut proof = MapWriter::new(point.map.geometry, None)?;
    let mut extents = map.extents()?;
    while proof.next_block() < blocks {
        // What stands above the blocks is that of the target before it was written: only holes tell of zeros.
        let (hole, count) = extents.run(proof.next_block(), blocks - proof.next_block())?;
        if hole {
            proof.zeros(count);
            continue;
        }
        let count = count.min(FANOUT);
        let digests: Vec<Digest> = map.blocks(proof.next_block(), count).iter().map(|bytes| Digest(*bytes)).collect();
        proof.blocks(&digests)?;
    }
    let (found, expected) = (proof.finish()?.root(), point.map.root());
    ensure!(found == expected, "what was written has root {found}, the point has {expected}");
    Ok(())
}

fn tell_start(args: &Restore, point: &Point, target: &Target, report: &mut Report) {
    let (size, volume) = (point.map.geometry.volume_size(), args.point.volume.as_str());
    let event = json!({
        "event": "start", "volume": volume, "point": point.recorded(), "time": text::exact_time(point.created_ns), "target": target.name(), "created": target.created,
        "size": size, "block_size": point.map.geometry.block_size().bytes(),
    });
    let created = if target.created { " (new)" } else { "" };
    let name = PointName::of(&args.point.volume, point);
    let line = format!("{name} -> {}{created}: {}", target.name(), text::bytes(size));
    report.tell(event, &line);
}

fn tell_summary(args: &Restore, point: &Point, done: &Done, report: &mut Report) {
    let (volume, root) = (args.point.volume.as_str(), point.map.root().to_string());
    let (blocks, seconds) = (point.map.geometry.block_count(), report.elapsed().as_secs_f64());
    let event = json!({
        "event": "summary", "volume": volume, "point": point.recorded(), "target": args.target.display().to_string(),
        "blocks_total": blocks, "blocks_written": done.written, "blocks_zeroed": done.zeroed,
        "bytes_received": done.received, "seconds": (seconds * 1000.0).round() / 1000.0, "root": root,
    });
    let line = format!(
        "{} equals {} after {seconds:.1} s: {} of {blocks} blocks written, {} made zero, {} received\n\
         root:   {root} (of the blocks as they were compared and written)",
        args.target.display(),
        PointName::of(&args.point.volume, point),
        done.written,
        done.zeroed,
        text::bytes(done.received),
    );
    report.tell(event, &line);
}
