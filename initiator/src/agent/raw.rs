//! The keys of agent.yaml, as YAML has them: names and types, no meaning yet.

use serde::Deserialize;
use understudy_config::{Keys, Named};

/// One file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct Raw {
    pub(super) version: Option<u32>,
    pub(super) include: Vec<String>,
    pub(super) appliance: Option<String>,
    pub(super) identity: Option<String>,
    pub(super) name: Option<String>,
    pub(super) state_dir: Option<String>,
    pub(super) keep_alive: Option<String>,
    pub(super) reconnect: Option<String>,
    pub(super) limits: Limits,
    pub(super) log: Log,
    pub(super) volumes: Named<Volume>,
    pub(super) targets: Named<Target>,
    pub(super) brackets: Named<Bracket>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) runs: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub(super) level: Option<String>,
    pub(super) format: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Volume {
    pub(super) source: String,
    pub(super) bitmap: Option<String>,
    pub(super) block_size: Option<String>,
    pub(super) size: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    pub(super) path: String,
    pub(super) overwrite: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct Bracket {
    pub(super) pre: Option<Vec<String>>,
    pub(super) post: Option<Vec<String>>,
    pub(super) pre_timeout: Option<String>,
    pub(super) post_timeout: Option<String>,
}

impl Keys for Raw {
    const SUCH_AS: &str = "version and volumes";

    fn version(&self) -> Option<u32> {
        self.version
    }

    fn include(&self) -> &[String] {
        &self.include
    }
}
