//! Volumes to replicate: raw ones with known content, and real filesystems with real files in them.
//!
//! Filesystems are changed through kernel mounts only, because that is what changes them in life: the allocator, the
//! journal and the superblocks decide which blocks move.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::args;
use crate::mount::Mount;
use crate::rng::Rng;
use crate::run::{Run, tool};

/// One mebibyte.
pub const MIB: u64 = 1 << 20;

/// A file that is one hole.
pub fn hole(path: &Path, size: u64) {
    File::create(path).and_then(|file| file.set_len(size)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// A file of incompressible bytes.
pub fn random(path: &Path, size: u64, rng: &mut Rng) {
    hole(path, size);
    scribble(path, 0, size, rng);
}

/// A file a third of which is incompressible, a third text, a third hole, in runs of 256 KiB.
pub fn mixed(path: &Path, size: u64, rng: &mut Rng) {
    const RUN: u64 = 256 << 10;
    hole(path, size);
    for (index, at) in (0..size).step_by(usize::try_from(RUN).expect("a small run")).enumerate() {
        let length = RUN.min(size - at);
        match index % 3 {
            0 => scribble(path, at, length, rng),
            1 => patch(path, at, &prose(usize::try_from(length).expect("a small run"), rng)),
            _ => {}
        }
    }
}

/// Compressible bytes that still differ from one call to the next.
fn prose(length: usize, rng: &mut Rng) -> Vec<u8> {
    let mut text = Vec::with_capacity(length + 64);
    while text.len() < length {
        text.extend_from_slice(format!("line {} of a play that nobody wrote\n", rng.below(1000)).as_bytes());
    }
    text.truncate(length);
    text
}

/// Overwrites a range with incompressible bytes.
pub fn scribble(path: &Path, at: u64, length: u64, rng: &mut Rng) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    file.seek(SeekFrom::Start(at)).expect("a seek");
    let mut piece = vec![0; usize::try_from(MIB).expect("a mebibyte")];
    let mut left = length;
    while left > 0 {
        let now = usize::try_from(left.min(MIB)).expect("at most a mebibyte");
        rng.fill(&mut piece[..now]);
        file.write_all(&piece[..now]).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        left -= now as u64;
    }
}

/// Overwrites a range with these bytes.
pub fn patch(path: &Path, at: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    file.write_all_at(bytes, at).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// Changes the length of a file.
pub fn resize(path: &Path, size: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    file.set_len(size).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// Keeps a copy of a volume as it is now.
pub fn keep(source: &Path, copy: &Path) -> PathBuf {
    tool("cp", args!["--sparse=always", source, copy]);
    copy.to_path_buf()
}

/// A filesystem that the kernel mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filesystem {
    /// The one of most Linux machines.
    Ext4,
    /// Writes its log in place, again and again.
    Xfs,
    /// Never overwrites: every change moves blocks and superblocks.
    Btrfs,
}

impl Filesystem {
    /// A size that its `mkfs` accepts and that is quick to read.
    pub fn size(self) -> u64 {
        match self {
            Filesystem::Ext4 => 64 * MIB,
            Filesystem::Xfs => 320 * MIB,
            Filesystem::Btrfs => 128 * MIB,
        }
    }

    /// Makes the filesystem in a sparse file and puts a tree of files into it.
    pub fn make(self, image: &Path, work: &Path, rng: &mut Rng) {
        hole(image, self.size());
        let staging = work.join(format!("{self:?} files"));
        tree(&staging, rng);
        match self {
            Filesystem::Ext4 => {
                tool("mke2fs", args!["-q", "-F", "-t", "ext4", "-d", &staging, image]);
            }
            Filesystem::Xfs => {
                tool("mkfs.xfs", args!["-q", "-f", image]);
                let mount = self.mount(image, &work.join("mkfs mount"));
                tool("cp", args!["-a", staging.join("."), mount.path()]);
                mount.unmount();
            }
            Filesystem::Btrfs => {
                tool("mkfs.btrfs", args!["-q", "-f", "--rootdir", &staging, image]);
            }
        }
        fs::remove_dir_all(&staging).expect("the staging tree can be removed");
    }

    /// Mounts it to change it.
    pub fn mount(self, image: &Path, dir: &Path) -> Mount {
        self.forget_twins();
        Mount::new(image, dir, self.writable())
    }

    /// Mounts it to read it, from something that need not be writable.
    pub fn mount_to_read(self, image: &Path, dir: &Path) -> Mount {
        self.forget_twins();
        Mount::new(image, dir, self.readable())
    }

    /// The kernel remembers btrfs volumes by UUID and refuses an older copy of one it has seen.
    fn forget_twins(self) {
        if self == Filesystem::Btrfs {
            Run::peer("btrfs").args(args!["device", "scan", "--forget"]).run();
        }
    }

    fn writable(self) -> &'static str {
        match self {
            Filesystem::Xfs => "loop,nouuid",
            _ => "loop",
        }
    }

    fn readable(self) -> &'static str {
        match self {
            Filesystem::Ext4 => "loop,ro,noload",
            Filesystem::Xfs => "loop,ro,norecovery,nouuid",
            Filesystem::Btrfs => "loop,ro",
        }
    }

    /// Its own checker finds nothing wrong, and changes nothing.
    #[track_caller]
    pub fn check(self, image: &Path) {
        let run = match self {
            Filesystem::Ext4 => Run::peer("e2fsck").args(args!["-f", "-n", image]),
            Filesystem::Xfs => Run::peer("xfs_repair").args(args!["-n", image]),
            Filesystem::Btrfs => Run::peer("btrfs").args(args!["check", "--readonly", image]),
        };
        run.run().expect_code(0);
    }
}

