//! A quick look over all segments: what volumes and points there are and, on demand, where each block and page is.
//!
//! A sealed segment is taken at its footer's word; one without a good footer is read from front to back. Nothing here
//! proves content: whoever reads a block checks it. Invariants: nothing is written and no lock is taken; damage is told
//! and passed over; when a segment vanishes meanwhile, because a running daemon collected it, the look begins again, so
//! what is returned was there together.

use super::catalogue::{Catalogue, Contents};
use super::known::segment_name;
use super::places::Places;
use super::segment::{self, Found, is_catalogue};
use super::segment_numbers;
use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use understudy_format::FormatError;
use understudy_format::layout::Layout;
use understudy_format::pool::PoolRecord;
use understudy_format::segment::{
    FooterEntry, Kind, RECORD_ALIGNMENT, RECORD_MAX, RecordHeader, SEGMENT_MAX, SegmentHeader, Trailer, decode_footer,
};
use uuid::Uuid;

/// How often a look begins again before it gives up: a daemon does not collect that fast.
const LOOKS: u32 = 16;

/// What a pool holds.
#[derive(Debug)]
pub struct Survey {
    /// The name of the pool, as its file or else most of its segments say; `None` when none of them can be read.
    pub pool: Option<Uuid>,
    /// Volumes and points.
    pub contents: Contents,
    /// Blocks and pages; empty unless asked for.
    pub places: Places,
    /// What was passed over.
    pub warnings: Vec<String>,
    /// How many segments there are.
    pub segments: u64,
    /// See [`last_change`], before the look.
    pub changed: Option<SystemTime>,
}

/// When a segment last came or went.
pub fn last_change(dir: &Path) -> Option<SystemTime> {
    std::fs::metadata(dir.join("segments")).and_then(|meta| meta.modified()).ok()
}

/// Looks at a pool; with `places`, also for where everything is.
pub fn survey(dir: &Path, places: bool) -> anyhow::Result<Survey> {
    for _ in 0..LOOKS {
        if let Some(survey) = Look::at(dir, places)? {
            return Ok(survey);
        }
    }
    bail!("the segments of {} vanish faster than they can be read: stop its understudyd first", dir.display())
}

/// The name of the pool that each readable segment header has, and how many have it.
pub fn names(dir: &Path) -> anyhow::Result<BTreeMap<Uuid, u64>> {
    let mut names = BTreeMap::new();
    for number in segment_numbers(dir)?.0 {
        let header = header(&dir.join("segments").join(segment_name(number)));
        header.iter().for_each(|header| *names.entry(header.pool).or_insert(0) += 1);
    }
    Ok(names)
}

fn header(path: &Path) -> Option<SegmentHeader> {
    let mut bytes = [0; SegmentHeader::SIZE];
    File::open(path).ok()?.read_exact_at(&mut bytes, 0).ok()?;
    SegmentHeader::decode(&bytes).ok()
}

fn name(dir: &Path) -> anyhow::Result<Option<Uuid>> {
    let file = std::fs::read(dir.join("pool")).ok().and_then(|bytes| PoolRecord::decode(&bytes).ok());
    match file {
        Some(record) => Ok(Some(record.pool)),
        None => Ok(names(dir)?.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name)),
    }
}

struct Look {
    dir: PathBuf,
    pool: Option<Uuid>,
    with_places: bool,
    catalogue: Catalogue,
    places: Places,
    warnings: Vec<String>,
}

