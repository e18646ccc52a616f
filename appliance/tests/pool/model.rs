//! Volumes in memory, streams of them, and a disk whose space and failures are the test's.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use understudy_appliance::error::{Error, Result};
use understudy_appliance::ingest::{Announced, Ingest};
use understudy_appliance::pool::collect::{self, Collected};
use understudy_appliance::pool::disk::{Access, Device, Disk, DiskFile, Lock, RealDisk};
use understudy_appliance::pool::store::memory::MemoryStores;
use understudy_appliance::pool::store::{FjallStores, Stores};
use understudy_appliance::pool::{Options, Pool};
use understudy_appliance::secondary::Secondaries;
use understudy_appliance::view::PointView;
use understudy_format::catalogue::Settings;
use understudy_format::chunk::Entry;
use understudy_format::codec::Codec;
use understudy_format::map::{Map, top_level};
use understudy_format::point::Point;
use understudy_format::session::{Prepared, Sender, pack};
use understudy_format::stream::{Base, Begin};
use understudy_format::{BlockId, BlockSize, Digest, Geometry};
use uuid::Uuid;

pub const BLOCK: usize = 4096;

/// A block whose content follows from `seed`: incompressible, never zero.
pub fn block(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; BLOCK];
    let mut hasher = blake3_of(seed);
    for chunk in bytes.chunks_mut(32) {
        chunk.copy_from_slice(&hasher[..chunk.len()]);
        hasher = Digest::of_record(&hasher).0;
    }
    bytes
}

fn blake3_of(seed: u64) -> [u8; 32] {
    Digest::of_record(&seed.to_le_bytes()).0
}

/// A volume of one block a seed; seed 0 is a zero block.
pub fn volume(seeds: &[u64]) -> Vec<u8> {
    seeds.iter().flat_map(|seed| if *seed == 0 { vec![0; BLOCK] } else { block(*seed) }).collect()
}

pub fn geometry(bytes: &[u8]) -> Geometry {
    Geometry::new(bytes.len() as u64, BlockSize::new(BLOCK as u32).unwrap()).unwrap()
}

/// The map by the plain definition.
pub fn map(bytes: &[u8]) -> Map {
    let mut level: Vec<Digest> = bytes.chunks(BLOCK).map(Digest::of_block).collect();
    for _ in 0..top_level(level.len() as u64) {
        let page = |digests: &[Digest]| {
            let mut page = understudy_format::map::Page::zero();
            digests.iter().enumerate().for_each(|(slot, digest)| page.set(slot, *digest));
            page.digest()
        };
        level = level.chunks(256).map(page).collect();
    }
    Map { geometry: geometry(bytes), top: level[0] }
}

/// The stream that makes `new` out of `old`, chunk by chunk: what [`feed`] sends.
pub fn begin(old: Option<&[u8]>, new: &[u8], stream: u128) -> Begin {
    let base = old.map(|old| Base { root: map(old).root(), size: old.len() as u64 });
    let stream = Uuid::from_u128(stream);
    Begin { volume: Uuid::nil(), stream, geometry: geometry(new), base, created_ns: stream.as_u128() as i64 }
}

/// What the stream that makes `new` out of `old` says of each block.
pub fn entries(old: Option<&[u8]>, new: &[u8]) -> Vec<Entry> {
    let same = |at: usize, content: &[u8]| old.and_then(|old| old.chunks(BLOCK).nth(at)) == Some(content);
    let entry = |(at, content): (usize, &[u8])| match () {
        () if same(at, content) => Entry::Unchanged { count: 1 },
        () if Digest::of_block(content).is_zero() => Entry::Zero { count: 1 },
        () => Entry::Data {
            digest: Digest::of_block(content),
            codec: Codec::Stored,
            payload_offset: 0,
            payload_length: 0,
            block_length: content.len() as u32,
        },
    };
    new.chunks(BLOCK).enumerate().map(entry).collect()
}

/// A pool in a directory of its own, on a disk that the test rules.
pub struct Lab {
    pub dir: TempDir,
    pub disk: Arc<TestDisk>,
    pub stores: Arc<dyn Stores>,
    pub segment_size: u64,
}

impl Lab {
    pub fn new() -> Self {
        let (dir, disk) = (TempDir::new().unwrap(), Arc::new(TestDisk::default()));
        Self { dir, disk, stores: Arc::new(FjallStores), segment_size: 1 << 20 }
    }

