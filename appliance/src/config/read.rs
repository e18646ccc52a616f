//! The meaning of all files of a configuration as one.

use super::fixed::Given;
use super::notify::Notify;
use super::raw::{Kept, Raw};
use super::volumes::{Volumes, Wanted};
use super::{Config, ConfigError, Job, JobLimits, job};
use crate::journals::window;
use crate::nbd_terms::{NbdTerms, NbdTls};
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use understudy_config::meaning::{address, level, limit, log_format, one_of, path};
use understudy_config::{Files, nearest};
use understudy_format::history::JOBS_MAX;
use understudy_format::point::VolumeName;

type Result<T> = std::result::Result<T, ConfigError>;

/// The template of volumes that name none.
const DEFAULT: &str = "default";

/// Reads a file and what it includes.
pub fn read(file: &Path) -> Result<Config> {
    read_in(file, None)
}

/// The same while a time zone is in force, in which schedules are meant then, whatever the file says of it.
pub fn read_in(file: &Path, in_force: Option<&TimeZone>) -> Result<Config> {
    let mut warnings = Vec::new();
    let files = Files::read(file, &mut warnings)?;
    All(&files).config(in_force, warnings)
}

type Source = understudy_config::Source<Raw>;

/// All files as one.
struct All<'a>(&'a Files<Raw>);

impl Deref for All<'_> {
    type Target = Files<Raw>;

    fn deref(&self) -> &Files<Raw> {
        self.0
    }
}

impl All<'_> {
    fn config(&self, in_force: Option<&TimeZone>, mut warnings: Vec<ConfigError>) -> Result<Config> {
        let fixed = self.fixed()?;
        self.reach(&fixed, &mut warnings);
        let zone = in_force.or(fixed.time_zone.as_ref()).cloned().unwrap_or_else(TimeZone::system);
        let volumes = self.volumes(&mut warnings)?;
        Ok(Config {
            files: self.paths(),
            fixed,
            log_level: self.parsed(&["log", "level"], |raw| raw.log.level.as_deref(), level)?,
            volumes,
            jobs: self.jobs(&zone, &mut warnings)?,
            job_limits: self.job_limits()?,
            notify: Notify::of(self, &mut warnings)?,
            warnings,
        })
    }

    fn fixed(&self) -> Result<Given> {
        Ok(Given {
            pool: self.parsed(&["pool"], |raw| raw.pool.as_deref(), path)?,
            listen: self.parsed(&["listen"], |raw| raw.listen.as_deref(), address)?,
            nbd: self.parsed(&["nbd"], |raw| raw.nbd.as_deref(), address)?,
            tls: self.parsed(&["tls"], |raw| raw.tls.as_deref(), switch)?,
            tls_names: self.parsed(&["tls-names"], |raw| raw.tls_names.as_deref(), names)?,
            append_only: self.parsed(&["append-only"], |raw| raw.append_only.as_ref(), |only| Ok(*only))?,
            nbd_socket: self.parsed(&["nbd-socket"], |raw| raw.nbd_socket.as_deref(), path)?,
            time_zone: self.parsed(&["time-zone"], |raw| raw.time_zone.as_deref(), zone)?,
            sessions: self.parsed(&["limits", "sessions"], |raw| raw.limits.sessions.as_ref(), limit)?,
            nbd_terms: self.nbd_terms()?,
            log_format: self.parsed(&["log", "format"], |raw| raw.log.format.as_deref(), log_format)?,
        })
    }

    /// Warns of what the daemon refuses, unless its flags say otherwise.
    fn reach(&self, fixed: &Given, warnings: &mut Vec<ConfigError>) {
        if fixed.tls == Some(true) {
            return self.nbd_reach(fixed, warnings);
        }
        let is_open = |raw: &Raw| {
            let address: Option<SocketAddr> = raw.listen.as_deref().and_then(|listen| listen.parse().ok());
            address.is_some_and(|address| !address.ip().is_loopback())
        };
        for source in self.sources() {
            if is_open(source.raw()) {
                let reason = "listen: other hosts can reach this, so the daemon starts only with `tls: on`";
                warnings.push(source.wrong(&["listen"], reason));
            }
            if source.raw().append_only == Some(true) {
                let reason = "append-only: there are clients only with `tls: on`";
                warnings.push(source.wrong(&["append-only"], reason));
            }
        }
    }

    /// The same of NBD by certificates of others.
    fn nbd_reach(&self, fixed: &Given, warnings: &mut Vec<ConfigError>) {
        let unguarded = fixed.nbd_terms.check_authority().err().map(|error| error.to_string());
        let in_the_clear = fixed.nbd_terms.lets_in_the_clear();
        let in_the_clear =
            in_the_clear.then(|| "nbd-tls-certificates: with `tls: on` add `nbd-tls: require`".to_owned());
        for source in self.sources().filter(|source| source.raw().nbd_tls_certificates.is_some()) {
            let reasons = in_the_clear.iter().chain(&unguarded);
            warnings.extend(reasons.map(|reason| source.wrong(&["nbd-tls-certificates"], reason)));
        }
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

    fn volumes(&self, warnings: &mut Vec<ConfigError>) -> Result<Volumes> {
        let templates = self.named("templates", |raw| &raw.templates)?;
        let mut known = BTreeMap::new();
        for (name, (source, raw)) in &templates {
            let keys = ["templates", *name];
            known.insert(*name, wanted(source, &keys, (*raw).into())?);
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
                (None, Some(_)) => return Err(no_template(source, ["volumes", name], template, known.keys().copied())),
            };
            let own = wanted(source, &keys, raw.into())?;
            named.insert(volume, own.over(base));
        }
        let unused = unused
            .into_iter()
            .map(|name| templates[name].0.wrong(&["templates", name], format!("templates.{name}: no volume names it")));
        warnings.extend(unused);
        Ok(Volumes { others: known.remove(DEFAULT).unwrap_or_default(), named })
    }

    fn jobs(&self, zone: &TimeZone, warnings: &mut Vec<ConfigError>) -> Result<Vec<Arc<Job>>> {
        let templates = self.named("job-templates", |raw| &raw.job_templates)?;
        for (name, (source, raw)) in &templates {
            job::check_template(raw).map_err(|wrong| wrong_job(source, ["job-templates", name], wrong))?;
        }
        let mut unused: BTreeSet<&str> = templates.keys().copied().collect();
        let named = self.named("jobs", |raw| &raw.jobs)?;
        if named.len() > JOBS_MAX as usize {
            return Err(self.wrong(format!("jobs: {} are too many: expected at most {JOBS_MAX}", named.len())));
        }
        let mut jobs = Vec::new();
        for (name, (source, raw)) in named {
            let template = raw.template.as_deref().map(|template| {
                let found = templates.get_key_value(template);
                found.ok_or_else(|| no_template(source, ["jobs", name], template, templates.keys().copied()))
            });
            let template = template.transpose()?;
            if let Some((name, _)) = template {
                unused.remove(name);
            }
            let job = Job::of(name, raw, template.map(|(_, (_, raw))| *raw), zone).map_err(|wrong| match template {
                Some((template, (source, _))) if wrong.in_template => {
                    wrong_job(source, ["job-templates", template], wrong)
                }
                _ => wrong_job(source, ["jobs", name], wrong),
            })?;
            if job.schedule.next(jiff::Timestamp::UNIX_EPOCH).is_none() {
                let reason =
                    format!("jobs.{name}.schedule: {:?} never comes: no such day exists", job.schedule.to_string());
                warnings.push(source.wrong(&["jobs", name, "schedule"], reason));
            }
            jobs.push(Arc::new(job));
        }
        warnings.extend(unused.into_iter().map(|name| {
            templates[name].0.wrong(&["job-templates", name], format!("job-templates.{name}: no job names it"))
        }));
        Ok(jobs)
    }

    fn job_limits(&self) -> Result<JobLimits> {
        let usual = JobLimits::default();
        let limits = |key: &str, get: fn(&Raw) -> Option<&u32>| self.parsed(&["limits", key], get, limit);
        Ok(JobLimits {
            jobs: limits("jobs", |raw| raw.limits.jobs.as_ref())?.map_or(usual.jobs, |limit| limit as usize),
            per_agent: limits("jobs-per-agent", |raw| raw.limits.jobs_per_agent.as_ref())?
                .map_or(usual.per_agent, |limit| limit as usize),
        })
    }
}

