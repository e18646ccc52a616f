//! What a secondary is kept on: an image in the pool, or a block device.
//!
//! Invariants: a device is held exclusively for as long as it is a secondary, so nobody mounts it between two points; only as many
//! of its bytes as the volume has are written, and it is never resized; whoever opens one learns why it cannot be used.

use crate::error::{Error, Result, at};
use crate::pool::disk::{Access, AlignedBuffer, Device, Disk, DiskFile};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use understudy_format::secondary::Place;

/// Bytes at each end of a device that tell whether it is in use.
const ENDS: u64 = 1 << 20;
/// Bytes that are zeroed between two looks at whether to stop.
const ZERO_BYTES: u64 = 64 << 20;

/// Something that holds a secondary, or is to.
#[derive(Debug, Clone)]
pub struct Target {
    /// Of the image or device.
    pub path: PathBuf,
    /// What a state that is about it says.
    pub place: Place,
    /// Open for writing.
    pub file: Arc<dyn DiskFile>,
    /// What is known of the device; `None` for an image.
    pub device: Option<Device>,
}

/// The image in a volume's directory.
pub fn image_path(dir: &Path) -> PathBuf {
    dir.join("secondary.raw")
}

/// What a state about this device says.
pub fn place_of(path: &str, device: &Device) -> Place {
    Place::device(&format!("{path}\n{}", device.identity))
}

/// What is known of the device at `path`, which must be one.
pub fn find_device(disk: &dyn Disk, path: &str) -> Result<Device> {
    let advice = "name a block device by its absolute path, best one that stays, such as /dev/disk/by-id/...";
    let refused = |reason: &str| Error::Refused(format!("{path}: {reason}; {advice}"));
    if !Path::new(path).is_absolute() {
        return Err(refused("not an absolute path"));
    }
    disk.device(Path::new(path)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => refused("there is no such device"),
        io::ErrorKind::InvalidInput => refused("it is no block device"),
        _ => at(Path::new(path))(error),
    })
}

impl Target {
    /// The image in a volume's directory, created empty when it is absent.
    pub fn image(disk: &dyn Disk, dir: &Path) -> Result<Self> {
        let path = image_path(dir);
        let file = disk.open(&path, Access::Write).map_err(at(&path))?;
        Ok(Self { path, place: Place::IMAGE, file, device: None })
    }

    /// A device, which nobody else may be using.
    pub fn device(disk: &dyn Disk, path: &str, device: Device) -> Result<Self> {
        let file = disk.open(Path::new(path), Access::Device).map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => Error::Refused(format!(
                "{path} {}; unmount or release it, or name another device; nothing was written to it",
                usage(&device)
            )),
            _ => at(Path::new(path))(error),
        })?;
        Ok(Self { path: path.into(), place: place_of(path, &device), file, device: Some(device) })
    }

    /// Bytes of the image or device.
    pub fn size(&self) -> Result<u64> {
        self.file.size().map_err(at(&self.path))
    }

    /// Fails when a device has no room for `size` bytes.
    pub fn check_room(&self, size: u64) -> Result<()> {
        match self.size()? {
            own if self.device.is_some() && own < size => Err(Error::Refused(format!(
                "{} has {own} bytes and the volume {size}: {} bytes are missing; enlarge the device or name another one",
                self.path.display(),
                size - own
            ))),
            _ => Ok(()),
        }
    }

    /// Whether an image of `size` bytes can be here: an image has exactly that size, a device at least.
    pub fn fits(&self, size: u64) -> Result<bool> {
        Ok(if self.device.is_some() { self.size()? >= size } else { self.size()? == size })
    }

    /// Makes room for `size` bytes; those from `known` on read as zeros afterwards.
    pub fn prepare(&self, known: u64, size: u64, stop: &dyn Fn() -> bool) -> Result<()> {
        self.check_room(size)?;
        if self.device.is_none() {
            // Cut first: what a larger image had there must not come back.
            let cut = self.size()?.min(known);
            return self.file.resize(cut).and_then(|()| self.file.resize(size)).map_err(at(&self.path));
        }
        self.zero(known.min(size)..size, stop)
    }

    /// Makes a range read as zeros.
    pub fn zero(&self, range: Range<u64>, stop: &dyn Fn() -> bool) -> Result<()> {
        // A device may have to write its zeros.
        let step = if self.device.is_some() { ZERO_BYTES } else { u64::MAX };
        let mut from = range.start;
        while from < range.end {
            if stop() {
                return Err(Error::Closing);
            }
            let length = step.min(range.end - from);
            self.file.zero(from, length).map_err(at(&self.path))?;
            from += length;
        }
        Ok(())
    }

    /// Whether both ends of a device are zeros: there is no filesystem, no partition table, no RAID or LVM on it.
    pub fn is_blank(&self) -> Result<bool> {
        let size = self.size()?;
        let length = ENDS.min(size);
        let mut buffer = AlignedBuffer::new(ENDS as usize);
        for offset in [0, size - length] {
            let bytes = &mut buffer.bytes_mut()[..length as usize];
            self.file.read_at(bytes, offset).map_err(at(&self.path))?;
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn usage(device: &Device) -> String {
    match device.mounts.first() {
        Some(mount) => format!("is mounted at {mount}, itself or a partition of it"),
        None => "is in use (by LVM, RAID, device-mapper, swap or another program)".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::disk::RealDisk;

    #[test]
    fn a_byte_at_either_end_makes_a_device_not_blank() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::image(&RealDisk, dir.path()).unwrap();
        for size in [512, ENDS - 512, ENDS, 3 * ENDS + 512] {
            for at in [0, size / 2, size - 1] {
                target.file.resize(0).unwrap();
                target.file.resize(size).unwrap();
                assert!(target.is_blank().unwrap(), "{size} bytes of zeros");
                target.file.write_at(&[1], at).unwrap();
                let is_looked_at = at < ENDS || at + ENDS >= size;
                assert_eq!(target.is_blank().unwrap(), !is_looked_at, "{size} bytes, one at {at}");
            }
        }
    }
}
