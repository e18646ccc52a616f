//! The keys of a file, as YAML has them: names and types, no meaning yet.

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

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

/// Things by names that an administrator chose, in the order of the file; none twice.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) Vec<(String, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamedVisitor(PhantomData))
    }
}

struct NamedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for NamedVisitor<T> {
    type Value = Named<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("names with their settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
        let mut found = Vec::new();
        while let Some(name) = map.next_key_seed(NewName(&found))? {
            let value = map.next_value()?;
            found.push((name, value));
        }
        Ok(Named(found))
    }
}

/// A name that is not there yet.
struct NewName<'a, T>(&'a [(String, T)]);

impl<'de, T> DeserializeSeed<'de> for NewName<'_, T> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T> Visitor<'_> for NewName<'_, T> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<String, E> {
        match self.0.iter().any(|(there, _)| there == name) {
            true => Err(E::custom(format!("{name:?} is there twice"))),
            false => Ok(name.to_owned()),
        }
    }
}
