//! Finding marks: the moments that can be gone back to.
//!
//! Invariants: newest first, so what is asked for most costs least; a file that does not grow any more is looked at once for what its oldest and
//! newest marks are; memory is that of the answer.

use super::file::MarkSpan;
use super::scan::{Scan, damaged};
use super::shelf::{Run, extend};
use super::{Journals, Mark};
use crate::error::Result;
use crate::locks::lock;
use crate::pool::disk::Disk;
use std::collections::VecDeque;
use understudy_format::journal::Change;
use understudy_format::point::VolumeName;
use uuid::Uuid;

impl Journals {
    /// The newest mark of a journal.
    pub fn newest_mark(&self, name: &VolumeName, journal: &Uuid) -> Option<Mark> {
        let disk = &**self.pool.disk();
        for run in self.runs(name, journal).iter().rev() {
            match span(disk, run) {
                Ok(None) => {}
                Ok(Some((_, newest))) => return Some(newest),
                Err(error) => {
                    tracing::error!(volume = %name, %error, "marks cannot be looked for");
                    return None;
                }
            }
        }
        None
    }

    /// The newest marks between two times, at most so many, ascending; with the journals that they are of.
    pub fn marks(&self, name: &VolumeName, from_ns: i64, to_ns: i64, newest: usize) -> Result<Vec<(Uuid, Mark)>> {
        let mut all = VecDeque::new();
        for run in self.all_runs(name).iter().rev() {
            if all.len() >= newest {
                break;
            }
            let is_within = |(oldest, youngest): &(Mark, Mark)| oldest.time_ns <= to_ns && youngest.time_ns >= from_ns;
            if span(&**self.pool.disk(), run)?.filter(is_within).is_some() {
                let found = marks_of(&**self.pool.disk(), run, from_ns, to_ns, newest - all.len())?;
                found.into_iter().rev().for_each(|mark| all.push_front((run.file.header.journal, mark)));
            }
        }
        let mut all = Vec::from(all);
        all.sort_by_key(|(_, mark)| mark.time_ns);
        Ok(all)
    }

    /// The newest mark at or before a time, and its journal.
    pub fn mark_at(&self, name: &VolumeName, at_ns: i64) -> Result<Option<(Uuid, Mark)>> {
        Ok(self.marks(name, i64::MIN, at_ns, 1)?.pop())
    }

    /// The files of all journals of a volume, oldest first.
    fn all_runs(&self, name: &VolumeName) -> Vec<Run> {
        let Some(shelf) = self.shelf(name) else { return Vec::new() };
        lock(&shelf).journals.iter().flat_map(|journal| journal.runs()).collect()
    }
}

/// The oldest and the newest mark of a file.
fn span(disk: &dyn Disk, run: &Run) -> Result<MarkSpan> {
    if let Some(marks) = run.marks.or_else(|| run.file.marks.get().copied()) {
        return Ok(marks);
    }
    let mut marks = None;
    let mut scan = Scan::new(disk, &run.file, run.last)?;
    while let Some((entry, _)) = scan.next().map_err(|error| damaged(&run.file, error))? {
        extend(&mut marks, &entry);
    }
    Ok(*run.file.marks.get_or_init(|| marks))
}

/// The newest marks of a file between two times, ascending.
fn marks_of(disk: &dyn Disk, run: &Run, from_ns: i64, to_ns: i64, newest: usize) -> Result<VecDeque<Mark>> {
    let mut found = VecDeque::new();
    let mut scan = Scan::new(disk, &run.file, run.last)?;
    while let Some((entry, _)) = scan.next().map_err(|error| damaged(&run.file, error))? {
        if entry.time_ns > to_ns {
            break;
        }
        if entry.change == Change::Mark && entry.time_ns >= from_ns {
            found.push_back(Mark { sequence: entry.sequence, time_ns: entry.time_ns });
            found.drain(..found.len().saturating_sub(newest));
        }
    }
    Ok(found)
}