impl Look {
    /// One look; `None` when a segment vanished.
    fn at(dir: &Path, with_places: bool) -> anyhow::Result<Option<Survey>> {
        let changed = last_change(dir);
        let (numbers, _) = segment_numbers(dir)?;
        let (catalogue, places, warnings) = Default::default();
        let pool = name(dir)?;
        let mut look = Self { dir: dir.join("segments"), pool, with_places, catalogue, places, warnings };
        for number in &numbers {
            match look.segment(*number) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                looked => looked.with_context(|| format!("cannot read {}", look.path(*number).display()))?,
            }
        }
        look.places.sort();
        let Self { catalogue, places, warnings, .. } = look;
        let segments = numbers.len() as u64;
        let contents = catalogue.contents(&numbers.into_iter().collect());
        Ok(Some(Survey { pool, contents, places, warnings, segments, changed }))
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(segment_name(number))
    }

    fn segment(&mut self, number: u64) -> io::Result<()> {
        let path = self.path(number);
        let file = File::open(&path)?;
        let stranger = header(&path).map(|header| header.pool).filter(|pool| Some(*pool) != self.pool);
        if let Some(stranger) = stranger {
            self.warnings.push(format!("segment {number} belongs to the pool {stranger}; it is passed over"));
            return Ok(());
        }
        self.places.enter(number);
        match footer(&file, number)? {
            Some(entries) => self.listed(number, &file, &entries),
            None => self.scanned(number, &path),
        }
    }

    /// Takes what a footer lists.
    fn listed(&mut self, number: u64, file: &File, entries: &[FooterEntry]) -> io::Result<()> {
        for entry in entries {
            let kind = Kind::from_wire(entry.kind);
            match kind {
                Some(Kind::Block | Kind::Page) => self.place(entry),
                kind if is_catalogue(kind) => match content(file, entry)? {
                    Ok(content) => self.record(number, Found { entry: *entry, damage: None, content: Some(content) }),
                    Err(error) => self.warn(number, entry.offset, &error.to_string()),
                },
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes every record that can be found, acknowledged or not: blocks are proved by their digests alone.
    fn scanned(&mut self, number: u64, path: &Path) -> io::Result<()> {
        let scan = segment::scan(path, number, self.pool.unwrap_or_default())?;
        scan.damages.iter().for_each(|(offset, reason)| self.warn(number, *offset, reason));
        for found in scan.records.iter().chain(&scan.tail) {
            if matches!(found.kind(), Some(Kind::Block | Kind::Page)) {
                self.place(&found.entry);
            }
        }
        for found in scan.records.into_iter().filter(|found| is_catalogue(found.kind())) {
            match &found.damage {
                Some(damage) => self.warn(number, found.entry.offset, &damage.to_string()),
                None => self.record(number, found),
            }
        }
        Ok(())
    }

    fn place(&mut self, entry: &FooterEntry) {
        if self.with_places {
            self.places.push(entry.digest, entry.offset, entry.stored_length);
        }
    }

    fn record(&mut self, number: u64, found: Found) {
        let damage = self.catalogue.insert(number, &found);
        self.warnings.extend(damage.map(|damage| damage.text));
    }

    fn warn(&mut self, number: u64, offset: u64, reason: &str) {
        self.warnings.push(format!("segment {number} at {offset}: {reason}"));
    }
}

/// The footer of a segment; `None` when it has none that can be believed.
fn footer(file: &File, number: u64) -> io::Result<Option<Vec<FooterEntry>>> {
    let length = file.metadata()?.len();
    let Some(at) = length.checked_sub(Trailer::SIZE as u64).filter(|_| length <= SEGMENT_MAX) else { return Ok(None) };
    let mut trailer = [0; Trailer::SIZE];
    file.read_exact_at(&mut trailer, at)?;
    let trailer = Trailer::decode(&trailer, length).ok();
    let Some(trailer) = trailer.filter(|trailer| trailer.segment == number) else { return Ok(None) };
    let mut bytes = vec![0; (at.max(trailer.footer_offset) - trailer.footer_offset) as usize];
    file.read_exact_at(&mut bytes, trailer.footer_offset)?;
    Ok(entries(&bytes, &trailer).ok())
}

fn entries(bytes: &[u8], trailer: &Trailer) -> Result<Vec<FooterEntry>, FormatError> {
    let header = RecordHeader::decode(bytes, trailer.footer_offset)?;
    let entries = decode_footer(&header.content(&bytes[RecordHeader::SIZE..])?)?;
    let fits = |entry: &FooterEntry| {
        let end = entry.offset.checked_add(segment::record_bytes(entry.stored_length));
        let fits = entry.offset.is_multiple_of(RECORD_ALIGNMENT) && entry.stored_length <= RECORD_MAX;
        fits && end.is_some_and(|end| end <= trailer.footer_offset)
    };
    match entries.iter().all(fits) && entries.len() as u64 == trailer.footer_entries {
        true => Ok(entries),
        false => Err(FormatError::invalid("segment footer", "lists what cannot be")),
    }
}

/// The content of a record of the catalogue.
fn content(file: &File, entry: &FooterEntry) -> io::Result<Result<Vec<u8>, FormatError>> {
    let mut bytes = vec![0; RecordHeader::SIZE + entry.stored_length as usize];
    file.read_exact_at(&mut bytes, entry.offset)?;
    let header = RecordHeader::decode(&bytes, entry.offset);
    Ok(header.and_then(|header| header.content(&bytes[RecordHeader::SIZE..])))
}
