//! Committing points: one, or those of a group, in one step.
//!
//! Invariants: the order is that of SPEC.md: segment bytes, directory entries, index, then the record that commits; the points of a
//! group are in one record, so that there is none of them before all are durable; readers come to see all of them at once.

use super::log::{Epoch, Purpose};
use super::record::Record;
use super::{Pool, StreamGuard};
use crate::error::Result;
use crate::locks;
use understudy_format::catalogue::Settings;
use understudy_format::point::{Point, Volume};

/// A point that is to be committed, of a stream that brought all of it.
#[derive(Debug)]
pub struct NewPoint<'a> {
    /// The stream.
    pub guard: &'a StreamGuard,
    /// The volume, which may be new.
    pub volume: &'a Volume,
    /// The point.
    pub point: Point,
}

impl Pool {
    /// Commits points, and their volumes where these are new: durable when this returns. All of them are there then; when it fails, none
    /// is, or after a loss of power all.
    pub fn commit(&self, new: Vec<NewPoint<'_>>) -> Result<()> {
        let Some(epoch) = new.first().map(|first| first.guard.epoch) else { return Ok(()) };
        // All of one epoch, or the first sync fails: what one of them relied on may be gone.
        new.iter().try_for_each(|new| self.log.check(new.guard.epoch))?;
        self.log.sync(epoch)?;
        self.index.sync()?;
        let _recording = locks::lock(&self.recording);
        let settings: Vec<Settings> = new.iter().map(|new| self.new_volume.settings(&new.volume.name)).collect();
        self.enter_new_volumes(epoch, new.iter().map(|new| new.volume).zip(&settings))?;
        self.log.enter_points(epoch, new.iter().map(|new| new.point.clone()).collect())?;
        self.log.sync(epoch)?;
        let mut catalogue = locks::write(&self.catalogue);
        for (NewPoint { volume, point, .. }, settings) in new.into_iter().zip(&settings) {
            catalogue.commit(volume, point, settings);
        }
        Ok(())
    }

    /// Records the volumes that are new, before any point of them.
    fn enter_new_volumes<'a>(
        &self,
        epoch: Epoch,
        volumes: impl Iterator<Item = (&'a Volume, &'a Settings)>,
    ) -> Result<()> {
        let new: Vec<_> = volumes.filter(|(volume, _)| self.volume(&volume.name).is_none()).collect();
        for (volume, settings) in &new {
            self.log.enter(epoch, Record::Volume((*volume).clone()), Purpose::Stream)?;
            self.log.enter(epoch, Record::Settings(volume.uuid, (*settings).clone()), Purpose::Stream)?;
        }
        if new.is_empty() { Ok(()) } else { self.log.sync(epoch) }
    }
}
