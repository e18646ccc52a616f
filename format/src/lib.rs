//! Every byte layout of Understudy, and the rules of its streams and sessions: no I/O, no async, no clock.
//!
//! The way of the data: a volume is an array of blocks ([`geometry`]), each block has a [`Digest`];
//! neighbouring blocks travel in a [`chunk`] whose mapping says what each of them is; chunks between a
//! begin and a commit record are a [`stream`], in [`frame`]s, the same bytes in a file and over a
//! connection, where the messages of [`wire`] go around them and the two ends of [`session`] decide
//! what is said next. The appliance appends blocks ([`codec`]) and pages of the [`map`] to [`segment`]s, and commits
//! a [`point`]; people name it by [`select`], and what becomes of it stands in the [`catalogue`]; points of several volumes may be committed
//! as a [`group`]. What is written to a primary is a [`journal`], and what a [`tap`] knows of that. What the initiator remembers is a [`mapfile`], and the
//! [`bitmap`] that says which blocks of a source it need not read; what is written over a point that is attached is an [`overlay`]. Who
//! may do what with all that is [`access`]; what an appliance has done on other hosts is the work of an [`agent`].
//!
//! SPEC.md beside this crate is normative; tests hold its tables and vectors against this code.

pub mod access;
pub mod agent;
pub mod bitmap;
pub mod bucket;
pub mod catalogue;
pub mod chunk;
pub mod codec;
pub mod digest;
pub mod error;
pub mod follow;
pub mod frame;
pub mod geometry;
pub mod group;
pub mod history;
pub mod journal;
pub mod layout;
pub mod map;
pub mod mapfile;
pub mod nbd;
pub mod overlay;
pub mod parts;
pub mod point;
pub mod pool;
pub mod secondary;
pub mod segment;
pub mod select;
pub mod session;
pub mod stream;
pub mod tap;
pub mod text;
pub mod wire;

pub use digest::Digest;
pub use error::{ErrorKind, FormatError};
pub use geometry::{BlockId, BlockSize, Geometry};
