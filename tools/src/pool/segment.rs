//! One segment, read from front to back: which records are whole, which are damaged, what was never acknowledged.
//!
//! What is damage and what is only a torn tail: everything in a sealed segment was written and synced as one, so
//! anything wrong in it is damage. In an unsealed one, a point record that is whole proves that every byte before it
//! was durable when it was written; what is wrong *behind* the last such record was never acknowledged, and is counted
//! from the last aligned end of a whole record before it, where recovery cuts. Records behind a damaged place are
//! found again by their magic and their own offset. Memory: one window, and one entry a record.

use super::window::Window;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use understudy_format::FormatError;
use understudy_format::layout::{Layout, check_range};
use understudy_format::segment::{
    ALIGNMENT, FooterEntry, Kind, RECORD_ALIGNMENT, RECORD_MAGIC, RecordHeader, SEGMENT_MAX, SegmentHeader, Trailer,
    decode_footer,
};
use uuid::Uuid;

/// Where the first record starts.
const FIRST: u64 = SegmentHeader::SIZE as u64;
/// Bytes of a record's header.
const HEADER: usize = RecordHeader::SIZE;
/// Bytes searched at once for the next record behind a damaged place.
const SEARCH: usize = 1 << 20;

/// A record with a header that can be trusted.
#[derive(Debug, Clone)]
pub struct Found {
    /// As its header says.
    pub entry: FooterEntry,
    /// Why its content cannot be used.
    pub damage: Option<FormatError>,
    /// The content of the catalogue's records, which are few.
    pub content: Option<Vec<u8>>,
}

impl Found {
    /// What the record holds; `None` for kinds of later versions.
    pub fn kind(&self) -> Option<Kind> {
        Kind::from_wire(self.entry.kind)
    }

    fn is_whole(&self) -> bool {
        self.damage.is_none()
    }

    fn is_filler(&self) -> bool {
        matches!(self.kind(), Some(Kind::Pad | Kind::Footer))
    }

    /// Bytes that the record takes in the segment.
    pub fn bytes(&self) -> u64 {
        record_bytes(self.entry.stored_length)
    }

    /// Bytes from the start of the segment to the end of the record.
    pub fn end(&self) -> u64 {
        self.entry.offset + self.bytes()
    }
}

/// Whether records of this kind say what volumes and points there are.
pub fn is_catalogue(kind: Option<Kind>) -> bool {
    use Kind::*;
    matches!(kind, Some(Volume | Point | Points | Removal | Protection | Settings | Progress))
}

/// Bytes that a record with this many stored bytes takes in its segment.
pub fn record_bytes(stored_length: u32) -> u64 {
    (HEADER as u64 + u64::from(stored_length)).next_multiple_of(RECORD_ALIGNMENT)
}

/// What a segment holds.
#[derive(Debug, Default)]
pub struct Scan {
    /// Bytes of the file.
    pub length: u64,
    /// Whether it has a trailer.
    pub sealed: bool,
    /// Records that were acknowledged, or at least whole; neither pads nor footers.
    pub records: Vec<Found>,
    /// Records that were never acknowledged, whole or not.
    pub tail: Vec<Found>,
    /// What is wrong with the segment itself: where, and what. Damaged contents are in `records`.
    pub damages: Vec<(u64, String)>,
    /// Bytes at the end that were never acknowledged.
    pub unacknowledged: u64,
}

/// Reads a segment; fails only when the disk does.
pub fn scan(path: &Path, number: u64, pool: Uuid) -> io::Result<Scan> {
    let window = Window::open(path)?;
    let length = window.length();
    let mut scanner = Scanner { window, number, pool, items: Vec::new(), breaks: Vec::new(), footers: HashMap::new() };
    if length > SEGMENT_MAX {
        let damages = vec![(0, format!("{length} bytes are more than a segment can have ({SEGMENT_MAX})"))];
        return Ok(Scan { length, damages, ..Scan::default() });
    }
    let trailer = scanner.trailer()?;
    scanner.walk(trailer.map_or(length, |trailer| trailer.file_length - Trailer::SIZE as u64))?;
    match trailer {
        Some(trailer) => Ok(scanner.sealed(&trailer)),
        None => scanner.unsealed(),
    }
}

struct Scanner {
    window: Window,
    number: u64,
    pool: Uuid,
    items: Vec<Found>,
    /// Where something else stands than what should, and what is wrong there.
    breaks: Vec<(u64, String)>,
    /// The content of footers by their offset.
    footers: HashMap<u64, Vec<u8>>,
}

