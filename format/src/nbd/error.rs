//! What can go wrong: [`WireError`] ends a connection, [`Failure`] fails one request.
//!
//! Invariant: a `WireError` says which field of which message was wrong and what was found, so that
//! a log line is enough to blame the right peer. It must not carry bytes of an export.

use std::{fmt, io};

use super::{Command, Span};

/// A message that cannot be understood. After one, the position in the byte stream is lost and the
/// connection must be closed, except where a decoder of option data is called on its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A magic number is wrong; `found` is zero-extended.
    #[error("{what}: bad magic {found:#x}")]
    BadMagic {
        /// The message.
        what: &'static str,
        /// The number in its place.
        found: u64,
    },
    /// A message ends before its fields do.
    #[error("{what}: {need} more bytes expected, {have} left")]
    Truncated {
        /// The message.
        what: &'static str,
        /// Bytes that the next field takes.
        need: usize,
        /// Bytes that are left.
        have: usize,
    },
    /// A message goes on after its last field.
    #[error("{what}: {extra} bytes too many")]
    Trailing {
        /// The message.
        what: &'static str,
        /// Bytes left over.
        extra: usize,
    },
    /// A length is above its named maximum.
    #[error("{what}: length {length} is above the limit of {limit}")]
    TooLong {
        /// The message or field.
        what: &'static str,
        /// The length, in bytes.
        length: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// A string is not UTF-8.
    #[error("{what}: not UTF-8")]
    NotText {
        /// The message.
        what: &'static str,
    },
    /// A number that must not be zero is.
    #[error("{what}: must not be zero")]
    Zero {
        /// The field.
        what: &'static str,
    },
    /// A type number that cannot be skipped is unknown.
    #[error("{what}: unknown type {found:#x}")]
    UnknownType {
        /// The message.
        what: &'static str,
        /// The number.
        found: u32,
    },
    /// A status above 32 bits, in a context that has no such: none of those that are known here has.
    #[error("extent: a status of {found:#x} in a context of 32 bits")]
    WideStatus {
        /// The status.
        found: u64,
    },
    /// A reply to nothing that was asked.
    #[error("a reply to a request that is not under way (cookie {cookie})")]
    UnknownReply {
        /// The number in it.
        cookie: u64,
    },
    /// Content that was not asked for, or came before.
    #[error("{length} bytes at offset {offset} of a reply were not asked for, or came before")]
    Misplaced {
        /// Offset in the export, in bytes.
        offset: u64,
        /// Length, in bytes.
        length: u64,
    },
    /// A reply that is over too soon.
    #[error("a reply ended after {came} of the {length} bytes at offset {offset}")]
    Missing {
        /// Offset of the request, in bytes.
        offset: u64,
        /// Length of the request, in bytes.
        length: u64,
        /// Bytes that came.
        came: u64,
    },
    /// The client set handshake flags that were not offered (proto.md, "Client flags").
    #[error("client flags {found:#x} were not offered")]
    UnknownClientFlags {
        /// All the flags that it sent.
        found: u32,
    },
    /// Bytes that came in the clear and that the client may pretend to have sent through TLS.
    #[error("{extra} bytes after STARTTLS, before its answer")]
    BeforeTls {
        /// How many.
        extra: usize,
    },
    /// The export of `NBD_OPT_EXPORT_NAME` is not served; that option cannot report an error.
    #[error("export {name:?} refused: {reason}")]
    ExportRefused {
        /// The name asked for.
        name: String,
        /// Why, as a client with a better option would have been told.
        reason: String,
    },
}

/// An error number of the transmission phase (proto.md, "Error values").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errno {
    /// Operation not permitted: a write to a read-only export.
    Perm,
    /// Input/output error.
    Io,
    /// Cannot allocate memory.
    NoMemory,
    /// Invalid argument.
    Invalid,
    /// No space left on device; also a write past the end.
    NoSpace,
    /// Value too large: a read that cannot be answered unfragmented.
    Overflow,
    /// Operation not supported: zeroes that cannot be written fast.
    NotSupported,
    /// The server is shutting down.
    Shutdown,
}

impl Errno {
    const ALL: [Self; 8] = [
        Self::Perm,
        Self::Io,
        Self::NoMemory,
        Self::Invalid,
        Self::NoSpace,
        Self::Overflow,
        Self::NotSupported,
        Self::Shutdown,
    ];

    /// The number on the wire, which is Linux's on every platform.
    pub const fn to_wire(self) -> u32 {
        match self {
            Self::Perm => 1,
            Self::Io => 5,
            Self::NoMemory => 12,
            Self::Invalid => 22,
            Self::NoSpace => 28,
            Self::Overflow => 75,
            Self::NotSupported => 95,
            Self::Shutdown => 108,
        }
    }

    /// The error of a nonzero number; one that the protocol does not define means [`Errno::Invalid`].
    pub fn from_wire(number: u32) -> Self {
        let found = Self::ALL.into_iter().find(|e| e.to_wire() == number);
        found.unwrap_or(Self::Invalid)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Perm => "EPERM",
            Self::Io => "EIO",
            Self::NoMemory => "ENOMEM",
            Self::Invalid => "EINVAL",
            Self::NoSpace => "ENOSPC",
            Self::Overflow => "EOVERFLOW",
            Self::NotSupported => "ENOTSUP",
            Self::Shutdown => "ESHUTDOWN",
        })
    }
}

impl From<io::ErrorKind> for Errno {
    fn from(kind: io::ErrorKind) -> Self {
        match kind {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::Perm,
            io::ErrorKind::OutOfMemory => Self::NoMemory,
            io::ErrorKind::InvalidInput => Self::Invalid,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Self::NoSpace,
            io::ErrorKind::Unsupported => Self::NotSupported,
            _ => Self::Io,
        }
    }
}

/// Why one request failed. Simple replies carry the number alone, structured ones all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The number.
    pub errno: Errno,
    /// Text for a human; cut at [`super::TEXT_LEN_MAX`] when sent.
    pub text: String,
    /// Offset in the export at which it failed, in bytes, where one is known.
    pub at: Option<u64>,
}

impl Failure {
    /// A failure of the request as a whole.
    pub fn new(errno: Errno, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { errno, text, at: None }
    }

    /// As the reply to this command may tell it: at an offset that was asked about, where replies to it have one at all.
    #[must_use]
    pub fn in_reply_to(mut self, command: &Command) -> Self {
        let within = |(at, Span { offset, length }): (u64, Span)| {
            let last = offset.saturating_add(length.saturating_sub(1));
            at.clamp(offset, last)
        };
        self.at = self.at.zip(command.located()).map(within);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(f, "{} (at offset {at})", self.text),
            None => f.write_str(&self.text),
        }
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(error.kind().into(), error.to_string())
    }
}
