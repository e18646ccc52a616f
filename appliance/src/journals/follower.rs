//! Appending to the journal of a volume that is followed.
//!
//! Invariants: nothing is appended that is not the next entry, whole and within the volume; nothing counts before it is durable, and what
//! counts is known to all at once; after a write or a sync that failed, the file that it was for is never written to again.

use super::file::{FILE_SIZE, JournalFile, MarkSpan};
use super::shelf::{Journal, Shelf, extend};
use crate::error::{Error, Result, at};
use crate::locks::lock;
use crate::pool::Pool;
use crate::pool::disk::{Access, DiskFile};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use understudy_format::journal::{FileHeader, Order, entries};
use understudy_format::point::VolumeName;
use uuid::Uuid;

/// The file that is written to.
#[derive(Debug)]
struct Tail {
    known: Arc<JournalFile>,
    file: Arc<dyn DiskFile>,
    length: u64,
}

/// See the module documentation. While it exists the volume is followed.
#[derive(Debug)]
pub struct Follower {
    pool: Arc<Pool>,
    shelf: Arc<Mutex<Shelf>>,
    name: VolumeName,
    journal: Uuid,
    volume_size: u64,
    order: Order,
    tail: Option<Tail>,
}

/// What of a message is not there yet.
#[derive(Debug)]
struct Fresh {
    start: usize,
    created_ns: i64,
    order: Order,
    marks: MarkSpan,
}

impl Follower {
    pub(super) fn new(pool: Arc<Pool>, shelf: Arc<Mutex<Shelf>>, name: VolumeName, journal: &Journal) -> Self {
        let Journal { uuid, volume_size, order, .. } = *journal;
        Self { pool, shelf, name, journal: uuid, volume_size, order, tail: None }
    }

    /// Appends entries as they stand in a file, the first of which has this number; those that are there already are passed over.
    /// Returns the number up to which all is durable.
    pub fn append(&mut self, first: u64, bytes: &[u8]) -> Result<u64> {
        let Some(fresh) = self.check(first, bytes)? else { return Ok(self.durable()) };
        let bytes = &bytes[fresh.start..];
        self.pool.space().check(bytes.len() as u64)?;
        let appended = self.write(&fresh, bytes);
        if appended.is_err() {
            self.tail = None;
            let mut shelf = lock(&self.shelf);
            shelf.newest(&self.journal).iter_mut().for_each(|journal| journal.is_tail_over = true);
        }
        let is_new = appended?;
        self.publish(&fresh, is_new);
        Ok(self.durable())
    }

    /// The tap has nothing more, as of now.
    pub fn complete_as_of(&self, now_ns: i64) {
        lock(&self.shelf).follower.iter_mut().for_each(|follower| follower.complete_ns = now_ns);
    }

    /// The number up to which all is durable.
    pub fn durable(&self) -> u64 {
        self.order.next() - 1
    }

    /// Writes down how far the journal is acknowledged: so far nothing can be lost without notice.
    pub fn save(&self) -> Result<()> {
        let mut shelf = lock(&self.shelf);
        if let Some(entry) = self.pool.volume(&self.name) {
            shelf.state.volume = entry.volume.uuid;
        }
        shelf.save()
    }

    fn check(&self, first: u64, bytes: &[u8]) -> Result<Option<Fresh>> {
        let next = self.order.next();
        if !(1..=next).contains(&first) {
            let (name, journal) = (&self.name, self.journal);
            return Err(Error::refused(format!(
                "entries from {first} on cannot be appended to journal {journal} of volume {name}: the next one is {next}"
            )));
        }
        let (mut order, mut fresh, mut start) = (self.order, None, 0);
        for entry in entries(bytes, Order::new(self.volume_size, first, i64::MIN)) {
            let (entry, payload) = entry?;
            if entry.sequence == order.next() {
                order.take(&entry)?;
                let created_ns = entry.time_ns;
                let fresh = fresh.get_or_insert(Fresh { start, created_ns, order, marks: None });
                fresh.order = order;
                extend(&mut fresh.marks, &entry);
            }
            start = payload.end;
        }
        Ok(fresh)
    }

    /// Makes entries durable; whether in a new file.
    fn write(&mut self, fresh: &Fresh, bytes: &[u8]) -> Result<bool> {
        let tail = self.tail.take().map_or_else(|| self.open_tail(), |tail| Ok(Some(tail)))?;
        let full = FILE_SIZE.min(self.pool.space().segment_size());
        let (mut tail, is_new) = match tail.filter(|tail| tail.length < full) {
            Some(tail) => (tail, false),
            None => (self.begin_file(fresh.created_ns)?, true),
        };
        let path = tail.known.path.clone();
        tail.file.write_at(bytes, tail.length).map_err(at(&path))?;
        tail.file.sync().map_err(at(&path))?;
        if is_new {
            let dir = path.parent().unwrap_or(&path);
            self.pool.disk().sync_dir(dir).map_err(at(dir))?;
        }
        tail.length += bytes.len() as u64;
        self.tail = Some(tail);
        Ok(is_new)
    }

    /// The file that was written to last, when it can be written to.
    fn open_tail(&self) -> Result<Option<Tail>> {
        let known = {
            let mut shelf = lock(&self.shelf);
            let newest = shelf.newest(&self.journal).filter(|journal| !journal.is_tail_over);
            newest.and_then(|journal| journal.files.last().cloned())
        };
        let Some(known) = known else { return Ok(None) };
        let file = self.pool.disk().open(&known.path, Access::Write).map_err(at(&known.path))?;
        let length = known.bytes.load(Ordering::Relaxed);
        Ok(Some(Tail { known, file, length }))
    }

    fn begin_file(&self, created_ns: i64) -> Result<Tail> {
        if self.durable() > 0 {
            self.save()?;
        }
        let (journal, volume_size, first) = (self.journal, self.volume_size, self.order.next());
        let header = FileHeader { journal, volume_size, first, created_ns };
        let dir = lock(&self.shelf).dir.clone();
        let bytes = header.encode();
        let known = Arc::new(JournalFile::new(&dir, header, 0));
        let file = self.pool.disk().open(&known.path, Access::Write).map_err(at(&known.path))?;
        // What stands there was never acknowledged.
        file.resize(0).map_err(at(&known.path))?;
        file.write_at(&bytes, 0).map_err(at(&known.path))?;
        Ok(Tail { known, file, length: bytes.len() as u64 })
    }

    /// What is durable counts from now on.
    fn publish(&mut self, fresh: &Fresh, is_new: bool) {
        self.order = fresh.order;
        let tail = self.tail.as_ref().expect("just written to");
        tail.known.bytes.store(tail.length, Ordering::Relaxed);
        let mut shelf = lock(&self.shelf);
        let journal = shelf.newest(&self.journal).expect("only a follower ends the newest journal");
        if is_new {
            journal.turn(tail.known.clone());
        }
        journal.order = fresh.order;
        if let Some((oldest, newest)) = fresh.marks {
            journal.tail_marks = Some((journal.tail_marks.map_or(oldest, |(oldest, _)| oldest), newest));
        }
        shelf.follower.iter_mut().for_each(|follower| follower.complete_ns = fresh.order.time_ns());
    }
}

impl Journal {
    /// Goes on in another file.
    fn turn(&mut self, file: Arc<JournalFile>) {
        let marks = self.tail_marks.take();
        if let Some(last) = self.files.last() {
            last.marks.get_or_init(|| marks);
        }
        self.files.push(file);
        self.is_tail_over = false;
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        lock(&self.shelf).follower = None;
    }
}
