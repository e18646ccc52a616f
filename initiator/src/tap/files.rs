//! The volume and the state directory of a tap on this machine.
//!
//! Invariants: a device, or a file behind a loop device, that anybody uses is opened only with force; a state directory has one user at a time,
//! and is its owner's alone. The volume is written through the page cache, as any program would, so whoever else reads it sees
//! the same bytes; the journal goes past it where it can, since bulk writes only wait there.

use super::core::Clock;
use super::disk::{Directory, StateFile, Volume};
use crate::{clock, state, target};
use anyhow::{Context, Result, bail};
use rustix::fs::{FallocateFlags, OFlags, SeekFrom, fallocate, fstat, seek};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use understudy_format::Digest;
use understudy_net::aligned::PAGE;
use understudy_net::cached;

/// Zeros that are written where nothing better is to be had.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];
/// Of a device, what is looked at to see whether it was written to: where most filesystems write whenever they are mounted.
const HEAD: u64 = 128 << 10;
/// See [`HEAD`]; where some have a copy of that.
const TAIL: u64 = 64 << 10;

/// The clock of this machine.
#[derive(Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ns(&self) -> i64 {
        clock::now_ns()
    }
}

/// A file or a block device.
#[derive(Debug)]
pub struct FileVolume {
    name: String,
    file: File,
    size: u64,
    is_device: bool,
}

impl FileVolume {
    /// Opens the volume of a tap; with `force` also one that is in use.
    pub fn open(path: &Path, force: bool) -> Result<Self> {
        let name = path.display().to_string();
        let (file, is_device) = target::open_in_place(path, &name, force)?;
        let size = seek(&file, SeekFrom::End(0)).with_context(|| format!("volume {name}: its size"))?;
        Ok(Self { name, file, size, is_device })
    }

    /// Another handle, for reading it as a source.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    fn ends(&self) -> io::Result<Vec<u8>> {
        let (head, tail) = (HEAD.min(self.size), TAIL.min(self.size));
        let mut bytes = vec![0; (head + tail) as usize];
        let (first, last) = bytes.split_at_mut(head as usize);
        self.file.read_exact_at(first, 0)?;
        self.file.read_exact_at(last, self.size - tail)?;
        Ok(bytes)
    }
}

impl Volume for FileVolume {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn read_now(&self, buffer: &mut [u8], offset: u64) -> bool {
        cached::read(&self.file, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn zero(&self, offset: u64, length: u64, keep: bool) -> io::Result<()> {
        let zeroed = match keep {
            true => fallocate(&self.file, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, offset, length),
            false => target::free(&self.file, offset, length),
        };
        zeroed.or_else(|_| {
            let pieces = (offset..offset + length).step_by(ZEROS.len());
            pieces
                .map(|at| (at, (offset + length - at).min(ZEROS.len() as u64)))
                .try_for_each(|(at, count)| self.file.write_all_at(&ZEROS[..count as usize], at))
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn fingerprint(&self) -> io::Result<Digest> {
        if self.is_device {
            return Ok(Digest::of_record(&self.ends()?));
        }
        let stat = fstat(&self.file)?;
        Ok(Digest::of_record(format!("{} bytes, {}.{:09}", stat.st_size, stat.st_mtime, stat.st_mtime_nsec).as_bytes()))
    }
}

/// A directory that this process alone uses.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    _lock: File,
}

impl StateDirectory {
    /// Makes the directory, unless it is there, and has it alone.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display();
        state::make_private(path).with_context(|| format!("state directory {name}: cannot be created"))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock"));
        let lock = lock.with_context(|| format!("state directory {name}: cannot be locked"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                bail!("state directory {name}: another tap uses it; each needs one of its own")
            }
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("state directory {name}: cannot be locked"))
            }
        }
    }
}

impl Directory for StateDirectory {
    fn list(&self) -> io::Result<Vec<String>> {
        let name = |entry: io::Result<std::fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        std::fs::read_dir(&self.path)?.map(name).collect()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StateFile>> {
        let path = self.path.join(name);
        let open = |flags: OFlags| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags.bits() as i32);
            options.open(&path)
        };
        Ok(Arc::new(RealFile { buffered: open(OFlags::empty())?, direct: open(OFlags::DIRECT).ok() }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// A file with a second descriptor for direct I/O, where the filesystem has that.
#[derive(Debug)]
struct RealFile {
    buffered: File,
    direct: Option<File>,
}

impl StateFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.buffered.read_exact_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let fits = |number: usize| number.is_multiple_of(PAGE);
        let fits = fits(offset as usize) && fits(bytes.len()) && fits(bytes.as_ptr().addr()) && !bytes.is_empty();
        match self.direct.as_ref().filter(|_| fits).map(|direct| direct.write_all_at(bytes, offset)) {
            // The device wants a coarser alignment.
            Some(Err(error)) if error.kind() == io::ErrorKind::InvalidInput => {
                self.buffered.write_all_at(bytes, offset)
            }
            Some(written) => written,
            None => self.buffered.write_all_at(bytes, offset),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.buffered.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.buffered.metadata()?.size())
    }

    fn resize(&self, size: u64) -> io::Result<()> {
        self.buffered.set_len(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_zeros_whatever_was_there_and_nothing_beside_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("volume");
        for keep in [false, true] {
            std::fs::write(&path, vec![7; 3 << 20]).unwrap();
            let volume = FileVolume::open(&path, false).unwrap();
            volume.zero(512, 1 << 20, keep).unwrap();
            volume.zero((2 << 20) - 1, (1 << 20) - 511, keep).unwrap();
            let is_zero = |at| (512..(1 << 20) + 512).contains(&at) || ((2 << 20) - 1..(3 << 20) - 512).contains(&at);
            let content = std::fs::read(&path).unwrap();
            assert!(content.iter().enumerate().all(|(at, byte)| *byte == if is_zero(at) { 0 } else { 7 }));
        }
    }

    #[test]
    fn a_file_that_is_written_to_looks_different() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("volume");
        std::fs::write(&path, [7; 4096]).unwrap();
        let fingerprint = || FileVolume::open(&path, false).unwrap().fingerprint().unwrap();
        let before = fingerprint();
        assert_eq!(fingerprint(), before);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[8], 5).unwrap();
        // However coarse the clock of the filesystem is.
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_ne!(fingerprint(), before);
    }

    #[test]
    fn a_state_directory_has_one_user() {
        let directory = tempfile::tempdir().unwrap();
        let first = StateDirectory::open(directory.path()).unwrap();
        let text = StateDirectory::open(directory.path()).unwrap_err().to_string();
        assert!(text.contains("another tap uses it"), "{text}");
        drop(first);
        StateDirectory::open(directory.path()).unwrap();
    }
}
