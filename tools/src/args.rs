//! What `understudy-tools` is asked to do: clap reads the arguments and reports wrong usage (exit code 2).

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

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
    /// Work in a new directory inside this one: every contestant writes to its filesystem [default: target/bench]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
}
