//! For tests: a volume and a directory in memory that fail when told to, and lose what was not synced when their power is cut.

use super::disk::{Directory, StateFile, Volume};
use super::lock;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use understudy_format::Digest;

/// Bytes, and what of them is durable.
#[derive(Debug, Default, Clone)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
}

/// A file, or a volume.
#[derive(Debug, Default)]
pub struct MemoryFile {
    content: Mutex<Content>,
    fails: Arc<AtomicBool>,
}

impl MemoryFile {
    fn new(bytes: Vec<u8>) -> Self {
        Self { content: Mutex::new(Content { durable: bytes.clone(), now: bytes }), ..Self::default() }
    }

    fn check(&self) -> io::Result<()> {
        match self.fails.load(Ordering::SeqCst) {
            true => Err(io::Error::other("told to fail")),
            false => Ok(()),
        }
    }
}

impl StateFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let content = lock(&self.content);
        let found = content.now.get(offset as usize..offset as usize + buffer.len());
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check()?;
        let (mut content, end) = (lock(&self.content), offset as usize + bytes.len());
        if content.now.len() < end {
            content.now.resize(end, 0);
        }
        content.now[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.check()?;
        let mut content = lock(&self.content);
        content.durable = content.now.clone();
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(lock(&self.content).now.len() as u64)
    }

    fn resize(&self, size: u64) -> io::Result<()> {
        self.check()?;
        lock(&self.content).now.resize(size as usize, 0);
        Ok(())
    }
}

/// See the module documentation. Names are durable at once.
#[derive(Debug, Default)]
pub struct MemoryDirectory {
    files: Mutex<BTreeMap<String, Arc<MemoryFile>>>,
    fails: Arc<AtomicBool>,
}

impl MemoryDirectory {
    /// From now on, whatever would change something fails; or it does no more.
    pub fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }

    /// What is there after the power was cut.
    pub fn cut(&self) -> Arc<Self> {
        let cut = |(name, file): (&String, &Arc<MemoryFile>)| {
            let bytes = lock(&file.content).durable.clone();
            (name.clone(), Arc::new(MemoryFile::new(bytes)))
        };
        Arc::new(Self { files: Mutex::new(lock(&self.files).iter().map(cut).collect()), ..Self::default() })
    }

    /// What is there after the process was killed.
    pub fn kill(&self) -> Arc<Self> {
        lock(&self.files).values().for_each(|file| {
            let mut content = lock(&file.content);
            content.durable = content.now.clone();
        });
        self.cut()
    }
}

impl Directory for MemoryDirectory {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.files).keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StateFile>> {
        let fresh = || Arc::new(MemoryFile { fails: self.fails.clone(), ..MemoryFile::default() });
        Ok(lock(&self.files).entry(name.to_owned()).or_insert_with(fresh).clone())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = lock(&self.files);
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        lock(&self.files).remove(name);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A volume in memory.
#[derive(Debug)]
pub struct MemoryVolume(MemoryFile);

impl MemoryVolume {
    /// A volume with these bytes.
    pub fn with(bytes: Vec<u8>) -> Arc<Self> {
        Arc::new(Self(MemoryFile::new(bytes)))
    }

    /// All of it.
    pub fn content(&self) -> Vec<u8> {
        lock(&self.0.content).now.clone()
    }

    /// What is there after the power was cut.
    pub fn cut(&self) -> Arc<Self> {
        Self::with(lock(&self.0.content).durable.clone())
    }

    /// From now on, whatever would change something fails; or it does no more.
    pub fn fail(&self, fails: bool) {
        self.0.fails.store(fails, Ordering::SeqCst);
    }
}

impl Volume for MemoryVolume {
    fn name(&self) -> &str {
        "memory"
    }

    fn size(&self) -> u64 {
        lock(&self.0.content).now.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn zero(&self, offset: u64, length: u64, _: bool) -> io::Result<()> {
        self.0.write_at(&vec![0; length as usize], offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn fingerprint(&self) -> io::Result<Digest> {
        Ok(Digest::of_record(&lock(&self.0.content).now))
    }
}
