//! `demo`: the whole story on a real ext4 volume, with the commands that a user would type and what they really print.
//!
//! The story: make a volume; serve a pool; replicate; change files; replicate what changed; look; compare; attach both
//! points over NBD and read a file out of each; verify with foreign code; check the pool at rest. Invariants: no root is
//! needed; nothing is left behind unless it was asked for; a step that fails ends the story with its reason.

mod attach;
mod stage;

use crate::args::Demo;
use crate::daemon::Daemon;
use crate::process::{need, ours};
use crate::text::bytes;
use anyhow::{Context, bail, ensure};
use attach::Attached;
use stage::Stage;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Bytes of the volume.
const VOLUME: &str = "96M";
/// Bytes of the file that does not change.
const SCORE_BYTES: usize = 24 << 20;
/// A file as it is in the first point.
const FIRST: &str = "Act one. The understudy sits in the wings and knows every line.\n";
/// The same file as it is in the second.
const SECOND: &str = "Act two. The understudy has stepped in, and nobody has noticed.\n";

/// Plays the story.
pub fn run(args: &Demo) -> anyhow::Result<()> {
    ["understudy", "understudyd"].iter().try_for_each(|name| ours(name).map(|_| ()))?;
    need(&["mke2fs", "debugfs", "e2fsck", "cmp", "nbdcopy"])?;
    let scene = Scene::new(args)?;
    let mut stage = Stage::new(scene.path());
    let played = play(&mut stage, scene.path()).with_context(|| format!("step {}", stage.title()));
    let kept = args.keep.then(|| scene.keep());
    if let (Some(path), Err(_)) = (&kept, &played) {
        stage.say(&format!("\nWhat there is so far is kept in {}.", path.display()));
    }
    played?;
    stage.say("\nThat is all: a volume, its identical secondary, and its history, all of it checked.");
    match kept {
        Some(path) => stage.say(&format!("Everything is kept in {}.", path.display())),
        None => stage.say("Nothing is left behind; with --keep you can look around in it."),
    }
    Ok(())
}

/// Where the story plays; removed at the end unless it is kept.
struct Scene(TempDir);

