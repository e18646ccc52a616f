//! Disks of a running QEMU or qemu-storage-daemon: the image of one moment, and what changed since the last one.
//!
//! For each stream a bitmap is made that is named after it ([`bitmap`]) and records what is written from the stream's moment on. In one
//! transaction with that, what the bitmap of the newest point recorded is copied, and a backup job begins that keeps what
//! the guest overwrites in a *fleece*, a temporary qcow2 file on top of the disk ([`fleece`]): read through that, the
//! disk is what it was at this moment. The fleece is exported over NBD with the copied bitmap. Invariants: the bitmap of
//! the newest point goes on recording until the new point is stored, so an interrupted run, killed at any time, costs nothing but the
//! work; bitmaps of one's own name alone are touched; a bitmap that is of any other moment than the newest point's is never read.

mod bitmap;
mod fleece;
mod name;
mod node;
pub mod qmp;

pub use fleece::Fleece;
pub use name::{QemuName, SCHEME};
pub use node::Node;

use anyhow::{Context, Result};
use qmp::Qmp;

/// Connects to the monitor of `name`, for a few commands.
fn connect(name: &QemuName) -> Result<Qmp> {
    Qmp::connect(&name.monitor).with_context(|| format!("source {name}: {}", name.monitor.display()))
}

/// The size of the disk, bytes.
pub fn size(name: &QemuName) -> Result<u64> {
    let mut qmp = connect(name)?;
    Ok(Node::find(&mut qmp, name)?.size)
}
