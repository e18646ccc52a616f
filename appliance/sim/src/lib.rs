//! The pool under a disk that is worse than any real one.
//!
//! [`disk`] is a disk in memory that loses power, fails, fills up, rots and lies on request, each from a
//! seed ([`rng`]), so that every run can be had again. A [`machine`] runs an appliance on it. An [`initiator`] and a
//! [`session`] exchange the messages of a real stream about an [`image`] of a volume; the [`model`] knows which points
//! must be there then, and compares them byte by byte. A [`script`] is a fixed course of events, to be interrupted at
//! each of its operations in turn; a [`world`] is a random one, from a seed. A volume that is written to through a tap, and an
//! appliance that follows it, live in [`tap`].
//!
//! What must not happen here: ambient time or randomness; a look into the pool past its own interface,
//! for a user has no other.

pub mod disk;
pub mod image;
pub mod initiator;
pub mod machine;
pub mod model;
pub mod rng;
pub mod script;
pub mod session;
pub mod stores;
pub mod tap;
pub mod world;
