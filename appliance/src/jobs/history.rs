//! The history of jobs on the pool's disk: one small file, replaced as a whole.

use crate::error::{Result, at};
use crate::pool::Pool;
use crate::pool::disk;
use understudy_format::history::{DETAIL_MAX, JobHistory, decode, encode};

/// The name of the file in the pool's directory.
const FILE: &str = "jobs";

/// What is recorded. A file that is damaged is told of, and taken for none: it says nothing about any point.
pub fn load(pool: &Pool) -> Result<Vec<JobHistory>> {
    let path = pool.dir().join(FILE);
    let Some(bytes) = disk::read_all(&**pool.disk(), &path).map_err(at(&path))? else { return Ok(Vec::new()) };
    Ok(decode(&bytes).unwrap_or_else(|error| {
        tracing::error!(path = %path.display(), %error, "the history of jobs is lost; jobs count from now on");
        Vec::new()
    }))
}

/// Records it, durably.
pub fn save(pool: &Pool, jobs: &[JobHistory]) -> Result<()> {
    let path = pool.dir().join(FILE);
    disk::replace(&**pool.disk(), &path, &encode(jobs)).map_err(at(&path))
}

/// As much of a text as is kept.
pub fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(DETAIL_MAX)].to_owned()
}
