//! What a run of a journal makes of a volume: the bytes that it leaves, wherever it touches any.
//!
//! Invariants: of writes that meet, the later one counts; every payload is checked before a byte of it is used; the files stay readable as long as
//! this exists, whatever is removed; memory goes with the number of entries, of which there are at most [`ENTRIES_MAX`], not with their bytes.

use super::file::JournalFile;
use super::scan::{Scan, damaged};
use super::shelf::Run;
use crate::error::{Error, Result, at};
use crate::pool::disk::{Disk, DiskFile};
use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use understudy_format::journal::{Change, Entry};

/// Most entries that are looked at in one go.
pub const ENTRIES_MAX: u64 = 1_000_000;
/// Most files that are read from in one go.
const FILES_MAX: usize = 256;
/// Memory for payloads that are used piece by piece, bytes.
const CACHE_BYTES: u64 = 64 << 20;

/// What stands in a range.
#[derive(Debug, Clone, Copy)]
struct Piece {
    end: u64,
    source: Source,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    Zeroes,
    /// A write: the whole of it, of which the piece is a part.
    Write {
        file: u32,
        payload: u64,
        crc: u32,
        length: u32,
        offset: u64,
    },
}

#[derive(Debug, Clone)]
struct ByLength;

impl Weighter<(u32, u64), Bytes> for ByLength {
    fn weight(&self, _: &(u32, u64), payload: &Bytes) -> u64 {
        payload.len() as u64 + 64
    }
}

/// See the module documentation.
#[derive(Debug)]
pub struct Changes {
    files: Vec<(Arc<JournalFile>, Arc<dyn DiskFile>)>,
    /// By where they begin; none meets another.
    pieces: BTreeMap<u64, Piece>,
    through: u64,
    time_ns: i64,
    payloads: Cache<(u32, u64), Bytes, ByLength>,
}

impl Changes {
    pub(super) fn read(disk: &dyn Disk, runs: &[Run], after: u64, through: u64) -> Result<Self> {
        let payloads = Cache::with_weighter(256, CACHE_BYTES, ByLength);
        let mut own = Self { files: Vec::new(), pieces: BTreeMap::new(), through: after, time_ns: i64::MIN, payloads };
        for run in runs.iter().filter(|run| run.last > after && run.file.header.first <= through).take(FILES_MAX) {
            if run.file.header.first > own.through + 1 {
                return Err(Error::refused(format!(
                    "entries {} to {} of journal {} are not kept any more",
                    own.through + 1,
                    run.file.header.first - 1,
                    run.file.header.journal
                )));
            }
            own.take(disk, run, after, through.min(after.saturating_add(ENTRIES_MAX)))?;
        }
        Ok(own)
    }

    fn take(&mut self, disk: &dyn Disk, run: &Run, after: u64, through: u64) -> Result<()> {
        let mut scan = Scan::new(disk, &run.file, run.last.min(through))?;
        let file = self.files.len() as u32;
        self.files.push((run.file.clone(), scan.file().clone()));
        while let Some((entry, payload)) = scan.next().map_err(|error| damaged(&run.file, error))? {
            if entry.sequence > after {
                self.add(&entry, file, payload);
                (self.through, self.time_ns) = (entry.sequence, entry.time_ns);
            }
        }
        Ok(())
    }

    fn add(&mut self, entry: &Entry, file: u32, payload: u64) {
        let Some((offset, length)) = entry.change.range() else { return };
        let source = match entry.change {
            Change::Write { .. } => {
                Source::Write { file, payload, crc: entry.payload_crc, length: length as u32, offset }
            }
            _ => Source::Zeroes,
        };
        self.overwrite(offset..offset + length, source);
    }

    fn overwrite(&mut self, range: Range<u64>, source: Source) {
        if let Some((start, before)) = self.pieces.range(..range.start).next_back().map(|(at, piece)| (*at, *piece))
            && before.end > range.start
        {
            self.pieces.insert(start, Piece { end: range.start, ..before });
            if before.end > range.end {
                self.pieces.insert(range.end, before);
            }
        }
        while let Some((start, met)) = self.pieces.range(range.clone()).next().map(|(at, piece)| (*at, *piece)) {
            self.pieces.remove(&start);
            if met.end > range.end {
                self.pieces.insert(range.end, met);
            }
        }
        self.pieces.insert(range.start, Piece { end: range.end, source });
    }

    /// The number of the last entry that is in it; the one after which it begins when there is none.
    pub fn through(&self) -> u64 {
        self.through
    }

    /// When that was written, nanoseconds since 1970-01-01T00:00:00Z.
    pub fn time_ns(&self) -> i64 {
        self.time_ns
    }

    /// The ranges of bytes that are touched, ascending; none meets or touches another.
    pub fn extents(&self) -> impl Iterator<Item = Range<u64>> {
        let mut pieces = self.pieces.iter().map(|(start, piece)| *start..piece.end).peekable();
        std::iter::from_fn(move || {
            let mut extent = pieces.next()?;
            while let Some(next) = pieces.next_if(|next| next.start == extent.end) {
                extent.end = next.end;
            }
            Some(extent)
        })
    }

    /// Lays what is touched of a range over the bytes that stood there before.
    pub fn apply(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let end = offset + buffer.len() as u64;
        let first = self.pieces.range(..=offset).next_back().map_or(offset, |(start, _)| *start);
        for (start, piece) in self.pieces.range(first..end) {
            let (from, to) = ((*start).max(offset), piece.end.min(end));
            if from < to {
                let target = &mut buffer[(from - offset) as usize..(to - offset) as usize];
                self.fill(&piece.source, from, target)?;
            }
        }
        Ok(())
    }

    fn fill(&self, source: &Source, from: u64, target: &mut [u8]) -> Result<()> {
        match source {
            Source::Zeroes => target.fill(0),
            Source::Write { file, payload, crc, length, offset } => {
                let read = || self.payload(*file, *payload, *length, *crc);
                let bytes = self.payloads.get_or_insert_with(&(*file, *payload), read)?;
                let start = (from - offset) as usize;
                target.copy_from_slice(&bytes[start..start + target.len()]);
            }
        }
        Ok(())
    }

    fn payload(&self, file: u32, payload: u64, length: u32, crc: u32) -> Result<Bytes> {
        let (known, file) = &self.files[file as usize];
        let mut bytes = vec![0; length as usize];
        file.read_at(&mut bytes, payload).map_err(at(&known.path))?;
        let change = Change::Write { offset: 0, length: length.into() };
        let entry = Entry { sequence: 0, time_ns: 0, change, payload_crc: crc };
        entry.check(&bytes).map_err(|error| damaged(known, error.into()))?;
        Ok(bytes.into())
    }
}
