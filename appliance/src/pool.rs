//! The pool: where the appliance keeps everything, as a directory on its disks.
//!
//! What may run at the same time, and why it is safe:
//!
//! | | stream | read (NBD, restore) | apply to a secondary | remove points | collect | scrub |
//! |---|---|---|---|---|---|---|
//! | **stream** | one per volume; the [`log`] is the one owner of appending; a group commits as one ([`Pool::commit`]) | a read sees points only, a point is published whole | applying starts after the commit | its base is leased | what it relies on is pinned ([`live`]) | a damaged record is sent again |
//! | **read** | | immutable records, any number | reads records, never the image | its point is leased | a record that moved is looked up again | |
//! | **apply** | | | one thread a volume | its points are leased | as read | one at a time for a volume |
//! | **remove** | | | | one at a time | the roots are those of one moment | |
//! | **collect** | | | | | one at a time | a segment that vanishes is passed over |
//!
//! Opening excludes everything else, by the lock. Invariants: a record that is durable never changes; whatever is read is
//! checked against its digest first; a record that fails is not deduplicated against again; the [`index`] is a cache of the
//! segments ([`recovery`] replays what it lacks). The pool knows no sockets, no streams' framing, no clock.

pub mod catalogue;
pub mod check;
pub mod collect;
mod commit;
pub mod directory;
pub mod disk;
pub mod ephemeral;
mod figures;
pub mod heal;
pub mod index;
pub mod live;
pub mod log;
mod mark;
mod new_volumes;
mod pages;
mod pending;
pub mod record;
pub mod recovery;
pub mod segments;
pub mod space;
pub mod store;
mod writer;

use crate::error::{Error, Result};
use crate::locks;
use bytes::Bytes;
use catalogue::Catalogue;
pub use catalogue::VolumeEntry;
pub use commit::NewPoint;
use directory::{identity, lock, open_index, prepare};
use disk::{Disk, Lock};
use ephemeral::Ephemerals;
pub use figures::Figures;
use index::Index;
use live::{HolderId, Lease, Live, OVERLAY};
use log::{Epoch, Log, Parts, Purpose};
pub use new_volumes::NewVolumes;
pub use pages::{Pages, PagesAtHand};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use record::Record;
use segments::Segments;
use space::Space;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use store::Stores;
use understudy_format::Digest;
use understudy_format::catalogue::{ProtectionRecord, RemovalRecord, Settings};
use understudy_format::codec::Codec;
use understudy_format::map::Page;
use understudy_format::point::{MOMENT, Point, Volume, VolumeName};
use understudy_format::segment::{Kind, NewRecord};
use understudy_format::session::Progress;
use uuid::Uuid;

/// Memory for decoded blocks, bytes.
const BLOCK_CACHE_BYTES: u64 = 32 << 20;
/// Map pages that are kept: 8 KiB each.
const PAGE_CACHE_PAGES: usize = 2048;
/// The size at which a segment is sealed on a large disk, bytes.
pub const SEGMENT_SIZE: u64 = 256 << 20;

/// What opening a pool needs from outside.
#[derive(Debug, Clone)]
pub struct Options {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// What the index is kept in.
    pub stores: Arc<dyn Stores>,
    /// Whether appending threads write themselves: slower, and the order of all operations is always the same.
    pub inline: bool,
    /// The size at which a segment is sealed, bytes.
    pub segment_size: u64,
    /// What is set for volumes that come to be.
    pub new_volume: NewVolumes,
    /// For the record of a new pool.
    pub now_ns: i64,
    /// The name of a new pool.
    pub uuid: Uuid,
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
    catalogue: RwLock<Catalogue>,
    /// Held while a record of the catalogue is appended and made durable: so their order is that of their effects.
    recording: Mutex<()>,
    collecting: Mutex<()>,
    live: Arc<Live>,
    ephemerals: Ephemerals,
    new_volume: NewVolumes,
    pages: Cache<Digest, Arc<Page>>,
    blocks: Cache<Digest, Bytes, ByLength>,
    /// Held while the pool is open.
    _lock: Box<dyn Lock>,
}

