//! What is wanted of volumes: templates, and what a volume has otherwise.
//!
//! A volume that names no template has the one called `default`, if there is one; so has a volume that is not named at all. What a
//! volume says itself comes before what its template says, key by key. What nobody says is left to `understudyd set`.

use crate::journals::window;
use crate::retention::policy::Policy;
use std::collections::BTreeMap;
use understudy_format::catalogue::{SecondaryMode, Settings};
use understudy_format::point::VolumeName;

/// What is wanted of one volume; `None` is left as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// How the newest point is kept as raw bytes.
    pub secondary: Option<SecondaryMode>,
    /// Which points are kept.
    pub retention: Option<Policy>,
    /// How long its journal is kept, and how often it is folded.
    pub journal: window::Wanted,
}

impl Wanted {
    /// This, and of the other what this does not say.
    pub(super) fn over(self, other: &Self) -> Self {
        Self {
            secondary: self.secondary.or_else(|| other.secondary.clone()),
            retention: self.retention.or(other.retention),
            journal: self.journal.over(&other.journal),
        }
    }

    /// What is set for a volume that comes to be. A device is claimed later, when it can be looked at.
    pub fn new_settings(&self, secondary: SecondaryMode) -> Settings {
        let secondary = match &self.secondary {
            Some(SecondaryMode::Device(_)) => SecondaryMode::None,
            Some(mode) => mode.clone(),
            None => secondary,
        };
        let mut settings = Settings { secondary, ..Settings::default() };
        if let Some(policy) = &self.retention {
            policy.store(&mut settings);
        }
        self.journal.store(&mut settings);
        settings
    }
}

/// What is wanted of each volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volumes {
    /// Of those that are not named.
    pub(super) others: Wanted,
    pub(super) named: BTreeMap<VolumeName, Wanted>,
}

impl Volumes {
    /// What is wanted of this one.
    pub fn of(&self, name: &VolumeName) -> &Wanted {
        self.named.get(name).unwrap_or(&self.others)
    }
}
