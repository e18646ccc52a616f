//! What texts and numbers mean that stand for the same in every configuration. Each says what was expected.

use crate::log::LogFormat;
use std::path::PathBuf;
use std::time::Duration;

/// A meaning, or what is wrong.
pub type Result<T> = std::result::Result<T, String>;

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// An absolute path.
pub fn path(text: &str) -> Result<PathBuf> {
    match text.starts_with('/') {
        true => Ok(PathBuf::from(text)),
        false => Err(format!("{text:?} is no absolute path: expected one that starts with /")),
    }
}

/// `HOST:PORT`.
pub fn address(text: &str) -> Result<String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(_)) => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is no address: expected HOST:PORT, such as 127.0.0.1:7410")),
    }
}

/// How many of something there may be.
pub fn limit(number: &u32) -> Result<u32> {
    match number {
        1..=65_536 => Ok(*number),
        _ => Err(format!("{number} is no limit: expected 1 to 65536")),
    }
}

/// One of the words that are known.
pub fn one_of<'a>(text: &str, known: &[&'a str]) -> Result<&'a str> {
    let found = known.iter().copied().find(|known| *known == text);
    found.ok_or_else(|| format!("{text:?} is not known: expected one of {}", known.join(", ")))
}

/// How much is logged.
pub fn level(text: &str) -> Result<String> {
    one_of(text, &LEVELS).map(str::to_owned)
}

/// How a log is written.
pub fn log_format(text: &str) -> Result<LogFormat> {
    one_of(text, &["human", "json", "logfmt"]).map(|text| match text {
        "json" => LogFormat::Json,
        "logfmt" => LogFormat::Logfmt,
        _ => LogFormat::Human,
    })
}

/// A length of time, from `min` to `max`.
pub fn duration(text: &str, min: Duration, max: Duration) -> Result<Duration> {
    let found = text.parse::<jiff::SignedDuration>().ok().and_then(|found| Duration::try_from(found).ok());
    let found = found.ok_or_else(|| format!("{text:?} is no length of time: expected one such as 30s, 5m or 1h30m"))?;
    match (min..=max).contains(&found) {
        true => Ok(found),
        false => Err(format!("{text:?} is out of range: expected {min:?} to {max:?}")),
    }
}
