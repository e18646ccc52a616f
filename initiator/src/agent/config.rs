//! agent.yaml: what this host lets an appliance have done, and how the agent behaves.
//!
//! The allow-list is here and nowhere else: an appliance names volumes, targets and brackets, and what stands under a name is what the
//! administrator of this host wrote. Invariant: a [`Config`] is right as a whole, so who holds one need not check it.

use super::raw::{self, Raw};
use crate::source;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use understudy_config::log::LogFormat;
use understudy_config::meaning::{address, duration, level, limit, log_format, path};
use understudy_config::{ConfigError, Files, Source};
use understudy_format::BlockSize;
use understudy_format::access::ClientName;
use understudy_format::agent::{Announcement, LocalName, Offer, SILENCE_MS_MAX, SILENCE_MS_MIN};
use understudy_format::bitmap::BITMAP_NAME_MAX;
use understudy_format::point::VolumeName;
use understudy_format::text::parse_bytes;

type Result<T, E = ConfigError> = std::result::Result<T, E>;

/// Where the file is when none is named.
pub const FILE: &str = "/etc/understudy/agent.yaml";
const APPLIANCE: &str = "127.0.0.1:7410";
const STATE_DIR: &str = "/var/lib/understudy-agent";
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const RECONNECT: Duration = Duration::from_secs(60);
const RUNS: u32 = 4;
const PRE_TIMEOUT: Duration = Duration::from_secs(60);
const POST_TIMEOUT: Duration = Duration::from_secs(300);
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

/// What the administrator of this host wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The files, in the order in which they were read.
    pub files: Vec<PathBuf>,
    /// The appliance, `HOST:PORT`.
    pub appliance: String,
    /// Where it stands who this host is to the appliance.
    pub identity: Option<PathBuf>,
    /// Who this agent is.
    pub name: ClientName,
    /// Where digest maps and what is known of runs are kept.
    pub state_dir: PathBuf,
    /// How long the session may be silent before it counts as lost.
    pub keep_alive: Duration,
    /// The longest wait before connecting again.
    pub reconnect: Duration,
    /// How many runs there may be at the same time.
    pub runs_max: usize,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub log_level: Option<String>,
    /// How lines of the log are written; changes with a restart.
    pub log_format: LogFormat,
    /// What may be read.
    pub volumes: BTreeMap<VolumeName, Volume>,
    /// What may be written.
    pub targets: BTreeMap<LocalName, Target>,
    /// What may be run before and after reading.
    pub brackets: BTreeMap<LocalName, Bracket>,
    /// What is probably not meant.
    pub warnings: Vec<ConfigError>,
}

/// A volume that may be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// As `understudy replicate` takes it.
    pub source: String,
    /// A dirty bitmap of the source.
    pub bitmap: Option<String>,
    /// Of the volume's first point.
    pub block_size: Option<BlockSize>,
    /// What is told of the size where the source is not there to be asked.
    pub size: u64,
}

/// What a point may be restored to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// A file or a block device.
    pub path: PathBuf,
    /// Whether it may have content.
    pub overwrite: bool,
}

/// Commands around the reading of volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bracket {
    /// Before; empty for none.
    pub pre: Vec<String>,
    /// How long it may take.
    pub pre_timeout: Duration,
    /// After, whenever the other one was started; empty for none.
    pub post: Vec<String>,
    /// How long it may take.
    pub post_timeout: Duration,
}

impl Config {
    /// Reads a file and what it includes.
    pub fn read(file: &Path) -> Result<Self> {
        let mut warnings = Vec::new();
        let files = Files::<Raw>::read(file, &mut warnings)?;
        let text =
            |key: &'static str, get: fn(&Raw) -> Option<&String>| files.parsed(&[key], get, |text| Ok(text.clone()));
        let time = |key: &'static str, get: fn(&Raw) -> Option<&String>, min, max| {
            files.parsed(&[key], get, |text| duration(text, min, max))
        };
        let (silence_min, silence_max) = (millis(SILENCE_MS_MIN), millis(SILENCE_MS_MAX));
        let config = Self {
            files: files.paths(),
            appliance: files
                .parsed(&["appliance"], |raw| raw.appliance.as_deref(), address)?
                .unwrap_or(APPLIANCE.into()),
            identity: files.parsed(&["identity"], |raw| raw.identity.as_deref(), path)?,
            name: name(&files, text("name", |raw| raw.name.as_ref())?)?,
            state_dir: files.parsed(&["state-dir"], |raw| raw.state_dir.as_deref(), path)?.unwrap_or(STATE_DIR.into()),
            keep_alive: time("keep-alive", |raw| raw.keep_alive.as_ref(), silence_min, silence_max)?
                .unwrap_or(KEEP_ALIVE),
            reconnect: time("reconnect", |raw| raw.reconnect.as_ref(), silence_min, silence_max)?.unwrap_or(RECONNECT),
            runs_max: files.parsed(&["limits", "runs"], |raw| raw.limits.runs.as_ref(), limit)?.unwrap_or(RUNS)
                as usize,
            log_level: files.parsed(&["log", "level"], |raw| raw.log.level.as_deref(), level)?,
            log_format: files
                .parsed(&["log", "format"], |raw| raw.log.format.as_deref(), log_format)?
                .unwrap_or_default(),
            volumes: all(&files, "volumes", |raw| &raw.volumes, volume)?,
            targets: all(&files, "targets", |raw| &raw.targets, target)?,
            brackets: all(&files, "brackets", |raw| &raw.brackets, bracket)?,
            warnings: Vec::new(),
        };
        if config.volumes.is_empty() && config.targets.is_empty() {
            warnings.push(files.wrong("there are no volumes and no targets: the agent has nothing to do"));
        }
        Ok(Self { warnings, ..config })
    }

    /// What the appliance is told of all that; the runs are known elsewhere.
    pub fn announcement(&self) -> Announcement {
        let offer = |(name, volume): (&VolumeName, &Volume)| {
            let size = source::size_of_file(&volume.source).unwrap_or(volume.size);
            Offer { name: name.clone(), size, source: volume.source.clone() }
        };
        Announcement {
            volumes: self.volumes.iter().map(offer).collect(),
            targets: self.targets.keys().cloned().collect(),
            brackets: self.brackets.keys().cloned().collect(),
            under_way: Vec::new(),
        }
    }
}

