//! NBD exports as sources: how fast one is read, and what an increment costs of which a dirty bitmap knows what changed.
//!
//! Invariants: the rival of reading is `nbdcopy` to nothing, from the same server in the same round; what is dirty was
//! written since the last point, a sixteenth of it in each of sixteen places, and is content that the appliance has, so
//! that what is measured is finding and reading it.

use super::contestant::{Bench as Track, PoolRun};
use super::table::{Results, Run};
use super::{Place, is_chosen, rounds};
use crate::args::Bench;
use crate::process::{Running, measure, output, theirs};
use anyhow::Context;
use std::path::PathBuf;
use std::process::Command;

/// Reading by the rival.
pub const NBDCOPY: &str = "nbdcopy an export to null";
/// Reading by us: verifying digests everything and compares roots.
pub const VERIFY: &str = "verify an export";
/// One thousandth, one, ten and a hundred percent of the volume are dirty.
pub const DIRTY: [&str; 4] = ["bitmap, 0.1 % dirty", "bitmap, 1 % dirty", "bitmap, 10 % dirty", "bitmap, 100 % dirty"];
/// The same disk without its bitmap.
pub const COMPARED: &str = "no bitmap, 0.1 % changed";
/// Thousandths of the volume, for [`DIRTY`].
const SHARES: [u64; 4] = [1, 10, 100, 1000];
const PLACES: u64 = 16;
const BLOCK: u64 = 64 << 10;

/// Reading an export, to nbdcopy: how many times as fast.
const READ_MIN: f64 = 0.9;
/// What everything dirty takes, to one percent dirty.
const DIRTY_MIN: f64 = 20.0;

/// What was to be reached, as far as it was measured: the ratio that was found, and the least that was wanted.
pub fn targets(median: impl Fn(&str) -> Option<f64>) -> impl Iterator<Item = (String, f64, f64)> {
    let ratio = |long, short, text, wanted| Some((text, median(long)? / median(short)?, wanted));
    let read = ratio(NBDCOPY, VERIFY, format!("reading an export, at least {READ_MIN} x nbdcopy"), READ_MIN);
    let dirty = ratio(DIRTY[3], DIRTY[1], format!("100 % dirty, at least {DIRTY_MIN} x what 1 % takes"), DIRTY_MIN);
    read.into_iter().chain(dirty)
}

/// Everything that is measured here.
pub fn names() -> impl Iterator<Item = &'static str> {
    [NBDCOPY, VERIFY, COMPARED].into_iter().chain(DIRTY)
}

/// Runs the section.
pub fn run(args: &Bench, track: &Track<'_>, results: &mut Results) -> anyhow::Result<()> {
    let chosen: Vec<&'static str> = names().filter(|name| is_chosen(args, name)).collect();
    if chosen.is_empty() {
        return Ok(());
    }
    let scene = Scene::new(args, track)?;
    rounds(args, &chosen, results, |name, Place { round, turn }| {
        let pattern = round as u64 * 8 + turn as u64 + 1;
        Ok(vec![scene.run(name, pattern).with_context(|| name.to_owned())?])
    })?;
    scene.pool.stop()
}

struct Scene<'a> {
    pool: PoolRun<'a>,
    raw: PathBuf,
    disk: PathBuf,
    socket: PathBuf,
    size: u64,
}

impl<'a> Scene<'a> {
    /// A pool that has the raw volume as one, and a qcow2 image of it with a bitmap as another.
    fn new(args: &Bench, track: &'a Track<'_>) -> anyhow::Result<Self> {
        let (raw, disk, socket) = (track.file("source.raw"), track.file("disk.qcow2"), track.file("source.sock"));
        let mut convert = Command::new(theirs("qemu-img")?);
        output(convert.args(["convert", "-f", "raw", "-O", "qcow2"]).arg(&raw).arg(&disk))?;
        let pool = track.pool()?;
        let scene = Self { pool, raw, disk, socket, size: args.size };
        scene.bitmap(&["--add", "-g", "64k"])?;
        scene.pool.replicate("full")?;
        let server = scene.qemu()?;
        measure(scene.replicate()?.args(["--bitmap", "b0"]))?;
        drop(server);
        Ok(scene)
    }

