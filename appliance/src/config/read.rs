//! Reading a configuration: the file, what it includes, and all of that as one.
//!
//! Order: the file itself, then the directories of `include` as they are listed, in each the files `*.yaml` by name. The order decides
//! nothing but which of two errors is told: a key that two files have is an error, wherever they are.

use super::fixed::{Given, LogFormat};
use super::raw::{Named, Raw};
use super::volumes::{Volumes, Wanted};
use super::{Config, ConfigError, Job, explain, locate};
use crate::nbd_terms::{NbdTerms, NbdTls};
use crate::retention::policy::Policy;
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use understudy_format::catalogue::SecondaryMode;
use understudy_format::point::VolumeName;

type Result<T> = std::result::Result<T, ConfigError>;

/// The only version that there is.
const VERSION: u32 = 1;
/// The template of volumes that name none.
const DEFAULT: &str = "default";
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// Reads a file and what it includes.
pub fn read(file: &Path) -> Result<Config> {
    read_in(file, None)
}

/// The same while a time zone is in force, in which schedules are meant then, whatever the file says of it.
pub fn read_in(file: &Path, in_force: Option<&TimeZone>) -> Result<Config> {
    let main = Source::read(file)?;
    if main.raw.version.is_none() {
        return Err(main.wrong(&[], format!("missing key \"version\": add `version: {VERSION}`")));
    }
    let mut warnings = Vec::new();
    let mut sources = Vec::new();
    for (index, dir) in main.raw.include.iter().enumerate() {
        let dir = file.parent().unwrap_or(Path::new(".")).join(dir);
        match included(&dir) {
            Ok(files) => sources.extend(files),
            Err(error) => {
                let reason = format!("include: {}: {error}; nothing is included from there", dir.display());
                warnings.push(main.wrong(&["include", &index.to_string()], reason));
            }
        }
    }
    let sources = sources.iter().map(|path| Source::included(path)).collect::<Result<Vec<_>>>()?;
    let sources: Vec<Source> = std::iter::once(main).chain(sources).collect();
    All(&sources).config(in_force, warnings)
}

/// The files of a directory, in order.
fn included(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let paths = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<BTreeSet<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect())
}

/// One file.
struct Source {
    file: PathBuf,
    text: String,
    raw: Raw,
}

impl Source {
    fn read(file: &Path) -> Result<Self> {
        let wrong = |place, reason| ConfigError { file: file.to_owned(), place, reason };
        let text = std::fs::read_to_string(file).map_err(|error| wrong(None, format!("cannot be read: {error}")))?;
        let raw: Raw = serde_yaml::from_str(&text).map_err(|error| {
            let (place, reason) = explain::explain(&error, &text);
            wrong(place, reason)
        })?;
        let source = Self { file: file.to_owned(), text, raw };
        match source.raw.version {
            None | Some(VERSION) => Ok(source),
            Some(other) => {
                let reason = format!("version: {other} is not known to this program: expected {VERSION}");
                Err(source.wrong(&["version"], reason))
            }
        }
    }

    fn included(file: &Path) -> Result<Self> {
        let source = Self::read(file)?;
        match source.raw.include.is_empty() {
            true => Ok(source),
            false => Err(source.wrong(&["include"], "include: only the first file may include others")),
        }
    }

    fn wrong(&self, keys: &[&str], reason: impl Into<String>) -> ConfigError {
        let place = locate::locate(&self.text, keys);
        ConfigError { file: self.file.clone(), place, reason: reason.into() }
    }
}

/// A value, and the file that has it.
type Found<'a, T> = (&'a Source, T);

/// All files as one.
struct All<'a>(&'a [Source]);

impl<'a> All<'a> {
    fn config(&self, in_force: Option<&TimeZone>, mut warnings: Vec<ConfigError>) -> Result<Config> {
        let fixed = self.fixed()?;
        let zone = in_force.or(fixed.time_zone.as_ref()).cloned().unwrap_or_else(TimeZone::system);
        let volumes = self.volumes(&mut warnings)?;
        Ok(Config {
            files: self.0.iter().map(|source| source.file.clone()).collect(),
            fixed,
            log_level: self.parsed(&["log", "level"], |raw| raw.log.level.as_deref(), level)?,
            volumes,
            jobs: self.jobs(&zone, &mut warnings)?,
            warnings,
        })
    }

