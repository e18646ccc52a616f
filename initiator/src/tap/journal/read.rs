//! Reading a journal: whole entries in order, from memory where they are, otherwise from their files.
//!
//! Invariants: a batch has whole entries of one file, whose headers are not damaged and follow each other; an end of a file within an entry that
//! should be there is damage, and told.

use super::tail::{PIECE, Span};
use super::{Journal, damaged, name};
use crate::tap::lock;
use bytes::{Bytes, BytesMut};
use std::io;
use std::ops::Range;
use understudy_format::journal::{Entry, EntryHeader, JournalHeader, WRITE_MAX};
use understudy_format::layout::Layout;

const HEADER: usize = EntryHeader::SIZE;

/// Entries that are to be shipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The number of the first entry.
    pub first: u64,
    /// The number of the last one.
    pub through: u64,
    /// When the first one was written, nanoseconds since 1970-01-01T00:00:00Z.
    pub oldest_ns: i64,
    /// Headers and payloads, one after another.
    pub bytes: Bytes,
}

impl Batch {
    /// The entries, with where each begins.
    fn entries(&self) -> impl Iterator<Item = (Entry, usize)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let entry = Entry::decode(self.bytes.get(at..)?).ok()?;
            let found = (entry, at);
            at += entry.stored_length() as usize;
            Some(found)
        })
    }

    /// The ranges of the volume that they changed.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        self.entries().filter_map(|(entry, _)| entry.change.range()).map(|(offset, length)| offset..offset + length)
    }
}

/// A place between two entries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor {
    /// The number of the entry after it.
    next: u64,
    /// The first entry of the file.
    file: u64,
    /// Where in the file.
    offset: u64,
}

impl Cursor {
    /// Before the first entry of a file.
    pub fn at(span: &Span) -> Self {
        Self { next: span.first, file: span.first, offset: JournalHeader::SIZE as u64 }
    }

    fn after(self, batch: &Batch) -> Self {
        Self { next: batch.through + 1, offset: self.offset + batch.bytes.len() as u64, ..self }
    }
}

impl Journal {
    /// Entries after number `after`, at least one when there is one, of at most `max_bytes` unless one is longer.
    pub fn pending(&self, after: u64, max_bytes: usize) -> io::Result<Option<Batch>> {
        if self.last() <= after {
            return Ok(None);
        }
        let mut cursor = lock(&self.cursor);
        let at = match *cursor {
            Some(at) if at.next == after + 1 => self.past_end(at),
            _ => self.seek(after + 1)?,
        };
        let batch = self.collect(at, max_bytes)?;
        let batch = batch.ok_or_else(|| damaged(format!("entry {} is cut off", at.next)))?;
        *cursor = Some(at.after(&batch));
        Ok(Some(batch))
    }

    /// Calls `changed` with the range of each entry after number `after`.
    pub fn ranges_after(&self, mut after: u64, changed: &mut dyn FnMut(Range<u64>)) -> io::Result<()> {
        while let Some(batch) = self.pending(after, PIECE)? {
            batch.ranges().for_each(&mut *changed);
            after = batch.through;
        }
        Ok(())
    }

    /// Calls `each` with all entries from a place on to the end of its file.
    pub(super) fn walk(&self, mut at: Cursor, mut each: impl FnMut(&Batch)) -> io::Result<()> {
        while let Some(batch) = self.collect(at, PIECE)? {
            each(&batch);
            at = at.after(&batch);
        }
        Ok(())
    }

    /// The place before an entry, unless it was removed.
    fn seek(&self, sequence: u64) -> io::Result<Cursor> {
        let spans = lock(&self.tail).spans();
        let span = spans.iter().rev().find(|span| span.first <= sequence);
        let span = span.ok_or_else(|| damaged(format!("entry {sequence} is not here any more")))?;
        let (mut at, mut found) = (Cursor::at(span), None);
        self.walk(at, |batch| {
            let entry = batch.entries().find(|(entry, _)| entry.sequence == sequence);
            found =
                found.or(entry.map(|(_, within)| Cursor { next: sequence, offset: at.offset + within as u64, ..at }));
            at = at.after(batch);
        })?;
        found.ok_or_else(|| damaged(format!("entry {sequence} is not in its file")))
    }

    /// The start of the next file, at the end of one.
    fn past_end(&self, at: Cursor) -> Cursor {
        let spans = lock(&self.tail).spans();
        spans.iter().find(|span| span.first == at.next).map_or(at, Cursor::at)
    }

    /// Whole entries from a place on; `None` at the end of the file, and where it ends within the first of them.
    fn collect(&self, at: Cursor, max_bytes: usize) -> io::Result<Option<Batch>> {
        let (mut bytes, mut whole) = (BytesMut::new(), Whole { length: 0, through: at.next - 1, oldest_ns: 0 });
        loop {
            whole.extend(&bytes, max_bytes)?;
            let wanted = match whole.length {
                0 if bytes.len() >= max_bytes => HEADER + WRITE_MAX as usize - bytes.len().min(WRITE_MAX as usize),
                _ => max_bytes.saturating_sub(bytes.len()),
            };
            let more =
                if wanted > 0 { self.read(at.file, at.offset + bytes.len() as u64, wanted)? } else { Bytes::new() };
            if more.is_empty() {
                break;
            }
            bytes.extend_from_slice(&more);
        }
        bytes.truncate(whole.length);
        let batch = Batch { first: at.next, through: whole.through, oldest_ns: whole.oldest_ns, bytes: bytes.freeze() };
        Ok(Some(batch).filter(|batch| !batch.bytes.is_empty()))
    }

    /// Bytes of a file from `offset` on, `max` at most; none at its end.
    fn read(&self, file: u64, offset: u64, max: usize) -> io::Result<Bytes> {
        let end = {
            let tail = lock(&self.tail);
            if let Some(bytes) = tail.get(file, offset, max) {
                return Ok(bytes);
            }
            let span = tail.spans().into_iter().find(|span| span.first == file);
            span.map_or(offset, |span| tail.in_memory_from(&span))
        };
        let mut bytes = vec![0; end.saturating_sub(offset).min(max as u64) as usize];
        if !bytes.is_empty() {
            self.directory.open(&name(self.id, file))?.read_at(&mut bytes, offset)?;
        }
        Ok(bytes.into())
    }
}

/// The entries that are there as a whole, so far.
struct Whole {
    length: usize,
    through: u64,
    oldest_ns: i64,
}

impl Whole {
    /// Takes in what came; damage counts only where nothing came before it.
    fn extend(&mut self, bytes: &[u8], max: usize) -> io::Result<()> {
        while bytes.len() >= self.length + HEADER {
            let entry = match self.next(&bytes[self.length..]) {
                Ok(entry) => entry,
                Err(_) if self.length > 0 => return Ok(()),
                Err(error) => return Err(error),
            };
            let end = self.length + entry.stored_length() as usize;
            if end > bytes.len() || (self.length > 0 && end > max) {
                return Ok(());
            }
            if self.length == 0 {
                self.oldest_ns = entry.time_ns;
            }
            (self.length, self.through) = (end, entry.sequence);
        }
        Ok(())
    }

    fn next(&self, bytes: &[u8]) -> io::Result<Entry> {
        let entry = Entry::decode(bytes).map_err(|error| damaged(error.to_string()))?;
        match entry.sequence == self.through + 1 {
            true => Ok(entry),
            false => Err(damaged(format!("entry {} where {} should be", entry.sequence, self.through + 1))),
        }
    }
}
