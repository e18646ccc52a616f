//! `scale`: what is large, measured: unique blocks, points of a volume, a sparse volume, and increments of any size.
//!
//! Each part makes a pool of its own, drives the two programs from outside (their command lines, sessions, NBD), and removes the pool again.
//! Invariants: memory is that which the kernel counted; what is large is made as it goes and never held; nothing is
//! left behind. Speed is no gate: targets are printed as reached or not reached.

mod blocks;
mod curve;
mod points;
mod session;
mod sheet;
mod sparse;
mod synthetic;

use crate::args::{Part, Scale};
use crate::daemon::Daemon;
use crate::process::ours;
use crate::text::binary;
use anyhow::{Context, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Room for a unique block, in segments and index, also while it is collected, bytes.
const ROOM_BLOCK: u64 = 350;
/// Room for a changed block: the source, segments, and the secondary, bytes.
const ROOM_CHANGE: u64 = 80 << 10;
/// Room for a point, bytes.
const ROOM_POINT: u64 = 50 << 10;

/// Runs the parts.
pub fn run(args: &Scale) -> anyhow::Result<()> {
    ["understudy", "understudyd"].iter().try_for_each(|name| ours(name).map(|_| ()))?;
    let mut scene = Scene::new(args)?;
    let chosen = |part| args.only.is_none_or(|only| only == part);
    if chosen(Part::Blocks) {
        blocks::run(&mut scene, args.blocks).context("blocks")?;
    }
    if chosen(Part::Points) {
        points::run(&mut scene, args.points).context("points")?;
    }
    if chosen(Part::Sparse) {
        let place = Place::find(args, &scene)?;
        sparse::run(&mut scene, args.sparse, &place.dir, place.native).context("sparse")?;
    }
    if chosen(Part::Curve) {
        curve::run(&mut scene, args.changes).context("curve")?;
    }
    Ok(())
}

/// Where it all happens.
#[derive(Debug)]
pub struct Scene {
    dir: TempDir,
    json: bool,
}

/// Bytes of a pool, by what they are for.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// As long as the files are.
    segments: u64,
    /// As much as the disk gives to it.
    index: u64,
}

impl Scene {
    fn new(args: &Scale) -> anyhow::Result<Self> {
        let inside = args.dir.as_deref().unwrap_or(Path::new("/var/tmp"));
        let dir = directory(inside)?;
        let needed = [
            (Part::Blocks, args.blocks * ROOM_BLOCK),
            (Part::Points, args.points * ROOM_POINT),
            (Part::Curve, args.changes * ROOM_CHANGE),
        ];
        let needed = needed.iter().filter(|(part, _)| args.only.is_none_or(|only| only == *part));
        let needed = needed.map(|(_, bytes)| *bytes).max().unwrap_or(0) + (256 << 20);
        let stat = rustix::fs::statvfs(dir.path()).context("cannot see how much room there is")?;
        let room = stat.f_bavail * stat.f_frsize;
        match room >= needed {
            true => Ok(Self { dir, json: args.json }),
            false => bail!(
                "{} has room for {}, {} are needed: name another place with --dir, or smaller numbers",
                inside.display(),
                binary(room),
                binary(needed)
            ),
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A daemon whose new volumes get no secondary.
    fn daemon(&self) -> anyhow::Result<Daemon> {
        Daemon::start_with(self.path(), "pool", &["--secondary", "none"])
    }

    /// A daemon whose new volumes get one.
    fn native_daemon(&self) -> anyhow::Result<Daemon> {
        Daemon::start(self.path(), "pool")
    }

    /// `understudyd`, beside the pool.
    fn understudyd(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(ours("understudyd")?);
        command.current_dir(self.path());
        Ok(command)
    }

    fn size(&self) -> anyhow::Result<Size> {
        let pool = self.path().join("pool");
        let segments = total(&pool.join("segments"), &|meta| meta.len())?;
        let index = total(&pool.join("index"), &|meta| std::os::unix::fs::MetadataExt::blocks(meta) * 512)?;
        Ok(Size { segments, index })
    }

    /// Removes the pool and the initiator's state.
    fn clear(&self) -> anyhow::Result<()> {
        for name in ["pool", "state"].map(|name| self.path().join(name)).iter().filter(|path| path.exists()) {
            fs::remove_dir_all(name).with_context(|| format!("cannot remove {}", name.display()))?;
        }
        Ok(())
    }
}

/// The sum over all files under a directory that may not exist yet.
fn total(dir: &Path, of: &impl Fn(&fs::Metadata) -> u64) -> anyhow::Result<u64> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(0) };
    let mut sum = 0;
    for entry in entries {
        let entry = entry?;
        // The index of a running daemon removes files while they are counted.
        let Ok(meta) = entry.metadata() else { continue };
        sum += if meta.is_dir() { total(&entry.path(), of)? } else { of(&meta) };
    }
    Ok(sum)
}

fn directory(inside: &Path) -> anyhow::Result<TempDir> {
    let dir = tempfile::Builder::new().prefix("understudy-scale-").tempdir_in(inside);
    dir.with_context(|| format!("cannot make a directory in {}", inside.display()))
}

/// Where the sparse volume is.
struct Place {
    dir: PathBuf,
    /// Whether the pool's filesystem holds a file of that size as well.
    native: bool,
    /// Removed at the end, unless it is that of the scene.
    _own: Option<TempDir>,
}

impl Place {
    fn find(args: &Scale, scene: &Scene) -> anyhow::Result<Self> {
        let native = holds(scene.path(), args.sparse);
        if native && args.sparse_dir.is_none() {
            return Ok(Self { dir: scene.path().to_owned(), native, _own: None });
        }
        let own = directory(args.sparse_dir.as_deref().unwrap_or(Path::new("/dev/shm")))?;
        match holds(own.path(), args.sparse) {
            true => Ok(Self { dir: own.path().to_owned(), native, _own: Some(own) }),
            false => bail!(
                "{} holds no file of {}: name a directory on XFS, btrfs or tmpfs with --sparse-dir",
                own.path().display(),
                binary(args.sparse)
            ),
        }
    }
}

/// Whether a file can be so long.
fn holds(dir: &Path, size: u64) -> bool {
    let path = dir.join("probe");
    let held = File::create(&path).and_then(|file| file.set_len(size)).is_ok();
    // What cannot be removed goes with its directory.
    let _ = fs::remove_file(&path);
    held
}

/// Bytes that cannot be compressed; others for each version.
fn noise(version: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(b"understudy scale").update(&version.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}