    fn run(&self, name: &'static str, pattern: u64) -> anyhow::Result<Run> {
        let share = DIRTY.iter().position(|known| *known == name).map(|at| SHARES[at]);
        let taken = match (name, share) {
            (NBDCOPY, _) => {
                let _server = self.nbdkit()?;
                measure(Command::new(theirs("nbdcopy")?).arg(self.uri("")).arg("null:"))?
            }
            (VERIFY, _) => {
                let _server = self.nbdkit()?;
                measure(self.pool.understudy()?.arg("verify").arg(self.uri("")).arg("v"))?
            }
            (_, share) => {
                self.bitmap(&["--clear"])?;
                self.dirty(share.unwrap_or(1), pattern)?;
                let _server = self.qemu()?;
                let mut replicate = self.replicate()?;
                if share.is_some() {
                    replicate.args(["--bitmap", "b0"]);
                }
                let taken = measure(&mut replicate)?;
                // What was made without the bitmap is not known to it: the next one would compare everything.
                if share.is_none() {
                    measure(self.replicate()?.args(["--bitmap", "b0"]))?;
                }
                taken
            }
        };
        Ok(Run { server_peak: self.pool.peak(), ..Run::new(name, taken) })
    }

    fn replicate(&self) -> anyhow::Result<Command> {
        let mut command = self.pool.understudy()?;
        command.arg("replicate").arg(self.uri("disk")).args(["--volume", "disk"]);
        Ok(command)
    }

    /// Writes so many thousandths of the disk, other bytes each time.
    fn dirty(&self, thousandths: u64, pattern: u64) -> anyhow::Result<()> {
        let length = (self.size / 1000 * thousandths / PLACES / BLOCK).max(1) * BLOCK;
        let mut command = Command::new(theirs("qemu-io")?);
        command.args(["-f", "qcow2"]);
        for place in 0..PLACES {
            let offset = self.size / PLACES / BLOCK * BLOCK * place;
            command.args(["-c", &format!("write -q -P {} {offset} {length}", pattern % 250 + 1)]);
        }
        output(command.arg(&self.disk)).map(drop)
    }

    fn bitmap(&self, how: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(theirs("qemu-img")?);
        output(command.arg("bitmap").args(how).arg(&self.disk).arg("b0")).map(drop)
    }

    fn uri(&self, export: &str) -> String {
        format!("nbd+unix:///{export}?socket={}", self.socket.display())
    }

    fn nbdkit(&self) -> anyhow::Result<Running> {
        let mut command = Command::new(theirs("nbdkit")?);
        command.arg("-f").arg("-r").arg("-U").arg(&self.socket).arg("file").arg(&self.raw);
        Running::start_at(&mut command, &self.socket)
    }

    /// The image read-only, with its bitmap; it records again when somebody writes to it.
    fn qemu(&self) -> anyhow::Result<Disk<'_>> {
        self.bitmap(&["--disable"])?;
        let mut command = Command::new(theirs("qemu-nbd")?);
        command.args(["-t", "-r", "-A", "-e", "16", "-f", "qcow2", "-x", "disk", "-B", "b0", "-k"]);
        let server = Running::start_at(command.arg(&self.socket).arg(&self.disk), &self.socket)?;
        Ok(Disk { server: Some(server), scene: self })
    }
}

/// An image being served.
struct Disk<'a> {
    server: Option<Running>,
    scene: &'a Scene<'a>,
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        drop(self.server.take());
        // A bitmap that does not record makes the next run fail loudly: it lies.
        let _ = self.scene.bitmap(&["--enable"]);
    }
}
