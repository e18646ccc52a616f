//! What an administrator wrote: the configuration file and the files that it includes, read, checked and merged.
//!
//! The way of a file: YAML -> [`raw`] keys (unknown and repeated ones are errors) -> one configuration of all files ([`read`]),
//! where nothing may be said twice -> values with their meaning. Whatever is wrong is told with file, line, column, key and
//! what is accepted.
//!
//! Invariants: what is accepted has an effect; reading changes nothing and asks for no time; a [`Config`] is right as a whole, so who
//! holds one need not check it. Flags of the command line come before what a file says ([`Fixed`]).

mod fixed;
mod job;
mod notify;
mod raw;
mod read;
#[cfg(test)]
mod tests;
mod volumes;

pub use fixed::Fixed;
pub use job::{Bandwidth, Full, Job, Replicate, Retry, Task};
pub use notify::{Event, Notify};
pub use read::{read, read_in};
use std::path::PathBuf;
use std::sync::Arc;
pub use understudy_config::ConfigError;
pub use volumes::{Volumes, Wanted};

/// Where the file is when none is named.
pub const FILE: &str = "/etc/understudy/appliance.yaml";

/// A configuration that is right.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The files, in the order in which they were read.
    pub files: Vec<PathBuf>,
    /// What needs a restart to change.
    pub fixed: fixed::Given,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub log_level: Option<String>,
    /// What is wanted of volumes.
    pub volumes: Volumes,
    /// The jobs by name.
    pub jobs: Vec<Arc<Job>>,
    /// How many of them run at the same time.
    pub job_limits: JobLimits,
    /// Who is told when they fail or fall behind.
    pub notify: Notify,
    /// What is probably not meant.
    pub warnings: Vec<ConfigError>,
}

/// How many jobs run at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobLimits {
    /// In all.
    pub jobs: usize,
    /// Of one agent.
    pub per_agent: usize,
}

impl Default for JobLimits {
    fn default() -> Self {
        Self { jobs: 8, per_agent: 2 }
    }
}

impl From<ConfigError> for crate::error::Error {
    fn from(error: ConfigError) -> Self {
        Self::Refused(error.to_string())
    }
}
