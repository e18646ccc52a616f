//! The pool: where the appliance keeps everything, as a directory on its disks.
//!
//! What may run at the same time, and why it is safe:
//!
//! | | stream | read (NBD, restore) | apply to a secondary | open |
//! |---|---|---|---|---|
//! | **stream** | one per volume; the [`log`] is the one owner of appending | a read sees points only, a point is published whole | applying starts after the commit | excluded by the lock |
//! | **read** | | immutable records, any number | reads records, never the image | excluded |
//! | **apply** | | | one thread a volume | excluded |
//!
//! Invariants: a record that is durable never changes; whatever is read is checked against its digest
//! first; a record that fails is not deduplicated against again; the [`index`] is a cache of the
//! segments ([`recovery`] replays what it lacks). The pool knows no sockets, no streams' framing, no clock.

pub mod disk;
pub mod index;
pub mod log;
pub mod recovery;
pub mod segments;
pub mod space;
mod writer;

use crate::error::{Error, Result, at};
use crate::locks;
use bytes::Bytes;
use disk::Disk;
use index::Index;
use log::{Entry, Epoch, Log};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use segments::Segments;
use space::Space;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use understudy_format::Digest;
use understudy_format::codec::{Codec, encode_into};
use understudy_format::map::{Page, PageStore};
use understudy_format::point::{Point, Volume, VolumeName};
use understudy_format::pool::PoolRecord;
use understudy_format::segment::{Kind, NewRecord};
use uuid::Uuid;

/// Memory for decoded blocks, bytes.
const BLOCK_CACHE_BYTES: u64 = 32 << 20;
/// Map pages that are kept: 8 KiB each.
const PAGE_CACHE_PAGES: usize = 2048;
/// The size at which a segment is sealed, bytes.
pub const SEGMENT_SIZE: u64 = 256 << 20;

/// What opening a pool needs from outside.
#[derive(Debug, Clone)]
pub struct Options {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The size at which a segment is sealed, bytes.
    pub segment_size: u64,
    /// For the record of a new pool.
    pub now_ns: i64,
    /// The name of a new pool.
    pub uuid: Uuid,
}

/// A volume with its points, ascending.
#[derive(Debug, Clone)]
pub struct VolumeEntry {
    /// As recorded.
    pub volume: Volume,
    /// Ascending.
    pub points: Vec<Point>,
}

#[derive(Debug, Clone)]
struct ByLength;

impl Weighter<Digest, Bytes> for ByLength {
    fn weight(&self, _: &Digest, block: &Bytes) -> u64 {
        block.len() as u64 + 64
    }
}

/// See the module documentation.
#[derive(Debug)]
pub struct Pool {
    dir: PathBuf,
    uuid: Uuid,
    disk: Arc<dyn Disk>,
    index: Arc<Index>,
    segments: Arc<Segments>,
    space: Space,
    log: Log,
    catalogue: RwLock<BTreeMap<VolumeName, VolumeEntry>>,
    streaming: Arc<Mutex<HashMap<VolumeName, Uuid>>>,
    pages: Cache<Digest, Arc<Page>>,
    blocks: Cache<Digest, Bytes, ByLength>,
    /// Held while the pool is open.
    _lock: std::fs::File,
}

