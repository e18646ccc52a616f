//! `pool check`: reads a pool at rest and proves every promise that can be proved of it.
//!
//! The way of the check: the pool file and the lock; every [`segment`] from front to back (each record's checksums
//! and digest, footers, trailers, the torn tail); the [`catalogue`] of volumes and points; the map of each point
//! ([`walk`]); the secondaries ([`secondaries`]). Invariants: nothing is opened for writing, and the lock is only
//! shared; the index is a cache, so it is neither read nor believed; memory is bounded by the number of unique
//! digests ([`known`]) and does not grow with volumes, points or files.

pub mod catalogue;
pub mod image;
pub mod known;
pub mod report;
pub mod secondaries;
pub mod segment;
pub mod walk;
mod window;

use crate::args::Check;
use crate::text::bytes;
use anyhow::{Context, bail};
use catalogue::{Catalogue, Entry};
use known::{Known, PageReader, segment_name};
use report::{Damage, Report, VolumeLine};
use secondaries::Look;
use segment::{Found, Scan};
use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use understudy_format::pool::PoolRecord;
use understudy_format::segment::Kind;
use understudy_format::{BlockId, Digest};
use uuid::Uuid;
use walk::{Trouble, Walk};

/// Segments that are read at the same time: reading waits for the disk, digests for a core.
const READERS: usize = 2;

/// Runs the command; whether the pool is sound.
pub fn run(args: &Check, out: &mut impl Write) -> anyhow::Result<bool> {
    let report = check(&args.dir, args.live)?;
    report.print(args.json, out)?;
    Ok(report.is_sound())
}

/// Checks a pool; fails only when it is none, is in use, or cannot be read.
pub fn check(dir: &Path, live: bool) -> anyhow::Result<Report> {
    let pool = identity(dir)?;
    let _lock = look(dir, live)?;
    let mut check =
        Checking { dir, pool, report: Report { pool: pool.to_string(), ..Report::default() }, ..Checking::new(dir) };
    check.segments()?;
    let entries = check.points();
    check.secondaries(&entries, live)?;
    check.count(&entries);
    Ok(check.report)
}

fn identity(dir: &Path) -> anyhow::Result<Uuid> {
    let path = dir.join("pool");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => bail!("{} is not a pool: cannot read {}: {error}", dir.display(), path.display()),
    };
    let record = PoolRecord::decode(&bytes);
    Ok(record.with_context(|| format!("{} is not a pool, or damaged", dir.display()))?.pool)
}

/// A shared hold of the lock, so that no daemon starts meanwhile; `None` when there is nothing to hold.
fn look(dir: &Path, live: bool) -> anyhow::Result<Option<File>> {
    let path = dir.join("lock");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) if live => Ok(None),
        Err(TryLockError::WouldBlock) => bail!(
            "the pool {} is in use by a running understudyd: stop it first, or look all the same with --live",
            dir.display()
        ),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

struct Checking<'a> {
    dir: &'a Path,
    pool: Uuid,
    known: Known,
    reader: PageReader,
    catalogue: Catalogue,
    /// Damaged blocks and pages: digest, segment, offset, reason. Some were stored again later.
    bad: Vec<(Digest, u64, u64, String)>,
    report: Report,
}

impl<'a> Checking<'a> {
    fn new(dir: &'a Path) -> Self {
        Self {
            dir,
            pool: Uuid::nil(),
            known: Known::default(),
            reader: PageReader::new(&dir.join("segments")),
            catalogue: Catalogue::default(),
            bad: Vec::new(),
            report: Report::default(),
        }
    }

