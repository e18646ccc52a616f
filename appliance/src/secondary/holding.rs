//! What a secondary is kept on at present: opened, judged and, when it is a device, held.
//!
//! Invariants: what was known of one place is never believed of another; a device whose content is somebody else's is given back at
//! once; a device that is held stays so until the secondary is switched, or its device fails or is another one.

use super::content::{self, Content};
use super::keeper::{Secondary, USER, find};
use super::target::{self, Target};
use crate::error::{Error, Result};
use crate::locks::lock;
use crate::pool::disk::{Access, DiskFile};
use crate::pool::{Pool, VolumeEntry};
use crate::view::PointView;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use understudy_format::catalogue::SecondaryMode;
use understudy_format::point::Point;
use understudy_format::{BlockId, Digest};

impl Secondary {
    /// What the settings say that it is kept on, open for writing; `None` when there is no secondary.
    pub fn target(&self, pool: &Arc<Pool>, entry: &VolumeEntry) -> Result<Option<Target>> {
        let target = match &entry.settings.secondary {
            SecondaryMode::None => return Ok(None),
            SecondaryMode::Native => Target::image(&**pool.disk(), &self.dir),
            SecondaryMode::Device(path) => self.device(pool, entry, path),
        };
        let target = target.inspect_err(|_| self.is_there.store(false, Ordering::SeqCst))?;
        if self.state().place != target.place {
            self.doubt(target.place);
        }
        Ok(Some(target))
    }

    fn device(&self, pool: &Arc<Pool>, entry: &VolumeEntry, path: &str) -> Result<Target> {
        let mut held = lock(&self.held);
        let device = target::find_device(&**pool.disk(), path).inspect_err(|_| *held = None)?;
        let number = |target: &Target| target.device.as_ref().map(|device| device.number);
        let place = target::place_of(path, &device);
        if let Some(target) = held.as_ref().filter(|held| number(held) == Some(device.number) && held.place == place) {
            return Ok(target.clone());
        }
        *held = None;
        let target = Target::device(&**pool.disk(), path, device)?;
        self.judge(pool, entry, &target, path)?;
        *held = Some(target.clone());
        Ok(target)
    }

    /// Decides what a device that was just opened is worth; fails when it is somebody else's.
    fn judge(&self, pool: &Arc<Pool>, entry: &VolumeEntry, target: &Target, path: &str) -> Result<()> {
        let (state, name) = (self.state(), &self.volume.name);
        let is_same = state.place == target.place;
        if is_same && state.settled.is_none() {
            return Ok(());
        }
        let told = [state.settled, state.applying].map(|point| find(entry, point)).into_iter().flatten();
        let points: Vec<&Point> = if is_same { told.collect() } else { entry.newest().into_iter().collect() };
        let view = |point: &&Point| PointView::open(pool, &self.volume, point, USER);
        let views = points.iter().map(view).collect::<Result<Vec<_>>>()?;
        match content::look(target, &views)? {
            Content::Expected if is_same => Ok(()),
            Content::Foreign => Err(Error::Refused(format!(
                "{path} does not hold the secondary of {name}: it may be another device than before, or somebody wrote to it; \
                 nothing is written to it; if it is the right one, understudyd set {name} --secondary {path} --force \
                 overwrites what differs"
            ))),
            content => {
                tracing::warn!(volume = %name, path, ?content, "the device is compared with the newest point, all of it");
                self.doubt(target.place);
                Ok(())
            }
        }
    }

    /// Gives the device back, or takes one.
    pub fn hold(&self, target: Option<Target>) {
        *lock(&self.held) = target;
    }

    /// The device that is held.
    pub fn held(&self) -> Option<Target> {
        lock(&self.held).clone()
    }

    /// A block of the settled point or the one being applied, if it has exactly this digest.
    pub fn block(&self, pool: &Pool, block: BlockId, expected: Digest) -> Option<Bytes> {
        let (entry, state) = (self.entry(pool)?, self.state());
        let file = self.open_for_reading(pool, &entry)?;
        let points = [state.settled, state.applying].map(|point| find(&entry, point));
        let has = |point: &&Point| block.0 < point.map.geometry.block_count();
        points.into_iter().flatten().filter(has).find_map(|point| {
            let mut content = vec![0; point.map.geometry.block_len(block) as usize];
            file.read_at(&mut content, point.map.geometry.offset(block)).ok()?;
            (Digest::of_block(&content) == expected).then(|| content.into())
        })
    }

    /// A block as long as it is in the settled point, whatever it holds.
    pub fn unproven_block(&self, pool: &Pool, block: BlockId) -> Option<Bytes> {
        let entry = self.entry(pool)?;
        let geometry = find(&entry, self.state().settled)?.map.geometry;
        let is_there = block.0 < geometry.block_count();
        let file = self.open_for_reading(pool, &entry).filter(|_| is_there)?;
        let mut content = vec![0; geometry.block_len(block) as usize];
        file.read_at(&mut content, geometry.offset(block)).ok()?;
        Some(content.into())
    }

    /// The image, while it is this point and nothing is applied to it.
    pub fn image(&self, pool: &Pool, point: &Point) -> Option<Arc<dyn DiskFile>> {
        let (entry, state) = (self.entry(pool)?, self.state());
        let settled = find(&entry, state.settled).filter(|_| state.applying.is_none())?;
        let is_image = entry.settings.secondary == SecondaryMode::Native && settled.number == point.number;
        is_image.then(|| self.open_for_reading(pool, &entry)).flatten()
    }

    fn open_for_reading(&self, pool: &Pool, entry: &VolumeEntry) -> Option<Arc<dyn DiskFile>> {
        let open = |path| pool.disk().open(path, Access::Read).ok();
        match &entry.settings.secondary {
            SecondaryMode::None => None,
            SecondaryMode::Native => open(&target::image_path(&self.dir)),
            SecondaryMode::Device(path) => self.held().map(|held| held.file).or_else(|| open(path.as_ref())),
        }
    }
}
