//! What `understudyd` is asked to do, from its arguments: clap does the reading and the usage errors (exit code 2).

use crate::agents::args::OfAgents;
use crate::nbd_terms::NbdTerms;
use crate::retention::age::Age;
use crate::retention::args::RetentionArgs;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use understudy_format::FormatError;
use understudy_format::catalogue::{SecondaryMode, Settings};
use understudy_format::point::{Label, VolumeName};
use understudy_format::text::parse_bytes;

mod clients;

pub use clients::{Clients, ClientsList, Enroll, Grant, Revoke, Rights as ClientRights, Rotate};

/// The appliance: keeps block-identical, mountable secondaries of volumes, with deduplicated history.
#[derive(Debug, Parser)]
#[command(
    name = "understudyd",
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 done with warnings, 4 not identical: damage remains."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, made once")]
pub enum Command {
    /// Serve a pool: take streams from initiators, keep secondaries, export points over NBD.
    Serve(Serve),
    /// Take an offline stream from standard input (see `understudy emit`); no daemon may run on the pool.
    Ingest(IngestArgs),
    /// Print completions for a shell.
    #[command(hide = true)]
    Completions(Completions),
    /// Write man pages to a directory.
    #[command(hide = true)]
    Man(Man),
    /// Check a configuration file and what it includes; exit code 1 for errors, 3 for warnings.
    CheckConfig(CheckConfig),
    /// Show when a schedule comes: every LENGTH, cron, or a calendar expression as in systemd.time(7).
    Calendar(Calendar),
    /// What is asked of the daemon about its jobs.
    #[command(flatten)]
    Jobs(Jobs),
    /// What is asked of agents.
    #[command(flatten)]
    OfAgents(OfAgents),
    /// What is done to a pool from time to time, beside a running daemon or without one.
    #[command(flatten)]
    Upkeep(Upkeep),
    /// Who may use a pool, beside a running daemon or without one.
    #[command(flatten)]
    Clients(Clients),
}

/// What is asked of the daemon about its jobs; they are in its configuration.
#[derive(Debug, Subcommand)]
pub enum Jobs {
    /// Show the jobs with their last and their next run, or the last runs of one.
    Jobs(JobsList),
    /// Show what runs next, and why.
    Next(Next),
    /// Run a job now, and show what it does; it goes on when this command is interrupted.
    Run(RunJob),
}

