//! Secondaries: the newest point of each volume, materialised as raw bytes at their own offsets, as an image in the pool
//! or on a block device.
//!
//! A commit only [`Secondaries::kick`]s; one thread a volume then applies the difference between
//! the settled point and the newest, in block-ID order, so the source waits for nothing but the log.
//! Invariants: [`keeper`] has those of one secondary; nobody reads one for anything but itself, but to heal the pool and to serve
//! its point where the digest proves the content; no device is written to that may be somebody else's ([`target`], [`content`]).

mod apply;
pub mod compare;
mod content;
mod holding;
mod keeper;
mod switch;
mod target;
mod turn;

use crate::error::{Result, at};
use crate::locks::lock;
use crate::pool::Pool;
use crate::pool::disk::DiskFile;
use bytes::Bytes;
use compare::Compared;
use keeper::Secondary;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use understudy_format::catalogue::SecondaryMode;
use understudy_format::point::{Point, Volume, VolumeName};
use understudy_format::{BlockId, Digest};

/// What people are told of a secondary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Root of the settled point; [`Digest::ZERO`] before the first, and when there is no secondary.
    pub settled_root: Digest,
    /// Blocks that are still to be applied; 0 when there is no secondary.
    pub behind_blocks: u64,
}

/// All secondaries of a pool.
#[derive(Debug)]
pub struct Secondaries {
    pool: Arc<Pool>,
    all: Mutex<HashMap<VolumeName, Arc<Secondary>>>,
    /// Held while one is switched or removed.
    switching: Mutex<()>,
    stop: Arc<AtomicBool>,
}

impl Secondaries {
    /// The secondaries of `pool`; the points that they need are leased from now on, and nothing is applied before
    /// [`Secondaries::kick`].
    pub fn new(pool: Arc<Pool>) -> Self {
        let own = Self { pool, all: Mutex::default(), switching: Mutex::default(), stop: Arc::default() };
        for entry in own.pool.volumes() {
            if let Err(error) = own.get(&entry.volume) {
                tracing::error!(volume = %entry.volume.name, %error, "the state of the secondary cannot be read");
            }
        }
        own
    }

    /// Brings every secondary up to date, in the background.
    pub fn kick_all(&self) {
        for entry in self.pool.volumes() {
            self.follow(&entry.volume);
        }
    }

    /// Brings a secondary up to date, in the background; that it cannot be is told, and is nobody's failure.
    pub fn follow(&self, volume: &Volume) {
        if let Err(error) = self.kick(volume) {
            tracing::error!(volume = %volume.name, %error, "the secondary cannot be brought up to date");
        }
    }

    /// Brings a secondary up to date, in the background.
    pub fn kick(&self, volume: &Volume) -> Result<()> {
        let secondary = self.get(volume)?;
        let mut thread = lock(&secondary.thread);
        secondary.wanted.store(true, Ordering::SeqCst);
        if thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Ok(());
        }
        let (own, pool, stop) = (secondary.clone(), self.pool.clone(), self.stop.clone());
        let name = format!("apply-{}", volume.name);
        let run = move || own.run(&pool, &stop);
        *thread = Some(std::thread::Builder::new().name(name).spawn(run).map_err(at(&secondary.dir))?);
        Ok(())
    }

    /// Brings a secondary up to date before it returns.
    pub fn settle(&self, volume: &Volume) -> Result<()> {
        self.get(volume)?.bring_up_to_date(&self.pool, &self.stop)
    }

    /// What people are told of the secondary of a volume.
    pub fn status(&self, volume: &Volume, newest: Option<&Point>) -> Result<Status> {
        let secondary = self.get(volume)?;
        let mode = secondary.entry(&self.pool).map(|entry| entry.settings.secondary.clone());
        if mode == Some(SecondaryMode::None) {
            return Ok(Status { settled_root: Digest::ZERO, behind_blocks: 0 });
        }
        let settled_root = secondary.settled_root().unwrap_or(Digest::ZERO);
        let current = newest.is_none_or(|point| point.map.root() == settled_root);
        let behind = secondary.behind_blocks.load(Ordering::SeqCst).max(1);
        Ok(Status { settled_root, behind_blocks: if current { 0 } else { behind } })
    }

    /// Compares all of a secondary with the point that it settled at, and with `repair` rewrites from the pool what differs.
    ///
    /// `step` is told after each piece of at most 4 MiB how many bytes were read for it, while nothing is locked: it may wait, to limit
    /// the rate, and its error ends the comparison. Points that are committed meanwhile are applied between
    /// two pieces; the rest is then compared with them. `None`: there is no secondary, or nothing has settled yet.
    pub fn compare(
        &self,
        volume: &Volume,
        repair: bool,
        step: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Option<Compared>> {
        self.get(volume)?.compare(&self.pool, repair, step)
    }

    /// The content of a block out of a volume's secondary, if that has exactly this digest: for healing the pool.
    pub fn block(&self, volume: &Volume, block: BlockId, expected: Digest) -> Option<Bytes> {
        self.get(volume).ok()?.block(&self.pool, block, expected)
    }

    /// The content of a block out of a volume's secondary, whatever it is and whatever point it is of: worth what a digest proves.
    pub fn unproven_block(&self, volume: &Volume, block: BlockId) -> Option<Bytes> {
        self.get(volume).ok()?.unproven_block(&self.pool, block)
    }

    /// The image of a volume while it is this point: for reading blocks whose digest is known, which alone tells whether it still is.
    pub fn image(&self, volume: &Volume, point: &Point) -> Option<Arc<dyn DiskFile>> {
        self.get(volume).ok()?.image(&self.pool, point)
    }

    /// Ends all threads; what is half applied is finished when the pool is opened again.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        let all: Vec<_> = lock(&self.all).values().cloned().collect();
        for secondary in all {
            // Not held while waiting: the thread takes the lock before it ends.
            let thread = lock(&secondary.thread).take();
            if let Some(thread) = thread {
                let _ = thread.join();
            }
        }
    }

    fn get(&self, volume: &Volume) -> Result<Arc<Secondary>> {
        let mut all = lock(&self.all);
        // A volume that was removed may have left its name to another one.
        if let Some(secondary) = all.get(&volume.name).filter(|known| known.volume.uuid == volume.uuid) {
            return Ok(secondary.clone());
        }
        let secondary = Arc::new(Secondary::open(&self.pool, volume)?);
        all.insert(volume.name.clone(), secondary.clone());
        Ok(secondary)
    }
}
