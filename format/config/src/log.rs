//! The log of a program that stays: lines on standard error, for people, as JSON or as logfmt; how much of it can change while it runs.
//!
//! `UNDERSTUDY_LOG`, a filter as tracing-subscriber reads it, comes before what the configuration says.

use std::io::IsTerminal;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

/// Unless something else is said.
const LEVEL: &str = "info";

/// How lines of the log are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
    /// Keys and values: `level=info message="..."`.
    Logfmt,
}

/// The log of this process.
#[derive(Debug)]
pub struct Logs(reload::Handle<EnvFilter, Registry>);

/// Starts the log; once a process.
pub fn init(format: LogFormat, level: Option<&str>) -> Logs {
    let (filter, handle) = reload::Layer::new(filter(level));
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = match format {
        LogFormat::Human => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().boxed(),
        LogFormat::Logfmt => tracing_logfmt::builder().with_target(false).layer().with_writer(std::io::stderr).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
    Logs(handle)
}

impl Logs {
    /// Logs this much from now on.
    pub fn set_level(&self, level: Option<&str>) {
        // It fails only when the log is gone, and with it whom to tell.
        let _ = self.0.reload(filter(level));
    }
}

fn filter(level: Option<&str>) -> EnvFilter {
    // All crates whose names begin so.
    let said = format!("warn,understudy={}", level.unwrap_or(LEVEL));
    EnvFilter::try_from_env("UNDERSTUDY_LOG").unwrap_or_else(|_| EnvFilter::new(said))
}
