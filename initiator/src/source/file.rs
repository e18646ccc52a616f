//! Raw files and block devices as sources.
//!
//! Invariants: reading goes through one descriptor with positions of its own (`pread`); the
//! descriptor's position is used for finding holes only, by one caller at a time. Opened read-only.

use super::{Extent, Source};
use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, SeekFrom, Stat, fstat, seek};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use understudy_net::mounts::mounts_of;

/// A raw file or a block device; see the module documentation.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    name: String,
    size: u64,
    opened: Stat,
    device: bool,
    /// Of a device, when it was opened.
    writes: Option<Writes>,
}

impl FileSource {
    /// Opens a file or block device for reading.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("source {name}: cannot be opened"))?;
        Self::from_file(file, name)
    }

    /// A source over an open file.
    pub fn from_file(file: File, name: String) -> Result<Self> {
        let opened = fstat(&file).with_context(|| format!("source {name}"))?;
        let device = match FileType::from_raw_mode(opened.st_mode) {
            FileType::RegularFile => false,
            FileType::BlockDevice => true,
            other => bail!("source {name}: expected a raw file or a block device, found {}", kind(other)),
        };
        let size = seek(&file, SeekFrom::End(0)).with_context(|| format!("source {name}: its size"))?;
        // Advice only: without it the reads are the same, somewhat slower from a cold cache.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
        let writes = if device { writes_to(&opened) } else { None };
        Ok(Self { file, name, size, opened, device, writes })
    }

    /// The same source, of which only the first `size` bytes are looked at.
    pub fn limited_to(mut self, size: u64) -> Self {
        self.size = self.size.min(size);
        self
    }

    fn seek(&self, to: SeekFrom) -> io::Result<Option<u64>> {
        match seek(&self.file, to) {
            Ok(at) => Ok(Some(at)),
            Err(Errno::NXIO) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Past the end of a file that was cut there is no data either: that must not pass for a hole.
    fn check_not_cut(&self) -> io::Result<()> {
        let found = self.current_size()?;
        if found >= self.size {
            return Ok(());
        }
        Err(io::Error::other(format!("shrank from {} to {found} bytes while it was read", self.size)))
    }

    fn was_written(&self) -> Result<bool> {
        let now = fstat(&self.file)?;
        let stamp = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec, stat.st_size);
        Ok(stamp(&now) != stamp(&self.opened))
    }

    fn current_size(&self) -> io::Result<u64> {
        match self.device {
            true => Ok(seek(&self.file, SeekFrom::End(0))?),
            false => Ok(fstat(&self.file)?.st_size as u64),
        }
    }
}

/// How many writes to a device came to an end, and how many discards.
type Writes = [u64; 2];

/// What the kernel counted of a device, as `Documentation/block/stat.rst` has it; a write that is under way is counted later.
fn writes_to(device: &Stat) -> Option<Writes> {
    let (major, minor) = (rustix::fs::major(device.st_rdev), rustix::fs::minor(device.st_rdev));
    let text = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    let counts: Vec<u64> = text.split_whitespace().map_while(|count| count.parse().ok()).collect();
    Some([*counts.get(4)?, counts.get(11).copied().unwrap_or(0)])
}

