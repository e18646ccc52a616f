//! What an increment costs: a volume of 1 TiB in which 1, 10, 100 and more blocks change, spread evenly over it.
//!
//! 4 KiB of noise change in each block, as when a filesystem writes one of its own blocks; the rest of the volume is a hole.

use super::sheet::{Cell, Sheet};
use super::{Scene, noise};
use crate::clock::Stopwatch;
use crate::process::{line, output};
use crate::text::bytes;
use anyhow::Context;
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of the volume.
const SIZE: u64 = 1 << 40;
/// Bytes of a block.
const BLOCK: u64 = 64 << 10;
/// Bytes that change in it.
const CHANGED: usize = 4096;
/// Blocks that have data in the beginning: an increment is one of something.
const DATA: u64 = 256;

const COLUMNS: &[(&str, &str)] = &[
    ("changed_blocks", "blocks changed"),
    ("seconds", "replicate"),
    ("settled_seconds", "until settled"),
    ("bytes_sent", "on the wire"),
    ("segment_bytes", "into segments"),
    ("segment_bytes_per_block", "a block"),
    ("index_bytes", "index grew"),
    ("written_bytes", "written by understudyd"),
    ("understudyd_peak_bytes", "understudyd, memory"),
];

/// Runs the part with up to `most` changed blocks.
pub fn run(scene: &mut Scene, most: u64) -> anyhow::Result<()> {
    let title = "Increments of a volume of 1 TiB: blocks of 64 KiB, 4 KiB changed in each, with a secondary";
    let sheet = Sheet::new("curve", title, COLUMNS, scene.json);
    let source = scene.path().join("source.raw");
    let file = File::create(&source).context("cannot make the volume")?;
    file.set_len(SIZE).context("cannot make the volume")?;
    change(&file, DATA, 0)?;
    let daemon = scene.native_daemon()?;
    replicate(&daemon, &source)?;
    daemon.settle("v")?;
    let sizes = (0..).map(|power| 10_u64.pow(power)).take_while(|count| *count < most).chain([most]);
    for (round, count) in (1..).zip(sizes) {
        change(&file, count, round)?;
        let (before, written) = (scene.size()?, daemon.written());
        let watch = Stopwatch::start();
        let sent = replicate(&daemon, &source)?;
        let seconds = watch.seconds();
        daemon.settle("v")?;
        let (settled, after) = (watch.seconds(), scene.size()?);
        let added = after.segments - before.segments;
        let grew = after.index as i64 - before.index as i64;
        sheet.row(&[
            Cell::Count(count),
            Cell::Seconds(seconds),
            Cell::Seconds(settled),
            Cell::Bytes(sent),
            Cell::Bytes(added),
            Cell::Bytes(added / count),
            if grew < 0 { Cell::Text(format!("-{}", bytes(grew.unsigned_abs()))) } else { Cell::Bytes(grew as u64) },
            Cell::Bytes(daemon.written() - written),
            Cell::Memory(daemon.peak()),
        ]);
    }
    daemon.stop()?;
    std::fs::remove_file(&source).context("cannot remove the volume")?;
    scene.clear()
}

/// Changes `count` blocks, other ones in each round.
fn change(file: &File, count: u64, round: u64) -> anyhow::Result<()> {
    let blocks = SIZE / BLOCK;
    for at in 0..count {
        let block = at * blocks / count + round;
        let bytes = noise(round << 32 | at, CHANGED);
        file.write_all_at(&bytes, block % blocks * BLOCK).context("cannot change the volume")?;
    }
    file.sync_all().context("cannot change the volume")
}

/// Replicates, and returns the bytes that went over the wire.
fn replicate(daemon: &crate::daemon::Daemon, source: &Path) -> anyhow::Result<u64> {
    let mut command = daemon.understudy()?;
    command.arg("replicate").arg(source).args(["--volume", "v", "--compress", "lz4", "--json"]);
    let told = output(&mut command)?;
    let lines = String::from_utf8_lossy(&told.stdout);
    let values = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let sent = values.filter_map(|value| value["bytes_sent"].as_u64()).next_back();
    sent.with_context(|| format!("`{}` does not tell what it sent", line(&command)))
}
