//! What a tap asks of the disk: the volume, and a directory for what it must remember.
//!
//! What these promise, and nothing more: bytes are durable after the sync of what they were written to returned; a file that was
//! created, renamed or removed is so durably after [`Directory::sync`]. Before that any of it may be lost, in any order. No time and no other
//! file is asked for past them, so all of the tap runs on whatever has these two.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use understudy_format::Digest;

/// The primary volume.
pub trait Volume: Debug + Send + Sync {
    /// How people name it.
    fn name(&self) -> &str;
    /// Bytes; the same for as long as it is open.
    fn size(&self) -> u64;
    /// Fills `buffer` from `offset`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Fills `buffer`, if memory has what is asked for: whether it did.
    fn read_now(&self, buffer: &mut [u8], offset: u64) -> bool {
        let _ = (buffer, offset);
        false
    }
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes a range read as zeros; its storage stays allocated when `keep` says so.
    fn zero(&self, offset: u64, length: u64, keep: bool) -> io::Result<()>;
    /// Makes all that was written durable.
    fn sync(&self) -> io::Result<()>;
    /// What is another one when somebody wrote to the volume, as far as that can be told without reading it.
    fn fingerprint(&self) -> io::Result<Digest>;
}

/// A directory of files that nobody else uses.
pub trait Directory: Debug + Send + Sync {
    /// The names in it, in no order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens a file, created when absent.
    fn open(&self, name: &str) -> io::Result<Arc<dyn StateFile>>;
    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; that there is none is no error.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes the names durable.
    fn sync(&self) -> io::Result<()>;
}

/// A file of a [`Directory`].
pub trait StateFile: Debug + Send + Sync {
    /// Fills `buffer` from `offset`; an end of the file before that is an error.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`; past the page cache where memory, offset and length are whole pages.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes all that was written durable.
    fn sync(&self) -> io::Result<()>;
    /// Bytes.
    fn size(&self) -> io::Result<u64>;
    /// Cuts or extends the file; what is added reads as zeros.
    fn resize(&self, size: u64) -> io::Result<()>;
}

/// All of a file.
pub(super) fn read_all(file: &dyn StateFile) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.size()? as usize];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Replaces a small file durably: after this returned, it holds `bytes`; before, the old bytes or these.
pub(super) fn replace(directory: &dyn Directory, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = format!("{name}.new");
    let file = directory.open(&new)?;
    file.resize(0)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    directory.rename(&new, name)?;
    directory.sync()
}