impl Scanner {
    fn trailer(&mut self) -> io::Result<Option<Trailer>> {
        let length = self.window.length();
        let Some(at) = length.checked_sub(Trailer::SIZE as u64) else { return Ok(None) };
        let trailer = Trailer::decode(self.window.at(at, Trailer::SIZE)?, length).ok();
        Ok(trailer.filter(|trailer| trailer.segment == self.number))
    }

    /// Collects the records and breaks in front of `end`.
    fn walk(&mut self, end: u64) -> io::Result<()> {
        if let Err(error) = self.header()? {
            self.breaks.push((0, error.to_string()));
        }
        let mut position = FIRST;
        while position < end {
            match self.record(position, end)? {
                Ok(found) => {
                    position = found.end();
                    self.items.push(found);
                }
                Err(error) => {
                    self.breaks.push((position, error.to_string()));
                    position = self.next_record(position + 1, end)?.unwrap_or(end);
                }
            }
        }
        Ok(())
    }

    fn header(&mut self) -> io::Result<Result<(), FormatError>> {
        let header = SegmentHeader::decode(self.window.at(0, SegmentHeader::SIZE)?);
        let (pool, number) = (self.pool, self.number);
        Ok(header.and_then(|header| match (header.pool == pool, header.segment == number) {
            (true, true) => Ok(()),
            (false, _) => Err(FormatError::invalid("segment header", format!("of the pool {}", header.pool))),
            _ => Err(FormatError::invalid("segment header", format!("of segment {}, not {number}", header.segment))),
        }))
    }

