//! The log: the one place where segments are written.
//!
//! All streams append to one open segment, in memory that a writer thread puts on the disk, so appending
//! waits only when the disk is slower than the streams. Invariants: what is written is never written
//! again (syncs pad to whole disk pages); a digest is stored once; an index entry is published only
//! after the bytes that it names were synced; after a failed write nothing of the streams that were
//! under way is kept ([`Epoch`]): out of space, the log cuts the segment back to what is durable and can go
//! on; after any other failure it stays broken, because a disk that failed a sync cannot be believed.

use super::disk::{Access, AlignedBuffer, Disk, DiskFile};
use super::index::{Index, Location};
use super::pending::Pending;
use super::record::{Place, Record};
use super::segments::Segments;
use super::space::Space;
use super::writer::{Command, Fault, Writer};
use crate::error::{Error, Result, at};
use crate::locks::lock;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use understudy_format::Digest;
use understudy_format::codec::Codec;
use understudy_format::layout::Layout;
use understudy_format::point::{Point, encode_points};
use understudy_format::segment::{
    ALIGNMENT, FooterEntry, Kind, NewRecord, RECORD_ALIGNMENT, RecordHeader, SegmentHeader, Trailer, encode_footer,
    pad_header,
};
use uuid::Uuid;

/// Memory of one write, bytes; no more than a segment.
pub const BUFFER_BYTES: usize = 4 << 20;
/// Writes that wait for the disk before appending waits too.
const BUFFERS: usize = 6;
/// Records after which what was appended is made durable and published, so that what waits for that is bounded.
const UNPUBLISHED_MAX: usize = 1 << 15;
/// Records of a segment, which are held in memory until it is sealed and while it is collected: 8 MiB.
const RECORDS_MAX: u64 = 1 << 17;

/// What streams that run at the same time share: when a write fails, all of them end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch(u64);

/// For whom something is appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// New content: it leaves the reserve of space alone.
    Stream,
    /// What frees space, repairs, or says so: it may use the reserve.
    Upkeep,
}

/// The segment that is being written.
#[derive(Debug)]
struct Tail {
    segment: u64,
    file: Arc<dyn DiskFile>,
    buffer: AlignedBuffer,
    /// Where the buffer's first byte goes, bytes from the start of the segment.
    buffer_offset: u64,
    filled: usize,
    entries: Vec<FooterEntry>,
}

impl Tail {
    fn position(&self) -> u64 {
        self.buffer_offset + self.filled as u64
    }
}

/// Where the segments end.
#[derive(Debug, Default)]
pub struct End {
    /// The number of the last segment; 0 when there is none.
    pub segment: u64,
    /// Its length, bytes: a multiple of the alignment.
    pub length: u64,
    /// Its records, when it is unsealed and can be written on.
    pub open: Option<Vec<FooterEntry>>,
}

#[derive(Debug)]
struct State {
    tail: Option<Tail>,
    /// The buffer of a segment that was left, for the next one.
    spare: Option<AlignedBuffer>,
    next_segment: u64,
    epoch: u64,
    generation: u64,
}

/// How commands reach the writer.
#[derive(Debug)]
enum Link {
    /// A thread of its own; it ends, and has closed its files, when this is dropped.
    Thread { commands: Option<Sender<Command>>, thread: Option<std::thread::JoinHandle<()>> },
    /// The thread that appends.
    Inline(Box<Mutex<Writer>>),
}

impl Link {
    fn start(writer: Writer, inline: bool) -> std::io::Result<Self> {
        if inline {
            return Ok(Self::Inline(Box::new(Mutex::new(writer))));
        }
        let (commands, receiver) = bounded(BUFFERS);
        let thread = std::thread::Builder::new().name("log-writer".into()).spawn(move || writer.run(&receiver))?;
        Ok(Self::Thread { commands: Some(commands), thread: Some(thread) })
    }

