//! The only shared code that touches sockets: messages of a session, frames of a file, NBD.
//!
//! What is said is decided by the sans-I/O halves in `understudy_format`; this crate moves bytes
//! ([`framed`] over connections, [`blocking`] over files and pipes, [`cached`] where no disk is waited for, [`nbd_server`] around the [`export`]s
//! that somebody gives it, with [`claims`] for those that are written to, [`nbd_client`] for those of others, both under [`tls`] where certificates are, [`http`] for asking the
//! appliance), and tells which
//! [`mounts`] use a device, which both ends must know before they write to one.
//! It knows no pool, no source and no clock but the one that limits how long a peer may be silent.

pub mod aligned;
pub mod blocking;
pub mod cached;
pub mod claims;
pub mod error;
pub mod export;
pub mod framed;
pub mod http;
mod limit;
pub mod mounts;
pub mod nbd_client;
pub mod nbd_server;
pub mod tls;

pub use error::NetError;
