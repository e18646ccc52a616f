//! What became of scheduled jobs: up to when each is done, its last runs, and what they did to each volume.
//!
//! Invariants: a run is recorded durably before it starts and when it ends, so after a crash one that is still recorded as running
//! was cut; the file is replaced as a whole. Nothing of a pool depends on it: without it no job has ever run.

use crate::agent::{CODE_MAX, REASON_MAX, RUN_VOLUMES_MAX, VolumeFigures, VolumeReport};
use crate::error::Result;
use crate::layout::{Layout, Reader, check_magic, check_range, check_version, put_text, seal, unseal};
use crate::point::NAME_MAX;

/// "Understudy JOBs".
pub const HISTORY_MAGIC: [u8; 4] = *b"UJOB";
/// The layout that this program writes and reads.
pub const HISTORY_VERSION: u16 = 2;
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
    /// The fixed part of a job, after its name and its schedule; times are nanoseconds since 1970-01-01T00:00:00Z, 0 for never.
    pub struct JobRecord, 64 {
        /// Everything that was due until then is done or need not be.
        0 done_ns: i64,
        /// When it became known.
        8 since_ns: i64,
        /// When a run of it last ended well.
        16 success_ns: i64,
        /// When the last run started that made all its volumes full.
        24 full_ns: i64,
        /// When it was last told that it fails; 0 while it does not.
        32 failed_told_ns: i64,
        /// When it was last told that it is behind; 0 while it is not.
        40 behind_told_ns: i64,
        /// Runs that there were.
        48 count: u64,
        /// Runs that ended well since `full_ns`.
        56 since_full: u32,
        /// 0.
        60 reserved: u32,
    }
}

crate::layout! {
    /// The fixed part of a run; the texts `full` and `detail` follow, then the list of what it did to each volume.
    pub struct RunRecord, 40 {
        /// Its number among the runs of its job, from 1.
        0 number: u64,
        /// The time that it is for, nanoseconds since 1970-01-01T00:00:00Z.
        8 nominal_ns: i64,
        /// When it started, the same.
        16 started_ns: i64,
        /// When it ended, the same; 0 while it runs.
        24 ended_ns: i64,
        /// See [`Why`].
        32 why: u8,
        /// See [`Ended`]; 0 while it runs.
        33 ended: u8,
        /// Which try it is, from 1.
        34 attempt: u16,
        /// 0.
        36 reserved: u32,
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
    /// The run before failed.
    Retried = 4,
    /// Its time had come while its agent was not connected.
    Away = 5,
    /// Its time had come, or it was stopped, while its window was closed.
    Window = 6,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Ended {
    /// All is well.
    Done = 1,
    /// Done, with warnings.
    Warnings = 2,
    /// Damage remains, or what was compared differs.
    Damage = 3,
    /// It failed.
    Failed = 4,
    /// The daemon ended before it did.
    Cut = 5,
    /// Its window ended before it did.
    Closed = 6,
}

impl Ended {
    /// Whether what was to be done is done.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Done | Self::Warnings)
    }
}

/// One run of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its number among the runs of its job, from 1.
    pub number: u64,
    /// The time that it is for, nanoseconds since 1970-01-01T00:00:00Z.
    pub nominal_ns: i64,
    /// When it started.
    pub started_ns: i64,
    /// Why.
    pub why: Why,
    /// Which try it is, from 1.
    pub attempt: u16,
    /// When and how it ended; `None` while it runs.
    pub ended: Option<(i64, Ended)>,
    /// Why it was to be full; empty when it was not.
    pub full: String,
    /// The last that it said.
    pub detail: String,
    /// What it did to each volume.
    pub volumes: Vec<VolumeReport>,
}

/// What is known of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobHistory {
    /// Its name.
    pub name: String,
    /// The schedule that `done_ns` is about.
    pub schedule: String,
    /// Times and counts.
    pub record: JobRecord,
    /// Its last runs, oldest first.
    pub runs: Vec<Run>,
}

impl JobHistory {
    /// Of a job that becomes known now.
    pub fn new(name: &str, since_ns: i64) -> Self {
        let record = JobRecord {
            done_ns: since_ns,
            since_ns,
            success_ns: 0,
            full_ns: 0,
            failed_told_ns: 0,
            behind_told_ns: 0,
            count: 0,
            since_full: 0,
            reserved: 0,
        };
        Self { name: name.to_owned(), schedule: String::new(), record, runs: Vec::new() }
    }
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
    job.record.put(out);
    put_list(out, &job.runs, put_run);
}

fn put_list<T>(out: &mut Vec<u8>, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    out.extend((items.len() as u32).to_le_bytes());
    items.iter().for_each(|item| put(out, item));
}

fn job(reader: &mut Reader<'_>) -> Result<JobHistory> {
    let (name, schedule) = (reader.text("name", JOB_NAME_MAX)?, reader.text("schedule", SCHEDULE_MAX)?);
    let record = JobRecord { reserved: 0, ..reader.layout()? };
    Ok(JobHistory { name, schedule, record, runs: reader.list("runs", RUNS_MAX, run)? })
}

fn put_run(out: &mut Vec<u8>, run: &Run) {
    let (ended_ns, ended) = run.ended.map_or((0, 0), |(ns, ended)| (ns, ended as u8));
    let Run { number, nominal_ns, started_ns, why, attempt, .. } = *run;
    RunRecord { number, nominal_ns, started_ns, ended_ns, why: why as u8, ended, attempt, reserved: 0 }.put(out);
    put_text(out, &run.full);
    put_text(out, &run.detail);
    put_list(out, &run.volumes, put_volume);
}

fn run(reader: &mut Reader<'_>) -> Result<Run> {
    let record: RunRecord = reader.layout()?;
    let (full, detail) = (reader.text("full", REASON_MAX)?, reader.text("detail", DETAIL_MAX)?);
    let volumes = reader.list("volumes", RUN_VOLUMES_MAX, volume)?;
    check_range(WHAT, "why", record.why.into(), 1, 6)?;
    let whys = [Why::Due, Why::Missed, Why::Asked, Why::Retried, Why::Away, Why::Window];
    let why = whys[usize::from(record.why) - 1];
    check_range(WHAT, "ended", record.ended.into(), 0, 6)?;
    let ways = [Ended::Done, Ended::Warnings, Ended::Damage, Ended::Failed, Ended::Cut, Ended::Closed];
    let ended = usize::from(record.ended).checked_sub(1).map(|number| (record.ended_ns, ways[number]));
    check_range(WHAT, "ended_ns", u64::from(ended.is_none() && record.ended_ns != 0), 0, 0)?;
    let RunRecord { number, nominal_ns, started_ns, attempt, .. } = record;
    Ok(Run { number, nominal_ns, started_ns, why, attempt, ended, full, detail, volumes })
}

fn put_volume(out: &mut Vec<u8>, report: &VolumeReport) {
    report.figures.put(out);
    [report.volume.as_str(), &report.full_reason, &report.text].into_iter().for_each(|text| put_text(out, text));
}

fn volume(reader: &mut Reader<'_>) -> Result<VolumeReport> {
    let figures: VolumeFigures = reader.layout()?;
    check_range(WHAT, "code", figures.code.into(), 0, CODE_MAX.into())?;
    let volume = reader.text("volume", NAME_MAX)?.parse()?;
    let (full_reason, text) = (reader.text("full_reason", REASON_MAX)?, reader.text("text", DETAIL_MAX)?);
    Ok(VolumeReport { volume, figures, full_reason, text })
}
