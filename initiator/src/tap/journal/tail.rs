//! The end of a journal, in memory: entries become pieces of files, which stay for a while after they were written.
//!
//! Invariants: pieces are in the order of the journal, without a gap, and the open one is the last; a piece but the last one of a file begins and
//! ends at whole pages, in memory as in the file, so that it can go past the page cache. Memory: [`KEPT`] pieces, and those that could not be
//! written yet, which are so few ([`UNWRITTEN`]) because whoever appends writes then.

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use understudy_format::journal::{Change, EntryHeader, FileHeader, Order};
use understudy_format::layout::Layout;
use understudy_net::aligned::{self, PAGE};
use uuid::Uuid;

/// Bytes of a piece.
pub(super) const PIECE: usize = 4 << 20;
/// Pieces that are kept for reading although they are written.
const KEPT: usize = 4;
/// Full pieces that may wait to be written.
const UNWRITTEN: usize = 7;

/// A file of a journal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// The number of its first entry.
    pub first: u64,
    /// Bytes.
    pub length: u64,
}

/// A part of a file that does not change any more.
#[derive(Debug)]
struct Piece {
    file: u64,
    start: u64,
    bytes: Bytes,
    /// Bytes that are in the file.
    written: usize,
}

/// What is to be written next.
#[derive(Debug)]
pub(super) struct Part {
    /// The first entry of the file.
    pub file: u64,
    /// Where in the file.
    pub offset: u64,
    /// What.
    pub bytes: Bytes,
}

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Tail {
    journal: Uuid,
    volume_size: u64,
    file_bytes: u64,
    order: Order,
    /// All files that are here; the last one is being filled.
    spans: VecDeque<Span>,
    pieces: VecDeque<Piece>,
    open: BytesMut,
    /// Where in the file the open piece begins.
    start: u64,
    /// Bytes of it that are in the file.
    written: usize,
    spare: Vec<BytesMut>,
    /// Nothing is appended any more.
    pub is_ended: bool,
}

impl Tail {
    /// After these files, in a new one.
    pub fn new(journal: Uuid, volume_size: u64, file_bytes: u64, order: Order, spans: Vec<Span>) -> Self {
        let mut tail = Self {
            journal,
            volume_size,
            file_bytes,
            order,
            spans: spans.into(),
            pieces: VecDeque::new(),
            open: BytesMut::new(),
            start: 0,
            written: 0,
            spare: Vec::new(),
            is_ended: false,
        };
        tail.open = tail.buffer();
        tail.begin_file();
        tail
    }

    /// The number of the last entry, and when it was written.
    pub fn last(&self) -> (u64, i64) {
        (self.order.next() - 1, self.order.time_ns())
    }

    /// Bytes of all files, with one more entry.
    pub fn bytes_with(&self, change: &Change) -> u64 {
        let bytes: u64 = self.spans.iter().map(|span| span.length).sum();
        bytes + EntryHeader::SIZE as u64 + change.payload_length()
    }

