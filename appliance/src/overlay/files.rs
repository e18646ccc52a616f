//! The files of one overlay: made, opened, found again and removed.
//!
//! Invariants: the header is the last to come and the first to go, durably, so an overlay is there as a whole or not at all;
//! what is left without a header is litter.

use crate::error::{Error, Result, at};
use crate::pool::directory::make_durable;
use crate::pool::disk::{self, Access, Disk, DiskFile};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use understudy_format::overlay::Header;
use understudy_format::point::VolumeName;

const HEADER: &str = "header";
const DATA: &str = "data";
const OWNED: &str = "owned";
const PENDING: &str = "pending";

/// The open files of an overlay.
#[derive(Debug)]
pub(super) struct Files {
    /// What was written.
    pub data: Arc<dyn DiskFile>,
    /// Which granules are owned.
    pub owned: Arc<dyn DiskFile>,
    /// Which are, and not yet flushed.
    pub pending: Arc<dyn DiskFile>,
}

/// Where the overlays of a pool are.
pub(super) fn root(pool: &Path) -> PathBuf {
    pool.join("overlays")
}

/// Where the overlay over a point is.
pub(super) fn directory(pool: &Path, volume: &VolumeName, point: u64) -> PathBuf {
    root(pool).join(format!("{volume}@{point}"))
}

/// The point that the overlay in a directory of this name is over.
pub(super) fn parse(name: &str) -> Option<(VolumeName, u64)> {
    let (volume, point) = name.split_once('@')?;
    Some((volume.parse().ok()?, point.parse().ok()?))
}

/// Makes an overlay in `dir`: durable when this returns.
pub(super) fn create(disk: &dyn Disk, dir: &Path, header: &Header) -> Result<Files> {
    make_durable(disk, dir).map_err(at(dir))?;
    let files = open_files(disk, dir)?;
    let size = |file: &dyn DiskFile, bytes| file.resize(0).and_then(|()| file.resize(bytes)).and_then(|()| file.sync());
    size(&*files.data, header.volume_size).map_err(|error| match error.kind() {
        std::io::ErrorKind::FileTooLarge => Error::Refused(format!(
            "a scratch overlay needs a file of {} bytes, sparse, and the filesystem of the pool has no files of that size \
             (ext4 ends at 16 TiB, XFS does not)",
            header.volume_size
        )),
        _ => at(&dir.join(DATA))(error),
    })?;
    size(&*files.owned, 0).map_err(at(&dir.join(OWNED)))?;
    files.pending.resize(0).map_err(at(&dir.join(PENDING)))?;
    disk.sync_dir(dir).map_err(at(dir))?;
    disk::replace(disk, &dir.join(HEADER), &header.encode()).map_err(at(&dir.join(HEADER)))?;
    Ok(files)
}

/// Opens the files of an overlay whose header is there.
pub(super) fn open(disk: &dyn Disk, dir: &Path, header: &Header) -> Result<Files> {
    let files = open_files(disk, dir)?;
    let found = files.data.size().map_err(at(dir))?;
    match found == header.volume_size {
        true => Ok(files),
        false => Err(Error::Refused(format!(
            "{} has {found} bytes, {} expected",
            dir.join(DATA).display(),
            header.volume_size
        ))),
    }
}

fn open_files(disk: &dyn Disk, dir: &Path) -> Result<Files> {
    let open = |name| disk.open(&dir.join(name), Access::Write).map_err(at(dir));
    Ok(Files { data: open(DATA)?, owned: open(OWNED)?, pending: open(PENDING)? })
}

/// The header of the overlay in `dir`; `None` when there is none.
pub(super) fn header(disk: &dyn Disk, dir: &Path) -> Result<Option<Header>> {
    let path = dir.join(HEADER);
    let bytes = disk::read_all(disk, &path).map_err(at(&path))?;
    Ok(bytes.map(|bytes| Header::decode(&bytes)).transpose()?)
}

/// Removes an overlay, or what is left of one.
pub(super) fn remove(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let names = disk.list(dir).map_err(at(dir))?;
    let remove = |name: &str| disk.remove(&dir.join(name)).map_err(at(dir));
    if names.iter().any(|name| name == HEADER) {
        remove(HEADER)?;
        disk.sync_dir(dir).map_err(at(dir))?;
    }
    names.iter().filter(|name| *name != HEADER).try_for_each(|name| remove(name))?;
    disk.remove_dir(dir).map_err(at(dir))?;
    let above = dir.parent().unwrap_or(dir);
    disk.sync_dir(above).map_err(at(above))
}
