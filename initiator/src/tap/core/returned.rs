//! How the volume becomes a point that no tap made: what was written at the appliance while that was what was written to.
//!
//! Invariants: a block is durably dirty before it is written to past the tap; that the volume is the point is in the state before
//! the blocks are clean again, and both only after the volume is durable.

use super::*;
use std::ops::Range;

impl Core {
    /// Gives the journal up, and tells what may differ from a point at this position, in which all entries of its journal up to number
    /// `durable` are; and why that is everything, when it is.
    pub fn differing_from(&self, point: Option<Position>, durable: u64) -> io::Result<(DirtySnapshot, Option<Reason>)> {
        self.fall(Reason::FailedOver);
        let base = lock(&self.turning).base;
        let is_known = base
            .zip(point)
            .is_some_and(|(base, point)| base.journal == point.journal && base.sequence <= durable.max(point.sequence));
        if let (Some(base), false) = (base, is_known) {
            let text = format!("it does not come from journal {} up to entry {}", base.journal, base.sequence);
            self.fall(Reason::OtherPoint(text));
        }
        self.check_kept()?;
        self.dirty.begin();
        self.dirty.store()?;
        let reason = self.read().reason.clone().filter(|_| !is_known);
        Ok((self.snapshot(Uuid::nil()), reason))
    }

    /// Bytes are going to be written to past the tap: that they may differ is durable when this returns.
    pub fn will_write(&self, bytes: impl Iterator<Item = Range<u64>>) -> io::Result<()> {
        bytes.for_each(|range| self.dirty.insert(range));
        self.dirty.store()
    }

    /// The volume is the point at this position; the tap is closed, and goes on from there.
    pub fn became(&self, volume: Uuid, generation: u64, position: Position) -> io::Result<()> {
        self.check_kept()?;
        self.parts.volume.sync()?;
        {
            let mut state = lock(&self.turning);
            let (base, journal, reason) = (Some(position), Uuid::nil(), Reason::FailedOver.to_string());
            let became = TapState { volume, generation, base, journal, reason, ..state.clone() };
            state::store(self.directory(), &became)?;
            *state = became;
        }
        self.dirty.clear();
        self.dirty.store()?;
        self.close()
    }

    fn check_kept(&self) -> io::Result<()> {
        let failed = || io::Error::other("the state directory failed");
        if self.read().is_kept { Ok(()) } else { Err(failed()) }
    }
}
