//! How the messages of one connection are framed, as its handshake left it.
//!
//! Invariant: whoever agreed on a form neither sends nor accepts the heads of another, but for the simple
//! replies that a server may give beside structured ones where there is no content.

/// The form of requests and replies, in ascending order of what it can say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// Compact requests, simple replies: what a client gets that asks for nothing.
    #[default]
    Simple,
    /// Compact requests, replies in chunks (`NBD_OPT_STRUCTURED_REPLY`).
    Structured,
    /// Requests with 64-bit lengths, replies in chunks with heads of their size (`NBD_OPT_EXTENDED_HEADERS`).
    Extended,
}

impl Form {
    /// Whether replies come in chunks: what block status and the text of an error need.
    pub const fn has_chunks(self) -> bool {
        !matches!(self, Self::Simple)
    }

    /// Bytes of a request before its payload.
    pub const fn request_head_len(self) -> usize {
        match self {
            Self::Simple | Self::Structured => 28,
            Self::Extended => 32,
        }
    }

    /// Bytes of a reply's chunk before its payload, and of a simple reply.
    pub(super) const fn reply_head_len(self) -> usize {
        match self {
            Self::Simple => 16,
            Self::Structured => 20,
            Self::Extended => 32,
        }
    }

    /// The longest length that a request can carry, in bytes.
    pub const fn length_max(self) -> u64 {
        match self {
            Self::Simple | Self::Structured => u32::MAX as u64,
            Self::Extended => u64::MAX,
        }
    }
}
