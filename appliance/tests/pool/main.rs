//! The pool through its own interface: every promise has a test that fails when the promise is broken.
//!
//! Streams are made by the sans-I/O sender over volumes in memory; the model to compare with is
//! the plain bytes of each point.

mod client;
mod collect;
mod commit;
mod crash;
mod damage;
mod device;
mod failover;
mod fold;
mod full;
mod group;
mod journals;
mod model;
mod moments;
mod overlay;
mod remove;
mod resume;
mod scrub;
mod secondary;
