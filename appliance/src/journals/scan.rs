//! Reading a file of a journal, entry by entry.
//!
//! Invariants: entries come in order and without a gap, or not at all; memory is that of a window, or of one payload; payloads
//! are passed over unless they are asked for, and nobody gets one whose checksum is wrong.

use super::file::JournalFile;
use crate::error::{Error, Result, at};
use crate::pool::disk::{Disk, DiskFile};
use std::sync::Arc;
use understudy_format::FormatError;
use understudy_format::journal::{Entry, EntryHeader, JournalHeader, Order};
use understudy_format::layout::Layout;

/// Bytes that are read at once.
const WINDOW: usize = 256 << 10;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Scan {
    known: Arc<JournalFile>,
    file: Arc<dyn DiskFile>,
    size: u64,
    order: Order,
    last: u64,
    /// Where the next entry stands.
    position: u64,
    window: Vec<u8>,
    window_at: u64,
}

/// An entry, and where its payload stands in the file.
pub(super) type Found = (Entry, u64);

impl Scan {
    /// The entries of a file up to number `last`; all that can be read when that is `u64::MAX`.
    pub fn new(disk: &dyn Disk, known: &Arc<JournalFile>, last: u64) -> Result<Self> {
        let file = known.open(disk)?;
        let size = file.size().map_err(at(&known.path))?;
        let header = &known.header;
        let order = Order::new(header.volume_size, header.first, header.created_ns);
        let position = JournalHeader::SIZE as u64;
        Ok(Self { known: known.clone(), file, size, order, last, position, window: Vec::new(), window_at: 0 })
    }

    /// The file.
    pub fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }

    /// Where the next entry would stand.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// What the next entry must be like.
    pub fn order(&self) -> Order {
        self.order
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next entry; [`Error::Format`] where there should be one and is not.
    pub fn next(&mut self) -> Result<Option<Found>> {
        let is_over = self.order.next() > self.last || (self.last == u64::MAX && self.position == self.size);
        if is_over {
            return Ok(None);
        }
        let entry = Entry::decode(self.bytes(self.position, EntryHeader::SIZE)?)?;
        let payload = self.position + EntryHeader::SIZE as u64;
        self.check_end(payload, entry.change.payload_length())?;
        self.order.take(&entry)?;
        self.position += entry.stored_length();
        Ok(Some((entry, payload)))
    }

    /// The same, with its payload checked.
    pub fn next_whole(&mut self) -> Result<Option<Found>> {
        let (position, order) = (self.position, self.order);
        let Some((entry, payload)) = self.next()? else { return Ok(None) };
        let length = entry.change.payload_length() as usize;
        let checked = self.bytes(payload, length).and_then(|bytes| Ok(entry.check(bytes)?));
        checked.inspect_err(|_| (self.position, self.order) = (position, order))?;
        Ok(Some((entry, payload)))
    }

    fn check_end(&self, at: u64, length: u64) -> Result<()> {
        let found = self.size.saturating_sub(at);
        match length <= found {
            true => Ok(()),
            false => Err(FormatError::Truncated { what: "journal entry", needed: length, found }.into()),
        }
    }

    fn bytes(&mut self, from: u64, length: usize) -> Result<&[u8]> {
        let within = from >= self.window_at && from + length as u64 <= self.window_at + self.window.len() as u64;
        if !within {
            self.check_end(from, length as u64)?;
            let wanted = (length.max(WINDOW) as u64).min(self.size - from);
            self.window.resize(wanted as usize, 0);
            self.window_at = from;
            let read = self.file.read_at(&mut self.window, from);
            read.inspect_err(|_| self.window.clear()).map_err(at(&self.known.path))?;
        }
        let start = (from - self.window_at) as usize;
        Ok(&self.window[start..start + length])
    }
}

/// What of a file cannot be read, as an error that says where.
pub(super) fn damaged(known: &JournalFile, error: Error) -> Error {
    match error {
        Error::Format(reason) => Error::Journal { path: known.path.clone(), reason },
        other => other,
    }
}
