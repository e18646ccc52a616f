//! The computer that an appliance runs on: a disk that can be restarted, and the pool on it while that is open.
//!
//! Invariant: a pool is closed before its disk is restarted, as a process ends before the computer comes up again.

use crate::disk::SimDisk;
use crate::rng::Rng;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use understudy_appliance::error::{Error, Result};
use understudy_appliance::pool::disk::Disk;
use understudy_appliance::pool::{Options, Pool};
use understudy_appliance::secondary::Secondaries;
use understudy_format::point::VolumeName;
use uuid::Uuid;

/// The size at which segments are sealed, bytes: small, so that a short run has many.
const SEGMENT_SIZE: u64 = 128 << 10;

/// See the module documentation.
#[derive(Debug)]
pub struct Machine {
    disk: SimDisk,
    dir: tempfile::TempDir,
    pool: Option<Arc<Pool>>,
}

impl Machine {
    /// A computer with an empty disk.
    pub fn new(seed: u64) -> Self {
        let (disk, dir) = (SimDisk::new(seed), tempfile::TempDir::new().unwrap());
        disk.make_dir(dir.path()).unwrap();
        dir.path().ancestors().for_each(|dir| disk.sync_dir(dir).unwrap());
        Self { disk, dir, pool: None }
    }

    /// The disk.
    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// Where the pool is.
    pub fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Starts the appliance, unless it runs.
    pub fn start(&mut self) -> Result<&Arc<Pool>> {
        if self.pool.is_none() {
            let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
            let options = Options { disk, segment_size: SEGMENT_SIZE, now_ns: 1, uuid: Uuid::from_u128(77) };
            self.pool = Some(Arc::new(Pool::open(&self.dir(), options)?));
        }
        self.pool.as_ref().ok_or(Error::Closing)
    }

    /// The pool of the appliance, which runs.
    pub fn pool(&self) -> Result<&Arc<Pool>> {
        self.pool.as_ref().ok_or(Error::Closing)
    }

    /// Ends the appliance in order.
    pub fn stop(&mut self) {
        self.pool = None;
    }

    /// The power goes off and on again.
    pub fn lose_power(&mut self, rng: &mut Rng) {
        self.disk.cut();
        self.stop();
        self.disk = self.disk.restart(rng);
        if rng.chance(50) {
            let _ = std::fs::remove_dir_all(self.dir.path().join("index"));
        }
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

    /// The bytes of the secondary of a volume.
    pub fn secondary(&self, name: &VolumeName) -> Option<Vec<u8>> {
        self.disk.content(&self.dir().join("volumes").join(name.as_str()).join("secondary.raw"))
    }

    /// A file of the pool.
    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.dir().join(below)
    }
}