    fn send(&self, command: Command) -> Result<()> {
        match self {
            Self::Thread { commands, .. } => {
                let commands = commands.as_ref().ok_or(Error::Closing)?;
                commands.send(command).map_err(|_| Error::Closing)
            }
            Self::Inline(writer) => {
                lock(writer).carry_out(command);
                Ok(())
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Self::Thread { commands, thread } = self {
            *commands = None;
            if let Some(thread) = thread.take() {
                let _ = thread.join();
            }
        }
    }
}

/// What a log is made of.
#[derive(Debug)]
pub struct Parts {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The segment files.
    pub segments: Arc<Segments>,
    /// Where what became durable is published.
    pub index: Arc<Index>,
    /// The pool.
    pub pool: Uuid,
    /// The size at which a segment is sealed, bytes.
    pub segment_size: u64,
    /// What streams must leave free.
    pub space: Space,
    /// From which length on other files can share what stands in a segment, bytes; see [`Disk::shares_from`].
    pub shares_from: Option<usize>,
    /// Whether the thread that appends also writes: then the order of all operations is always the same.
    pub inline: bool,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Log {
    parts: Parts,
    state: Mutex<State>,
    pending: Arc<Mutex<Pending>>,
    fault: Arc<Mutex<Option<Fault>>>,
    /// Bytes handed to the writer and not yet on the disk.
    unwritten: Arc<AtomicU64>,
    writer: Link,
    buffers: Receiver<AlignedBuffer>,
}

impl Log {
    /// A log that writes on at the end of what [`super::recovery`] found.
    pub fn new(parts: Parts, end: End) -> Result<Self> {
        let (give_back, buffers) = bounded(BUFFERS);
        let bytes = BUFFER_BYTES.min(parts.segment_size as usize);
        (0..BUFFERS).for_each(|_| give_back.send(AlignedBuffer::new(bytes)).expect("the channel has room"));
        let pending = Arc::new(Mutex::new(Pending::default()));
        let fault = Arc::new(Mutex::new(None));
        let unwritten = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            disk: parts.disk.clone(),
            segments: parts.segments.clone(),
            index: parts.index.clone(),
            pending: pending.clone(),
            fault: fault.clone(),
            unwritten: unwritten.clone(),
            give_back,
            durable: (end.segment, end.length),
        };
        let writer = Link::start(writer, parts.inline).map_err(at(parts.segments.dir()))?;
        let state = State { tail: None, spare: None, next_segment: end.segment + 1, epoch: 0, generation: 0 };
        let log = Self { parts, state: Mutex::new(state), pending, fault, unwritten, writer, buffers };
        if let Some(entries) = end.open {
            lock(&log.state).tail = Some(log.write_on(end.segment, end.length, entries)?);
        }
        Ok(log)
    }

    fn write_on(&self, segment: u64, length: u64, entries: Vec<FooterEntry>) -> Result<Tail> {
        let path = self.parts.segments.path(segment);
        let file = self.parts.disk.open(&path, Access::Write).map_err(at(&path))?;
        Ok(Tail { segment, file, buffer: self.buffer()?, buffer_offset: length, filled: 0, entries })
    }

    /// Begins to append; after a full disk this is where the log goes on.
    pub fn begin(&self) -> Result<Epoch> {
        let mut state = lock(&self.state);
        let fault = lock(&self.fault).clone();
        match fault {
            None => {}
            Some(Fault::Broken(reason)) => return Err(Error::Broken(reason)),
            Some(Fault::Full(_)) => self.recover(&mut state)?,
        }
        Ok(Epoch(state.epoch))
    }

    /// Throws away what is not durable; see the module documentation.
    fn recover(&self, state: &mut State) -> Result<()> {
        state.spare = state.tail.take().map(|tail| tail.buffer).or(state.spare.take());
        state.epoch += 1;
        let (reply, answer) = bounded(1);
        self.send(Command::Reset { reply })?;
        answer.recv().map_err(|_| Error::Closing)?
    }

    /// The size at which a segment is sealed, bytes.
    pub fn segment_size(&self) -> u64 {
        self.parts.segment_size
    }

    /// Where the record with this digest is, if it is stored or will be with the next sync.
    pub fn location(&self, digest: &Digest) -> Result<Option<Location>> {
        let pending = lock(&self.pending).get(digest);
        match pending {
            Some(location) => Ok(Some(location)),
            None => self.parts.index.get(digest),
        }
    }

    /// The same of a record that the index did not have after `moves`: it is asked again only when something came to it since.
    fn location_since(&self, moves: u64, digest: &Digest) -> Result<Option<Location>> {
        let (pending, same) = {
            let pending = lock(&self.pending);
            (pending.get(digest), pending.moves() == moves)
        };
        match pending {
            None if !same => self.parts.index.get(digest),
            pending => Ok(pending),
        }
    }

    /// Appends a block or page unless it is there already; returns where it is, and the bytes that were added.
    pub fn store(&self, epoch: Epoch, record: &NewRecord<'_>, purpose: Purpose) -> Result<(Location, u64)> {
        let moves = lock(&self.pending).moves();
        if let Some(location) = self.parts.index.get(&record.digest)? {
            return Ok((location, 0));
        }
        let mut state = self.state_of(epoch)?;
        if let Some(location) = self.location_since(moves, &record.digest)? {
            return Ok((location, 0));
        }
        let location = self.append(&mut state, record, purpose)?;
        let generation = state.generation;
        lock(&self.pending).store(record.digest, location, None, generation);
        Ok((location, record.length()))
    }

    /// Appends a copy of a block or page that stands at `from`, unless there is another already; returns where that
    /// is, and the bytes that were added.
    pub fn copy(&self, epoch: Epoch, record: &NewRecord<'_>, from: Place) -> Result<(Location, u64)> {
        let mut state = self.state_of(epoch)?;
        // Streams may rely on the other one, so the index must not come to name a third.
        if let Some(other) = self.location(&record.digest)?.filter(|location| location.place() != from) {
            return Ok((other, 0));
        }
        let location = self.append(&mut state, record, Purpose::Upkeep)?;
        let generation = state.generation;
        lock(&self.pending).store(record.digest, location, Some(from), generation);
        Ok((location, record.length()))
    }

    /// Appends a record of the catalogue; it counts once [`Log::sync`] returned.
    pub fn enter(&self, epoch: Epoch, entry: Record, purpose: Purpose) -> Result<()> {
        let (kind, content) = (entry.kind(), entry.encode());
        self.enter_as(epoch, kind, &content, vec![entry], purpose)
    }

    /// Appends points in one record, so that all of them come to count or none.
    pub fn enter_points(&self, epoch: Epoch, points: Vec<Point>) -> Result<()> {
        let (kind, content) = match &points[..] {
            [one] => (Kind::Point, one.encode()),
            several => (Kind::Points, encode_points(several)),
        };
        self.enter_as(epoch, kind, &content, points.into_iter().map(Record::Point).collect(), Purpose::Stream)
    }

    fn enter_as(&self, epoch: Epoch, kind: Kind, content: &[u8], says: Vec<Record>, purpose: Purpose) -> Result<()> {
        let (digest, content_length) = (kind.digest(content), content.len() as u32);
        let record = NewRecord { kind, codec: Codec::Stored, digest, content_length, stored: content };
        let mut state = self.state_of(epoch)?;
        let place = self.append(&mut state, &record, purpose)?.place();
        let (generation, mut pending) = (state.generation, lock(&self.pending));
        says.into_iter().for_each(|entry| pending.enter(entry, place, generation));
        Ok(())
    }

    /// Seals the open segment, so that nothing is appended to it any more; returns the number of the next one.
    pub fn seal_open(&self, epoch: Epoch) -> Result<u64> {
        let mut state = self.state_of(epoch)?;
        if state.tail.as_ref().is_some_and(|tail| !tail.entries.is_empty()) {
            self.seal(&mut state)?;
        }
        Ok(state.tail.as_ref().map_or(state.next_segment, |tail| tail.segment))
    }

    /// Returns when everything that was appended before is durable and published.
    pub fn sync(&self, epoch: Epoch) -> Result<()> {
        let answer = {
            let mut state = self.state_of(epoch)?;
            let (reply, answer) = bounded(1);
            match state.tail.is_some() {
                true => self.publish(&mut state, Some(reply))?,
                // Everything is in sealed segments, whose syncs may still be on their way.
                false => self.send(Command::Barrier { reply })?,
            }
            answer
        };
        answer.recv().map_err(|_| Error::Closing)?
    }

    /// Fails when the streams of `epoch` ended because a write failed.
    pub fn check(&self, epoch: Epoch) -> Result<()> {
        self.state_of(epoch).map(drop)
    }

    /// Takes nothing more until the pool is opened again: what the disk has is not known.
    pub fn give_up(&self, error: &Error) {
        *lock(&self.fault) = Some(Fault::Broken(error.to_string()));
    }

    fn state_of(&self, epoch: Epoch) -> Result<MutexGuard<'_, State>> {
        if let Some(fault) = lock(&self.fault).as_ref() {
            return Err(fault.error());
        }
        let state = lock(&self.state);
        match state.epoch == epoch.0 {
            true => Ok(state),
            false => Err(Error::Full { detail: "another stream ran out of space at the same time".into() }),
        }
    }

    fn append(&self, state: &mut State, record: &NewRecord<'_>, purpose: Purpose) -> Result<Location> {
        if purpose == Purpose::Stream {
            self.parts.space.check(self.unwritten.load(Ordering::Relaxed) + record.length())?;
        }
        self.make_room(state, record.length() + ALIGNMENT)?;
        if self.parts.shares_from.is_some_and(|from| is_shared(record, from)) {
            self.pad(state, RecordHeader::SIZE as u64)?;
        }
        let tail = state.tail.as_mut().expect("make_room opened a segment");
        let offset = tail.position();
        let header = record.header(offset);
        let location = Location {
            segment: tail.segment,
            offset,
            stored_length: header.stored_length,
            content_length: header.content_length,
            ordinal: tail.entries.len() as u32,
            kind: header.kind,
        };
        tail.entries.push(header.footer_entry());
        self.put_record(state, &header, record.stored)?;
        Ok(location)
    }

    /// Has everything that was appended to the open segment made durable and published.
    fn publish(&self, state: &mut State, reply: Option<Sender<Result<()>>>) -> Result<()> {
        self.pad(state, 0)?;
        self.flush(state)?;
        let tail = state.tail.as_ref().expect("only an open segment is published");
        let (segment, length, file) = (tail.segment, tail.position(), tail.file.clone());
        let generation = state.generation;
        state.generation += 1;
        self.send(Command::Sync { file, segment, length, generation, reply })
    }

    /// Makes sure that there is an open segment which can take `length` more bytes.
    fn make_room(&self, state: &mut State, length: u64) -> Result<()> {
        let entries = state.tail.as_ref().map_or(0, |tail| tail.entries.len());
        if entries > 0 && entries.is_multiple_of(UNPUBLISHED_MAX) {
            self.publish(state, None)?;
        }
        if let Some(tail) = &state.tail {
            let entries = tail.entries.len() as u64 + 1;
            let footer = RecordHeader::SIZE as u64 + entries * FooterEntry::SIZE as u64 + 3 * 4096;
            if tail.position() + length + footer <= self.parts.segment_size && entries < RECORDS_MAX {
                return Ok(());
            }
            self.seal(state)?;
        }
        self.create(state)
    }

    fn create(&self, state: &mut State) -> Result<()> {
        let segment = state.next_segment;
        let path = self.parts.segments.path(segment);
        let file = self.parts.disk.open(&path, Access::Create).map_err(at(&path))?;
        state.next_segment += 1;
        let buffer = state.spare.take().map_or_else(|| self.buffer(), Ok)?;
        state.tail = Some(Tail { segment, file, buffer, buffer_offset: 0, filled: 0, entries: Vec::new() });
        self.put(state, &SegmentHeader::new(self.parts.pool, segment).encode())
    }

    /// Appends footer and trailer, and leaves the segment for ever.
    fn seal(&self, state: &mut State) -> Result<()> {
        let tail = state.tail.as_mut().expect("only an open segment is sealed");
        let (segment, footer_offset, count) = (tail.segment, tail.position(), tail.entries.len() as u64);
        let footer = encode_footer(&std::mem::take(&mut tail.entries));
        let record = NewRecord {
            kind: Kind::Footer,
            codec: Codec::Stored,
            digest: Digest::ZERO,
            content_length: footer.len() as u32,
            stored: &footer,
        };
        self.put_record(state, &record.header(footer_offset), &footer)?;
        self.pad(state, Trailer::SIZE as u64)?;
        let position = state.tail.as_ref().expect("still open").position();
        let length = position + Trailer::SIZE as u64;
        self.put(state, &Trailer::new(segment, footer_offset, count, length).encode())?;
        self.flush(state)?;
        let Tail { file, buffer, .. } = state.tail.take().expect("still open");
        state.spare = Some(buffer);
        let generation = state.generation;
        state.generation += 1;
        self.send(Command::Sync { file, segment, length, generation, reply: None })
    }

    /// Fills the segment up to where `reserve` more bytes end at the alignment.
    fn pad(&self, state: &mut State, reserve: u64) -> Result<()> {
        let Some(tail) = &state.tail else { return Ok(()) };
        let Some(header) = pad_header(tail.position(), reserve) else { return Ok(()) };
        self.put(state, &header.encode())?;
        self.put(state, &vec![0; header.stored_length as usize])
    }

    fn put_record(&self, state: &mut State, header: &RecordHeader, stored: &[u8]) -> Result<()> {
        self.put(state, &header.encode())?;
        self.put(state, stored)?;
        let fill = header.record_length() as usize - RecordHeader::SIZE - stored.len();
        self.put(state, &[0; RECORD_ALIGNMENT as usize][..fill])
    }

    /// Copies bytes to the end of the open segment.
    fn put(&self, state: &mut State, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let tail = state.tail.as_mut().expect("only an open segment is written");
            let room = &mut tail.buffer.bytes_mut()[tail.filled..];
            let count = bytes.len().min(room.len());
            room[..count].copy_from_slice(&bytes[..count]);
            tail.filled += count;
            bytes = &bytes[count..];
            if tail.filled == tail.buffer.bytes().len() {
                self.flush(state)?;
            }
        }
        Ok(())
    }

    /// Hands the buffer to the writer; its length must be a multiple of the alignment.
    fn flush(&self, state: &mut State) -> Result<()> {
        let Some(tail) = state.tail.as_mut().filter(|tail| tail.filled > 0) else { return Ok(()) };
        let buffer = std::mem::replace(&mut tail.buffer, self.buffer()?);
        let (offset, length) = (tail.buffer_offset, tail.filled);
        tail.buffer_offset += length as u64;
        tail.filled = 0;
        let (file, segment) = (tail.file.clone(), tail.segment);
        self.unwritten.fetch_add(length as u64, Ordering::Relaxed);
        self.send(Command::Write { file, segment, offset, buffer, length })
    }

    fn buffer(&self) -> Result<AlignedBuffer> {
        self.buffers.recv().map_err(|_| Error::Closing)
    }

    fn send(&self, command: Command) -> Result<()> {
        self.writer.send(command)
    }
}

/// Whether a record's content is what a file has there, byte for byte, and worth sharing.
fn is_shared(record: &NewRecord<'_>, from: usize) -> bool {
    let length = record.stored.len();
    let is_plain = record.kind == Kind::Block && record.codec == Codec::Stored;
    is_plain && length >= from && length.is_multiple_of(ALIGNMENT as usize)
}
