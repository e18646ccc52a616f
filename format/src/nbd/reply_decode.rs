//! Replies of the transmission phase, as a client reads them.
//!
//! A simple reply to a successful read is followed by as many bytes as were asked for: only the
//! client knows how many, so [`ReplyHead`] stops before them. Invariant: an unknown chunk type
//! with the error bit is a failure of its request; any other unknown type ends the connection.

use bytes::{Buf, Bytes};

use super::reply::{
    BLOCK_STATUS, BLOCK_STATUS_EXT, CHUNK_MAGIC, DONE, ERROR, ERROR_OFFSET, EXTENDED_MAGIC, NONE, OFFSET_DATA,
    OFFSET_HOLE, SIMPLE_MAGIC,
};
use super::wire::Cursor;
use super::{CHUNK_LEN_MAX, ContextExtents, Errno, Extent, Failure, Form, WireError};

/// The head of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyHead {
    /// A simple reply; the content of a successful read follows.
    Simple {
        /// The request's number.
        cookie: u64,
        /// Why it failed, if it did.
        error: Option<Errno>,
    },
    /// One chunk of a reply; `length` bytes of payload follow.
    Chunk {
        /// The request's number.
        cookie: u64,
        /// The request's offset, in bytes, which extended heads repeat: it must be that of the request.
        offset: Option<u64>,
        /// Whether it is the reply's last chunk.
        done: bool,
        /// Type of the chunk, for [`Chunk::decode`].
        kind: u16,
        /// Bytes of payload, at most [`CHUNK_LEN_MAX`].
        length: u32,
    },
}

impl ReplyHead {
    /// Reads the head at the front of `input` and the bytes that it takes; `None` while it is not whole.
    ///
    /// # Errors
    /// A magic that has no place in this form, or a payload above [`CHUNK_LEN_MAX`]: the connection must be closed.
    pub fn decode(form: Form, input: &[u8]) -> Result<Option<(Self, usize)>, WireError> {
        let Some(magic) = input.first_chunk::<4>() else {
            return Ok(None);
        };
        let of = match (u32::from_be_bytes(*magic), form) {
            (SIMPLE_MAGIC, Form::Simple | Form::Structured) => Form::Simple,
            (CHUNK_MAGIC, Form::Structured) | (EXTENDED_MAGIC, Form::Extended) => form,
            (found, _) => return Err(WireError::BadMagic { what: "reply", found: found.into() }),
        };
        let taken = of.reply_head_len();
        let decode = |head: &[u8]| match of {
            Form::Simple => decode_simple(head),
            _ => decode_chunk(of, head),
        };
        input.get(4..taken).map(|head| Ok((decode(head)?, taken))).transpose()
    }
}

fn decode_simple(head: &[u8]) -> Result<ReplyHead, WireError> {
    let mut cursor = Cursor::new("simple reply", head);
    let errno = cursor.u32()?;
    let error = (errno != 0).then(|| Errno::from_wire(errno));
    Ok(ReplyHead::Simple { cookie: cursor.u64()?, error })
}

fn decode_chunk(form: Form, head: &[u8]) -> Result<ReplyHead, WireError> {
    let mut cursor = Cursor::new("reply chunk", head);
    let (flags, kind, cookie) = (cursor.u16()?, cursor.u16()?, cursor.u64()?);
    let (offset, length) = match form {
        Form::Extended => (Some(cursor.u64()?), cursor.u64()?),
        _ => (None, cursor.u32()?.into()),
    };
    Ok(ReplyHead::Chunk { cookie, offset, done: flags & DONE != 0, kind, length: payload_length(length)? })
}

fn payload_length(length: u64) -> Result<u32, WireError> {
    let limit = CHUNK_LEN_MAX.into();
    match u32::try_from(length) {
        Ok(fits) if length <= limit => Ok(fits),
        _ => Err(WireError::TooLong { what: "reply chunk", length, limit }),
    }
}