impl Pool {
    /// Opens the pool in `dir`; a directory that is absent or empty becomes a new pool.
    pub fn open(dir: &Path, options: Options) -> Result<Self> {
        let Options { disk, segment_size, .. } = options.clone();
        prepare(&*disk, dir)?;
        let lock = lock(dir)?;
        let uuid = identity(dir, &options)?;
        let segments = Arc::new(Segments::new(disk.clone(), dir.join("segments")));
        let index = Arc::new(open_index(&dir.join("index"))?);
        let end = recovery::recover(&*disk, &segments, &index, uuid)?;
        index.sync()?;
        let space = Space::of(disk.clone(), dir);
        let log = Log::new(disk.clone(), segments.clone(), index.clone(), uuid, segment_size, space.clone(), end)?;
        let blocks = BLOCK_CACHE_BYTES / u64::from(understudy_format::geometry::BLOCK_SIZE_DEFAULT);
        Ok(Self {
            dir: dir.to_owned(),
            uuid,
            disk,
            catalogue: RwLock::new(catalogue(&index)?),
            index,
            segments,
            space,
            log,
            streaming: Arc::default(),
            pages: Cache::new(PAGE_CACHE_PAGES),
            blocks: Cache::with_weighter(blocks as usize, BLOCK_CACHE_BYTES, ByLength),
            _lock: lock,
        })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The disk.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// The name of the pool.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// All volumes, by name.
    pub fn volumes(&self) -> Vec<VolumeEntry> {
        locks::read(&self.catalogue).values().cloned().collect()
    }

    /// A volume by name.
    pub fn volume(&self, name: &VolumeName) -> Option<VolumeEntry> {
        locks::read(&self.catalogue).get(name).cloned()
    }

    /// A point by the volume's UUID and its number.
    pub fn point(&self, volume: &Uuid, number: u64) -> Option<(Volume, Point)> {
        let catalogue = locks::read(&self.catalogue);
        let entry = catalogue.values().find(|entry| entry.volume.uuid == *volume)?;
        let at = entry.points.binary_search_by_key(&number, |point| point.number).ok()?;
        Some((entry.volume.clone(), entry.points[at].clone()))
    }

    /// Reserves a volume for one stream, by name and, unless that is nil, by UUID.
    pub fn begin_stream(&self, name: &VolumeName, uuid: Uuid) -> Result<StreamGuard> {
        let epoch = self.log.begin()?;
        let mut streaming = locks::lock(&self.streaming);
        let same_uuid = !uuid.is_nil() && streaming.values().any(|other| *other == uuid);
        if streaming.contains_key(name) || same_uuid {
            let reason = format!("volume {name} is being written by another stream; try again when it is done");
            return Err(Error::Busy(reason));
        }
        streaming.insert(name.clone(), uuid);
        Ok(StreamGuard { streaming: self.streaming.clone(), name: name.clone(), epoch })
    }

    /// What must stay free on the pool's disk.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The length of a block that is stored or will be with the next commit; `None` when it is lacking.
    pub fn block_length(&self, digest: &Digest) -> Result<Option<u32>> {
        self.log.block_length(digest)
    }

    /// Stores an encoded block whose content has this digest; returns the bytes that were added.
    pub fn store_block(&self, epoch: Epoch, digest: Digest, codec: Codec, length: u32, stored: &[u8]) -> Result<u64> {
        self.log.store(epoch, &NewRecord { kind: Kind::Block, codec, digest, content_length: length, stored })
    }

    /// Commits a point, and its volume when it is new: durable when this returns.
    ///
    /// The order is that of SPEC.md: segment bytes, directory entries, index, then the point record.
    pub fn commit(&self, epoch: Epoch, volume: &Volume, point: Point) -> Result<()> {
        let is_new = self.volume(&volume.name).is_none();
        if is_new {
            self.log.enter(epoch, Entry::Volume(volume.clone()))?;
        }
        self.log.sync(epoch)?;
        self.index.sync()?;
        self.log.enter(epoch, Entry::Point(point.clone()))?;
        self.log.sync(epoch)?;
        let mut catalogue = locks::write(&self.catalogue);
        let fresh = || VolumeEntry { volume: volume.clone(), points: Vec::new() };
        catalogue.entry(volume.name.clone()).or_insert_with(fresh).points.push(point);
        Ok(())
    }

    /// The content of a block, checked against its digest, which is not [`Digest::ZERO`].
    pub fn block(&self, digest: Digest) -> Result<Bytes> {
        self.blocks.get_or_insert_with(&digest, || self.read(Kind::Block, digest))
    }

    /// The content of a block that will hardly be read again: past the cache.
    pub fn block_once(&self, digest: Digest) -> Result<Bytes> {
        match self.blocks.get(&digest) {
            Some(block) => Ok(block),
            None => self.read(Kind::Block, digest),
        }
    }

    /// A map page.
    pub fn page(&self, digest: Digest) -> Result<Arc<Page>> {
        if let Some(page) = self.pages.get(&digest) {
            return Ok(page);
        }
        let page = Arc::new(Page::checked(&self.read(Kind::Page, digest)?, digest)?);
        self.pages.insert(digest, page.clone());
        Ok(page)
    }

    fn read(&self, kind: Kind, digest: Digest) -> Result<Bytes> {
        let what = if kind == Kind::Page { "map page" } else { "block" };
        let known = self.index.get(&digest)?;
        let location = match known {
            Some(location) => location,
            None => self.index.get_damaged(&digest)?.ok_or(Error::Missing { what, digest })?,
        };
        let content = self.segments.read(location, kind, digest);
        if let (Err(error @ Error::Damaged { .. }), Some(_)) = (&content, known) {
            tracing::error!(%error, "not deduplicated against any more");
            self.index.mark_damaged(&digest, location)?;
        }
        content
    }

    /// The pages of the pool, for reading maps and, within an epoch, for building one.
    pub fn pages(&self, epoch: Option<Epoch>) -> Pages<'_> {
        Pages { pool: self, epoch, stored_bytes: 0 }
    }
}

