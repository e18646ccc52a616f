//! Where blocks are read from: the seam at which sources attach (raw files, block devices, NBD exports).
//!
//! Invariants: the size of a source is fixed when it is opened; reads are exact, a short read is an
//! error and never zeros; a hole is told only where the source reads as zeros for certain, and clean only what a dirty
//! bitmap says was not written. Whether a bitmap is believed is not decided here ([`crate::trust`]).
//! Nothing here knows of blocks, digests or appliances.

mod file;
mod held;
mod nbd;
mod qemu;
mod uri;

pub use file::FileSource;
pub use held::released;
pub use nbd::NbdSource;
pub use qemu::QemuSource;

use crate::qemu::{QemuName, SCHEME};
use anyhow::Result;
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;
use thiserror::Error;
use understudy_format::bitmap::Bitmap;
use uri::NbdUri;
use uuid::Uuid;

/// What a source has from an offset on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it ends, bytes from the start of the source.
    pub end: u64,
    /// Whether it reads as zeros without being read.
    pub hole: bool,
    /// Whether a dirty bitmap says that it was not written.
    pub clean: bool,
}

impl Extent {
    /// What has to be read.
    pub fn data(end: u64) -> Self {
        Self { end, hole: false, clean: false }
    }

    /// What need not be read.
    pub fn hole(end: u64) -> Self {
        Self { end, hole: true, clean: false }
    }
}

/// A dirty bitmap of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The bitmap.
    pub bitmap: Bitmap,
    /// Whether the source itself knows that it recorded since the base was read.
    pub since_base: bool,
}

/// The stream that a source is captured for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capture {
    /// The volume that it goes to.
    pub volume: Uuid,
    /// The stream.
    pub stream: Uuid,
    /// The stream that made the point which it is compared with.
    pub base: Option<Uuid>,
}

/// A dirty bitmap cannot be believed (any more): everything has to be compared.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Mistrust {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// It called something clean that is not.
    #[error("{0}")]
    Lie(String),
}

/// An ordered array of bytes that can be read in any order, from several threads.
pub trait Source: Debug + Send + Sync {
    /// How people name it.
    fn name(&self) -> &str;

    /// Bytes; the same for as long as the source is open.
    fn size(&self) -> u64;

    /// What is there from `offset` (below the size) on; ends at the size at the latest.
    ///
    /// Fails with [`Mistrust`] when a dirty bitmap cannot be read; from then on nothing is clean.
    fn extent_at(&self, offset: u64) -> Result<Extent>;

    /// Fills `into` from `offset`, wholly.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Bytes that are best asked for at once, and digested while they are in the cache; a block may be larger.
    fn read_size(&self) -> usize {
        256 << 10
    }

    /// The dirty bitmap to go by, or why there is none. One that is there was there before anything is read.
    fn bitmap(&self) -> Option<Result<Changes, String>> {
        None
    }

    /// Asked when everything was read: why what was read may not be the content of one moment.
    ///
    /// Fails when the source is no longer what was opened, so that nothing may be committed.
    fn doubt(&self) -> Result<Option<String>>;

    /// Whether content that was read since it was opened may be another now.
    fn may_have_moved(&self) -> Result<bool>;

    /// Reading begins, for a stream or not: a source that is written to meanwhile takes the image of this moment, and is that from
    /// now on. Begun again, it is the image of another moment.
    fn capture(&self, of: Option<Capture>) -> Result<()> {
        let _ = of;
        Ok(())
    }

    /// Whether capturing holds something elsewhere, so that the program must not end without releasing it.
    fn is_held(&self) -> bool {
        false
    }

    /// Reading is over. Whether the stream is a point now, and what is known here of it is durable: then a source that keeps count of
    /// writes goes by those since its moment, otherwise by the same as before.
    fn release(&self, stored: bool) -> Result<()> {
        let _ = stored;
        Ok(())
    }
}

/// Opens what a user named as a source, with a dirty bitmap where one is asked for.
pub fn open(name: &str, bitmap: Option<&str>) -> Result<Arc<dyn Source>> {
    match Named::parse(name, bitmap)? {
        Named::Qemu(disk) => {
            let source = Arc::new(QemuSource::open(disk)?);
            held::release_on_signal(source.clone())?;
            Ok(source)
        }
        Named::Nbd(uri) => Ok(Arc::new(NbdSource::open(name, &uri, bitmap)?)),
        Named::File => Ok(Arc::new(FileSource::open(Path::new(name))?)),
    }
}

/// Whether a name can be that of a source on every working directory; it is not looked for.
pub fn check(name: &str, bitmap: Option<&str>) -> Result<()> {
    match Named::parse(name, bitmap)? {
        Named::File if !name.starts_with('/') => {
            anyhow::bail!("{name:?} is no absolute path: expected one that starts with /")
        }
        _ => Ok(()),
    }
}

/// Bytes of a source that is a file or a block device and is there.
pub fn size_of_file(name: &str) -> Option<u64> {
    match Named::parse(name, None) {
        Ok(Named::File) => FileSource::open(Path::new(name)).ok().map(|source| source.size()),
        _ => None,
    }
}

/// What a name is that of.
enum Named {
    Qemu(QemuName),
    Nbd(NbdUri),
    File,
}

impl Named {
    fn parse(name: &str, bitmap: Option<&str>) -> Result<Self> {
        if name.starts_with(SCHEME) {
            anyhow::ensure!(bitmap.is_none(), "source {name}: its bitmaps are kept for you: leave out --bitmap");
            return name.parse().map(Self::Qemu).map_err(|why| anyhow::anyhow!("source {why}"));
        }
        match (NbdUri::parse(name)?, bitmap) {
            (Some(uri), _) => Ok(Self::Nbd(uri)),
            (None, Some(_)) => anyhow::bail!("source {name}: only NBD exports have dirty bitmaps: leave out --bitmap"),
            (None, None) => Ok(Self::File),
        }
    }
}