/// The meaning of one chunk of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Nothing: the end of a reply.
    None,
    /// Content.
    Data {
        /// Offset in the export, in bytes.
        offset: u64,
        /// The bytes there; not empty.
        data: Bytes,
    },
    /// A run of zeroes.
    Hole {
        /// Offset in the export, in bytes.
        offset: u64,
        /// Length, in bytes; not zero.
        length: u32,
    },
    /// Extents in one context.
    Status(ContextExtents),
    /// The request, or a part of it, failed.
    Failed(Failure),
}

impl Chunk {
    /// Bytes of the offset before the content of a chunk that [`Chunk::is_data`].
    pub const OFFSET_LEN: u32 = 8;

    /// Whether a chunk of this type is content, which may be received to where it belongs instead of being decoded.
    pub const fn is_data(kind: u16) -> bool {
        kind == OFFSET_DATA
    }

    /// Reads the whole `payload` of a chunk of type `kind`.
    ///
    /// # Errors
    /// A payload that does not fit its type, a zero where the protocol forbids one, a type that is unknown or has no
    /// place in this form.
    pub fn decode(form: Form, kind: u16, payload: Bytes) -> Result<Self, WireError> {
        let mut cursor = Cursor::new("reply chunk", &payload);
        let extended = form == Form::Extended;
        let chunk = match kind {
            NONE => Self::None,
            OFFSET_DATA => return decode_data(payload),
            OFFSET_HOLE => Self::Hole { offset: cursor.u64()?, length: nonzero("hole", cursor.u32()?)? },
            BLOCK_STATUS if !extended => Self::Status(decode_status(&mut cursor)?),
            BLOCK_STATUS_EXT if extended => Self::Status(decode_wide_status(&mut cursor)?),
            _ if kind & (1 << 15) != 0 => Self::Failed(decode_failure(kind, &mut cursor)?),
            _ => {
                return Err(WireError::UnknownType { what: "reply chunk", found: kind.into() });
            }
        };
        cursor.finish()?;
        Ok(chunk)
    }
}

fn nonzero(what: &'static str, value: u32) -> Result<u32, WireError> {
    if value == 0 { Err(WireError::Zero { what }) } else { Ok(value) }
}

fn decode_data(mut payload: Bytes) -> Result<Chunk, WireError> {
    let offset = Cursor::new("data chunk", &payload).u64()?;
    payload.advance(8);
    nonzero("data chunk", payload.len() as u32)?;
    Ok(Chunk::Data { offset, data: payload })
}

fn decode_status(cursor: &mut Cursor<'_>) -> Result<ContextExtents, WireError> {
    let (context, mut extents) = (cursor.u32()?, Vec::new());
    while !cursor.is_empty() {
        let length = nonzero("extent", cursor.u32()?)?.into();
        extents.push(Extent { length, flags: cursor.u32()? });
    }
    nonzero("count of extents", extents.len() as u32)?;
    Ok(ContextExtents { context, extents })
}

fn decode_wide_status(cursor: &mut Cursor<'_>) -> Result<ContextExtents, WireError> {
    let (context, count, mut extents) = (cursor.u32()?, nonzero("count of extents", cursor.u32()?)?, Vec::new());
    // A count that lies ends the loop with `Truncated`, or leaves something over; it never sizes an allocation.
    for _ in 0..count {
        let length = cursor.u64()?;
        if length == 0 {
            return Err(WireError::Zero { what: "extent" });
        }
        let found = cursor.u64()?;
        let flags = u32::try_from(found).map_err(|_| WireError::WideStatus { found })?;
        extents.push(Extent { length, flags });
    }
    Ok(ContextExtents { context, extents })
}

fn decode_failure(kind: u16, cursor: &mut Cursor<'_>) -> Result<Failure, WireError> {
    let errno = Errno::from_wire(nonzero("error of a chunk", cursor.u32()?)?);
    let len = usize::from(cursor.u16()?);
    let text = cursor.text(len)?;
    let at = match kind {
        ERROR_OFFSET => Some(cursor.u64()?),
        ERROR => None,
        // Fields of an error type that is not known.
        _ => {
            cursor.rest();
            None
        }
    };
    Ok(Failure { errno, text, at })
}