/// The pool as a store of map pages.
#[derive(Debug)]
pub struct Pages<'a> {
    pool: &'a Pool,
    epoch: Option<Epoch>,
    /// Bytes that were added to segments.
    pub stored_bytes: u64,
}

impl PageStore for Pages<'_> {
    type Error = Error;

    fn load(&mut self, digest: Digest) -> Result<Arc<Page>> {
        self.pool.page(digest)
    }

    fn store(&mut self, digest: Digest, page: &Page) -> Result<()> {
        let epoch = self.epoch.ok_or_else(|| Error::refused("pages are stored by streams only"))?;
        let mut stored = Vec::new();
        let codec = encode_into(page.bytes(), &mut stored);
        let content_length = page.bytes().len() as u32;
        let record = NewRecord { kind: Kind::Page, codec, digest, content_length, stored: &stored };
        self.stored_bytes += self.pool.log.store(epoch, &record)?;
        Ok(())
    }
}

/// One volume reserved for one stream; free again when this is dropped.
#[derive(Debug)]
pub struct StreamGuard {
    streaming: Arc<Mutex<HashMap<VolumeName, Uuid>>>,
    name: VolumeName,
    epoch: Epoch,
}

impl StreamGuard {
    /// What the stream appends with.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        locks::lock(&self.streaming).remove(&self.name);
    }
}

/// Makes the directories of a pool, unless `dir` holds something else.
fn prepare(disk: &dyn Disk, dir: &Path) -> Result<()> {
    disk.make_dir(dir).map_err(at(dir))?;
    let names = disk.list(dir).map_err(at(dir))?;
    let ours = ["pool", "pool.new", "lock", "segments", "index", "volumes", "lost+found"];
    if !names.iter().any(|name| name == "pool") && names.iter().any(|name| !ours.contains(&name.as_str())) {
        let reason = format!("{} is neither a pool nor an empty directory; name another one", dir.display());
        return Err(Error::Refused(reason));
    }
    for name in ["segments", "volumes"] {
        disk.make_dir(&dir.join(name)).map_err(at(dir))?;
    }
    disk.sync_dir(dir).map_err(at(dir))
}

fn lock(dir: &Path) -> Result<std::fs::File> {
    let path = dir.join("lock");
    let file = std::fs::File::options().create(true).truncate(false).write(true).open(&path).map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::Busy(format!(
            "the pool {} is in use by another understudyd; stop that one first or name another pool",
            dir.display()
        ))),
        Err(std::fs::TryLockError::Error(source)) => Err(at(&path)(source)),
    }
}

fn identity(dir: &Path, options: &Options) -> Result<Uuid> {
    let path = dir.join("pool");
    if let Some(bytes) = disk::read_all(&*options.disk, &path).map_err(at(&path))? {
        return Ok(PoolRecord::decode(&bytes)?.pool);
    }
    let record = PoolRecord::new(options.uuid, options.now_ns);
    disk::replace(&*options.disk, &path, &record.encode()).map_err(at(&path))?;
    Ok(record.pool)
}

/// The index is a cache: one that cannot be opened is made anew from the segments.
fn open_index(dir: &Path) -> Result<Index> {
    match Index::open(dir) {
        Err(Error::Index(error)) if !matches!(error, fjall::Error::Io(_) | fjall::Error::Locked) => {
            tracing::warn!(%error, "the index cannot be opened and is rebuilt from the segments");
            std::fs::remove_dir_all(dir).map_err(at(dir))?;
            Index::open(dir)
        }
        index => index,
    }
}

/// A volume is there once it has a point: one that was recorded for a stream that never committed is not.
fn catalogue(index: &Index) -> Result<BTreeMap<VolumeName, VolumeEntry>> {
    let entry = |volume: Volume| {
        let points = index.points(&volume.uuid)?;
        Ok((volume.name.clone(), VolumeEntry { volume, points }))
    };
    let entries = index.volumes()?.into_iter().map(entry).collect::<Result<Vec<_>>>()?;
    Ok(entries.into_iter().filter(|(_, entry)| !entry.points.is_empty()).collect())
}
