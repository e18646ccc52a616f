//! The arguments of `tap`.

use super::appliance::{address, rate};
use super::{ApplianceArguments, StateArguments};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::str::FromStr;
use understudy_format::BlockSize;
use understudy_format::point::VolumeName;
use understudy_format::text::parse_bytes;

/// The least that a journal may be limited to: some of the longest writes.
const JOURNAL_MIN: u64 = 16 << 20;

/// `understudy tap`.
#[derive(Debug, Clone, Args)]
pub struct Tap {
    /// A raw file or a block device; from now on it is written to through the tap only
    #[arg(value_name = "VOLUME-PATH")]
    pub path: PathBuf,
    /// Which appliance.
    #[command(flatten)]
    pub appliance: ApplianceArguments,
    /// The volume at the appliance; created when it does not exist
    #[arg(long, value_name = "NAME")]
    pub volume: VolumeName,
    /// Where the volume is served over NBD; other hosts are let in with --tls-certificates only
    #[arg(long, value_name = "unix:PATH|HOST:PORT")]
    pub serve: Place,
    /// Serve through TLS: where server-cert.pem and server-key.pem are, and the ca-cert.pem that signed the clients' certificates
    #[arg(long, value_name = "DIR")]
    pub tls_certificates: Option<PathBuf>,
    /// When a flush is done: async, when the volume has everything; flush, when the appliance has it as well
    #[arg(long, value_name = "async|flush", default_value = "async")]
    pub sync: Sync,
    /// Milliseconds for which writes are gathered before they travel
    #[arg(long, value_name = "MS", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub delay: u64,
    /// Bytes that the journal may have here while the appliance is away; beyond, what was written is read again later
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = journal_max)]
    pub journal_max: u64,
    /// Where the journal is, and what is known of the volume [default: taps/NAME in the state directory of the other commands]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Also take a volume that is in use
    #[arg(long)]
    pub force: bool,
    /// At most so many bytes a second of what is read (again) [default: as fast as it goes]; the journal travels as it comes
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub bandwidth: Option<u64>,
    /// Bytes of a block, a power of two from 4K to 1M; fixed by the first point of a volume [default: 64K]
    #[arg(long, value_name = "SIZE")]
    pub block_size: Option<BlockSize>,
    /// Milliseconds to wait at most before connecting again
    #[arg(long, value_name = "MS", default_value_t = 10_000, hide = true)]
    pub reconnect: u64,
    /// Tell what happens as JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

impl Tap {
    /// The directory with journal and state.
    pub fn state(&self) -> PathBuf {
        self.state.clone().unwrap_or_else(|| StateArguments::of_tap(&self.volume))
    }
}

/// When a flush is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sync {
    /// When volume and journal have everything.
    Async,
    /// When the appliance has it, too.
    Flush,
}

/// Where NBD is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A socket of this host.
    Unix(PathBuf),
    /// HOST:PORT.
    Tcp(String),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("expected unix:PATH".into()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => address(text).map(Self::Tcp).map_err(|_| "expected unix:PATH or HOST:PORT".into()),
        }
    }
}

fn journal_max(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text)?;
    if bytes >= JOURNAL_MIN { Ok(bytes) } else { Err(format!("expected at least {}M", JOURNAL_MIN >> 20)) }
}
