//! A pool with many unique blocks: filling it, opening it, opening points, small increments, deduplication, giving back space.

use super::session::{Session, open_export};
use super::sheet::{MEASURED, Measured, Sheet, grouped, median};
use super::synthetic::{self, Recent, Run, Stream};
use super::{Scene, Size};
use crate::clock::Stopwatch;
use crate::daemon::Daemon;
use crate::process::{Running, Taken, feed, measure};
use crate::text::bytes;
use anyhow::Context;
use std::process::{Command, Stdio};
use understudy_format::map::Map;
use understudy_format::{BlockSize, Geometry};

/// Bytes of a block.
const BLOCK: u32 = 4096;
/// How often a daemon is started, and how many points are opened.
const STARTS: usize = 5;
const OPENINGS: u64 = 100;
const INCREMENTS: u64 = 10;
/// Most blocks that are deduplicated.
const TWIN_MAX: u64 = 2_000_000;

/// Runs the part.
pub fn run(scene: &mut Scene, blocks: u64) -> anyhow::Result<()> {
    let title = format!("A pool with {} unique blocks of 4 KiB, in two volumes", grouped(blocks));
    let sheet = Sheet::new("blocks", &title, MEASURED, scene.json);
    let mut part = Part { scene, sheet, half: blocks / 2, number: 0 };
    let (map, mut pages) = part.fill("one", 1)?;
    part.fill("two", 2)?;
    part.start("start of the daemon after a clean stop", |_| Ok(()))?;
    part.start("start after kill -9 in the middle of a stream", |part| part.cut_stream())?;
    part.use_it(map, &mut pages)?;
    part.collect("collect, dry run", &["--dry-run"])?;
    part.upkeep("remove half of the blocks", &["remove", "two", "--force"])?;
    part.collect("collect", &[])?;
    part.start("start of the daemon after that", |_| Ok(()))?;
    part.scene.clear()
}

struct Part<'a> {
    scene: &'a mut Scene,
    sheet: Sheet,
    half: u64,
    /// Of the last stream.
    number: u64,
}

fn geometry(blocks: u64) -> anyhow::Result<Geometry> {
    Ok(Geometry::new(blocks * u64::from(BLOCK), BlockSize::new(BLOCK)?)?)
}

