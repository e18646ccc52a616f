//! Who runs, and how: each contestant copies the source to a fresh target and is done when that is durable.
//!
//! Invariant: a target is removed, and a daemon has settled and ended, before the next contestant starts.

use super::table::Run;
use crate::clock::Stopwatch;
use crate::daemon::Daemon;
use crate::process::{Running, Taken, measure, theirs};
use anyhow::Context;
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The name of our own full replication.
pub const UNDERSTUDY: &str = "understudy replicate";
/// The name of the peer that everybody knows.
pub const BUFFERED_DD: &str = "dd, buffered";
/// The name of an incremental that finds nothing.
pub const UNCHANGED: &str = "incremental, unchanged";
/// What is measured on a pool that has a full.
pub const LATER: [&str; 3] = [UNCHANGED, "incremental, 1 % changed", "restore to a fresh file"];

/// All that copy the whole volume.
pub const CONTESTANTS: [Contestant; 6] = [
    Contestant { name: UNDERSTUDY, run: understudy },
    Contestant { name: "qemu-img -t none", run: |track| track.qemu("none", "qemu-img -t none") },
    Contestant { name: "qemu-img -t writeback", run: |track| track.qemu("writeback", "qemu-img -t writeback") },
    Contestant { name: "nbdcopy to nbdkit file", run: nbdcopy },
    Contestant { name: BUFFERED_DD, run: |track| track.dd(&["conv=fsync"], BUFFERED_DD) },
    Contestant { name: "dd, direct", run: |track| track.dd(&["oflag=direct", "conv=fsync"], "dd, direct") },
];

/// One that copies the whole volume.
#[derive(Debug)]
pub struct Contestant {
    /// As in the table.
    pub name: &'static str,
    run: fn(&Bench<'_>) -> anyhow::Result<Vec<Run>>,
}

impl Contestant {
    /// Copies once.
    pub fn run(&self, track: &Bench<'_>) -> anyhow::Result<Vec<Run>> {
        (self.run)(track)
    }
}

/// Where everybody runs.
#[derive(Debug)]
pub struct Bench<'a> {
    dir: &'a Path,
    source: PathBuf,
    target: PathBuf,
}

impl<'a> Bench<'a> {
    /// The source and all targets are in `dir`.
    pub fn new(dir: &'a Path) -> Self {
        Self { dir, source: dir.join("source.raw"), target: dir.join("target.raw") }
    }

    /// A file beside the source.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A daemon on a new pool.
    pub fn pool(&self) -> anyhow::Result<PoolRun<'_>> {
        Ok(PoolRun { track: self, daemon: Daemon::start(self.dir, "pool")? })
    }

    /// Runs a command that writes the target, and waits until that is durable.
    fn copy(&self, command: &mut Command) -> anyhow::Result<Taken> {
        let mut taken = measure(command)?;
        let watch = Stopwatch::start();
        let synced = File::open(&self.target).and_then(|target| target.sync_all());
        synced.context("cannot sync the target")?;
        taken.seconds += watch.seconds();
        fs::remove_file(&self.target).context("cannot remove the target")?;
        Ok(taken)
    }

    fn qemu(&self, cache: &str, name: &'static str) -> anyhow::Result<Vec<Run>> {
        let mut command = Command::new(theirs("qemu-img")?);
        command.args(["convert", "-f", "raw", "-O", "raw", "-t", cache]).arg(&self.source).arg(&self.target);
        Ok(vec![Run::new(name, self.copy(&mut command)?)])
    }

    fn dd(&self, how: &[&str], name: &'static str) -> anyhow::Result<Vec<Run>> {
        let mut command = Command::new(theirs("dd")?);
        let (source, target) = (self.source.display(), self.target.display());
        command.arg(format!("if={source}")).arg(format!("of={target}")).args(["bs=1M", "status=none"]).args(how);
        Ok(vec![Run::new(name, self.copy(&mut command)?)])
    }
}

fn understudy(track: &Bench<'_>) -> anyhow::Result<Vec<Run>> {
    let pool = track.pool()?;
    let runs = pool.replicate(UNDERSTUDY);
    pool.stop()?;
    runs
}

