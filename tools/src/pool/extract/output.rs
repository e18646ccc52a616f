//! Where a point is extracted to: a new file, a file or device that may be overwritten, or a pipe.
//!
//! Invariants: nothing that exists is touched without force, nothing inside the pool ever, and a device that is in use
//! never; zeros are holes in a file and leave no old byte on a device; a pipe gets every byte in order. A file that was
//! made here and not finished is removed.

use crate::text::bytes;
use anyhow::{Context, Result, bail};
use rustix::fs::{FallocateFlags, OFlags, SeekFrom, copy_file_range, fallocate, ioctl_ficlone, seek};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Zeros written at once where nothing better is to be had.
const ZEROS: usize = 1 << 20;

/// What kind of thing is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Device,
    Pipe,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Output {
    name: String,
    file: File,
    kind: Kind,
    size: u64,
    /// To be removed unless it is finished.
    unfinished: Option<PathBuf>,
}

impl Output {
    /// Opens `path` for a point of `size` bytes out of the pool in `pool`; `-` is standard output.
    pub fn open(path: &Path, pool: &Path, size: u64, force: bool) -> Result<Self> {
        if path.as_os_str() == "-" {
            let file = File::from(io::stdout().as_fd().try_clone_to_owned().context("standard output")?);
            return Ok(Self { name: "standard output".into(), file, kind: Kind::Pipe, size, unfinished: None });
        }
        let name = path.display().to_string();
        refuse_inside(path, pool)?;
        let metadata = match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::create(path, name, size),
            metadata => metadata.with_context(|| format!("cannot look at {name}"))?,
        };
        let kind = match metadata.file_type() {
            of if of.is_file() => Kind::File,
            of if of.is_block_device() => Kind::Device,
            _ => bail!("{name} is neither a file nor a block device; nothing was written"),
        };
        if !force {
            bail!("{name} exists; with --force it is overwritten; nothing was written");
        }
        let file = if kind == Kind::Device { open_device(path, &name, size)? } else { open(path, &name, 0)? };
        Ok(Self { name, file, kind, size, unfinished: None })
    }

    fn create(path: &Path, name: String, size: u64) -> Result<Self> {
        if path.starts_with("/dev") {
            bail!("{name}: there is no such device");
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = file.with_context(|| format!("cannot create {name}"))?;
        Ok(Self { name, file, kind: Kind::File, size, unfinished: Some(path.to_owned()) })
    }

    /// The name, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether what is written can be read back and shared.
    pub fn is_file(&self) -> bool {
        self.kind == Kind::File
    }

    /// Makes a file all zero, of the size of the point: what is not written is a hole.
    pub fn clear(&self) -> Result<()> {
        match self.kind {
            Kind::File => {
                let sized = self.file.set_len(0).and_then(|()| self.file.set_len(self.size));
                sized.with_context(|| format!("cannot give {} its size", self.name))
            }
            Kind::Device | Kind::Pipe => Ok(()),
        }
    }

    /// Makes a file share all bytes of another; fails when the filesystem cannot, and has changed nothing then.
    pub fn share(&self, from: &File) -> Result<(), Errno> {
        ioctl_ficlone(&self.file, from)?;
        rustix::fs::ftruncate(&self.file, self.size)
    }

    /// Makes a range of a file the same bytes as one of another file on its filesystem, which shares extents and so
    /// writes none; all are multiples of what it shares.
    pub fn share_range(&self, offset: u64, from: &File, from_offset: u64, length: u64) -> Result<()> {
        let (mut source, mut target, end) = (from_offset, offset, from_offset + length);
        while source < end {
            let left = (end - source) as usize;
            let copied = copy_file_range(from, Some(&mut source), &self.file, Some(&mut target), left);
            if copied.with_context(|| format!("cannot share bytes into {} at {target}", self.name))? == 0 {
                bail!("cannot share bytes into {} at {target}: a segment of the pool ends early", self.name);
            }
        }
        Ok(())
    }

    /// Writes bytes; a pipe is written in order.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let written = match self.kind {
            Kind::Pipe => (&self.file).write_all(bytes),
            Kind::File | Kind::Device => self.file.write_all_at(bytes, offset),
        };
        // Told as text: a closed pipe is a failure here, and no reader who has seen enough.
        written.map_err(|error| anyhow::anyhow!("cannot write to {} at {offset}: {error}", self.name))
    }

    /// Makes a range zero in a file that was cleared, on a device or in a pipe.
    pub fn zero(&self, offset: u64, length: u64) -> Result<()> {
        match self.kind {
            Kind::File => Ok(()),
            Kind::Device => self.punch(offset, length).or_else(|_| self.write_zeros(offset, length)),
            Kind::Pipe => self.write_zeros(offset, length),
        }
    }

    /// Makes a range of a shared file a hole, unless it is one.
    pub fn unshare(&self, offset: u64, length: u64) -> Result<()> {
        match self.data_from(offset)? {
            data if data >= offset + length => Ok(()),
            _ => self.punch(offset, length).or_else(|_| self.write_zeros(offset, length)),
        }
    }

    fn punch(&self, offset: u64, length: u64) -> rustix::io::Result<()> {
        let by = |flags| fallocate(&self.file, flags | FallocateFlags::KEEP_SIZE, offset, length);
        by(FallocateFlags::PUNCH_HOLE).or_else(|_| by(FallocateFlags::ZERO_RANGE))
    }

    fn write_zeros(&self, offset: u64, length: u64) -> Result<()> {
        let zeros = vec![0; ZEROS];
        let steps = (0..length).step_by(ZEROS);
        steps.into_iter().try_for_each(|at| self.write(offset + at, &zeros[..(length - at).min(ZEROS as u64) as usize]))
    }

    /// Where the first bytes at or behind `offset` are that are no hole.
    pub fn data_from(&self, offset: u64) -> Result<u64> {
        match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) => Ok(data),
            Err(Errno::NXIO) => Ok(u64::MAX),
            Err(error) => Err(error).with_context(|| format!("cannot look for holes in {}", self.name)),
        }
    }

    /// Reads bytes back.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(bytes, offset).with_context(|| format!("cannot read {} at {offset}", self.name))
    }

    /// Makes everything durable; from here on the file stays.
    pub fn finish(mut self) -> Result<()> {
        if self.kind != Kind::Pipe {
            self.file.sync_all().with_context(|| format!("cannot make {} durable", self.name))?;
        }
        if let Some(path) = self.unfinished.take() {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let synced = File::open(dir).and_then(|dir| dir.sync_all());
            synced.with_context(|| format!("cannot make {} durable", dir.display()))?;
        }
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(path) = &self.unfinished {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A pool is never written into, by whatever way it is named.
fn refuse_inside(path: &Path, pool: &Path) -> Result<()> {
    let own = std::fs::canonicalize(pool).with_context(|| format!("cannot look at {}", pool.display()))?;
    let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let place = std::fs::canonicalize(path).or_else(|_| std::fs::canonicalize(parent));
    let place = place.with_context(|| format!("cannot look at the directory of {}", path.display()))?;
    if place.starts_with(&own) {
        bail!("{} is inside the pool {}, which is only read; nothing was written", path.display(), pool.display());
    }
    Ok(())
}

fn open(path: &Path, name: &str, flags: i32) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
    match file {
        Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
            bail!("{name} is in use (mounted, or held by another program): release it first; nothing was written")
        }
        file => file.with_context(|| format!("cannot open {name} for writing")),
    }
}

fn open_device(path: &Path, name: &str, size: u64) -> Result<File> {
    let file = open(path, name, OFlags::EXCL.bits() as i32)?;
    let own = seek(&file, SeekFrom::End(0)).with_context(|| format!("cannot learn the size of {name}"))?;
    if own < size {
        let (has, needs) = (bytes(own), bytes(size));
        bail!("{name} is too small: it has {own} bytes ({has}), the point {size} ({needs}); nothing was written");
    }
    Ok(file)
}