/// The file that [`tree`] makes and [`change`] never deletes: tests read it back.
pub const WITNESS: &str = "acts/witness.bin";

/// A tree of files: random, text, sparse, small, large, nested.
fn tree(root: &Path, rng: &mut Rng) {
    for act in 0..3 {
        let dir = root.join("acts").join(format!("act {act}"));
        fs::create_dir_all(&dir).expect("a directory");
        for scene in 0..8 {
            let length = usize::try_from(rng.below(120_000)).expect("a small file") + 1;
            fs::write(dir.join(format!("scene {scene}.txt")), prose(length, rng)).expect("a file");
        }
    }
    fs::write(root.join(WITNESS), rng.bytes(3_000_000)).expect("the witness");
    fs::write(root.join("script.txt"), prose(400_000, rng)).expect("a file");
    hole(&root.join("sparse.bin"), 4 * MIB);
    patch(&root.join("sparse.bin"), 2 * MIB, b"alone");
}

/// What a day does to a filesystem: files are made, rewritten, appended to, renamed, punched and deleted.
pub fn change(root: &Path, day: u64, rng: &mut Rng) {
    let acts = root.join("acts");
    fs::write(acts.join(format!("day {day}.bin")), rng.bytes(900_000)).expect("a new file");
    patch(&acts.join("witness.bin"), rng.below(2_900_000), &rng.bytes(5_000));
    let mut script = OpenOptions::new().append(true).open(root.join("script.txt")).expect("a file to append to");
    script.write_all(&prose(70_000, rng)).expect("an append");
    fs::rename(acts.join(format!("act 0/scene {day}.txt")), root.join(format!("moved {day}.txt"))).expect("a rename");
    fs::remove_file(acts.join(format!("act 1/scene {day}.txt"))).expect("a deletion");
    fs::create_dir(root.join(format!("dir {day}"))).expect("a directory");
    tool("fallocate", args!["--punch-hole", "--offset", "65536", "--length", "65536", root.join("script.txt")]);
    if day == 2 {
        fs::remove_file(acts.join("day 1.bin")).expect("a deletion");
    }
}

/// The MD5 of a file, by a program that is not ours.
pub fn md5(path: &Path) -> String {
    let outcome = tool("md5sum", args!["--", path]);
    outcome.out().trim_start_matches('\\').chars().take(32).collect()
}
