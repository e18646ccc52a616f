//! A volume with many points: making them, listing, opening, pruning.

use super::Scene;
use super::session::{Session, open_export};
use super::sheet::{MEASURED, Measured, Sheet, grouped, median};
use super::synthetic::{Recent, Run, Stream};
use crate::clock::Stopwatch;
use crate::daemon::Daemon;
use crate::process::{Taken, measure};
use crate::text::bytes;
use understudy_format::{BlockSize, Geometry};

/// Blocks of the volume, of 64 KiB each: 4 GiB.
const BLOCKS: u64 = 1 << 16;
/// Blocks that a point changes, each under another map page.
const CHANGED: u64 = 3;
/// Points that are left at the end.
const KEPT: u64 = 100;
const STARTS: usize = 5;
const OPENINGS: usize = 20;

/// Runs the part.
pub fn run(scene: &mut Scene, points: u64) -> anyhow::Result<()> {
    let title = format!("A volume with {} points, {CHANGED} blocks of 64 KiB changed in each", grouped(points));
    let part = Part { sheet: Sheet::new("points", &title, MEASURED, scene.json), scene, points };
    let daemon = part.scene.daemon()?;
    part.make(&daemon)?;
    part.list(&daemon)?;
    for (what, point) in [("first", 1), ("middle", points.div_ceil(2)), ("newest", points)] {
        part.open(&daemon, what, point)?;
    }
    daemon.stop()?;
    part.start()?;
    let keep = format!("--keep-last={}", KEPT.min(points / 2));
    part.upkeep("prune, dry run", &["prune", "v", &keep, "--dry-run"])?;
    part.upkeep("prune", &["prune", "v", &keep])?;
    part.upkeep("collect", &["collect"])?;
    part.scene.clear()
}

struct Part<'a> {
    scene: &'a Scene,
    sheet: Sheet,
    points: u64,
}

impl Part<'_> {
    fn make(&self, daemon: &Daemon) -> anyhow::Result<()> {
        let geometry = Geometry::new(BLOCKS << 16, BlockSize::default())?;
        let (mut session, mut pages, name) = (Session::connect(&daemon.address)?, Recent::default(), "v".parse()?);
        let before = self.scene.size()?;
        let (mut base, mut seconds) = (None, Vec::new());
        for number in 0..self.points {
            let runs = runs(number, base.is_none());
            let watch = Stopwatch::start();
            let stream = Stream { number, geometry, base, runs };
            base = Some(session.push(&name, &stream, &mut pages)?);
            seconds.push(watch.seconds());
        }
        let tenth = seconds.len().div_ceil(10);
        let (first, last) = (median(seconds[..tenth].to_vec()), median(seconds[seconds.len() - tenth..].to_vec()));
        let note = format!(
            "a commit in {:.1} ms at first, {:.1} ms at last; segments +{} a point",
            first.seconds * 1e3,
            last.seconds * 1e3,
            bytes((self.scene.size()?.segments - before.segments) / self.points)
        );
        let (seconds, count, understudyd) = (seconds.iter().sum(), Some(self.points), daemon.peak());
        self.sheet.measured("commit", Measured { seconds, count, understudyd, note, ..Measured::default() });
        Ok(())
    }

    fn list(&self, daemon: &Daemon) -> anyhow::Result<()> {
        let Taken { seconds, peak } = measure(daemon.understudy()?.args(["points", "v"]))?;
        let (understudyd, understudy) = (daemon.peak(), peak);
        self.sheet.measured("understudy points", Measured { seconds, understudyd, understudy, ..Measured::default() });
        Ok(())
    }

    fn open(&self, daemon: &Daemon, what: &str, point: u64) -> anyhow::Result<()> {
        let open = |_| Ok(open_export(&daemon.nbd, &format!("v@{point}"), 0)?.1);
        let seconds = (0..OPENINGS).map(open).collect::<anyhow::Result<Vec<f64>>>()?;
        self.sheet.measured(&format!("open the {what} point over NBD, read 4 KiB"), median(seconds));
        Ok(())
    }

    fn start(&self) -> anyhow::Result<()> {
        let (mut seconds, mut understudyd) = (Vec::new(), 0);
        for _ in 0..STARTS {
            let watch = Stopwatch::start();
            let daemon = self.scene.daemon()?;
            seconds.push(watch.seconds());
            understudyd = daemon.peak();
            daemon.stop()?;
        }
        self.sheet.measured("start of the daemon", Measured { understudyd, ..median(seconds) });
        Ok(())
    }

    fn upkeep(&self, what: &str, words: &[&str]) -> anyhow::Result<()> {
        let before = self.scene.size()?.segments;
        let taken = measure(self.scene.understudyd()?.args(words).args(["--pool", "pool"]))?;
        let note = format!("segments {} -> {}", bytes(before), bytes(self.scene.size()?.segments));
        let Taken { seconds, peak } = taken;
        self.sheet.measured(what, Measured { seconds, understudyd: peak, note, ..Measured::default() });
        Ok(())
    }
}

/// All blocks of a point.
fn runs(number: u64, first: bool) -> Vec<Run> {
    let changed = |at: u64| at * 256 + number % 256;
    let rest = |count| if first { Run::Zero { count } } else { Run::Unchanged { count } };
    let (mut runs, mut next) = (Vec::new(), 0);
    for block in (0..CHANGED).map(changed) {
        runs.extend((block > next).then(|| rest(block - next)));
        runs.push(Run::Data { count: 1, version: number });
        next = block + 1;
    }
    runs.push(rest(BLOCKS - next));
    runs
}
