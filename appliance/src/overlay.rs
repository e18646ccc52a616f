//! Scratch overlays: points that may be written, without being changed.
//!
//! `NAME@POINT+w` over NBD is one overlay ([`Overlay`]), shared by all who open it, there until it is discarded or the pool is
//! gone; it can be kept as the first point of a new volume ([`keep`]). Invariants: a point with an overlay, whatever state
//! that is in, is leased, so it is not removed; an overlay is used only over the very point that it was made over; one that
//! somebody wrote to or uses is discarded only by force; this is the only owner of the directory `overlays` of a pool.

mod alone;
pub mod asked;
mod bits;
mod files;
mod keep;
mod scratch;
#[cfg(test)]
mod tests;

use alone::Alone;
pub use keep::{Given, Kept};
pub use scratch::Overlay;

use crate::error::{Error, Result, at};
use crate::export::PointExport;
use crate::locks::lock;
use crate::pool::Pool;
use crate::pool::live::{Lease, OVERLAY};
use crate::view::PointView;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use understudy_format::overlay::Header;
use understudy_format::point::{Point, Volume, VolumeName};
use understudy_format::wire::{OverlayInfo, OverlayStatus};
use understudy_net::export::Export;
use uuid::Uuid;

/// What follows the name of a point in that of its overlay.
pub const SUFFIX: &str = "+w";

type Key = (VolumeName, u64);

/// All overlays of a pool.
#[derive(Debug)]
pub struct Overlays {
    pool: Arc<Pool>,
    all: Mutex<BTreeMap<Key, Entry>>,
}

#[derive(Debug)]
struct Entry {
    header: Option<Header>,
    /// Why it cannot be opened, otherwise.
    overlay: Result<Arc<Overlay>, String>,
    /// The point stays; there is none when it is gone already.
    _lease: Option<Lease>,
    /// What is done with it as a whole ([`alone`]).
    busy: Option<&'static str>,
}

/// What an overlay is over must be there as long as the overlay, also after a restart.
fn check_recorded(volume: &Volume, point: &Point) -> Result<()> {
    let name = &volume.name;
    let refused = || {
        Error::Refused(format!(
            "that is a moment between two points of {name}: attach it read-only, or make a point of now with `understudyd fold {name}` \
             and attach that"
        ))
    };
    if point.is_moment() { Err(refused()) } else { Ok(()) }
}

impl Overlays {
    /// The overlays of `pool`: their points are leased from now on.
    pub fn new(pool: Arc<Pool>) -> Self {
        let own = Self { pool, all: Mutex::default() };
        let root = files::root(own.pool.dir());
        // Without the directory nobody ever made an overlay.
        for name in own.pool.disk().list(&root).unwrap_or_default() {
            if let Err(error) = own.find(&root.join(&name), &name) {
                tracing::error!(name, %error, "a scratch overlay cannot be looked at");
            }
        }
        own
    }

    fn find(&self, dir: &Path, name: &str) -> Result<()> {
        let disk = &**self.pool.disk();
        let unknown = || Error::refused(format!("{} has no name of an overlay and is left alone", dir.display()));
        let key = files::parse(name).ok_or_else(unknown)?;
        let entry = match files::header(disk, dir) {
            Ok(None) => return files::remove(disk, dir),
            Ok(Some(header)) => self.entry(&key, dir, Some(header), self.open_files(&key, dir, &header)),
            Err(error) => self.entry(&key, dir, None, Err(error)),
        };
        lock(&self.all).insert(key, entry);
        Ok(())
    }

    fn entry(&self, key: &Key, dir: &Path, header: Option<Header>, overlay: Result<Arc<Overlay>>) -> Entry {
        let volume = self.pool.volume(&key.0).map(|entry| entry.volume.uuid);
        let lease = volume.and_then(|volume| self.pool.lease(&volume, key.1, OVERLAY));
        let overlay = overlay.map_err(|error| {
            tracing::error!(dir = %dir.display(), %error, "a scratch overlay cannot be opened");
            error.to_string()
        });
        Entry { header, overlay, _lease: lease, busy: None }
    }

