//! Offline and developer tools: what looks at streams and pools from outside, shows the system, and measures it.
//!
//! [`stream`] dumps an offline stream and holds it against the rules; [`pool`] reads a pool at rest and proves
//! what can be proved of it; [`demo`] plays the whole story for a stranger; [`bench`] races against other
//! programs; [`scale`] measures what is large. The last three work on the two programs' command lines, and over sockets
//! ([`daemon`], [`process`]).
//!
//! What must not happen here: nothing of the appliance or the initiator is used, so that the checker is a second
//! reading of the format and not a mirror of the first; a checking tool opens nothing for writing.

pub mod args;
pub mod bench;
pub mod clock;
pub mod daemon;
pub mod demo;
pub mod outcome;
pub mod pool;
pub mod process;
pub mod scale;
pub mod stream;
pub mod text;
