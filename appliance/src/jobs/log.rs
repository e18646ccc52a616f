//! What runs said: a file each, of bounded size, as long as the run is in the history.
//!
//! `DIR/job-logs/JOB@NUMBER`; names of jobs have no `@` and no `/`. Of what is too long the start and the end are kept. Nothing depends on
//! these files, so they are not synced, and a disk that takes none of them stops no job.

use crate::error::{Error, Result, at};
use crate::pool::Pool;
use crate::pool::disk::{self, Access, DiskFile};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use understudy_format::history::JobHistory;

const DIR: &str = "job-logs";
/// Most bytes of the start of a log, and of its end.
const HALF: usize = 127 << 10;

/// A log that is written.
#[derive(Debug)]
pub struct RunLog {
    file: Option<Arc<dyn DiskFile>>,
    written: u64,
    /// What may be the end, of what did not fit into the start.
    end: VecDeque<String>,
    end_bytes: usize,
    left_out: usize,
}

impl RunLog {
    /// Of this run; where the disk takes no file, that is said, and nothing is kept.
    pub fn create(pool: &Pool, job: &str, number: u64) -> Self {
        let file = Self::open(pool, job, number).map_err(|error| {
            tracing::warn!(job, %error, "the log of a run cannot be kept");
        });
        Self { file: file.ok(), written: 0, end: VecDeque::new(), end_bytes: 0, left_out: 0 }
    }

    fn open(pool: &Pool, job: &str, number: u64) -> io::Result<Arc<dyn DiskFile>> {
        pool.disk().make_dir(&pool.dir().join(DIR))?;
        let file = pool.disk().open(&path(pool, job, number), Access::Write)?;
        file.resize(0)?;
        Ok(file)
    }

    /// Adds a line.
    pub fn line(&mut self, time: &str, text: &str) {
        let line = format!("{time}  {text}\n");
        if self.end.is_empty() && self.written as usize + line.len() <= HALF {
            return self.write(&line);
        }
        self.end_bytes += line.len();
        self.end.push_back(line);
        while self.end_bytes > HALF {
            let Some(first) = self.end.pop_front() else { break };
            self.end_bytes -= first.len();
            self.left_out += 1;
        }
    }

    fn write(&mut self, text: &str) {
        // A log that stops half way is no reason to stop a run.
        let written = self.file.as_ref().map(|file| file.write_at(text.as_bytes(), self.written));
        self.written += if matches!(written, Some(Ok(()))) { text.len() as u64 } else { 0 };
    }

    /// Writes what was held back.
    pub fn finish(mut self) {
        if self.left_out > 0 {
            self.write(&format!("... {} lines are left out ...\n", self.left_out));
        }
        std::mem::take(&mut self.end).iter().for_each(|line| self.write(line));
    }
}

fn path(pool: &Pool, job: &str, number: u64) -> PathBuf {
    pool.dir().join(DIR).join(format!("{job}@{number}"))
}

/// The log of a run.
pub fn read(pool: &Pool, job: &str, number: u64) -> Result<String> {
    let path = path(pool, job, number);
    let bytes = disk::read_all(&**pool.disk(), &path).map_err(at(&path))?;
    let bytes = bytes.ok_or_else(|| Error::refused(format!("run {number} of {job} has left no log")))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Removes the logs of runs that are not in the history any more.
pub fn forget(pool: &Pool, histories: &[JobHistory]) {
    let name = |job: &JobHistory| job.runs.iter().map(|run| format!("{}@{}", job.name, run.number)).collect::<Vec<_>>();
    let known: BTreeSet<String> = histories.iter().flat_map(name).collect();
    let dir = pool.dir().join(DIR);
    let names = pool.disk().list(&dir).unwrap_or_default();
    for name in names.iter().filter(|name| !known.contains(*name)) {
        if let Err(error) = pool.disk().remove(&dir.join(name)) {
            tracing::warn!(name, %error, "an old log of a job could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_format::catalogue::Settings;

    #[test]
    fn a_log_keeps_its_start_and_its_end_and_goes_with_its_run() {
        let dir = tempfile::tempdir().unwrap();
        let pool = crate::open_pool(&dir.path().join("pool"), Settings::default().into()).unwrap();
        let mut log = RunLog::create(&pool, "night", 7);
        log.line("T", "first");
        (0..20_000).for_each(|number| log.line("T", &format!("line {number}")));
        log.line("T", "last");
        log.finish();
        let text = read(&pool, "night", 7).unwrap();
        assert!(text.starts_with("T  first\nT  line 0\n") && text.ends_with("T  line 19999\nT  last\n"), "{text}");
        assert!(text.len() <= 256 << 10, "{}", text.len());
        assert_eq!(text.matches(" lines are left out ...").count(), 1);
        // A short one is there as a whole, and again is another file.
        let mut log = RunLog::create(&pool, "night", 8);
        log.line("T", "short");
        log.finish();
        assert_eq!(read(&pool, "night", 8).unwrap(), "T  short\n");
        let mut history = JobHistory::new("night", 0);
        forget(&pool, std::slice::from_ref(&history));
        assert_eq!(read(&pool, "night", 8).unwrap_err().to_string(), "run 8 of night has left no log");
        history.runs.clear();
    }
}