    /// Opens an overlay that is there, over the very point that it was made over.
    fn open_files(&self, (name, number): &Key, dir: &Path, header: &Header) -> Result<Arc<Overlay>> {
        let entry = self.pool.volume(name);
        let point = entry.as_ref().and_then(|entry| Some((&entry.volume, entry.point(*number)?)));
        let same = |(volume, point): &(&Volume, &Point)| *header == of(&self.pool, volume, point, header.created_ns);
        let other = || Error::refused(format!("{name}@{number} is not the point that the overlay was made over"));
        let (volume, point) = point.filter(same).ok_or_else(other)?;
        let files = files::open(&**self.pool.disk(), dir, header)?;
        self.over(volume, point, files)
    }

    fn over(&self, volume: &Volume, point: &Point, files: files::Files) -> Result<Arc<Overlay>> {
        let base = PointExport::of_history(PointView::open(&self.pool, volume, point, OVERLAY)?);
        Ok(Arc::new(Overlay::new(Arc::new(base), files, self.pool.space().clone(), self.pool.disk().boot())))
    }

    /// The overlay over a point, which is made when there is none.
    pub fn open(&self, volume: &Volume, point: &Point, now_ns: i64) -> Result<Arc<Overlay>> {
        let (mut all, key) = (lock(&self.all), (volume.name.clone(), point.number));
        check_recorded(volume, point)?;
        let dir = self.directory(&key);
        if let Some(entry) = all.get_mut(&key) {
            entry.check_alone(&key)?;
            return self.again(&key, &dir, entry);
        }
        // Made only when the point is sure to stay.
        let lease = self.pool.leased(volume, point, OVERLAY)?;
        self.pool.space().check(0)?;
        let header = of(&self.pool, volume, point, now_ns);
        let made = files::create(&**self.pool.disk(), &dir, &header);
        let overlay = self.over(volume, point, made?)?;
        let entry = Entry { header: Some(header), overlay: Ok(overlay.clone()), _lease: Some(lease), busy: None };
        all.insert(key, entry);
        Ok(overlay)
    }

    /// An overlay that was opened before; one whose sync failed is opened anew once nobody uses it any more.
    fn again(&self, key: &Key, dir: &Path, entry: &mut Entry) -> Result<Arc<Overlay>> {
        let is_over = |overlay: &Arc<Overlay>| overlay.is_broken() && Arc::strong_count(overlay) == 1;
        if let (Some(header), true) = (&entry.header, entry.overlay.as_ref().map_or(true, is_over)) {
            let opened = self.open_files(key, dir, header);
            let renewed = opened.and_then(|overlay| overlay.renew().map(|()| overlay).map_err(at(dir)));
            entry.overlay = renewed.map_err(|error| error.to_string());
        }
        let (name, number) = key;
        entry.overlay.clone().map_err(|error| {
            Error::Refused(format!(
                "the scratch overlay {name}@{number}{SUFFIX} cannot be opened: {error}; \
                 `understudy attach discard {name}@{number} --force` gives it up"
            ))
        })
    }

    fn directory(&self, (name, number): &Key) -> PathBuf {
        files::directory(self.pool.dir(), name, *number)
    }

    /// What there is, by volume and point.
    pub fn list(&self) -> Vec<OverlayInfo> {
        lock(&self.all).iter().map(|(key, entry)| self.info(key, entry)).collect()
    }

    /// The volume that an overlay is over; nil when that is not known any more.
    fn volume(&self, key: &Key, entry: &Entry) -> Uuid {
        let known = entry.header.as_ref().map(|header| header.volume);
        known.or_else(|| Some(self.pool.volume(&key.0)?.volume.uuid)).unwrap_or(Uuid::nil())
    }