impl Part<'_> {
    fn full(&mut self, blocks: u64, version: u64) -> anyhow::Result<Stream> {
        self.number += 1;
        let runs = vec![Run::Data { count: blocks, version }];
        Ok(Stream { number: self.number, geometry: geometry(blocks)?, base: None, runs })
    }

    fn ingest(&self, volume: &str) -> anyhow::Result<Command> {
        let mut command = self.scene.understudyd()?;
        command.args(["ingest", "--pool", "pool", "--volume", volume, "--secondary", "none"]);
        Ok(command)
    }

    fn fill(&mut self, volume: &str, version: u64) -> anyhow::Result<(Map, Recent)> {
        let (stream, before) = (self.full(self.half, version)?, self.scene.size()?);
        let (mut pages, mut map) = (Recent::default(), None);
        let taken = feed(&mut self.ingest(volume)?, |pipe| {
            map = Some(synthetic::write(std::io::BufWriter::with_capacity(1 << 20, pipe), &stream, &mut pages)?);
            Ok(())
        })?;
        let Size { segments, index } = self.scene.size()?;
        let per_block = |now: u64, before: u64| now.saturating_sub(before) as f64 / self.half as f64;
        let note = format!(
            "then segments {} (+{:.0} bytes a block), index {} (+{:.0})",
            bytes(segments),
            per_block(segments, before.segments),
            bytes(index),
            per_block(index, before.index)
        );
        let Taken { seconds, peak } = taken;
        let measured = Measured { seconds, count: Some(self.half), understudyd: peak, note, ..Measured::default() };
        self.sheet.measured(&format!("ingest into volume {volume}"), measured);
        Ok((map.context("the stream was not written")?, pages))
    }

    /// Starts daemons, each after `before`.
    fn start(&mut self, what: &str, mut before: impl FnMut(&mut Self) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let (mut seconds, mut peak) = (Vec::new(), 0);
        for _ in 0..STARTS {
            before(self)?;
            let watch = Stopwatch::start();
            let daemon = self.scene.daemon()?;
            seconds.push(watch.seconds());
            peak = peak.max(daemon.peak());
            daemon.stop()?;
        }
        self.sheet.measured(what, Measured { understudyd: peak, ..median(seconds) });
        Ok(())
    }

    /// A stream whose receiver is killed before its end.
    fn cut_stream(&mut self) -> anyhow::Result<()> {
        let stream = self.full(self.half / 10, 1000 + self.number)?;
        let mut command = self.ingest("cut")?;
        let mut running = Running::start_fed(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
        let pipe = running.child().stdin.take().context("no input")?;
        let pipe = std::io::BufWriter::with_capacity(1 << 20, Unfinished { pipe, left: self.half / 10 * 120 });
        // It ends with an error, as is meant; what was sent so far was taken, and is in all states that there are.
        let _ = synthetic::write(pipe, &stream, &mut Recent::default());
        drop(running);
        Ok(())
    }

    /// What is done beside a running daemon.
    fn use_it(&mut self, map: Map, pages: &mut Recent) -> anyhow::Result<()> {
        let daemon = self.scene.daemon()?;
        self.open_points(&daemon)?;
        let points = measure(daemon.understudy()?.args(["points", "one"]))?;
        let (seconds, understudy) = (points.seconds, points.peak);
        self.sheet.measured("understudy points", Measured { seconds, understudy, ..Measured::default() });
        self.increments(&daemon, map, pages)?;
        let count = self.half.min(TWIN_MAX);
        let stream = self.full(count, 1)?;
        let (before, watch) = (self.scene.size()?, Stopwatch::start());
        Session::connect(&daemon.address)?.push(&"twin".parse()?, &stream, &mut Recent::default())?;
        let seconds = watch.seconds();
        let note = format!("segments +{}", bytes(self.scene.size()?.segments - before.segments));
        let measured =
            Measured { seconds, count: Some(count), understudyd: daemon.peak(), note, ..Measured::default() };
        self.sheet.measured("a full into a third volume whose blocks are all there", measured);
        daemon.stop()
    }

    fn open_points(&self, daemon: &Daemon) -> anyhow::Result<()> {
        // A step that is prime to most numbers visits blocks all over the volume.
        let blocks = (1..=OPENINGS).map(|at| at * 7_368_787 % self.half);
        let open = |block: u64| Ok(open_export(&daemon.nbd, "one", block * u64::from(BLOCK))?.1);
        let seconds = blocks.map(open).collect::<anyhow::Result<Vec<f64>>>()?;
        self.sheet
            .measured("open a point over NBD, read 4 KiB", Measured { understudyd: daemon.peak(), ..median(seconds) });
        Ok(())
    }

    fn increments(&mut self, daemon: &Daemon, mut map: Map, pages: &mut Recent) -> anyhow::Result<()> {
        let (before, mut seconds) = (self.scene.size()?, Vec::new());
        let mut session = Session::connect(&daemon.address)?;
        for version in 0..INCREMENTS {
            self.number += 1;
            let runs = vec![Run::Unchanged { count: self.half - 1 }, Run::Data { count: 1, version: 10 + version }];
            let stream = Stream { number: self.number, geometry: map.geometry, base: Some(map), runs };
            let watch = Stopwatch::start();
            map = session.push(&"one".parse()?, &stream, pages)?;
            seconds.push(watch.seconds());
        }
        let added = (self.scene.size()?.segments - before.segments) / INCREMENTS;
        let median = median(seconds);
        let note = format!("{}; segments +{} each", median.note, bytes(added));
        let measured = Measured { understudyd: daemon.peak(), note, ..median };
        self.sheet.measured("an increment of 1 block", measured);
        Ok(())
    }

    fn collect(&self, what: &str, how: &[&str]) -> anyhow::Result<()> {
        let before = self.scene.size()?;
        let mut words = vec!["collect"];
        words.extend(how);
        let taken = measure(self.scene.understudyd()?.args(words).args(["--pool", "pool"]))?;
        let after = self.scene.size()?;
        let note = format!(
            "segments {} -> {}, index {} -> {}",
            bytes(before.segments),
            bytes(after.segments),
            bytes(before.index),
            bytes(after.index)
        );
        let measured = Measured { seconds: taken.seconds, understudyd: taken.peak, note, ..Measured::default() };
        self.sheet.measured(what, measured);
        Ok(())
    }

    fn upkeep(&self, what: &str, words: &[&str]) -> anyhow::Result<()> {
        let taken = measure(self.scene.understudyd()?.args(words).args(["--pool", "pool"]))?;
        let Taken { seconds, peak } = taken;
        self.sheet.measured(what, Measured { seconds, understudyd: peak, ..Measured::default() });
        Ok(())
    }
}

/// A pipe that takes no more than a number of bytes.
struct Unfinished<W> {
    pipe: W,
    left: u64,
}

impl<W: std::io::Write> std::io::Write for Unfinished<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        let count = self.pipe.write(bytes)?;
        self.left = self.left.saturating_sub(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.pipe.flush()
    }
}