impl Pool {
    /// Opens the pool in `dir`; a directory that is absent or empty becomes a new pool.
    pub fn open(dir: &Path, options: Options) -> Result<Self> {
        let Options { disk, segment_size, inline, .. } = options.clone();
        prepare(&*disk, dir)?;
        let lock = lock(&*disk, dir)?;
        let uuid = identity(dir, &options)?;
        let segments = Arc::new(Segments::new(disk.clone(), dir.join("segments")));
        let index = Arc::new(open_index(&*options.stores, &dir.join("index"))?);
        let end = recovery::recover(&*disk, &segments, &index, uuid)?;
        index.sync()?;
        let space = Space::of(disk.clone(), dir, segment_size);
        let parts = Parts {
            disk: disk.clone(),
            segments: segments.clone(),
            index: index.clone(),
            pool: uuid,
            segment_size,
            space: space.clone(),
            shares_from: disk.shares_from(dir),
            inline,
        };
        let log = Log::new(parts, end)?;
        let blocks = BLOCK_CACHE_BYTES / u64::from(understudy_format::geometry::BLOCK_SIZE_DEFAULT);
        Ok(Self {
            dir: dir.to_owned(),
            uuid,
            disk,
            catalogue: RwLock::new(Catalogue::load(&index)?),
            index,
            segments,
            space,
            log,
            recording: Mutex::default(),
            collecting: Mutex::default(),
            live: Arc::default(),
            ephemerals: Ephemerals::default(),
            new_volume: options.new_volume,
            pages: Cache::new(PAGE_CACHE_PAGES),
            blocks: Cache::with_weighter(blocks as usize, BLOCK_CACHE_BYTES, ByLength),
            _lock: lock,
        })
    }

    /// Opens a pool with an index that is made anew from the segments.
    pub fn reindex(dir: &Path, options: Options) -> Result<Self> {
        let _lock = lock(&*options.disk, dir)?;
        options.stores.remove(&dir.join("index"))?;
        drop(_lock);
        Self::open(dir, options)
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
    pub fn volumes(&self) -> Vec<Arc<VolumeEntry>> {
        locks::read(&self.catalogue).volumes()
    }

    /// A volume by name.
    pub fn volume(&self, name: &VolumeName) -> Option<Arc<VolumeEntry>> {
        locks::read(&self.catalogue).volume(name)
    }

    /// A point by the volume's UUID and its number; also of a moment that is open.
    pub fn point(&self, volume: &Uuid, number: u64) -> Option<(Volume, Point)> {
        if number >= MOMENT {
            return Some(self.ephemerals.find(volume, number)?.point());
        }
        let entry = locks::read(&self.catalogue).volume_by_uuid(volume)?;
        Some((entry.volume.clone(), entry.point(number)?.clone()))
    }

    /// The number of the next point of a volume: no other point of it, removed or not, has it.
    pub fn next_number(&self, volume: &Uuid) -> u64 {
        locks::read(&self.catalogue).next_number(volume)
    }

    /// How far an interrupted stream into a volume came, while it can go on.
    pub fn progress(&self, name: &VolumeName) -> Option<Arc<Progress>> {
        locks::read(&self.catalogue).progress(name)
    }

    /// Keeps a point from being removed while the lease exists; `None` when it is gone already.
    pub fn lease(&self, volume: &Uuid, number: u64, by: &'static str) -> Option<Lease> {
        if number >= MOMENT {
            let moment = self.ephemerals.find(volume, number)?;
            return Some(self.live.lease(*volume, number, by, Some(moment)));
        }
        let catalogue = locks::read(&self.catalogue);
        catalogue.volume_by_uuid(volume)?.point(number)?;
        Some(self.live.lease(*volume, number, by, None))
    }

    /// The same of a point that was there when it was looked up.
    pub fn leased(&self, volume: &Volume, point: &Point, by: &'static str) -> Result<Lease> {
        let gone = || Error::refused(format!("point {}@{} was removed", volume.name, point.number));
        self.lease(&volume.uuid, point.number, by).ok_or_else(gone)
    }

    /// Who uses a point at present.
    pub fn users(&self, volume: &Uuid, number: u64) -> Vec<&'static str> {
        self.live.users(*volume, number)
    }

    /// Reserves a volume for one stream, by name and, unless that is nil, by UUID.
    pub fn begin_stream(self: &Arc<Self>, name: &VolumeName, uuid: Uuid) -> Result<StreamGuard> {
        let epoch = self.log.begin()?;
        let busy =
            || Error::Busy(format!("volume {name} is being written by another stream; try again when it is done"));
        let holder = self.live.begin_stream(name, uuid).ok_or_else(busy)?;
        Ok(StreamGuard { pool: self.clone(), holder, epoch })
    }

