//! Secondaries: the newest point of each volume, materialised as raw bytes at their own offsets.
//!
//! A commit only [`Secondaries::kick`]s; one thread a volume then applies the difference between
//! the settled point and the newest, in block-ID order, so the source waits for nothing but the log.
//! Invariants: the state file says durably which point is being applied before its first byte is
//! written, and which one settled after its last byte is durable; an interrupted point is finished before a
//! newer one is begun, because blocks that it changed and the newer one changed back are in no difference
//! between settled and newest; nobody reads the image for anything but itself.

mod apply;

use crate::error::{Error, Result, at};
use crate::locks::lock;
use crate::pool::Pool;
use crate::pool::disk::{self, Access};
use apply::Applier;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use understudy_format::Digest;
use understudy_format::map::Map;
use understudy_format::point::{Point, Volume, VolumeName};
use understudy_format::secondary::{Settled, State};

/// What people are told of a secondary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Root of the settled point; [`Digest::ZERO`] before the first.
    pub settled_root: Digest,
    /// Blocks that are still to be applied.
    pub behind_blocks: u64,
}

/// One secondary.
#[derive(Debug)]
struct Secondary {
    volume: Volume,
    dir: PathBuf,
    state: Mutex<State>,
    behind_blocks: AtomicU64,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Whether there may be something to do that the thread has not seen.
    wanted: AtomicBool,
}

/// All secondaries of a pool.
#[derive(Debug)]
pub struct Secondaries {
    pool: Arc<Pool>,
    all: Mutex<HashMap<VolumeName, Arc<Secondary>>>,
    stop: Arc<AtomicBool>,
}

impl Secondaries {
    /// The secondaries of `pool`; nothing is applied before [`Secondaries::kick`].
    pub fn new(pool: Arc<Pool>) -> Self {
        Self { pool, all: Mutex::default(), stop: Arc::default() }
    }

