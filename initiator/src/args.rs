//! The command line: raw arguments become validated settings; nothing else reads arguments or the environment.
//!
//! Invariant: what leaves this module is well-formed (names, addresses, block sizes, points), so later failures
//! are about the world and not about spelling. Wrong usage ends the program with exit code 2.

use crate::pack::Compress;
use clap::{Args, Parser, Subcommand};
use jiff::tz::TimeZone;
use std::path::PathBuf;
use understudy_format::BlockSize;
use understudy_format::bitmap::BITMAP_NAME_MAX;
use understudy_format::group::Group;
use understudy_format::point::{Label, VolumeName};
use understudy_format::select::PointName;

mod appliance;
mod attach;
mod failover;
mod points;
mod tap;

pub use appliance::{ApplianceArguments, Login, RateArguments, StateArguments};
pub use attach::{Attach, Attached, Attaching, Detach, Discard, Hold, Keep, Overlays};
pub use failover::{Demote, Failback, Promote};
pub use points::Points;
pub use tap::{Place, Sync, Tap};

/// Replicates block volumes to an Understudy appliance, and back.
#[derive(Debug, Parser)]
#[command(name = "understudy", version, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Replicate a raw file or block device: full the first time, then what changed
    Replicate(Replicate),
    /// Become a client of an appliance: make a key, and get a certificate for it
    Login(Login),
    /// List the volumes of the appliance
    Volumes(Volumes),
    /// List the points of a volume, the newest last, or the moments between them
    Points(Points),
    /// Make a file or block device equal to a point; writes only what differs
    Restore(Restore),
    /// Compare a file, a block device or an NBD export with a point; exit code 4 when they differ
    Verify(Verify),
    /// Write a stream to a file or pipe, without an appliance
    Emit(Emit),
    /// Make a point a disk or a mount of this host, also one that may be written; keep or discard what was written
    Attach(Attach),
    /// Undo an attach
    Detach(Detach),
    /// List what is attached on this host
    Attached(Attached),
    /// Serve a volume over NBD, and have the appliance follow whatever is written to it
    Tap(Tap),
    /// Fail over: have a volume written to at the appliance, from the newest moment on
    Promote(Promote),
    /// Fail back: bring what was written there to a primary, which is written to again
    Failback(Failback),
    /// Give up what was written at the appliance since a promotion
    Demote(Demote),
    /// Do what the appliance says, as far as the configuration of this host allows
    Agent(Agent),
    /// Show on one screen how the appliance is; --check for monitoring
    Status(Status),
    /// Print completions for a shell
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write man pages to a directory
    #[command(hide = true)]
    Man {
        /// The directory; made when it is not there
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

/// `understudy replicate`.
#[derive(Debug, Clone, Args)]
pub struct Replicate {
    /// A raw file, a block device, an NBD export (nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH, nbds://... for TLS),
    /// or a disk of a running QEMU: qemu:MONITOR/NODE[?nbd=ADDRESS]
    pub source: String,
    /// Which appliance.
    #[command(flatten)]
    pub appliance: ApplianceArguments,
    /// The volume at the appliance; created when it does not exist
    #[arg(long, value_name = "NAME")]
    pub volume: VolumeName,
    /// Bytes of a block, a power of two from 4K to 1M; fixed by the first point of a volume [default: 64K]
    #[arg(long, value_name = "SIZE")]
    pub block_size: Option<BlockSize>,
    /// Replicate every block, whatever the appliance has
    #[arg(long)]
    pub full: bool,
    /// Read only what this dirty bitmap of the export has (qemu's: `qemu:dirty-bitmap:NAME`), where it is known to have recorded since the last point
    #[arg(long, value_name = "NAME", value_parser = bitmap)]
    pub bitmap: Option<String>,
    /// Draw the clean blocks that are read nevertheless with this seed instead of another one each time
    #[arg(long, value_name = "N", requires = "bitmap", hide = true)]
    pub sample_seed: Option<u64>,
    /// A name for the new point
    #[arg(long, value_name = "TEXT")]
    pub label: Option<Label>,
    /// Commit the point together with those of other volumes, or not at all: a UUID of one attempt, the same for all, and the number of volumes
    #[arg(long, value_name = "UUID:COUNT")]
    pub group: Option<Group>,
    /// How fast.
    #[command(flatten)]
    pub rate: RateArguments,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArguments,
    /// auto compresses while the connection is what is waited for, also where --bandwidth makes it so
    #[arg(long, value_name = "auto|lz4|none", default_value = "auto")]
    pub compress: Compress,
    /// How often to connect again after the connection was lost and the stream came no further; 0: not at all
    #[arg(long, value_name = "N", env = "UNDERSTUDY_RETRIES", default_value_t = 10)]
    pub retries: u32,
    /// Milliseconds before the first of these tries; each next one waits twice as long, up to a minute
    #[arg(long, value_name = "MS", env = "UNDERSTUDY_RETRY_DELAY", default_value_t = 1000, hide = true)]
    pub retry_delay: u64,
    /// Tell what happens as JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// `understudy volumes`.
#[derive(Debug, Clone, Args)]
pub struct Volumes {
    /// Which appliance.
    #[command(flatten)]
    pub appliance: ApplianceArguments,
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
}

/// `understudy status`.
#[derive(Debug, Clone, Args)]
pub struct Status {
    /// Which appliance.
    #[command(flatten)]
    pub appliance: ApplianceArguments,
    /// Ask over the socket in the pool's directory (POOL/control) instead
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print what the appliance answers, a JSON object
    #[arg(long, conflicts_with = "check")]
    pub json: bool,
    /// Print one line for Nagios and its like; exit code 0 ok, 1 warning, 2 critical, 3 unknown
    #[arg(long)]
    pub check: bool,
    /// Show it again every so many seconds, until interrupted
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", conflicts_with = "check",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub watch: Option<u64>,
}

/// `understudy restore`.
#[derive(Debug, Clone, Args)]
pub struct Restore {
    /// NAME, NAME@3, NAME@label, NAME@2026-11-21T10:00, NAME@now
    #[arg(value_name = "NAME[@POINT]", value_parser = point)]
    pub point: PointName,
    /// A file (created when it does not exist) or a block device
    pub target: PathBuf,
    /// Also write to a target that is in use or of another size
    #[arg(long)]
    pub force: bool,
    /// How fast.
    #[command(flatten)]
    pub rate: RateArguments,
    /// Which appliance.
    #[command(flatten)]
    pub appliance: ApplianceArguments,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArguments,
    /// Tell what happens as JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// `understudy verify`.
#[derive(Debug, Clone, Args)]
#[command(override_usage = "understudy verify [OPTIONS] <SOURCE> <NAME[@POINT]>\n       \
                            understudy verify [OPTIONS] <NAME[@POINT]> --over-nbd [HOST:PORT]")]
pub struct Verify {
    /// A raw file, block device or NBD URI, then NAME[@POINT]; the point alone with --over-nbd
    #[arg(value_name = "SOURCE NAME[@POINT]", num_args = 1..=2, required = true)]
    operands: Vec<String>,
    /// Read the point over NBD with a client that is not ours [default: what the appliance says]
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, value_parser = appliance::address)]
    over_nbd: Option<Option<String>>,
    /// How fast.
    #[command(flatten)]
    pub rate: RateArguments,
    /// Which appliance.
    #[command(flatten)]
    pub appliance: ApplianceArguments,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArguments,
    /// Tell what happens as JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// What is compared with the point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// A raw file, a block device or an NBD export.
    Source(String),
    /// The export of the point, at this address or where the appliance says.
    OverNbd(Option<String>),
}

impl Verify {
    /// What is compared with which point.
    pub fn operands(&self) -> Result<(Compared, PointName), clap::Error> {
        let (compared, name) = match (self.operands.as_slice(), &self.over_nbd) {
            ([source, name], None) => (Compared::Source(source.clone()), name),
            ([_], Some(_)) if self.rate.bandwidth.is_some() => {
                return Err(usage(
                    "--bandwidth limits what comes from the appliance's session, not what is read over NBD",
                ));
            }
            ([name], Some(address)) => (Compared::OverNbd(address.clone()), name),
            ([_], None) => return Err(usage("expected SOURCE NAME[@POINT], or NAME[@POINT] --over-nbd")),
            _ => return Err(usage("--over-nbd reads the point itself: leave out the source")),
        };
        Ok((compared, point(name).map_err(|e| usage(&e))?))
    }
}

/// `understudy emit`.
#[derive(Debug, Clone, Args)]
pub struct Emit {
    /// A raw file, a block device, an NBD export (nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH, nbds://... for TLS),
    /// or a disk of a running QEMU: qemu:MONITOR/NODE[?nbd=ADDRESS]
    pub source: String,
    /// What the stream is an increment of: a digest map file, or NAME@POINT of an appliance
    #[arg(long, value_name = "POINT-OR-MAPFILE")]
    pub base: Option<String>,
    /// Keep the digest map of what was read, as the base of a later stream
    #[arg(long, value_name = "FILE")]
    pub save_map: Option<PathBuf>,
    /// Bytes of a block, a power of two from 4K to 1M [default: 64K, or that of the base]
    #[arg(long, value_name = "SIZE")]
    pub block_size: Option<BlockSize>,
    /// auto is lz4 here
    #[arg(long, value_name = "auto|lz4|none", default_value = "auto")]
    pub compress: Compress,
    /// Where the stream goes: a file, or - for standard output
    #[arg(short, long, value_name = "FILE|-")]
    pub output: PathBuf,
    /// Tell what happens as JSON, one object a line, on standard output; for streams that go to a file
    #[arg(long)]
    pub json: bool,
    /// Which appliance.
    #[command(flatten)]
    pub appliance: ApplianceArguments,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArguments,
}

/// `understudy agent`.
#[derive(Debug, Clone, Args)]
pub struct Agent {
    /// The configuration: which appliance, and what it may have done here
    #[arg(long, value_name = "FILE", default_value = crate::agent::config::FILE)]
    pub config: PathBuf,
    /// Check the configuration and end; exit code 3 for warnings
    #[arg(long)]
    pub check_config: bool,
    /// Tell what was found as JSON, one object a line
    #[arg(long, requires = "check_config")]
    pub json: bool,
}

/// The base of `emit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmitBase {
    /// A digest map file.
    File(PathBuf),
    /// A point of an appliance.
    Point(PointName),
}

