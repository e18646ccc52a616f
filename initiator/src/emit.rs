//! `understudy emit`: the stream of a replication into a file or pipe, with no appliance in sight.
//!
//! Invariants: standard output carries the stream and nothing else; a file appears under its name whole
//! and durable, or not at all; a stream of a source that failed has no commit record.

use crate::args::{Emit, EmitBase};
use crate::base::Base;
use crate::clock;
use crate::connection::Appliance;
use crate::digest_map::MapFile;
use crate::engine::{Counts, Engine};
use crate::fetch_map::{fetch_map, id_of};
use crate::map_writer::MapWriter;
use crate::outcome::Outcome;
use crate::pack::Compress;
use crate::report::{Lines, Report};
use crate::scan::{Event, Job, Workers};
use crate::source;
use crate::state::{NewFile, scratch_file};
use crate::text;
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, mpsc};
use understudy_format::Geometry;
use understudy_format::mapfile::MapFileId;
use understudy_format::stream::{self, Begin, Commit};
use understudy_format::wire::Message;
use understudy_net::blocking::write_message;
use uuid::Uuid;

/// Runs the command.
pub async fn run(args: &Emit, base: Option<EmitBase>) -> Result<Outcome> {
    let mut report = Report::new(args.json()?, Lines::Error);
    let source = source::open(&args.source, None)?;
    let base = match base {
        Some(base) => Some(open_base(args, base).await?),
        None => None,
    };
    let geometry = geometry(args, source.size(), base.as_deref())?;
    let begin = begin(geometry, base.as_deref());
    let output = Output::open(&args.output)?;
    let map_file = args.save_map.as_deref().map(NewFile::create).transpose()?;
    let map = MapWriter::new(geometry, map_file.as_ref().map(NewFile::file).transpose()?)?;
    let job = Job::all(source.clone(), geometry, base.map(|map| Base::new(map, &geometry)));
    report.begin("emitting", geometry.volume_size());
    source.capture(None)?;
    let emitted = emit(begin, args.compress, map, job, output.file()?, &mut report);
    let emitted = source::released(&*source, emitted)?;
    output.publish()?;
    if let Some(map_file) = map_file {
        let root = emitted.commit.root;
        map_file.publish_map(&MapFileId { pool: Uuid::nil(), volume: begin.volume, point: 0, geometry, root })?;
    }
    tell(args, &begin, &emitted, &mut report);
    Ok(if report.warnings() > 0 { Outcome::Warnings } else { Outcome::Done })
}

/// A map that can be the base: its root follows from its digests.
async fn open_base(args: &Emit, base: EmitBase) -> Result<Arc<MapFile>> {
    match base {
        EmitBase::File(path) => {
            let map = MapFile::open(&path).with_context(|| format!("base {}", path.display()))?;
            map.check().with_context(|| format!("base {}", path.display()))?;
            Ok(Arc::new(map))
        }
        EmitBase::Point(name) => {
            let mut appliance = Appliance::connect(&args.appliance).await?;
            let point = appliance.find(&name).await?;
            ensure!(!point.is_moment(), "base {name}: is a moment between points; name a point (`understudy points`)");
            let file = scratch_file(&args.state.directory())?;
            fetch_map(&mut appliance, &point, None, &file).await?;
            Ok(Arc::new(MapFile::of_file(file, id_of(appliance.pool, &point))?))
        }
    }
}

fn geometry(args: &Emit, size: u64, base: Option<&MapFile>) -> Result<Geometry> {
    let of_base = base.map(|map| map.id().geometry.block_size());
    let block_size = match (args.block_size, of_base) {
        (Some(asked), Some(of_base)) if asked != of_base => bail!(
            "the base has blocks of {of_base}, {asked} was asked for: leave out --block-size or name another base"
        ),
        (asked, of_base) => of_base.or(asked).unwrap_or_default(),
    };
    Geometry::new(size, block_size).with_context(|| format!("source {}", args.source))
}

