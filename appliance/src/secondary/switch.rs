//! Switching a secondary between an image, a device and nothing, and removing it with its volume.
//!
//! Invariants: nothing is changed before everything was checked; the settings become durable first, and what is in force after a crash
//! is what they say: what another mode left behind is removed when the pool is opened; a device that is not blank is
//! given up by the user (`force`) or refused, and one that is released is left as it is.

use super::Secondaries;
use super::keeper::{self, Secondary};
use super::target::{self, Target};
use crate::error::{Error, Result, at};
use crate::locks::lock;
use crate::pool::VolumeEntry;
use crate::pool::disk::Device;
use std::sync::atomic::Ordering;
use understudy_format::catalogue::{DEVICE_MAX, SecondaryMode};
use understudy_format::point::{Volume, VolumeName};
use understudy_format::secondary::Place;

impl Secondaries {
    /// Keeps the secondary of a volume in another way from now on; it is made from the pool, in the background.
    ///
    /// A device must be unused and large enough, and blank unless `force` is given. Durable when this returns.
    pub fn set_mode(&self, name: &VolumeName, mode: SecondaryMode, force: bool) -> Result<()> {
        let _switching = lock(&self.switching);
        let entry = self.pool.known(name)?;
        let own = self.get(&entry.volume)?;
        let switched = {
            let _turn = own.halt();
            self.switch(&own, &entry, mode, force)
        };
        // Whatever came of it, what is in force goes on.
        let kicked = self.kick(&entry.volume);
        switched.and(kicked)
    }

    fn switch(&self, own: &Secondary, entry: &VolumeEntry, mode: SecondaryMode, force: bool) -> Result<()> {
        if mode == entry.settings.secondary && !force {
            return Ok(());
        }
        let target = match &mode {
            SecondaryMode::Device(path) => Some(self.take_device(own, entry, path, force)?),
            _ => None,
        };
        let number = |target: Option<Target>| Some(target?.device?.number);
        let is_renamed = target.is_some() && number(own.held()) == number(target.clone());
        let is_image_kept = mode == SecondaryMode::Native && entry.settings.secondary == SecondaryMode::Native;
        own.generation.fetch_add(1, Ordering::SeqCst);
        self.pool.set(&entry.volume.name, |settings| settings.secondary.clone_from(&mode))?;
        let place = target.as_ref().map_or(Place::IMAGE, |target| target.place);
        own.hold(target);
        match () {
            () if is_renamed && !force => own.rename(&self.pool, place)?,
            () if is_image_kept => {}
            () => {
                own.forget(&self.pool, place)?;
                own.remove_image(&self.pool)?;
            }
        }
        tracing::info!(volume = %entry.volume.name, ?mode, "the secondary was switched");
        Ok(())
    }

    /// Opens a device for this volume, unless anything speaks against it.
    fn take_device(&self, own: &Secondary, entry: &VolumeEntry, path: &str, force: bool) -> Result<Target> {
        if path.len() > DEVICE_MAX {
            return Err(Error::Refused(format!("the path of the device has more than {DEVICE_MAX} bytes")));
        }
        let device = target::find_device(&**self.pool.disk(), path)?;
        self.check_others(entry, path, &device)?;
        // What is the secondary already, perhaps by another path, cannot be opened twice.
        let is_own = |held: &Target| held.device.as_ref().is_some_and(|held| held.number == device.number);
        let held = own.held().filter(is_own);
        let is_held = held.is_some();
        let target = match held {
            Some(held) => Target { path: path.into(), place: target::place_of(path, &device), ..held },
            None => Target::device(&**self.pool.disk(), path, device)?,
        };
        target.check_room(entry.newest().map_or(0, |point| point.map.geometry.volume_size()))?;
        match force || is_held || target.is_blank()? {
            true => Ok(target),
            false => Err(Error::Refused(format!(
                "{path} is not blank: its first or last MiB is not all zeros, so somebody may need what it holds; \
                 nothing was written to it; with --force it is overwritten"
            ))),
        }
    }

    fn check_others(&self, entry: &VolumeEntry, path: &str, device: &Device) -> Result<()> {
        let is_same = |other: &str| {
            let found = self.pool.disk().device(other.as_ref());
            other == path || found.is_ok_and(|found| found.number == device.number)
        };
        let others = self.pool.volumes();
        let user = others
            .iter()
            .filter(|other| other.volume.uuid != entry.volume.uuid)
            .find(|other| matches!(&other.settings.secondary, SecondaryMode::Device(other) if is_same(other)));
        match user {
            Some(user) => Err(Error::Refused(format!(
                "{path} is the secondary of volume {} already; name another device",
                user.volume.name
            ))),
            None => Ok(()),
        }
    }

    /// Removes the secondary of a volume together with the volume: `remove_points` does the latter, with all leases ended.
    ///
    /// When that fails the secondary stays. A device is left as it is.
    pub fn remove(&self, volume: &Volume, remove_points: impl FnOnce() -> Result<()>) -> Result<()> {
        let _switching = lock(&self.switching);
        let own = self.get(volume)?;
        let _turn = own.halt();
        own.release(&self.pool, remove_points)?;
        own.generation.fetch_add(1, Ordering::SeqCst);
        lock(&self.all).remove(&volume.name);
        own.hold(None);
        let disk = self.pool.disk();
        for path in [target::image_path(&own.dir), own.dir.join("state"), own.dir.join("state.new")] {
            keeper::remove(&self.pool, &path)?;
        }
        disk.sync_dir(&own.dir).map_err(at(&own.dir))?;
        if let Err(error) = disk.remove_dir(&own.dir) {
            tracing::warn!(dir = %own.dir.display(), %error, "the directory of a removed volume stays");
        }
        let above = self.pool.dir().join("volumes");
        disk.sync_dir(&above).map_err(at(&above))
    }
}
