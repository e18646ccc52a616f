//! What a tap stands on, on simulated disks: its volume on one, what it remembers on another, so that each can fail by itself.
//!
//! Invariant: both have the same power: nothing is done on one that comes after the other went off.

use crate::disk::SimDisk;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use understudy_appliance::pool::disk::{Access, Disk, DiskFile};
use understudy_format::Digest;
use understudy_initiator::tap::disk::{Directory, StateFile, Volume};

/// Where the volume is on its disk.
pub const VOLUME: &str = "/volume";
/// Where the tap remembers, on another.
pub const STATE: &str = "/state";

/// The disks of one host.
#[derive(Debug, Clone)]
pub struct Disks {
    /// What the volume is on.
    pub volume: SimDisk,
    /// What the tap remembers on.
    pub state: SimDisk,
}

impl Disks {
    /// Whether the power of the host is off: then it is for both.
    pub fn is_off(&self) -> bool {
        let is_off = self.volume.is_off() || self.state.is_off();
        if is_off {
            self.volume.cut();
            self.state.cut();
        }
        is_off
    }
}

/// The primary volume.
#[derive(Debug)]
pub struct SimVolume {
    disks: Disks,
    file: Arc<dyn DiskFile>,
    size: u64,
}

impl SimVolume {
    /// The volume of a disk.
    pub fn open(disks: &Disks) -> io::Result<Self> {
        let file = disks.volume.open(Path::new(VOLUME), Access::Write)?;
        Ok(Self { disks: disks.clone(), size: file.size()?, file })
    }

    fn file(&self) -> &dyn DiskFile {
        // Who has no power says so himself.
        self.disks.is_off();
        &*self.file
    }

    /// All of it.
    pub fn content(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.size as usize];
        self.file().read_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

impl Volume for SimVolume {
    fn name(&self) -> &str {
        VOLUME
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file().read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file().write_at(bytes, offset)
    }

    fn zero(&self, offset: u64, length: u64, _: bool) -> io::Result<()> {
        self.file().zero(offset, length)
    }

    fn sync(&self) -> io::Result<()> {
        self.file().sync()
    }

    fn fingerprint(&self) -> io::Result<Digest> {
        Ok(Digest::of_record(&self.content()?))
    }
}

/// The directory in which a tap remembers.
#[derive(Debug)]
pub struct SimDirectory(pub Disks);

impl SimDirectory {
    fn disk(&self) -> &SimDisk {
        self.0.is_off();
        &self.0.state
    }

    fn path(name: &str) -> PathBuf {
        Path::new(STATE).join(name)
    }
}

impl Directory for SimDirectory {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk().list(Path::new(STATE))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StateFile>> {
        let file = self.disk().open(&Self::path(name), Access::Write)?;
        Ok(Arc::new(SimStateFile { disks: self.0.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk().rename(&Self::path(from), &Self::path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match self.disk().remove(&Self::path(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.disk().sync_dir(Path::new(STATE))
    }
}

/// A file of that directory.
#[derive(Debug)]
struct SimStateFile {
    disks: Disks,
    file: Arc<dyn DiskFile>,
}

impl SimStateFile {
    fn file(&self) -> &dyn DiskFile {
        self.disks.is_off();
        &*self.file
    }
}

impl StateFile for SimStateFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file().read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file().write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file().sync()
    }

    fn size(&self) -> io::Result<u64> {
        self.file().size()
    }

    fn resize(&self, size: u64) -> io::Result<()> {
        self.file().resize(size)
    }
}
