//! Opening the segments: what the index does not know is replayed, what was not durable is cut off.
//!
//! Records prove themselves (header and bytes have checksums), so every whole record that is found is taken, whatever stands
//! before it; a point record was appended only after all that it needs was durable. Invariants: nothing is published before the bytes
//! that it names were synced, for a killed process leaves bytes that no disk has yet; a footer is believed only where the
//! next segment proves that it was synced; only an end without any whole record behind it is cut off, back to the
//! last aligned end of a record, because every sync leaves one; a segment with damage in it is never written on, and its
//! footer, which lists what is not there, is cut off before another segment can follow; the number of a record is unique in
//! its segment, whatever was lost before it.

use super::disk::{Access, Disk, DiskFile};
use super::index::{Batch, Index, Location};
use super::log::End;
use super::record::{Place, Record};
use super::segments::Segments;
use crate::error::{Result, at};
use std::ops::Range;
use std::sync::Arc;
use understudy_format::FormatError;
use understudy_format::layout::{Layout, check_range};
use understudy_format::segment::{
    ALIGNMENT, FooterEntry, Kind, RECORD_ALIGNMENT, RecordHeader, SegmentHeader, Trailer, decode_footer,
};
use uuid::Uuid;

/// Records that are published in one step: it takes memory for each.
const PUBLISHED_MAX: usize = 1 << 15;

/// Brings the index up to date with the segments, and returns where writing goes on.
pub fn recover(disk: &dyn Disk, segments: &Segments, index: &Index, pool: Uuid) -> Result<End> {
    disk.sync_dir(segments.dir()).map_err(at(segments.dir()))?;
    let existing = segments.list()?;
    index.forget_segments_but(&existing)?;
    // One at a time: a pool has more segments than a process may have files.
    let open = |segment: &u64| Replay::open(disk, segments, pool, *segment, Access::Write);
    let newest = newest(&existing, open)?;
    let mut end = End::default();
    for segment in &existing {
        let replay = open(segment)?;
        let open = replay.run(index, Some(*segment) == newest)?;
        if Some(segment) == existing.last() {
            end = replay.end(open)?;
        }
    }
    Ok(end)
}

/// The newest segment that is not empty.
fn newest<'a>(existing: &[u64], open: impl Fn(&u64) -> Result<Replay<'a>>) -> Result<Option<u64>> {
    for segment in existing.iter().rev() {
        if open(segment)?.length > 0 {
            return Ok(Some(*segment));
        }
    }
    Ok(None)
}

/// What can be told of the records of a segment, pads and footer left out.
#[derive(Debug)]
pub enum Records {
    /// All of them.
    Whole(Vec<FooterEntry>),
    /// Not all: it is damaged.
    Damaged,
    /// There are some of a later version.
    Later,
}

/// The records of a segment.
pub fn records(disk: &dyn Disk, segments: &Segments, pool: Uuid, segment: u64) -> Result<Records> {
    let replay = Replay::open(disk, segments, pool, segment, Access::Read)?;
    if replay.length == 0 {
        return Ok(Records::Whole(Vec::new()));
    }
    let footer = replay.trailer().and_then(|trailer| replay.footer(&trailer));
    let (entries, is_whole) = footer.map_or_else(
        || {
            let scan = replay.scan(u64::MAX);
            let is_whole = scan.gaps.is_empty() && replay.check_header().is_ok();
            (scan.entries, is_whole)
        },
        |entries| (entries, true),
    );
    Ok(match () {
        () if entries.iter().any(|entry| Kind::from_wire(entry.kind).is_none()) => Records::Later,
        () if is_whole => Records::Whole(entries),
        () => Records::Damaged,
    })
}

/// What a segment says of itself.
#[derive(Debug, Default)]
pub struct Survey {
    /// Its records, pads and footer left out: by its footer or, without one, by the headers that can be read.
    pub entries: Vec<FooterEntry>,
    /// Where headers are expected and none can be read.
    pub gaps: Vec<Range<u64>>,
    /// Why its own header is damaged: nothing of it would be replayed.
    pub header: Option<String>,
    /// Why its footer or trailer is damaged: it would be replayed slowly.
    pub footer: Option<String>,
}

