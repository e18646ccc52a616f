//! What is written, and made durable.
//!
//! Invariants: a range is claimed, its extents are active and its entry is in the journal before the volume is written to; a mark comes after
//! all that returned before its flush was asked for. Only the volume fails a write or a flush.

use super::super::bits::Bits;
use super::super::journal::Refusal;
use super::*;
use std::ops::Range;
use understudy_format::journal::{Change, WRITE_MAX};

/// Between two checkpoints, nanoseconds, at least.
const CHECKPOINT_NS: i64 = 10_000_000_000;

/// The longest write that is worth less than waking a thread for it, bytes.
const QUICK_MAX: usize = 64 << 10;

/// A mark: its journal, and its number in it.
pub type Mark = Position;

/// What the last flush did.
#[derive(Debug)]
pub(super) struct Flushed {
    /// The last ticket that it was for.
    through: u64,
    mark: Option<Mark>,
    /// When extents were cleared last.
    checkpoint_ns: i64,
}

impl Flushed {
    /// Nothing was flushed yet; the first checkpoint is due in a while.
    pub fn none(now_ns: i64) -> Self {
        Self { through: 0, mark: None, checkpoint_ns: now_ns }
    }
}

impl Core {
    /// Writes bytes, at least one.
    pub fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let range = offset..offset + data.len() as u64;
        let _claim = self.claims.take(range.clone());
        self.write_claimed(&range, data)
    }

    fn write_claimed(&self, range: &Range<u64>, data: &[u8]) -> io::Result<()> {
        self.prepare(range)?;
        for (index, part) in data.chunks(WRITE_MAX as usize).enumerate() {
            let offset = range.start + index as u64 * WRITE_MAX;
            self.record(Change::Write { offset, length: part.len() as u64 }, part);
        }
        self.parts.volume.write_at(data, range.start).map_err(|error| self.volume_failed(error))
    }

    /// [`Core::write`], when nothing has to be waited for but the memory of this machine; `None` otherwise.
    pub fn write_now(&self, offset: u64, data: &[u8]) -> Option<io::Result<()>> {
        let range = offset..offset + data.len() as u64;
        let is_quick = data.len() <= QUICK_MAX
            && self.read().is_kept
            && !self.journal().is_some_and(|journal| journal.is_crowded())
            && self.active.touch_now(&range);
        let _claim = is_quick.then(|| self.claims.take_now(range.clone())).flatten()?;
        Some(self.write_claimed(&range, data))
    }

    /// Makes a range read as zeros, of one byte at least; its storage stays allocated when `keep` says so.
    pub fn zero(&self, offset: u64, length: u64, keep: bool) -> io::Result<()> {
        self.clear(Change::Zero { offset, length }, offset..offset + length, keep)
    }

    /// Gives a range back, of one byte at least: it reads as zeros.
    pub fn trim(&self, offset: u64, length: u64) -> io::Result<()> {
        self.clear(Change::Trim { offset, length }, offset..offset + length, false)
    }

    fn clear(&self, change: Change, range: Range<u64>, keep: bool) -> io::Result<()> {
        let _claim = self.claims.take(range.clone());
        self.prepare(&range)?;
        self.record(change, &[]);
        let zeroed = self.parts.volume.zero(range.start, range.end - range.start, keep);
        zeroed.map_err(|error| self.volume_failed(error))
    }

    /// A claimed range is going to be written.
    fn prepare(&self, range: &Range<u64>) -> io::Result<()> {
        let is_kept = self.check_open()?;
        if let (true, Err(error)) = (is_kept, self.active.touch(range)) {
            self.fall(Reason::StateFailed(error.to_string()));
        }
        Ok(())
    }

    /// Fails when the tap is closed; tells whether the state directory is kept.
    fn check_open(&self) -> io::Result<bool> {
        let place = self.read();
        if place.is_closed { Err(closed()) } else { Ok(place.is_kept) }
    }

    /// A change becomes the next entry of the journal, or makes its blocks dirty.
    fn record(&self, change: Change, payload: &[u8]) -> Option<Mark> {
        match self.append(change, payload) {
            Ok(mark) => mark,
            Err((journal, refusal)) => {
                self.fall_from(
                    &journal,
                    match refusal {
                        Refusal::Full => Reason::Limit(self.parts.journal_max),
                        Refusal::Failed(error) => Reason::JournalFailed(error.to_string()),
                    },
                );
                None
            }
        }
    }

    fn append(&self, change: Change, payload: &[u8]) -> Result<Option<Mark>, (Arc<Journal>, Refusal)> {
        let now_ns = self.parts.clock.now_ns();
        let place = self.read();
        let appended = place.journal.as_ref().map(|journal| (journal, journal.append(now_ns, change, payload)));
        if let (Some((offset, length)), false) =
            (change.range(), place.phase == Phase::Following && matches!(appended, Some((_, Ok(_)))))
        {
            self.dirty.insert(offset..offset + length);
        }
        match appended {
            None => Ok(None),
            Some((journal, Ok(sequence))) => Ok(Some(Mark { journal: journal.id, sequence })),
            Some((journal, Err(refusal))) => Err((journal.clone(), refusal)),
        }
    }

    /// What is being written to the volume is uncertain.
    fn volume_failed(&self, error: io::Error) -> io::Error {
        self.active.ranges().into_iter().for_each(|range| self.dirty.insert(range));
        self.fall(Reason::VolumeFailed(error.to_string()));
        error
    }

    /// Makes durable here whatever returned before; tells the mark of it, when there is a journal.
    pub fn flush(&self) -> io::Result<Option<Mark>> {
        let ticket = self.tickets.fetch_add(1, Ordering::SeqCst) + 1;
        let mut flushed = lock(&self.flushing);
        if flushed.through >= ticket {
            // One that began after this was asked for.
            return Ok(flushed.mark);
        }
        self.check_open()?;
        let through = self.tickets.load(Ordering::SeqCst);
        let checkpoint = self.begin_checkpoint(&mut flushed);
        let mark = self.record(Change::Mark, &[]);
        let synced = self.sync();
        self.end_checkpoint(checkpoint, synced.is_ok());
        synced?;
        (flushed.through, flushed.mark) = (through, mark);
        Ok(mark)
    }

    fn sync(&self) -> io::Result<()> {
        if let Some(journal) = self.journal()
            && let Err(error) = journal.sync()
        {
            self.fall_from(&journal, Reason::JournalFailed(error.to_string()));
        }
        self.parts.volume.sync().map_err(|error| self.volume_failed(error))
    }

    /// Begins a checkpoint, when it is time for one.
    fn begin_checkpoint(&self, flushed: &mut Flushed) -> Option<Bits> {
        let now_ns = self.parts.clock.now_ns();
        if now_ns.saturating_sub(flushed.checkpoint_ns).abs() < CHECKPOINT_NS {
            return None;
        }
        flushed.checkpoint_ns = now_ns;
        Some(self.active.begin(&self.claims))
    }

    /// Extents are cleared only when what was written to them is durable, or known to be dirty.
    fn end_checkpoint(&self, checkpoint: Option<Bits>, is_synced: bool) {
        let Some(before) = checkpoint else { return };
        if !is_synced || !self.read().is_kept {
            return self.active.give_up(&before);
        }
        let ended = self.dirty.store().and_then(|()| self.active.finish(&before));
        if let Err(error) = ended {
            self.active.give_up(&before);
            self.fall(Reason::StateFailed(error.to_string()));
        }
    }

    /// Returns when all up to a mark is durable at the appliance, where a point of the volume can be made with it, however long that takes.
    /// Before there is a first point, that is as soon as it has the mark.
    pub fn wait_until_there(&self, mark: Option<Mark>) -> io::Result<()> {
        let mut waiting = lock(&self.progress.0);
        loop {
            if self.is_there(mark)? {
                return Ok(());
            }
            waiting = self.progress.1.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn is_there(&self, mark: Option<Mark>) -> io::Result<bool> {
        let has_point = self.has_point.load(Ordering::SeqCst);
        let place = self.read();
        if place.is_closed {
            return Err(closed());
        }
        let Some(journal) = &place.journal else { return Ok(false) };
        let of_this = mark.filter(|mark| mark.journal == journal.id);
        let is_durable = of_this.is_none_or(|mark| self.durable.load(Ordering::SeqCst) >= mark.sequence);
        Ok(is_durable && (place.phase == Phase::Following || !has_point))
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the tap is closed")
}