    /// One whose index is in memory, for tests that open many pools.
    pub fn quick() -> Self {
        Self { stores: Arc::new(MemoryStores::default()), segment_size: 256 << 10, ..Self::new() }
    }

    /// Takes the index away from a pool that is closed.
    pub fn lose_index(&self) {
        self.stores.remove(&self.dir.path().join("index")).unwrap();
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments().iter().map(|path| std::fs::metadata(path).unwrap().len()).sum()
    }

    pub fn open(&self) -> Arc<Pool> {
        Arc::new(Pool::open(self.dir.path(), self.options()).unwrap())
    }

    /// Checks a running pool, then the same reopened, which it returns.
    pub fn also_reopened(&self, pool: Arc<Pool>, check: impl Fn(&Arc<Pool>)) -> Arc<Pool> {
        check(&pool);
        drop(pool);
        let pool = self.open();
        check(&pool);
        pool
    }

    pub fn options(&self) -> Options {
        Options {
            disk: self.disk.clone(),
            stores: self.stores.clone(),
            inline: false,
            segment_size: self.segment_size,
            new_volume: Settings::default().into(),
            now_ns: 1,
            uuid: Uuid::from_u128(77),
        }
    }

    pub fn segments(&self) -> Vec<PathBuf> {
        let mut paths: Vec<_> =
            std::fs::read_dir(self.dir.path().join("segments")).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        paths
    }
}

/// Replicates into volume `v`; the offers and needs of an online session.
pub fn replicate(pool: &Arc<Pool>, old: Option<&[u8]>, new: &[u8], stream: u128) -> Result<Point> {
    replicate_to(pool, "v", old, new, stream)
}

/// Replicates into a volume; the offers and needs of an online session.
pub fn replicate_to(pool: &Arc<Pool>, name: &str, old: Option<&[u8]>, new: &[u8], stream: u128) -> Result<Point> {
    let (mut sender, mut ingest) = start(pool, name, old, new, stream)?;
    feed(&mut sender, &mut ingest, old, new, usize::MAX)?;
    ingest.commit(&sender.commit(map(new).root()).map_err(Error::from)?)
}

pub fn start(
    pool: &Arc<Pool>,
    name: &str,
    old: Option<&[u8]>,
    new: &[u8],
    stream: u128,
) -> Result<(Sender<()>, Ingest)> {
    let begin = begin(old, new, stream);
    Ok((Sender::online(begin, 4), Ingest::begin(pool.clone(), announced(name, stream), begin)?))
}

pub fn announced(name: &str, stream: u128) -> Announced {
    let (name, new_uuid, now_ns) = (name.parse().unwrap(), Uuid::from_u128(stream), stream as i64);
    Announced { name, label: None, new_uuid, now_ns, learns: true, over: None }
}

/// Sends at most `chunks_max` chunks of 16 blocks; returns how many blocks were wanted.
pub fn feed(
    sender: &mut Sender<()>,
    ingest: &mut Ingest,
    old: Option<&[u8]>,
    new: &[u8],
    chunks_max: usize,
) -> Result<u64> {
    feed_from(0, sender, ingest, old, new, chunks_max)
}

/// The same from block `first` on.
pub fn feed_from(
    first: u64,
    sender: &mut Sender<()>,
    ingest: &mut Ingest,
    old: Option<&[u8]>,
    new: &[u8],
    chunks_max: usize,
) -> Result<u64> {
    let mut sent = 0;
    for entries in entries(old, new)[first as usize..].chunks(16).take(chunks_max) {
        if let Some(head) = sender.offer(Prepared { entries: entries.to_vec(), token: () }) {
            let wanted = ingest.offer(&head)?;
            sent += wanted.iter().filter(|wanted| **wanted).count() as u64;
            sender.need(head.sequence, &wanted)?;
        }
        send_ready(sender, ingest, new, usize::MAX)?;
    }
    Ok(sent)
}

/// Sends at most `chunks_max` chunks whose needs are known.
pub fn send_ready(sender: &mut Sender<()>, ingest: &mut Ingest, new: &[u8], chunks_max: usize) -> Result<()> {
    for _ in 0..chunks_max {
        let Some(ready) = sender.take_ready()? else { break };
        let content = |block: BlockId| new.chunks(BLOCK).nth(block.0 as usize).unwrap();
        ingest.chunk(&pack(ready.head, true, content)?)?;
    }
    Ok(())
}

/// The bytes of a point, read through its map.
pub fn read(pool: &Arc<Pool>, number: u64) -> Result<Vec<u8>> {
    read_of(pool, "v", number)
}

