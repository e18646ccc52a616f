//! The NBD protocol as typed values: handshake, requests and replies, for both ends.
//!
//! Bytes go in, typed values come out, and back. Nothing here owns a socket, a task, a clock or a
//! buffer pool: [`Handshake`] and [`Receiver`] are plain structs that a driver feeds, and
//! [`Replies`] writes heads into memory that the driver already holds, so that the content of a
//! read is never copied to be framed. The normative text is `doc/proto.md` of
//! `NetworkBlockDevice/nbd`; comments name its sections.
//!
//! The order of a served connection:
//!
//! 1. [`Handshake::greeting`] is sent, then [`Handshake::advance`] consumes options and asks the
//!    driver to list or to open exports, until an option enters the transmission phase.
//! 2. The resulting [`Session`] says what was negotiated. A [`Receiver`] turns bytes into
//!    [`Request`]s that are already valid against it, or into refusals that only need sending.
//! 3. [`Replies`] frames the answers; it is `Copy`, so that any thread may answer.
//!
//! The order at a client: a [`ClientHandshake`] asks for what is of use and ends with a [`Session`], too; requests are encoded
//! for its [`Form`]; an [`ExpectRead`] or [`ExpectStatus`] takes the parts of each reply.
//!
//! Invariants: every length from the wire is checked against a named maximum before it is used or
//! allocated; every offset plus length is checked arithmetic; left-over bytes are an error.
//! This module must not know what an export is made of, nor which metadata contexts exist:
//! contexts are names that belong to the export.

mod client;
mod error;
mod expect;
mod extent;
mod flags;
mod form;
mod greeting;
mod handshake;
mod judge;
mod meta_context;
mod option;
mod option_reply;
mod receive;
mod reply;
mod reply_decode;
mod request;
mod session;
#[cfg(test)]
mod tests;
mod wire;

pub use client::{ClientHandshake, ClientStep, HandshakeError, Wish};
pub use error::{Errno, Failure, WireError};
pub use expect::{ExpectRead, ExpectStatus};
pub use extent::{EXTENTS_MAX, Extent, Runs, STATE_HOLE, STATE_ZERO, fit};
pub use flags::{ClientFlags, CommandFlags, HandshakeFlags, TransmissionFlags};
pub use form::Form;
pub use greeting::Greeting;
pub use handshake::{ExportName, Handshake, Purpose, Step, TlsPolicy};
pub use meta_context::{BASE_ALLOCATION, MetaContext};
pub use option::{InfoRequest, MetaQuery, OPTION_HEAD_LEN, OptionHead, OptionRequest};
pub use option_reply::{Info, OPTION_REPLY_HEAD_LEN, OptionError, OptionReply, OptionReplyHead, Refusal};
pub use receive::{Incoming, Receiver};
pub use reply::{ContextExtents, Replies};
pub use reply_decode::{Chunk, ReplyHead};
pub use request::{Command, Request, RequestHead, Span, Tag};
pub use session::{Advert, BlockSizes, Geometry, Session};

/// Longest option data accepted from a client, in bytes. Every real option is far below it.
pub const OPTION_LEN_MAX: u32 = 64 << 10;
/// Longest name, description, query or error text, in bytes (proto.md, "Values": strings).
pub const TEXT_LEN_MAX: usize = 4096;
/// Most metadata contexts that one client selects; each costs memory with every block status.
pub const CONTEXTS_MAX: usize = 64;
/// Longest payload of one read or write, in bytes; also the largest maximum block size advertised.
pub const REQUEST_LEN_MAX: u32 = 32 << 20;
/// Longest payload of a refused request that is read and thrown away, in bytes; beyond it the
/// connection is closed, since skipping is the only way to find the next request.
pub const DRAIN_LEN_MAX: u32 = 2 * REQUEST_LEN_MAX;
/// Longest payload of a reply chunk accepted from a server, in bytes: a whole request and its fields.
pub const CHUNK_LEN_MAX: u32 = REQUEST_LEN_MAX + OPTION_LEN_MAX;
/// Largest export size, in bytes: offsets must also fit a signed 64-bit integer at every peer.
pub const EXPORT_SIZE_MAX: u64 = i64::MAX as u64;
