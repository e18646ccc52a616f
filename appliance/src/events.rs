//! What happens in the daemon, for whoever listens.
//!
//! Invariant: telling never waits: a listener that is too slow misses the oldest, and is told how many.

use crate::upkeep::Told;
use std::sync::Arc;
use tokio::sync::broadcast::{self, Receiver, Sender};

/// Happenings that are kept for listeners.
const KEPT: usize = 1024;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Happening {
    /// The command, or `job NAME`.
    pub about: String,
    /// What.
    pub told: Told,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Events(Sender<Arc<Happening>>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::channel(KEPT).0)
    }
}

impl Events {
    /// Tells those who listen.
    pub fn tell(&self, about: &str, told: &Told) {
        if self.0.receiver_count() > 0 {
            // Whoever left meanwhile does not hear it.
            let _ = self.0.send(Arc::new(Happening { about: about.to_owned(), told: told.clone() }));
        }
    }

    /// Everything from now on.
    pub fn listen(&self) -> Receiver<Arc<Happening>> {
        self.0.subscribe()
    }
}
