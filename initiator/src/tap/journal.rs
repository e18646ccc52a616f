//! The journal at the primary: what was written and is not yet durable at the appliance, in files.
//!
//! Entries are appended in memory ([`tail`]) and written in large pieces, by whoever calls [`Journal::write_out`], or by who appends when too much
//! waits; what was written lately is read from memory, anything else from its file ([`read`]). Invariants: a file is durable as a whole
//! before there is another one after it, so only the last one can have a torn end; a file is removed only when
//! all of its entries are durable elsewhere, or the journal is given up; files of the journal never are longer than its limit, together.

mod read;
mod tail;
#[cfg(test)]
mod tests;

use super::disk::{Directory, StateFile};
use super::lock;
pub use read::Batch;
use read::Cursor;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use tail::{Span, Tail};
use thiserror::Error;
use understudy_format::journal::{Change, FileHeader, JournalHeader, Order};
use understudy_format::layout::Layout;
use uuid::Uuid;

/// Bytes of a file, of a journal that may be long.
const FILE_BYTES: u64 = 64 << 20;
/// The least bytes of a file.
const FILE_BYTES_MIN: u64 = 64 << 10;
const SUFFIX: &str = ".journal";

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Journal {
    /// Its name.
    pub id: Uuid,
    limit: u64,
    directory: Arc<dyn Directory>,
    /// Where the next batch begins. Locked before `tail`.
    cursor: Mutex<Option<Cursor>>,
    /// The file that is written to, and its first entry. Locked before `tail`.
    writing: Mutex<Option<(u64, Arc<dyn StateFile>)>>,
    tail: Mutex<Tail>,
    /// There is another entry; who waits for that counts among `awaited`, and nobody is woken where nobody waits.
    appended: Condvar,
    awaited: AtomicUsize,
    /// There is another piece to be written.
    filled: Condvar,
}

/// Why an entry was not taken.
#[derive(Debug, Error)]
pub(super) enum Refusal {
    /// With it, the journal would be longer than its limit.
    #[error("full")]
    Full,
    /// It could not be written.
    #[error(transparent)]
    Failed(#[from] io::Error),
}

impl Journal {
    /// A new journal, whose files are `limit` bytes at most, together.
    pub fn begin(directory: Arc<dyn Directory>, id: Uuid, volume_size: u64, limit: u64, now_ns: i64) -> Self {
        Self::with(directory, id, limit, Order::new(volume_size, 1, now_ns), volume_size, Vec::new())
    }

    /// The journal that was closed after entry `last`, of `last_ns`.
    pub fn resume(
        directory: Arc<dyn Directory>,
        id: Uuid,
        volume_size: u64,
        limit: u64,
        (last, last_ns): (u64, i64),
    ) -> io::Result<Self> {
        let spans = spans(&*directory, id, volume_size)?;
        let journal = Self::with(directory, id, limit, Order::new(volume_size, last + 1, last_ns), volume_size, spans);
        journal.check_end(last)?;
        Ok(journal)
    }

    fn with(
        directory: Arc<dyn Directory>,
        id: Uuid,
        limit: u64,
        order: Order,
        volume_size: u64,
        spans: Vec<Span>,
    ) -> Self {
        let file_bytes = (limit / 4).clamp(FILE_BYTES_MIN, FILE_BYTES);
        let tail = Mutex::new(Tail::new(id, volume_size, file_bytes, order, spans));
        let (cursor, writing, appended, awaited, filled) = Default::default();
        Self { id, limit, directory, cursor, writing, tail, appended, awaited, filled }
    }

    /// Fails unless the files that were found end with entry `last`.
    fn check_end(&self, last: u64) -> io::Result<()> {
        let span = lock(&self.tail).spans().into_iter().rev().nth(1);
        let mut found = last;
        if let Some(span) = span {
            found = span.first - 1;
            self.walk(Cursor::at(&span), |batch| found = batch.through)?;
        }
        match found == last {
            true => Ok(()),
            false => Err(damaged(format!("the journal ends with entry {found}, and had {last} when it was closed"))),
        }
    }