    /// Brings every secondary up to date, in the background.
    pub fn kick_all(&self) {
        for entry in self.pool.volumes() {
            if let Err(error) = self.kick(&entry.volume) {
                tracing::error!(volume = %entry.volume.name, %error, "the secondary cannot be brought up to date");
            }
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
        let settled_root = lock(&secondary.state).settled.map_or(Digest::ZERO, |settled| settled.root);
        let current = newest.is_none_or(|point| point.map.root() == settled_root);
        let behind = secondary.behind_blocks.load(Ordering::SeqCst).max(1);
        Ok(Status { settled_root, behind_blocks: if current { 0 } else { behind } })
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

    /// Sets how a volume's newest point is kept as raw bytes.
    pub fn set_mode(&self, _: &VolumeName, _: understudy_format::catalogue::SecondaryMode, _: bool) -> Result<()> {
        Err(Error::refused("the mode of a secondary cannot be changed"))
    }

    /// Removes the secondary of a volume that `remove` removes.
    pub fn remove(&self, volume: &Volume, remove: impl FnOnce() -> Result<()>) -> Result<()> {
        let _ = self.get(volume)?;
        remove()
    }

    fn get(&self, volume: &Volume) -> Result<Arc<Secondary>> {
        let mut all = lock(&self.all);
        if let Some(secondary) = all.get(&volume.name) {
            return Ok(secondary.clone());
        }
        let secondary = Arc::new(Secondary::open(&self.pool, volume)?);
        all.insert(volume.name.clone(), secondary.clone());
        Ok(secondary)
    }
}

impl Secondary {
    fn open(pool: &Pool, volume: &Volume) -> Result<Self> {
        let dir = pool.dir().join("volumes").join(volume.name.as_str());
        pool.disk().make_dir(&dir).map_err(at(&dir))?;
        let path = dir.join("state");
        let empty = State { volume: volume.uuid, settled: None, applying: None };
        let bytes = disk::read_all(&**pool.disk(), &path).map_err(at(&path))?;
        let state = match bytes.as_deref().map(State::decode) {
            None => empty,
            Some(Ok(state)) if state.volume == volume.uuid => state,
            Some(_) => {
                tracing::warn!(volume = %volume.name, "the state of the secondary is damaged; it is made anew");
                empty
            }
        };
        let own = Self {
            volume: volume.clone(),
            dir,
            state: Mutex::new(state),
            behind_blocks: AtomicU64::new(0),
            thread: Mutex::default(),
            wanted: AtomicBool::new(false),
        };
        // Nobody is told that an image has settled which was removed or cut since.
        if !own.is_plausible(pool, &state) {
            *lock(&own.state) = empty;
        }
        Ok(own)
    }

    fn is_plausible(&self, pool: &Pool, state: &State) -> bool {
        let entry = pool.volume(&self.volume.name);
        let points = entry.as_ref().map_or(&[][..], |entry| &entry.points);
        let find = |wanted: Settled| points.iter().find(|point| settled(point) == wanted);
        let fits = |point| self.image_fits(pool, point, state.applying.and_then(find));
        state.settled.and_then(find).is_some_and(fits)
    }

    fn run(&self, pool: &Pool, stop: &AtomicBool) {
        while self.goes_on() {
            match self.bring_up_to_date(pool, stop) {
                Ok(()) => {}
                Err(Error::Closing) => return,
                Err(error) => {
                    tracing::error!(volume = %self.volume.name, %error, "the secondary stays behind until the next point");
                }
            }
        }
    }

    /// Whether something is wanted. Decided under the lock under which a kick looks for the thread, so none gets lost.
    fn goes_on(&self) -> bool {
        let mut thread = lock(&self.thread);
        let wanted = self.wanted.swap(false, Ordering::SeqCst);
        if !wanted {
            *thread = None;
        }
        wanted
    }

    /// Applies points until the newest one has settled.
    fn bring_up_to_date(&self, pool: &Pool, stop: &AtomicBool) -> Result<()> {
        loop {
            let state = *lock(&self.state);
            let entry = pool.volume(&self.volume.name);
            let points = entry.as_ref().map_or(&[][..], |entry| &entry.points);
            let Some(newest) = points.last() else { return Ok(()) };
            let current = state.applying.is_none() && state.settled == Some(settled(newest));
            if current && self.image_fits(pool, newest, None) {
                self.behind_blocks.store(0, Ordering::SeqCst);
                return Ok(());
            }
            let find = |wanted: Settled| points.iter().find(|point| settled(point) == wanted);
            let applying = state.applying.and_then(find);
            let from = state.settled.and_then(find).filter(|point| self.image_fits(pool, point, applying));
            let known = state.settled.is_none() == from.is_none() && state.applying.is_none() == applying.is_none();
            // An image that is neither the one point nor on the way to the other is made anew.
            let (from, to) = match (known, from, applying) {
                (true, Some(from), to) => (Some(from), to.unwrap_or(newest)),
                _ => (None, newest),
            };
            self.apply(pool, stop, from, to)?;
        }
    }

    /// Makes the image `to`: from `from`, or anew.
    fn apply(&self, pool: &Pool, stop: &AtomicBool, from: Option<&Point>, to: &Point) -> Result<()> {
        let settled_before = from.map(settled);
        self.record(pool, State { volume: self.volume.uuid, settled: settled_before, applying: Some(settled(to)) })?;
        let path = self.image();
        let file = pool.disk().open(&path, Access::Write).map_err(at(&path))?;
        if from.is_none() {
            file.resize(0).map_err(at(&path))?;
        }
        file.resize(to.map.geometry.volume_size()).map_err(at(&path))?;
        let old = from.map_or(Map::zero(to.map.geometry), |point| point.map);
        let applier = Applier { pool, stop, file: &*file, path: &path, behind_blocks: &self.behind_blocks };
        applier.apply(&old, &to.map)?;
        file.sync().map_err(at(&path))?;
        pool.disk().sync_dir(&self.dir).map_err(at(&self.dir))?;
        self.record(pool, State { volume: self.volume.uuid, settled: Some(settled(to)), applying: None })?;
        tracing::info!(volume = %self.volume.name, point = to.number, root = %to.map.root().short(), "the secondary settled");
        Ok(())
    }

    fn record(&self, pool: &Pool, state: State) -> Result<()> {
        let path = self.dir.join("state");
        disk::replace(&**pool.disk(), &path, &state.encode()).map_err(at(&path))?;
        *lock(&self.state) = state;
        Ok(())
    }

    fn image(&self) -> PathBuf {
        self.dir.join("secondary.raw")
    }

    /// Whether the image has a size that it can have: it was not removed or cut by hand.
    fn image_fits(&self, pool: &Pool, settled: &Point, applying: Option<&Point>) -> bool {
        let length = pool.disk().open(&self.image(), Access::Read).and_then(|file| file.size());
        let size = |point: &Point| point.map.geometry.volume_size();
        length.is_ok_and(|length| length == size(settled) || applying.is_some_and(|point| length == size(point)))
    }
}

fn settled(point: &Point) -> Settled {
    Settled { point: point.number, root: point.map.root() }
}
