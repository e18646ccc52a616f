//! What is done with an overlay as a whole: it is kept, or discarded.
//!
//! Both take their time, and the registry is not locked meanwhile. Invariants: as long as an [`Alone`] is there, its overlay is not
//! opened, kept or discarded by anybody else, who are told so and do not wait: those who serve exports are few, and a
//! client that waits for one overlay would keep all others from theirs.

use super::{Entry, Key, Overlay, Overlays, SUFFIX};
use crate::error::{Error, Result};
use crate::locks::lock;
use std::sync::Arc;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Alone<'a> {
    overlays: &'a Overlays,
    key: Key,
    /// None when it cannot be opened.
    overlay: Option<Arc<Overlay>>,
    is_gone: bool,
}

impl Alone<'_> {
    /// The overlay, unless it cannot be opened.
    pub fn overlay(&self) -> Option<&Arc<Overlay>> {
        self.overlay.as_ref()
    }

    /// It is there no more.
    pub fn gone(mut self) {
        self.is_gone = true;
    }
}

impl Overlays {
    /// Has an overlay alone that nobody else has ([`Entry::check_alone`]), to be `busy`: "kept" or "discarded".
    pub(super) fn alone(&self, key: &Key, entry: &mut Entry, busy: &'static str) -> Alone<'_> {
        entry.busy = Some(busy);
        Alone { overlays: self, key: key.clone(), overlay: entry.overlay.as_ref().ok().cloned(), is_gone: false }
    }
}

impl Entry {
    /// Fails as long as somebody has the overlay alone.
    pub(super) fn check_alone(&self, (name, number): &Key) -> Result<()> {
        self.busy.map_or(Ok(()), |busy| {
            Err(Error::Busy(format!(
                "the scratch overlay {name}@{number}{SUFFIX} is being {busy}; try again after that"
            )))
        })
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let mut all = lock(&self.overlays.all);
        self.overlay = None;
        match self.is_gone {
            true => drop(all.remove(&self.key)),
            false => all.get_mut(&self.key).expect("only who has it alone removes it").busy = None,
        }
    }
}
