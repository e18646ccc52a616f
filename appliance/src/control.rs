//! Having upkeep done by the daemon that has the pool open: its [`crate::api`] on a socket in the pool's directory.
//!
//! Invariants: who can open the socket can write to the pool's directory anyway (mode 0600); a client that leaves stops what it asked
//! for; without a daemon the command does the same by itself. The socket is reached through the directory's file descriptor, because the
//! paths of sockets may have 107 bytes only.

pub mod client;
pub mod server;

use crate::error::{Result, at};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// The name of the socket in the pool's directory.
const SOCKET: &str = "control";

/// A short way to the socket, good while the directory is open.
#[derive(Debug)]
struct Address {
    /// Held: the path goes through it.
    _dir: File,
    path: PathBuf,
}

impl Address {
    fn of(pool: &Path) -> Result<Self> {
        let dir = File::open(pool).map_err(at(pool))?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()));
        Ok(Self { _dir: dir, path })
    }
}
