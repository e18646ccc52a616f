//! What `understudy-tools` is asked to do: clap reads the arguments and reports wrong usage (exit code 2).

use clap::{Args, Parser, Subcommand};
use jiff::tz::TimeZone;
use std::path::PathBuf;
use understudy_format::select::PointName;

/// Offline and developer tools of Understudy.
#[derive(Debug, Parser)]
#[command(
    name = "understudy-tools",
    version,
    after_help = "Exit codes: 0 done, 1 failed or damaged, 2 usage, 3 done with warnings, 4 not identical."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look at an offline stream
    #[command(subcommand)]
    Stream(StreamCommand),
    /// Look at a pool at rest
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Watch a real volume being replicated, changed, replicated again and attached
    Demo(Demo),
    /// Measure against qemu-img, nbdcopy and dd
    Bench(Bench),
    /// Measure what is large: unique blocks, points, a sparse volume, and what an increment costs
    Scale(Scale),
}

/// Verbs on streams.
#[derive(Debug, Subcommand)]
pub enum StreamCommand {
    /// Show what a stream holds, and check everything that can be checked without its base
    Inspect(Inspect),
}

/// Verbs on pools.
#[derive(Debug, Subcommand)]
pub enum PoolCommand {
    /// Read a pool, change nothing, and prove every promise that can be proved at rest
    Check(Check),
    /// Write a point to a file, without a daemon, from a pool that may be read-only or damaged
    Extract(Extract),
    /// Make everything again that is not in the segments, and prove that it came out the same; no daemon may run
    Rebuild(Rebuild),
}

/// `stream inspect`.
#[derive(Debug, Clone, Args)]
pub struct Inspect {
    /// The stream; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print how the stream begins and ends, and the totals
    #[arg(long)]
    pub summary: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// `pool check`.
#[derive(Debug, Clone, Args)]
pub struct Check {
    /// The pool's directory
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Look although a daemon serves the pool: what it is writing meanwhile is not judged
    #[arg(long)]
    pub live: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// `pool extract`.
///
/// Nothing is written into the pool, and its lock is not taken. Beside a running daemon the point is read all the
/// same; segments that the daemon collects meanwhile are looked for again, and the command fails when the point itself
/// is removed. Needs 44 bytes of memory for each different block of the pool.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 blocks are missing: each range is printed, and is zeros."
)]
pub struct Extract {
    /// The pool's directory
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The point: NAME, NAME@NUMBER, NAME@LABEL or NAME@TIME
    #[arg(value_name = "NAME[@POINT]", value_parser = parse_point)]
    pub point: PointName,
    /// Where to write it: a new file; with --force an existing file or a block device; - is standard output
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
    /// Share what the settled secondary and the segments have as it is, and write only the rest; for XFS and btrfs
    #[arg(long)]
    pub reflink: bool,
    /// Believe that the secondary is what its state says, instead of reading all of it
    #[arg(long, requires = "reflink")]
    pub no_verify: bool,
    /// Overwrite a file or a block device
    #[arg(long)]
    pub force: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// `pool rebuild`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Exit codes: 0 identical, 1 failed, 2 usage, 4 not identical.")]
pub struct Rebuild {
    /// The pool's directory
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Print what is in the segments, and touch nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

fn parse_point(text: &str) -> Result<PointName, String> {
    PointName::parse(text, &TimeZone::system()).map_err(|error| error.to_string())
}

/// `demo`.
#[derive(Debug, Clone, Args)]
pub struct Demo {
    /// Work in this directory, which must not exist yet [default: a new one in the temporary directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Keep the directory for a look around
    #[arg(long)]
    pub keep: bool,
}

/// `bench`.
#[derive(Debug, Clone, Args)]
pub struct Bench {
    /// Size of the volume, a multiple of 1M
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = crate::text::parse_size)]
    pub size: u64,
    /// How often each contestant runs
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Run only what has this in its name
    #[arg(long, value_name = "NAME")]
    pub only: Option<String>,
    /// Write what was measured over time there, as SVG files
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,
    /// Work in a new directory inside this one: every contestant writes to its filesystem [default: target/bench]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// `scale`.
#[derive(Debug, Clone, Args)]
pub struct Scale {
    /// Unique blocks of 4 KiB in a pool
    #[arg(long, value_name = "COUNT", default_value_t = 20_000_000, value_parser = clap::value_parser!(u64).range(2000..))]
    pub blocks: u64,
    /// Points of a volume
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(20..))]
    pub points: u64,
    /// Size of the sparse volume
    #[arg(long, value_name = "SIZE", default_value = "64T", value_parser = crate::text::parse_size)]
    pub sparse: u64,
    /// Most blocks that change in a volume of 1 TiB
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub changes: u64,
    /// Run only this part
    #[arg(long, value_name = "PART")]
    pub only: Option<Part>,
    /// Work in a new directory inside this one [default: /var/tmp]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Where the sparse volume is, on a filesystem that holds such files [default: where the rest is, or /dev/shm]
    #[arg(long, value_name = "DIR")]
    pub sparse_dir: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// A part of `scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// A pool with many unique blocks
    Blocks,
    /// A volume with many points
    Points,
    /// A large volume that is nearly all hole
    Sparse,
    /// What an increment costs, by what changed
    Curve,
}
