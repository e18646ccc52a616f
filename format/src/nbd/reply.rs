//! Replies of the transmission phase, framed by the server (proto.md, "Simple reply message",
//! "Structured reply chunk message" and "Extended reply chunk message").
//!
//! The content of a read is not touched: [`Replies::data_head_len`] says how much room to leave
//! before it, and [`Replies::put_data_head`] fills that room, so that head and content are one write.
//! Invariant: every reply ends with exactly one chunk that is marked done. A connection without
//! structured replies must not be sent chunks; each method picks the form.

use bytes::BufMut;

use super::wire::clipped;
use super::{Extent, Failure, Form, Tag};

pub(super) const SIMPLE_MAGIC: u32 = 0x6744_6698;
pub(super) const CHUNK_MAGIC: u32 = 0x668e_33ef;
pub(super) const EXTENDED_MAGIC: u32 = 0x6e8a_278c;
const OFFSET_LEN: usize = 8;

/// `NBD_REPLY_FLAG_DONE`.
pub(super) const DONE: u16 = 1;
pub(super) const NONE: u16 = 0;
pub(super) const OFFSET_DATA: u16 = 1;
pub(super) const OFFSET_HOLE: u16 = 2;
pub(super) const BLOCK_STATUS: u16 = 5;
pub(super) const BLOCK_STATUS_EXT: u16 = 6;
pub(super) const ERROR: u16 = (1 << 15) | 1;
pub(super) const ERROR_OFFSET: u16 = (1 << 15) | 2;

/// The extents of one context in a block status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextExtents {
    /// Number of the context in the session.
    pub context: u32,
    /// Its extents, as [`super::fit`] makes them; not empty.
    pub extents: Vec<Extent>,
}

/// Frames replies in the form that the session agreed on.
#[derive(Clone, Copy, Debug)]
pub struct Replies {
    /// The form.
    pub form: Form,
}

impl Replies {
    /// Bytes to leave free before the content of a read.
    pub const fn data_head_len(self) -> usize {
        let offset = if self.form.has_chunks() { OFFSET_LEN } else { 0 };
        self.form.reply_head_len() + offset
    }

    /// Fills `head`, of [`Self::data_head_len`] bytes, before `length` bytes of content: the whole
    /// reply to a read. An empty read is answered by [`Self::done`] instead.
    pub fn put_data_head(self, mut head: &mut [u8], tag: Tag, length: u32) {
        if self.form.has_chunks() {
            self.put_chunk(&mut head, DONE, OFFSET_DATA, tag, OFFSET_LEN as u32 + length);
            head.put_u64(tag.offset);
        } else {
            put_simple(&mut head, tag, 0);
        }
    }

    /// Writes the reply to a read of nothing but zeroes; `false`, and nothing is written, where only
    /// a content will do.
    pub fn hole(self, out: &mut impl BufMut, tag: Tag, length: u32) -> bool {
        let chunks = self.form.has_chunks();
        if chunks {
            self.put_chunk(out, DONE, OFFSET_HOLE, tag, 12);
            out.put_u64(tag.offset);
            out.put_u32(length);
        }
        chunks
    }

    /// Writes the reply to a request that succeeded and has no content.
    pub fn done(self, out: &mut impl BufMut, tag: Tag) {
        if self.form.has_chunks() {
            self.put_chunk(out, DONE, NONE, tag, 0);
        } else {
            put_simple(out, tag, 0);
        }
    }

    /// Writes the reply to a request that failed.
    pub fn failed(self, out: &mut impl BufMut, tag: Tag, failure: &Failure) {
        let errno = failure.errno.to_wire();
        if !self.form.has_chunks() {
            return put_simple(out, tag, errno);
        }
        let text = clipped(&failure.text);
        let (kind, extra) = if failure.at.is_some() { (ERROR_OFFSET, OFFSET_LEN) } else { (ERROR, 0) };
        self.put_chunk(out, DONE, kind, tag, (6 + text.len() + extra) as u32);
        out.put_u32(errno);
        out.put_u16(text.len() as u16);
        out.put_slice(text.as_bytes());
        if let Some(at) = failure.at {
            out.put_u64(at);
        }
    }

    /// Writes the reply to a block status: one chunk for each context.
    pub fn status(self, out: &mut impl BufMut, tag: Tag, contexts: &[ContextExtents]) {
        for (index, status) in contexts.iter().enumerate() {
            let flags = if index + 1 == contexts.len() { DONE } else { 0 };
            match self.form {
                Form::Extended => self.put_wide_status(out, flags, tag, status),
                _ => self.put_status(out, flags, tag, status),
            }
        }
    }

    fn put_status(self, out: &mut impl BufMut, flags: u16, tag: Tag, status: &ContextExtents) {
        let ContextExtents { context, extents } = status;
        self.put_chunk(out, flags, BLOCK_STATUS, tag, 4 + 8 * extents.len() as u32);
        out.put_u32(*context);
        for Extent { length, flags } in extents {
            out.put_u32(u32::try_from(*length).unwrap_or(u32::MAX));
            out.put_u32(*flags);
        }
    }

    fn put_wide_status(self, out: &mut impl BufMut, flags: u16, tag: Tag, status: &ContextExtents) {
        let ContextExtents { context, extents } = status;
        let count = extents.len() as u32;
        self.put_chunk(out, flags, BLOCK_STATUS_EXT, tag, 8 + 16 * count);
        out.put_u32(*context);
        out.put_u32(count);
        for Extent { length, flags } in extents {
            out.put_u64(*length);
            out.put_u64((*flags).into());
        }
    }

    fn put_chunk(self, out: &mut impl BufMut, flags: u16, kind: u16, tag: Tag, length: u32) {
        let extended = self.form == Form::Extended;
        out.put_u32(if extended { EXTENDED_MAGIC } else { CHUNK_MAGIC });
        out.put_u16(flags);
        out.put_u16(kind);
        out.put_u64(tag.cookie);
        if extended {
            out.put_u64(tag.offset);
            out.put_u64(length.into());
        } else {
            out.put_u32(length);
        }
    }
}

fn put_simple(out: &mut impl BufMut, tag: Tag, errno: u32) {
    out.put_u32(SIMPLE_MAGIC);
    out.put_u32(errno);
    out.put_u64(tag.cookie);
}
