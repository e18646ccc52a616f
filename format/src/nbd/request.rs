//! Requests of the transmission phase (proto.md, "Request message" and "Request types").
//!
//! [`RequestHead`] is the 28 bytes as they are; [`Request`] is what they mean once a session allowed
//! them. Encoding is for clients. Nothing here judges a request: that is the receiver's part.

use bytes::{BufMut, Bytes};

use super::wire::{Cursor, expect_magic};
use super::{CommandFlags, WireError};

const REQUEST_MAGIC: u32 = 0x2560_9513;
/// Bytes of a request before a write's payload.
pub const REQUEST_HEAD_LEN: usize = 28;

pub(super) const READ: u16 = 0;
pub(super) const WRITE: u16 = 1;
pub(super) const DISC: u16 = 2;
pub(super) const FLUSH: u16 = 3;
pub(super) const TRIM: u16 = 4;
pub(super) const CACHE: u16 = 5;
pub(super) const WRITE_ZEROES: u16 = 6;
pub(super) const BLOCK_STATUS: u16 = 7;

/// The fixed part of a request, not yet judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Command flags.
    pub flags: CommandFlags,
    /// Command (`NBD_CMD_*`).
    pub kind: u16,
    /// The client's number for the request, repeated in its reply.
    pub cookie: u64,
    /// Offset in the export, in bytes.
    pub offset: u64,
    /// Length, in bytes.
    pub length: u32,
}

impl RequestHead {
    /// `NBD_CMD_DISC`: the client's last message; it has no reply.
    pub fn disconnect(cookie: u64) -> Self {
        Self { flags: CommandFlags::default(), kind: DISC, cookie, offset: 0, length: 0 }
    }

    /// Writes the head.
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_u32(REQUEST_MAGIC);
        out.put_u16(self.flags.0);
        out.put_u16(self.kind);
        out.put_u64(self.cookie);
        out.put_u64(self.offset);
        out.put_u32(self.length);
    }

    /// Reads a head; fails on a wrong magic only.
    pub fn decode(head: &[u8; REQUEST_HEAD_LEN]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new("request", head);
        expect_magic("request", cursor.u32()?, REQUEST_MAGIC)?;
        Ok(Self {
            flags: CommandFlags(cursor.u16()?),
            kind: cursor.u16()?,
            cookie: cursor.u64()?,
            offset: cursor.u64()?,
            length: cursor.u32()?,
        })
    }
}

/// A range of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Offset, in bytes.
    pub offset: u64,
    /// Length, in bytes; may be zero.
    pub length: u32,
}

/// What a request wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The content of a range.
    Read {
        /// The range.
        span: Span,
        /// In at most one content chunk.
        whole: bool,
    },
    /// Replace the content at an offset.
    Write {
        /// Offset, in bytes.
        offset: u64,
        /// The new content.
        data: Bytes,
        /// Durable before the reply.
        fua: bool,
    },
    /// Make every write that was answered durable.
    Flush,
    /// The content of a range is no longer needed.
    Trim {
        /// The range.
        span: Span,
        /// Durable before the reply.
        fua: bool,
    },
    /// The range will be read soon.
    Cache {
        /// The range.
        span: Span,
    },
    /// Make a range read as zeroes.
    WriteZeroes {
        /// The range.
        span: Span,
        /// Durable before the reply.
        fua: bool,
        /// Keep storage allocated.
        no_hole: bool,
        /// Fail rather than be as slow as a write.
        fast: bool,
    },
    /// The extents of a range in every selected context.
    BlockStatus {
        /// The range; not empty.
        span: Span,
        /// The first extent alone.
        one: bool,
    },
}

/// A request with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The client's number for it, repeated in its reply.
    pub cookie: u64,
    /// What it wants.
    pub command: Command,
}

impl Request {
    /// Writes the request and, for a write, its payload.
    pub fn encode(&self, out: &mut impl BufMut) {
        self.head().encode(out);
        if let Command::Write { data, .. } = &self.command {
            out.put_slice(data);
        }
    }

    /// The fixed part.
    pub fn head(&self) -> RequestHead {
        let (kind, span) = self.command.kind_and_span();
        let (flags, cookie) = (self.command.flags(), self.cookie);
        RequestHead { flags, kind, cookie, offset: span.offset, length: span.length }
    }
}

impl Command {
    fn kind_and_span(&self) -> (u16, Span) {
        match self {
            Self::Read { span, .. } => (READ, *span),
            Self::Write { offset, data, .. } => (WRITE, Span { offset: *offset, length: data.len() as u32 }),
            Self::Flush => (FLUSH, Span { offset: 0, length: 0 }),
            Self::Trim { span, .. } => (TRIM, *span),
            Self::Cache { span } => (CACHE, *span),
            Self::WriteZeroes { span, .. } => (WRITE_ZEROES, *span),
            Self::BlockStatus { span, .. } => (BLOCK_STATUS, *span),
        }
    }

    fn flags(&self) -> CommandFlags {
        let none = CommandFlags::default();
        let when = |set: bool, flag| if set { flag } else { none };
        match *self {
            Self::Read { whole, .. } => when(whole, CommandFlags::DF),
            Self::Write { fua, .. } | Self::Trim { fua, .. } => when(fua, CommandFlags::FUA),
            Self::WriteZeroes { fua, no_hole, fast, .. } => {
                when(fua, CommandFlags::FUA)
                    | when(no_hole, CommandFlags::NO_HOLE)
                    | when(fast, CommandFlags::FAST_ZERO)
            }
            Self::BlockStatus { one, .. } => when(one, CommandFlags::REQ_ONE),
            Self::Flush | Self::Cache { .. } => none,
        }
    }
}
