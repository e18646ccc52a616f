//! `pool check`: reads a pool at rest and proves every promise that can be proved of it.
//!
//! The way of the check: the pool file and the lock; every [`segment`] from front to back (each record's checksums
//! and digest, footers, trailers, the torn tail); the catalogue of volumes and points; the map of each point
//! ([`Walk`]); the secondaries; the scratch overlays; the journals. Segments may be missing in the sequence of numbers and content may be stored more
//! than once: that is what collecting leaves behind. Invariants: nothing is opened for writing, and the lock is only
//! shared; memory is bounded by the number of unique digests ([`Known`]) and does not grow with volumes, points or files.

use super::catalogue::{Catalogue, Contents, Entry};
use super::findings::Findings;
use super::known::{Known, PageReader, segment_name};
use super::report::{Damage, Report, VolumeLine};
use super::secondaries::Look;
use super::segment::{self, Found, Scan, record_bytes};
use super::walk::Walk;
use super::{identity, journals, look, overlays, segment_numbers};
use crate::args::Check;
use crate::outcome::Outcome;
use crate::text::{bytes, plural};
use anyhow::{Context, bail};
use std::collections::{BTreeSet, HashSet};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use understudy_format::Digest;
use understudy_format::segment::Kind;
use uuid::Uuid;

/// Segments that are read at the same time: reading waits for the disk, digests for a core.
const READERS: usize = 2;

/// Runs the command.
pub fn run(args: &Check, out: &mut impl Write) -> anyhow::Result<Outcome> {
    let report = check(&args.dir, args.live)?;
    report.print(args.json, out)?;
    Ok(if report.is_sound() { Outcome::Done } else { Outcome::Failed })
}

/// Checks a pool; fails only when it is none, is in use, or cannot be read.
pub fn check(dir: &Path, live: bool) -> anyhow::Result<Report> {
    let pool = identity(dir)?;
    let _lock = look(dir, live)?;
    let mut check = Checking {
        dir,
        pool,
        live,
        report: Report { pool: pool.to_string(), ..Report::default() },
        ..Checking::new(dir)
    };
    check.segments()?;
    let mut contents = std::mem::take(&mut check.catalogue).contents(&check.numbers);
    check.report.damages.append(&mut contents.damages);
    check.report.notes.append(&mut contents.notes);
    check.points(&mut contents.entries);
    check.streams(&contents);
    check.secondaries(&contents)?;
    check.overlays(&contents)?;
    check.journals()?;
    check.count(&contents);
    check.was_it_all_there()?;
    Ok(check.report)
}

struct Checking<'a> {
    dir: &'a Path,
    pool: Uuid,
    live: bool,
    known: Known,
    reader: PageReader,
    catalogue: Catalogue,
    /// Segments that were read.
    numbers: BTreeSet<u64>,
    /// Records of the catalogue that are whole: a damaged copy of one is missed by nobody.
    whole: HashSet<Digest>,
    bad: Vec<Bad>,
    /// Bytes of all records.
    record_bytes: u64,
    report: Report,
}

/// A damaged record.
struct Bad {
    digest: Digest,
    segment: u64,
    offset: u64,
    is_stored: bool,
    reason: String,
}

impl<'a> Checking<'a> {
    fn new(dir: &'a Path) -> Self {
        Self {
            dir,
            pool: Uuid::nil(),
            live: false,
            known: Known::default(),
            reader: PageReader::new(&dir.join("segments")),
            catalogue: Catalogue::default(),
            numbers: BTreeSet::new(),
            whole: HashSet::new(),
            bad: Vec::new(),
            record_bytes: 0,
            report: Report::default(),
        }
    }

    /// Reads all segments; what a running daemon makes out of those that it collects meanwhile is read as well.
    fn segments(&mut self) -> anyhow::Result<()> {
        loop {
            let (numbers, strangers) = segment_numbers(self.dir)?;
            if self.numbers.is_empty() {
                let note = |name| format!("segments/{name} is no segment; it is passed over");
                self.report.notes.extend(strangers.into_iter().map(note));
            }
            let new: Vec<u64> = numbers.into_iter().filter(|number| !self.numbers.contains(number)).collect();
            self.read(&new)?;
            let vanished = new.iter().any(|number| !self.numbers.contains(number));
            if !vanished {
                return Ok(());
            }
        }
    }

