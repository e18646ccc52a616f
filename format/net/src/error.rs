//! What can go wrong between two peers, and what the caller should do about it.

use std::io;
use thiserror::Error;
use understudy_format::{ErrorKind, FormatError};

/// The result of talking to a peer.
pub type Result<T, E = NetError> = std::result::Result<T, E>;

/// Why a session ended or a request failed.
#[derive(Debug, Error)]
pub enum NetError {
    /// The bytes that came are not what they should be.
    #[error("the peer sent damaged or unknown data: {0}")]
    Format(#[from] FormatError),
    /// The connection failed.
    #[error("connection: {0}")]
    Io(#[from] io::Error),
    /// The peer closed the connection where more was expected.
    #[error("the peer closed the connection ({0})")]
    Closed(&'static str),
    /// The peer answered that the request failed.
    #[error("{text}")]
    Remote {
        /// What to do about it.
        kind: ErrorKind,
        /// What the peer said.
        text: String,
    },
    /// The peer sent a message that has no place here.
    #[error("expected {expected}, the peer sent {found}")]
    Unexpected {
        /// What was expected.
        expected: &'static str,
        /// The name of what came.
        found: &'static str,
    },
    /// Nothing came or was taken for too long.
    #[error("the peer neither sent nor took anything for {seconds} s")]
    Silent {
        /// How long was waited, seconds.
        seconds: u64,
    },
}

impl NetError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Format(_) => ErrorKind::Corrupt,
            Self::Io(_) | Self::Closed(_) | Self::Silent { .. } => ErrorKind::Closed,
            Self::Remote { kind, .. } => *kind,
            Self::Unexpected { .. } => ErrorKind::Refused,
        }
    }
}
