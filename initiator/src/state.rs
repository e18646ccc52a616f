//! The state directory: one digest map per volume, the dirty bitmap that was recording when it was made, and the volume's
//! stream while that is under way, under the pool that they belong to.
//!
//! Invariants: a map is replaced atomically (temporary file, fsync, rename, fsync of the directory);
//! whoever holds a [`VolumeState`] holds the lock of that volume, so two initiators cannot write the
//! same map. Losing the directory costs time, never data: maps are fetched again.

use anyhow::{Context, Result, bail};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use understudy_format::FormatError;
use understudy_format::bitmap::SeenBitmap;
use understudy_format::mapfile::MapFileId;
use understudy_format::point::VolumeName;
use understudy_format::session::Unfinished;
use uuid::Uuid;

/// What is kept of a volume.
const KINDS: [&str; 3] = ["map", "stream", "bitmap"];

/// The state of one volume, locked.
#[derive(Debug)]
pub struct VolumeState {
    map_path: PathBuf,
    stream_path: PathBuf,
    bitmap_path: PathBuf,
    _lock: File,
}

impl VolumeState {
    /// Locks the state of a volume of a pool; fails when another initiator has it.
    pub fn lock(state_dir: &Path, pool: Uuid, volume: &VolumeName) -> Result<Self> {
        let directory = state_dir.join(pool.to_string());
        make_private(&directory)
            .with_context(|| format!("state directory {}: cannot be created", directory.display()))?;
        let path = directory.join(format!("{volume}.lock"));
        let lock = OpenOptions::new().create(true).append(true).open(&path);
        let lock = lock.with_context(|| format!("{}: cannot be opened", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {
                remove_left_overs(&directory, volume);
                let path = |kind| directory.join(format!("{volume}.{kind}"));
                let [map_path, stream_path, bitmap_path] = KINDS.map(path);
                Ok(Self { map_path, stream_path, bitmap_path, _lock: lock })
            }
            Err(TryLockError::WouldBlock) => bail!(
                "volume {volume} is being replicated by another initiator (it holds {}): wait until it is done",
                path.display()
            ),
            Err(TryLockError::Error(e)) => Err(e).with_context(|| format!("{}: cannot be locked", path.display())),
        }
    }

    /// Where the map of the volume is.
    pub fn map_path(&self) -> &Path {
        &self.map_path
    }

    /// The stream whose point was not stored when the last run ended; an error says why it cannot be read.
    pub fn unfinished(&self) -> Option<Result<Unfinished>> {
        read(&self.stream_path, Unfinished::decode).transpose()
    }

    /// Remembers a stream durably, before its first chunk leaves.
    pub fn remember(&self, stream: &Unfinished) -> Result<()> {
        write(&self.stream_path, &stream.encode())
    }

    /// The dirty bitmap that was recording when the newest point was read, if that is known.
    pub fn seen_bitmap(&self) -> Result<Option<SeenBitmap>> {
        read(&self.bitmap_path, SeenBitmap::decode)
    }

    /// Remembers, durably, what was recording when the newest point was read; `None` when nothing is known to.
    pub fn see_bitmap(&self, seen: Option<&SeenBitmap>) -> Result<()> {
        match seen {
            Some(seen) => write(&self.bitmap_path, &seen.encode()),
            None => remove(&self.bitmap_path),
        }
    }

    /// Forgets the stream: its point is stored, or it is void.
    pub fn forget(&self) {
        // What stays is dropped by the next run, which sees that it does not fit.
        let _ = fs::remove_file(&self.stream_path);
    }
}

/// Reads a small file; an error says why it cannot be read.
fn read<T>(path: &Path, decode: impl Fn(&[u8]) -> Result<T, FormatError>) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => decode(&bytes).map(Some).with_context(|| path.display().to_string()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("{}: cannot be read", path.display())),
    }
}

/// Removes a file, unless it is gone already.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("{}: cannot be removed", path.display())),
    }
}

/// Writes a small file, durable and whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = NewFile::create(path)?;
    let written = new.file.write_all_at(bytes, 0);
    written.with_context(|| format!("{}: cannot be written", new.temporary.display()))?;
    new.publish()
}

/// Removes what killed runs left of new files; the lock says that nobody is writing one.
fn remove_left_overs(directory: &Path, volume: &VolumeName) {
    let prefixes = KINDS.map(|kind| format!(".{volume}.{kind}."));
    let Ok(entries) = fs::read_dir(directory) else { return };
    let names = entries.flatten().map(|entry| entry.file_name()).filter_map(|name| name.into_string().ok());
    let ours = |name: &str| name.ends_with(".tmp") && prefixes.iter().any(|prefix| name.starts_with(prefix));
    for name in names.filter(|name| ours(name)) {
        // Only litter: it is in nobody's way when it stays.
        let _ = fs::remove_file(directory.join(name));
    }
}

/// A file that is being written and takes its name only when it is whole.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    published: bool,
}

impl NewFile {
    /// Starts a file that will be `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let name = path.file_name().with_context(|| format!("{}: has no file name", path.display()))?;
        let temporary = path.with_file_name(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&temporary);
        let file = file.with_context(|| format!("{}: cannot be created", temporary.display()))?;
        Ok(Self { file, temporary, path: path.to_owned(), published: false })
    }

    /// The file, as a second handle to it.
    pub fn file(&self) -> Result<File> {
        Ok(self.file.try_clone()?)
    }

    /// Makes a digest map of the file and publishes it.
    pub fn publish_map(self, id: &MapFileId) -> Result<()> {
        let written = self.file.write_all_at(&id.encode(), 0);
        written.with_context(|| format!("{}: writing the header", self.temporary.display()))?;
        self.publish()
    }

    /// Makes the file durable under its name.
    pub fn publish(mut self) -> Result<()> {
        let context = || format!("{}: cannot be made durable", self.path.display());
        self.file.sync_all().with_context(context)?;
        fs::rename(&self.temporary, &self.path).with_context(context)?;
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|directory| directory.sync_all()).with_context(context)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.published {
            // Left-overs of a failed run are only litter.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Makes a directory, and those above it, that nobody but their owner reads: digests tell of content.
pub fn make_private(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// A file without a name, in the state directory: maps of volumes are too large for memory.
pub fn scratch_file(state_dir: &Path) -> Result<File> {
    make_private(state_dir).with_context(|| format!("state directory {}: cannot be created", state_dir.display()))?;
    NewFile::create(&state_dir.join(format!("scratch-{}", crate::clock::random_id())))?.file()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_volume_is_locked_once() {
        let directory = tempfile::tempdir().unwrap();
        let name: VolumeName = "data".parse().unwrap();
        let first = VolumeState::lock(directory.path(), Uuid::nil(), &name).unwrap();
        let text = VolumeState::lock(directory.path(), Uuid::nil(), &name).unwrap_err().to_string();
        assert!(text.contains("another initiator"), "{text}");
        let left_over = first.map_path().with_file_name(".data.map.1.tmp");
        fs::write(&left_over, b"half a map").unwrap();
        drop(first);
        VolumeState::lock(directory.path(), Uuid::nil(), &name).unwrap();
        assert!(!left_over.exists());
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        drop(NewFile::create(&path).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let new = NewFile::create(&path).unwrap();
        new.file().unwrap().write_all(b"content").unwrap();
        assert!(!path.exists());
        new.publish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"content");
        scratch_file(directory.path()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
