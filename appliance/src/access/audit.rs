//! The audit log: every act that matters for who may do what, and every refusal, as lines of JSON in the pool.
//!
//! Invariants: a line is durable before the act that it tells of takes effect outside; files are replaced by newer ones at a fixed size and the
//! oldest goes, so the log cannot fill the pool; a line is whole or the last of its file.

use crate::clock;
use crate::error::{Result, at};
use crate::locks::lock;
use crate::pool::disk::{Access, Disk, DiskFile};
use serde_json::json;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use understudy_format::text::time;

/// The size at which a file is full, bytes.
const FULL: u64 = 4 << 20;
/// Files that are kept beside the one that is written.
const OLDER: usize = 8;

/// See the module documentation.
#[derive(Debug)]
pub struct Audit {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    file: Arc<dyn DiskFile>,
    length: u64,
}

impl Audit {
    pub(super) fn of(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, dir: dir.to_owned(), open: Mutex::default() }
    }

    /// Records that `who` did something, durably.
    pub fn record(&self, act: &str, who: &dyn Display, what: &str) -> Result<()> {
        tracing::info!(act, %who, what, "audit");
        let line = json!({"time": time(clock::now_ns()), "act": act, "who": who.to_string(), "what": what});
        let mut open = lock(&self.open);
        let written = self.append(&mut open, format!("{line}\n").as_bytes());
        if written.is_err() {
            *open = None;
        }
        written.map_err(at(&self.path(0)))
    }

    /// The same for what happened anyway, such as a refusal: that it cannot be recorded is told in the log of the daemon.
    pub fn note(&self, act: &str, who: &dyn Display, what: &str) {
        if let Err(error) = self.record(act, who, what) {
            tracing::error!(%error, act, %who, what, "the audit log cannot be written");
        }
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
            0 => self.dir.join("audit.jsonl"),
            older => self.dir.join(format!("audit.{older}.jsonl")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::disk::RealDisk;

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_default()).collect()
    }

    #[test]
    fn a_line_that_was_cut_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let audit = || Audit::of(Arc::new(RealDisk), dir.path());
        audit().record("revoke", &"web", "a \"name\"\nof two lines").unwrap();
        std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + "{\"act\":\"gra").unwrap();
        audit().record("grant", &"web", "b").unwrap();
        let acts: Vec<_> = lines(&path).iter().map(|line| line["act"].as_str().map(str::to_owned)).collect();
        assert_eq!(acts, [Some("revoke".into()), None, Some("grant".into())]);
        assert_eq!(lines(&path)[0]["what"], "a \"name\"\nof two lines");
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::of(Arc::new(RealDisk), dir.path());
        let name = |number| audit.path(number);
        for number in 0..OLDER + 3 {
            audit.record("denied", &"web", &number.to_string()).unwrap();
            lock(&audit.open).as_mut().unwrap().length = FULL;
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), OLDER + 1);
        assert_eq!(lines(&name(0)).last().unwrap()["what"], (OLDER + 2).to_string());
        assert_eq!(lines(&name(OLDER))[0]["what"], "2");
    }
}