fn begin(geometry: Geometry, base: Option<&MapFile>) -> Begin {
    let id = base.map(MapFile::id);
    Begin {
        volume: id.map_or(Uuid::nil(), |id| id.volume),
        stream: clock::random_id(),
        geometry,
        base: id.map(|id| stream::Base { root: id.root, size: id.geometry.volume_size() }),
        created_ns: clock::now_ns(),
    }
}

/// Where the stream goes.
#[derive(Debug)]
enum Output {
    File(NewFile),
    Pipe(File),
}

impl Output {
    fn open(path: &Path) -> Result<Self> {
        if path != Path::new("-") {
            return NewFile::create(path).map(Self::File);
        }
        let stdout = std::io::stdout();
        if stdout.is_terminal() {
            bail!("standard output is a terminal: redirect the stream (`| ssh ...`, `> FILE`) or use -o FILE");
        }
        // The descriptor itself: std's handle would look for line ends in the blocks.
        Ok(Self::Pipe(File::from(stdout.as_fd().try_clone_to_owned()?)))
    }

    fn file(&self) -> Result<File> {
        match self {
            Self::File(file) => file.file(),
            Self::Pipe(file) => Ok(file.try_clone()?),
        }
    }

    fn publish(self) -> Result<()> {
        match self {
            Self::File(file) => file.publish(),
            Self::Pipe(_) => Ok(()),
        }
    }
}

/// What was emitted.
#[derive(Debug)]
pub struct Emitted {
    /// The last record.
    pub commit: Commit,
    /// What was done for it.
    pub counts: Counts,
    /// Length of the stream.
    pub bytes: u64,
}

/// Writes a stream to `out`.
pub fn emit(
    begin: Begin,
    compress: Compress,
    mut map: MapWriter,
    job: Job,
    mut out: impl Write,
    report: &mut Report,
) -> Result<Emitted> {
    // There is no connection to wait for, and files are kept: smaller is better.
    let compress = if compress == Compress::Auto { Compress::Lz4 } else { compress };
    let mut engine = Engine::offline(begin, compress, &mut map);
    let source = job.source.clone();
    let (tell, events) = mpsc::channel();
    let workers = Workers::start(job, move |event| {
        // Nobody listens once the run has failed; the workers are being stopped then.
        let _ = tell.send(event);
    });
    let mut write = |message: &Message| write_message(&mut out, message).context("writing the stream");
    let mut bytes = write(&Message::Begin(begin))?;
    while !engine.is_done() {
        match events.recv().context("the worker threads are gone")? {
            Event::Scanned(number, scanned) => engine.scanned(number, scanned)?,
            Event::Packed(chunk) => engine.packed(chunk),
            Event::Failed(e) => return Err(e),
        }
        let output = engine.pump(0)?;
        output.jobs.into_iter().for_each(|job| workers.pack(job));
        for message in &output.messages {
            bytes += write(message)?;
        }
        report.progress(engine.bytes_done(), bytes);
    }
    source.doubt()?.inspect(|doubt| report.warn(doubt));
    let (commit, counts) = (engine.commit()?, *engine.counts());
    bytes += write(&Message::Commit(commit))?;
    report.end();
    Ok(Emitted { commit, counts, bytes })
}

fn tell(args: &Emit, begin: &Begin, emitted: &Emitted, report: &mut Report) {
    let Emitted { commit, counts, bytes } = emitted;
    let kind = if begin.base.is_some() { "incremental" } else { "full" };
    let line = format!(
        "{} -> {}: {kind} stream of {}, {} blocks of {}: {} data, {} zero, {} unchanged; {:.1} s\nroot:   {}",
        args.source,
        args.output.display(),
        text::bytes(*bytes),
        begin.geometry.block_count(),
        begin.geometry.block_size(),
        commit.totals.data,
        counts.met.zero,
        commit.totals.unchanged,
        report.elapsed().as_secs_f64(),
        commit.root
    );
    let event = json!({
        "event": "emitted", "source": args.source, "output": args.output.display().to_string(), "kind": kind, "bytes": bytes,
        "blocks": begin.geometry.block_count(), "data": commit.totals.data, "zero": counts.met.zero,
        "unchanged": commit.totals.unchanged, "root": commit.root.to_string(),
    });
    report.tell(event, &line);
}