    /// Calls `changed` with the range of each entry that is in the files of a journal which was not closed; tells the first entry of them.
    pub fn recover(
        directory: Arc<dyn Directory>,
        id: Uuid,
        volume_size: u64,
        changed: &mut dyn FnMut(Range<u64>),
    ) -> io::Result<Option<u64>> {
        let spans = spans(&*directory, id, volume_size)?;
        // Nothing is appended: what would be the next file is none of these.
        let next = spans.last().map_or(1, |span| span.first + 1);
        let journal = Self::with(directory, id, 0, Order::new(volume_size, next, 0), volume_size, spans.clone());
        for (index, span) in spans.iter().enumerate() {
            let mut through = span.first - 1;
            let walked = journal.walk(Cursor::at(span), |batch| {
                through = batch.through;
                batch.ranges().for_each(&mut *changed);
            });
            match spans.get(index + 1) {
                // What is torn of the last file was being written to the volume as well.
                None => break,
                Some(next) if walked.is_ok() && next.first == through + 1 => {}
                Some(next) => {
                    return Err(damaged(format!("entries {} to {} are damaged", through + 1, next.first - 1)));
                }
            }
        }
        // A file without a header has no entry, and yet says that all before it are elsewhere.
        Ok(firsts(&*journal.directory, id)?.first().copied())
    }

    /// Appends the next entry, and tells its number.
    pub fn append(&self, now_ns: i64, change: Change, payload: &[u8]) -> Result<u64, Refusal> {
        let (sequence, has_pieces, is_crowded) = {
            let mut tail = lock(&self.tail);
            if tail.bytes_with(&change) > self.limit {
                return Err(Refusal::Full);
            }
            (tail.append(now_ns, change, payload), tail.has_pieces(), tail.is_crowded())
        };
        if self.awaited.load(Ordering::SeqCst) > 0 {
            self.appended.notify_all();
        }
        if has_pieces {
            self.filled.notify_one();
        }
        if is_crowded {
            self.write_out()?;
        }
        Ok(sequence)
    }

    /// Whether who appends has to write now.
    pub fn is_crowded(&self) -> bool {
        lock(&self.tail).is_crowded()
    }

    /// Writes the pieces that are full.
    pub fn write_out(&self) -> io::Result<()> {
        self.write(&mut lock(&self.writing), false)
    }

    /// Makes all entries durable that were appended before.
    pub fn sync(&self) -> io::Result<()> {
        let mut writing = lock(&self.writing);
        self.write(&mut writing, true)?;
        writing.as_ref().map_or(Ok(()), |(_, file)| file.sync())
    }

    fn write(&self, writing: &mut Option<(u64, Arc<dyn StateFile>)>, all: bool) -> io::Result<()> {
        loop {
            let Some(part) = lock(&self.tail).unwritten(all) else { return Ok(()) };
            self.file(writing, part.file)?.write_at(&part.bytes, part.offset)?;
            lock(&self.tail).written(&part);
        }
    }

    /// The file that begins with an entry, which no other one is written to after.
    fn file(&self, writing: &mut Option<(u64, Arc<dyn StateFile>)>, first: u64) -> io::Result<Arc<dyn StateFile>> {
        match writing {
            Some((written, file)) if *written == first => return Ok(file.clone()),
            Some((_, before)) => before.sync()?,
            None => {}
        }
        let file = self.directory.open(&name(self.id, first))?;
        self.directory.sync()?;
        Ok(writing.insert((first, file)).1.clone())
    }

    /// The number of the last entry.
    pub fn last(&self) -> u64 {
        lock(&self.tail).last().0
    }

    /// The number of the last entry, and when it was written.
    pub fn end(&self) -> (u64, i64) {
        lock(&self.tail).last()
    }

    /// The number of the first entry that is here.
    pub fn first_kept(&self) -> u64 {
        lock(&self.tail).spans()[0].first
    }

