//! What somebody asks of overlays, over a session or the API: as far as it may.
//!
//! Invariant: an overlay over a volume that the peer does not see is not there.

use super::{Kept, Overlays};
use crate::access::{Access, Peer, Right};
use crate::clock;
use crate::error::Result;
use crate::journals::Journals;
use crate::secondary::Secondaries;
use understudy_format::point::{Label, Point, Volume, VolumeName};
use understudy_format::wire::OverlayInfo;
use uuid::Uuid;

/// See the module documentation.
#[derive(Debug)]
pub struct Asked<'a> {
    /// All overlays.
    pub overlays: &'a Overlays,
    /// Where what is kept is applied.
    pub secondaries: &'a Secondaries,
    /// Which side of a volume is written to.
    pub journals: &'a Journals,
    /// Who may do what.
    pub access: &'a Access,
    /// Who asks.
    pub peer: &'a Peer,
}

impl Asked<'_> {
    /// Those that the peer sees.
    pub fn list(&self) -> Vec<OverlayInfo> {
        let all = self.overlays.list().into_iter();
        all.filter(|overlay| self.access.sees(self.peer, &overlay.name)).collect()
    }

    /// Removes one for good, and tells what it was.
    pub fn discard(&self, volume: &Uuid, point: u64, force: bool) -> Result<OverlayInfo> {
        let name = self.may_use(volume, point)?;
        self.access.may_destroy(self.peer)?;
        self.journals.check_discardable(&name, point)?;
        let what = format!("the scratch overlay over point {point} of volume {volume}");
        self.access.audit.record("discard", self.peer, &what)?;
        self.overlays.discard(volume, point, force)
    }

    /// Makes a new volume out of one.
    pub fn keep(&self, volume: &Uuid, point: u64, name: VolumeName, label: Option<Label>) -> Result<(Volume, Point)> {
        self.may_use(volume, point)?;
        self.access.claim(self.peer, &name)?;
        let (uuid, stream) = (clock::random_uuid(), clock::random_uuid());
        let kept = Kept { name, label, uuid, stream, now_ns: clock::now_ns() };
        let (volume, point) = self.overlays.keep(volume, point, kept)?;
        self.secondaries.follow(&volume);
        Ok((volume, self.access.shown(self.peer, point)))
    }

    /// Fails unless the peer may write to the overlay over a point; tells of which volume.
    fn may_use(&self, volume: &Uuid, point: u64) -> Result<VolumeName> {
        let mut seen = self.list().into_iter();
        let overlay = seen.find(|overlay| (overlay.status.volume, overlay.status.point) == (*volume, point));
        let overlay = overlay.ok_or_else(|| Overlays::unknown(point))?;
        self.access.may(self.peer, Right::Restore, Some(&overlay.name))?;
        Ok(overlay.name)
    }
}