    /// Reads segments, a few at a time.
    fn read(&mut self, numbers: &[u64]) -> anyhow::Result<()> {
        let (dir, pool, live, next) = (self.dir.join("segments"), self.pool, self.live, AtomicUsize::new(0));
        let own = Mutex::new(self);
        let read = || -> anyhow::Result<()> {
            while let Some(number) = numbers.get(next.fetch_add(1, Ordering::SeqCst)) {
                let path = dir.join(segment_name(*number));
                match segment::scan(&path, *number, pool) {
                    Err(error) if live && error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
                    Ok(scan) => own.lock().expect("no reader panicked").take(*number, scan),
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(read)).collect();
            readers.into_iter().try_for_each(|reader| reader.join().expect("a reader does not panic"))
        })
    }

    /// Takes what was found in a segment.
    fn take(&mut self, segment: u64, scan: Scan) {
        self.numbers.insert(segment);
        let summary = &mut self.report.summary;
        summary.segments += 1;
        summary.sealed_segments += u64::from(scan.sealed);
        summary.bytes += scan.length;
        summary.records += scan.records.len() as u64;
        summary.unacknowledged_bytes += scan.unacknowledged;
        self.record_bytes += scan.records.iter().map(Found::bytes).sum::<u64>();
        if scan.unacknowledged > 0 {
            let tail = bytes(scan.unacknowledged);
            self.report.notes.push(format!("segment {segment} ends with {tail} that were never acknowledged"));
        }
        let damages = scan.damages.iter();
        let damages = damages.map(|(offset, reason)| Damage::in_segment("segment", segment, *offset, reason));
        self.report.damages.extend(damages);
        scan.records.iter().for_each(|found| self.record(segment, found));
    }

    fn record(&mut self, segment: u64, found: &Found) {
        let (digest, offset) = (found.entry.digest, found.entry.offset);
        let is_stored = matches!(found.kind(), Some(Kind::Block | Kind::Page));
        if is_stored {
            self.known.insert(segment, found);
        }
        match &found.damage {
            Some(damage) => self.bad.push(Bad { digest, segment, offset, is_stored, reason: damage.to_string() }),
            None if is_stored => {}
            None => {
                self.whole.insert(digest);
                self.report.damages.extend(self.catalogue.insert(segment, found));
            }
        }
    }

    /// A damaged record that has a good copy, or that nobody names any more, hurts nobody; any other is damage.
    fn judge_bad(&mut self) {
        let (mut copied, mut unnamed) = (0, 0);
        for bad in std::mem::take(&mut self.bad) {
            let Bad { digest, segment, offset, is_stored, reason } = bad;
            if self.known.has_good(&digest) || self.whole.contains(&digest) {
                copied += 1;
            } else if is_stored && self.known.get(&digest).is_some_and(|place| !place.is_used) {
                unnamed += 1;
                self.report.notes.push(format!("segment {segment} at {offset}, which nobody names: {reason}"));
            } else {
                let damage = Damage::in_segment("record", segment, offset, &format!("{reason} (digest {digest})"));
                self.report.damages.push(Damage { digest: Some(digest.to_string()), ..damage });
            }
        }
        let mut note = |count: u64, what: &str| {
            let records = plural(count, "damaged record");
            (count > 0).then(|| self.report.notes.push(format!("{records} {what}")));
        };
        note(copied, "with a good copy elsewhere: nothing is hurt");
        note(unnamed, "that nobody names: nothing is hurt");
        // Readers took the segments in any order.
        self.report.damages.sort_by_key(|damage| (damage.segment.is_none(), damage.segment, damage.offset));
        self.report.notes.sort();
    }

    /// Walks the map of every point.
    fn points(&mut self, entries: &mut [Entry]) {
        for entry in entries {
            let mut findings = Findings::default();
            for held in entry.points.iter_mut().rev() {
                let troubles = Walk::troubles(&mut self.known, &mut self.reader, &held.point.map);
                held.is_troubled = !troubles.is_empty();
                troubles.into_iter().for_each(|trouble| findings.add(held.point.number, trouble));
            }
            self.report.damages.extend(findings.damages(entry));
        }
    }

