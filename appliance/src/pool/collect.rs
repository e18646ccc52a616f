//! Collection: space of records that nobody needs is given back, beside running streams and reads.
//!
//! Mark from the roots ([`super::mark`]), choose the segments that are mostly dead, and compact one after another
//! ([`compact`]). Many small ones become one. Invariants: what is appended from the sealing of the open segment on is in no candidate; a
//! segment that was just compacted is not compacted again. Memory: two bits a record at most, and the records of one segment.

mod compact;

use super::Pool;
use super::log::Epoch;
use super::mark::{Marker, Share};
use crate::error::{Error, Result, at};
use crate::locks;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicBool, Ordering};
use understudy_format::layout::Layout;
use understudy_format::segment::{ALIGNMENT, FooterEntry, RECORD_ALIGNMENT, RecordHeader, SegmentHeader, Trailer};

/// What is not worth compacting, bytes: the pads of a segment that was just compacted.
const PADS_BYTES: u64 = 3 * ALIGNMENT;

/// A segment is small below this part of the size at which one is sealed, ...
const SMALL: u64 = 16;
/// ... and so many small ones become one: each collection seals the one that is open, however little is in it.
const SMALL_MAX: usize = 8;

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
    /// Bytes of the records that the index found there for a point.
    marked: u64,
    /// Bytes of these and of the records of the catalogue that count.
    live: u64,
}

/// Bytes of a segment that has just these records.
fn compacted(share: Share) -> u64 {
    let fixed = SegmentHeader::SIZE + RecordHeader::SIZE + Trailer::SIZE;
    (fixed as u64 + share.bytes + share.records * FooterEntry::SIZE as u64).next_multiple_of(ALIGNMENT)
}

impl Pool {
    /// Gives back the space of what nobody needs. One collection runs at a time; `stop` ends it early.
    pub fn collect(&self, options: Options, stop: &AtomicBool) -> Result<Collected> {
        let _only = self.only_collection()?;
        let epoch = self.log.begin()?;
        // A dry run leaves the open segment open: it removes nothing of it anyway.
        let first_kept = if options.dry_run { 0 } else { self.log.seal_open(epoch)? };
        // So that what stands in sealed segments is durable and published.
        self.log.sync(epoch)?;
        self.live.begin_marks();
        let (collected, catalogue, points) = Default::default();
        let result = Collection { pool: self, epoch, stop, options, collected, catalogue, points }.run(first_kept);
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
    /// What counts of the catalogue, by the segment where it stood when the segments were chosen: it is none of these that
    /// what is recorded later stands in.
    catalogue: BTreeMap<u64, Vec<Vec<u8>>>,
    /// See [`super::index::Index::points_by_segment`].
    points: BTreeMap<u64, Vec<Vec<u8>>>,
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
            let catalogue = locks::read(&self.pool.catalogue);
            (catalogue.volumes(), catalogue.all_progress())
        };
        let mut marker = Marker::new(self.pool, self.stop);
        volumes.iter().try_for_each(|entry| marker.volume(entry))?;
        progress.iter().try_for_each(|progress| marker.progress(progress))?;
        self.collected.live_records = marker.live.values().map(|share| share.records).sum();
        self.collected.live_bytes = marker.live.values().map(|share| share.bytes).sum();
        self.collected.missing = marker.missing;
        self.choose(&marker.live, first_kept)
    }

    fn choose(&mut self, marked: &BTreeMap<u64, Share>, first_kept: u64) -> Result<Vec<Candidate>> {
        let segments = self.pool.segments.list()?;
        self.points = self.pool.index.points_by_segment()?;
        let all = self.with_catalogue(marked, &segments.iter().copied().collect())?;
        let share = |of: &BTreeMap<u64, Share>, segment: u64| of.get(&segment).copied().unwrap_or_default();
        let (mut candidates, mut small) = (Vec::new(), Vec::new());
        for segment in segments {
            let (bytes, live) = (self.size(segment)?, share(&all, segment));
            self.collected.segments += 1;
            self.collected.bytes += bytes;
            let candidate = Candidate { segment, bytes, marked: share(marked, segment).bytes, live: live.bytes };
            match () {
                () if segment >= first_kept => {}
                () if self.is_worth_it(bytes, live) => candidates.push(candidate),
                () if bytes < self.pool.log.segment_size() / SMALL => small.push(candidate),
                () => {}
            }
        }
        if small.len() >= SMALL_MAX {
            candidates.append(&mut small);
        }
        candidates.sort_by_key(|candidate| candidate.live);
        Ok(candidates)
    }

    fn is_worth_it(&self, bytes: u64, live: Share) -> bool {
        let dead = bytes.saturating_sub(compacted(live));
        live.records == 0 || dead > PADS_BYTES && dead as f64 > self.options.dead_max * bytes as f64
    }

    /// What is live of each segment, with the records of the catalogue that count.
    fn with_catalogue(
        &mut self,
        marked: &BTreeMap<u64, Share>,
        existing: &BTreeSet<u64>,
    ) -> Result<BTreeMap<u64, Share>> {
        let mut all = marked.clone();
        for (record, place) in self.pool.index.catalogue()? {
            self.catalogue.entry(place.segment).or_default().push(record.key());
            if self.counts(&record, existing)? {
                let length = RecordHeader::SIZE as u64 + record.encode().len() as u64;
                all.entry(place.segment).or_default().add(length.next_multiple_of(RECORD_ALIGNMENT));
            }
        }
        Ok(all)
    }

    fn size(&self, segment: u64) -> Result<u64> {
        let path = self.pool.segments.path(segment);
        let file = self.pool.disk.open(&path, super::disk::Access::Read).map_err(at(&path))?;
        file.size().map_err(at(&path))
    }
}
