//! The journals of one volume: what is in its directory.
//!
//! Invariants: the newest journal is the last, and the only one that grows; the state is durable before a journal that it names has
//! an entry; after opening, what the last file of each journal has is durable, and ends with a whole entry.

use super::Mark;
use super::file::{JournalFile, MarkSpan, parse};
use super::scan::Scan;
use crate::error::{Error, Result, at};
use crate::pool::directory::make_durable;
use crate::pool::disk::{self, Access, Disk};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use understudy_format::follow::State;
use understudy_format::journal::{Change, Entry, Order, Position};
use understudy_format::point::VolumeName;
use uuid::Uuid;

const STATE: &str = "state";

/// Who follows a volume.
#[derive(Debug)]
pub(super) struct FollowedBy {
    /// For people.
    pub by: String,
    /// Up to when the journal is known to be complete here.
    pub complete_ns: i64,
}

/// One journal.
#[derive(Debug)]
pub(super) struct Journal {
    /// Its name.
    pub uuid: Uuid,
    /// Bytes of the volume.
    pub volume_size: u64,
    /// Its files, by their first entries.
    pub files: Vec<Arc<JournalFile>>,
    /// What the next entry must be like; all before are durable.
    pub order: Order,
    /// The marks of the last file.
    pub tail_marks: MarkSpan,
    /// Whether the last file must not be written to any more: nobody knows what a failed write left behind its end.
    pub is_tail_over: bool,
}

/// A file of a journal, as far as it counts.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// The file.
    pub file: Arc<JournalFile>,
    /// The number of its last entry; less than its first when it has none.
    pub last: u64,
    /// No entry of it is newer.
    pub end_ns: i64,
    /// Of the file that still grows.
    pub marks: Option<MarkSpan>,
}

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Shelf {
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
    pub state: State,
    pub journals: Vec<Journal>,
    pub follower: Option<FollowedBy>,
    /// Whether its role is being changed.
    pub is_switching: bool,
    /// Why nothing can be done with it but removing it.
    pub damage: Option<String>,
}

