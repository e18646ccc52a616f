//! Reads a whole stream from bytes: frames, then the rules of [`Checker`], then a sink.
//!
//! Shared with the fuzz targets. Invariant: a stream is taken only from its first byte to its last;
//! bytes before the begin record, after the commit record or missing in between are errors.

use crate::decoders::{reseal, split_frame};
use understudy_format::chunk::Chunk;
use understudy_format::error::{FormatError, Result};
use understudy_format::layout::{Field, Reader};
use understudy_format::stream::{Begin, Checker, Commit};
use understudy_format::wire::Message;

/// Where the records of a stream go once they were found to be in order.
pub trait Sink {
    /// The stream begins.
    fn begin(&mut self, begin: &Begin) -> Result<()>;
    /// The next chunk.
    fn chunk(&mut self, chunk: &Chunk) -> Result<()>;
    /// The stream ends.
    fn commit(&mut self, commit: &Commit) -> Result<()>;
}

/// A sink that keeps nothing.
pub struct Nowhere;

impl Sink for Nowhere {
    fn begin(&mut self, _: &Begin) -> Result<()> {
        Ok(())
    }
    fn chunk(&mut self, _: &Chunk) -> Result<()> {
        Ok(())
    }
    fn commit(&mut self, _: &Commit) -> Result<()> {
        Ok(())
    }
}

/// Reads a stream to its end.
pub fn read_stream(mut bytes: &[u8], sink: &mut impl Sink) -> Result<Commit> {
    let mut checker: Option<Checker> = None;
    loop {
        let (header, body, rest) = split_frame(bytes)?;
        bytes = rest;
        match (Message::decode(&header, &body)?, &mut checker) {
            (None, _) => {}
            (Some(Message::Begin(begin)), None) => {
                checker = Some(Checker::new(begin));
                sink.begin(&begin)?;
            }
            (Some(Message::Chunk(chunk)), Some(checker)) => {
                checker.chunk(&chunk.head)?;
                sink.chunk(&chunk)?;
            }
            (Some(Message::Commit(commit)), Some(checker)) => {
                checker.commit(&commit)?;
                sink.commit(&commit)?;
                Reader::new("stream", rest).finish()?;
                return Ok(commit);
            }
            (Some(other), _) => {
                return Err(FormatError::invalid("stream", format!("{} is out of place", other.name())));
            }
        }
    }
}

/// Makes all checksums of a stream right again after a change, frame by frame.
pub fn reseal_stream(mut bytes: &mut [u8]) {
    while bytes.len() >= 16 {
        let length = (u32::get(&bytes[8..12]) as usize).min(bytes.len() - 16);
        let (frame, rest) = bytes.split_at_mut(16 + length);
        reseal("message", frame);
        bytes = rest;
    }
}
