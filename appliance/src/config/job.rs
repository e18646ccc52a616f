//! A job: a command of `understudyd` and when it is run.

use super::raw;
use crate::args::{Cli, Command, Upkeep};
use crate::schedule::Schedule;
use clap::Parser;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use understudy_format::history::{JOB_NAME_MAX, SCHEDULE_MAX};

/// The longest random delay.
const DELAY_MAX: SignedDuration = SignedDuration::from_hours(24 * 31);

/// See the module documentation.
#[derive(Debug)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// The command as it was written.
    pub run: String,
    /// The same, understood.
    pub command: Upkeep,
    /// When.
    pub schedule: Schedule,
    /// How much later than its time it may start.
    pub delay_max: SignedDuration,
    /// Whether what was missed while no daemon ran is made up for.
    pub catch_up: bool,
}

/// The key that is wrong, and why.
type Wrong = (Option<&'static str>, String);

impl Job {
    pub(super) fn of(name: &str, raw: &raw::Job, zone: &TimeZone) -> Result<Self, Wrong> {
        check_name(name).map_err(|reason| (None, reason))?;
        let at = |key| move |reason| (Some(key), reason);
        Ok(Self {
            name: name.to_owned(),
            run: raw.run.clone(),
            command: command(&raw.run).map_err(at("run"))?,
            schedule: schedule(&raw.schedule, zone).map_err(at("schedule"))?,
            delay_max: raw
                .random_delay
                .as_deref()
                .map_or(Ok(SignedDuration::ZERO), delay)
                .map_err(at("random-delay"))?,
            catch_up: raw.catch_up.unwrap_or(true),
        })
    }
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

fn delay(text: &str) -> Result<SignedDuration, String> {
    let length: Option<SignedDuration> = text.parse().ok();
    length.filter(|length| (SignedDuration::ZERO..=DELAY_MAX).contains(length)).ok_or_else(|| {
        format!(
            "{text:?} is no delay: expected a length such as 30m or 1h30m (units: h, m, s), at most {} h",
            DELAY_MAX.as_hours()
        )
    })
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