    fn fixed(&self) -> Result<Given> {
        Ok(Given {
            pool: self.parsed(&["pool"], |raw| raw.pool.as_deref(), path)?,
            listen: self.parsed(&["listen"], |raw| raw.listen.as_deref(), address)?,
            nbd: self.parsed(&["nbd"], |raw| raw.nbd.as_deref(), address)?,
            nbd_socket: self.parsed(&["nbd-socket"], |raw| raw.nbd_socket.as_deref(), path)?,
            time_zone: self.parsed(&["time-zone"], |raw| raw.time_zone.as_deref(), zone)?,
            sessions: self.parsed(&["limits", "sessions"], |raw| raw.limits.sessions.as_ref(), limit)?,
            nbd_terms: self.nbd_terms()?,
            log_format: self.parsed(&["log", "format"], |raw| raw.log.format.as_deref(), format)?,
        })
    }

    fn nbd_terms(&self) -> Result<NbdTerms> {
        let limits = |key: &str, get: fn(&Raw) -> Option<&u32>| self.parsed(&["limits", key], get, limit);
        Ok(NbdTerms {
            nbd_tls: self.parsed(&["nbd-tls"], |raw| raw.nbd_tls.as_deref(), tls)?,
            nbd_tls_certificates: self.parsed(
                &["nbd-tls-certificates"],
                |raw| raw.nbd_tls_certificates.as_deref(),
                path,
            )?,
            nbd_connections: limits("nbd-connections", |raw| raw.limits.nbd_connections.as_ref())?,
            nbd_connections_per_export: limits("nbd-connections-per-export", |raw| {
                raw.limits.nbd_connections_per_export.as_ref()
            })?,
        })
    }

    /// The one value under these keys, with its meaning.
    fn parsed<T: ?Sized, U>(
        &self,
        keys: &[&str],
        get: impl Fn(&Raw) -> Option<&T>,
        parse: impl Fn(&T) -> std::result::Result<U, String>,
    ) -> Result<Option<U>> {
        let mut found = self.0.iter().filter_map(|source| Some((source, get(&source.raw)?)));
        let Some((source, value)) = found.next() else { return Ok(None) };
        if let Some((other, _)) = found.next() {
            return Err(conflict(source, other, keys));
        }
        let named = |reason| source.wrong(keys, format!("{}: {reason}", keys.join(".")));
        parse(value).map(Some).map_err(named)
    }

    /// All things of a kind by their names, each from one file.
    fn named<T>(
        &self,
        kind: &str,
        get: impl Fn(&'a Raw) -> &'a Named<T>,
    ) -> Result<BTreeMap<&'a str, Found<'a, &'a T>>> {
        let mut all: BTreeMap<&str, Found<'_, &T>> = BTreeMap::new();
        for source in self.0 {
            for (name, value) in &get(&source.raw).0 {
                if let Some((other, _)) = all.insert(name, (source, value)) {
                    return Err(conflict(other, source, &[kind, name]));
                }
            }
        }
        Ok(all)
    }

    fn volumes(&self, warnings: &mut Vec<ConfigError>) -> Result<Volumes> {
        let templates = self.named("templates", |raw| &raw.templates)?;
        let mut known = BTreeMap::new();
        for (name, (source, raw)) in &templates {
            let keys = ["templates", *name];
            known.insert(*name, wanted(source, &keys, raw.secondary.as_ref(), raw.retention.as_ref())?);
        }
        let mut unused: BTreeSet<&str> = known.keys().copied().filter(|name| *name != DEFAULT).collect();
        let nothing = Wanted::default();
        let mut named = BTreeMap::new();
        for (name, (source, raw)) in self.named("volumes", |raw| &raw.volumes)? {
            let keys = ["volumes", name];
            let volume: VolumeName =
                name.parse().map_err(|error| source.wrong(&keys, format!("volumes.{name}: {error}")))?;
            let template = raw.template.as_deref().unwrap_or(DEFAULT);
            unused.remove(template);
            let base = match (known.get(template), &raw.template) {
                (Some(base), _) => base,
                (None, None) => &nothing,
                (None, Some(_)) => return Err(no_template(source, name, template, &known)),
            };
            let own = wanted(source, &keys, raw.secondary.as_ref(), raw.retention.as_ref())?;
            named.insert(volume, own.over(base));
        }
        let unused = unused
            .into_iter()
            .map(|name| templates[name].0.wrong(&["templates", name], format!("templates.{name}: no volume names it")));
        warnings.extend(unused);
        Ok(Volumes { others: known.remove(DEFAULT).unwrap_or_default(), named })
    }

