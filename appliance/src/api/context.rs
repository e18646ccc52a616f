//! What a request has to do with: the daemon, who asks, and what is under way for the connection.

use super::problem::Problem;
use crate::access::{ClientName, Peer, Right};
use crate::daemon::Daemon;
use crate::error::{Error, Result};
use crate::overlay::asked::Asked;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use understudy_format::point::VolumeName;
use understudy_format::select::PointName;

/// See the module documentation.
#[derive(Debug, Clone)]
pub(super) struct Context {
    /// The daemon.
    pub(super) daemon: Arc<Daemon>,
    /// Who asks.
    pub(super) peer: Peer,
    /// What is under way.
    pub(super) works: Works,
}

impl Context {
    /// Has an answer made on a thread that may wait for disks.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Self) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let context = self.clone();
        let asked = tokio::task::spawn_blocking(move || act(&context)).await;
        let lost = |_| Err(Error::refused("internal error: making the answer panicked; the log says where").into());
        asked.unwrap_or_else(lost)
    }

    /// Fails unless whoever asks has this right to a volume; without one, to the pool as a whole.
    pub(super) fn may(&self, right: Right, volume: Option<&VolumeName>) -> Result<()> {
        self.daemon.access.may(&self.peer, right, volume)
    }

    /// Whether whoever asks has this right to the pool as a whole; nothing is refused by that.
    pub(super) fn has_all(&self, right: Right) -> bool {
        self.daemon.access.allows(&self.peer, right, None)
    }

    /// Whether whoever asks is this agent.
    pub(super) fn is_agent(&self, agent: Option<&ClientName>) -> bool {
        matches!(&self.peer, Peer::Client(name) if Some(name) == agent)
    }

    /// Whether whoever asks may know that there is this volume.
    pub(super) fn sees(&self, volume: &VolumeName) -> bool {
        self.daemon.access.sees(&self.peer, volume)
    }

    /// The overlays, as far as whoever asks may use them.
    pub(super) fn overlays(&self) -> Asked<'_> {
        let Daemon { overlays, secondaries, journals, access, .. } = &*self.daemon;
        Asked { overlays, secondaries, journals, access, peer: &self.peer }
    }

    /// A point as people name it.
    pub(super) fn point_name(&self, volume: &str, point: &str) -> Result<PointName> {
        Ok(PointName::parse(&format!("{volume}@{point}"), &self.daemon.zone)?)
    }
}

/// What a connection has asked for and is under way: told to stop, and waited for.
#[derive(Debug, Clone)]
pub(super) struct Works {
    closing: Arc<watch::Sender<bool>>,
    /// Held by whatever is under way.
    _alive: mpsc::Sender<()>,
}

/// Waits for the end of all [`Works`].
#[derive(Debug)]
pub(super) struct UnderWay(mpsc::Receiver<()>);

impl Works {
    pub(super) fn new() -> (Self, UnderWay) {
        let (alive, under_way) = mpsc::channel(1);
        (Self { closing: Arc::new(watch::channel(false).0), _alive: alive }, UnderWay(under_way))
    }

    /// Tells everything to stop.
    pub(super) fn stop(&self) {
        self.closing.send_replace(true);
    }

    /// Returns when everything is to stop.
    pub(super) async fn stopping(&self) {
        let mut closing = self.closing.subscribe();
        // The sender is held here.
        let _ = closing.wait_for(|closing| *closing).await;
    }
}

impl UnderWay {
    /// Returns when nothing holds [`Works`] any more.
    pub(super) async fn ended(&mut self) {
        // Nothing is ever sent.
        let _ = self.0.recv().await;
    }
}
