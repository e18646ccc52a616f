//! What the end-to-end tests stand on: the product is driven from outside only, through its command lines, its
//! sockets and its files, next to peers that are not ours (libnbd, qemu, the kernel's filesystems).
//!
//! The way of a test: a [`Lab`] is a temporary directory; [`image`] makes a volume in it; an [`Appliance`] is a running
//! `understudyd` on a pool in the same directory; [`Outcome`] is what a command left behind and knows how to explain
//! itself; [`compare`] decides whether two volumes hold the same bytes.
//!
//! Invariants: nothing here knows a byte layout or links the product; every process started here dies with the value
//! that started it; every command has a time limit, so that a hang is a failure with a name; the only pause is the one
//! between two polls in [`wait`]; randomness comes from [`seed`], which a failing run prints.

mod agent;
mod appliance;
mod bins;
pub mod certificates;
pub mod compare;
pub mod guest;
pub mod image;
mod lab;
mod mount;
mod nbd_server;
mod network;
mod process;
mod proxy;
mod rng;
mod run;
mod running;
mod tap;
pub mod wait;
mod webhook;

pub use agent::Agent;
pub use appliance::{Appliance, pool_check};
pub use bins::{TOOLS, UNDERSTUDY, UNDERSTUDYD, binary};
pub use lab::{Lab, have_root};
pub use mount::{Loop, Mount, NbdFuse};
pub use nbd_server::{NbdServer, Qcow2, Served};
pub use network::{Host, Network};
pub use proxy::Proxy;
pub use rng::{Rng, seed};
pub use run::{Outcome, Run, Summary, count, text, tool};
pub use running::Running;
pub use rustix::process::Signal;
pub use tap::Tap;
pub use webhook::Webhook;

/// Mixes strings and paths into one argument list.
#[macro_export]
macro_rules! args {
    ($($arg:expr),* $(,)?) => { vec![$(std::ffi::OsString::from($arg)),*] };
}
