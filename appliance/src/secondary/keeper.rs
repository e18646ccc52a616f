//! One secondary: what it is, on what it is kept, and how it becomes the newest point.
//!
//! Invariants: whatever reads or changes the target does so in its [`Turn`]; the state file says durably which point is being applied
//! before its first byte is written, and which one settled after its last byte is durable; an interrupted point is finished
//! before a newer one is begun, because blocks that it changed and the newer one changed back are in no difference
//! between settled and newest; the points of the state are leased, so that retention leaves what the next difference starts from.

use super::apply::Applier;
use super::target::{self, Target};
use super::turn::{Held, Turn};
use crate::error::{Error, Result, at};
use crate::locks::lock;
use crate::pool::disk::{self, Access};
use crate::pool::live::Lease;
use crate::pool::{Pool, VolumeEntry};
use crate::view::PointView;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use understudy_format::Digest;
use understudy_format::catalogue::SecondaryMode;
use understudy_format::map::Map;
use understudy_format::point::{Point, Volume};
use understudy_format::secondary::{Place, Settled, State};

/// Who leases the points of a secondary, for people.
pub const USER: &str = "the secondary";

/// See the module documentation.
#[derive(Debug)]
pub struct Secondary {
    /// The volume.
    pub volume: Volume,
    /// Where the state file and the image are.
    pub dir: PathBuf,
    /// Blocks that are still to be applied.
    pub behind_blocks: AtomicU64,
    /// The thread that brings it up to date.
    pub thread: Mutex<Option<JoinHandle<()>>>,
    /// Whether there may be something to do that the thread has not seen.
    pub wanted: AtomicBool,
    /// Whose turn it is.
    pub turn: Turn,
    /// Goes up when it is switched or removed.
    pub generation: AtomicU64,
    /// How many want that applying ends early.
    halts: AtomicUsize,
    state: Mutex<State>,
    leases: Mutex<Vec<Lease>>,
    /// Whether what the state says can be told: the target was there when it was last looked for.
    pub(super) is_there: AtomicBool,
    /// The device, while it is the secondary.
    pub(super) held: Mutex<Option<Target>>,
}

/// What is to be done next.
enum Plan<'a> {
    /// Nothing: it is the newest point.
    Nothing,
    /// The difference of two points; from nothing, all that is not zero.
    Apply(Option<&'a Point>, &'a Point),
    /// What is there is not known: only reading it tells what is different.
    Compare(&'a Point),
}

impl Secondary {
    /// The secondary of a volume, as its state file says; what an earlier mode left behind is removed.
    pub fn open(pool: &Pool, volume: &Volume) -> Result<Self> {
        let dir = pool.dir().join("volumes").join(volume.name.as_str());
        pool.disk().make_dir(&dir).map_err(at(&dir))?;
        let own = Self {
            volume: volume.clone(),
            dir,
            behind_blocks: AtomicU64::new(0),
            thread: Mutex::default(),
            wanted: AtomicBool::new(false),
            turn: Turn::default(),
            generation: AtomicU64::new(0),
            halts: AtomicUsize::new(0),
            state: Mutex::new(fresh(volume, Place::IMAGE)),
            leases: Mutex::default(),
            is_there: AtomicBool::new(false),
            held: Mutex::default(),
        };
        *lock(&own.state) = own.read_state(pool)?;
        if let Some(entry) = own.entry(pool) {
            own.look_around(pool, &entry)?;
        }
        own.lease(pool);
        Ok(own)
    }

    fn read_state(&self, pool: &Pool) -> Result<State> {
        let path = self.dir.join("state");
        let bytes = disk::read_all(&**pool.disk(), &path).map_err(at(&path))?;
        Ok(match bytes.as_deref().map(State::decode) {
            None => fresh(&self.volume, Place::IMAGE),
            Some(Ok(state)) if state.volume == self.volume.uuid => state,
            Some(_) => {
                tracing::warn!(volume = %self.volume.name, "the state of the secondary is damaged; it is compared anew");
                fresh(&self.volume, Place::IMAGE)
            }
        })
    }

    /// Nobody is told that something has settled which was removed, cut or exchanged since.
    fn look_around(&self, pool: &Pool, entry: &VolumeEntry) -> Result<()> {
        let state = self.state();
        let is_image = entry.settings.secondary == SecondaryMode::Native && state.place == Place::IMAGE;
        // Of a device nothing is told before somebody looked at what it holds.
        self.is_there.store(is_image && self.image_fits(pool, entry, &state), Ordering::SeqCst);
        let is_device = matches!(entry.settings.secondary, SecondaryMode::Device(_));
        if entry.settings.secondary == SecondaryMode::None || is_device == (state.place == Place::IMAGE) {
            // The mode was switched and the state did not come to say so: it needs no points.
            self.doubt(Place::IMAGE);
        }
        match entry.settings.secondary {
            SecondaryMode::Native => Ok(()),
            _ => self.remove_image(pool),
        }
    }

