//! What is set for volumes when they come to be: asked anew each time, so that it can change while the pool is open.

use std::sync::Arc;
use understudy_format::catalogue::Settings;
use understudy_format::point::VolumeName;

/// What is set for volumes that come to be, by their names.
#[derive(Clone)]
pub struct NewVolumes(Arc<dyn Fn(&VolumeName) -> Settings + Send + Sync>);

impl NewVolumes {
    /// Asks each time.
    pub fn by(settings: impl Fn(&VolumeName) -> Settings + Send + Sync + 'static) -> Self {
        Self(Arc::new(settings))
    }

    pub(super) fn settings(&self, name: &VolumeName) -> Settings {
        (self.0)(name)
    }
}

impl From<Settings> for NewVolumes {
    fn from(settings: Settings) -> Self {
        Self::by(move |_| settings.clone())
    }
}

impl std::fmt::Debug for NewVolumes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewVolumes")
    }
}