/// The bytes of a point of any volume, read through its map.
pub fn read_of(pool: &Arc<Pool>, name: &str, number: u64) -> Result<Vec<u8>> {
    read_view(&view(pool, name, number)?)
}

/// A view of a point.
pub fn view(pool: &Arc<Pool>, name: &str, number: u64) -> Result<PointView> {
    let entry = pool.volume(&name.parse().unwrap()).expect("the volume is there");
    let point = entry.point(number).expect("the point is there");
    PointView::open(pool, &entry.volume, point, "a test")
}

/// All bytes of a view.
pub fn read_view(view: &PointView) -> Result<Vec<u8>> {
    let mut lookup = view.lookup();
    let mut bytes = Vec::new();
    for block in 0..view.geometry().block_count() {
        match view.block(&mut lookup, BlockId(block))? {
            Some(content) => bytes.extend_from_slice(&content),
            None => bytes.resize(bytes.len() + view.geometry().block_len(BlockId(block)) as usize, 0),
        }
    }
    Ok(bytes)
}

/// Removes points of a volume.
pub fn remove(pool: &Pool, name: &str, numbers: impl IntoIterator<Item = u64>) -> Result<()> {
    pool.remove_points(&name.parse().unwrap(), &numbers.into_iter().collect(), 9)
}

/// Gives back the space of what nobody needs.
pub fn collect(pool: &Pool) -> Collected {
    pool.collect(collect::Options::default(), &AtomicBool::new(false)).unwrap()
}

/// The numbers of the points of volume `v`.
pub fn numbers(pool: &Pool) -> Vec<u64> {
    numbers_of(pool, "v")
}

/// The numbers of the points of a volume.
pub fn numbers_of(pool: &Pool, name: &str) -> Vec<u64> {
    let entry = pool.volume(&name.parse().unwrap());
    entry.map_or(Vec::new(), |entry| entry.points.iter().map(|point| point.number).collect())
}

/// Brings the secondary of `v` up to date and returns its bytes.
pub fn settle(pool: &Arc<Pool>) -> Result<Vec<u8>> {
    let volume = pool.volume(&"v".parse().unwrap()).unwrap().volume.clone();
    Secondaries::new(pool.clone()).settle(&volume)?;
    Ok(std::fs::read(pool.dir().join("volumes/v/secondary.raw")).unwrap())
}

/// The bytes of a simulated device.
pub const DEVICE_BYTES: u64 = 64 << 10;

/// The real disk, with a limit of its space, an operation at which it fails, and files that are devices: those called
/// `device...`, whose identity is in a file beside them.
#[derive(Debug)]
pub struct TestDisk {
    pub free: AtomicU64,
    /// Whether files can share bytes.
    pub shares: AtomicBool,
    failure: Failure,
    /// 2: once a file was removed; 1: next; 0: not.
    fail_dir_sync: AtomicU64,
    /// Devices that somebody uses.
    pub used: Arc<Mutex<BTreeSet<PathBuf>>>,
    hooks: Arc<Hooks>,
    /// The most files that were open at the same time.
    pub open_most: AtomicU64,
    /// Shared by all files that are open.
    open: Arc<()>,
}

type Hook = Mutex<Option<Box<dyn FnOnce() + Send>>>;

/// What happens, once, in the middle of the next such operation: for interleavings that threads hardly ever meet.
#[derive(Default)]
pub struct Hooks {
    read: Hook,
    sync: Hook,
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooks")
    }
}

fn call(hook: &Hook) {
    let hook = hook.lock().unwrap().take();
    hook.into_iter().for_each(|hook| hook());
}

/// Writes, syncs and removals count down; the one that comes to 0 fails.
#[derive(Debug, Clone, Default)]
struct Failure {
    left: Arc<AtomicU64>,
    error: Arc<AtomicU64>,
}

impl Failure {
    fn step(&self) -> io::Result<()> {
        let less = |left: u64| left.checked_sub(1).filter(|_| left < u64::MAX);
        match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
            Ok(1) => Err(io::Error::from_raw_os_error(self.error.load(Ordering::SeqCst) as i32)),
            _ => Ok(()),
        }
    }
}

impl Default for TestDisk {
    fn default() -> Self {
        let failure = Failure::default();
        failure.left.store(u64::MAX, Ordering::SeqCst);
        Self {
            free: AtomicU64::new(u64::MAX),
            shares: AtomicBool::new(false),
            failure,
            fail_dir_sync: AtomicU64::new(0),
            used: Arc::default(),
            hooks: Arc::default(),
            open_most: AtomicU64::new(0),
            open: Arc::default(),
        }
    }
}