    fn image_fits(&self, pool: &Pool, entry: &VolumeEntry, state: &State) -> bool {
        let size = pool.disk().open(&target::image_path(&self.dir), Access::Read).and_then(|file| file.size());
        let of = |settled: Option<Settled>| Some(find(entry, settled)?.map.geometry.volume_size());
        size.is_ok_and(|size| of(state.settled) == Some(size) || of(state.applying) == Some(size))
    }

    /// Removes the image, which another mode left behind.
    pub fn remove_image(&self, pool: &Pool) -> Result<()> {
        remove(pool, &target::image_path(&self.dir))?;
        pool.disk().sync_dir(&self.dir).map_err(at(&self.dir))
    }

    /// The volume with its points, unless another one has its name by now.
    pub fn entry(&self, pool: &Pool) -> Option<Arc<VolumeEntry>> {
        pool.volume(&self.volume.name).filter(|entry| entry.volume.uuid == self.volume.uuid)
    }

    /// What the state file says, or will with the next point.
    pub fn state(&self) -> State {
        *lock(&self.state)
    }

    /// Root of the settled point, when the target is there.
    pub fn settled_root(&self) -> Option<Digest> {
        let settled = self.state().settled.filter(|_| self.is_there.load(Ordering::SeqCst));
        settled.map(|settled| settled.root)
    }

    /// Whether it is this point, and on the way to no other.
    pub fn is_settled_at(&self, point: &Point) -> bool {
        let state = self.state();
        state.applying.is_none() && state.settled == Some(settled(point))
    }

