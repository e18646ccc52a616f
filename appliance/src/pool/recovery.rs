//! Opening the segments: what the index does not know is replayed, what was not durable is cut off.
//!
//! Every sync leaves a segment at an aligned length, so what follows the last aligned end of a whole record
//! was never acknowledged. Invariants: a sealed segment is taken by its footer; an unsealed one
//! record by record, each checked; only the last segment is cut, and only behind its last
//! aligned record; damage in front of what is indexed is reported, never cut away.

use super::disk::{Access, Disk, DiskFile};
use super::index::{Batch, Index, Location};
use super::log::End;
use super::segments::Segments;
use crate::error::{Result, at};
use std::sync::Arc;
use understudy_format::FormatError;
use understudy_format::layout::Layout;
use understudy_format::point::{Point, Volume};
use understudy_format::segment::{ALIGNMENT, FooterEntry, Kind, RecordHeader, SegmentHeader, Trailer, decode_footer};
use uuid::Uuid;

/// Brings the index up to date with the segments, and returns where writing goes on.
pub fn recover(disk: &dyn Disk, segments: &Segments, index: &Index, pool: Uuid) -> Result<End> {
    let mut end = End::default();
    for segment in segments.list()? {
        let path = segments.path(segment);
        let file = disk.open(&path, Access::Write).map_err(at(&path))?;
        let replay = Replay { segments, index, segment, file, pool };
        let length = replay.file.size().map_err(at(&path))?;
        let open = replay.run(length)?;
        end = match open {
            Some((length, entries)) => End { segment, length, open: Some(entries) },
            None => End { segment, length, open: None },
        };
    }
    cut(disk, segments, &end)?;
    Ok(end)
}

/// Cuts what was never acknowledged off the last segment.
fn cut(disk: &dyn Disk, segments: &Segments, end: &End) -> Result<()> {
    if end.open.is_none() {
        return Ok(());
    }
    let path = segments.path(end.segment);
    let file = disk.open(&path, Access::Write).map_err(at(&path))?;
    let length = file.size().map_err(at(&path))?;
    if length > end.length {
        tracing::info!(segment = end.segment, bytes = length - end.length, "cutting off what was never acknowledged");
        file.resize(end.length).map_err(at(&path))?;
        file.sync().map_err(at(&path))?;
    }
    Ok(())
}

struct Replay<'a> {
    segments: &'a Segments,
    index: &'a Index,
    segment: u64,
    file: Arc<dyn DiskFile>,
    pool: Uuid,
}

