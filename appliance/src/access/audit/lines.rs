//! A file of lines that is put aside when it is full.
//!
//! Invariants: a line is durable when it was added; files are replaced by newer ones at a fixed size and the oldest goes, so they cannot fill the
//! pool; a line is whole or the last of its file.

use crate::error::{Result, at};
use crate::locks::lock;
use crate::pool::disk::{Access, Disk, DiskFile};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// The size at which a file is full, bytes.
const FULL: u64 = 4 << 20;
/// Files that are kept beside the one that is written.
const OLDER: usize = 8;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Lines {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    name: &'static str,
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    file: Arc<dyn DiskFile>,
    length: u64,
}

impl Lines {
    /// In `NAME.jsonl`, and older ones in `NAME.1.jsonl` and so on.
    pub(super) fn of(disk: Arc<dyn Disk>, dir: &Path, name: &'static str) -> Self {
        Self { disk, dir: dir.to_owned(), name, open: Mutex::default() }
    }

    /// Adds a line, durably.
    pub(super) fn add(&self, line: &str) -> Result<()> {
        let mut open = lock(&self.open);
        let written = self.append(&mut open, format!("{line}\n").as_bytes());
        if written.is_err() {
            *open = None;
        }
        written.map_err(at(&self.path(0)))
    }

    fn append(&self, open: &mut Option<Open>, line: &[u8]) -> std::io::Result<()> {
        if open.as_ref().is_some_and(|open| open.length >= FULL) {
            *open = None;
            self.shift()?;
        }
        let open = match open {
            Some(open) => open,
            None => open.insert(self.open()?),
        };
        open.file.write_at(line, open.length)?;
        open.file.sync()?;
        open.length += line.len() as u64;
        Ok(())
    }

    fn open(&self) -> std::io::Result<Open> {
        crate::pool::directory::make_durable(&*self.disk, &self.dir)?;
        let file = self.disk.open(&self.path(0), Access::Private)?;
        self.disk.sync_dir(&self.dir)?;
        let mut length = file.size()?;
        let mut last = [b'\n'];
        if length > 0 {
            file.read_at(&mut last, length - 1)?;
        }
        // A line that was cut stays as it is, and the next one begins behind it.
        if last != [b'\n'] {
            file.write_at(b"\n", length)?;
            length += 1;
        }
        Ok(Open { file, length })
    }

    /// Makes room for a new file; the oldest goes.
    fn shift(&self) -> std::io::Result<()> {
        for number in (0..OLDER).rev() {
            match self.disk.rename(&self.path(number), &self.path(number + 1)) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                renamed => renamed?,
            }
        }
        self.disk.sync_dir(&self.dir)
    }

    fn path(&self, number: usize) -> PathBuf {
        match number {
            0 => self.dir.join(format!("{}.jsonl", self.name)),
            older => self.dir.join(format!("{}.{older}.jsonl", self.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::disk::RealDisk;

    fn all(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_that_was_cut_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let lines = || Lines::of(Arc::new(RealDisk), dir.path(), "audit");
        lines().add("one").unwrap();
        std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + "tw").unwrap();
        lines().add("three").unwrap();
        assert_eq!(all(&path), ["one", "tw", "three"]);
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let lines = Lines::of(Arc::new(RealDisk), dir.path(), "audit");
        for number in 0..OLDER + 3 {
            lines.add(&number.to_string()).unwrap();
            lock(&lines.open).as_mut().unwrap().length = FULL;
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), OLDER + 1);
        assert_eq!(all(&lines.path(0)), [(OLDER + 2).to_string()]);
        assert_eq!(all(&lines.path(OLDER)), ["2"]);
    }
}