    /// The record at `offset`; an error when there is none whose header can be trusted.
    fn record(&mut self, offset: u64, end: u64) -> io::Result<Result<Found, FormatError>> {
        let header = RecordHeader::decode(self.window.at(offset, HEADER)?, offset);
        let fits = header.and_then(|header| {
            check_range("record", "end", offset + header.record_length(), 0, end)?;
            Ok(header)
        });
        match fits {
            Ok(header) => self.content(&header).map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }

    fn content(&mut self, header: &RecordHeader) -> io::Result<Found> {
        let kind = Kind::from_wire(header.kind);
        let mut found = Found { entry: header.footer_entry(), damage: None, content: None };
        if kind == Some(Kind::Pad) {
            return Ok(found);
        }
        let stored = self.window.at(header.offset + HEADER as u64, header.stored_length as usize)?;
        let content = match kind {
            Some(_) => header.content(stored),
            None => header.check_stored(stored).map(|_| Vec::new()),
        };
        match content {
            Ok(content) if kind == Some(Kind::Footer) => {
                self.footers.insert(header.offset, content);
            }
            Ok(content) if is_catalogue(kind) => found.content = Some(content),
            Ok(_) => {}
            Err(error) => found.damage = Some(error),
        }
        Ok(found)
    }

    /// Where the next record starts whose header is whole and stands at its own offset.
    fn next_record(&mut self, from: u64, end: u64) -> io::Result<Option<u64>> {
        let mut position = from;
        while position + (HEADER as u64) <= end {
            let bytes = self.window.at(position, SEARCH.min((end - position) as usize))?;
            let hit = bytes.windows(RECORD_MAGIC.len()).position(|window| window == RECORD_MAGIC);
            match hit {
                Some(hit) => {
                    position += hit as u64;
                    if RecordHeader::decode(self.window.at(position, HEADER)?, position).is_ok() {
                        return Ok(Some(position));
                    }
                    position += 1;
                }
                None => position += (bytes.len() - (RECORD_MAGIC.len() - 1)) as u64,
            }
        }
        Ok(None)
    }

    /// A sealed segment: whatever is wrong is damage.
    fn sealed(mut self, trailer: &Trailer) -> Scan {
        let mut damages = std::mem::take(&mut self.breaks);
        damages.extend(self.check_footer(trailer).err().map(|reason| (trailer.footer_offset, reason)));
        let records = self.items.into_iter().filter(|found| !found.is_filler()).collect();
        Scan { length: trailer.file_length, sealed: true, records, damages, ..Scan::default() }
    }

    /// The footer must list exactly the records in front of it.
    fn check_footer(&self, trailer: &Trailer) -> Result<(), String> {
        let at = trailer.footer_offset;
        let content = self.footers.get(&at).ok_or("the trailer names a footer that is not there, or damaged")?;
        let listed = decode_footer(content).map_err(|error| error.to_string())?;
        if listed.len() as u64 != trailer.footer_entries {
            return Err(format!(
                "the footer has {} entries, the trailer says {}",
                listed.len(),
                trailer.footer_entries
            ));
        }
        let is_record = |found: &&Found| found.entry.offset < at && !found.is_filler();
        let there: HashMap<u64, FooterEntry> =
            self.items.iter().filter(is_record).map(|found| (found.entry.offset, found.entry)).collect();
        if let Some(entry) = listed.iter().find(|entry| there.get(&entry.offset) != Some(entry)) {
            return Err(format!("the footer lists a record at {} that is not there, or another one", entry.offset));
        }
        match listed.len() == there.len() && listed.is_sorted_by(|a, b| a.offset < b.offset) {
            true => self.check_behind_footer(at),
            false => Err(format!("the footer lists {} records, {} are there", listed.len(), there.len())),
        }
    }

    fn check_behind_footer(&self, footer: u64) -> Result<(), String> {
        let mut behind = self.items.iter().filter(|found| found.entry.offset > footer);
        let stranger = behind.find(|found| found.kind() != Some(Kind::Pad));
        stranger.map_or(Ok(()), |found| Err(format!("a record at {} stands behind the footer", found.entry.offset)))
    }

    /// An unsealed segment: a torn tail is no damage; see the module documentation.
    fn unsealed(mut self) -> io::Result<Scan> {
        let length = self.window.length();
        let cut_trailer = self.damaged_trailer()?;
        let proven = if cut_trailer { length } else { self.proven() };
        let damaged = self.items.iter().filter(|found| !found.is_whole()).map(|found| found.entry.offset);
        let torn = damaged.chain(self.breaks.iter().map(|(at, _)| *at)).filter(|at| *at >= proven).min();
        let ends = self.items.iter().map(Found::end).filter(|end| end.is_multiple_of(ALIGNMENT));
        let cut = torn.map_or(length, |torn| ends.filter(|end| *end <= torn).max().unwrap_or(0));
        // A segment whose last record does not end on the alignment was never synced up to there.
        let cut = if torn.is_none() && !cut_trailer { cut.min(self.last_aligned_end()) } else { cut };
        self.breaks.retain(|(at, _)| *at < cut);
        let items = self.items.into_iter().filter(|found| !found.is_filler());
        let (records, tail) = items.partition(|found| found.end() <= cut);
        Ok(Scan { length, sealed: false, records, tail, damages: self.breaks, unacknowledged: length - cut })
    }

    fn last_aligned_end(&self) -> u64 {
        self.items.iter().map(Found::end).filter(|end| end.is_multiple_of(ALIGNMENT)).max().unwrap_or(0)
    }

    /// The end of the last whole point record that was synced: up to there everything was acknowledged.
    fn proven(&self) -> u64 {
        let points =
            self.items.iter().enumerate().filter(|(_, found)| matches!(found.kind(), Some(Kind::Point | Kind::Points)));
        let synced = |(at, found): &(usize, &Found)| found.is_whole() && self.runs_to_alignment(*at);
        points.filter(synced).map(|(_, found)| found.end()).max().unwrap_or(0)
    }

    /// Whether whole records follow each other from this one to an aligned end.
    fn runs_to_alignment(&self, at: usize) -> bool {
        let mut expected = self.items[at].entry.offset;
        for found in &self.items[at..] {
            if found.entry.offset != expected || !found.is_whole() {
                return false;
            }
            expected = found.end();
            if expected.is_multiple_of(ALIGNMENT) {
                return true;
            }
        }
        false
    }

    /// A footer, its pad, and then 64 bytes that are no trailer: a trailer lies within one sector, and is never torn.
    fn damaged_trailer(&mut self) -> io::Result<bool> {
        let at = self.window.length().saturating_sub(Trailer::SIZE as u64);
        let footer = self.items.iter().any(|found| found.kind() == Some(Kind::Footer) && found.is_whole());
        let last = self.items.last().is_some_and(|found| found.end() == at);
        let written = self.window.at(at, Trailer::SIZE)?.iter().any(|byte| *byte != 0);
        let is_damaged = footer && last && written;
        if let Some(own) = self.breaks.iter_mut().find(|(offset, _)| is_damaged && *offset == at) {
            own.1 = "the trailer of a sealed segment is damaged".into();
        }
        Ok(is_damaged)
    }
}
