//! Checking what is stored: whether the records that the index names still are what they were.
//!
//! A segment is read in runs of neighbouring records, from the disk and not from the page cache. Invariants: only what is
//! durable and published is looked at, so whatever is wrong is damage and not a write under way; a record is called damaged
//! only while the index names the place that was read, so one that was moved meanwhile is not; bytes that cannot be
//! read are damage and end nothing; nothing is locked while reading.

use super::Pool;
use super::disk::{Access, DiskFile};
use super::index::Location;
use super::live::Bits;
use super::record::{Place, Record};
use super::recovery::{self, Survey};
use super::segments;
use crate::error::{Error, Result, at};
use bytes::Bytes;
use std::sync::Arc;
use understudy_format::Digest;
use understudy_format::layout::Layout;
use understudy_format::segment::{Kind, RecordHeader};
use understudy_net::aligned;

/// Most bytes that are read at once, but for a longer record.
const RUN_BYTES: u64 = 4 << 20;
/// Bytes that are rather read than skipped.
const SKIP_BYTES: u64 = 64 << 10;

/// What was found in a segment.
#[derive(Debug, Default)]
pub struct Checked {
    /// Records that were checked.
    pub records: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Blocks and pages that were found damaged, and are marked.
    pub damaged: u64,
    /// Records of the catalogue that count, and are damaged in this segment.
    pub catalogue: Vec<(Record, Place)>,
    /// Whether the segment's own header is damaged: nothing of it would be replayed.
    pub is_headless: bool,
    /// Blocks and pages of a headless segment: copies of them are needed elsewhere.
    pub endangered: Vec<Target>,
    /// What is damaged and costs no content: the offset, bytes from the start of the segment, and the reason.
    pub warnings: Vec<(u64, String)>,
}

/// A record, to be checked or copied.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What the index finds it by.
    pub digest: Digest,
    /// What it holds.
    pub kind: Kind,
    /// Where it stands.
    pub location: Location,
}

impl Target {
    fn end(&self) -> u64 {
        self.location.offset + RecordHeader::SIZE as u64 + u64::from(self.location.stored_length)
    }

    fn is_content(&self) -> bool {
        matches!(self.kind, Kind::Block | Kind::Page)
    }
}

impl Pool {
    /// The numbers of the segments, ascending.
    pub fn segment_numbers(&self) -> Result<Vec<u64>> {
        self.segments.list()
    }

    /// When a segment was last checked as a whole, nanoseconds since 1970-01-01T00:00:00Z.
    pub fn last_checked(&self, segment: u64) -> Result<Option<i64>> {
        self.index.scrubbed(segment)
    }

    /// Remembers that a segment was checked as a whole, and with it, durably, what was found in it.
    pub fn set_checked(&self, segment: u64, now_ns: i64) -> Result<()> {
        self.index.set_scrubbed(segment, now_ns)?;
        self.index.sync()
    }

    /// Where a record is; also one that is known to be damaged. Finds copies that are not yet published.
    pub fn locate(&self, digest: &Digest) -> Result<Option<Location>> {
        match self.log.location(digest)? {
            None => self.index.get_damaged(digest),
            found => Ok(found),
        }
    }