impl Source for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let data = Extent::data(self.size);
        if self.device {
            return Ok(data);
        }
        let next_data = match self.seek(SeekFrom::Data(offset)) {
            Ok(next_data) => next_data,
            Err(_) => return Ok(data),
        };
        match next_data {
            None => {
                self.check_not_cut()?;
                Ok(Extent::hole(self.size))
            }
            Some(at) if at > offset => Ok(Extent::hole(at.min(self.size))),
            Some(_) => {
                let end = self.seek(SeekFrom::Hole(offset))?.unwrap_or(self.size);
                // The end of a cut file is a hole; what was beyond it must be read, and fail.
                Ok(Extent::data(if end > offset { end.min(self.size) } else { self.size }))
            }
        }
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset).map_err(|e| match (e.kind(), self.check_not_cut()) {
            (io::ErrorKind::UnexpectedEof, Err(cut)) => cut,
            _ => e,
        })
    }

    fn doubt(&self) -> Result<Option<String>> {
        let name = &self.name;
        self.check_not_cut().with_context(|| format!("source {name}"))?;
        if self.device {
            // Where the kernel counts writes and counted none, it stood still: its filesystem may be frozen.
            if self.writes.is_some() && self.writes == writes_to(&self.opened) {
                return Ok(None);
            }
            let mounts = mounts_of(&self.opened);
            let writable = mounts.iter().find(|mount| mount.writable);
            return Ok(writable.map(|mount| {
                let at = &mount.at;
                format!("{name} is mounted read-write at {at}, and was written to: the point may mix several moments")
            }));
        }
        Ok(self
            .was_written()?
            .then(|| format!("{name} was written to while it was read: the point may mix several moments")))
    }

    /// Writing to a device leaves no trace that could be asked for.
    fn may_have_moved(&self) -> Result<bool> {
        let now = fstat(&self.file)?;
        // Whoever sets the time of writing back leaves this one.
        let touched = (now.st_ctime, now.st_ctime_nsec) != (self.opened.st_ctime, self.opened.st_ctime_nsec);
        Ok(self.device || touched || self.was_written()?)
    }
}

fn kind(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Directory => "a directory",
        FileType::CharacterDevice => "a character device",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(parts: &[(u64, &[u8])], size: u64) -> (tempfile::NamedTempFile, FileSource) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size).unwrap();
        for (offset, bytes) in parts {
            file.as_file().write_all_at(bytes, *offset).unwrap();
        }
        let source = FileSource::open(file.path()).unwrap();
        (file, source)
    }

    fn extents(source: &FileSource) -> Vec<(u64, bool)> {
        let mut all = Vec::new();
        let mut at = 0;
        while at < source.size() {
            let extent = source.extent_at(at).unwrap();
            assert!(extent.end > at);
            all.push((extent.end, extent.hole));
            at = extent.end;
        }
        all
    }

    #[test]
    fn holes_and_data_alternate_and_end_at_the_size() {
        let (_file, source) = file(&[(1 << 20, &[1; 4096])], 4 << 20);
        assert_eq!(extents(&source), [(1 << 20, true), ((1 << 20) + 4096, false), (4 << 20, true)]);
        let (_file, source) = file(&[], 1 << 20);
        assert_eq!(extents(&source), [(1 << 20, true)]);
        let (_file, source) = file(&[(0, &[1; 512])], 512);
        assert_eq!(extents(&source), [(512, false)]);
    }

    #[test]
    fn a_file_that_was_cut_is_an_error_and_not_a_hole() {
        let (file, source) = file(&[(0, &[1; 8192])], 1 << 20);
        file.as_file().set_len(4096).unwrap();
        let text = source.extent_at(8192).unwrap_err().to_string();
        assert_eq!(text, "shrank from 1048576 to 4096 bytes while it was read");
        assert_eq!(source.read_at(4096, &mut [0; 512]).unwrap_err().to_string(), text);
        assert!(format!("{:#}", source.doubt().unwrap_err()).ends_with(&text));
    }

    #[test]
    fn a_file_that_was_written_is_doubted() {
        let (mut file, source) = file(&[(0, &[1; 8192])], 8192);
        assert_eq!(source.doubt().unwrap(), None);
        assert!(!source.may_have_moved().unwrap());
        file.as_file().set_len(8192 + 512).unwrap();
        file.write_all(b"x").unwrap();
        assert!(source.doubt().unwrap().unwrap().contains("was written to while it was read"));
        assert!(source.may_have_moved().unwrap());
    }

    #[test]
    fn directories_are_refused() {
        let text = FileSource::open(Path::new("/")).unwrap_err().to_string();
        assert_eq!(text, "source /: expected a raw file or a block device, found a directory");
    }
}
