//! The tests of the formats as a whole: SPEC.md against the code, golden vectors, round trips, misuse.
//!
//! One binary, one module for each question. Nothing here knows more than the crate's public face.

mod decoders;
mod journals;
mod misuse;
mod properties;
mod reader;
mod resume;
mod samples;
mod samples_agent;
mod samples_bad;
mod samples_journal;
mod sessions;
mod spec;
mod streams;
mod vectors;