    fn jobs(&self, zone: &TimeZone, warnings: &mut Vec<ConfigError>) -> Result<Vec<Arc<Job>>> {
        let mut jobs = Vec::new();
        for (name, (source, raw)) in self.named("jobs", |raw| &raw.jobs)? {
            let job = Job::of(name, raw, zone).map_err(|(key, reason)| match key {
                Some(key) => source.wrong(&["jobs", name, key], format!("jobs.{name}.{key}: {reason}")),
                None => source.wrong(&["jobs", name], format!("jobs: {reason}")),
            })?;
            if job.schedule.next(jiff::Timestamp::UNIX_EPOCH).is_none() {
                let reason = format!("jobs.{name}.schedule: {:?} never comes: no such day exists", raw.schedule);
                warnings.push(source.wrong(&["jobs", name, "schedule"], reason));
            }
            jobs.push(Arc::new(job));
        }
        Ok(jobs)
    }
}

fn conflict(first: &Source, second: &Source, keys: &[&str]) -> ConfigError {
    let there = locate::locate(&first.text, keys).map_or(String::new(), |(line, _)| format!(", line {line}"));
    let reason = format!("{}: is set in {}{there} as well; say it once", keys.join("."), first.file.display());
    second.wrong(keys, reason)
}

fn no_template(source: &Source, volume: &str, template: &str, known: &BTreeMap<&str, Wanted>) -> ConfigError {
    let names: Vec<&str> = known.keys().copied().collect();
    let meant = explain::nearest(template, &names).map_or(String::new(), |near| format!("; did you mean {near:?}?"));
    let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let reason = format!("volumes.{volume}.template: there is no template {template:?}{meant} (there is: {there})");
    source.wrong(&["volumes", volume, "template"], reason)
}

fn wanted(source: &Source, keys: &[&str; 2], secondary: Option<&String>, retention: Option<&String>) -> Result<Wanted> {
    let wrong = |key: &'static str| {
        move |error: crate::error::Error| {
            let keys = [keys[0], keys[1], key];
            source.wrong(&keys, format!("{}: {error}", keys.join(".")))
        }
    };
    let secondary: Option<SecondaryMode> =
        secondary.map(|text| crate::upkeep::parse_mode(text)).transpose().map_err(wrong("secondary"))?;
    let retention: Option<Policy> = retention.map(|text| text.parse()).transpose().map_err(wrong("retention"))?;
    Ok(Wanted { secondary, retention })
}

fn path(text: &str) -> std::result::Result<PathBuf, String> {
    match text.starts_with('/') {
        true => Ok(PathBuf::from(text)),
        false => Err(format!("{text:?} is no absolute path: expected one that starts with /")),
    }
}

fn address(text: &str) -> std::result::Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(_)) => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is no address: expected HOST:PORT, such as 127.0.0.1:7410")),
    }
}

fn zone(name: &str) -> std::result::Result<TimeZone, String> {
    TimeZone::get(name)
        .map_err(|_| format!("no time zone {name:?} is known here: expected a name such as Europe/Berlin or UTC"))
}

fn tls(text: &str) -> std::result::Result<NbdTls, String> {
    one_of(text, &["off", "on", "require"]).map(|text| match text {
        "on" => NbdTls::On,
        "require" => NbdTls::Require,
        _ => NbdTls::Off,
    })
}

fn limit(number: &u32) -> std::result::Result<u32, String> {
    match number {
        1..=65_536 => Ok(*number),
        _ => Err(format!("{number} is no limit: expected 1 to 65536")),
    }
}

fn one_of<'a>(text: &str, known: &[&'a str]) -> std::result::Result<&'a str, String> {
    let found = known.iter().copied().find(|known| *known == text);
    found.ok_or_else(|| format!("{text:?} is not known: expected one of {}", known.join(", ")))
}

fn level(text: &str) -> std::result::Result<String, String> {
    one_of(text, &LEVELS).map(str::to_owned)
}

fn format(text: &str) -> std::result::Result<LogFormat, String> {
    one_of(text, &["human", "json"]).map(|text| if text == "json" { LogFormat::Json } else { LogFormat::Human })
}
