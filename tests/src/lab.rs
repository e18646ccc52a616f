//! A temporary directory in which one test does everything, removed at its end.
//!
//! Its name has a space in it, on purpose: paths with spaces work everywhere, or the tests notice.

use std::fs;
use std::path::{Path, PathBuf};

/// A test's own directory.
pub struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    /// A fresh, empty directory.
    #[expect(clippy::new_without_default, reason = "a directory on disk is not a default value")]
    pub fn new() -> Lab {
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

/// Whether kernel mounts are possible. In CI (`CI` is set) the lack of them is a failure, never a silent skip.
pub fn have_root(what: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "CI runs as root, and {what} needs it");
    eprintln!("SKIPPED: {what} needs root");
    false
}