    /// All files.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.iter().copied().collect()
    }

    /// Appends the next entry.
    pub fn append(&mut self, now_ns: i64, change: Change, payload: &[u8]) -> u64 {
        let entry = self.order.make(now_ns, change, payload);
        self.put(&entry.encode());
        self.put(payload);
        if self.span().length >= self.file_bytes {
            self.freeze();
            self.begin_file();
        }
        entry.sequence
    }

    fn span(&mut self) -> &mut Span {
        self.spans.back_mut().expect("there is always a file to be filled")
    }

    fn begin_file(&mut self) {
        let (first, created_ns) = (self.order.next(), self.order.time_ns());
        let header = FileHeader { journal: self.journal, volume_size: self.volume_size, first, created_ns };
        self.spans.push_back(Span { first, length: 0 });
        self.start = 0;
        self.put(&header.encode());
    }

    fn put(&mut self, mut bytes: &[u8]) {
        self.span().length += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - self.open.len()));
            self.open.extend_from_slice(now);
            if self.open.len() == PIECE {
                self.freeze();
            }
            bytes = later;
        }
    }

    /// The open piece changes no more.
    fn freeze(&mut self) {
        let next = self.buffer();
        let bytes = std::mem::replace(&mut self.open, next).freeze();
        let (file, start, written) = (self.span().first, self.start, std::mem::take(&mut self.written));
        self.start += bytes.len() as u64;
        self.pieces.push_back(Piece { file, start, bytes, written });
    }

    fn buffer(&mut self) -> BytesMut {
        let mut buffer = self.spare.pop().unwrap_or_else(|| aligned::pages(PIECE));
        buffer.clear();
        buffer
    }

    /// Whether pieces are to be written.
    pub fn has_pieces(&self) -> bool {
        self.pieces.iter().any(|piece| !piece.is_written())
    }

    /// Whether so much is to be written that nothing more should come.
    pub fn is_crowded(&self) -> bool {
        self.pieces.iter().filter(|piece| !piece.is_written()).count() > UNWRITTEN
    }

    /// What is to be written next: a piece, or with `all` the part of the open one that is not written.
    pub fn unwritten(&self, all: bool) -> Option<Part> {
        // Whole pages: what a page already has is written once more with it.
        let page = |written: usize| written / PAGE * PAGE;
        if let Some(piece) = self.pieces.iter().find(|piece| !piece.is_written()) {
            let from = page(piece.written);
            let offset = piece.start + from as u64;
            return Some(Part { file: piece.file, offset, bytes: piece.bytes.slice(from..) });
        }
        let from = page(self.written);
        (all && self.written < self.open.len()).then(|| Part {
            file: self.spans.back().expect("there is always one").first,
            offset: self.start + from as u64,
            bytes: Bytes::copy_from_slice(&self.open[from..]),
        })
    }

    /// That part is in its file.
    pub fn written(&mut self, part: &Part) {
        let end = part.offset + part.bytes.len() as u64;
        let holds = |piece: &&mut Piece| piece.file == part.file && (piece.start..=piece.end()).contains(&end);
        match self.pieces.iter_mut().find(|piece| holds(piece) && piece.start <= part.offset) {
            Some(piece) => piece.written = (end - piece.start) as usize,
            None if self.spans.back().is_some_and(|span| span.first == part.file) => {
                self.written = (end - self.start) as usize;
            }
            // It was forgotten meanwhile.
            None => {}
        }
        while self.pieces.len() > KEPT && self.pieces[0].is_written() {
            let piece = self.pieces.pop_front();
            self.recycle(piece);
        }
    }

    fn recycle(&mut self, piece: Option<Piece>) {
        let buffer = piece.and_then(|piece| piece.bytes.try_into_mut().ok());
        self.spare.extend(buffer.filter(|_| self.spare.len() < KEPT));
    }

    /// Forgets the files of which all entries are at most `through`, before the newest that is there, and tells which.
    pub fn forget(&mut self, through: u64, newest: Option<u64>) -> Vec<u64> {
        // Nothing is written yet of the file that is filled: the one before it is there.
        let newest = newest.or_else(|| self.spans.iter().rev().nth(1).map(|span| span.first)).unwrap_or(0);
        let is_over = |span: &Span, next: &Span| span.first < newest && next.first <= through + 1;
        let mut gone = Vec::new();
        while self.spans.get(1).is_some_and(|next| is_over(&self.spans[0], next)) {
            gone.extend(self.spans.pop_front().map(|span| span.first));
        }
        while self.pieces.front().is_some_and(|piece| gone.contains(&piece.file)) {
            let piece = self.pieces.pop_front();
            self.recycle(piece);
        }
        gone
    }

    /// What is in memory from `offset` of a file on, `max` bytes at most.
    pub fn get(&self, file: u64, offset: u64, max: usize) -> Option<Bytes> {
        let cut = |start: u64, length: usize| {
            let from = (offset - start) as usize;
            from..length.min(from + max)
        };
        let mut pieces = self.pieces.iter();
        if let Some(piece) = pieces.find(|piece| piece.file == file && (piece.start..piece.end()).contains(&offset)) {
            return Some(piece.bytes.slice(cut(piece.start, piece.bytes.len())));
        }
        let is_open = self.spans.back().is_some_and(|span| span.first == file) && offset >= self.start;
        is_open.then(|| Bytes::copy_from_slice(&self.open[cut(self.start, self.open.len())]))
    }

    /// Where what is in memory of a file begins; its end when there is nothing.
    pub fn in_memory_from(&self, span: &Span) -> u64 {
        let piece = self.pieces.iter().find(|piece| piece.file == span.first).map(|piece| piece.start);
        let is_open = self.spans.back().is_some_and(|last| last.first == span.first);
        piece.unwrap_or(if is_open { self.start } else { span.length })
    }
}

impl Piece {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn is_written(&self) -> bool {
        self.written == self.bytes.len()
    }
}
