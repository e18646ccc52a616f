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
    pub(super) tls: Option<String>,
    pub(super) tls_names: Option<Vec<String>>,
    pub(super) append_only: Option<bool>,
    pub(super) nbd_socket: Option<String>,
    pub(super) nbd_tls: Option<String>,
    pub(super) nbd_tls_certificates: Option<String>,
    pub(super) time_zone: Option<String>,
    pub(super) log: Log,
    pub(super) limits: Limits,
    pub(super) templates: Named<Template>,
    pub(super) volumes: Named<Volume>,
    pub(super) job_templates: Named<Job>,
    pub(super) jobs: Named<Job>,
    pub(super) notify: Notify,
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
    pub(super) jobs: Option<u32>,
    pub(super) jobs_per_agent: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Template {
    pub(super) secondary: Option<String>,
    pub(super) retention: Option<String>,
    pub(super) keep_journal: Option<String>,
    pub(super) fold_every: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Volume {
    pub(super) template: Option<String>,
    pub(super) secondary: Option<String>,
    pub(super) retention: Option<String>,
    pub(super) keep_journal: Option<String>,
    pub(super) fold_every: Option<String>,
}

/// What a template or a volume says of what is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept<'r> {
    pub(super) secondary: Option<&'r str>,
    pub(super) retention: Option<&'r str>,
    pub(super) keep_journal: Option<&'r str>,
    pub(super) fold_every: Option<&'r str>,
}

impl<'r> From<&'r Template> for Kept<'r> {
    fn from(raw: &'r Template) -> Self {
        let Template { secondary, retention, keep_journal, fold_every } = raw;
        Self {
            secondary: secondary.as_deref(),
            retention: retention.as_deref(),
            keep_journal: keep_journal.as_deref(),
            fold_every: fold_every.as_deref(),
        }
    }
}

impl<'r> From<&'r Volume> for Kept<'r> {
    fn from(raw: &'r Volume) -> Self {
        let Volume { template: _, secondary, retention, keep_journal, fold_every } = raw;
        Self {
            secondary: secondary.as_deref(),
            retention: retention.as_deref(),
            keep_journal: keep_journal.as_deref(),
            fold_every: fold_every.as_deref(),
        }
    }
}

/// A job, or what jobs have in common.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct Job {
    pub(super) template: Option<String>,
    pub(super) run: Option<String>,
    pub(super) replicate: Option<Vec<String>>,
    pub(super) verify: Option<Vec<String>>,
    pub(super) agent: Option<String>,
    pub(super) group: Option<bool>,
    pub(super) bracket: Option<String>,
    pub(super) schedule: Option<String>,
    pub(super) random_delay: Option<String>,
    pub(super) catch_up: Option<bool>,
    pub(super) windows: Option<Vec<String>>,
    pub(super) full_every: Option<u32>,
    pub(super) full_schedule: Option<String>,
    pub(super) bandwidth: Option<String>,
    pub(super) bandwidth_windows: Option<Vec<BandwidthWindow>>,
    pub(super) retry: Option<Retry>,
    pub(super) rpo: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BandwidthWindow {
    pub(super) when: String,
    pub(super) limit: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retry {
    pub(super) count: u32,
    pub(super) delay: Option<String>,
}

/// Who is told of what.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct Notify {
    pub(super) on: Option<Vec<String>>,
    pub(super) command: Option<Vec<String>>,
    pub(super) webhook: Option<String>,
    pub(super) webhook_token_file: Option<String>,
    pub(super) webhook_ca_file: Option<String>,
    pub(super) timeout: Option<String>,
    pub(super) retries: Option<u32>,
    pub(super) repeat: Option<String>,
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
