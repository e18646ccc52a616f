//! Where `restore` writes to: a file or a block device.
//!
//! Invariants: a device that is mounted or held by anyone is opened only with force (the kernel's exclusive
//! open decides); a size that does not fit is refused without force, and a device that is too small always.
//! Zeros leave no old byte behind, whatever the target can do.

use crate::source::FileSource;
use crate::text;
use anyhow::{Context, Result, bail};
use rustix::fs::{FallocateFlags, FileType, SeekFrom, fallocate, fstat, seek};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use understudy_net::aligned;
use understudy_net::mounts::{loops_over, mounts_of};

/// Zeros written at once where nothing better is to be had.
const ZEROS: usize = 1 << 20;

/// A target that has the size of the point.
#[derive(Debug)]
pub struct Target {
    name: String,
    file: File,
    /// Past the page cache, which bulk writes only wait for; where the filesystem has that.
    direct: Option<File>,
    /// Whether it was created for this.
    pub created: bool,
}

impl Target {
    /// Opens or creates the target for a volume of `size` bytes.
    pub fn open(path: &Path, size: u64, force: bool) -> Result<Self> {
        let name = path.display().to_string();
        if matches!(std::fs::metadata(path), Err(e) if e.kind() == io::ErrorKind::NotFound) {
            return Self::create(path, name, size);
        }
        let (file, device) = open_in_place(path, &name, force)?;
        check_size(&file, &name, device, size, force)?;
        Ok(Self { name, file, direct: open_direct(path), created: false })
    }

    fn create(path: &Path, name: String, size: u64) -> Result<Self> {
        if path.starts_with("/dev") {
            bail!("target {name}: there is no such device");
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = file.with_context(|| format!("target {name}: cannot be created"))?;
        file.set_len(size).with_context(|| format!("target {name}: setting its size"))?;
        Ok(Self { name, file, direct: open_direct(path), created: true })
    }

    /// The name, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The target as a source of its first `size` bytes.
    pub fn source(&self, size: u64) -> Result<FileSource> {
        Ok(FileSource::from_file(self.file.try_clone()?, self.name.clone())?.limited_to(size))
    }

    /// Writes bytes.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let fits = |number: usize| number.is_multiple_of(aligned::PAGE);
        let direct = self
            .direct
            .as_ref()
            .filter(|_| fits(offset as usize) && fits(bytes.len()) && fits(bytes.as_ptr().addr()) && !bytes.is_empty());
        let written = match direct.map(|direct| direct.write_all_at(bytes, offset)) {
            // None, or the device wants a coarser alignment.
            None => self.file.write_all_at(bytes, offset),
            Some(Err(e)) if e.kind() == io::ErrorKind::InvalidInput => self.file.write_all_at(bytes, offset),
            Some(written) => written,
        };
        written.with_context(|| format!("target {}: writing at offset {offset}", self.name))
    }

    /// Makes a range read as zeros: a hole where possible, zeros from the device, or written ones.
    pub fn zero(&self, offset: u64, length: u64) -> Result<()> {
        free(&self.file, offset, length).or_else(|_| self.write_zeros(offset, length))
    }

    fn write_zeros(&self, offset: u64, length: u64) -> Result<()> {
        let zeros = vec![0; ZEROS];
        let end = offset + length;
        let mut at = offset;
        while at < end {
            let count = (end - at).min(ZEROS as u64);
            self.write(at, &zeros[..count as usize])?;
            at += count;
        }
        Ok(())
    }

    /// Makes everything durable.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().with_context(|| format!("target {}: making it durable", self.name))
    }
}

/// Opens what is there, to be written in place: the file, and whether it is a block device.
pub(crate) fn open_in_place(path: &Path, name: &str, force: bool) -> Result<(File, bool)> {
    let metadata = std::fs::metadata(path).with_context(|| format!("target {name}"))?;
    match (metadata.file_type().is_block_device(), metadata.is_file()) {
        (true, _) => Ok((open_device(path, name, force)?, true)),
        (_, true) => Ok((open_file(path, name, force)?, false)),
        _ => bail!("target {name}: expected a file or a block device; nothing was written"),
    }
}