impl Emit {
    /// Whether it is told as JSON, which has standard output for itself.
    pub fn json(&self) -> Result<bool, clap::Error> {
        match self.json && self.output.as_os_str() == "-" {
            true => Err(usage("--json and the stream would both go to standard output: name a file with --output")),
            false => Ok(self.json),
        }
    }

    /// The base: a file when there is one of that name.
    pub fn base(&self) -> Result<Option<EmitBase>, clap::Error> {
        let Some(text) = &self.base else { return Ok(None) };
        let path = PathBuf::from(text);
        if path.exists() {
            return Ok(Some(EmitBase::File(path)));
        }
        match point(text) {
            Ok(name) if text.contains('@') => Ok(Some(EmitBase::Point(name))),
            _ => Err(usage(&format!("--base {text}: expected a digest map file (there is none) or NAME@POINT"))),
        }
    }
}

/// The error for arguments that contradict each other.
pub fn usage(text: &str) -> clap::Error {
    clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("{text}\n"))
}

pub(crate) fn point(text: &str) -> Result<PointName, String> {
    PointName::parse(text, &TimeZone::system()).map_err(|e| e.to_string())
}

fn bitmap(text: &str) -> Result<String, String> {
    let valid = !text.is_empty() && text.len() <= BITMAP_NAME_MAX;
    if valid { Ok(text.to_owned()) } else { Err(format!("expected a name of 1 to {BITMAP_NAME_MAX} bytes")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Arguments::try_parse_from(["understudy"].into_iter().chain(line.split(' '))).map(|arguments| arguments.command)
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn replicate_is_read() {
        let Command::Replicate(args) = parse("replicate disk.raw --to h:1 --volume data --block-size 4K").unwrap()
        else {
            panic!("another command")
        };
        assert_eq!((args.appliance.address.as_str(), args.volume.as_str()), ("h:1", "data"));
        assert_eq!(args.block_size.unwrap().bytes(), 4096);
        assert_eq!(args.compress, Compress::Auto);
        let line = "replicate disk.raw --volume data --group 67e55044-10b1-426f-9247-bb680e5fe0c8:3 --bandwidth 50M";
        let Command::Replicate(args) = parse(line).unwrap() else { panic!("another command") };
        assert_eq!((args.group.unwrap().members, args.rate.bandwidth), (3, Some(50 << 20)));
    }

    #[test]
    fn misuse_is_refused() {
        for line in [
            "replicate disk.raw",
            "replicate disk.raw --volume a/b",
            "replicate disk.raw --volume a --to nowhere",
            "replicate disk.raw --volume a --block-size 3K",
            "replicate disk.raw --volume a --label 7",
            "replicate disk.raw --volume a --compress zip",
            "replicate disk.raw --volume a --group 67e55044-10b1-426f-9247-bb680e5fe0c8:1",
            "replicate disk.raw --volume a --bandwidth 100K",
            "restore a target --bandwidth fast",
            "restore a@no:time target",
            "emit disk.raw",
            "tap disk.raw --volume a",
            "tap disk.raw --volume a --serve nowhere",
            "tap disk.raw --volume a --serve unix:",
            "tap disk.raw --volume a --serve unix:s --journal-max 1M",
            "tap disk.raw --volume a --serve unix:s --sync sometimes",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn tap_is_read() {
        let Command::Tap(args) = parse("tap /dev/sdb --volume data --serve unix:/run/tap --state s").unwrap() else {
            panic!("another command")
        };
        assert_eq!((args.serve.clone(), args.sync), (Place::Unix("/run/tap".into()), Sync::Async));
        assert_eq!((args.delay, args.journal_max, args.state()), (200, 4 << 30, PathBuf::from("s")));
    }

    #[test]
    fn verify_has_two_forms() {
        let operands = |line| match parse(line).unwrap() {
            Command::Verify(verify) => verify.operands().map(|(compared, point)| (compared, point.to_string())),
            _ => panic!("another command"),
        };
        assert_eq!(operands("verify d.raw a@3").unwrap(), (Compared::Source("d.raw".into()), "a@3".into()));
        assert_eq!(operands("verify a --over-nbd").unwrap(), (Compared::OverNbd(None), "a@latest".into()));
        let named = Compared::OverNbd(Some("h:10809".into()));
        assert_eq!(operands("verify a@3 --over-nbd h:10809").unwrap(), (named, "a@3".into()));
        assert!(operands("verify a --over-nbd --bandwidth 1M").is_err());
        assert!(operands("verify a").is_err());
        assert!(operands("verify d.raw a --over-nbd").is_err());
    }
}