    /// Waits until full pieces are to be written, or the journal ends: whether it goes on.
    pub fn wait_for_pieces(&self) -> bool {
        let idle = |tail: &mut Tail| !tail.is_ended && !tail.has_pieces();
        let waited = self.filled.wait_while(lock(&self.tail), idle);
        !waited.unwrap_or_else(PoisonError::into_inner).is_ended
    }

    /// Waits until there are entries after number `after`, the journal ends, or `timeout`.
    pub fn wait_for_entries(&self, after: u64, timeout: Duration) {
        let none = |tail: &mut Tail| !tail.is_ended && tail.last().0 <= after;
        let tail = lock(&self.tail);
        self.awaited.fetch_add(1, Ordering::SeqCst);
        drop(self.appended.wait_timeout_while(tail, timeout, none));
        self.awaited.fetch_sub(1, Ordering::SeqCst);
    }

    /// Nothing is appended any more: whoever waits goes on.
    pub fn end_waiting(&self) {
        lock(&self.tail).is_ended = true;
        self.appended.notify_all();
        self.filled.notify_all();
    }

    /// Removes the files of which all entries are at most `through`, but the newest that is there: after an unclean end that one says how
    /// far those went which are gone.
    pub fn forget(&self, through: u64) -> io::Result<()> {
        let writing = lock(&self.writing);
        let newest = writing.as_ref().map(|(first, _)| *first);
        let gone = lock(&self.tail).forget(through, newest);
        gone.iter().try_for_each(|first| self.directory.remove(&name(self.id, *first)))
    }
}

/// Removes the files of all journals but one.
pub(super) fn remove_all_but(directory: &dyn Directory, kept: Option<Uuid>) -> io::Result<()> {
    let names = directory.list()?;
    let is_kept = |name: &&String| parse(name).is_none_or(|(id, _)| Some(id) == kept);
    names.iter().filter(|name| !is_kept(name)).try_for_each(|name| directory.remove(name))?;
    directory.sync()
}

fn name(id: Uuid, first: u64) -> String {
    format!("{id}-{first:016x}{SUFFIX}")
}

fn parse(name: &str) -> Option<(Uuid, u64)> {
    let (id, first) = name.strip_suffix(SUFFIX)?.rsplit_once('-')?;
    Some((id.parse().ok()?, u64::from_str_radix(first, 16).ok()?))
}

/// The first entries of all files of a journal, ascending.
fn firsts(directory: &dyn Directory, id: Uuid) -> io::Result<Vec<u64>> {
    let names = directory.list()?;
    let own = names.iter().filter_map(|name| parse(name)).filter(|(of, _)| *of == id);
    let mut firsts: Vec<u64> = own.map(|(_, first)| first).collect();
    firsts.sort_unstable();
    Ok(firsts)
}

/// The files of a journal, ascending. The last one counts only when its header was written.
fn spans(directory: &dyn Directory, id: Uuid, volume_size: u64) -> io::Result<Vec<Span>> {
    let firsts = firsts(directory, id)?;
    let mut spans = Vec::new();
    for (index, first) in firsts.iter().enumerate() {
        let file = directory.open(&name(id, *first))?;
        match check_header(&*file, FileHeader { journal: id, volume_size, first: *first, created_ns: 0 }) {
            Ok(()) => spans.push(Span { first: *first, length: file.size()? }),
            Err(_) if index + 1 == firsts.len() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(spans.into_iter().filter(|span| span.length > JournalHeader::SIZE as u64).collect())
}

fn check_header(file: &dyn StateFile, expected: FileHeader) -> io::Result<()> {
    if file.size()? < JournalHeader::SIZE as u64 {
        return Err(damaged(format!("the file of entry {} has no header", expected.first)));
    }
    let mut bytes = [0; JournalHeader::SIZE];
    file.read_at(&mut bytes, 0)?;
    let found = FileHeader::decode(&bytes).map_err(|error| damaged(error.to_string()))?;
    match (FileHeader { created_ns: 0, ..found }) == expected {
        true => Ok(()),
        false => Err(damaged(format!("the file of entry {} is another one", expected.first))),
    }
}

fn damaged(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