impl Scene {
    fn new(args: &Demo) -> anyhow::Result<Self> {
        let dir = match &args.dir {
            None => tempfile::Builder::new().prefix("understudy-demo-").tempdir(),
            Some(dir) if dir.exists() => bail!("{} exists already; name a directory that does not", dir.display()),
            Some(dir) => named(dir),
        };
        Ok(Self(dir.context("cannot make a directory to work in")?))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn keep(self) -> PathBuf {
        self.0.keep()
    }
}

/// A directory of exactly this name.
fn named(dir: &Path) -> std::io::Result<TempDir> {
    let dir = std::path::absolute(dir)?;
    let name = dir.file_name().ok_or(std::io::ErrorKind::InvalidInput)?;
    let parent = dir.parent().ok_or(std::io::ErrorKind::InvalidInput)?;
    tempfile::Builder::new().prefix(name).rand_bytes(0).tempdir_in(parent)
}

fn play(stage: &mut Stage, dir: &Path) -> anyhow::Result<()> {
    volume(stage, dir)?;
    let daemon = serve(stage, dir)?;
    stage.step("Replicate it", "The first time all that is no hole is read, and all that is not zero travels.");
    stage.run("understudy", &["replicate", "disk.raw", "--volume", "disk", "--label", "act-one"])?;
    change(stage, dir)?;
    stage.step("Replicate it again", "The blocks that changed travel, and no others; both versions stay readable.");
    stage.run("understudy", &["replicate", "disk.raw", "--volume", "disk", "--label", "act-two"])?;
    look(stage, &daemon)?;
    attach(stage, dir, &daemon)?;
    stage.step(
        "Prove it",
        "The initiator reads the source and compares roots; then a foreign NBD client reads the point back.",
    );
    stage.run("understudy", &["verify", "disk.raw", "disk"])?;
    stage.run("understudy", &["verify", "disk@act-one", "--over-nbd"])?;
    stage.step("Stop the appliance, check the pool", "Every checksum, digest, map and secondary, without the daemon.");
    stage.command("kill %understudyd");
    daemon.stop()?;
    stage.run("understudy-tools", &["pool", "check", "pool"])?;
    Ok(())
}

fn volume(stage: &mut Stage, dir: &Path) -> anyhow::Result<()> {
    stage.step("Make a volume", "An ext4 filesystem with two files in it (a line of text, 25 MB of noise), as a raw image; a device is as good.");
    let letters = dir.join("files/letters");
    fs::create_dir_all(&letters).context("cannot make the files")?;
    fs::write(letters.join("play.txt"), FIRST)?;
    let mut score = vec![0; SCORE_BYTES];
    blake3::Hasher::new().update(b"understudy demo").finalize_xof().fill(&mut score);
    fs::write(dir.join("files/score.bin"), score)?;
    stage.run("mke2fs", &["-q", "-t", "ext4", "-d", "files", "disk.raw", VOLUME])?;
    stage.run("debugfs", &["-R", "cat /letters/play.txt", "disk.raw"])?;
    Ok(())
}

fn serve(stage: &mut Stage, dir: &Path) -> anyhow::Result<Daemon> {
    stage.step("Start the appliance", "One daemon, one directory as its pool; port 0 takes free ports.");
    let daemon = Daemon::start(dir, "pool")?;
    stage.command(&format!("{} &", daemon.command));
    daemon.said.iter().for_each(|line| stage.output(line));
    stage.set("UNDERSTUDY_APPLIANCE", &daemon.address);
    stage.set("UNDERSTUDY_STATE_DIR", "state");
    Ok(daemon)
}

fn change(stage: &mut Stage, dir: &Path) -> anyhow::Result<()> {
    stage.step(
        "Change files in the volume",
        "One is replaced and one is added. (debugfs writes where a mount needs root.)",
    );
    fs::write(dir.join("play.txt"), SECOND)?;
    fs::write(dir.join("encore.txt"), "Encore!\n")?;
    for change in ["rm /letters/play.txt", "write play.txt /letters/play.txt", "write encore.txt /letters/encore.txt"] {
        stage.run_quietly("debugfs", &["-w", "-R", change, "disk.raw"])?;
    }
    Ok(())
}

fn look(stage: &mut Stage, daemon: &Daemon) -> anyhow::Result<()> {
    stage
        .step("Look at what the appliance has", "Two restore points, and a secondary: the newest one as a plain file.");
    daemon.settle("disk")?;
    stage.run("understudy", &["volumes"])?;
    stage.run("understudy", &["points", "disk"])?;
    stage.run("cmp", &["disk.raw", "pool/volumes/disk/secondary.raw"])?;
    let size = fs::metadata(stage.dir().join("disk.raw"))?.len();
    stage.output(&format!("(no output: all {} are the same, byte for byte)", bytes(size)));
    Ok(())
}

fn attach(stage: &mut Stage, dir: &Path, daemon: &Daemon) -> anyhow::Result<()> {
    let why = "Each point is a disk: checked with e2fsck, and a file read out of it, as it was then and as it is now.";
    stage.step("Attach both points over NBD", why);
    for (label, expected) in [("act-one", FIRST), ("act-two", SECOND)] {
        let attached = Attached::new(stage, dir, label, &format!("nbd://{}/disk@{label}", daemon.nbd))?;
        stage.run("e2fsck", &["-f", "-n", &attached.name])?;
        let read = stage.run("debugfs", &["-R", "cat /letters/play.txt", &attached.name])?;
        ensure!(read.contains(expected.trim()), "the file in {label} is not what it was");
        attached.detach(stage)?;
    }
    Ok(())
}
