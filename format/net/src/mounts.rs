//! Which mounts use a block device, itself or through one of its partitions.
//!
//! Read from `/proc/self/mountinfo` and `/sys`; where these say nothing, nothing is claimed. This
//! informs people: what decides whether a device is in use is the exclusive open of the kernel.

use rustix::fs::{Stat, major, minor};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A mount of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The directory.
    pub at: String,
    /// Whether the filesystem may be written to.
    pub writable: bool,
}

/// The mounts of a block device and of its partitions.
pub fn mounts_of(device: &Stat) -> Vec<Mount> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = (major(device.st_rdev), minor(device.st_rdev));
    let numbers = [vec![own], partitions(own)].concat();
    let number_of = |path: &str| {
        let found = fs::metadata(path).ok()?;
        Some((major(found.rdev()), minor(found.rdev())))
    };
    find(&table, &numbers, number_of)
}

/// Whether something is mounted at a directory, also when that does not answer any more.
pub fn is_mounted(dir: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    is_in(&table, dir)
}

fn is_in(table: &str, dir: &Path) -> bool {
    table.lines().filter_map(|line| line.split(' ').nth(4)).any(|at| Path::new(&unescape(at)) == dir)
}

/// A path as the mount table shows it: blanks and backslashes are octal numbers there.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (octal, plain)| text.replace(octal, plain))
}

/// The loop devices that a regular file stands behind, such as `/dev/loop3`.
pub fn loops_over(file: &Stat) -> Vec<String> {
    let same =
        |path: &str| fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (file.st_dev, file.st_ino));
    let Ok(entries) = fs::read_dir("/sys/block") else { return Vec::new() };
    let over = entries.flatten().filter(|entry| {
        let backing = fs::read_to_string(entry.path().join("loop/backing_file"));
        backing.is_ok_and(|path| same(path.trim_end()))
    });
    over.map(|entry| format!("/dev/{}", entry.file_name().to_string_lossy())).collect()
}

/// The partitions of a whole disk, from `/sys/dev/block/MAJOR:MINOR/*/partition`.
fn partitions((major, minor): (u32, u32)) -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir(format!("/sys/dev/block/{major}:{minor}")) else { return Vec::new() };
    let directories = entries.flatten().map(|entry| entry.path()).filter(|path| path.join("partition").exists());
    directories.filter_map(|path| parse_number(fs::read_to_string(path.join("dev")).ok()?.trim())).collect()
}

fn parse_number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The lines of a mount table that belong to one of the device numbers.
///
/// btrfs and overlays show a number of their own: for them the mounted path is looked up.
fn find(table: &str, numbers: &[(u32, u32)], number_of: impl Fn(&str) -> Option<(u32, u32)>) -> Vec<Mount> {
    let lines = table.lines().filter_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mount: Vec<&str> = mount.split(' ').collect();
        let filesystem: Vec<&str> = filesystem.split(' ').collect();
        let (number, at, path) = (parse_number(mount.get(2)?)?, *mount.get(4)?, *filesystem.get(1)?);
        let mine = numbers.contains(&number)
            || (path.starts_with("/dev/") && number_of(path).is_some_and(|number| numbers.contains(&number)));
        let writable = filesystem.get(2)?.split(',').any(|option| option == "rw");
        mine.then(|| Mount { at: unescape(at), writable })
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,discard
23 22 8:17 / /mnt/a\\040b ro,relatime - xfs /dev/sdb1 ro,attr2
24 22 0:40 /@ /mnt/c rw - btrfs /dev/sdc rw,ssd
25 22 0:5 / /proc rw - proc proc rw
broken line";

    #[test]
    fn mounts_are_found_by_number_and_by_path() {
        let number_of = |path: &str| (path == "/dev/sdc").then_some((8, 32));
        let found = |numbers: &[(u32, u32)]| find(TABLE, numbers, number_of);
        assert_eq!(found(&[(8, 1)]), [Mount { at: "/".into(), writable: true }]);
        assert_eq!(found(&[(8, 16), (8, 17)]), [Mount { at: "/mnt/a b".into(), writable: false }]);
        assert_eq!(found(&[(8, 32)]), [Mount { at: "/mnt/c".into(), writable: true }]);
        assert_eq!(found(&[(7, 0)]), []);
    }

    #[test]
    fn a_mount_is_found_by_its_directory() {
        assert!(is_in(TABLE, Path::new("/mnt/a b")) && is_in(TABLE, Path::new("/")));
        assert!(!is_in(TABLE, Path::new("/mnt/a")) && !is_in(TABLE, Path::new("/mnt")));
    }
}