impl TestDisk {
    /// Calls this before the next read of a file.
    pub fn on_read(&self, hook: impl FnOnce() + Send + 'static) {
        *self.hooks.read.lock().unwrap() = Some(Box::new(hook));
    }

    /// Calls this before the next sync of a file.
    pub fn on_sync(&self, hook: impl FnOnce() + Send + 'static) {
        *self.hooks.sync.lock().unwrap() = Some(Box::new(hook));
    }

    /// The sync of a directory after the next removal fails, once.
    pub fn fail_dir_sync(&self) {
        self.fail_dir_sync.store(2, Ordering::SeqCst);
    }

    /// The `n`th write, sync or removal from now on fails with this `errno`, once.
    pub fn fail_at(&self, n: u64, errno: u64) {
        self.failure.error.store(errno, Ordering::SeqCst);
        self.failure.left.store(n, Ordering::SeqCst);
    }

    /// Whether the failure that was asked for came.
    pub fn failed(&self) -> bool {
        self.left() == 0
    }

    /// How many operations were left to the failure, which does not come any more.
    pub fn left(&self) -> u64 {
        self.failure.left.swap(u64::MAX, Ordering::SeqCst)
    }
}

fn is_device(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("device"))
}

/// A device in use; free again when this is dropped.
#[derive(Debug)]
struct Used(Arc<Mutex<BTreeSet<PathBuf>>>, PathBuf);

impl Drop for Used {
    fn drop(&mut self) {
        self.0.lock().unwrap().remove(&self.1);
    }
}

impl Disk for TestDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let used = match access {
            Access::Device if !self.used.lock().unwrap().insert(path.to_owned()) => {
                return Err(io::ErrorKind::ResourceBusy.into());
            }
            Access::Device => Some(Used(self.used.clone(), path.to_owned())),
            _ => None,
        };
        let file = RealDisk.open(path, if used.is_some() { Access::Write } else { access })?;
        let (failure, hooks) = (self.failure.clone(), self.hooks.clone());
        let file = TestFile { file, failure, hooks, used, _open: self.open.clone() };
        self.open_most.fetch_max(Arc::strong_count(&self.open) as u64 - 1, Ordering::SeqCst);
        Ok(Arc::new(file))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.failure.step()?;
        let _ = self.fail_dir_sync.compare_exchange(2, 1, Ordering::SeqCst, Ordering::SeqCst);
        RealDisk.remove(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        RealDisk.lock(path)
    }
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.make_dir(dir)
    }
    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.remove_dir(dir)
    }
    fn device(&self, path: &Path) -> io::Result<Device> {
        let found = std::fs::metadata(path)?;
        let identity = std::fs::read_to_string(path.with_extension("identity")).unwrap_or_default();
        match is_device(path) {
            true => Ok(Device { number: found.ino(), size: found.len(), identity, mounts: Vec::new() }),
            false => RealDisk.device(path),
        }
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.fail_dir_sync.compare_exchange(1, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            return Err(io::Error::from_raw_os_error(5));
        }
        RealDisk.sync_dir(dir)
    }
    fn free(&self, _: &Path) -> io::Result<u64> {
        Ok(self.free.load(Ordering::SeqCst))
    }
    fn shares_from(&self, _: &Path) -> Option<usize> {
        self.shares.load(Ordering::SeqCst).then_some(BLOCK)
    }
}

#[derive(Debug)]
struct TestFile {
    file: Arc<dyn DiskFile>,
    failure: Failure,
    hooks: Arc<Hooks>,
    used: Option<Used>,
    _open: Arc<()>,
}

impl DiskFile for TestFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        call(&self.hooks.read);
        self.file.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.failure.step()?;
        self.file.write_at(bytes, offset)
    }
    fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        self.failure.step()?;
        self.file.zero(offset, length)
    }
    fn sync(&self) -> io::Result<()> {
        call(&self.hooks.sync);
        self.failure.step()?;
        self.file.sync()
    }
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn resize(&self, length: u64) -> io::Result<()> {
        assert!(self.used.is_none(), "a device has the size that it has");
        self.file.resize(length)
    }
    fn next_data(&self, offset: u64) -> io::Result<u64> {
        if self.used.is_some() { Ok(offset) } else { self.file.next_data(offset) }
    }
}
