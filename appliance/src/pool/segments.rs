//! The segment files: their names, and reading one record.
//!
//! Invariant: nobody gets the content of a record before its checksum, digest and kind were
//! checked. Files that were read stay open, up to a limit.

use super::disk::{Access, Disk, DiskFile};
use super::index::Location;
use crate::error::{Error, Result, at};
use bytes::Bytes;
use quick_cache::sync::Cache;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use understudy_format::layout::Layout;
use understudy_format::segment::{Kind, RecordHeader};
use understudy_format::{Digest, FormatError};
use understudy_net::aligned;

/// Segment files that are kept open for reading.
const OPEN_FILES: usize = 64;

/// Reads records.
#[derive(Debug)]
pub struct Segments {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    open: Cache<u64, Arc<dyn DiskFile>>,
}

impl Segments {
    /// The segments in `dir`.
    pub fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self { disk, dir, open: Cache::new(OPEN_FILES) }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The numbers of all segments, ascending.
    pub fn list(&self) -> Result<Vec<u64>> {
        let names = self.disk.list(&self.dir).map_err(at(&self.dir))?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| number(name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The path of a segment.
    pub fn path(&self, segment: u64) -> PathBuf {
        self.dir.join(format!("{segment:016x}.seg"))
    }

    /// The content of the record at `location`, which must be of `kind` and have `digest`.
    pub fn read(&self, location: Location, kind: Kind, digest: Digest) -> Result<Bytes> {
        let (header, stored) = self.record(location, kind, digest)?;
        header.shared_content(&stored).map_err(|e| damaged(location, kind, digest, e.to_string()))
    }

    /// The same record as it is stored, its content checked: for copying it.
    pub fn stored(&self, location: Location, kind: Kind, digest: Digest) -> Result<(RecordHeader, Bytes)> {
        let (header, stored) = self.record(location, kind, digest)?;
        header.shared_content(&stored).map_err(|e| damaged(location, kind, digest, e.to_string()))?;
        Ok((header, stored))
    }

    /// All bytes of a record, of which nothing is checked.
    pub fn raw(&self, location: Location, kind: Kind, digest: Digest) -> Result<Bytes> {
        let mut bytes = aligned::zeroed(RecordHeader::SIZE + location.stored_length as usize);
        let file = match self.file(location.segment) {
            // A segment that is lost has lost what the index finds in it: then that must be sent again.
            Err(Error::Disk { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(damaged(location, kind, digest, "the segment is gone".into()));
            }
            file => file?,
        };
        let read = file.read_at(&mut bytes, location.offset);
        read.map_err(|e| damaged(location, kind, digest, e.to_string()))?;
        Ok(bytes.freeze())
    }

    /// Header and stored bytes, which are not checked.
    fn record(&self, location: Location, kind: Kind, digest: Digest) -> Result<(RecordHeader, Bytes)> {
        let bytes = self.raw(location, kind, digest)?;
        let header = header(&bytes, location, kind, digest);
        Ok((header.map_err(|e| damaged(location, kind, digest, e.to_string()))?, bytes.slice(RecordHeader::SIZE..)))
    }

    /// Closes a segment that is gone.
    pub fn forget(&self, segment: u64) {
        self.open.remove(&segment);
    }

    fn file(&self, segment: u64) -> Result<Arc<dyn DiskFile>> {
        let path = self.path(segment);
        let open = || self.disk.open(&path, Access::Read).map_err(at(&path));
        self.open.get_or_insert_with(&segment, open)
    }
}

/// The content of a record, whose bytes begin with its header.
pub fn content(bytes: &Bytes, location: Location, kind: Kind, digest: Digest) -> Result<Bytes, FormatError> {
    header(bytes, location, kind, digest)?.shared_content(&bytes.slice(RecordHeader::SIZE..))
}

fn damaged(location: Location, kind: Kind, digest: Digest, reason: String) -> Error {
    let what = match kind {
        Kind::Block => "block",
        Kind::Page => "map page",
        _ => "record",
    };
    Error::Damaged { what, digest, segment: location.segment, offset: location.offset, reason }
}

fn header(bytes: &[u8], location: Location, kind: Kind, digest: Digest) -> Result<RecordHeader, FormatError> {
    let header = RecordHeader::decode(bytes, location.offset)?;
    match header.digest == digest && header.kind == kind as u8 {
        true => Ok(header),
        false => Err(FormatError::Digest { what: "record header", expected: digest, computed: header.digest }),
    }
}

fn number(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_suffix(".seg").filter(|digits| digits.len() == 16)?, 16).ok()
}
