//! Who is told when jobs fail, do well again, or fall behind.

use super::job::length;
use super::raw::{self, Raw};
use jiff::SignedDuration;
use std::path::PathBuf;
use std::time::Duration;
use understudy_config::meaning::path;
use understudy_config::{ConfigError, Files};

const TIMEOUT: Duration = Duration::from_secs(10);
const REPEAT: SignedDuration = SignedDuration::from_hours(24);
const RETRIES: u32 = 3;
const RETRIES_MAX: u32 = 20;

/// What somebody may want to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A job failed, and is not tried again before its next time.
    Failure,
    /// A job that failed did well.
    Recovery,
    /// The newest point of a volume is older than the job's RPO.
    Behind,
    /// It is not any more.
    CaughtUp,
}

impl Event {
    /// All of them by name.
    pub const ALL: [(&'static str, Self); 4] = [
        ("failure", Self::Failure),
        ("recovery", Self::Recovery),
        ("behind", Self::Behind),
        ("caught-up", Self::CaughtUp),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, event)| *event == self).map_or("", |(name, _)| name)
    }
}

/// How it is told.
#[derive(Debug, Clone)]
pub struct Notify {
    /// What.
    pub on: Vec<Event>,
    /// A program with its arguments; it gets JSON on its standard input.
    pub command: Vec<String>,
    /// Where JSON is posted to.
    pub webhook: Option<String>,
    /// A file with a token, sent as `Authorization: Bearer`.
    pub token_file: Option<PathBuf>,
    /// Certificates that vouch for the webhook, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// How long one try may take.
    pub timeout: Duration,
    /// How often it is tried again.
    pub retries: u32,
    /// The same is not told again within this time.
    pub repeat: SignedDuration,
}

impl Default for Notify {
    fn default() -> Self {
        Self {
            on: Event::ALL.map(|(_, event)| event).into(),
            command: Vec::new(),
            webhook: None,
            token_file: None,
            ca_file: None,
            timeout: TIMEOUT,
            retries: RETRIES,
            repeat: REPEAT,
        }
    }
}

pub(super) fn events(names: &[String]) -> Result<Vec<Event>, String> {
    let known = Event::ALL.map(|(name, _)| name).join(", ");
    let event = |name: &String| {
        let found = Event::ALL.into_iter().find(|(known, _)| known == name).map(|(_, event)| event);
        found.ok_or_else(|| format!("{name:?} is not known: expected some of {known}"))
    };
    names.iter().map(event).collect()
}

pub(super) fn command(words: &[String]) -> Result<Vec<String>, String> {
    match words.first().is_some_and(|program| program.starts_with('/')) {
        true => Ok(words.to_owned()),
        false => {
            Err("expected a list: a program by its absolute path, then its arguments; there is no shell".to_owned())
        }
    }
}

pub(super) fn webhook(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").or(text.strip_prefix("http://"));
    match host.is_some_and(|host| !host.is_empty() && !host.starts_with('/')) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is no address of a webhook: expected https://HOST/PATH or http://HOST/PATH")),
    }
}

pub(super) fn retries(number: &u32) -> Result<u32, String> {
    match number {
        0..=RETRIES_MAX => Ok(*number),
        _ => Err(format!("{number} is too many: expected 0 to {RETRIES_MAX}")),
    }
}

impl Notify {
    /// What the files say of it.
    pub(super) fn of(files: &Files<Raw>, warnings: &mut Vec<ConfigError>) -> Result<Self, ConfigError> {
        let usual = Self::default();
        let lengths = |key: &str, get: fn(&raw::Notify) -> Option<&String>| {
            files.parsed(&["notify", key], |raw| get(&raw.notify), |text| length(text))
        };
        let paths = |key: &str, get: fn(&raw::Notify) -> Option<&String>| {
            files.parsed(&["notify", key], |raw| get(&raw.notify), |text| path(text))
        };
        let on = files.parsed(&["notify", "on"], |raw| raw.notify.on.as_deref(), events)?;
        let words = files.parsed(&["notify", "command"], |raw| raw.notify.command.as_deref(), command)?;
        let notify = Self {
            on: on.unwrap_or(usual.on),
            command: words.unwrap_or_default(),
            webhook: files.parsed(&["notify", "webhook"], |raw| raw.notify.webhook.as_deref(), webhook)?,
            token_file: paths("webhook-token-file", |raw| raw.webhook_token_file.as_ref())?,
            ca_file: paths("webhook-ca-file", |raw| raw.webhook_ca_file.as_ref())?,
            timeout: lengths("timeout", |raw| raw.timeout.as_ref())?
                .and_then(|length| length.try_into().ok())
                .unwrap_or(usual.timeout),
            retries: files
                .parsed(&["notify", "retries"], |raw| raw.notify.retries.as_ref(), retries)?
                .unwrap_or(usual.retries),
            repeat: lengths("repeat", |raw| raw.repeat.as_ref())?.unwrap_or(usual.repeat),
        };
        files.parsed(&["notify", "on"], |raw| raw.notify.on.as_deref(), |names| notify.reaches(names))?;
        warnings.extend(notify.missing().into_iter().map(|reason| files.wrong(reason)));
        if notify.webhook.is_none() && (notify.token_file.is_some() || notify.ca_file.is_some()) {
            warnings.push(files.wrong("notify: the token and the CA are those of a webhook, and there is none"));
        }
        Ok(notify)
    }

    /// Whoever says what is to be told says how.
    fn reaches(&self, names: &[String]) -> Result<(), String> {
        match names.is_empty() || self.webhook.is_some() || !self.command.is_empty() {
            true => Ok(()),
            false => Err("nobody would be told: expected notify.command, notify.webhook or both as well".to_owned()),
        }
    }

    /// What it names that is not there.
    fn missing(&self) -> Vec<String> {
        let webhook = |file: &Option<PathBuf>| file.clone().filter(|_| self.webhook.is_some());
        let named = [
            ("command", self.command.first().map(PathBuf::from)),
            ("webhook-token-file", webhook(&self.token_file)),
            ("webhook-ca-file", webhook(&self.ca_file)),
        ];
        let missing = |(key, path): (&str, Option<PathBuf>)| {
            let path = path?;
            let error = std::fs::metadata(&path).err()?;
            Some(format!("notify.{key}: {}: {error}", path.display()))
        };
        named.into_iter().filter_map(missing).collect()
    }
}
