//! Kernel mounts, loop devices and `nbdfuse`, undone when their value goes.
//!
//! Invariants: an unmounted image is complete on disk (unmounting syncs it); nothing stays mounted after a failed test.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::args;
use crate::run::{Run, tool};
use crate::wait::wait_until;

/// A filesystem mounted through a loop device, or from a block device.
pub struct Mount {
    dir: PathBuf,
}

impl Mount {
    /// Mounts an image file or a block device at `dir`, which is created. `options` is as for `mount -o`.
    pub fn new(image: &Path, dir: &Path, options: &str) -> Mount {
        std::fs::create_dir_all(dir).expect("a mount point");
        tool("mount", args!["-o", options, image, dir]);
        Mount { dir: dir.to_path_buf() }
    }

    /// Mounts a filesystem in memory that holds this many bytes.
    pub fn tmpfs(dir: &Path, size: u64) -> Mount {
        std::fs::create_dir_all(dir).expect("a mount point");
        tool("mount", args!["-t", "tmpfs", "-o", format!("size={size}"), "tmpfs", dir]);
        Mount { dir: dir.to_path_buf() }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Unmounts; everything written is in the image afterwards.
    pub fn unmount(self) {
        drop(self);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // A process that another test is just starting holds what is open here until it runs its own program.
            let unmounted = || if quietly("umount", &self.dir) { Ok(()) } else { Err("it is busy".to_string()) };
            wait_until(&format!("{} is unmounted", self.dir.display()), unmounted);
        } else if !quietly("umount", &self.dir) {
            let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
        }
    }
}

/// A loop device over a file.
pub struct Loop {
    device: PathBuf,
}

impl Loop {
    /// Attaches the file to a free loop device.
    pub fn new(file: &Path) -> Loop {
        let outcome = tool("losetup", args!["--find", "--show", file]);
        Loop { device: PathBuf::from(outcome.out().trim()) }
    }

    /// The device.
    pub fn path(&self) -> &Path {
        &self.device
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        quietly_with("losetup", "-d", &self.device);
    }
}

/// An NBD export as a file, through libnbd's FUSE client.
pub struct NbdFuse {
    dir: PathBuf,
    child: Child,
}

impl NbdFuse {
    /// Attaches the export read-only; [`NbdFuse::disk`] is the file.
    pub fn new(uri: &str, dir: &Path) -> NbdFuse {
        NbdFuse::start(args!["-r", dir.join("disk"), uri], dir)
    }

    /// The same, to be written to.
    pub fn writable(uri: &str, dir: &Path) -> NbdFuse {
        NbdFuse::start(args![dir.join("disk"), uri], dir)
    }

    fn start(arguments: Vec<OsString>, dir: &Path) -> NbdFuse {
        std::fs::create_dir_all(dir).expect("a mount point");
        let run = Run::peer("nbdfuse").args(arguments);
        let mut command = run.command();
        let mut child = command.stdout(Stdio::null()).spawn().expect("nbdfuse starts");
        wait_until("nbdfuse shows the export", || {
            let ended = child.try_wait().expect("nbdfuse can be asked");
            assert!(ended.is_none(), "nbdfuse ended ({ended:?}): {}", run.line());
            if dir.join("disk").exists() { Ok(()) } else { Err("no file yet".to_string()) }
        });
        NbdFuse { dir: dir.to_path_buf(), child }
    }

    /// The export as a file.
    pub fn disk(&self) -> PathBuf {
        self.dir.join("disk")
    }
}

impl Drop for NbdFuse {
    fn drop(&mut self) {
        if !quietly_with("fusermount3", "-u", &self.dir) {
            let _ = self.child.kill();
            quietly_with("umount", "-l", &self.dir);
        }
        let _ = self.child.wait();
    }
}

fn quietly(program: &str, path: &Path) -> bool {
    finished(Command::new(program).arg(path))
}

fn quietly_with(program: &str, option: &str, path: &Path) -> bool {
    finished(Command::new(program).arg(option).arg(path))
}

fn finished(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).status().is_ok_and(|status| status.success())
}
