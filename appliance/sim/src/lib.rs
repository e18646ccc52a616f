//! The pool under a disk that is worse than any real one.
//!
//! [`disk`] is a disk in memory that loses power, fails, fills up, rots and lies on request, each from a
//! seed ([`rng`]), so that every run can be had again.
//!
//! What must not happen here: ambient time or randomness; a look into the pool past its own interface,
//! for a user has no other.

pub mod disk;
pub mod rng;