    /// Reads all segments, a few at a time.
    fn segments(&mut self) -> anyhow::Result<()> {
        let numbers = self.numbers()?;
        let (dir, pool, next) = (self.dir.join("segments"), self.pool, AtomicUsize::new(0));
        let own = Mutex::new(&mut *self);
        let read = || -> anyhow::Result<()> {
            while let Some(number) = numbers.get(next.fetch_add(1, Ordering::SeqCst)) {
                let path = dir.join(segment_name(*number));
                let scan = segment::scan(&path, *number, pool);
                let scan = scan.with_context(|| format!("cannot read {}", path.display()))?;
                own.lock().expect("no reader panicked").take(*number, scan);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(read)).collect();
            readers.into_iter().try_for_each(|reader| reader.join().expect("a reader does not panic"))
        })?;
        self.judge_bad();
        Ok(())
    }

    fn numbers(&mut self) -> anyhow::Result<Vec<u64>> {
        let dir = self.dir.join("segments");
        let cannot = || format!("cannot read {}", dir.display());
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&dir).with_context(cannot)? {
            let name = entry.with_context(cannot)?.file_name().to_string_lossy().into_owned();
            let number = u64::from_str_radix(name.trim_end_matches(".seg"), 16).ok();
            match number.filter(|number| segment_name(*number) == name) {
                Some(number) => numbers.push(number),
                None => self.report.notes.push(format!("segments/{name} is no segment; it is passed over")),
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Takes what was found in a segment.
    fn take(&mut self, segment: u64, scan: Scan) {
        let summary = &mut self.report.summary;
        summary.segments += 1;
        summary.sealed_segments += u64::from(scan.sealed);
        summary.bytes += scan.length;
        summary.records += scan.records.len() as u64;
        summary.unacknowledged_bytes += scan.unacknowledged;
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
            Some(damage) if is_stored => self.bad.push((digest, segment, offset, damage.to_string())),
            Some(damage) => {
                self.report.damages.push(Damage::in_segment("record", segment, offset, &damage.to_string()));
            }
            None => self.report.damages.extend(self.catalogue.insert(segment, found)),
        }
    }

    /// A damaged record whose content was stored again later is healed; any other is damage.
    fn judge_bad(&mut self) {
        let mut healed = 0u64;
        for (digest, segment, offset, reason) in std::mem::take(&mut self.bad) {
            if self.known.has_newer_good(&digest, segment, offset) {
                healed += 1;
                continue;
            }
            let damage = Damage::in_segment("record", segment, offset, &format!("{reason} (digest {digest})"));
            self.report.damages.push(Damage { digest: Some(digest.to_string()), ..damage });
        }
        if healed > 0 {
            self.report.notes.push(format!("{healed} damaged records were stored again later, and hurt nothing"));
        }
        // Readers took the segments in any order.
        self.report.damages.sort_by_key(|damage| (damage.segment, damage.offset));
        self.report.notes.sort();
    }

    /// Walks the map of every point.
    fn points(&mut self) -> Vec<Entry> {
        let (mut entries, damages) = std::mem::take(&mut self.catalogue).entries();
        self.report.damages.extend(damages);
        for entry in &mut entries {
            let mut findings = Findings::default();
            for (point, is_troubled) in entry.points.iter_mut().rev() {
                let troubles = Walk::troubles(&mut self.known, &mut self.reader, &point.map);
                *is_troubled = !troubles.is_empty();
                troubles.into_iter().for_each(|trouble| findings.add(point.number, trouble));
            }
            self.report.damages.extend(findings.damages(entry));
        }
        entries
    }

    fn secondaries(&mut self, entries: &[Entry], live: bool) -> anyhow::Result<()> {
        for entry in entries {
            let mut look = Look { dir: self.dir, live, known: &self.known, reader: &mut self.reader };
            let seen = look.at(entry)?;
            let summary = &mut self.report.summary;
            summary.settled_secondaries += u64::from(seen.is_settled);
            summary.unsettled_secondaries += u64::from(!seen.is_settled);
            self.report.damages.extend(seen.damage);
            let newest = entry.points.last().map(|(point, _)| point);
            self.report.volumes.push(VolumeLine {
                name: entry.volume.name.to_string(),
                points: entry.points.len() as u64,
                newest: newest.map(|point| point.number),
                size: newest.map(|point| point.map.geometry.volume_size()),
                secondary: seen.text,
            });
        }
        let look = Look { dir: self.dir, live, known: &self.known, reader: &mut self.reader };
        self.report.damages.extend(look.strangers(entries)?);
        Ok(())
    }

    fn count(&mut self, entries: &[Entry]) {
        let summary = &mut self.report.summary;
        summary.volumes = entries.len() as u64;
        let points = || entries.iter().flat_map(|entry| &entry.points);
        summary.points = points().count() as u64;
        summary.point_bytes = points().map(|(point, _)| point.map.geometry.volume_size()).sum();
        for place in self.known.places() {
            summary.unique_pages += u64::from(place.is_page);
            summary.unique_blocks += u64::from(!place.is_page);
            summary.unique_bytes += if place.is_page { 0 } else { place.content_length.into() };
            summary.unused += u64::from(!place.is_used);
        }
    }
}

/// What is wrong with the points of one volume, by the digest at fault.
#[derive(Default)]
struct Findings {
    by_digest: HashMap<Digest, Finding>,
}

struct Finding {
    /// The newest point, which is the first that was walked.
    point: u64,
    first: Trouble,
    /// Blocks of that point.
    blocks: u64,
    /// Other points, and the last one that was counted.
    others: u64,
    last: u64,
}

impl Findings {
    fn add(&mut self, point: u64, trouble: Trouble) {
        let count = trouble.count;
        let fresh = Finding { point, first: trouble.clone(), blocks: 0, others: 0, last: point };
        let finding = self.by_digest.entry(trouble.digest).or_insert(fresh);
        if finding.point == point {
            finding.blocks += count;
        }
        if finding.last != point {
            (finding.others, finding.last) = (finding.others + 1, point);
        }
    }

    /// In the order of points, newest first, and blocks.
    fn damages(self, entry: &Entry) -> Vec<Damage> {
        let mut findings: Vec<Finding> = self.by_digest.into_values().collect();
        findings.sort_by_key(|finding| (std::cmp::Reverse(finding.point), finding.first.first));
        findings.iter().map(|finding| finding.damage(entry)).collect()
    }
}

impl Finding {
    fn damage(&self, entry: &Entry) -> Damage {
        let Trouble { first: BlockId(block), digest, reason, .. } = &self.first;
        let name = entry.volume.name.to_string();
        let offset = block * u64::from(entry.volume.block_size.bytes());
        let more = match (self.first.count, self.blocks) {
            (1, 1) => format!("block {block}"),
            (1, blocks) => format!("block {block} and {} more like it", blocks - 1),
            (count, _) => format!("blocks {block} to {}", block + count - 1),
        };
        let others = match self.others {
            0 => String::new(),
            1 => "; 1 older point is hurt by the same".into(),
            others => format!("; {others} older points are hurt by the same"),
        };
        let text = format!("{name}@{}: {more} (offset {offset}): {digest} {reason}{others}", self.point);
        Damage {
            volume: Some(name),
            point: Some(self.point),
            block: Some(*block),
            blocks: Some(self.blocks),
            block_offset: Some(offset),
            other_points: Some(self.others),
            digest: Some(digest.to_string()),
            ..Damage::new("block", text)
        }
    }
}
