//! Collection: space of records that nobody needs is given back, beside running streams and reads.
//!
//! Mark from the roots ([`super::mark`]), then, segment by segment: copy what is live to the end of the log, make the copies
//! durable, let the index name them, forget the rest, unlink. Invariants: a segment is unlinked only when the index names nothing
//! in it, durably; a record is found dead and forgotten in one step that no stream can come between ([`super::live`]); what is
//! recorded of a removed point goes only after the segment with the point's record is durably gone; a segment that
//! is damaged, or has records of a later version, is left alone. Interrupted at any time, the pool is whole and the next collection
//! finds what is left. Memory: two bits a record at most, and the records of one segment.

use super::Pool;
use super::index::Location;
use super::log::{Epoch, Purpose};
use super::mark::Marker;
use super::record::{Place, Record};
use super::recovery;
use crate::error::{Error, Result, at};
use crate::locks::lock;
use std::collections::BTreeSet;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicBool, Ordering};
use understudy_format::Digest;
use understudy_format::segment::{FooterEntry, Kind, NewRecord};

/// Records that are forgotten in one step.
const STEP: usize = 512;

/// How a pool is collected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Segments of which more than this part is dead are compacted; 0 to 1.
    pub dead_max: f64,
    /// Whether nothing is to be changed, only told.
    pub dry_run: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { dead_max: 0.1, dry_run: false }
    }
}

/// What a collection did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Segments there were.
    pub segments: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Records that points need.
    pub live_records: u64,
    /// Bytes of them.
    pub live_bytes: u64,
    /// Digests that points need and the pool does not have.
    pub missing: u64,
    /// Segments that are gone.
    pub removed_segments: u64,
    /// Bytes of them.
    pub removed_bytes: u64,
    /// Bytes of records that were copied out of them.
    pub copied_bytes: u64,
    /// Segments that were left alone because of damage or of records of a later version.
    pub left_alone: u64,
}

/// A segment that may be compacted.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    segment: u64,
    bytes: u64,
    live: u64,
}

/// A block or page of a segment being compacted.
#[derive(Debug, Clone, Copy)]
struct Found {
    digest: Digest,
    kind: Kind,
    location: Location,
}

impl Pool {
    /// Gives back the space of what nobody needs. One collection runs at a time; `stop` ends it early.
    pub fn collect(&self, options: Options, stop: &AtomicBool) -> Result<Collected> {
        let _only = self.only_collection()?;
        let epoch = self.log.begin()?;
        let first_kept = self.log.seal_open(epoch)?;
        // So that what stands in sealed segments is durable and published.
        self.log.sync(epoch)?;
        self.live.begin_marks();
        let result = Collection { pool: self, epoch, stop, options, collected: Collected::default() }.run(first_kept);
        self.live.end_marks();
        result
    }

    fn only_collection(&self) -> Result<MutexGuard<'_, ()>> {
        let busy = || Error::Busy("space is being reclaimed already; try again when that is done".into());
        match self.collecting.try_lock() {
            Ok(guard) => Ok(guard),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => Err(busy()),
        }
    }
}

struct Collection<'a> {
    pool: &'a Pool,
    epoch: Epoch,
    stop: &'a AtomicBool,
    options: Options,
    collected: Collected,
}

