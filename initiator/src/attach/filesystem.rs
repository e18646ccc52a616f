//! What is on a disk, and how it is mounted.
//!
//! A point is what a volume was at one moment, as after a loss of power: its journal is dirty, and a point cannot be
//! written, so the journal must not be replayed. Invariants: what is on the disk is decided by `blkid` and `partx`, never by
//! its name; a disk with partitions is mounted only where one of them was named.

use super::tool;
use anyhow::{Context, Result, bail};
use std::path::Path;

/// Bytes of the sectors that `partx` counts in.
const SECTOR: u64 = 512;

/// A filesystem on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filesystem {
    /// As `mount -t` calls it.
    pub kind: String,
    /// Its partition; `None` for the whole disk.
    pub partition: Option<Partition>,
}

/// A partition of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub number: u32,
    /// Where it starts, bytes.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

impl Filesystem {
    /// The filesystem on `disk`, or on a partition of it; `export` names it in errors.
    pub fn find(disk: &Path, partition: Option<u32>, export: &str) -> Result<Self> {
        let table = Probe::of(disk, None)?;
        let partition = match (partition, table.value("PTTYPE")) {
            (None, None) => None,
            (None, Some(kind)) if table.value("TYPE").is_none() => {
                let there = list(disk)?;
                bail!("{export} has a partition table ({kind}): name one with --partition N; it has {there}")
            }
            (None, Some(_)) => None,
            (Some(number), _) => Some(find_partition(disk, number, export)?),
        };
        let found = Probe::of(disk, partition.as_ref())?;
        let what = partition.as_ref().map_or(export.to_owned(), |p| format!("partition {} of {export}", p.number));
        match found.value("TYPE") {
            Some(kind) => Ok(Self { kind: kind.to_owned(), partition }),
            None => bail!("{what} has no filesystem that is known here; without --mount it is attached as a disk"),
        }
    }

    /// The options of `mount`; `is_device` when the disk is a block device and not a file.
    pub fn options(&self, writable: bool, is_device: bool) -> String {
        let mut options = vec![if writable { "rw" } else { "ro" }.to_owned()];
        options.extend(recovery(&self.kind, writable).map(str::to_owned));
        if !is_device || self.partition.is_some() {
            options.push("loop".to_owned());
        }
        if let Some(Partition { offset, size, .. }) = self.partition {
            options.push(format!("offset={offset},sizelimit={size}"));
        }
        options.join(",")
    }

    /// The kernel remembers btrfs volumes by UUID, and would take a point for the volume that it was taken of.
    pub fn prepare(&self) {
        if self.kind == "btrfs" {
            // Without the tools of btrfs nothing was remembered for long.
            let _ = tool::output("btrfs", ["device", "scan", "--forget"], []);
        }
    }
}

/// What keeps a filesystem from writing to a disk that cannot be written, and from mistaking it for its original.
fn recovery(kind: &str, writable: bool) -> Option<&'static str> {
    match (kind, writable) {
        ("ext3" | "ext4", false) => Some("noload"),
        ("xfs", false) => Some("norecovery,nouuid"),
        ("xfs", true) => Some("nouuid"),
        ("btrfs", false) => Some("rescue=nologreplay"),
        ("f2fs" | "nilfs2", false) => Some("norecovery"),
        _ => None,
    }
}

/// What `blkid` finds.
struct Probe(String);

impl Probe {
    fn of(disk: &Path, partition: Option<&Partition>) -> Result<Self> {
        let mut words = vec!["-p".to_owned(), "-o".to_owned(), "export".to_owned()];
        if let Some(Partition { offset, size, .. }) = partition {
            words.extend(["-O".to_owned(), offset.to_string(), "-S".to_owned(), size.to_string()]);
        }
        let output = tool::output("blkid", words.iter().map(String::as_str), [disk])?;
        match output.status.code() {
            // 2: there is nothing that it knows.
            Some(0 | 2) => Ok(Self(String::from_utf8_lossy(&output.stdout).into_owned())),
            _ => bail!("blkid failed: {}", tool::said(&output.stderr)),
        }
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }
}

fn partitions(disk: &Path) -> Result<Vec<Partition>> {
    let words = ["--raw", "--noheadings", "--output", "NR,START,SECTORS"];
    let output = tool::output("partx", words, [disk])?;
    if !output.status.success() {
        return Ok(Vec::new());
    }
    parse(&String::from_utf8_lossy(&output.stdout)).context("partx: the list of partitions is not understood")
}

fn parse(text: &str) -> Option<Vec<Partition>> {
    let partition = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok();
        let (number, start, sectors) = (next()?, next()?, next()?);
        let (offset, size) = (start.checked_mul(SECTOR)?, sectors.checked_mul(SECTOR)?);
        Some(Partition { number: number.try_into().ok()?, offset, size })
    };
    text.lines().map(partition).collect()
}

fn find_partition(disk: &Path, number: u32, export: &str) -> Result<Partition> {
    let found = partitions(disk)?.into_iter().find(|partition| partition.number == number);
    match found {
        Some(partition) => Ok(partition),
        None => bail!("{export} has no partition {number}; it has {}", list(disk)?),
    }
}

/// The partitions of a disk, for people.
fn list(disk: &Path) -> Result<String> {
    let one = |partition: &Partition| -> Result<String> {
        let probe = Probe::of(disk, Some(partition))?;
        let kind = probe.value("TYPE").unwrap_or("no known filesystem").to_owned();
        Ok(format!("{} ({}, {kind})", partition.number, crate::text::bytes(partition.size)))
    };
    let all = partitions(disk)?.iter().map(one).collect::<Result<Vec<_>>>()?;
    Ok(if all.is_empty() { "no partitions".to_owned() } else { all.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journals_are_replayed_only_where_that_can_be_written() {
        let options = |kind: &str, writable, is_device| {
            Filesystem { kind: kind.into(), partition: None }.options(writable, is_device)
        };
        assert_eq!(options("ext4", false, false), "ro,noload,loop");
        assert_eq!(options("ext4", true, false), "rw,loop");
        assert_eq!(options("xfs", false, true), "ro,norecovery,nouuid");
        assert_eq!(options("xfs", true, true), "rw,nouuid");
        assert_eq!(options("btrfs", false, true), "ro,rescue=nologreplay");
        assert_eq!(options("vfat", false, true), "ro");
    }

    #[test]
    fn partitions_are_read_and_mounted_by_offset() {
        let found = parse("1 2048 20480 \n2 22528 8\n").unwrap();
        assert_eq!(found[1], Partition { number: 2, offset: 22528 * 512, size: 4096 });
        assert_eq!(parse("1 2048 x"), None);
        let filesystem = Filesystem { kind: "ext4".into(), partition: Some(found[0].clone()) };
        assert_eq!(filesystem.options(true, true), "rw,loop,offset=1048576,sizelimit=10485760");
    }
}
