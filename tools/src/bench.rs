//! `bench`: races the three programs' command lines against other tools, on this machine, with one volume.
//!
//! Invariants: contestants run in turn, each round in another order, so that a slow spell hits all of them; each
//! writes to a fresh target on the same filesystem, and is done when its target is durable; the source is in the
//! page cache before each run; the next contestant starts when the last one left nothing to do. Speed is no gate: the
//! targets are printed as reached or not reached.

mod contestant;
mod exports;
mod plot;
mod reads;
mod table;
mod taps;
mod volume;

use crate::args::Bench;
use crate::process::{need, ours};
use crate::text::binary;
use anyhow::{Context, bail};
use contestant::{Bench as Track, CONTESTANTS, LATER};
use std::path::Path;
use table::{Results, Run};
use volume::Volume;

/// Room that is needed, in volumes: the source, an image of it, a pool with segments and two secondaries.
const ROOM: f64 = 5.5;

/// Runs the benchmark.
pub fn run(args: &Bench) -> anyhow::Result<()> {
    ["understudy", "understudyd"].iter().try_for_each(|name| ours(name).map(|_| ()))?;
    need(&["qemu-img", "qemu-io", "qemu-nbd", "nbdcopy", "nbdkit", "dd", "fio"])?;
    let inside = args.dir.as_deref().unwrap_or(Path::new("/var/tmp"));
    let dir = tempfile::Builder::new().prefix("understudy-bench-").tempdir_in(inside);
    let dir = dir.with_context(|| format!("cannot make a directory in {}", inside.display()))?;
    check_room(dir.path(), args.size)?;
    tell(&format!("making a volume of {} in {}", binary(args.size), dir.path().display()));
    let mut volume = Volume::make(&dir.path().join("source.raw"), args.size)?;
    let mut results = Results::new(args.size, args.json);
    race(args, &Track::new(dir.path()), &volume, &mut results)?;
    later(args, &Track::new(dir.path()), &mut volume, &mut results)?;
    exports::run(args, &Track::new(dir.path()), &mut results)?;
    reads::run(args, &Track::new(dir.path()), &mut volume, &mut results)?;
    taps::run(args, &Track::new(dir.path()), &mut results)?;
    if results.is_empty() {
        let names = CONTESTANTS.iter().map(|c| c.name).chain(LATER).chain(exports::names());
        let names = names.chain(reads::names()).chain(taps::names());
        let names: Vec<&str> = names.collect();
        bail!("nothing has that in its name; there are: {}", names.join(", "));
    }
    results.print();
    Ok(())
}

/// Full copies of the volume, by everyone in turn.
fn race(args: &Bench, track: &Track<'_>, volume: &Volume, results: &mut Results) -> anyhow::Result<()> {
    let chosen: Vec<_> = CONTESTANTS.iter().filter(|contestant| is_chosen(args, contestant.name)).collect();
    rounds(args, &chosen, results, |contestant, _| {
        volume.warm()?;
        contestant.run(track).with_context(|| contestant.name.to_owned())
    })
}

/// Has each of those that were chosen run once a round, in another order each time; `run` is told when.
fn rounds<T: Copy>(
    args: &Bench,
    chosen: &[T],
    results: &mut Results,
    mut run: impl FnMut(T, Place) -> anyhow::Result<Vec<Run>>,
) -> anyhow::Result<()> {
    for round in 0..args.runs as usize {
        for turn in 0..chosen.len() {
            for run in run(chosen[(round + turn) % chosen.len()], Place { round, turn })? {
                tell(&format!("round {} of {}: {run}", round + 1, args.runs));
                results.add(run);
            }
        }
    }
    Ok(())
}

/// A run among all runs, from 0.
#[derive(Debug, Clone, Copy)]
struct Place {
    round: usize,
    turn: usize,
}

/// What comes after a full, on one pool.
fn later(args: &Bench, track: &Track<'_>, volume: &mut Volume, results: &mut Results) -> anyhow::Result<()> {
    let chosen: Vec<&str> = LATER.into_iter().filter(|name| is_chosen(args, name)).collect();
    if chosen.is_empty() {
        return Ok(());
    }
    let pool = track.pool()?;
    pool.replicate("full")?;
    rounds(args, &chosen, results, |name, Place { round, .. }| {
        if name == "incremental, 1 % changed" {
            volume.change(round as u64)?;
        }
        volume.warm()?;
        Ok(vec![pool.run(name).with_context(|| name.to_owned())?])
    })?;
    pool.stop()
}

fn is_chosen(args: &Bench, name: &str) -> bool {
    args.only.as_deref().is_none_or(|only| name.contains(only))
}

fn check_room(dir: &Path, size: u64) -> anyhow::Result<()> {
    let stat = rustix::fs::statvfs(dir).context("cannot see how much room there is")?;
    let (room, needed) = (stat.f_bavail * stat.f_frsize, (size as f64 * ROOM) as u64);
    match room >= needed {
        true => Ok(()),
        false => bail!(
            "{} has room for {}, {} are needed: name another place with --dir, or a smaller volume with --size",
            dir.display(),
            binary(room),
            binary(needed)
        ),
    }
}

/// How it goes, for whoever watches; the results go to standard output.
fn tell(line: &str) {
    eprintln!("{line}");
}