impl Shelf {
    /// One that has nothing yet, not even a directory.
    pub fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self {
            disk,
            dir,
            state: State::default(),
            journals: Vec::new(),
            follower: None,
            is_switching: false,
            damage: None,
        }
    }

    /// What is in a directory.
    pub fn open(disk: Arc<dyn Disk>, dir: PathBuf) -> Result<Self> {
        let mut own = Self::new(disk, dir);
        let path = own.dir.join(STATE);
        if let Some(bytes) = disk::read_all(&*own.disk, &path).map_err(at(&path))? {
            own.state = State::decode(&bytes).map_err(|reason| Error::Journal { path, reason })?;
        }
        let mut all: BTreeMap<Uuid, Vec<u64>> = BTreeMap::new();
        for (journal, first) in own.disk.list(&own.dir).map_err(at(&own.dir))?.iter().filter_map(|name| parse(name)) {
            all.entry(journal).or_default().push(first);
        }
        for (uuid, mut firsts) in all {
            firsts.sort_unstable();
            own.find(uuid, &firsts)?;
        }
        own.sort();
        own.check_acknowledged();
        own.disk.sync_dir(&own.dir).map_err(at(&own.dir))?;
        Ok(own)
    }

    /// What was acknowledged must be there.
    fn check_acknowledged(&mut self) {
        let Some(Position { journal, sequence }) = self.state.acknowledged else { return };
        if self.newest(&journal).is_none() {
            self.journals.push(Journal::new(journal, 0));
        }
        let ends = self.newest(&journal).map_or(0, |newest| newest.durable());
        if ends < sequence {
            tracing::error!(
                dir = %self.dir.display(), %journal, ends, acknowledged = sequence,
                "a journal is damaged: entries that were acknowledged are lost, and its tap has to synchronise the volume anew"
            );
        }
    }

    /// Of the newest journal: how much of this one was acknowledged at least.
    fn acknowledged(&self, journal: &Uuid) -> u64 {
        self.state.acknowledged.filter(|position| position.journal == *journal).map_or(0, |position| position.sequence)
    }

    fn sort(&mut self) {
        let newest = self.state.acknowledged.map(|position| position.journal);
        self.journals.sort_by_key(|journal| {
            (Some(journal.uuid) == newest, journal.files.first().map(|file| file.header.created_ns))
        });
    }

    fn find(&mut self, uuid: Uuid, firsts: &[u64]) -> Result<()> {
        let acknowledged = self.acknowledged(&uuid);
        let mut files = Vec::new();
        for first in firsts {
            match JournalFile::read(&*self.disk, &self.dir, &uuid, *first) {
                Ok(file) => files.push(Arc::new(file)),
                // It was being made when the power went, and nothing that stood in it was ever acknowledged.
                Err(Error::Format(_)) if Some(first) == firsts.last() && *first > acknowledged => {}
                Err(Error::Format(error)) => {
                    tracing::error!(dir = %self.dir.display(), journal = %uuid, first, %error, "a file of a journal is damaged");
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(newest) = files.last().cloned() {
            self.journals.push(Journal::recover(&*self.disk, files, &newest)?);
        }
        Ok(())
    }

    /// Fails while somebody follows the volume.
    pub fn check_alone(&self, name: &VolumeName) -> Result<()> {
        match &self.follower {
            None => Ok(()),
            Some(FollowedBy { by, .. }) => {
                Err(Error::Busy(format!("volume {name} is followed by the tap of {by}; stop that tap first")))
            }
        }
    }

    /// Fails while the volume is followed: one who comes again waits until it is known that he is gone, others do not have it.
    pub fn check_free(&self, name: &VolumeName, by: &str) -> Result<()> {
        match &self.follower {
            Some(other) if other.by == by => Err(Error::Busy(format!(
                "volume {name} is still followed for {by} with another journal; it is free when that tap is stopped, or \
                 half a minute after its end"
            ))),
            Some(other) => Err(Error::Refused(format!(
                "volume {name} is followed by the tap of {} already, and has one primary only; stop that tap first",
                other.by
            ))),
            None => Ok(()),
        }
    }

    /// Fails when nothing can be done with it.
    pub fn check_whole(&self) -> Result<()> {
        self.damage.as_ref().map_or(Ok(()), |damage| Err(Error::Refused(damage.clone())))
    }

    /// Makes `journal` the newest one; others that no point comes from (`is_used`) are of no use any more.
    pub fn begin(&mut self, journal: Uuid, size: u64, volume: Uuid, is_used: impl Fn(&Uuid) -> bool) -> Result<()> {
        self.check_whole()?;
        if !self.state.volume.is_nil() && self.state.volume != volume {
            // They are of a volume that had this name before.
            self.remove()?;
        }
        let is_newest = self.journals.last().is_some_and(|newest| newest.uuid == journal);
        if !is_newest && let Some(known) = self.journal(&journal) {
            let newest = self.journals.last().map(|newest| newest.uuid).unwrap_or_default();
            let text = format!("journal {} was closed when journal {newest} began: begin a new one", known.uuid);
            return Err(Error::Refused(text));
        }
        if let Some(known) = self.newest(&journal) {
            if known.files.is_empty() {
                *known = Journal::new(journal, size);
            }
            let known = known.volume_size;
            if known != size {
                let text = format!("journal {journal} is of a volume of {known} bytes, not of {size}: begin a new one");
                return Err(Error::Refused(text));
            }
        }
        if !is_newest {
            self.drop_journals(|uuid| !is_used(uuid))?;
            self.journals.push(Journal::new(journal, size));
        }
        self.state.volume = volume;
        self.save()
    }

    fn drop_journals(&mut self, is_useless: impl Fn(&Uuid) -> bool) -> Result<()> {
        let (gone, kept) = std::mem::take(&mut self.journals).into_iter().partition(|one| is_useless(&one.uuid));
        self.journals = kept;
        let gone: Vec<Journal> = gone;
        let mut files = gone.iter().flat_map(|journal| &journal.files);
        files.try_for_each(|file| self.disk.remove(&file.path).map_err(at(&file.path)))
    }

    /// Writes down what is known, with how far the newest journal is acknowledged.
    pub fn save(&mut self) -> Result<()> {
        let position = |newest: &Journal| Position { journal: newest.uuid, sequence: newest.durable() };
        self.state.acknowledged = self.journals.last().map(position);
        make_durable(&*self.disk, &self.dir).map_err(at(&self.dir))?;
        let path = self.dir.join(STATE);
        disk::replace(&*self.disk, &path, &self.state.encode()).map_err(at(&path))
    }

    /// A journal.
    pub fn journal(&self, uuid: &Uuid) -> Option<&Journal> {
        self.journals.iter().find(|journal| journal.uuid == *uuid)
    }

    /// The newest journal, when it is this one.
    pub fn newest(&mut self, uuid: &Uuid) -> Option<&mut Journal> {
        self.journals.last_mut().filter(|journal| journal.uuid == *uuid)
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.journals.iter().flat_map(|journal| &journal.files).map(|file| file.bytes.load(Ordering::Relaxed)).sum()
    }

    /// Forgets what [`super::Journals::trim`] removes.
    pub fn take_old(&mut self, folded: Position, keep_from_ns: i64) -> Vec<Arc<JournalFile>> {
        let newest = self.journals.last().map(|newest| newest.uuid);
        let mut gone = Vec::new();
        for journal in &mut self.journals {
            let is_newest = Some(journal.uuid) == newest;
            let through = match (journal.uuid == folded.journal, is_newest) {
                (true, _) => folded.sequence,
                (false, true) => 0,
                (false, false) => u64::MAX,
            };
            let runs = journal.runs();
            let is_old = |run: &&Run| run.last <= through && run.end_ns < keep_from_ns;
            let count =
                runs.iter().take(runs.len() - usize::from(is_newest && !runs.is_empty())).take_while(is_old).count();
            gone.extend(journal.files.drain(..count));
        }
        self.journals.retain(|journal| Some(journal.uuid) == newest || !journal.files.is_empty());
        gone
    }

    /// Removes everything, the state last.
    pub fn remove(&mut self) -> Result<()> {
        self.drop_journals(|_| true)?;
        self.state = State::default();
        let Ok(names) = self.disk.list(&self.dir) else { return Ok(()) };
        let (state, others): (Vec<_>, Vec<_>) = names.iter().partition(|name| *name == STATE);
        let mut all = others.into_iter().chain(state);
        all.try_for_each(|name| self.disk.remove(&self.dir.join(name)).map_err(at(&self.dir)))?;
        self.disk.remove_dir(&self.dir).map_err(at(&self.dir))?;
        let above = self.dir.parent().unwrap_or(&self.dir);
        self.disk.sync_dir(above).map_err(at(above))
    }
}

impl Journal {
    fn new(uuid: Uuid, volume_size: u64) -> Self {
        let order = Order::new(volume_size, 1, i64::MIN);
        Self { uuid, volume_size, files: Vec::new(), order, tail_marks: None, is_tail_over: false }
    }

    /// The number of the last entry.
    pub fn durable(&self) -> u64 {
        self.order.next() - 1
    }

    /// What its last file has as a whole; the rest is cut off.
    fn recover(disk: &dyn Disk, files: Vec<Arc<JournalFile>>, newest: &Arc<JournalFile>) -> Result<Self> {
        let mut scan = Scan::new(disk, newest, u64::MAX)?;
        let mut tail_marks = None;
        loop {
            match scan.next_whole() {
                Ok(Some((entry, _))) => extend(&mut tail_marks, &entry),
                Ok(None) | Err(Error::Format(_)) => break,
                Err(error) => return Err(error),
            }
        }
        let (end, order, size) = (scan.position(), scan.order(), scan.size());
        let file = disk.open(&newest.path, Access::Write).map_err(at(&newest.path))?;
        if size > end {
            tracing::info!(file = %newest.path.display(), bytes = size - end, "cutting off what was never acknowledged");
            file.resize(end).map_err(at(&newest.path))?;
            newest.bytes.store(end, Ordering::Relaxed);
        }
        // Who died may not have come to it.
        file.sync().map_err(at(&newest.path))?;
        let (uuid, volume_size) = (newest.header.journal, newest.header.volume_size);
        Ok(Self { uuid, volume_size, files, order, tail_marks, is_tail_over: false })
    }

    /// Its files, oldest first.
    pub fn runs(&self) -> Vec<Run> {
        let run = |(at, file): (usize, &Arc<JournalFile>)| match self.files.get(at + 1) {
            Some(next) => {
                let (last, end_ns) = (next.header.first - 1, next.header.created_ns);
                Run { file: file.clone(), last, end_ns, marks: None }
            }
            None => {
                let (last, end_ns, marks) = (self.durable(), self.order.time_ns(), Some(self.tail_marks));
                Run { file: file.clone(), last, end_ns, marks }
            }
        };
        self.files.iter().enumerate().map(run).collect()
    }
}

/// Counts an entry among the marks of a file.
pub(super) fn extend(marks: &mut MarkSpan, entry: &Entry) {
    if entry.change == Change::Mark {
        let mark = Mark { sequence: entry.sequence, time_ns: entry.time_ns };
        *marks = Some((marks.map_or(mark, |(oldest, _)| oldest), mark));
    }
}
