//! The checking tools held against streams and pools that are built, and damaged, byte by byte.

mod build;
mod catalogue;
mod extract;
mod journals;
mod overlays;
mod pool;
mod readonly;
mod rebuild;
mod stream;
