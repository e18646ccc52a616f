//! Numbers about a pool for people and for monitoring: cheap to ask for, and nothing depends on them.

use super::Pool;
use super::disk::Access;
use crate::error::{Result, at};
use std::io::ErrorKind;

/// How much there is of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Bytes of all segments.
    pub used_bytes: u64,
    /// Bytes that can still be written to the disk.
    pub free_bytes: u64,
    /// Blocks and map pages that are known to be damaged and were not stored again.
    pub damaged_records: u64,
    /// When the segment was checked that was not checked for the longest time; `None` while one never was.
    pub checked_ns: Option<i64>,
    /// Segments that were never checked.
    pub unchecked_segments: u64,
}

impl Pool {
    /// The numbers of this moment.
    pub fn figures(&self) -> Result<Figures> {
        let free_bytes = self.disk.free(&self.dir).map_err(at(&self.dir))?;
        let mut figures = Figures { free_bytes, damaged_records: self.damaged()?.len() as u64, ..Figures::default() };
        for segment in self.segment_numbers()? {
            figures.used_bytes += self.segment_bytes(segment)?;
            match self.last_checked(segment)? {
                None => figures.unchecked_segments += 1,
                Some(ns) => figures.checked_ns = Some(figures.checked_ns.map_or(ns, |oldest| oldest.min(ns))),
            }
        }
        if figures.unchecked_segments > 0 {
            figures.checked_ns = None;
        }
        Ok(figures)
    }

    /// The length of a segment; 0 when it was collected meanwhile.
    fn segment_bytes(&self, segment: u64) -> Result<u64> {
        let path = self.segments.path(segment);
        match self.disk.open(&path, Access::Read).and_then(|file| file.size()) {
            Ok(bytes) => Ok(bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(error) => Err(at(&path)(error)),
        }
    }

    /// How many use a point for this purpose.
    pub fn uses(&self, by: &str) -> usize {
        self.live.uses(by)
    }
}
