//! Requests of the transmission phase (proto.md, "Request message" and "Request types").
//!
//! [`RequestHead`] is the fields as they are; [`Request`] is what they mean once a session allowed
//! them. Encoding is for clients. Nothing here judges a request: that is the receiver's part.

use bytes::{Buf, BufMut, Bytes};

use super::wire::{Cursor, expect_magic};
use super::{CommandFlags, Form, WireError};

const COMPACT_MAGIC: u32 = 0x2560_9513;
const EXTENDED_MAGIC: u32 = 0x21e4_1c71;

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
    /// Length, in bytes: of the payload where there is one, else of the range.
    pub length: u64,
}

impl RequestHead {
    /// `NBD_CMD_DISC`: the client's last message; it has no reply.
    pub fn disconnect(cookie: u64) -> Self {
        Self { flags: CommandFlags::default(), kind: DISC, cookie, offset: 0, length: 0 }
    }

    /// Writes the head: [`Form::request_head_len`] bytes. The length must be one that the form can carry.
    pub fn encode(&self, form: Form, out: &mut impl BufMut) {
        let extended = form == Form::Extended;
        out.put_u32(if extended { EXTENDED_MAGIC } else { COMPACT_MAGIC });
        out.put_u16(self.flags.0);
        out.put_u16(self.kind);
        out.put_u64(self.cookie);
        out.put_u64(self.offset);
        match extended {
            true => out.put_u64(self.length),
            false => out.put_u32(self.length as u32),
        }
    }

    /// Takes a head from the front of `input`; `None`, and nothing is taken, while it is not whole. Fails on a
    /// wrong magic only.
    pub fn take(form: Form, input: &mut impl Buf) -> Result<Option<Self>, WireError> {
        if input.remaining() < form.request_head_len() {
            return Ok(None);
        }
        let extended = form == Form::Extended;
        expect_magic("request", input.get_u32(), if extended { EXTENDED_MAGIC } else { COMPACT_MAGIC })?;
        Ok(Some(Self {
            flags: CommandFlags(input.get_u16()),
            kind: input.get_u16(),
            cookie: input.get_u64(),
            offset: input.get_u64(),
            length: if extended { input.get_u64() } else { input.get_u32().into() },
        }))
    }

    /// Whether a payload of `length` bytes follows, whatever it is worth: only who takes all of it finds the next request.
    ///
    /// A write always has one. With extended headers it must say so as well, but qemu (10.0) does not.
    pub(super) fn has_payload(&self, form: Form) -> bool {
        self.kind == WRITE || form == Form::Extended && self.flags.contains(CommandFlags::PAYLOAD_LEN)
    }

    /// What the reply repeats.
    pub fn tag(&self) -> Tag {
        Tag { cookie: self.cookie, offset: self.offset }
    }
}

/// What a reply repeats of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The client's number for the request.
    pub cookie: u64,
    /// Its offset, in bytes; only extended heads carry it.
    pub offset: u64,
}

/// A range of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Offset, in bytes.
    pub offset: u64,
    /// Length, in bytes; may be zero. Above 32 bits only with extended headers, and never for content.
    pub length: u64,
}

/// What a request wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The content of a range.
    Read {
        /// The range; at most [`super::REQUEST_LEN_MAX`] long.
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
    /// The extents of a range.
    BlockStatus {
        /// The range; not empty.
        span: Span,
        /// The first extent alone.
        one: bool,
        /// In these of the selected contexts, by number; in all of them without.
        only: Option<Vec<u32>>,
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
    /// Writes the request with its payload. What a form cannot carry must not be asked for: a range above
    /// [`Form::length_max`], a choice of contexts without extended headers.
    pub fn encode(&self, form: Form, out: &mut impl BufMut) {
        let mut head = self.head();
        if let Some(length) = self.command.payload_len() {
            head.length = length;
            if form == Form::Extended {
                head.flags = head.flags | CommandFlags::PAYLOAD_LEN;
            }
        }
        head.encode(form, out);
        match &self.command {
            Command::Write { data, .. } => out.put_slice(data),
            Command::BlockStatus { span, only: Some(contexts), .. } => put_filter(span.length, contexts, out),
            _ => {}
        }
    }

    /// The fixed part, but for what a payload changes of it.
    fn head(&self) -> RequestHead {
        let (kind, span) = self.command.kind_and_span();
        let (flags, cookie) = (self.command.flags(), self.cookie);
        RequestHead { flags, kind, cookie, offset: span.offset, length: span.length }
    }

    /// What the reply repeats.
    pub fn tag(&self) -> Tag {
        self.head().tag()
    }
}

impl Command {
    fn kind_and_span(&self) -> (u16, Span) {
        match self {
            Self::Read { span, .. } => (READ, *span),
            Self::Write { offset, data, .. } => (WRITE, Span { offset: *offset, length: data.len() as u64 }),
            Self::Flush => (FLUSH, Span { offset: 0, length: 0 }),
            Self::Trim { span, .. } => (TRIM, *span),
            Self::Cache { span } => (CACHE, *span),
            Self::WriteZeroes { span, .. } => (WRITE_ZEROES, *span),
            Self::BlockStatus { span, .. } => (BLOCK_STATUS, *span),
        }
    }

    /// The range in which a reply may locate a failure (proto.md, `NBD_REPLY_TYPE_ERROR_OFFSET`); `None` where it has no offset.
    pub(super) fn located(&self) -> Option<Span> {
        let (kind, span) = self.kind_and_span();
        [READ, WRITE, TRIM, BLOCK_STATUS].contains(&kind).then_some(span)
    }

    fn payload_len(&self) -> Option<u64> {
        match self {
            Self::Write { data, .. } => Some(data.len() as u64),
            Self::BlockStatus { only: Some(contexts), .. } => Some(filter_len(contexts.len())),
            _ => None,
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

/// Bytes of the payload of a block status in `count` contexts.
pub(super) const fn filter_len(count: usize) -> u64 {
    8 + 4 * count as u64
}

fn put_filter(length: u64, contexts: &[u32], out: &mut impl BufMut) {
    out.put_u64(length);
    contexts.iter().for_each(|context| out.put_u32(*context));
}

/// Reads the payload of a block status: the length of its range, and the contexts.
pub(super) fn read_filter(payload: &[u8]) -> Result<(u64, Vec<u32>), WireError> {
    let mut cursor = Cursor::new("payload of a block status", payload);
    let (length, mut contexts) = (cursor.u64()?, Vec::new());
    while !cursor.is_empty() {
        contexts.push(cursor.u32()?);
    }
    Ok((length, contexts))
}
