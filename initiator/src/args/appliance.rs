//! Which appliance, as who, how fast, and where state is kept: what many commands have in common.

use clap::Args;
use std::path::PathBuf;
use understudy_format::point::VolumeName;
use understudy_format::text::parse_bytes;

/// Which appliance.
#[derive(Debug, Clone, Args)]
pub struct ApplianceArguments {
    /// The appliance, HOST:PORT
    #[arg(
        long = "to",
        visible_alias = "from",
        value_name = "HOST:PORT",
        env = "UNDERSTUDY_APPLIANCE",
        default_value = "127.0.0.1:7410",
        value_parser = address
    )]
    pub address: String,
    /// Who this host is to the appliance: ca-cert.pem, client-cert.pem and client-key.pem [default: what `understudy login` stored]
    #[arg(long, value_name = "DIR", env = "UNDERSTUDY_IDENTITY")]
    identity: Option<PathBuf>,
    /// Speak without TLS to an appliance that is not on this host, where this host has no identity for it
    #[arg(long, env = "UNDERSTUDY_PLAIN")]
    pub plain: bool,
}

impl ApplianceArguments {
    /// The appliance at an address, as who a directory says, or else as whom `understudy login` made this host.
    pub fn at(address: String, identity: Option<PathBuf>) -> Self {
        let set = || std::env::var_os("UNDERSTUDY_IDENTITY").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        Self { address, identity: identity.or_else(set), plain: false }
    }

    /// Where it stands who this host is to the appliance, if that stands anywhere.
    pub fn identity(&self) -> PathBuf {
        let stored =
            || StateArguments::from_environment().directory().join("identities").join(self.address.replace(':', "_"));
        self.identity.clone().unwrap_or_else(stored)
    }
}

/// `understudy login`.
#[derive(Debug, Clone, Args)]
pub struct Login {
    /// The appliance [default port: 7410]
    #[arg(value_name = "HOST[:PORT]", value_parser = host)]
    pub address: String,
    /// What `understudyd enroll NAME` printed; reads it from standard input when it is `-`
    #[arg(
        long,
        value_name = "TOKEN",
        required_unless_present = "renew",
        env = "UNDERSTUDY_TOKEN",
        hide_env_values = true
    )]
    pub token: Option<String>,
    /// Take over another certificate, instead, for what this host is already
    #[arg(long, conflicts_with = "token")]
    pub renew: bool,
    /// Where to store it [default: where the other commands look]
    #[arg(long, value_name = "DIR", env = "UNDERSTUDY_IDENTITY")]
    identity: Option<PathBuf>,
}

impl Login {
    /// The appliance, as other commands name it.
    pub fn appliance(&self) -> ApplianceArguments {
        ApplianceArguments { address: self.address.clone(), identity: self.identity.clone(), plain: false }
    }
}

/// Where state is kept.
#[derive(Debug, Clone, Args)]
pub struct StateArguments {
    /// Where digest maps are kept [default: $XDG_STATE_HOME/understudy or ~/.local/state/understudy]
    #[arg(long = "state-dir", value_name = "DIR", env = "UNDERSTUDY_STATE_DIR")]
    directory: Option<PathBuf>,
}

impl StateArguments {
    /// Where the tap of a volume has its state, unless it is said.
    pub fn of_tap(volume: &VolumeName) -> PathBuf {
        Self::from_environment().directory().join("taps").join(volume.as_str())
    }

    /// Where state is kept when no argument says it.
    pub(super) fn from_environment() -> Self {
        let directory = std::env::var_os("UNDERSTUDY_STATE_DIR").filter(|value| !value.is_empty());
        Self { directory: directory.map(PathBuf::from) }
    }

    /// The state directory.
    pub fn directory(&self) -> PathBuf {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = || Some(set("HOME")?.join(".local/state"));
        let by_default = || set("XDG_STATE_HOME").or_else(home).unwrap_or_else(|| "/var/lib".into()).join("understudy");
        self.directory.clone().unwrap_or_else(by_default)
    }
}

/// How fast.
#[derive(Debug, Clone, Copy, Args)]
pub struct RateArguments {
    /// At most so many bytes a second (128K, 50M) to or from the appliance [default: as fast as it goes]
    #[arg(long = "bandwidth", value_name = "RATE", value_parser = rate)]
    pub bandwidth: Option<u64>,
}

/// The lowest rate: what is answered in one message must come before the answer is given up.
const RATE_MIN: u64 = 128 << 10;

pub(super) fn rate(text: &str) -> Result<u64, String> {
    let rate = parse_bytes(text)?;
    if rate >= RATE_MIN { Ok(rate) } else { Err(format!("expected at least {}K bytes a second", RATE_MIN >> 10)) }
}

pub(super) fn address(text: &str) -> Result<String, String> {
    let valid = text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if valid { Ok(text.to_owned()) } else { Err("expected HOST:PORT".into()) }
}

/// A host, with the usual port unless there is one.
fn host(text: &str) -> Result<String, String> {
    address(text).or_else(|error| match text.contains(':') {
        true => Err(error),
        false => address(&format!("{text}:7410")),
    })
}
