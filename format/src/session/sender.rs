//! The sending end of a stream.
//!
//! Invariants: chunks leave in the order in which they were offered; a chunk leaves only when its need
//! is known; the commit record can be had only when all blocks were covered and nothing is in flight.
//! The sender never holds block bytes: `T` is whatever the caller needs to find them again.

use super::Cursor;
use crate::chunk::{Chunk, ChunkHead, Entry};
use crate::codec::{Codec, encode_into};
use crate::error::{FormatError, Result};
use crate::geometry::BlockId;
use crate::stream::{Begin, Checker, Commit};
use crate::{Digest, chunk};
use bytes::Bytes;
use std::collections::VecDeque;

/// The next blocks of a volume, in order: what each is, with its digest.
#[derive(Debug, Clone)]
pub struct Prepared<T> {
    /// What the blocks are; data entries have no payload yet.
    pub entries: Vec<Entry>,
    /// Where the caller finds their bytes.
    pub token: T,
}

/// A chunk that can be sent: blocks that the receiver has became references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready<T> {
    /// The header and mapping, data entries still without payload (see [`pack`]).
    pub head: ChunkHead,
    /// Where the caller finds their bytes.
    pub token: T,
}

#[derive(Debug)]
struct Offered<T> {
    head: ChunkHead,
    token: T,
    known: bool,
}

/// The sending end; see the module documentation.
#[derive(Debug)]
pub struct Sender<T> {
    begin: Begin,
    next_sequence: u64,
    next_block: u64,
    offline: bool,
    window: usize,
    in_flight: VecDeque<Offered<T>>,
    sent: Checker,
}

impl<T> Sender<T> {
    /// The sender of a stream over a connection whose receiver accepted `window` offers in flight.
    pub fn online(begin: Begin, window: u32) -> Self {
        Self::resume(begin, window, &Cursor::START)
    }

    /// The sender of the rest of a stream, from the receiver's cursor on.
    pub fn resume(begin: Begin, window: u32, cursor: &Cursor) -> Self {
        Self {
            begin,
            next_sequence: cursor.totals.chunks,
            next_block: cursor.next_block.0,
            offline: false,
            window: window.clamp(1, super::WINDOW_MAX) as usize,
            in_flight: VecDeque::new(),
            sent: Checker::resume(begin, cursor.totals, cursor.next_block),
        }
    }

    /// The sender of a stream that nobody answers: every block travels.
    pub fn offline(begin: Begin) -> Self {
        Self { offline: true, ..Self::online(begin, 1) }
    }

    /// Whether another chunk may be offered now.
    pub fn has_room(&self) -> bool {
        self.in_flight.len() < self.window
    }

    /// Whether chunks are waiting for their need or to be taken.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Takes the next blocks; returns the offer to send, if one is needed.
    pub fn offer(&mut self, prepared: Prepared<T>) -> Option<ChunkHead> {
        debug_assert!(self.has_room());
        let head = ChunkHead {
            volume: self.begin.volume,
            stream: self.begin.stream,
            sequence: self.next_sequence,
            geometry: self.begin.geometry,
            first_block: BlockId(self.next_block),
            entries: prepared.entries,
            payload_length: 0,
            payload_crc: 0,
        };
        self.next_sequence += 1;
        self.next_block += head.block_count();
        let known = self.offline || head.offered().next().is_none();
        let offer = (!known).then(|| head.clone());
        self.in_flight.push_back(Offered { head, token: prepared.token, known });
        offer
    }

    /// Takes the receiver's answer to the oldest offer that has none.
    pub fn need(&mut self, sequence: u64, wanted: &[bool]) -> Result<()> {
        let wrong = |reason: String| FormatError::invalid("need", reason);
        let offered = self.in_flight.iter_mut().find(|offered| !offered.known);
        let offered = offered.ok_or_else(|| wrong(format!("for chunk {sequence}, nothing is offered")))?;
        let expected = offered.head.offered().count();
        if (offered.head.sequence, expected) != (sequence, wanted.len()) {
            let (own, found) = (offered.head.sequence, wanted.len());
            return Err(wrong(format!("{found} entries for chunk {sequence}, {expected} for chunk {own} expected")));
        }
        let mut wanted = wanted.iter();
        for entry in &mut offered.head.entries {
            if let Entry::Data { digest, block_length, .. } = *entry
                && wanted.next() == Some(&false)
            {
                *entry = Entry::Reference { digest, block_length };
            }
        }
        offered.known = true;
        Ok(())
    }

    /// The next chunk to send, once its need is known.
    pub fn take_ready(&mut self) -> Result<Option<Ready<T>>> {
        match self.in_flight.pop_front_if(|offered| offered.known) {
            Some(Offered { head, token, .. }) => {
                self.sent.chunk(&head)?;
                Ok(Some(Ready { head, token }))
            }
            None => Ok(None),
        }
    }

    /// The commit record: all chunks were taken and cover the volume, whose root is `root`.
    pub fn commit(&self, root: Digest) -> Result<Commit> {
        if !self.in_flight.is_empty() {
            return Err(FormatError::invalid("stream", "chunks are still in flight"));
        }
        let commit = Commit { stream: self.begin.stream, totals: *self.sent.totals(), root };
        self.sent.commit(&commit)?;
        Ok(commit)
    }
}

/// Fills in the payload of a chunk: the bytes of its data entries, compressed when asked for and smaller.
///
/// `content` gives the bytes of a block, whose length is that of the entry.
pub fn pack<'a>(mut head: ChunkHead, compress: bool, content: impl Fn(BlockId) -> &'a [u8]) -> Result<Chunk> {
    let blocks: Vec<BlockId> = head.blocks().map(|(block, _)| block).collect();
    let mut payload = Vec::with_capacity(head.entries.len().min(64) * head.geometry.block_size().bytes() as usize);
    for (entry, block) in head.entries.iter_mut().zip(blocks) {
        if let Entry::Data { codec, payload_offset, payload_length, .. } = entry {
            let start = payload.len();
            *codec = put_block(content(block), compress, &mut payload);
            *payload_offset = start as u32;
            *payload_length = (payload.len() - start) as u32;
        }
    }
    crate::layout::check_range("chunk", "payload length", payload.len() as u64, 0, chunk::PAYLOAD_MAX.into())?;
    head.payload_length = payload.len() as u32;
    head.payload_crc = crc32fast::hash(&payload);
    Ok(Chunk { head, payload: Bytes::from(payload) })
}

fn put_block(content: &[u8], compress: bool, payload: &mut Vec<u8>) -> Codec {
    if compress {
        return encode_into(content, payload);
    }
    payload.extend_from_slice(content);
    Codec::Stored
}