fn nbdcopy(track: &Bench<'_>) -> anyhow::Result<Vec<Run>> {
    let socket = track.dir.join("nbdkit.sock");
    let size = fs::metadata(&track.source)?.len();
    File::create(&track.target).and_then(|target| target.set_len(size)).context("cannot make the target")?;
    let mut server = Command::new(theirs("nbdkit")?);
    let server = Running::start_at(server.arg("-f").arg("-U").arg(&socket).arg("file").arg(&track.target), &socket)?;
    let mut command = Command::new(theirs("nbdcopy")?);
    command.arg("--flush").arg(&track.source).arg(format!("nbd+unix:///?socket={}", socket.display()));
    let taken = track.copy(&mut command)?;
    let server_peak = server.peak();
    drop(server);
    fs::remove_file(&socket).context("cannot remove the socket")?;
    Ok(vec![Run { server_peak, ..Run::new("nbdcopy to nbdkit file", taken) }])
}

/// A daemon on a pool, and what can be measured on it.
#[derive(Debug)]
pub struct PoolRun<'a> {
    track: &'a Bench<'a>,
    daemon: Daemon,
}

impl PoolRun<'_> {
    /// Replicates the source: once until the commit is durable, once until the secondary settled.
    pub fn replicate(&self, name: &'static str) -> anyhow::Result<Vec<Run>> {
        let taken =
            measure(self.daemon.understudy()?.arg("replicate").arg(&self.track.source).args(["--volume", "v"]))?;
        let watch = Stopwatch::start();
        self.daemon.settle("v")?;
        let settled = Taken { seconds: taken.seconds + watch.seconds(), peak: taken.peak };
        let server_peak = self.daemon.peak();
        let mut runs = vec![Run { server_peak, ..Run::new(name, taken) }];
        if name == UNDERSTUDY {
            runs.push(Run { server_peak, ..Run::new("  until the secondary settled", settled) });
        }
        Ok(runs)
    }

    /// What is told of a volume; `None` when there is none of that name.
    pub fn volume(&self, name: &str) -> anyhow::Result<Option<Value>> {
        self.daemon.volume(name)
    }

    /// Waits until the secondary of a volume is its newest point.
    pub fn settle(&self, volume: &str) -> anyhow::Result<()> {
        self.daemon.settle(volume)
    }

    /// A figure of the daemon's metrics, by its name and labels; `None` when it is not told.
    pub fn metric(&self, series: &str) -> anyhow::Result<Option<f64>> {
        self.daemon.metric(series)
    }

    /// `understudy` for this pool.
    pub fn understudy(&self) -> anyhow::Result<Command> {
        self.daemon.understudy()
    }

    /// HOST:PORT for NBD.
    pub fn nbd(&self) -> &str {
        &self.daemon.nbd
    }

    /// The image of a volume's secondary.
    pub fn secondary(&self, volume: &str) -> PathBuf {
        self.track.dir.join("pool/volumes").join(volume).join("secondary.raw")
    }

    /// The most memory that the daemon has had so far, bytes.
    pub fn peak(&self) -> u64 {
        self.daemon.peak()
    }

    /// Runs one of [`LATER`].
    pub fn run(&self, name: &'static str) -> anyhow::Result<Run> {
        let taken = match name {
            "restore to a fresh file" => {
                self.track.copy(self.daemon.understudy()?.args(["restore", "v"]).arg(&self.track.target))?
            }
            _ => return Ok(self.replicate(name)?.remove(0)),
        };
        Ok(Run { server_peak: self.daemon.peak(), ..Run::new(name, taken) })
    }

    /// Ends the daemon and removes the pool and the initiator's state.
    pub fn stop(self) -> anyhow::Result<()> {
        self.daemon.stop()?;
        for name in ["pool", "state"] {
            fs::remove_dir_all(self.track.dir.join(name)).with_context(|| format!("cannot remove the {name}"))?;
        }
        Ok(())
    }
}
