//! What the system says of a block device, without opening it for use.
//!
//! Invariant: this informs; whether a device may be written to is decided by the exclusive open and by its content, because not
//! every device has a serial number and not every use of one is a mount.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use understudy_net::mounts::mounts_of;

/// What tells one device from another, where the system has it: below `/sys/dev/block/MAJOR:MINOR`.
const FACTS: [&str; 11] = [
    "wwid",
    "device/wwid",
    "serial",
    "device/serial",
    "uuid",
    "dm/uuid",
    "md/uuid",
    "loop/backing_file",
    "loop/offset",
    "partition",
    "start",
];

/// See the module documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The number by which the system knows it at present, whatever path leads to it.
    pub number: u64,
    /// Bytes.
    pub size: u64,
    /// What tells it from others over restarts: empty when nothing does.
    pub identity: String,
    /// Where it, or a partition of it, is mounted.
    pub mounts: Vec<String>,
}

impl Device {
    /// What is known of the device at `path`.
    pub fn of(path: &Path) -> io::Result<Self> {
        if !fs::metadata(path)?.file_type().is_block_device() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a block device"));
        }
        let stat = rustix::fs::stat(path)?;
        let size = rustix::fs::seek(File::open(path)?, rustix::fs::SeekFrom::End(0))?;
        let mounts = mounts_of(&stat).into_iter().map(|mount| mount.at).collect();
        Ok(Self { number: stat.st_rdev, size, identity: identity(stat.st_rdev), mounts })
    }
}

/// The facts of a device and, for a partition, of its disk.
fn identity(number: u64) -> String {
    let own = format!("/sys/dev/block/{}:{}", rustix::fs::major(number), rustix::fs::minor(number));
    let dirs = [own.clone(), format!("{own}/..")];
    let fact = |(dir, name): (&String, &str)| {
        let value = fs::read_to_string(format!("{dir}/{name}")).ok()?;
        let value = value.trim();
        (!value.is_empty()).then(|| format!("{name}={value}\n"))
    };
    dirs.iter().flat_map(|dir| FACTS.iter().map(move |name| (dir, *name))).filter_map(fact).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_block_device_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path(), Path::new("/dev/null"), Path::new("/proc/self/mountinfo")] {
            assert_eq!(Device::of(path).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{}", path.display());
        }
        assert_eq!(Device::of(&dir.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