/// Makes a range read as zeros without writing them, where that is possible: a hole, or zeros from the device.
pub(crate) fn free(file: &File, offset: u64, length: u64) -> rustix::io::Result<()> {
    let by = |flags| fallocate(file, flags | FallocateFlags::KEEP_SIZE, offset, length);
    by(FallocateFlags::PUNCH_HOLE).or_else(|_| by(FallocateFlags::ZERO_RANGE))
}

fn open_direct(path: &Path) -> Option<File> {
    let flags = rustix::fs::OFlags::DIRECT.bits() as i32;
    OpenOptions::new().write(true).custom_flags(flags).open(path).ok()
}

fn open_file(path: &Path, name: &str, force: bool) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.with_context(|| format!("target {name}: cannot be opened for writing"))?;
    match loops_over(&fstat(&file)?).first() {
        Some(device) if !force => bail!(
            "target {name}: it is in use behind the loop device {device}; unmount and detach that, \
             or use --force if you are certain; nothing was written"
        ),
        _ => Ok(file),
    }
}

fn open_device(path: &Path, name: &str, force: bool) -> Result<File> {
    let exclusive = if force { 0 } else { rustix::fs::OFlags::EXCL.bits() as i32 };
    let file = OpenOptions::new().read(true).write(true).custom_flags(exclusive).open(path);
    let Err(e) = &file else { return Ok(file?) };
    if e.raw_os_error() != Some(rustix::io::Errno::BUSY.raw_os_error()) {
        return file.with_context(|| format!("target {name}: cannot be opened for writing"));
    }
    let mounts = rustix::fs::stat(path).map(|stat| mounts_of(&stat)).unwrap_or_default();
    let by = match mounts.first() {
        Some(mount) => format!("it or a partition of it is mounted at {}", mount.at),
        None => "it is in use (by LVM, RAID, device-mapper, swap or another program)".into(),
    };
    bail!("target {name}: {by}; unmount or release it, or use --force if you are certain; nothing was written")
}

fn check_size(file: &File, name: &str, device: bool, size: u64, force: bool) -> Result<()> {
    let own = seek(file, SeekFrom::End(0)).with_context(|| format!("target {name}: its size"))?;
    debug_assert_eq!(device, fstat(file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_block_device()));
    let sizes = format!("the target has {own} bytes ({}), the point {size} ({})", text::bytes(own), text::bytes(size));
    match (own == size, device, force) {
        (true, ..) => Ok(()),
        (_, true, _) if own < size => bail!("target {name} is too small: {sizes}; nothing was written"),
        (_, true, true) => Ok(()),
        (_, false, true) => file.set_len(size).with_context(|| format!("target {name}: setting its size")),
        (_, true, false) => {
            bail!("target {name}: {sizes}; with --force its tail is left as it is; nothing was written")
        }
        (_, false, false) => bail!("target {name}: {sizes}; with --force the file is resized; nothing was written"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_refused_without_force() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("target");
        std::fs::write(&path, [1; 1024]).unwrap();
        let text = Target::open(&path, 512, false).unwrap_err().to_string();
        assert!(text.contains("the target has 1024 bytes") && text.contains("--force"), "{text}");
        assert_eq!(std::fs::read(&path).unwrap(), [1; 1024]);
        Target::open(&path, 512, true).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 512);
    }

    #[test]
    fn zeros_leave_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("target");
        std::fs::write(&path, vec![7; 3 << 20]).unwrap();
        let target = Target::open(&path, 3 << 20, false).unwrap();
        target.zero(512, 1 << 20).unwrap();
        target.write_zeros((2 << 20) - 1, (1 << 20) - 511).unwrap();
        let content = std::fs::read(&path).unwrap();
        let expected = |at: usize| {
            if (512..(1 << 20) + 512).contains(&at) || ((2 << 20) - 1..(3 << 20) - 512).contains(&at) { 0 } else { 7 }
        };
        assert!(content.iter().enumerate().all(|(at, byte)| *byte == expected(at)));
    }

    #[test]
    fn missing_files_are_created_and_missing_devices_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let target = Target::open(&directory.path().join("new"), 4096, false).unwrap();
        assert!(target.created);
        assert!(Target::open(Path::new("/dev/understudy-none"), 4096, true).is_err());
        assert!(Target::open(directory.path(), 4096, true).is_err());
    }
}