impl Replay<'_> {
    /// Replays one segment; returns its valid length and records when it can be written on.
    fn run(&self, length: u64) -> Result<Option<(u64, Vec<FooterEntry>)>> {
        if length == 0 {
            return Ok(None);
        }
        let indexed_to = self.index.indexed_to(self.segment)?;
        if let Some(trailer) = self.trailer(length) {
            self.run_sealed(&trailer, indexed_to)?;
            return Ok(None);
        }
        match self.check_header(length) {
            Ok(()) => self.run_unsealed(indexed_to, length),
            // A segment whose creation was cut short holds nothing that was acknowledged.
            Err(_) if indexed_to == 0 => {
                tracing::warn!(segment = self.segment, "passing over a segment without a header");
                Ok(None)
            }
            Err(error) => {
                tracing::error!(segment = self.segment, %error, "damaged; what the index knows of it is kept");
                Ok(None)
            }
        }
    }

    fn run_sealed(&self, trailer: &Trailer, indexed_to: u64) -> Result<()> {
        let length = trailer.file_length;
        if indexed_to == length {
            return Ok(());
        }
        match self.footer(trailer) {
            Ok(entries) => self.publish(&entries, indexed_to, length),
            Err(error) => {
                tracing::error!(segment = self.segment, %error, "damaged footer; reading record by record");
                self.run_unsealed(indexed_to, length).map(|_| ())
            }
        }
    }

    fn trailer(&self, length: u64) -> Option<Trailer> {
        let mut bytes = [0; 64];
        let at = length.checked_sub(64)?;
        self.file.read_at(&mut bytes, at).ok()?;
        Trailer::decode(&bytes, length).ok().filter(|trailer| trailer.segment == self.segment)
    }

    fn check_header(&self, length: u64) -> Result<(), FormatError> {
        let mut bytes = [0; 64];
        let _ = self.file.read_at(&mut bytes[..length.min(64) as usize], 0);
        let header = SegmentHeader::decode(&bytes)?;
        match (header.pool, header.segment) == (self.pool, self.segment) {
            true => Ok(()),
            false => Err(FormatError::invalid("segment header", "of another pool or segment")),
        }
    }

    fn footer(&self, trailer: &Trailer) -> Result<Vec<FooterEntry>, FormatError> {
        let header = self.header(trailer.footer_offset, trailer.file_length)?;
        decode_footer(&header.content(&self.stored(&header)?)?)
    }

    fn run_unsealed(&self, indexed_to: u64, length: u64) -> Result<Option<(u64, Vec<FooterEntry>)>> {
        let mut entries = Vec::new();
        let (mut position, mut valid, mut valid_entries) = (SegmentHeader::SIZE as u64, 0, 0);
        while let Ok(header) = self.record(position, length, indexed_to) {
            if !matches!(Kind::from_wire(header.kind), Some(Kind::Pad | Kind::Footer)) {
                entries.push(entry_of(&header));
            }
            position += header.record_length();
            if position.is_multiple_of(ALIGNMENT) {
                (valid, valid_entries) = (position, entries.len());
            }
        }
        if valid < indexed_to {
            let segment = self.segment;
            tracing::error!(segment, position, indexed_to, "a damaged record header; what the index knows is kept");
            return Ok(None);
        }
        entries.truncate(valid_entries);
        self.publish(&entries, indexed_to, valid)?;
        Ok(Some((valid, entries)))
    }

    /// The header of the record at `offset`; its bytes are checked where the index has not seen them yet.
    fn record(&self, offset: u64, length: u64, indexed_to: u64) -> Result<RecordHeader, FormatError> {
        let header = self.header(offset, length)?;
        if offset >= indexed_to && header.kind != Kind::Pad as u8 {
            let stored = self.stored(&header)?;
            header.check_stored(&stored)?;
        }
        Ok(header)
    }

    fn header(&self, offset: u64, length: u64) -> Result<RecordHeader, FormatError> {
        let mut bytes = [0; 64];
        self.read(&mut bytes, offset)?;
        let header = RecordHeader::decode(&bytes, offset)?;
        let end = offset + header.record_length();
        understudy_format::layout::check_range("record", "end", end, 0, length)?;
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

    /// Tells the index what it does not know: the records from `indexed_to` on.
    fn publish(&self, entries: &[FooterEntry], indexed_to: u64, length: u64) -> Result<()> {
        let mut batch = Batch { indexed: Some((self.segment, length)), ..Batch::default() };
        for entry in entries.iter().filter(|entry| entry.offset >= indexed_to) {
            if let Err(error) = self.enter(entry, &mut batch) {
                tracing::error!(%error, "a volume or point that was recorded here is lost");
            }
        }
        if indexed_to < length {
            tracing::info!(
                segment = self.segment,
                records = batch.records.len(),
                points = batch.points.len(),
                "replayed"
            );
            self.index.publish(&batch)?;
        }
        Ok(())
    }

    fn enter(&self, entry: &FooterEntry, batch: &mut Batch) -> Result<()> {
        match Kind::from_wire(entry.kind) {
            Some(Kind::Block | Kind::Page) => batch.records.push((entry.digest, self.location(entry))),
            Some(Kind::Volume) => batch.volumes.push(Volume::decode(&self.content(entry)?)?),
            Some(Kind::Point) => batch.points.push(Point::decode(&self.content(entry)?)?),
            _ => {}
        }
        Ok(())
    }

    fn location(&self, entry: &FooterEntry) -> Location {
        let FooterEntry { offset, stored_length, content_length, .. } = *entry;
        Location { segment: self.segment, offset, stored_length, content_length }
    }

    fn content(&self, entry: &FooterEntry) -> Result<bytes::Bytes> {
        let kind = Kind::from_wire(entry.kind).expect("the caller knows the kind");
        self.segments.read(self.location(entry), kind, entry.digest)
    }
}

fn entry_of(header: &RecordHeader) -> FooterEntry {
    FooterEntry {
        digest: header.digest,
        offset: header.offset,
        content_length: header.content_length,
        stored_length: header.stored_length,
        kind: header.kind,
        codec: header.codec,
        reserved: [0; 6],
    }
}
