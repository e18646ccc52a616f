//! Compaction: what is live of a segment is copied to the end of the log, the rest is forgotten, the segment removed.
//!
//! In this order: copies are made durable, the index names them, the rest is forgotten, the segment is unlinked. Invariants: a segment
//! is unlinked only when the index names nothing in it, durably; a record is found dead and forgotten in one step that no
//! stream can come between ([`crate::pool::live`]); what is recorded of a removed point goes only after all segments with
//! the point's record are durably gone; a segment with a needed record that cannot be read, or with records of a later version, is
//! left alone. Interrupted at any time, the pool is whole and the next collection finds what is left.

use super::{Candidate, Collection};
use crate::error::{Error, Result, at};
use crate::locks::{self, lock};
use crate::pool::check::Target;
use crate::pool::index::Location;
use crate::pool::log::Purpose;
use crate::pool::record::{Place, Record};
use crate::pool::recovery::{self, Records};
use std::collections::BTreeSet;
use understudy_format::Digest;
use understudy_format::segment::{FooterEntry, Kind};

/// Records that are forgotten in one step.
const STEP: usize = 512;
/// Records of a segment that are looked up and copied together: memory of 10 MiB.
const PART: usize = 1 << 15;

impl Collection<'_> {
    /// Empties a segment and removes it, unless it is left alone.
    pub(super) fn compact(&mut self, candidate: Candidate) -> Result<()> {
        let segment = candidate.segment;
        let reason = match recovery::records(&*self.pool.disk, &self.pool.segments, self.pool.uuid, segment)? {
            Records::Later => "it has records of a later version",
            Records::Damaged if self.collected.missing > 0 => "it is damaged, and something is missing",
            Records::Damaged => match self.empty_damaged(segment)? {
                false => "a record that is needed is damaged",
                true => return self.remove(candidate),
            },
            Records::Whole(entries) => match self.empty(candidate, entries)? {
                false => "a record that is needed is damaged",
                true => return self.remove(candidate),
            },
        };
        tracing::warn!(segment, reason, "the space of a segment is not reclaimed");
        self.collected.left_alone += 1;
        Ok(())
    }

    /// Copies what is needed of a segment and forgets the rest; whether all that is needed could be read.
    fn empty(&mut self, candidate: Candidate, mut entries: Vec<FooterEntry>) -> Result<bool> {
        // Neighbours in the index are looked up, and forgotten, one after another, so that each of its pages is read once.
        entries.sort_unstable_by_key(|entry| entry.digest);
        let (mut found, mut all_read) = (0, true);
        for part in entries.chunks(PART) {
            let (live, dead) = self.find(candidate.segment, part)?;
            found += live.iter().map(|found| found.location.record_length()).sum::<u64>();
            all_read &= self.empty_part(live, dead)?;
        }
        // A segment that does not have what the index finds in it is not believed.
        Ok(all_read && found >= candidate.marked)
    }

    /// The same for a segment that does not tell what it has: what is needed of it is what the index names there.
    fn empty_damaged(&mut self, segment: u64) -> Result<bool> {
        let named = self.pool.index.find_in(segment, std::slice::from_ref(&(0..u64::MAX)))?;
        let damaged = self.pool.index.damaged()?.into_iter().filter(|(_, location)| location.segment == segment);
        let target = |(digest, location): (Digest, Location)| {
            Kind::from_wire(location.kind).map(|kind| Target { digest, kind, location })
        };
        let is_live = |found: &Target| self.pool.live.is_live(&found.location);
        let (live, dead) = named.into_iter().chain(damaged).filter_map(target).partition(is_live);
        self.empty_part(live, dead)
    }

    fn empty_part(&mut self, mut live: Vec<Target>, mut dead: Vec<Target>) -> Result<bool> {
        // Streams may come to rely on what was found dead, until it is forgotten: then that is copied as well.
        while !live.is_empty() || !dead.is_empty() {
            live.sort_unstable_by_key(|found| found.location.offset);
            if !self.copy(&live)? {
                return Ok(false);
            }
            live = self.forget(&std::mem::take(&mut dead))?;
        }
        Ok(true)
    }

    /// The records that the index finds in a segment: those that are needed, and those that are not.
    fn find(&self, segment: u64, entries: &[FooterEntry]) -> Result<(Vec<Target>, Vec<Target>)> {
        let (mut live, mut dead) = (Vec::new(), Vec::new());
        for entry in entries {
            let Some(kind @ (Kind::Block | Kind::Page)) = Kind::from_wire(entry.kind) else { continue };
            let place = Place { segment, offset: entry.offset };
            let here = |location: Option<Location>| location.filter(|location| location.place() == place);
            let location = match here(self.pool.index.get(&entry.digest)?) {
                None => here(self.pool.index.get_damaged(&entry.digest)?),
                found => found,
            };
            let Some(location) = location else { continue };
            let of = if self.pool.live.is_live(&location) { &mut live } else { &mut dead };
            of.push(Target { digest: entry.digest, kind, location });
        }
        Ok((live, dead))
    }

    /// Copies records to the end of the log, durably; whether all of them could be read.
    fn copy(&mut self, records: &[Target]) -> Result<bool> {
        let mut copies = Vec::with_capacity(records.len());
        let copied = records.iter().try_for_each(|found| self.copy_one(found).map(|to| copies.push((*found, to))));
        // Also when not all could be copied: the index comes to name those that were.
        self.switch(&copies)?;
        match copied {
            Ok(()) => Ok(true),
            Err(Error::Damaged { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn copy_one(&mut self, found: &Target) -> Result<Location> {
        let (header, stored) = self.pool.segments.stored(found.location, found.kind, found.digest)?;
        let (to, added) = self.pool.append_copy(self.epoch, found, &header, &stored)?;
        self.collected.copied_bytes += added;
        Ok(to)
    }

    /// Makes copies durable; from then on the index names them, and streams rely on them.
    fn switch(&self, copies: &[(Target, Location)]) -> Result<()> {
        if copies.is_empty() {
            return Ok(());
        }
        self.pool.log.sync(self.epoch)?;
        for step in copies.chunks(STEP) {
            // A stream that found the original has pinned it by now, and whoever looks from now on finds the copy.
            let _sweep = self.pool.live.sweep();
            step.iter().for_each(|(found, to)| self.pool.live.moved(&found.location, to));
        }
        let originals: Vec<_> = copies.iter().map(|(found, _)| (found.digest, found.location.place())).collect();
        self.pool.index.forget_damaged(&originals)?;
        self.pool.index.sync()
    }

    /// Forgets dead records; returns those that streams have come to rely on.
    fn forget(&self, dead: &[Target]) -> Result<Vec<Target>> {
        let mut needed_now = Vec::new();
        for step in dead.chunks(STEP) {
            let _sweep = self.pool.live.sweep();
            let (needed, gone): (Vec<Target>, Vec<Target>) =
                step.iter().partition(|found| self.pool.live.is_live(&found.location));
            let gone: Vec<_> = gone.iter().map(|found| (found.digest, found.location.place())).collect();
            self.pool.index.forget(&gone)?;
            needed_now.extend(needed);
        }
        Ok(needed_now)
    }

    /// Appends again what counts of the catalogue and stands in a segment, as the index knows it.
    fn record_again(&mut self, segment: u64) -> Result<()> {
        let mut existing: BTreeSet<u64> = self.pool.segments.list()?.into_iter().collect();
        existing.remove(&segment);
        let _recording = lock(&self.pool.recording);
        for key in self.catalogue.remove(&segment).unwrap_or_default() {
            let current = self.pool.index.catalogue_entry(&key)?.filter(|(_, place)| place.segment == segment);
            let Some((record, _)) = current else { continue };
            match self.counts(&record, &existing)? {
                true => self.pool.log.enter(self.epoch, record, Purpose::Upkeep)?,
                false => self.pool.index.forget_catalogue(&record)?,
            }
        }
        self.pool.log.sync(self.epoch)
    }

    /// Whether a record of the catalogue still says anything that an older one in these segments does not.
    pub(super) fn counts(&self, record: &Record, existing: &BTreeSet<u64>) -> Result<bool> {
        Ok(match record {
            Record::Volume(_) | Record::Point(_) | Record::Settings(..) => true,
            Record::Removal(removal) => {
                existing.contains(&removal.segment)
                    || self.pool.index.segments_with(record)?.iter().any(|segment| existing.contains(segment))
                    || locks::read(&self.pool.catalogue).is_last(removal)
            }
            // Also one that ends a protection: the one before it may stand in an older segment.
            Record::Protection(protection) => self.pool.point(&protection.volume, protection.point).is_some(),
            Record::Progress(progress) => {
                let current = self.pool.progress(&progress.volume.name);
                current.is_some_and(|current| current.begin.stream == progress.begin.stream)
            }
        })
    }

    fn remove(&mut self, candidate: Candidate) -> Result<()> {
        let Candidate { segment, bytes, .. } = candidate;
        self.record_again(segment)?;
        self.pool.index.sync()?;
        let (path, dir) = (self.pool.segments.path(segment), self.pool.segments.dir());
        self.pool.disk.remove(&path).map_err(at(&path))?;
        if let Err(error) = self.pool.disk.sync_dir(dir).map_err(at(dir)) {
            // It may come back, and a second sync would hide that.
            self.pool.log.give_up(&error);
            return Err(error);
        }
        self.pool.segments.forget(segment);
        self.pool.live.forget(segment);
        // Not before: a segment that comes back after a loss of power must not be replayed.
        self.pool.index.forget_segment(segment)?;
        self.pool.index.forget_points(self.points.remove(&segment).unwrap_or_default())?;
        self.collected.removed_segments += 1;
        self.collected.removed_bytes += bytes;
        Ok(())
    }
}