    fn info(&self, key: &Key, entry: &Entry) -> OverlayInfo {
        let (header, known) = (entry.header.as_ref(), entry.overlay.as_ref().ok());
        let told = |error: &_| tracing::error!(dir = %self.directory(key).display(), %error, "bits cannot be read");
        let owned = known.and_then(|overlay| overlay.owned_bytes().inspect_err(told).ok());
        let status = OverlayStatus {
            volume: self.volume(key, entry),
            point: key.1,
            volume_size: header.map_or(0, |header| header.volume_size),
            owned_bytes: owned.unwrap_or(0),
            created_ns: header.map_or(0, |header| header.created_ns),
            connections: known
                .map_or(0, |overlay| Arc::strong_count(overlay) as u32 - 1 - u32::from(entry.busy.is_some())),
            damaged: u8::from(owned.is_none()),
            reserved: [0; 11],
        };
        OverlayInfo { name: key.0.clone(), status }
    }

    /// Removes an overlay for good, and tells what it was.
    pub fn discard(&self, volume: &Uuid, number: u64, force: bool) -> Result<OverlayInfo> {
        let mut all = lock(&self.all);
        let key = self.find_in(&all, volume, number)?;
        let entry = all.get_mut(&key).expect("just found");
        entry.check_alone(&key)?;
        let info = self.info(&key, entry);
        let reason = match &info.status {
            status if status.connections > 0 => Some(format!("{} connections use it", status.connections)),
            status if status.damaged != 0 => {
                Some("it cannot be opened or read, so what was written is not known".to_owned())
            }
            status if status.owned_bytes > 0 => Some(format!("{} bytes of it were written", status.owned_bytes)),
            _ => None,
        };
        if let (Some(reason), false) = (reason, force) {
            let name = &key.0;
            return Err(Error::Refused(format!(
                "the scratch overlay {name}@{number}{SUFFIX} would be lost: {reason}; \
                 `understudy attach keep {name}@{number} --as NEWVOLUME` keeps it, --force discards it"
            )));
        }
        let alone = self.alone(&key, entry, "discarded");
        // Who writes to it may take a while, and whoever opens another one does not wait for that.
        drop(all);
        if let Some(overlay) = alone.overlay() {
            overlay.discard();
        }
        files::remove(&**self.pool.disk(), &self.directory(&key))?;
        alone.gone();
        Ok(info)
    }

    fn find_in(&self, all: &BTreeMap<Key, Entry>, volume: &Uuid, number: u64) -> Result<Key> {
        let mut there = all.iter().filter(|(key, _)| key.1 == number);
        let found = there.find(|(key, entry)| self.volume(key, entry) == *volume);
        found.map(|(key, _)| key.clone()).ok_or_else(|| Self::unknown(number))
    }

    /// The error for an overlay that is not there, or not for who asks.
    pub(crate) fn unknown(number: u64) -> Error {
        Error::Refused(format!(
            "there is no scratch overlay over point {number} of this volume; `understudy attach overlays` lists them"
        ))
    }

    /// The overlay over a point, which must be there and whole, to be kept.
    fn to_keep(&self, volume: &Uuid, number: u64) -> Result<Alone<'_>> {
        let mut all = lock(&self.all);
        let key = self.find_in(&all, volume, number)?;
        let entry = all.get_mut(&key).expect("just found");
        entry.check_alone(&key)?;
        self.again(&key, &self.directory(&key), entry)?;
        Ok(self.alone(&key, entry, "kept"))
    }

    /// Makes all that was written durable, before the end of the daemon.
    pub fn flush_all(&self) {
        for ((name, number), entry) in lock(&self.all).iter() {
            if let Some(Err(error)) = entry.overlay.as_ref().ok().map(|overlay| overlay.flush()) {
                tracing::error!(volume = %name, point = number, %error, "a scratch overlay could not be flushed");
            }
        }
    }
}

/// What the header of an overlay over a point says.
fn of(pool: &Pool, volume: &Volume, point: &Point, created_ns: i64) -> Header {
    Header {
        pool: pool.uuid(),
        volume: volume.uuid,
        point: point.number,
        volume_size: point.map.geometry.volume_size(),
        root: point.map.root(),
        created_ns,
    }
}