    /// Walks what cut streams have built of their maps. A stream that cannot go on is sent again: no promise is broken.
    fn streams(&mut self, contents: &Contents) {
        for progress in &contents.progress {
            let geometry = progress.begin.geometry;
            let troubles = Walk::partial(&mut self.known, &mut self.reader, geometry, &progress.map);
            let (name, next) = (&progress.volume.name, progress.next_block());
            self.report.notes.push(match troubles.first() {
                None => format!("a stream of volume {name} was cut and may go on at block {next}"),
                Some(first) => format!(
                    "a stream of volume {name} was cut at block {next} and cannot go on: block {}: {} {}",
                    first.first, first.digest, first.reason
                ),
            });
        }
    }

    fn secondaries(&mut self, contents: &Contents) -> anyhow::Result<()> {
        for entry in &contents.entries {
            let seen = self.look(contents).at(entry)?;
            let summary = &mut self.report.summary;
            summary.settled_secondaries += u64::from(seen.is_settled);
            summary.unsettled_secondaries += u64::from(!seen.is_settled);
            self.report.damages.extend(seen.damage);
            let newest = entry.newest();
            self.report.volumes.push(VolumeLine {
                name: entry.volume.name.to_string(),
                points: entry.points.len() as u64,
                newest: newest.map(|point| point.number),
                size: newest.map(|point| point.map.geometry.volume_size()),
                secondary: seen.text,
            });
        }
        let strangers = self.look(contents).strangers(&contents.entries)?;
        self.report.damages.extend(strangers);
        Ok(())
    }

    fn overlays(&mut self, contents: &Contents) -> anyhow::Result<()> {
        let (notes, damages) = overlays::look(self.dir, self.pool, &contents.entries)?;
        self.report.notes.extend(notes);
        self.report.damages.extend(damages);
        Ok(())
    }

    fn journals(&mut self) -> anyhow::Result<()> {
        let (notes, damages) = journals::look(self.dir)?;
        self.report.notes.extend(notes);
        self.report.damages.extend(damages);
        Ok(())
    }

    fn look<'b>(&'b mut self, contents: &'b Contents) -> Look<'b> {
        let (removed, reader) = (&contents.removed, &mut self.reader);
        Look { dir: self.dir, live: self.live, known: &self.known, reader, removed }
    }

    fn count(&mut self, contents: &Contents) {
        self.judge_bad();
        let summary = &mut self.report.summary;
        let points = || contents.entries.iter().flat_map(|entry| &entry.points);
        summary.volumes = contents.entries.len() as u64;
        summary.points = points().count() as u64;
        summary.protected = points().filter(|held| held.is_protected).count() as u64;
        summary.removals = contents.removed.len() as u64;
        summary.open_streams = contents.progress.len() as u64;
        summary.point_bytes = points().map(|held| held.point.map.geometry.volume_size()).sum();
        let mut live = contents.live;
        for place in self.known.places() {
            summary.unique_pages += u64::from(place.is_page);
            summary.unique_blocks += u64::from(!place.is_page);
            summary.unique_bytes += if place.is_page { 0 } else { place.content_length.into() };
            live.0 += u64::from(place.is_used);
            live.1 += if place.is_used { record_bytes(place.stored_length) } else { 0 };
        }
        summary.reclaimable = summary.records - live.0;
        summary.reclaimable_bytes = self.record_bytes - live.1;
    }

    /// What is missed proves nothing when a running daemon collected segments behind our back.
    fn was_it_all_there(&self) -> anyhow::Result<()> {
        if !self.live || self.report.is_sound() {
            return Ok(());
        }
        let there: BTreeSet<u64> = segment_numbers(self.dir)?.0.into_iter().collect();
        match self.numbers.difference(&there).next() {
            None => Ok(()),
            Some(gone) => bail!(
                "segment {gone} of the pool {} was collected by its understudyd while it was read: look again",
                self.dir.display()
            ),
        }
    }
}