    /// What must stay free on the pool's disk.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The length of a block that is stored or will be with the next commit; `None` when it is lacking.
    ///
    /// The stream may rely on it from now on.
    pub fn block_length(&self, guard: &StreamGuard, digest: &Digest) -> Result<Option<u32>> {
        let _pinning = self.live.pinning();
        let location = self.log.location(digest)?.filter(|location| location.kind == Kind::Block as u8);
        location.iter().for_each(|location| self.live.pin(guard.holder, location));
        Ok(location.map(|location| location.content_length))
    }

    /// Fails when the stream ended because a write failed, whosever that was: then what it relied on may be gone.
    pub fn check_stream(&self, guard: &StreamGuard) -> Result<()> {
        self.log.check(guard.epoch)
    }

    /// Stores an encoded block whose content has this digest; returns the bytes that were added.
    pub fn store_block(
        &self,
        guard: &StreamGuard,
        digest: Digest,
        codec: Codec,
        length: u32,
        stored: &[u8],
    ) -> Result<u64> {
        self.store(guard, &NewRecord { kind: Kind::Block, codec, digest, content_length: length, stored })
    }

    fn store(&self, guard: &StreamGuard, record: &NewRecord<'_>) -> Result<u64> {
        let pinning = self.live.pinning();
        let (location, added) = self.log.store(guard.epoch, record, Purpose::Stream)?;
        self.live.pin(guard.holder, &location);
        drop(pinning);
        if added > 0
            && let Some(damaged) = self.index.get_damaged(&record.digest)?
        {
            // Streams that were told not to send it rely on this one now.
            let _sweep = self.live.sweep();
            self.live.moved(&damaged, &location);
        }
        Ok(added)
    }

    /// Records how far a stream came, after all that it brought: durable when this returns.
    pub fn save_progress(&self, guard: &StreamGuard, progress: Progress) -> Result<()> {
        self.log.sync(guard.epoch)?;
        let _recording = locks::lock(&self.recording);
        self.log.enter(guard.epoch, Record::Progress(Box::new(progress.clone())), Purpose::Stream)?;
        self.log.sync(guard.epoch)?;
        locks::write(&self.catalogue).save_progress(Arc::new(progress));
        Ok(())
    }

    /// Removes points for good: durable when this returns. Points that are in use, and the newest of a volume unless all
    /// of its points go, are refused.
    pub fn remove_points(&self, name: &VolumeName, numbers: &BTreeSet<u64>, now_ns: i64) -> Result<()> {
        let epoch = self.log.begin()?;
        let _recording = locks::lock(&self.recording);
        // Leases are given under the read lock: none can come between looking and removing.
        let mut catalogue = locks::write(&self.catalogue);
        let entry = catalogue.volume(name).ok_or_else(|| no_volume(name))?;
        self.check_removable(&entry, numbers)?;
        for number in numbers {
            let key = Record::Removal(RemovalRecord::new(entry.volume.uuid, *number, now_ns, 0)).key();
            let segment = self.index.catalogue_entry(&key)?.map_or(0, |(_, place)| place.segment);
            let removal = RemovalRecord::new(entry.volume.uuid, *number, now_ns, segment);
            self.log.enter(epoch, Record::Removal(removal), Purpose::Upkeep)?;
        }
        self.log.sync(epoch)?;
        catalogue.remove_points(name, numbers, now_ns);
        Ok(())
    }

    fn check_removable(&self, entry: &VolumeEntry, numbers: &BTreeSet<u64>) -> Result<()> {
        let (name, volume) = (&entry.volume.name, entry.volume.uuid);
        for number in numbers {
            let point = entry.point(*number);
            point.ok_or_else(|| Error::refused(format!("there is no point {name}@{number}")))?;
            if let Some(user) = self.live.users(volume, *number).first() {
                let what_to_do = match *user {
                    OVERLAY => format!("`understudy attach discard {name}@{number}` removes that first"),
                    _ => "try again when it is done".to_owned(),
                };
                return Err(Error::Busy(format!("{name}@{number} is in use by {user}; {what_to_do}")));
            }
        }
        if numbers.len() == entry.points.len() && self.live.is_streaming(name) {
            return Err(Error::Busy(format!("{name} is being written by a stream; try again when it is done")));
        }
        let newest = entry.newest().map(|point| point.number);
        match newest.filter(|newest| numbers.contains(newest) && numbers.len() < entry.points.len()) {
            Some(newest) => Err(Error::refused(format!("{name}@{newest} is the newest point of its volume and stays"))),
            None => Ok(()),
        }
    }