/// What is wrong with a job, where it stands.
fn wrong_job(source: &Source, [kind, name]: [&str; 2], wrong: job::Wrong) -> ConfigError {
    let reason = wrong.reason;
    match wrong.key {
        Some(key) => source.wrong(&[kind, name, key], format!("{kind}.{name}.{key}: {reason}")),
        None => source.wrong(&[kind, name], format!("{kind}.{name}: {reason}")),
    }
}

fn no_template<'n>(
    source: &Source,
    [kind, name]: [&str; 2],
    template: &str,
    known: impl Iterator<Item = &'n str>,
) -> ConfigError {
    let names: Vec<&str> = known.collect();
    let meant = nearest(template, &names).map_or(String::new(), |near| format!("; did you mean {near:?}?"));
    let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let reason = format!("{kind}.{name}.template: there is no template {template:?}{meant} (there is: {there})");
    source.wrong(&[kind, name, "template"], reason)
}

fn wanted(source: &Source, keys: &[&str; 2], raw: Kept<'_>) -> Result<Wanted> {
    let wrong = |key: &'static str| {
        move |error: crate::error::Error| {
            let keys = [keys[0], keys[1], key];
            source.wrong(&keys, format!("{}: {error}", keys.join(".")))
        }
    };
    let secondary = raw.secondary.map(crate::upkeep::parse_mode).transpose().map_err(wrong("secondary"))?;
    let retention = raw.retention.map(str::parse).transpose().map_err(wrong("retention"))?;
    let age = |text: Option<&str>, key| text.map(str::parse).transpose().map_err(wrong(key));
    let keep_journal = age(raw.keep_journal, "keep-journal")?;
    let fold_every = age(raw.fold_every, "fold-every")?;
    Ok(Wanted { secondary, retention, journal: window::Wanted { keep_journal, fold_every } })
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

fn switch(text: &str) -> std::result::Result<bool, String> {
    one_of(text, &["off", "on"]).map(|text| text == "on")
}

fn names(names: &[String]) -> std::result::Result<Vec<String>, String> {
    let wrong = |name: &&String| rustls::pki_types::ServerName::try_from(name.as_str()).is_err();
    match names.iter().find(wrong) {
        Some(name) => {
            Err(format!("{name:?} is no name: expected names of hosts and addresses, such as backup.example.org"))
        }
        None => Ok(names.to_vec()),
    }
}
