//! Frames from and to files and pipes, without an async runtime: offline streams.
//!
//! Invariant: an end of the input is clean only between two frames; every error tells the offset
//! in the input at which the frame starts.

use bytes::Bytes;
use std::io::{self, Read, Write};
use thiserror::Error;
use understudy_format::FormatError;
use understudy_format::frame::FrameHeader;
use understudy_format::wire::Message;

/// Why a frame could not be read from a file or pipe.
#[derive(Debug, Error)]
pub enum StreamFileError {
    /// Reading failed.
    #[error("reading the stream at offset {offset}: {source}")]
    Io {
        /// Bytes from the start of the input.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The bytes are not a frame.
    #[error("stream at offset {offset}: {source}")]
    Format {
        /// Bytes from the start of the input.
        offset: u64,
        /// Why.
        source: FormatError,
    },
}

/// Reads frames from a file or pipe.
#[derive(Debug)]
pub struct FrameFile<R> {
    from: R,
    offset: u64,
}

impl<R: Read> FrameFile<R> {
    /// Reads frames from the start of `from`.
    pub fn new(from: R) -> Self {
        Self { from, offset: 0 }
    }

    /// Where the next frame starts, bytes from the start of the input.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next frame; `None` at the end of the input.
    pub fn next_frame(&mut self) -> Result<Option<(FrameHeader, Bytes)>, StreamFileError> {
        let offset = self.offset;
        let mut header = [0; 16];
        let found = self.fill(&mut header)?;
        if found == 0 {
            return Ok(None);
        }
        let format = |source| StreamFileError::Format { offset, source };
        whole("frame header", 16, found).map_err(format)?;
        let header = FrameHeader::decode(&header).map_err(format)?;
        let mut body = Vec::new();
        let source = (&mut self.from).take(header.length.into()).read_to_end(&mut body);
        let found = source.map_err(|source| StreamFileError::Io { offset, source })?;
        whole("frame body", header.length.into(), found).map_err(format)?;
        self.offset = offset + 16 + u64::from(header.length);
        Ok(Some((header, body.into())))
    }

    /// The next message that is known; `None` at the end of the input.
    pub fn next_message(&mut self) -> Result<Option<Message>, StreamFileError> {
        loop {
            let offset = self.offset;
            let Some((header, body)) = self.next_frame()? else { return Ok(None) };
            let message = Message::decode(&header, &body);
            if let Some(message) = message.map_err(|source| StreamFileError::Format { offset, source })? {
                return Ok(Some(message));
            }
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, StreamFileError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.from.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(StreamFileError::Io { offset: self.offset, source }),
            }
        }
        Ok(filled)
    }
}

fn whole(what: &'static str, needed: u64, found: usize) -> Result<(), FormatError> {
    let found = found as u64;
    if found == needed { Ok(()) } else { Err(FormatError::Truncated { what, needed, found }) }
}

/// Writes one message; returns its length in bytes.
pub fn write_message(to: &mut impl Write, message: &Message) -> io::Result<u64> {
    let encoded = message.encode().map_err(io::Error::other)?;
    to.write_all(&encoded.head)?;
    to.write_all(&encoded.payload)?;
    Ok((encoded.head.len() + encoded.payload.len()) as u64)
}
