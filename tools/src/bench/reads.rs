//! Reading a point over NBD, out of the secondary and out of the history, beside other servers of the secondary's raw image.
//!
//! Invariants: everybody is read by the same clients over TCP, in turn, with what is read in the page cache; the history is
//! a point before the newest, of which the secondary has only what did not change since.

use super::contestant::{Bench as Track, PoolRun};
use super::table::{Results, Run};
use super::volume::Volume;
use super::{is_chosen, rounds};
use crate::args::Bench;
use crate::process::{Running, measure, theirs, wait_for};
use anyhow::Context;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Sequential, then 4 KiB at random places, 32 at a time; out of the secondary, out of history, then the rivals.
const READS: [[&str; 4]; 2] = [
    ["NBD read, secondary", "NBD read, history", "NBD read, nbdkit file", "NBD read, qemu-nbd"],
    ["NBD 4 KiB, secondary", "NBD 4 KiB, history", "NBD 4 KiB, nbdkit file", "NBD 4 KiB, qemu-nbd"],
];
/// How many times as fast as the faster rival, out of the secondary and out of history.
const WANTED: [f64; 2] = [0.9, 0.5];
/// Random reads of one run.
const RANDOM_READS: u32 = 100_000;

/// Everything that is measured here.
pub fn names() -> impl Iterator<Item = &'static str> {
    READS.into_iter().flatten()
}

/// Runs the section.
pub fn run(args: &Bench, track: &Track<'_>, volume: &mut Volume, results: &mut Results) -> anyhow::Result<()> {
    let chosen: Vec<&'static str> = names().filter(|name| is_chosen(args, name)).collect();
    if chosen.is_empty() {
        return Ok(());
    }
    let stage = Stage::new(track, volume)?;
    rounds(args, &chosen, results, |name, _| Ok(vec![stage.run(name).with_context(|| name.to_owned())?]))?;
    stage.pool.stop()
}

/// What was to be reached: its text, what was found and what was wanted, as far as it was measured.
pub fn targets(median: impl Fn(&str) -> Option<f64>) -> Vec<(String, f64, f64)> {
    let mut found = Vec::new();
    for [secondary, history, one, other] in READS {
        let rivals = [one, other].into_iter().filter_map(&median).min_by(f64::total_cmp);
        for (name, wanted) in [secondary, history].into_iter().zip(WANTED) {
            if let (Some(rival), Some(ours)) = (rivals, median(name)) {
                found.push((format!("{name}: at least {wanted} x the faster rival"), rival / ours, wanted));
            }
        }
    }
    found
}

/// Two points in a pool, and the rivals that serve the image of the newer one.
struct Stage<'a> {
    pool: PoolRun<'a>,
    nbdkit: (Running, u16),
    qemu: (Running, u16),
}

impl<'a> Stage<'a> {
    fn new(track: &'a Track<'_>, volume: &mut Volume) -> anyhow::Result<Self> {
        let pool = track.pool()?;
        pool.replicate("full")?;
        volume.change_all()?;
        pool.replicate("full")?;
        let image = pool.secondary("v");
        let nbdkit = serve(Command::new(theirs("nbdkit")?).args(["-f", "-r", "-i", "127.0.0.1"]), |command, port| {
            command.arg("-p").arg(port).arg("file").arg(&image)
        })?;
        let qemu = serve(
            Command::new(theirs("qemu-nbd")?).args(["-r", "-t", "-f", "raw", "-e", "16", "-b", "127.0.0.1"]),
            |command, port| command.arg("-p").arg(port).arg(&image),
        )?;
        let stage = Self { pool, nbdkit, qemu };
        READS[0].iter().try_for_each(|name| stage.run(name).map(drop))?;
        Ok(stage)
    }

    /// Reads once.
    fn run(&self, name: &'static str) -> anyhow::Result<Run> {
        let at = |names: &[&str; 4]| names.iter().position(|known| *known == name);
        let uri = match READS.iter().find_map(at) {
            Some(0) => format!("nbd://{}/v", self.pool.nbd()),
            Some(1) => format!("nbd://{}/v@1", self.pool.nbd()),
            Some(2) => format!("nbd://127.0.0.1:{}/", self.nbdkit.1),
            _ => format!("nbd://127.0.0.1:{}/", self.qemu.1),
        };
        let taken = match READS[0].contains(&name) {
            true => measure(Command::new(theirs("nbdcopy")?).args([&uri, "null:"]))?,
            false => measure(&mut random(&uri)?)?,
        };
        let server_peak = if name.ends_with("secondary") || name.ends_with("history") { self.pool.peak() } else { 0 };
        Ok(Run { server_peak, ..Run::new(name, taken) })
    }
}

fn random(uri: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(theirs("fio")?);
    command.args(["--name=random", "--ioengine=nbd", "--rw=randread", "--bs=4k", "--iodepth=32", "--randseed=7"]);
    command.args([&format!("--number_ios={RANDOM_READS}"), &format!("--uri={uri}")]);
    Ok(command)
}

/// Starts a server on a free port, and waits until it takes connections.
fn serve(
    command: &mut Command,
    on: impl FnOnce(&mut Command, String) -> &mut Command,
) -> anyhow::Result<(Running, u16)> {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).context("no free port")?.port();
    let command = on(command, port.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Running::start(command)?;
    let listens = || Ok(TcpStream::connect(("127.0.0.1", port)).ok().map(drop));
    wait_for("the server listens", Duration::from_secs(20), listens)?;
    Ok((server, port))
}
