//! A temporary directory in which one test does everything, removed at its end.
//!
//! Its name has a space in it, on purpose: paths with spaces work everywhere, or the tests notice.
//!
//! Invariants: what a test mounts is seen by the test and its processes alone, and goes with them: a mount over a dead server, left
//! by a test that was killed, would fail the tools of filesystems (`mkfs.btrfs` asks every loop device) in all tests after it.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};

/// A test's own directory.
pub struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    /// A fresh, empty directory.
    #[expect(clippy::new_without_default, reason = "a directory on disk is not a default value")]
    pub fn new() -> Lab {
        own_mounts();
        let dir = tempfile::Builder::new().prefix("under study-").tempdir().expect("a temporary directory");
        Lab { dir }
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the directory; nothing is created.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A directory in the directory, created when it is not there.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.file(name);
        fs::create_dir_all(&path).expect("a directory in the lab");
        path
    }

    /// A file with this content.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, content).expect("a file in the lab");
        path
    }
}

/// Gives this thread, and all that it starts from here on, a namespace of mounts of its own: once, since an older one would hold
/// what is unmounted in a newer one.
fn own_mounts() {
    let namespace =
        |task: &str| fs::read_link(format!("/proc/{task}/ns/mnt")).expect("procfs tells the namespaces of a task");
    if rustix::process::geteuid().is_root() && namespace("self") == namespace("thread-self") {
        unshare(CloneFlags::CLONE_NEWNS).expect("root makes a namespace of mounts");
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .expect("root makes its mounts its own");
    }
}

/// Whether kernel mounts are possible. In CI (`CI` is set) the lack of them is a failure, never a silent skip.
pub fn have_root(what: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "CI runs as root, and {what} needs it");
    eprintln!("SKIPPED: {what} needs root");
    false
}
