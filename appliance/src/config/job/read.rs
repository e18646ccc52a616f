//! From the keys of a job, and of its template, to what they mean.
//!
//! What a job says comes before what its template says, key by key. A key that has no effect on what the job does is an error where the job
//! says it, and left out where it comes from a template: templates may be shared by jobs of several kinds.

use super::{Bandwidth, Full, Job, Replicate, Retry, Task};
use crate::args::{Cli, Command, Upkeep};
use crate::config::raw;
use crate::schedule::{Schedule, Window, Windows};
use clap::Parser;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;
use understudy_config::meaning;
use understudy_format::FormatError;
use understudy_format::access::ClientName;
use understudy_format::agent::RUN_VOLUMES_MAX;
use understudy_format::group::MEMBERS_MAX;
use understudy_format::history::{JOB_NAME_MAX, SCHEDULE_MAX};
use understudy_format::point::VolumeName;
use understudy_format::text::parse_bytes;

/// The longest random delay, and the longest of other lengths.
const DELAY_MAX: SignedDuration = SignedDuration::from_hours(24 * 31);
/// What is tried again when nothing is said: work of agents, this often.
const RETRY: Retry = Retry { count: 3, delay: SignedDuration::from_mins(1) };
const RETRIES_MAX: u32 = 100;

/// Something that is wrong.
#[derive(Debug)]
pub(in crate::config) struct Wrong {
    /// The key; `None` for the job as a whole.
    pub(in crate::config) key: Option<&'static str>,
    /// Whether the template has it.
    pub(in crate::config) in_template: bool,
    /// Why.
    pub(in crate::config) reason: String,
}

type Result<T, E = Wrong> = std::result::Result<T, E>;

/// A job's own keys, then those of its template.
#[derive(Clone, Copy)]
struct Keys<'a> {
    own: &'a raw::Job,
    template: Option<&'a raw::Job>,
    zone: &'a TimeZone,
}

impl Job {
    pub(in crate::config) fn of(
        name: &str,
        own: &raw::Job,
        template: Option<&raw::Job>,
        zone: &TimeZone,
    ) -> Result<Self> {
        check_name(name).map_err(|reason| Wrong { key: None, in_template: false, reason })?;
        Keys { own, template, zone }.job(name)
    }
}

/// Refuses what says what one job does, in what is common to several.
pub(in crate::config) fn check_template(raw: &raw::Job) -> Result<()> {
    let keys = [
        ("template", raw.template.is_some()),
        ("run", raw.run.is_some()),
        ("replicate", raw.replicate.is_some()),
        ("verify", raw.verify.is_some()),
    ];
    refuse(&keys, "is said by each job, not by a template")
}