    /// Checks what the index names in a segment, or only those of its blocks and pages that are in `only`; `None` when
    /// the segment is gone. Before each read `pace` is told its length, bytes, and may wait or end the check.
    pub fn check_segment(
        &self,
        segment: u64,
        only: Option<&Bits>,
        pace: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Option<Checked>> {
        let limit = self.index.indexed_to(segment)?;
        let path = self.segments.path(segment);
        let file = match self.disk.open(&path, Access::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(at(&path))?,
        };
        if limit == 0 {
            return Ok(Some(Checked::default()));
        }
        file.forget_cached();
        let checked =
            Check { pool: self, segment, limit, file: file.clone(), checked: Checked::default() }.run(only, pace);
        file.forget_cached();
        match checked {
            // It was removed after it was opened.
            Err(Error::Disk { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            checked => checked.map(Some),
        }
    }
}

struct Check<'a> {
    pool: &'a Pool,
    segment: u64,
    limit: u64,
    file: Arc<dyn DiskFile>,
    checked: Checked,
}

impl Check<'_> {
    fn run(mut self, only: Option<&Bits>, pace: &mut dyn FnMut(u64) -> Result<()>) -> Result<Checked> {
        let pool = self.pool;
        let survey = recovery::survey(&*pool.disk, &pool.segments, pool.uuid, self.segment, self.limit)?;
        let only = only.filter(|_| survey.header.is_none());
        let targets = self.targets(&survey, only)?;
        let mut is_catalogue_suspect = !survey.gaps.is_empty() || survey.header.is_some();
        for run in runs(&targets) {
            for damaged in self.read(run, pace)? {
                match damaged.is_content() {
                    true => self.mark(&damaged)?,
                    false => is_catalogue_suspect = true,
                }
            }
        }
        if is_catalogue_suspect {
            self.catalogue(survey.header.is_some())?;
        }
        self.warn(&survey);
        if survey.header.is_some() {
            self.checked.is_headless = true;
            self.checked.endangered = targets.into_iter().filter(Target::is_content).collect();
        }
        Ok(self.checked)
    }

    /// What is to be checked, in order of offset.
    fn targets(&self, survey: &Survey, only: Option<&Bits>) -> Result<Vec<Target>> {
        let mut targets = Vec::new();
        for entry in survey.entries.iter().filter(|entry| entry.offset < self.limit) {
            let Some(kind) = Kind::from_wire(entry.kind) else { continue };
            let stands = recovery::location(self.segment, entry, 0);
            let target = Target { digest: entry.digest, kind, location: stands };
            match target.is_content() {
                false => targets.push(target),
                true => {
                    let named = self.pool.index.get(&entry.digest)?;
                    let here = named.filter(|location| location.place() == stands.place());
                    targets.extend(here.map(|location| Target { location, ..target }));
                }
            }
        }
        if !survey.gaps.is_empty() {
            targets.extend(self.in_gaps(survey)?);
            targets.sort_by_key(|target| target.location.offset);
        }
        targets.retain(|target| !target.is_content() || only.is_none_or(|only| only.contains(&target.location)));
        Ok(targets)
    }

    /// What the index names where no header can be read.
    fn in_gaps(&self, survey: &Survey) -> Result<Vec<Target>> {
        let named = self.pool.index.find_in(self.segment, &survey.gaps)?;
        let target = |(digest, location): (Digest, Location)| {
            Kind::from_wire(location.kind).map(|kind| Target { digest, kind, location })
        };
        Ok(named.into_iter().filter_map(target).collect())
    }

    /// Reads neighbouring records; returns those that are damaged.
    fn read(&mut self, run: &[Target], pace: &mut dyn FnMut(u64) -> Result<()>) -> Result<Vec<Target>> {
        let start = run[0].location.offset;
        let length = run[run.len() - 1].end() - start;
        pace(length)?;
        let mut bytes = aligned::zeroed(length as usize);
        match self.file.read_at(&mut bytes, start) {
            Ok(()) => {}
            Err(error) if run.len() == 1 => {
                tracing::error!(segment = self.segment, offset = start, %error, "cannot be read");
                return Ok(run.to_vec());
            }
            // Those that can be read are told from those that cannot.
            Err(_) => {
                let each = run.iter().map(|target| self.read(std::slice::from_ref(target), pace));
                return Ok(each.collect::<Result<Vec<_>>>()?.concat());
            }
        }
        let bytes = bytes.freeze();
        self.checked.records += run.len() as u64;
        self.checked.bytes += length;
        Ok(run.iter().filter(|target| !is_whole(target, &bytes, start)).copied().collect())
    }

    fn mark(&mut self, target: &Target) -> Result<()> {
        let Target { digest, location, .. } = target;
        self.pool.index.mark_damaged(digest, *location)?;
        if self.pool.index.get_damaged(digest)? == Some(*location) {
            let (segment, offset) = (location.segment, location.offset);
            tracing::error!(%digest, segment, offset, "damaged; not deduplicated against any more");
            self.checked.damaged += 1;
        }
        Ok(())
    }

    /// The records of the catalogue that count and cannot be read here, or all of them that stand here.
    fn catalogue(&mut self, all: bool) -> Result<()> {
        for (record, place) in self.pool.index.catalogue()? {
            let is_here = place.segment == self.segment && place.offset < self.limit;
            if is_here && (all || !self.is_readable(&record, place)) {
                self.checked.catalogue.push((record, place));
            }
        }
        Ok(())
    }

    fn is_readable(&self, record: &Record, place: Place) -> bool {
        let mut header = [0; RecordHeader::SIZE];
        let read = self.file.read_at(&mut header, place.offset).map_err(at(&self.pool.segments.path(place.segment)));
        let says = || {
            read?;
            let entry = RecordHeader::decode(&header, place.offset)?.footer_entry();
            recovery::catalogue_records(&self.pool.segments, place.segment, &entry)
        };
        says().is_ok_and(|says| says.contains(record))
    }

    fn warn(&mut self, survey: &Survey) {
        let header = survey.header.iter().map(|reason| (0, format!("{reason}; what the segment has is copied")));
        let gaps = survey.gaps.iter().map(|gap| {
            let bytes = gap.end - gap.start;
            (gap.start, format!("{bytes} bytes without a header that can be read; what points need of them is told"))
        });
        let footer =
            survey.footer.iter().map(|reason| (self.limit, format!("{reason}; its records are found without")));
        self.checked.warnings = header.chain(gaps).chain(footer).collect();
    }
}

fn is_whole(target: &Target, bytes: &Bytes, start: u64) -> bool {
    let from = (target.location.offset - start) as usize;
    let record = bytes.slice(from..(target.end() - start) as usize);
    segments::content(&record, target.location, target.kind, target.digest).is_ok()
}

/// Runs of records that are read at once.
fn runs(targets: &[Target]) -> impl Iterator<Item = &[Target]> {
    let mut rest = targets;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let fits = |pair: &[Target]| {
            let (end, next) = (pair[0].end(), &pair[1]);
            next.location.offset <= end + SKIP_BYTES && next.end() - first.location.offset <= RUN_BYTES
        };
        let count = 1 + rest.windows(2).take_while(|pair| fits(pair)).count();
        let (run, more) = rest.split_at(count);
        rest = more;
        Some(run)
    })
}