    /// The point that it is; an error while it is on the way to another one.
    pub fn settled_point<'a>(&self, entry: &'a VolumeEntry) -> Result<Option<&'a Point>> {
        let state = self.state();
        match state.applying {
            None => Ok(find(entry, state.settled)),
            Some(Settled { point, .. }) => Err(Error::Busy(format!(
                "the secondary of {} is not settled: @{point} is being applied; try again when it is done",
                self.volume.name
            ))),
        }
    }

    /// Ends applying between two writes, and waits for the turn.
    pub fn halt(&self) -> Held<'_> {
        self.halts.fetch_add(1, Ordering::SeqCst);
        let held = self.turn.urgent();
        self.halts.fetch_sub(1, Ordering::SeqCst);
        held
    }

    /// Brings it up to date for as long as that is wanted.
    pub fn run(&self, pool: &Arc<Pool>, stop: &AtomicBool) {
        while self.goes_on() {
            match self.bring_up_to_date(pool, stop) {
                Ok(()) => {}
                Err(Error::Closing) if stop.load(Ordering::SeqCst) => return,
                // Halted: who did that has the turn, and this waits for it.
                Err(Error::Closing) => self.wanted.store(true, Ordering::SeqCst),
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
    pub fn bring_up_to_date(&self, pool: &Arc<Pool>, stop: &AtomicBool) -> Result<()> {
        let _turn = self.turn.urgent();
        let stop = || stop.load(Ordering::SeqCst) || self.halts.load(Ordering::SeqCst) > 0;
        loop {
            let Some(entry) = self.entry(pool) else { return Ok(()) };
            let Some(target) = self.target(pool, &entry)? else { return Ok(()) };
            let made = match self.plan(&entry, &target)? {
                Plan::Nothing => return Ok(()),
                Plan::Apply(from, to) => self.make(pool, &stop, &target, (from, to, false)),
                Plan::Compare(to) => self.make(pool, &stop, &target, (None, to, true)),
            };
            if matches!(made, Err(Error::Disk { .. })) {
                // It may have been pulled out: it is looked for, and looked at, again.
                *lock(&self.held) = None;
            }
            made?;
        }
    }

    fn plan<'a>(&self, entry: &'a VolumeEntry, target: &Target) -> Result<Plan<'a>> {
        let state = self.state();
        let Some(newest) = entry.newest() else { return Ok(Plan::Nothing) };
        let (from, applying) = (find(entry, state.settled), find(entry, state.applying));
        let fits = |point: Option<&Point>| {
            point.is_some_and(|p| matches!(target.fits(p.map.geometry.volume_size()), Ok(true)))
        };
        let is_known = state.applying.is_some() == applying.is_some() && (fits(from) || fits(applying));
        self.is_there.store(is_known, Ordering::SeqCst);
        match (from, applying) {
            (Some(from), None) if is_known && settled(from) == settled(newest) => {
                self.behind_blocks.store(0, Ordering::SeqCst);
                Ok(Plan::Nothing)
            }
            (Some(from), to) if is_known => Ok(Plan::Apply(Some(from), to.unwrap_or(newest))),
            _ if target.device.is_none() && target.size()? == 0 => Ok(Plan::Apply(None, newest)),
            _ => Ok(Plan::Compare(newest)),
        }
    }

    /// Makes the target `to`: from `from`, from nothing, or from what is there.
    fn make(
        &self,
        pool: &Arc<Pool>,
        stop: &(dyn Fn() -> bool + Sync),
        target: &Target,
        (from, to, compare): (Option<&Point>, &Point, bool),
    ) -> Result<()> {
        let view = PointView::open(pool, &self.volume, to, USER)?;
        let size = to.map.geometry.volume_size();
        target.check_room(size)?;
        let place = target.place;
        let state = |done: Option<&Point>, doing: Option<&Point>| State {
            volume: self.volume.uuid,
            place,
            settled: done.map(settled),
            applying: doing.map(settled),
        };
        self.record(pool, state(from, Some(to)))?;
        let applier = Applier { to: &view, stop, target, behind_blocks: &self.behind_blocks };
        let known = from.map_or(0, |point| point.map.geometry.volume_size());
        target.prepare(if compare { size } else { known }, size, stop)?;
        match compare {
            true => applier.compare()?,
            false => applier.apply(&from.map_or(Map::zero(to.map.geometry), |point| point.map))?,
        }
        target.file.sync().map_err(at(&target.path))?;
        if target.device.is_none() {
            pool.disk().sync_dir(&self.dir).map_err(at(&self.dir))?;
        }
        self.record(pool, state(Some(to), None))?;
        self.is_there.store(true, Ordering::SeqCst);
        tracing::info!(volume = %self.volume.name, point = to.number, root = %to.map.root().short(), "the secondary settled");
        Ok(())
    }

    /// Makes a state durable, and leases its points.
    fn record(&self, pool: &Pool, state: State) -> Result<()> {
        let path = self.dir.join("state");
        disk::replace(&**pool.disk(), &path, &state.encode()).map_err(at(&path))?;
        *lock(&self.state) = state;
        self.lease(pool);
        Ok(())
    }

    fn lease(&self, pool: &Pool) {
        let state = self.state();
        let points = [state.settled, state.applying].into_iter().flatten();
        let leases = points.filter_map(|settled| pool.lease(&self.volume.uuid, settled.point, USER)).collect();
        // The old ones end when the new ones are there.
        *lock(&self.leases) = leases;
    }

    /// Runs `remove_points` with the leases ended; they are taken again when that fails.
    pub fn release(&self, pool: &Pool, remove_points: impl FnOnce() -> Result<()>) -> Result<()> {
        lock(&self.leases).clear();
        remove_points().inspect_err(|_| self.lease(pool))
    }

    /// From now on nothing is known of what `place` holds; durable when this returns.
    pub fn forget(&self, pool: &Pool, place: Place) -> Result<()> {
        self.doubt(place);
        self.record(pool, fresh(&self.volume, place))
    }

    /// The same device goes by another path from now on; durable when this returns.
    pub fn rename(&self, pool: &Pool, place: Place) -> Result<()> {
        self.record(pool, State { place, ..self.state() })
    }

    /// Nothing is relied on of what was known.
    pub fn doubt(&self, place: Place) {
        *lock(&self.state) = fresh(&self.volume, place);
        lock(&self.leases).clear();
        self.is_there.store(false, Ordering::SeqCst);
    }
}

/// A secondary of which nothing is known.
fn fresh(volume: &Volume, place: Place) -> State {
    State { volume: volume.uuid, place, settled: None, applying: None }
}

fn settled(point: &Point) -> Settled {
    Settled { point: point.number, root: point.map.root() }
}

/// The point that a state names, if it is still there.
pub fn find(entry: &VolumeEntry, wanted: Option<Settled>) -> Option<&Point> {
    entry.point(wanted?.point).filter(|point| Some(settled(point)) == wanted)
}

/// Removes a file that may be gone already.
pub fn remove(pool: &Pool, path: &std::path::Path) -> Result<()> {
    match pool.disk().remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(at(path)),
    }
}
