//! Where blocks are read from: the seam at which sources attach (raw files and block devices today).
//!
//! Invariants: the size of a source is fixed when it is opened; reads are exact, a short read is an
//! error and never zeros; a hole is told only where the source reads as zeros for certain.
//! Nothing here knows of blocks, digests or connections.

mod file;

pub use file::FileSource;

use anyhow::{Result, bail};
use std::fmt::Debug;
use std::io;
use std::path::Path;

/// What a source has from an offset on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it ends, bytes from the start of the source.
    pub end: u64,
    /// Whether it reads as zeros without being read.
    pub hole: bool,
}

/// An ordered array of bytes that can be read in any order, from several threads.
pub trait Source: Debug + Send + Sync {
    /// How people name it.
    fn name(&self) -> &str;

    /// Bytes; the same for as long as the source is open.
    fn size(&self) -> u64;

    /// What is there from `offset` (below the size) on; ends at the size at the latest.
    fn extent_at(&self, offset: u64) -> io::Result<Extent>;

    /// Fills `into` from `offset`, wholly.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Asked when everything was read: why what was read may not be the content of one moment.
    ///
    /// Fails when the source is no longer what was opened, so that nothing may be committed.
    fn doubt(&self) -> Result<Option<String>>;

    /// Whether content that was read since it was opened may be another now.
    fn may_have_moved(&self) -> Result<bool>;
}

/// Opens what a user named as a source.
pub fn open(name: &str) -> Result<FileSource> {
    if name.starts_with("nbd://") || name.starts_with("nbd+unix://") {
        bail!("source {name}: NBD exports cannot be read yet; name a raw file or a block device");
    }
    FileSource::open(Path::new(name))
}