fn millis(number: u32) -> Duration {
    Duration::from_millis(number.into())
}

/// The name that was given, or that of the host.
fn name(files: &Files<Raw>, given: Option<String>) -> Result<ClientName> {
    match given {
        Some(given) => {
            let name = files.parsed(&["name"], |raw| raw.name.as_deref(), |_| given.parse().map_err(text_of))?;
            Ok(name.expect("it was given"))
        }
        None => {
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            host.parse()
                .map_err(|error| files.wrong(format!("missing key \"name\", and the host's does not do: {error}")))
        }
    }
}

fn text_of(error: impl ToString) -> String {
    error.to_string()
}

/// All things of a kind by their names, with their meaning.
fn all<'a, N: std::str::FromStr + Ord, T, U>(
    files: &'a Files<Raw>,
    kind: &'static str,
    get: impl Fn(&'a Raw) -> &'a understudy_config::Named<T>,
    meaning: impl Fn(&Place<'_>, &'a T) -> Result<U>,
) -> Result<BTreeMap<N, U>>
where
    N::Err: ToString,
    T: 'a,
{
    let mut found = BTreeMap::new();
    for (name, (source, raw)) in files.named(kind, get)? {
        let place = Place { source, kind, name };
        let parsed = name.parse().map_err(|error: N::Err| place.wrong(None, &error.to_string()))?;
        found.insert(parsed, meaning(&place, raw)?);
    }
    Ok(found)
}

/// Where something stands that has a name.
struct Place<'a> {
    source: &'a Source<Raw>,
    kind: &'static str,
    name: &'a str,
}

impl Place<'_> {
    fn wrong(&self, key: Option<&str>, reason: &str) -> ConfigError {
        let keys: Vec<&str> = [self.kind, self.name].into_iter().chain(key).collect();
        self.source.wrong(&keys, format!("{}: {reason}", keys.join(".")))
    }

    fn parsed<U>(
        &self,
        key: &str,
        value: Option<&String>,
        parse: impl Fn(&str) -> Result<U, String>,
    ) -> Result<Option<U>> {
        value.map(|value| parse(value).map_err(|reason| self.wrong(Some(key), &reason))).transpose()
    }
}

fn volume(place: &Place<'_>, raw: &raw::Volume) -> Result<Volume> {
    let bitmap = place.parsed("bitmap", raw.bitmap.as_ref(), |text| match text.len() {
        1..=BITMAP_NAME_MAX => Ok(text.to_owned()),
        _ => Err(format!("expected a name of 1 to {BITMAP_NAME_MAX} bytes")),
    })?;
    if let Err(error) = source::check(&raw.source, bitmap.as_deref()) {
        return Err(place.wrong(Some("source"), &format!("{error:#}")));
    }
    Ok(Volume {
        source: raw.source.clone(),
        bitmap,
        block_size: place.parsed("block-size", raw.block_size.as_ref(), |text| text.parse().map_err(text_of))?,
        size: place.parsed("size", raw.size.as_ref(), parse_bytes)?.unwrap_or(0),
    })
}

fn target(place: &Place<'_>, raw: &raw::Target) -> Result<Target> {
    let path = place.parsed("path", Some(&raw.path), path)?.expect("it was given");
    Ok(Target { path, overwrite: raw.overwrite.unwrap_or(false) })
}

fn bracket(place: &Place<'_>, raw: &raw::Bracket) -> Result<Bracket> {
    if raw.pre.is_none() && raw.post.is_none() {
        return Err(place.wrong(None, "expected `pre`, `post` or both: a command and its arguments as a list"));
    }
    let timeout = |key, value: &Option<String>| {
        place.parsed(key, value.as_ref(), |text| duration(text, Duration::from_millis(1), TIMEOUT_MAX))
    };
    Ok(Bracket {
        pre: command(place, "pre", raw.pre.as_deref())?,
        pre_timeout: timeout("pre-timeout", &raw.pre_timeout)?.unwrap_or(PRE_TIMEOUT),
        post: command(place, "post", raw.post.as_deref())?,
        post_timeout: timeout("post-timeout", &raw.post_timeout)?.unwrap_or(POST_TIMEOUT),
    })
}

/// A program, which no `PATH` decides about, and its arguments; no shell reads them.
fn command(place: &Place<'_>, key: &str, words: Option<&[String]>) -> Result<Vec<String>> {
    match words {
        None => Ok(Vec::new()),
        Some([program, ..]) => {
            path(program).map_err(|reason| place.wrong(Some(key), &reason))?;
            Ok(words.unwrap_or_default().to_vec())
        }
        Some([]) => Err(place.wrong(Some(key), "expected a program and its arguments")),
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
