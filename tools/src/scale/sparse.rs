//! A large volume that is nearly all hole: replicated, changed, replicated again, verified, restored.
//!
//! Its files need a filesystem that holds such sizes (XFS, btrfs, tmpfs; ext4 ends at 16 TiB): the volume gets a secondary only
//! where the pool is on one.

use super::session::open_export;
use super::sheet::{MEASURED, Measured, Sheet};
use super::{Scene, noise};
use crate::clock::Stopwatch;
use crate::process::{Taken, measure};
use crate::text::{binary, bytes};
use anyhow::{Context, ensure};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Bytes of data at the start, in the middle and at the end.
const PIECE: usize = 4 << 20;

/// Runs the part; `place` is where the volume is, `native` whether the pool's filesystem holds a secondary.
pub fn run(scene: &mut Scene, size: u64, place: &Path, native: bool) -> anyhow::Result<()> {
    let title = format!("A sparse volume of {}, {} of it data", binary(size), bytes(3 * PIECE as u64));
    let sheet = Sheet::new("sparse", &title, MEASURED, scene.json);
    let (source, target) = (place.join("source.raw"), place.join("restored.raw"));
    make(&source, size)?;
    // Under /dev, where the volume may be, nothing is restored to what is not there.
    File::create(&target).and_then(|file| file.set_len(size)).context("cannot make the target")?;
    let daemon = if native { scene.native_daemon()? } else { scene.daemon()? };
    let tell = |what: &str, taken: Taken, note: String| {
        let Taken { seconds, peak } = taken;
        let (understudyd, understudy) = (daemon.peak(), peak);
        sheet.measured(what, Measured { seconds, understudyd, understudy, note, count: None });
    };
    let (source_name, target_name) = (source.display().to_string(), target.display().to_string());
    let replicate = ["replicate", &source_name, "--volume", "v"];
    tell("full", measure(daemon.understudy()?.args(replicate))?, format!("segments {}", bytes(scene.size()?.segments)));
    if native {
        let watch = Stopwatch::start();
        daemon.settle("v")?;
        let taken = Taken { seconds: watch.seconds(), peak: 0 };
        tell("until the secondary settled", taken, String::new());
    }
    change(&source, size)?;
    let before = scene.size()?.segments;
    let taken = measure(daemon.understudy()?.args(replicate))?;
    let added = scene.size()?.segments - before;
    tell("incremental, 1 MiB changed", taken, format!("segments +{}", bytes(added)));
    tell("incremental, nothing changed", measure(daemon.understudy()?.args(replicate))?, String::new());
    tell("verify", measure(daemon.understudy()?.args(["verify", &source_name, "v"]))?, String::new());
    let taken = measure(daemon.understudy()?.args(["restore", "v", &target_name]))?;
    let held = File::open(&target).and_then(|file| file.metadata()).context("the restored volume is not there")?;
    ensure!(held.len() == size, "{} has {} bytes after restoring, not {size}", target.display(), held.len());
    tell("restore", taken, format!("takes {} on the disk", bytes(held.blocks() * 512)));
    tell("verify what was restored", measure(daemon.understudy()?.args(["verify", &target_name, "v"]))?, String::new());
    let (exported, seconds) = open_export(&daemon.nbd, "v", size - 4096)?;
    ensure!(exported == size, "the export has {exported} bytes, not {size}");
    tell("open over NBD, read the last 4 KiB", Taken { seconds, peak: 0 }, format!("{exported} bytes exported"));
    daemon.stop()?;
    [&source, &target].into_iter().try_for_each(|file| std::fs::remove_file(file).context("cannot remove a volume"))?;
    scene.clear()
}

fn make(path: &Path, size: u64) -> anyhow::Result<()> {
    let file = File::create(path).and_then(|file| file.set_len(size).map(|()| file));
    let file = file.with_context(|| format!("cannot make a volume of {} at {}", binary(size), path.display()))?;
    for (version, offset) in [(1, 0), (2, size / 2), (3, size - PIECE as u64)] {
        file.write_all_at(&noise(version, PIECE), offset).context("cannot write the volume")?;
    }
    Ok(())
}

fn change(path: &Path, size: u64) -> anyhow::Result<()> {
    let file = File::options().write(true).open(path).context("cannot change the volume")?;
    file.write_all_at(&noise(4, 1 << 20), size / 2 + (1 << 20)).context("cannot change the volume")
}
