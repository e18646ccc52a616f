//! The host of a primary: a volume and the state of its tap, each on a disk of its own, and the tap while it runs.
//!
//! Invariant: a tap is gone before its disks are restarted, as a process ends before the computer comes up again.

use super::disks::{Disks, STATE, SimDirectory, SimVolume, VOLUME};
use crate::disk::SimDisk;
use crate::rng::Rng;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use understudy_appliance::pool::disk::{Access, Disk};
use understudy_format::Geometry;
use understudy_initiator::tap::core::{Clock, Core, Parts};

/// The hand of a clock: it stands where it was put.
#[derive(Debug)]
pub struct Hand(AtomicI64);

impl Hand {
    /// Puts it further, nanoseconds.
    pub fn advance(&self, by_ns: u64) {
        self.0.fetch_add(by_ns as i64, Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn now_ns(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A tap that runs.
#[derive(Debug, Clone)]
pub struct Tap {
    /// Its core, through which all is written.
    pub core: Arc<Core>,
    /// The volume, for who reads it past the tap.
    pub volume: Arc<SimVolume>,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Primary {
    /// What the volume is on.
    pub volume: SimDisk,
    /// What the tap remembers on.
    pub state: SimDisk,
    /// What time it is.
    pub clock: Arc<Hand>,
    geometry: Geometry,
    journal_max: u64,
    tap: Option<Tap>,
}

impl Primary {
    /// A host whose volume is all zeros, and whose tap was never there.
    pub fn new(seed: u64, geometry: Geometry, journal_max: u64) -> Self {
        let (volume, state) = (SimDisk::new(seed), SimDisk::new(seed));
        let made = make(&volume, &state, geometry.volume_size());
        made.expect("nothing was broken yet");
        let clock = Arc::new(Hand(1_700_000_000_000_000_000.into()));
        Self { volume, state, clock, geometry, journal_max, tap: None }
    }

    /// Starts the tap.
    pub fn start(&mut self) -> io::Result<()> {
        let disks = Disks { volume: self.volume.clone(), state: self.state.clone() };
        let volume = Arc::new(SimVolume::open(&disks)?);
        let parts = Parts {
            volume: volume.clone(),
            directory: Arc::new(SimDirectory(disks)),
            geometry: self.geometry,
            journal_max: self.journal_max,
            clock: self.clock.clone(),
        };
        self.tap = Some(Tap { core: Arc::new(Core::open(parts)?), volume });
        Ok(())
    }

    /// Ends the tap in order, as far as that works.
    pub fn stop(&mut self) -> io::Result<()> {
        self.tap.take().map_or(Ok(()), |tap| tap.core.close())
    }

    /// The tap, if it runs.
    pub fn tap(&self) -> Option<&Tap> {
        self.tap.as_ref()
    }

    /// Whether the power of the host is off.
    pub fn is_off(&self) -> bool {
        self.volume.is_off() || self.state.is_off()
    }

    /// What the volume has, whoever runs.
    pub fn content(&self) -> Vec<u8> {
        self.volume.content(Path::new(VOLUME)).expect("the volume is there")
    }

    /// The tap ends without notice, and its host with it when the power goes off.
    pub fn end(&mut self, rng: &mut Rng, with_power: bool) {
        self.volume.cut();
        self.state.cut();
        self.tap = None;
        let again = |disk: &SimDisk, rng: &mut Rng| if with_power { disk.restart(rng) } else { disk.kill(rng) };
        (self.volume, self.state) = (again(&self.volume, rng), again(&self.state, rng));
    }
}

fn make(volume: &SimDisk, state: &SimDisk, size: u64) -> io::Result<()> {
    let file = volume.open(Path::new(VOLUME), Access::Create)?;
    file.resize(size)?;
    file.sync()?;
    volume.sync_dir(Path::new("/"))?;
    state.make_dir(Path::new(STATE))?;
    state.sync_dir(Path::new("/"))
}
