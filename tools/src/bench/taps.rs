//! Writing through a tap, beside a server of the same raw file that does nothing else; and what a flush costs that waits for the appliance.
//!
//! Invariants: everybody is written to by the same client over a unix socket, in turn, and what was written is durable when it counts; a tap
//! has brought its baseline and is followed when it is written to, and is ended, with everything shipped, before the next contestant starts; in the end what the appliance has
//! is what the volume is.

mod lag;

use super::contestant::{Bench as Track, PoolRun};
use super::table::{Results, Run};
use super::{is_chosen, rounds};
use crate::args::Bench;
use crate::process::{Running, Taken, measure, output, theirs, wait_for};
use anyhow::Context;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// One way to write: its name, and what fio is told.
struct Load {
    tap: &'static str,
    rival: &'static str,
    fio: &'static [&'static str],
}

/// 4 KiB at random places, one and 32 at a time; the volume from its begin to its end.
const LOADS: [Load; 3] = [
    Load {
        tap: "tap, 4 KiB random, 1 at a time",
        rival: "nbdkit, 4 KiB random, 1 at a time",
        fio: &["--rw=randwrite", "--bs=4k", "--iodepth=1", "--number_ios=20000"],
    },
    Load {
        tap: "tap, 4 KiB random, 32 at a time",
        rival: "nbdkit, 4 KiB random, 32 at a time",
        fio: &["--rw=randwrite", "--bs=4k", "--iodepth=32", "--number_ios=100000"],
    },
    Load {
        tap: "tap, 1 MiB in order",
        rival: "nbdkit, 1 MiB in order",
        fio: &["--rw=write", "--bs=1m", "--iodepth=4"],
    },
];
/// Each write is flushed: by a tap, by one that waits for the appliance, and by the rival.
const FLUSHED: [&str; 3] = ["tap, 4 KiB and flush", "tap --sync flush, 4 KiB and flush", "nbdkit, 4 KiB and flush"];
/// Flushes of one run.
const FLUSHES: u32 = 2000;
/// Whether the appliance has a session with the tap.
const FOLLOWED: &str = "understudy_journal_followed{volume=\"tapped\"}";
/// Writing through a tap, to the rival: how many times as fast.
const WANTED: f64 = 0.8;
/// How long a tap may take for its baseline, or for its end.
const LIMIT: Duration = Duration::from_secs(600);

/// Everything that is measured here.
pub fn names() -> impl Iterator<Item = &'static str> {
    LOADS.iter().flat_map(|load| [load.tap, load.rival]).chain(FLUSHED).chain([lag::NAME])
}

/// What was to be reached: its text, what was found and what was wanted, as far as it was measured.
pub fn targets(median: impl Fn(&str) -> Option<f64>) -> Vec<(String, f64, f64)> {
    let ratio = |load: &Load| {
        let found = median(load.rival)? / median(load.tap)?;
        Some((format!("{}: at least {WANTED} x nbdkit file", load.tap), found, WANTED))
    };
    LOADS.iter().filter_map(ratio).collect()
}

/// What is told beside: milliseconds that waiting for the appliance adds to a flush.
pub fn notes(median: impl Fn(&str) -> Option<f64>) -> Option<String> {
    let added = (median(FLUSHED[1])? - median(FLUSHED[0])?) * 1000.0 / f64::from(FLUSHES);
    Some(format!("--sync flush adds {added:.2} ms to a flush"))
}

/// Runs the section.
pub fn run(args: &Bench, track: &Track<'_>, results: &mut Results) -> anyhow::Result<()> {
    let chosen: Vec<&'static str> = names().filter(|name| is_chosen(args, name)).collect();
    if chosen.is_empty() {
        return Ok(());
    }
    let stage = Stage::new(track)?;
    let raced: Vec<&'static str> = chosen.iter().copied().filter(|name| *name != lag::NAME).collect();
    rounds(args, &raced, results, |name, _| Ok(vec![stage.run(name).with_context(|| name.to_owned())?]))?;
    if raced.len() < chosen.len() {
        lag::tell(&stage.lag().context(lag::NAME)?, args.plots.as_deref(), results)?;
    }
    stage.end()
}

