//! Having upkeep done by the daemon that has the pool open: a socket in the pool's directory.
//!
//! The request is one line, a JSON list of the command's arguments, read by the same parser as the command line; the answer is
//! lines of JSON: what happened, then how it ended. Invariants: who can open the socket can write to the pool's
//! directory anyway (mode 0600); a client that leaves stops what it asked for. The socket is reached through the directory's file
//! descriptor, because the paths of sockets may have 107 bytes only.

pub mod client;
pub mod server;

use crate::error::{Result, at};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// The name of the socket in the pool's directory.
const SOCKET: &str = "control";
/// Most bytes of a request.
const REQUEST_MAX: u64 = 64 << 10;

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
