//! What `understudyd` is asked to do, from its arguments: clap does the reading and the usage errors (exit code 2).

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use understudy_format::point::{Label, VolumeName};

/// The appliance: keeps block-identical, mountable secondaries of volumes, with deduplicated history.
#[derive(Debug, Parser)]
#[command(name = "understudyd", version, after_help = "Exit codes: 0 done, 1 failed, 2 usage.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a pool: take streams from initiators, keep secondaries, export points over NBD.
    Serve(Serve),
    /// Take an offline stream from standard input (see `understudy emit`); no daemon may run on the pool.
    Ingest(IngestArgs),
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// The pool's directory; one that is absent or empty becomes a new pool.
    #[arg(long, value_name = "DIR")]
    pub pool: PathBuf,
    /// Where initiators connect; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7410")]
    pub listen: String,
    /// Where points are exported over NBD; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:10809")]
    pub nbd: String,
    /// Export over NBD on this unix socket as well.
    #[arg(long, value_name = "PATH")]
    pub nbd_socket: Option<PathBuf>,
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
}
