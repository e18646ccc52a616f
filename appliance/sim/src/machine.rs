//! The computer that an appliance runs on: a disk that can be restarted, and the pool on it while that is open.
//!
//! Invariant: a pool is closed before its disk is restarted, as a process ends before the computer comes up again.

use crate::disk::SimDisk;
use crate::rng::Rng;
use crate::stores::SimStores;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use understudy_appliance::clock::Clock;
use understudy_appliance::error::{Error, Result};
use understudy_appliance::journals::Journals;
use understudy_appliance::pool::collect::{self, Collected};
use understudy_appliance::pool::disk::Disk;
use understudy_appliance::pool::store::Stores;
use understudy_appliance::pool::store::memory::MemoryStores;
use understudy_appliance::pool::{Options, Pool};
use understudy_appliance::scrub::{self, Scrubbed};
use understudy_appliance::secondary::Secondaries;
use understudy_format::catalogue::Settings;
use understudy_format::point::VolumeName;
use uuid::Uuid;

/// Where the pool is.
pub const POOL: &str = "/pool";
/// The size at which segments are sealed unless another is chosen, bytes: small, so that a short run has many.
const SEGMENT_SIZE: u64 = 128 << 10;

/// A clock that stands: nothing here keeps to a rate.
struct NoTime;

impl Clock for NoTime {
    fn elapsed_ns(&self) -> u64 {
        0
    }

    fn wait(&self, _: u64) {}
}

/// See the module documentation.
#[derive(Debug)]
pub struct Machine {
    disk: SimDisk,
    memory: Arc<MemoryStores>,
    segment_size: u64,
    pool: Option<Arc<Pool>>,
    journals: Option<Arc<Journals>>,
}

impl Machine {
    /// A computer with a disk on which there is nothing but the pool's directory.
    pub fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        let made = disk.make_dir(Path::new(POOL)).and_then(|()| disk.sync_dir(Path::new("/")));
        made.expect("nothing was broken yet");
        Self::with_disk(disk)
    }

    /// Another computer for every seed: their segments differ in size.
    pub fn any(seed: u64) -> Self {
        Self::new(seed).with_segments((64 << 10) << (seed % 5))
    }

    /// The same with segments of another size, bytes.
    pub fn with_segments(self, segment_size: u64) -> Self {
        Self { segment_size, ..self }
    }

    /// A computer with this disk, whose pool has no index.
    pub fn with_disk(disk: SimDisk) -> Self {
        Self { disk, memory: Arc::default(), segment_size: SEGMENT_SIZE, pool: None, journals: None }
    }

    /// The disk.
    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// Starts the appliance, unless it runs.
    pub fn start(&mut self) -> Result<&Arc<Pool>> {
        if self.pool.is_none() {
            let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
            let stores = Arc::new(SimStores { disk: self.disk.clone(), memory: self.memory.clone() });
            let (now_ns, uuid) = (1, Uuid::from_u128(77));
            let (inline, segment_size, new_volume) = (true, self.segment_size, Settings::default().into());
            let options = Options { disk, stores, inline, segment_size, new_volume, now_ns, uuid };
            let pool = Arc::new(Pool::open(Path::new(POOL), options)?);
            self.journals = Some(Arc::new(Journals::open(&pool)?));
            self.pool = Some(pool);
        }
        self.pool()
    }

    /// The pool of the appliance, which runs.
    pub fn pool(&self) -> Result<&Arc<Pool>> {
        self.pool.as_ref().ok_or(Error::Closing)
    }

    /// The journals of its pool.
    pub fn journals(&self) -> Result<&Arc<Journals>> {
        self.journals.as_ref().ok_or(Error::Closing)
    }

    /// Ends the appliance in order.
    pub fn stop(&mut self) {
        (self.pool, self.journals) = (None, None);
    }

    /// The power goes off and on again; at times the index does not survive it at all.
    pub fn lose_power(&mut self, rng: &mut Rng) {
        self.disk.cut();
        self.stop();
        self.disk = self.disk.restart(rng);
        self.memory.cut(|count| rng.below(count as u64 + 1) as usize);
        if rng.chance(20) {
            self.lose_index();
        }
    }

    /// Somebody deletes the index, while the appliance does not run.
    pub fn lose_index(&mut self) {
        self.stop();
        self.memory.remove(&Path::new(POOL).join("index")).expect("memory does not fail");
    }

    /// The appliance is killed.
    pub fn kill(&mut self, rng: &mut Rng) {
        self.disk.cut();
        self.stop();
        self.disk = self.disk.kill(rng);
    }

    /// Brings the secondary of a volume up to date.
    pub fn settle(&self, name: &VolumeName) -> Result<()> {
        let pool = self.pool()?;
        let Some(entry) = pool.volume(name) else { return Ok(()) };
        Secondaries::new(pool.clone()).settle(&entry.volume)
    }

    /// Gives back the space of what no point needs, however little of a segment that is.
    pub fn collect(&self) -> Result<Collected> {
        let options = collect::Options { dead_max: 0.0, ..collect::Options::default() };
        self.pool()?.collect(options, &AtomicBool::new(false))
    }

    /// Reads everything that is stored and checks it, healing what it can.
    pub fn scrub(&self) -> Result<Scrubbed> {
        let never = AtomicBool::new(false);
        let (pool, options) = (self.pool()?, scrub::Options::default());
        scrub::run(pool, &Secondaries::new(pool.clone()), &options, &NoTime, &never, &mut |_| {})
    }

    /// The bytes of the secondary of a volume.
    pub fn secondary(&self, name: &VolumeName) -> Option<Vec<u8>> {
        self.disk.content(&PathBuf::from(POOL).join("volumes").join(name.as_str()).join("secondary.raw"))
    }
}
