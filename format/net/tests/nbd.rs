//! The NBD server against real peers (libnbd, qemu) and against raw sockets that misbehave; the client against the server, and
//! against scripted ones.
//!
//! A peer that is not installed fails its test. Nothing here waits for time to pass: tests wait for
//! bytes, for the end of a stream, or for a process.

#[path = "nbd/client.rs"]
mod client;
#[path = "nbd/extended.rs"]
mod extended;
#[path = "nbd/fixture.rs"]
mod fixture;
#[path = "nbd/peers.rs"]
mod peers;
#[path = "nbd/raw.rs"]
mod raw;
#[path = "nbd/reader.rs"]
mod reader;
#[path = "nbd/scripts.rs"]
mod scripts;