    /// Protects points from retention, or ends that: durable when this returns.
    pub fn protect(&self, name: &VolumeName, numbers: &BTreeSet<u64>, protected: bool) -> Result<()> {
        let epoch = self.log.begin()?;
        let _recording = locks::lock(&self.recording);
        let entry = self.known(name)?;
        if let Some(absent) = numbers.iter().find(|number| entry.point(**number).is_none()) {
            return Err(Error::refused(format!("there is no point {name}@{absent}")));
        }
        for number in numbers {
            let record = ProtectionRecord::new(entry.volume.uuid, *number, protected);
            self.log.enter(epoch, Record::Protection(record), Purpose::Upkeep)?;
        }
        self.log.sync(epoch)?;
        locks::write(&self.catalogue).change(name, |entry| match protected {
            true => entry.protected.extend(numbers),
            false => entry.protected.retain(|number| !numbers.contains(number)),
        });
        Ok(())
    }

    /// Changes what is set for a volume: durable when this returns. Two changes at once come one after the other.
    pub fn set(&self, name: &VolumeName, change: impl FnOnce(&mut Settings)) -> Result<()> {
        let epoch = self.log.begin()?;
        let _recording = locks::lock(&self.recording);
        let entry = self.known(name)?;
        let (volume, mut settings) = (entry.volume.uuid, entry.settings.clone());
        change(&mut settings);
        self.log.enter(epoch, Record::Settings(volume, settings.clone()), Purpose::Upkeep)?;
        self.log.sync(epoch)?;
        locks::write(&self.catalogue).change(name, |entry| entry.settings = settings);
        Ok(())
    }

    /// A volume that must be there.
    pub fn known(&self, name: &VolumeName) -> Result<Arc<VolumeEntry>> {
        self.volume(name).ok_or_else(|| no_volume(name))
    }

    /// The content of a block, checked against its digest, which is not [`Digest::ZERO`].
    pub fn block(&self, digest: Digest) -> Result<Bytes> {
        self.blocks.get_or_insert_with(&digest, || self.read(Kind::Block, digest))
    }

    /// The same, by a way that may be shorter; what comes by it was checked, too.
    pub fn block_or(&self, digest: Digest, shorter: impl FnOnce() -> Option<Bytes>) -> Result<Bytes> {
        self.blocks.get_or_insert_with(&digest, || shorter().map_or_else(|| self.read(Kind::Block, digest), Ok))
    }

    /// Whether the content of a block is in memory.
    pub fn has_at_hand(&self, digest: &Digest) -> bool {
        self.blocks.contains_key(digest)
    }

    /// The content of a block, if that is in memory.
    pub fn block_at_hand(&self, digest: &Digest) -> Option<Bytes> {
        self.blocks.get(digest)
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
            None => {
                let damaged = self.index.get_damaged(&digest)?.filter(|location| !location.is_nowhere());
                damaged.ok_or(Error::Missing { what, digest })?
            }
        };
        match self.segments.read(location, kind, digest) {
            // It was moved, and its segment removed, since it was looked up.
            Err(_) if self.index.get(&digest)?.is_some_and(|now| now != location) => self.read(kind, digest),
            Err(error @ Error::Damaged { .. }) if known.is_some() => {
                tracing::error!(%error, "not deduplicated against any more");
                self.index.mark_damaged(&digest, location)?;
                Err(error)
            }
            content => content,
        }
    }

    /// The pages of the pool, for reading maps and, for a stream, for building one.
    pub fn pages<'a>(&'a self, guard: Option<&'a StreamGuard>) -> Pages<'a> {
        Pages { pool: self, guard, stored_bytes: 0 }
    }
}

/// Of a stream, for which a volume is reserved, or of a moment: what it relies on stays until this is dropped.
#[derive(Debug)]
pub struct StreamGuard {
    pool: Arc<Pool>,
    holder: HolderId,
    epoch: Epoch,
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.pool.live.end(self.holder);
    }
}

fn no_volume(name: &VolumeName) -> Error {
    Error::refused(format!("there is no volume {name} in this pool"))
}
