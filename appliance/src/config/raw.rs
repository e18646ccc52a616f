//! The keys of a file, as YAML has them: names and types, no meaning yet.

use serde::Deserialize;
use understudy_config::{Keys, Named};

/// One file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct Raw {
    pub(super) version: Option<u32>,
    pub(super) include: Vec<String>,
    pub(super) pool: Option<String>,
    pub(super) listen: Option<String>,
    pub(super) nbd: Option<String>,
    pub(super) nbd_socket: Option<String>,
    pub(super) nbd_tls: Option<String>,
    pub(super) nbd_tls_certificates: Option<String>,
    pub(super) time_zone: Option<String>,
    pub(super) log: Log,
    pub(super) limits: Limits,
    pub(super) templates: Named<Template>,
    pub(super) volumes: Named<Volume>,
    pub(super) jobs: Named<Job>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub(super) level: Option<String>,
    pub(super) format: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct Limits {
    pub(super) sessions: Option<u32>,
    pub(super) nbd_connections: Option<u32>,
    pub(super) nbd_connections_per_export: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Template {
    pub(super) secondary: Option<String>,
    pub(super) retention: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Volume {
    pub(super) template: Option<String>,
    pub(super) secondary: Option<String>,
    pub(super) retention: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Job {
    pub(super) run: String,
    pub(super) schedule: String,
    pub(super) random_delay: Option<String>,
    pub(super) catch_up: Option<bool>,
}

impl Keys for Raw {
    const SUCH_AS: &str = "version and pool";

    fn version(&self) -> Option<u32> {
        self.version
    }

    fn include(&self) -> &[String] {
        &self.include
    }
}
