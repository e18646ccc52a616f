//! The files of the journals of a volume: their names and their headers.
//!
//! Invariants: a name says the journal and the number of the first entry, as the header does; a file never changes but at its end.

use super::Mark;
use crate::error::{Error, Result, at};
use crate::pool::disk::{Access, Disk, DiskFile};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use understudy_format::FormatError;
use understudy_format::journal::{FileHeader, JournalHeader};
use understudy_format::layout::Layout;
use uuid::Uuid;

/// How many bytes a file has at which the next one is begun, or a segment, when that is less.
pub(super) const FILE_SIZE: u64 = 64 << 20;

/// The oldest and the newest mark of a file, when it has any.
pub(super) type MarkSpan = Option<(Mark, Mark)>;

/// A file that has a header.
#[derive(Debug)]
pub(super) struct JournalFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it begins with.
    pub header: FileHeader,
    /// Its length.
    pub bytes: AtomicU64,
    /// Of one that does not grow any more, once somebody has looked.
    pub marks: OnceLock<MarkSpan>,
}

impl JournalFile {
    /// A file with this header and length.
    pub fn new(dir: &Path, header: FileHeader, bytes: u64) -> Self {
        let path = dir.join(name(&header.journal, header.first));
        Self { path, header, bytes: bytes.into(), marks: OnceLock::new() }
    }

    /// Reads the header of the file with this name; [`Error::Format`] when there is none that fits.
    pub fn read(disk: &dyn Disk, dir: &Path, journal: &Uuid, first: u64) -> Result<Self> {
        let path = dir.join(name(journal, first));
        let file = disk.open(&path, Access::Read).map_err(at(&path))?;
        let size = file.size().map_err(at(&path))?;
        let mut bytes = vec![0; (JournalHeader::SIZE as u64).min(size) as usize];
        file.read_at(&mut bytes, 0).map_err(at(&path))?;
        let header = FileHeader::decode(&bytes)?;
        match (header.journal, header.first) == (*journal, first) {
            true => Ok(Self::new(dir, header, size)),
            false => Err(FormatError::invalid("journal header", "of another file than its name says").into()),
        }
    }

    /// Opens it for reading: who has it open can still read it when it was removed.
    pub fn open(&self, disk: &dyn Disk) -> Result<Arc<dyn DiskFile>> {
        disk.open(&self.path, Access::Read).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                let FileHeader { journal, first, .. } = self.header;
                Error::refused(format!("the entries of journal {journal} from {first} on are not kept any more"))
            }
            _ => at(&self.path)(error),
        })
    }
}

/// The name of a file.
pub(super) fn name(journal: &Uuid, first: u64) -> String {
    format!("{}-{first:016x}.journal", journal.simple())
}

/// The journal and the number of the first entry in the file of this name.
pub(super) fn parse(name: &str) -> Option<(Uuid, u64)> {
    let (journal, first) = name.strip_suffix(".journal")?.split_once('-')?;
    let journal = (journal.len() == 32).then(|| journal.parse().ok())??;
    let first = (first.len() == 16).then(|| u64::from_str_radix(first, 16).ok())??;
    Some((journal, first))
}