/// Surveys the first `limit` bytes of a segment: those that are durable and published.
pub fn survey(disk: &dyn Disk, segments: &Segments, pool: Uuid, segment: u64, limit: u64) -> Result<Survey> {
    let mut replay = Replay::open(disk, segments, pool, segment, Access::Read)?;
    let header = replay.check_header().err().map(|error| error.to_string());
    let trailer = replay.trailer().filter(|_| replay.length == limit);
    if let Some(entries) = trailer.as_ref().and_then(|trailer| replay.footer(trailer)) {
        return Ok(Survey { entries, header, ..Survey::default() });
    }
    let end = if trailer.is_some() { limit - Trailer::SIZE as u64 } else { limit };
    replay.length = replay.length.min(end);
    let mut scan = replay.scan(u64::MAX);
    if scan.end < end {
        scan.gaps.push(scan.end..end);
    }
    let footer = match (trailer, scan.footer) {
        (Some(_), _) => Some("the footer is damaged".into()),
        (None, true) => Some("the trailer is damaged".into()),
        (None, false) => None,
    };
    Ok(Survey { entries: scan.entries, gaps: scan.gaps, header, footer })
}

/// What a record says that is neither block nor page.
pub fn catalogue_records(segments: &Segments, segment: u64, entry: &FooterEntry) -> Result<Vec<Record>> {
    let Some(kind) = Kind::from_wire(entry.kind).filter(|kind| !matches!(kind, Kind::Block | Kind::Page)) else {
        return Ok(Vec::new());
    };
    Record::decode(kind, &segments.read(location(segment, entry, 0), kind, entry.digest)?)
}

/// Where a record of a segment stands, given its number among them.
pub fn location(segment: u64, entry: &FooterEntry, ordinal: u32) -> Location {
    let FooterEntry { offset, stored_length, content_length, kind, .. } = *entry;
    Location { segment, offset, stored_length, content_length, ordinal, kind }
}

/// The records of a segment, as far as they can be read.
#[derive(Default)]
struct Scan {
    entries: Vec<FooterEntry>,
    /// How many of the entries lie before `valid`.
    valid_entries: usize,
    /// The last aligned end of a record before the first gap.
    valid: u64,
    /// Where there is no record, and whole ones follow: damage, not an end.
    gaps: Vec<Range<u64>>,
    /// The end of the last record.
    end: u64,
    /// Whether there is a footer.
    footer: bool,
}

impl Scan {
    fn take(&mut self, header: &RecordHeader) {
        match Kind::from_wire(header.kind) {
            Some(Kind::Pad) => {}
            Some(Kind::Footer) => self.footer = true,
            _ => self.entries.push(header.footer_entry()),
        }
    }
}

/// Entries with the numbers of their records. Behind damage they cannot be counted: there the place stands for the number,
/// which is above that of any record before it, for no two records may share one.
fn numbered(scan: &Scan) -> impl Iterator<Item = (u32, &FooterEntry)> {
    let is_damaged = !scan.gaps.is_empty();
    (0..).zip(&scan.entries).map(move |(counted, entry)| {
        let placed = (entry.offset / RECORD_ALIGNMENT) as u32;
        (if is_damaged { placed } else { counted }, entry)
    })
}

struct Replay<'a> {
    segments: &'a Segments,
    segment: u64,
    file: Arc<dyn DiskFile>,
    length: u64,
    pool: Uuid,
}

impl<'a> Replay<'a> {
    fn open(disk: &dyn Disk, segments: &'a Segments, pool: Uuid, segment: u64, access: Access) -> Result<Self> {
        let path = segments.path(segment);
        let file = disk.open(&path, access).map_err(at(&path))?;
        let length = file.size().map_err(at(&path))?;
        Ok(Self { segments, segment, file, length, pool })
    }

    /// Replays one segment; returns what can be written on: its valid length and records.
    fn run(&self, index: &Index, newest: bool) -> Result<Option<(u64, Vec<FooterEntry>)>> {
        let indexed_to = index.indexed_to(self.segment)?;
        if self.length == 0 {
            return Ok(None);
        }
        if let Err(error) = self.check_header() {
            // Without a mark this is a segment whose creation was cut short: it holds nothing acknowledged.
            tracing::warn!(segment = self.segment, indexed_to, %error, "a segment without a header is passed over");
            return Ok(None);
        }
        let trailer = self.trailer();
        if trailer.is_some() && indexed_to == self.length {
            return Ok(None);
        }
        if let Some(entries) = trailer.filter(|_| !newest).and_then(|trailer| self.footer(&trailer)) {
            self.publish(index, (0..).zip(&entries), indexed_to, self.length)?;
            return Ok(None);
        }
        self.run_open(index, indexed_to, trailer, newest)
    }

