//! The agent's log: lines on standard error; how much of it can change while the agent runs.
//!
//! `UNDERSTUDY_LOG`, a filter as tracing-subscriber reads it, comes before what the configuration says.

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// Unless something else is said.
const LEVEL: &str = "info";

/// The log of this process.
#[derive(Debug)]
pub struct Logs(reload::Handle<EnvFilter, Registry>);

/// Starts the log; once a process.
pub fn init(level: Option<&str>) -> Logs {
    let (filter, handle) = reload::Layer::new(filter(level));
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(false);
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
    let said = format!("warn,understudy={0},understudy_initiator={0}", level.unwrap_or(LEVEL));
    EnvFilter::try_from_env("UNDERSTUDY_LOG").unwrap_or_else(|_| EnvFilter::new(said))
}
