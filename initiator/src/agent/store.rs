//! What is known of runs, in files that survive the agent: `state-dir/runs/RUN` has the assignment, and the report once there is one.
//!
//! Invariants: the file is there before anything is done for a run, so an agent that is started again knows what was cut; it is
//! replaced as a whole and gone only when the appliance took the report. A file that cannot be read is told of and removed: it is litter of
//! a disk that failed, and no run waits for it.

use crate::state::{NewFile, make_private, remove};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::path::{Path, PathBuf};
use understudy_format::agent::{Assignment, Report};
use understudy_format::wire::{Control, Message};
use understudy_net::blocking::{FrameFile, write_message};
use uuid::Uuid;

/// See the module documentation.
#[derive(Debug)]
pub struct Store(PathBuf);

/// A run that is in a file.
#[derive(Debug, PartialEq)]
pub struct Stored {
    /// What was to be done.
    pub assignment: Assignment,
    /// How it ended; `None` when the agent ended before.
    pub report: Option<Report>,
}

impl Store {
    /// In this state directory.
    pub fn open(state_dir: &Path) -> Result<Self> {
        let directory = state_dir.join("runs");
        make_private(&directory)
            .with_context(|| format!("state directory {}: cannot be created", directory.display()))?;
        Ok(Self(directory))
    }

    /// Writes a run down.
    pub fn keep(&self, assignment: &Assignment, report: Option<&Report>) -> Result<()> {
        let path = self.path(assignment.run);
        let new = NewFile::create(&path)?;
        let mut file = new.file()?;
        let messages = [Control::Assign(assignment.clone())].into_iter().chain(report.cloned().map(Control::Report));
        for message in messages {
            write_message(&mut file, &message.into())
                .with_context(|| format!("{}: cannot be written", path.display()))?;
        }
        new.publish()
    }

    /// Forgets a run.
    pub fn forget(&self, run: Uuid) -> Result<()> {
        remove(&self.path(run))
    }

    /// All runs; of a file that cannot be read, why.
    pub fn load(&self) -> Result<(Vec<Stored>, Vec<anyhow::Error>)> {
        let (mut found, mut unread) = (Vec::new(), Vec::new());
        let entries = std::fs::read_dir(&self.0).with_context(|| format!("{}: cannot be read", self.0.display()))?;
        for path in entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()? {
            match read(&path) {
                Ok(stored) => found.push(stored),
                Err(error) => {
                    remove(&path)?;
                    unread.push(error.context(format!("{} is removed", path.display())));
                }
            }
        }
        Ok((found, unread))
    }

    fn path(&self, run: Uuid) -> PathBuf {
        self.0.join(run.to_string())
    }
}

fn read(path: &Path) -> Result<Stored> {
    let mut frames = FrameFile::new(File::open(path)?);
    let Some(Message::Control(Control::Assign(assignment))) = frames.next_message()? else {
        bail!("it does not begin with an assignment")
    };
    let report = match frames.next_message()? {
        None => None,
        Some(Message::Control(Control::Report(report))) if report.run == assignment.run => Some(report),
        Some(_) => bail!("it does not end with a report"),
    };
    Ok(Stored { assignment, report })
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_format::agent::Work;

    fn assignment(run: u128) -> Assignment {
        Assignment { run: Uuid::from_u128(run), work: Work::Verify { volume: "mail".parse().unwrap(), point: 3 } }
    }

    #[test]
    fn runs_survive_until_they_are_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let report = Report { run: Uuid::from_u128(1), code: 4, text: "not identical".into(), volumes: vec![] };
        store.keep(&assignment(1), None).unwrap();
        store.keep(&assignment(2), None).unwrap();
        store.keep(&assignment(1), Some(&report)).unwrap();
        let again = Store::open(directory.path()).unwrap();
        let (mut found, unread) = again.load().unwrap();
        found.sort_by_key(|stored| stored.assignment.run);
        let expected =
            [(1, Some(report)), (2, None)].map(|(run, report)| Stored { assignment: assignment(run), report });
        assert_eq!((found.as_slice(), unread.len()), (&expected[..], 0));
        again.forget(Uuid::from_u128(1)).unwrap();
        again.forget(Uuid::from_u128(2)).unwrap();
        assert_eq!(again.load().unwrap().0, []);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_of_once() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.keep(&assignment(1), None).unwrap();
        let path = store.path(Uuid::from_u128(1));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let (found, unread) = store.load().unwrap();
        assert!(found.is_empty() && format!("{:#}", unread[0]).contains("truncated"), "{unread:?}");
        assert!(store.load().unwrap().1.is_empty());
    }
}
