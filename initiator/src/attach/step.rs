//! One thing that was done to attach an export, and how it is undone.
//!
//! Invariants: undoing what was never done, or is gone already, succeeds; what is still in use stays and is told with
//! what holds it; nothing is removed that holds files; a device that another client connected is left alone.

use super::{hold, tool};
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use understudy_net::mounts::is_mounted;

/// See the module documentation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "lowercase")]
pub enum Step {
    /// A directory was made.
    Directory {
        /// Which.
        path: PathBuf,
    },
    /// The kernel's NBD client was connected.
    Kernel {
        /// The device.
        device: PathBuf,
        /// The device is this attachment's as long as the kernel says so: it may be anybody's later.
        mark: String,
    },
    /// `nbdfuse` was started.
    Fuse {
        /// Where it is mounted.
        path: PathBuf,
    },
    /// A filesystem was mounted.
    Mount {
        /// Where.
        path: PathBuf,
    },
}

impl Step {
    /// Whether it is still so; a directory alone is nothing.
    pub fn is_there(&self) -> bool {
        match self {
            Self::Directory { .. } => false,
            Self::Kernel { device, mark } => is_held(device, mark),
            Self::Fuse { path } | Self::Mount { path } => is_mounted(path),
        }
    }

    /// Undoes it.
    pub fn undo(&self) -> Result<()> {
        match self {
            Self::Directory { path } => match std::fs::remove_dir(path) {
                // Somebody put something into it: then it is theirs.
                Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
                    bail!("{}: cannot be removed: {e}", path.display())
                }
                _ => Ok(()),
            },
            _ if !self.is_there() => Ok(()),
            Self::Kernel { device, .. } => hold::disconnect(device),
            Self::Fuse { path } => tool::run("fusermount3", ["-u"], [path.as_path()]),
            Self::Mount { path } => tool::run("umount", [], [path.as_path()]).map_err(|error| {
                let path = path.display();
                anyhow::anyhow!("{error}; `fuser -vm {path}` shows who uses it: end that, then detach again")
            }),
        }
    }
}

/// Whether a device of the kernel's NBD client is in use, by whomever.
pub fn is_connected(device: &Path) -> bool {
    about(device, "pid").exists()
}

/// Whether a device of the kernel's NBD client was connected with this mark.
pub fn is_held(device: &Path, mark: &str) -> bool {
    std::fs::read_to_string(about(device, "backend")).is_ok_and(|found| found.trim_end() == mark)
}

/// Where the kernel tells something about a device.
pub fn about(device: &Path, what: &str) -> PathBuf {
    Path::new("/sys/block").join(device.file_name().unwrap_or_default()).join(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_done_is_undone_without_a_word() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("absent");
        let device = PathBuf::from("/dev/nbd-absent");
        let steps = [
            Step::Directory { path: path.clone() },
            Step::Kernel { device, mark: String::new() },
            Step::Fuse { path: path.clone() },
        ];
        for step in steps.into_iter().chain([Step::Mount { path }]) {
            assert!(!step.is_there());
            step.undo().unwrap();
        }
    }

    #[test]
    fn a_directory_with_files_stays() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "somebody's").unwrap();
        Step::Directory { path: dir.path().into() }.undo().unwrap();
        assert!(dir.path().join("file").exists());
    }
}
