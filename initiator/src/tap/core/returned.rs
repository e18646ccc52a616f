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

#[cfg(test)]
mod tests {
    use super::super::tests::{JOURNAL, SIZE, following, parts};
    use super::*;
    use understudy_format::tap::EXTENT;

    const THERE: Position = Position { journal: Uuid::from_u128(77), sequence: 0 };

    /// What may differ from the appliance's point, as runs of bytes.
    fn runs(snapshot: &DirtySnapshot) -> Vec<(u64, u64)> {
        let (mut all, mut at) = (Vec::new(), 0);
        while at < SIZE {
            let (is_dirty, end) = snapshot.run_at(at);
            all.extend(is_dirty.then_some((at, end)));
            at = end;
        }
        all
    }

    #[test]
    fn what_did_not_arrive_differs_and_what_is_brought_is_dirty_until_the_volume_is_the_point() {
        let (volume, directory, core, mut appliance) = following();
        core.write(0, &[7; 100]).unwrap();
        appliance.check(&core, &volume);
        core.durable(appliance.durable);
        core.write(50_000, &[8; 10]).unwrap();
        core.close().unwrap();
        let open = |directory| Core::open(parts(&volume, directory)).unwrap();
        let core = open(&directory);
        let differing = |core: &Core| core.differing_from(appliance.position, appliance.durable).unwrap();
        assert_eq!((runs(&differing(&core).0), differing(&core).1), (vec![(49_152, 53_248)], None));
        core.will_write(std::iter::once(200_000..200_001)).unwrap();
        volume.write_at(&[9], 200_000).unwrap();
        drop(core);
        let directory = directory.cut();
        let core = open(&directory);
        assert_eq!(runs(&differing(&core).0), [(49_152, 53_248), (196_608, 200_704)], "it was cut in the middle");
        core.became(Uuid::from_u128(5), 3, THERE).unwrap();
        drop(core);
        let core = open(&directory.cut());
        let standing = core.standing();
        assert_eq!((standing.phase, standing.dirty_bytes, standing.generation), (Phase::Dirty, 0, 3));
        let seen = Seen { durable: 0, newest: 9, position: Some(THERE) };
        assert_eq!(core.decide(&seen).unwrap(), Decision::Begin(None), "and nothing has to be read");
        assert_eq!(core.differing_from(Some(THERE), 0).unwrap().0.bytes(), 0, "a failback that is run again");
    }

    #[test]
    fn a_point_that_nothing_is_known_of_may_differ_anywhere() {
        let other = Position { journal: Uuid::from_u128(6), sequence: 9 };
        for (position, durable) in [(None, 0), (Some(other), 9), (Some(Position { sequence: 0, journal: JOURNAL }), 0)]
        {
            let (_, _, core, _) = following();
            core.write(0, &[7; 100]).unwrap();
            core.durable(1);
            let (snapshot, reason) = core.differing_from(position, durable).unwrap();
            assert!(snapshot.is_everything() && reason.is_some(), "{position:?}");
        }
    }

    #[test]
    fn what_was_being_written_to_at_a_crash_differs() {
        let (volume, directory, core, appliance) = following();
        core.write(0, &[7; 100]).unwrap();
        let core = Core::open(parts(&volume, &directory.cut())).unwrap();
        let (snapshot, reason) = core.differing_from(appliance.position, appliance.durable).unwrap();
        assert_eq!((runs(&snapshot), reason), (vec![(0, EXTENT.min(SIZE))], None));
    }
}