fn refuse(keys: &[(&'static str, bool)], reason: &str) -> Result<()> {
    match keys.iter().find(|(_, is_there)| *is_there) {
        Some((key, _)) => Err(wrong(key, reason)),
        None => Ok(()),
    }
}

fn wrong(key: &'static str, reason: impl Into<String>) -> Wrong {
    Wrong { key: Some(key), in_template: false, reason: reason.into() }
}

impl<'a> Keys<'a> {
    /// The value of a key with its meaning.
    fn get<T: ?Sized + 'a, U>(
        &self,
        key: &'static str,
        pick: impl Fn(&'a raw::Job) -> Option<&'a T>,
        parse: impl Fn(&'a T) -> Result<U, String>,
    ) -> Result<Option<U>> {
        let own = pick(self.own).map(|value| (value, false));
        let found = own.or_else(|| pick(self.template?).map(|value| (value, true)));
        let parsed = found
            .map(|(value, in_template)| parse(value).map_err(|reason| Wrong { key: Some(key), in_template, reason }));
        parsed.transpose()
    }

    fn flag(&self, pick: impl Fn(&raw::Job) -> Option<bool>) -> Option<bool> {
        pick(self.own).or_else(|| pick(self.template?))
    }

    fn job(&self, name: &str) -> Result<Job> {
        let task = self.task()?;
        let zone = self.zone;
        let schedule = self.get("schedule", |raw| raw.schedule.as_deref(), |text| schedule(text, zone))?;
        let usual = if matches!(task, Task::Upkeep { .. }) { Retry { count: 0, ..RETRY } } else { RETRY };
        let delay_max = self.get("random-delay", |raw| raw.random_delay.as_deref(), delay)?;
        let windows = self.get("windows", |raw| raw.windows.as_ref(), |texts| windows(texts, zone))?;
        let rpo =
            if matches!(task, Task::Replicate(_)) { self.get("rpo", |raw| raw.rpo.as_deref(), length)? } else { None };
        Ok(Job {
            name: name.to_owned(),
            schedule: schedule.ok_or_else(|| Wrong {
                key: None,
                in_template: false,
                reason: "missing key \"schedule\": add one such as `schedule: every 15m`".to_owned(),
            })?,
            delay_max: delay_max.unwrap_or(SignedDuration::ZERO),
            catch_up: self.flag(|raw| raw.catch_up).unwrap_or(true),
            windows: windows.unwrap_or_default(),
            retry: self.get("retry", |raw| raw.retry.as_ref(), retry)?.unwrap_or(usual),
            rpo,
            task,
        })
    }

    fn task(&self) -> Result<Task> {
        let own = self.own;
        match (&own.run, &own.replicate, &own.verify) {
            (Some(_), None, None) => self.upkeep(),
            (None, Some(texts), None) => self.replicate(volumes(texts).map_err(|reason| wrong("replicate", reason))?),
            (None, None, Some(texts)) => self.verify(volumes(texts).map_err(|reason| wrong("verify", reason))?),
            _ => Err(Wrong {
                key: None,
                in_template: false,
                reason: "a job has one of the keys run, replicate and verify".to_owned(),
            }),
        }
    }

    fn upkeep(&self) -> Result<Task> {
        let is_agents = "is for jobs of agents: those with replicate or verify";
        refuse(&[("agent", self.own.agent.is_some())], is_agents)?;
        refuse(&self.only_replicate(), ONLY_REPLICATE)?;
        let text = self.own.run.clone().unwrap_or_default();
        let command = Box::new(command(&text).map_err(|reason| wrong("run", reason))?);
        Ok(Task::Upkeep { text, command })
    }

    fn verify(&self, volumes: Vec<VolumeName>) -> Result<Task> {
        refuse(&self.only_replicate(), ONLY_REPLICATE)?;
        Ok(Task::Verify { agent: self.agent()?, volumes })
    }

    fn replicate(&self, volumes: Vec<VolumeName>) -> Result<Task> {
        let group = self.flag(|raw| raw.group).unwrap_or(false);
        if group && volumes.len() > usize::from(MEMBERS_MAX) {
            let count = volumes.len();
            return Err(wrong("replicate", format!("{count} volumes are too many for a group: at most {MEMBERS_MAX}")));
        }
        Ok(Task::Replicate(Box::new(Replicate {
            agent: self.agent()?,
            volumes,
            group,
            bracket: self.get("bracket", |raw| raw.bracket.as_deref(), named)?,
            full: self.full()?,
            bandwidth: self.bandwidth()?,
        })))
    }

    fn only_replicate(&self) -> [(&'static str, bool); 7] {
        let own = self.own;
        [
            ("group", own.group.is_some()),
            ("bracket", own.bracket.is_some()),
            ("full-every", own.full_every.is_some()),
            ("full-schedule", own.full_schedule.is_some()),
            ("bandwidth", own.bandwidth.is_some()),
            ("bandwidth-windows", own.bandwidth_windows.is_some()),
            ("rpo", own.rpo.is_some()),
        ]
    }

    fn agent(&self) -> Result<ClientName> {
        let agent = self.get("agent", |raw| raw.agent.as_deref(), named)?;
        agent.ok_or_else(|| Wrong {
            key: None,
            in_template: false,
            reason: "missing key \"agent\": the name of the agent that has the volumes".to_owned(),
        })
    }

    fn full(&self) -> Result<Full> {
        let every = |number: &u32| match number {
            1.. => Ok(*number),
            0 => Err("0 is no number of runs: expected 1 or more; leave it out for no fulls by number".to_owned()),
        };
        Ok(Full {
            every: self.get("full-every", |raw| raw.full_every.as_ref(), every)?,
            schedule: self.get(
                "full-schedule",
                |raw| raw.full_schedule.as_deref(),
                |text| schedule(text, self.zone),
            )?,
        })
    }

    fn bandwidth(&self) -> Result<Bandwidth> {
        let zone = self.zone;
        let window = |raw: &raw::BandwidthWindow| Ok((window(&raw.when, zone)?, rate(&raw.limit)?));
        let windows = |list: &'a Vec<raw::BandwidthWindow>| list.iter().map(window).collect();
        Ok(Bandwidth {
            usual: self.get("bandwidth", |raw| raw.bandwidth.as_deref(), rate)?.unwrap_or(0),
            windows: self.get("bandwidth-windows", |raw| raw.bandwidth_windows.as_ref(), windows)?.unwrap_or_default(),
        })
    }
}

const ONLY_REPLICATE: &str = "is for jobs that replicate";

fn named<T: FromStr<Err = FormatError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: FormatError| error.to_string())
}

fn check_name(name: &str) -> Result<(), String> {
    let usual = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match name.chars().all(usual) && (1..=JOB_NAME_MAX).contains(&name.len()) {
        true => Ok(()),
        false => {
            Err(format!("{name:?} is no name of a job: expected 1 to {JOB_NAME_MAX} letters, digits, '.', '_' and '-'"))
        }
    }
}

fn schedule(text: &str, zone: &TimeZone) -> Result<Schedule, String> {
    match text.len() > SCHEDULE_MAX {
        true => Err(format!("a schedule has at most {SCHEDULE_MAX} bytes")),
        false => Schedule::parse(text, zone).map_err(|error| error.to_string()),
    }
}

fn window(text: &str, zone: &TimeZone) -> Result<Window, String> {
    Window::parse(text, zone).map_err(|error| error.to_string())
}

fn windows(texts: &[String], zone: &TimeZone) -> Result<Windows, String> {
    texts.iter().map(|text| window(text, zone)).collect::<Result<_, _>>().map(Windows)
}

fn delay(text: &str) -> Result<SignedDuration, String> {
    let length: Option<SignedDuration> = text.parse().ok();
    length.filter(|length| (SignedDuration::ZERO..=DELAY_MAX).contains(length)).ok_or_else(|| {
        format!(
            "{text:?} is no delay: expected a length such as 30m or 1h30m (units: h, m, s), at most {} h",
            DELAY_MAX.as_hours()
        )
    })
}

/// A length of time that is not nothing.
pub(in crate::config) fn length(text: &str) -> Result<SignedDuration, String> {
    let max = Duration::try_from(DELAY_MAX).unwrap_or(Duration::MAX);
    let length = meaning::duration(text, Duration::from_secs(1), max)?;
    length.try_into().map_err(|_| format!("{text:?} is too long"))
}

fn retry(raw: &raw::Retry) -> Result<Retry, String> {
    let delay = raw.delay.as_deref().map_or(Ok(RETRY.delay), length)?;
    match u16::try_from(raw.count) {
        Ok(count) if raw.count <= RETRIES_MAX => Ok(Retry { count, delay }),
        _ => Err(format!("count: {} is too many: expected 0 to {RETRIES_MAX}", raw.count)),
    }
}

fn rate(text: &str) -> Result<u64, String> {
    match parse_bytes(text)? {
        0 => Err("0 is no limit: leave it out for none".to_owned()),
        rate => Ok(rate),
    }
}

fn volumes(texts: &[String]) -> Result<Vec<VolumeName>, String> {
    let volumes: Vec<VolumeName> = texts.iter().map(|text| named(text)).collect::<Result<_, _>>()?;
    let different: BTreeSet<&VolumeName> = volumes.iter().collect();
    match volumes.len() {
        0 => Err("expected at least one volume".to_owned()),
        count if count > RUN_VOLUMES_MAX as usize => Err(format!("a job has at most {RUN_VOLUMES_MAX} volumes")),
        count if count > different.len() => Err("a volume is there twice".to_owned()),
        _ => Ok(volumes),
    }
}

/// Reads a command as the command line does; the pool is the daemon's.
fn command(text: &str) -> Result<Upkeep, String> {
    let expected = "expected prune, collect or scrub with their options, as in `scrub --older-than 7d`";
    let mut words = text.split_whitespace();
    let verb = words.next().filter(|verb| ["prune", "collect", "scrub"].contains(verb));
    let verb = verb.ok_or_else(|| format!("{text:?} is nothing that a job runs: {expected}"))?;
    let line = ["understudyd", verb, "--pool", "."].into_iter().chain(words);
    match Cli::try_parse_from(line).map(|cli| cli.command) {
        Ok(Command::Upkeep(command)) => Ok(command),
        Ok(_) => Err(expected.to_owned()),
        Err(error) => Err(format!("{text:?} is no command: {}", in_one_line(&error))),
    }
}

/// What clap says, without the usage of a command that nobody typed.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.split("\n\nUsage").next().unwrap_or_default().trim_start_matches("error: ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
