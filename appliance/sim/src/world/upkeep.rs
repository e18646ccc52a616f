//! What is done to a pool beside streams: points are removed and protected, something is set, space is given back.
//!
//! Invariant: the model learns of it when it was acknowledged; what failed is in doubt.

use super::World;
use crate::model::{Checked, Wrong};
use std::collections::BTreeSet;
use understudy_format::ErrorKind;
use understudy_format::catalogue::Settings;

impl World {
    /// Some of the older points of a volume go, or all.
    pub(super) fn remove(&mut self) -> Checked {
        let at = self.rng.below(self.primaries.len() as u64) as usize;
        let name = self.primaries[at].0.clone();
        let mut numbers: BTreeSet<u64> = self.model.points(&name).iter().map(|kept| kept.number).collect();
        if !self.rng.chance(15) {
            numbers.pop_last();
            numbers.retain(|_| self.rng.chance(60));
        }
        let Ok(pool) = self.machine.pool() else { return Ok(()) };
        if numbers.is_empty() {
            return Ok(());
        }
        let result = pool.remove_points(&name, &numbers, 1);
        self.note(format!("remove {numbers:?} of {name}: {:?}", result.as_ref().map_err(ToString::to_string)));
        match result {
            Ok(()) => self.model.removed(&name, &numbers),
            // The base of a stream.
            Err(error) if error.kind() == ErrorKind::Retry && !self.links.is_empty() => {}
            Err(error) => {
                self.model.doubt_removal(&name, numbers);
                return self.upkeep_failed(&error);
            }
        }
        Ok(())
    }

    /// Some points of a volume are protected, or not any more.
    pub(super) fn protect(&mut self) -> Checked {
        let at = self.rng.below(self.primaries.len() as u64) as usize;
        let name = self.primaries[at].0.clone();
        let mut numbers: BTreeSet<u64> = self.model.points(&name).iter().map(|kept| kept.number).collect();
        numbers.retain(|_| self.rng.chance(50));
        let protected = self.rng.chance(60);
        let Ok(pool) = self.machine.pool() else { return Ok(()) };
        if numbers.is_empty() {
            return Ok(());
        }
        let result = pool.protect(&name, &numbers, protected);
        self.note(format!(
            "protect {numbers:?} of {name}, {protected}: {:?}",
            result.as_ref().map_err(ToString::to_string)
        ));
        match result {
            Ok(()) => self.model.protected(&name, &numbers, protected),
            Err(error) => {
                self.model.doubt_protection(&name, numbers);
                return self.upkeep_failed(&error);
            }
        }
        Ok(())
    }

    /// Something is set for a volume.
    pub(super) fn set(&mut self) -> Checked {
        let at = self.rng.below(self.primaries.len() as u64) as usize;
        let name = self.primaries[at].0.clone();
        let settings = Settings { keep: [self.rng.below(9) as u32; 6], ..Settings::default() };
        if self.model.newest(&name).is_none() {
            return Ok(());
        }
        let Ok(pool) = self.machine.pool() else { return Ok(()) };
        let result = pool.set(&name, |set| set.clone_from(&settings));
        self.note(format!("set {:?} for {name}: {:?}", settings.keep, result.as_ref().map_err(ToString::to_string)));
        match result {
            Ok(()) => self.model.set(&name, settings),
            Err(error) => {
                self.model.doubt_settings(&name, settings);
                return self.upkeep_failed(&error);
            }
        }
        Ok(())
    }

    /// Everything is checked, beside whatever streams there are; nothing is damaged here.
    pub(super) fn scrub(&mut self) -> Checked {
        let result = self.machine.scrub();
        self.note(format!("scrub: {:?}", result.as_ref().map_err(ToString::to_string)));
        match result {
            Ok(scrubbed) if scrubbed.damaged > 0 && !self.is_excused() => Err(Wrong(format!("{scrubbed:?}"))),
            Ok(_) => Ok(()),
            Err(error) => self.upkeep_failed(&error),
        }
    }

    /// Space is given back, beside whatever streams there are.
    pub(super) fn collect(&mut self) -> Checked {
        let result = self.machine.collect();
        self.note(format!("collect: {:?}", result.as_ref().map_err(ToString::to_string)));
        match result {
            Ok(collected) if collected.missing > 0 => Err(Wrong(format!("{collected:?}: digests are missing"))),
            Ok(collected) => {
                self.stats.collected_bytes += collected.removed_bytes;
                Ok(())
            }
            Err(error) => self.upkeep_failed(&error),
        }
    }
}