    fn run_open(
        &self,
        index: &Index,
        indexed_to: u64,
        trailer: Option<Trailer>,
        newest: bool,
    ) -> Result<Option<(u64, Vec<FooterEntry>)>> {
        let scan = self.scan(indexed_to);
        // The next segment is written only after the last sync of this one: all that is whole in an older one counts.
        let sealed = !newest || trailer.as_ref().is_some_and(|trailer| trailer.footer_offset < scan.valid);
        if !scan.gaps.is_empty() || scan.valid < indexed_to || sealed {
            if !sealed || !scan.gaps.is_empty() {
                tracing::error!(segment = self.segment, from = scan.valid, "damaged; what can be read of it is kept");
            }
            let cut = newest && trailer.is_some() && !scan.gaps.is_empty();
            let length = if cut { self.cut_trailer()? } else { self.length };
            self.publish(index, numbered(&scan), indexed_to, length)?;
            return Ok(None);
        }
        let entries = &scan.entries[..scan.valid_entries];
        self.publish(index, (0..).zip(entries), indexed_to, scan.valid)?;
        Ok(Some((scan.valid, entries.to_vec())))
    }

    /// Where writing goes on when this is the last segment; cuts off what was never acknowledged.
    fn end(&self, open: Option<(u64, Vec<FooterEntry>)>) -> Result<End> {
        let Some((length, entries)) = open else {
            let length = self.file.size().map_err(at(&self.segments.path(self.segment)))?;
            return Ok(End { segment: self.segment, length, open: None });
        };
        if self.length > length {
            let bytes = self.length - length;
            tracing::info!(segment = self.segment, bytes, "cutting off what was never acknowledged");
            self.file.resize(length).map_err(at(&self.segments.path(self.segment)))?;
            self.sync()?;
        }
        // Nothing of it is left, not even its header: it stays empty and is never written on.
        Ok(End { segment: self.segment, length, open: (length > 0).then_some(entries) })
    }

    /// The last sync of the segment may not have come, so its footer must not be found when it is not the newest any more.
    fn cut_trailer(&self) -> Result<u64> {
        let length = self.length - Trailer::SIZE as u64;
        self.file.resize(length).map_err(at(&self.segments.path(self.segment)))?;
        self.sync()?;
        Ok(length)
    }

    fn trailer(&self) -> Option<Trailer> {
        let mut bytes = [0; 64];
        self.file.read_at(&mut bytes, self.length.checked_sub(64)?).ok()?;
        Trailer::decode(&bytes, self.length).ok().filter(|trailer| trailer.segment == self.segment)
    }

    fn check_header(&self) -> Result<(), FormatError> {
        let mut bytes = [0; 64];
        self.read(&mut bytes, 0)?;
        let header = SegmentHeader::decode(&bytes)?;
        match (header.pool, header.segment) == (self.pool, self.segment) {
            true => Ok(()),
            false => Err(FormatError::invalid("segment header", "of another pool or segment")),
        }
    }

    fn footer(&self, trailer: &Trailer) -> Option<Vec<FooterEntry>> {
        let read = || {
            let header = self.header(trailer.footer_offset)?;
            decode_footer(&header.content(&self.stored(&header)?)?)
        };
        read().inspect_err(|error| tracing::error!(segment = self.segment, %error, "damaged footer")).ok()
    }

