//! What became of scheduled jobs: up to when each is done, and its last runs.
//!
//! Invariants: a run is recorded durably before it starts and when it ends, so after a crash one that is still recorded as running
//! was cut; the file is replaced as a whole. Nothing of a pool depends on it: without it no job has ever run.

use crate::error::Result;
use crate::layout::{Layout, Reader, check_magic, check_range, check_version, put_text, seal, unseal};

/// "Understudy JOBs".
pub const HISTORY_MAGIC: [u8; 4] = *b"UJOB";
/// The layout that this program writes and reads.
pub const HISTORY_VERSION: u16 = 1;
/// Most jobs.
pub const JOBS_MAX: u32 = 1024;
/// Most runs of a job.
pub const RUNS_MAX: u32 = 32;
/// Most bytes of a job's name.
pub const JOB_NAME_MAX: usize = 64;
/// Most bytes of a schedule.
pub const SCHEDULE_MAX: usize = 256;
/// Most bytes of what a run said.
pub const DETAIL_MAX: usize = 1024;

crate::layout! {
    /// What the file with the history of jobs begins with.
    pub struct HistoryHeader, 16 {
        /// [`HISTORY_MAGIC`].
        0 magic: [u8; 4],
        /// [`HISTORY_VERSION`].
        4 version: u16,
        /// 0.
        6 reserved: [u8; 10],
    }
}

crate::layout! {
    /// The fixed part of a run; the text `detail` follows.
    pub struct RunRecord, 32 {
        /// The time that it is for, nanoseconds since 1970-01-01T00:00:00Z.
        0 nominal_ns: i64,
        /// When it started, the same.
        8 started_ns: i64,
        /// When it ended, the same; 0 while it runs.
        16 ended_ns: i64,
        /// See [`Why`].
        24 why: u8,
        /// See [`Ended`]; 0 while it runs.
        25 ended: u8,
        /// 0.
        26 reserved: [u8; 6],
    }
}

/// Why a run started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Why {
    /// Its time came.
    Due = 1,
    /// Its time had come while no daemon ran.
    Missed = 2,
    /// Somebody asked for it.
    Asked = 3,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Ended {
    /// All is well.
    Done = 1,
    /// Done, with warnings.
    Warnings = 2,
    /// Damage remains.
    Damage = 3,
    /// It failed.
    Failed = 4,
    /// The daemon ended before it did.
    Cut = 5,
}

/// One run of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The time that it is for, nanoseconds since 1970-01-01T00:00:00Z.
    pub nominal_ns: i64,
    /// When it started.
    pub started_ns: i64,
    /// Why.
    pub why: Why,
    /// When and how it ended; `None` while it runs.
    pub ended: Option<(i64, Ended)>,
    /// The last that it said.
    pub detail: String,
}

/// What is known of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobHistory {
    /// Its name.
    pub name: String,
    /// The schedule that `done_ns` is about.
    pub schedule: String,
    /// Everything that was due until then is done or need not be.
    pub done_ns: i64,
    /// Its last runs, oldest first.
    pub runs: Vec<Run>,
}

/// The bytes of the file with the history of jobs.
pub fn encode(jobs: &[JobHistory]) -> Vec<u8> {
    let mut out = Vec::new();
    HistoryHeader { magic: HISTORY_MAGIC, version: HISTORY_VERSION, reserved: [0; 10] }.put(&mut out);
    out.extend((jobs.len() as u32).to_le_bytes());
    jobs.iter().for_each(|job| put_job(&mut out, job));
    out.extend([0; 4]);
    seal(&mut out);
    out
}

/// Reads the file with the history of jobs.
pub fn decode(bytes: &[u8]) -> Result<Vec<JobHistory>> {
    let header = HistoryHeader::get(bytes)?;
    check_magic(WHAT, header.magic, HISTORY_MAGIC)?;
    check_version(WHAT, header.version, HISTORY_VERSION)?;
    let body = unseal(WHAT, bytes)?;
    let mut reader = Reader::new(WHAT, body);
    reader.take(HistoryHeader::SIZE)?;
    let jobs = reader.list("jobs", JOBS_MAX, job)?;
    reader.finish()?;
    Ok(jobs)
}

const WHAT: &str = "history of jobs";

fn put_job(out: &mut Vec<u8>, job: &JobHistory) {
    put_text(out, &job.name);
    put_text(out, &job.schedule);
    out.extend(job.done_ns.to_le_bytes());
    out.extend((job.runs.len() as u32).to_le_bytes());
    job.runs.iter().for_each(|run| put_run(out, run));
}

fn job(reader: &mut Reader<'_>) -> Result<JobHistory> {
    Ok(JobHistory {
        name: reader.text("name", JOB_NAME_MAX)?,
        schedule: reader.text("schedule", SCHEDULE_MAX)?,
        done_ns: reader.field()?,
        runs: reader.list("runs", RUNS_MAX, run)?,
    })
}

fn put_run(out: &mut Vec<u8>, run: &Run) {
    let (ended_ns, ended) = run.ended.map_or((0, 0), |(ns, ended)| (ns, ended as u8));
    let Run { nominal_ns, started_ns, why, .. } = *run;
    RunRecord { nominal_ns, started_ns, ended_ns, why: why as u8, ended, reserved: [0; 6] }.put(out);
    put_text(out, &run.detail);
}

fn run(reader: &mut Reader<'_>) -> Result<Run> {
    let record: RunRecord = reader.layout()?;
    let detail = reader.text("detail", DETAIL_MAX)?;
    check_range(WHAT, "why", record.why.into(), 1, 3)?;
    let why = [Why::Due, Why::Missed, Why::Asked][usize::from(record.why) - 1];
    check_range(WHAT, "ended", record.ended.into(), 0, 5)?;
    let ways = [Ended::Done, Ended::Warnings, Ended::Damage, Ended::Failed, Ended::Cut];
    let ended = usize::from(record.ended).checked_sub(1).map(|number| (record.ended_ns, ways[number]));
    check_range(WHAT, "ended_ns", u64::from(ended.is_none() && record.ended_ns != 0), 0, 0)?;
    Ok(Run { nominal_ns: record.nominal_ns, started_ns: record.started_ns, why, ended, detail })
}