impl Jobs {
    /// Whose daemon is asked, and how it is told.
    pub fn place(&self) -> &Place {
        match self {
            Self::Jobs(JobsList { place, .. }) | Self::Next(Next { place, .. }) | Self::Run(RunJob { place, .. }) => {
                place
            }
        }
    }
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    pub shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct Man {
    /// The directory; made when it is not there.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// Arguments of `jobs`.
#[derive(Debug, Args)]
pub struct JobsList {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// Show the last runs of this job, and what they did.
    #[arg(value_name = "JOB")]
    pub job: Option<String>,
    /// Show what this run of the job said.
    #[arg(long, value_name = "RUN", requires = "job")]
    pub log: Option<u64>,
}

/// Arguments of `next`.
#[derive(Debug, Args)]
pub struct Next {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// The job; all of them when none is named.
    #[arg(value_name = "JOB")]
    pub job: Option<String>,
    /// How many runs.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub count: u16,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunJob {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// The job.
    #[arg(value_name = "JOB")]
    pub job: String,
}

/// The volume of a point as people name it.
pub(crate) fn volume_of(name: &str) -> Result<VolumeName, FormatError> {
    name.split('@').next().unwrap_or_default().parse()
}

/// Arguments of `check-config`.
#[derive(Debug, Args)]
pub struct CheckConfig {
    /// The file.
    #[arg(value_name = "FILE", default_value = crate::config::FILE)]
    pub file: PathBuf,
    /// Print JSON, one object a line.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `calendar`.
#[derive(Debug, Args)]
pub struct Calendar {
    /// Such as `Mon..Fri 02:00`, `*-*~1 Europe/Berlin`, `30 2 * * 1-5` or `every 15m`.
    #[arg(value_name = "SCHEDULE")]
    pub schedule: String,
    /// The first times after this one (2026-11-21T10:00:00Z) instead of now.
    #[arg(long, value_name = "TIME")]
    pub after: Option<jiff::Timestamp>,
    /// How many.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub count: u16,
    /// The time zone of a schedule that names none (such as Europe/Berlin) instead of the system's.
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,
    /// Print JSON, one object a line.
    #[arg(long)]
    pub json: bool,
}

/// What is done to a pool from time to time: by the daemon that has it open, or here when there is none.
#[derive(Debug, Subcommand)]
pub enum Upkeep {
    /// Remove the points that a retention policy does not keep; space comes back with `collect`.
    Prune(Prune),
    /// Protect points from retention.
    Protect(Points),
    /// Let retention decide about points again.
    Unprotect(Points),
    /// Remove a point, or a volume with all its points and its secondary.
    Remove(Remove),
    /// Show or change what is set for a volume: its secondary and its retention policy.
    Set(Set),
    /// Give back the space of what no point needs.
    Collect(Collect),
    /// Check all that is stored, tell who needs what is damaged, and heal it.
    Scrub(Scrub),
    /// Make a point of what the journal of a tap has after the newest one.
    Fold(Fold),
    /// Rebuild the index from the segments, and tell what there is; no daemon may run on the pool.
    Reindex(Reindex),
}

impl Upkeep {
    /// Where it is done, and how it is told.
    pub fn place(&self) -> &Place {
        match self {
            Self::Prune(Prune { place, .. })
            | Self::Protect(Points { place, .. })
            | Self::Unprotect(Points { place, .. })
            | Self::Remove(Remove { place, .. })
            | Self::Set(Set { place, .. })
            | Self::Collect(Collect { place, .. })
            | Self::Scrub(Scrub { place, .. })
            | Self::Fold(Fold { place, .. })
            | Self::Reindex(Reindex { place }) => place,
        }
    }

    /// The volumes that it is done to; none when it is done to the pool as a whole.
    pub fn volumes(&self) -> Result<Vec<VolumeName>, FormatError> {
        match self {
            Self::Prune(prune) => Ok(prune.volumes.clone()),
            Self::Fold(fold) => Ok(fold.volumes.clone()),
            Self::Protect(Points { points, .. }) | Self::Unprotect(Points { points, .. }) => {
                points.iter().map(|name| volume_of(name)).collect()
            }
            Self::Remove(remove) => Ok(vec![volume_of(&remove.name)?]),
            Self::Set(set) => Ok(vec![set.volume.clone()]),
            Self::Scrub(scrub) => Ok(scrub.volume.iter().cloned().collect()),
            Self::Collect(_) | Self::Reindex(_) => Ok(Vec::new()),
        }
    }

    /// Whether it can take away what is kept, or have it taken away.
    pub fn takes_away(&self) -> bool {
        matches!(self, Self::Prune(_) | Self::Unprotect(_) | Self::Remove(_) | Self::Set(_))
    }
}

/// A pool, and how what is done to it is told.
#[derive(Debug, Args)]
pub struct Place {
    /// The pool's directory.
    #[arg(long, value_name = "DIR")]
    pub pool: PathBuf,
    /// Print JSON, one object a line.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `prune`.
#[derive(Debug, Args)]
pub struct Prune {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// The volumes; all of them when none is named.
    #[arg(value_name = "VOLUME")]
    pub volumes: Vec<VolumeName>,
    /// Instead of what is set for each volume.
    #[command(flatten)]
    pub retention: RetentionArgs,
    /// The time zone of days, weeks, months and years (such as Europe/Berlin) instead of the system's.
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,
    /// Print what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Collect afterwards.
    #[arg(long)]
    pub collect: bool,
}

/// Arguments of `protect` and `unprotect`.
#[derive(Debug, Args)]
pub struct Points {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// The points: NAME@NUMBER, NAME@LABEL, NAME@TIME; NAME alone is the newest.
    #[arg(value_name = "NAME@POINT", required = true)]
    pub points: Vec<String>,
}

/// Arguments of `remove`.
#[derive(Debug, Args)]
pub struct Remove {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// A point (NAME@POINT), or a volume with all its points (NAME).
    #[arg(value_name = "NAME[@POINT]")]
    pub name: String,
    /// Needed for a volume, and for a protected point.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `set`.
#[derive(Debug, Args)]
pub struct Set {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// The volume.
    #[arg(value_name = "VOLUME")]
    pub volume: VolumeName,
    /// How the newest point is kept as raw bytes: `native` (an image in the pool), `none`, or a block device.
    #[arg(long, value_name = "native|none|DEVICE")]
    pub secondary: Option<String>,
    /// The retention policy that `prune` applies; replaces the one that is set.
    #[command(flatten)]
    pub retention: RetentionArgs,
    /// How long any moment of a tap's journal can be gone back to (24h, 3d); usually 24h.
    #[arg(long, value_name = "AGE")]
    pub keep_journal: Option<Age>,
    /// How often a tap's journal is folded into a point (5min, 1h); usually 5min.
    #[arg(long, value_name = "AGE")]
    pub fold_every: Option<Age>,
    /// Overwrite a device that is not empty.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `collect`.
#[derive(Debug, Args)]
pub struct Collect {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// Compact segments of which more than this part is dead, percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=99))]
    pub dead_max: u8,
    /// Print what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `scrub`.
#[derive(Debug, Args)]
pub struct Scrub {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// Only what the points of this volume need, and its secondary.
    #[arg(long, value_name = "NAME")]
    pub volume: Option<VolumeName>,
    /// Pass over segments that were checked more recently than this (7d, 36h): so a scrub that was interrupted goes on.
    #[arg(long, value_name = "AGE")]
    pub older_than: Option<Age>,
    /// Read at most so many bytes a second (50M, 1G), at least 64K.
    #[arg(long, value_name = "BYTES", value_parser = rate)]
    pub rate: Option<u64>,
}

/// Less than a block a second would never come to an end.
const RATE_MIN: u64 = 64 << 10;

fn rate(text: &str) -> Result<u64, String> {
    let rate = parse_bytes(text).map_err(|error| error.to_string())?;
    let enough = Some(rate).filter(|rate| *rate >= RATE_MIN);
    enough.ok_or_else(|| format!("{text} is too slow for a scrub to end: expected at least 64K"))
}

/// Arguments of `fold`.
#[derive(Debug, Args)]
pub struct Fold {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// The volumes; all that a tap writes a journal of when none is named.
    #[arg(value_name = "VOLUME")]
    pub volumes: Vec<VolumeName>,
}

/// Arguments of `reindex`.
#[derive(Debug, Args)]
pub struct Reindex {
    /// Where.
    #[command(flatten)]
    pub place: Place,
}

/// Arguments of `serve`; what they say comes before what the configuration says, but for `--secondary`.
#[derive(Debug, Args)]
pub struct Serve {
    /// The configuration file; it is read again on SIGHUP.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The pool's directory; one that is absent or empty becomes a new pool.
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    pub pool: Option<PathBuf>,
    /// Where initiators connect; port 0 takes a free one [default: 127.0.0.1:7410].
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Where points are exported over NBD; port 0 takes a free one [default: 127.0.0.1:10809].
    #[arg(long, value_name = "HOST:PORT")]
    pub nbd: Option<String>,
    /// Export over NBD on this unix socket as well.
    #[arg(long, value_name = "PATH")]
    pub nbd_socket: Option<PathBuf>,
    /// On what terms points are exported.
    #[command(flatten)]
    pub nbd_terms: NbdTerms,
    /// Whether who connects must say who he is, through TLS and by a certificate (see `enroll`) [default: off].
    #[arg(long, value_name = "off|on")]
    pub tls: Option<Switch>,
    /// Whether volumes of which the configuration does not say it get a secondary when they come to be [default: native].
    #[arg(long, value_name = "native|none")]
    pub secondary: Option<NewSecondary>,
}

/// Whether something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    /// It is not.
    Off,
    /// It is.
    On,
}

/// The secondary of volumes that come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum NewSecondary {
    /// An image in the pool.
    Native,
    /// None.
    None,
}

impl NewSecondary {
    /// What is set for volumes that come to be.
    pub fn settings(self) -> Settings {
        let secondary = match self {
            Self::Native => SecondaryMode::Native,
            Self::None => SecondaryMode::None,
        };
        Settings { secondary, ..Settings::default() }
    }
}

/// Arguments of `ingest`.
#[derive(Debug, Args)]
pub struct IngestArgs {
    /// The pool's directory; one that is absent or empty becomes a new pool.
    #[arg(long, value_name = "DIR")]
    pub pool: PathBuf,
    /// The volume, created by its first stream.
    #[arg(long, value_name = "NAME")]
    pub volume: VolumeName,
    /// A name for the new point.
    #[arg(long, value_name = "TEXT")]
    pub label: Option<Label>,
    /// Whether the volume gets a secondary if it is new.
    #[arg(long, value_name = "native|none", default_value = "native")]
    pub secondary: NewSecondary,
    /// Print JSON, one object a line.
    #[arg(long)]
    pub json: bool,
}