/// A volume that is tapped, one like it that is only served, and the appliance.
struct Stage<'a> {
    pool: PoolRun<'a>,
    tapped: PathBuf,
    served: PathBuf,
    socket: PathBuf,
}

impl<'a> Stage<'a> {
    fn new(track: &'a Track<'_>) -> anyhow::Result<Self> {
        let [tapped, served] = ["tapped.raw", "served.raw"].map(|name| track.file(name));
        for copy in [&tapped, &served] {
            fs::copy(track.file("source.raw"), copy).context("cannot copy the volume")?;
        }
        let stage = Self { pool: track.pool()?, tapped, served, socket: track.file("tap.sock") };
        let tap = stage.tap("async")?;
        wait_for("the baseline is a point", LIMIT, || stage.has_point())?;
        tap.end(LIMIT)?;
        stage.pool.settle("tapped")?;
        Ok(stage)
    }

    fn run(&self, name: &'static str) -> anyhow::Result<Run> {
        let taken = match name.starts_with("nbdkit") {
            true => {
                let mut command = Command::new(theirs("nbdkit")?);
                command.arg("-f").arg("-U").arg(&self.socket).arg("file").arg(&self.served);
                let _server = Running::start_at(&mut command, &self.socket)?;
                self.write(name)?
            }
            false => {
                let tap = self.tap(if name.contains("--sync flush") { "flush" } else { "async" })?;
                let taken = self.write(name)?;
                tap.end(LIMIT)?;
                self.ship_all()?;
                taken
            }
        };
        Ok(Run::new(name, taken))
    }

    /// A tap that ends does not wait long for the appliance: a flush that does, of another one, shows that it has everything.
    fn ship_all(&self) -> anyhow::Result<()> {
        let tap = self.tap("flush")?;
        let mut command = self.fio()?;
        output(command.args(["--rw=randwrite", "--bs=4k", "--number_ios=1"]))?;
        tap.end(LIMIT)
    }

    /// How far the appliance is behind during a long load, and while the tap ends after it.
    fn lag(&self) -> anyhow::Result<lag::Samples> {
        let tap = self.tap("async")?;
        let load = || {
            let mut command = self.fio()?;
            command.args(["--rw=randwrite", "--bs=4k", "--iodepth=32", "--time_based"]);
            measure(command.arg(format!("--runtime={}", lag::SECONDS)))?;
            tap.end(LIMIT)
        };
        Ok(lag::during(&self.pool, load)?.1)
    }

    fn fio(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(theirs("fio")?);
        command.args(["--name=write", "--ioengine=nbd", "--randseed=7", "--end_fsync=1"]);
        command.arg(format!("--uri=nbd+unix:///?socket={}", self.socket.display()));
        Ok(command)
    }

    fn write(&self, name: &str) -> anyhow::Result<Taken> {
        let mut command = self.fio()?;
        match LOADS.iter().find(|load| [load.tap, load.rival].contains(&name)) {
            Some(load) => command.args(load.fio),
            None => command.args(["--rw=randwrite", "--bs=4k", "--fsync=1", &format!("--number_ios={FLUSHES}")]),
        };
        measure(&mut command)
    }

    fn tap(&self, sync: &str) -> anyhow::Result<Running> {
        let mut command = self.pool.understudy()?;
        command.arg("tap").arg(&self.tapped).args(["--volume", "tapped", "--sync", sync]);
        command.arg("--serve").arg(format!("unix:{}", self.socket.display()));
        let tap = Running::start_at(&mut command, &self.socket)?;
        let is_followed = || Ok(self.pool.metric(FOLLOWED)?.filter(|followed| *followed > 0.0));
        wait_for("the appliance follows", LIMIT, is_followed)?;
        Ok(tap)
    }

    fn has_point(&self) -> anyhow::Result<Option<()>> {
        let tapped = self.pool.volume("tapped")?;
        Ok(tapped.filter(|tapped| tapped["points"].as_u64() > Some(0)).map(drop))
    }

    /// What the appliance has is what the volume is.
    fn end(self) -> anyhow::Result<()> {
        self.ship_all()?;
        output(self.pool.understudy()?.arg("verify").arg(&self.tapped).arg("tapped@now"))?;
        [&self.tapped, &self.served].into_iter().try_for_each(fs::remove_file).context("cannot remove a copy")?;
        self.pool.stop()
    }
}
