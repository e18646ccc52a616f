//! What a connection received and nobody took yet.
//!
//! Heads are small and go through a small buffer; content goes past it, straight to where it belongs.

use super::ClientError;
use super::socket::Incoming;
use bytes::{Bytes, BytesMut};
use std::io::{ErrorKind, Read};
use understudy_format::nbd::{Form, ReplyHead};

/// More than any head, and little enough to copy.
const ROOM: usize = 4 << 10;

/// See the module documentation.
pub(super) struct Inbox {
    from: Incoming,
    buffer: Box<[u8; ROOM]>,
    start: usize,
    end: usize,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inbox({} bytes)", self.end - self.start)
    }
}

impl Inbox {
    /// Receives from `from`.
    pub fn new(from: Incoming) -> Self {
        Self { from, buffer: Box::new([0; ROOM]), start: 0, end: 0 }
    }

    /// Receives something more behind `input`, for a handshake.
    pub fn receive(&mut self, input: &mut BytesMut) -> Result<(), ClientError> {
        self.fill()?;
        input.extend_from_slice(&self.buffer[self.start..self.end]);
        (self.start, self.end) = (0, 0);
        Ok(())
    }

    /// Gives back what a handshake did not take.
    pub fn give_back(&mut self, rest: &[u8]) {
        self.buffer[..rest.len()].copy_from_slice(rest);
        (self.start, self.end) = (0, rest.len());
    }

    /// The next reply's head.
    pub fn head(&mut self, form: Form) -> Result<ReplyHead, ClientError> {
        loop {
            if let Some((head, taken)) = ReplyHead::decode(form, &self.buffer[self.start..self.end])? {
                self.start += taken;
                return Ok(head);
            }
            self.fill()?;
        }
    }

    /// The next `length` bytes.
    pub fn bytes(&mut self, length: u32) -> Result<Bytes, ClientError> {
        let mut bytes = vec![0; length as usize];
        self.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }

    /// The next eight bytes as a number.
    pub fn number(&mut self) -> Result<u64, ClientError> {
        let mut bytes = [0; 8];
        self.read_exact(&mut bytes)?;
        Ok(u64::from_be_bytes(bytes))
    }

    /// Fills `into`.
    pub fn read_exact(&mut self, into: &mut [u8]) -> Result<(), ClientError> {
        let here = (self.end - self.start).min(into.len());
        into[..here].copy_from_slice(&self.buffer[self.start..self.start + here]);
        self.start += here;
        Ok(self.from.read_exact(&mut into[here..])?)
    }

    fn fill(&mut self) -> Result<(), ClientError> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        loop {
            match self.from.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Err(ClientError::Closed("")),
                Ok(count) => {
                    self.end += count;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
