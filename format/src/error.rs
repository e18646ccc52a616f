//! What can be wrong with bytes: every decoder of this crate fails with one of these, and with nothing else.
//!
//! Invariant: an error says what was being read, what was expected and what was found. It never
//! carries I/O, and where the bytes came from (file, peer, offset) is added by whoever read them.

use thiserror::Error;

/// The result of reading bytes.
pub type Result<T, E = FormatError> = std::result::Result<T, E>;

/// Why bytes could not be read as what they should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "each field is explained by the message that prints it")]
pub enum FormatError {
    /// The bytes end before the thing does.
    #[error("{what}: truncated: {needed} bytes needed, {found} found")]
    Truncated { what: &'static str, needed: u64, found: u64 },
    /// The thing ends before the bytes do.
    #[error("{what}: {count} bytes left over after its end")]
    LeftOver { what: &'static str, count: u64 },
    /// The magic number is another one.
    #[error("{what}: wrong magic: expected {expected:?}, found {found:?}")]
    Magic { what: &'static str, expected: String, found: String },
    /// The version is one that this program does not read.
    #[error("{what}: version {found} is not supported (this program reads {supported})")]
    Version { what: &'static str, supported: u16, found: u16 },
    /// A checksum does not match.
    #[error("{what}: CRC-32 mismatch: stored {stored:08x}, computed {computed:08x}")]
    Crc { what: &'static str, stored: u32, computed: u32 },
    /// A content digest does not match.
    #[error("{what}: digest mismatch: expected {expected}, computed {computed}")]
    Digest { what: &'static str, expected: crate::Digest, computed: crate::Digest },
    /// A number is above its named maximum or below its minimum.
    #[error("{what}: {field} is {found}, allowed is {min} to {max}")]
    Range { what: &'static str, field: &'static str, found: u64, min: u64, max: u64 },
    /// A value contradicts another one or has no meaning.
    #[error("{what}: {reason}")]
    Invalid { what: &'static str, reason: String },
}

impl FormatError {
    /// A contradiction in `what`, explained by `reason`.
    pub fn invalid(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { what, reason: reason.into() }
    }
}

/// What the caller should do about a failure; travels in `FAIL` messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ErrorKind {
    /// Nothing is wrong with the request: try again later.
    Retry = 1,
    /// Stored or received bytes are damaged.
    Corrupt = 2,
    /// The request is refused and will be refused again.
    Refused = 3,
    /// Out of space: free some, then try again.
    Full = 4,
    /// The other side is shutting down or gone.
    Closed = 5,
    /// A fault of this program.
    Bug = 6,
    /// The group is not committed; what came of the stream is kept: go on with it in another group.
    Group = 7,
}

impl ErrorKind {
    /// The kind for its number on the wire.
    pub fn from_wire(number: u8) -> Result<Self> {
        const ALL: [ErrorKind; 7] = [
            ErrorKind::Retry,
            ErrorKind::Corrupt,
            ErrorKind::Refused,
            ErrorKind::Full,
            ErrorKind::Closed,
            ErrorKind::Bug,
            ErrorKind::Group,
        ];
        let range = FormatError::Range { what: "failure", field: "kind", found: number.into(), min: 1, max: 7 };
        ALL.into_iter().find(|kind| *kind as u8 == number).ok_or(range)
    }
}
