//! What can go wrong in the appliance, grouped by what the caller should do ([`Error::kind`]).

use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;
use understudy_format::{Digest, ErrorKind, FormatError};

/// The result of an operation on the pool.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed.
#[derive(Debug, Error)]
pub enum Error {
    /// A file of the pool could not be read or written.
    #[error("{}: {source}", path.display())]
    Disk {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The pool's disk is full.
    #[error(
        "no space left in the pool: {detail}; earlier points are intact; prune and collect, or add space, and run the job again"
    )]
    Full {
        /// How much is there and how much was wanted.
        detail: String,
    },
    /// An earlier write or sync failed, so what is on the disk is not known.
    #[error(
        "the pool stopped writing after an error: {0}; earlier points are intact; check the disk and restart the appliance"
    )]
    Broken(String),
    /// The index, a cache of the segments, failed.
    #[error("the pool's index: {0}")]
    Index(#[from] fjall::Error),
    /// A stored block, page or record is damaged.
    #[error("damaged {what} {digest} in segment {segment:016x} at offset {offset}: {reason}")]
    Damaged {
        /// Block, map page or record.
        what: &'static str,
        /// What was looked for.
        digest: Digest,
        /// Where.
        segment: u64,
        /// Bytes from the start of the segment.
        offset: u64,
        /// In which way.
        reason: String,
    },
    /// A file of a journal cannot be read.
    #[error("damaged journal {}: {reason}", path.display())]
    Journal {
        /// Which file.
        path: PathBuf,
        /// In which way.
        reason: FormatError,
    },
    /// A block or page is named by a map but not in the pool.
    #[error("{what} {digest} is not in the pool")]
    Missing {
        /// Block or map page.
        what: &'static str,
        /// What was looked for.
        digest: Digest,
    },
    /// A point could not be read at one block.
    #[error("volume {volume}, point {point}, block {block} (byte offset {offset}): {source}")]
    At {
        /// The volume's name.
        volume: String,
        /// The point's number.
        point: u64,
        /// The block.
        block: u64,
        /// Of the block in the volume, bytes.
        offset: u64,
        /// Why.
        source: Box<Error>,
    },
    /// Received or stored bytes are not what they should be.
    #[error("{0}")]
    Format(#[from] FormatError),
    /// The request is refused.
    #[error("{0}")]
    Refused(String),
    /// Who asks has no right to it.
    #[error("{0}")]
    Denied(String),
    /// Not now.
    #[error("{0}")]
    Busy(String),
    /// The group of a stream is not committed, for no fault of the stream.
    #[error("{0}")]
    Group(String),
    /// The appliance is shutting down.
    #[error("the appliance is shutting down")]
    Closing,
}

impl Error {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Disk { source, .. } if is_full(source) => ErrorKind::Full,
            Self::Disk { .. } | Self::Broken(_) | Self::Index(_) => ErrorKind::Bug,
            Self::Full { .. } => ErrorKind::Full,
            Self::Damaged { .. } | Self::Missing { .. } | Self::Format(_) | Self::Journal { .. } => ErrorKind::Corrupt,
            Self::At { source, .. } => source.kind(),
            Self::Refused(_) | Self::Denied(_) => ErrorKind::Refused,
            Self::Busy(_) => ErrorKind::Retry,
            Self::Group(_) => ErrorKind::Group,
            Self::Closing => ErrorKind::Closed,
        }
    }

    /// A refusal with its reason.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self::Refused(reason.into())
    }
}

/// Whether an I/O error says that there is no space.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Names the file in an I/O error.
pub fn at(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    |source| Error::Disk { path: path.to_owned(), source }
}
