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
        let damaged = |reason: String| Error::Damaged {
            what: if kind == Kind::Page { "map page" } else { "block" },
            digest,
            segment: location.segment,
            offset: location.offset,
            reason,
        };
        let mut bytes = aligned::zeroed(RecordHeader::SIZE + location.stored_length as usize);
        let file = self.file(location.segment)?;
        file.read_at(&mut bytes, location.offset).map_err(|e| damaged(e.to_string()))?;
        checked(bytes.freeze(), location, kind, digest).map_err(|e| damaged(e.to_string()))
    }

    fn file(&self, segment: u64) -> Result<Arc<dyn DiskFile>> {
        let path = self.path(segment);
        let open = || self.disk.open(&path, Access::Read).map_err(at(&path));
        self.open.get_or_insert_with(&segment, open)
    }
}

fn checked(bytes: Bytes, location: Location, kind: Kind, digest: Digest) -> Result<Bytes, FormatError> {
    let header = RecordHeader::decode(&bytes, location.offset)?;
    if header.digest != digest || header.kind != kind as u8 {
        return Err(FormatError::Digest { what: "record header", expected: digest, computed: header.digest });
    }
    header.shared_content(&bytes.slice(RecordHeader::SIZE..))
}

fn number(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_suffix(".seg").filter(|digits| digits.len() == 16)?, 16).ok()
}