    fn scan(&self, indexed_to: u64) -> Scan {
        let mut position = SegmentHeader::SIZE as u64;
        let mut scan = Scan { end: position, ..Scan::default() };
        while position < self.length {
            let Ok(header) = self.record(position, indexed_to) else {
                // Every sync starts a record at an aligned offset: the next one that is whole, if any.
                let aligned = (position + 1).next_multiple_of(ALIGNMENT);
                let mut starts = (aligned..self.length).step_by(ALIGNMENT as usize);
                let Some(next) = starts.find(|start| self.record(*start, 0).is_ok()) else { break };
                self.scan_damage(position..next, &mut scan);
                position = next;
                continue;
            };
            scan.take(&header);
            position += header.record_length();
            scan.end = position;
            if position.is_multiple_of(ALIGNMENT) && scan.gaps.is_empty() {
                (scan.valid, scan.valid_entries) = (position, scan.entries.len());
            }
        }
        scan
    }

    /// The whole records between a damaged one and the next aligned one: a header that is whole tells where its record ends.
    fn scan_damage(&self, damage: Range<u64>, scan: &mut Scan) {
        let (mut position, mut gap) = (damage.start, damage.start);
        while position < damage.end {
            let header = self.header(position).ok();
            let end = position + header.as_ref().map_or(RECORD_ALIGNMENT, RecordHeader::record_length);
            if let Ok(whole) = self.record(position, 0) {
                scan.take(&whole);
                scan.gaps.extend((gap < position).then_some(gap..position));
                gap = end;
            }
            position = end;
        }
        scan.gaps.extend((gap < damage.end).then_some(gap..damage.end));
    }

    /// The header of the record at `offset`; its bytes are checked where the index has not seen them yet.
    fn record(&self, offset: u64, indexed_to: u64) -> Result<RecordHeader, FormatError> {
        let header = self.header(offset)?;
        if offset >= indexed_to && header.kind != Kind::Pad as u8 {
            header.check_stored(&self.stored(&header)?)?;
        }
        Ok(header)
    }

    fn header(&self, offset: u64) -> Result<RecordHeader, FormatError> {
        let mut bytes = [0; 64];
        self.read(&mut bytes, offset)?;
        let header = RecordHeader::decode(&bytes, offset)?;
        check_range("record", "end", offset + header.record_length(), 0, self.length)?;
        Ok(header)
    }

    fn stored(&self, header: &RecordHeader) -> Result<Vec<u8>, FormatError> {
        let mut bytes = vec![0; header.stored_length as usize];
        self.read(&mut bytes, header.offset + RecordHeader::SIZE as u64)?;
        Ok(bytes)
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), FormatError> {
        let read = self.file.read_at(buffer, offset);
        read.map_err(|e| FormatError::invalid("segment", format!("reading at {offset}: {e}")))
    }

    fn sync(&self) -> Result<()> {
        self.file.sync().map_err(at(&self.segments.path(self.segment)))
    }

    /// Tells the index what it does not know: the records from `indexed_to` on.
    fn publish<'e>(
        &self,
        index: &Index,
        entries: impl Iterator<Item = (u32, &'e FooterEntry)>,
        indexed_to: u64,
        length: u64,
    ) -> Result<()> {
        if indexed_to >= length {
            return Ok(());
        }
        self.sync()?;
        let (mut batch, mut count) = (Batch::default(), 0);
        for (ordinal, entry) in entries.filter(|(_, entry)| entry.offset >= indexed_to) {
            count += 1;
            if let Err(error) = self.enter(entry, ordinal, &mut batch) {
                tracing::error!(%error, "a record of the catalogue that stands here is lost");
            }
            if batch.records.len() == PUBLISHED_MAX {
                // What was published is never numbered anew: after a crash and damage it would be so in another way.
                batch.indexed =
                    Some((self.segment, entry.offset + location(self.segment, entry, ordinal).record_length()));
                index.publish(&std::mem::take(&mut batch))?;
            }
        }
        batch.indexed = Some((self.segment, length));
        tracing::info!(segment = self.segment, records = count, "replayed");
        index.publish(&batch)
    }

    fn enter(&self, entry: &FooterEntry, ordinal: u32, batch: &mut Batch) -> Result<()> {
        match Kind::from_wire(entry.kind) {
            Some(Kind::Block | Kind::Page) => {
                batch.records.push((entry.digest, location(self.segment, entry, ordinal), None));
            }
            _ => {
                let place = Place { segment: self.segment, offset: entry.offset };
                let records = catalogue_records(self.segments, self.segment, entry)?;
                batch.catalogue.extend(records.into_iter().map(|record| (record, place)));
            }
        }
        Ok(())
    }
}