impl Collection<'_> {
    fn run(mut self, first_kept: u64) -> Result<Collected> {
        let candidates = self.candidates(first_kept)?;
        if self.options.dry_run {
            return Ok(self.collected);
        }
        for candidate in candidates {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::Closing);
            }
            self.compact(candidate)?;
        }
        Ok(self.collected)
    }

    /// Marks, and returns the segments that are worth compacting: those that cost the least copying first.
    fn candidates(&mut self, first_kept: u64) -> Result<Vec<Candidate>> {
        // The roots are read after marking began: a stream that ends from now on leaves its pins with the marks.
        let (volumes, progress) = {
            let catalogue = crate::locks::read(&self.pool.catalogue);
            (catalogue.volumes(), catalogue.all_progress())
        };
        let mut marker = Marker::new(self.pool, self.stop);
        volumes.iter().try_for_each(|entry| marker.volume(entry))?;
        progress.iter().try_for_each(|progress| marker.progress(progress))?;
        self.collected.live_records = marker.records;
        self.collected.live_bytes = marker.live_bytes.values().sum();
        self.collected.missing = marker.missing;
        let mut candidates = Vec::new();
        for segment in self.pool.segments.list()? {
            let bytes = self.size(segment)?;
            let live = marker.live_bytes.get(&segment).copied().unwrap_or(0);
            self.collected.segments += 1;
            self.collected.bytes += bytes;
            let dead = bytes.saturating_sub(live) as f64;
            let worth_it = bytes == 0 || dead > self.options.dead_max * bytes as f64;
            if segment < first_kept && worth_it {
                candidates.push(Candidate { segment, bytes, live });
            }
        }
        candidates.sort_by_key(|candidate| candidate.live);
        Ok(candidates)
    }

    fn size(&self, segment: u64) -> Result<u64> {
        let path = self.pool.segments.path(segment);
        let file = self.pool.disk.open(&path, super::disk::Access::Read).map_err(at(&path))?;
        file.size().map_err(at(&path))
    }

    /// Empties a segment and removes it.
    fn compact(&mut self, candidate: Candidate) -> Result<()> {
        let segment = candidate.segment;
        let Some(entries) = recovery::records(&*self.pool.disk, &self.pool.segments, self.pool.uuid, segment)? else {
            tracing::warn!(segment, "damaged, or of a later version: its space is not reclaimed");
            self.collected.left_alone += 1;
            return Ok(());
        };
        let (mut live, mut dead) = self.find(segment, &entries)?;
        // Streams may come to rely on what was found dead, until it is forgotten: then that is copied as well.
        while !live.is_empty() || !dead.is_empty() {
            if !self.copy(&live)? {
                tracing::warn!(
                    segment,
                    "a record that is needed is damaged: the space of its segment is not reclaimed"
                );
                self.collected.left_alone += 1;
                return Ok(());
            }
            live = self.forget(&std::mem::take(&mut dead))?;
        }
        self.record_again(segment, &entries)?;
        self.remove(candidate)
    }

    /// The records that the index finds in a segment: those that are needed, and those that are not.
    fn find(&self, segment: u64, entries: &[FooterEntry]) -> Result<(Vec<Found>, Vec<Found>)> {
        let mut found = Vec::new();
        for entry in entries {
            let Some(kind @ (Kind::Block | Kind::Page)) = Kind::from_wire(entry.kind) else { continue };
            let place = Place { segment, offset: entry.offset };
            let here = |location: Option<Location>| location.filter(|location| location.place() == place);
            let location = match here(self.pool.index.get(&entry.digest)?) {
                None => here(self.pool.index.get_damaged(&entry.digest)?),
                found => found,
            };
            found.extend(location.map(|location| Found { digest: entry.digest, kind, location }));
        }
        Ok(found.into_iter().partition(|found| self.pool.live.is_live(&found.location)))
    }

    /// Copies records to the end of the log, durably; whether all of them could be read.
    fn copy(&mut self, records: &[Found]) -> Result<bool> {
        if records.is_empty() {
            return Ok(true);
        }
        for found in records {
            let Found { digest, kind, location } = *found;
            let (header, stored) = match self.pool.segments.stored(location, kind, digest) {
                Ok(record) => record,
                Err(Error::Damaged { .. }) => return Ok(false),
                Err(error) => return Err(error),
            };
            let codec = understudy_format::codec::Codec::from_wire(header.codec)?;
            let content_length = header.content_length;
            let record = NewRecord { kind, codec, digest, content_length, stored: &stored };
            let to = self.pool.log.copy(self.epoch, &record, location.place())?;
            self.pool.live.moved(&location, &to);
            self.collected.copied_bytes += record.length();
        }
        self.pool.log.sync(self.epoch)?;
        self.pool.index.sync()?;
        Ok(true)
    }

    /// Forgets dead records; returns those that streams have come to rely on.
    fn forget(&self, dead: &[Found]) -> Result<Vec<Found>> {
        let mut needed_now = Vec::new();
        for step in dead.chunks(STEP) {
            let _sweep = self.pool.live.sweep();
            let (needed, gone): (Vec<Found>, Vec<Found>) =
                step.iter().partition(|found| self.pool.live.is_live(&found.location));
            let gone: Vec<_> = gone.iter().map(|found| (found.digest, found.location.place())).collect();
            self.pool.index.forget(&gone)?;
            needed_now.extend(needed);
        }
        Ok(needed_now)
    }

    /// Appends again what counts of the catalogue and stands in a segment.
    fn record_again(&self, segment: u64, entries: &[FooterEntry]) -> Result<()> {
        let existing: BTreeSet<u64> =
            self.pool.segments.list()?.into_iter().filter(|other| *other != segment).collect();
        let _recording = lock(&self.pool.recording);
        for (record, place) in recovery::catalogue_records(&self.pool.segments, segment, entries)? {
            let current = self.pool.index.catalogue_entry(&record.key())?;
            if current.is_none_or(|(_, current)| current != place) {
                continue;
            }
            match self.counts(&record, &existing) {
                true => drop(self.pool.log.enter(self.epoch, record, Purpose::Upkeep)?),
                false => self.pool.index.forget_catalogue(&record)?,
            }
        }
        self.pool.log.sync(self.epoch)
    }

    /// Whether a record of the catalogue still says anything.
    fn counts(&self, record: &Record, existing: &BTreeSet<u64>) -> bool {
        match record {
            Record::Volume(_) | Record::Point(_) | Record::Settings(..) => true,
            Record::Removal(removal) => existing.contains(&removal.segment),
            Record::Protection(protection) => {
                protection.protected == 1 && self.pool.point(&protection.volume, protection.point).is_some()
            }
            Record::Progress(progress) => {
                let current = self.pool.progress(&progress.volume.name);
                current.is_some_and(|current| current.begin.stream == progress.begin.stream)
            }
        }
    }

    fn remove(&mut self, candidate: Candidate) -> Result<()> {
        let Candidate { segment, bytes, .. } = candidate;
        self.pool.index.sync()?;
        let (path, dir) = (self.pool.segments.path(segment), self.pool.segments.dir());
        self.pool.disk.remove(&path).map_err(at(&path))?;
        self.pool.disk.sync_dir(dir).map_err(at(dir))?;
        self.pool.segments.forget(segment);
        self.pool.live.forget(segment);
        // Not before: a segment that comes back after a loss of power must not be replayed.
        self.pool.index.forget_segment(segment)?;
        self.collected.removed_segments += 1;
        self.collected.removed_bytes += bytes;
        Ok(())
    }
}
