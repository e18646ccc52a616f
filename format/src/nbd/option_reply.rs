//! Replies to options, as the server sends them (proto.md, "Option reply types").
//!
//! Invariant: every reply repeats its option's number, and what is encoded here decodes to the same
//! value. An error that the protocol does not define is kept by its number, never taken for success.

use bytes::{BufMut, Bytes};

use super::wire::{Cursor, clipped, expect_magic, put_text32};
use super::{BlockSizes, MetaContext, OPTION_LEN_MAX, TransmissionFlags, WireError};

const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// Bytes before an option reply's data: magic, option, type, length.
pub const OPTION_REPLY_HEAD_LEN: usize = 20;

const ACK: u32 = 1;
const SERVER: u32 = 2;
const INFO: u32 = 3;
const META_CONTEXT: u32 = 4;
const ERROR_BIT: u32 = 1 << 31;

/// `NBD_INFO_EXPORT`.
pub(super) const INFO_EXPORT: u16 = 0;
/// `NBD_INFO_NAME`.
pub(super) const INFO_NAME: u16 = 1;
/// `NBD_INFO_DESCRIPTION`.
pub(super) const INFO_DESCRIPTION: u16 = 2;
/// `NBD_INFO_BLOCK_SIZE`.
pub(super) const INFO_BLOCK_SIZE: u16 = 3;

/// The head of an option reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionReplyHead {
    /// The option that it answers.
    pub option: u32,
    /// Type of the reply.
    pub kind: u32,
    /// Length of its data, in bytes.
    pub length: u32,
}

impl OptionReplyHead {
    /// Reads a head; fails on a wrong magic and on data above [`OPTION_LEN_MAX`].
    pub fn decode(head: &[u8; OPTION_REPLY_HEAD_LEN]) -> Result<Self, WireError> {
        let what = "option reply";
        let mut cursor = Cursor::new(what, head);
        expect_magic(what, cursor.u64()?, REPLY_MAGIC)?;
        let head = Self { option: cursor.u32()?, kind: cursor.u32()?, length: cursor.u32()? };
        let (length, limit) = (head.length.into(), OPTION_LEN_MAX.into());
        if length > limit {
            return Err(WireError::TooLong { what, length, limit });
        }
        Ok(head)
    }

    fn encode(self, out: &mut impl BufMut) {
        out.put_u64(REPLY_MAGIC);
        out.put_u32(self.option);
        out.put_u32(self.kind);
        out.put_u32(self.length);
    }
}

/// Why an option was refused (proto.md, `NBD_REP_ERR_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionError {
    /// The option is not known or not served.
    Unsupported,
    /// Known, but not allowed.
    Policy,
    /// Its data makes no sense.
    Invalid,
    /// Not on this platform.
    Platform,
    /// Only after `STARTTLS`.
    TlsRequired,
    /// No such export.
    UnknownExport,
    /// The server is shutting down.
    Shutdown,
    /// Only for clients that ask for block sizes.
    BlockSizeRequired,
    /// Request or reply too large.
    TooBig,
    /// Only with extended headers, or no longer once they are agreed on.
    ExtendedRequired,
    /// Anything else, without the error bit.
    Other(u32),
}

impl OptionError {
    fn to_wire(self) -> u32 {
        ERROR_BIT
            | match self {
                Self::Unsupported => 1,
                Self::Policy => 2,
                Self::Invalid => 3,
                Self::Platform => 4,
                Self::TlsRequired => 5,
                Self::UnknownExport => 6,
                Self::Shutdown => 7,
                Self::BlockSizeRequired => 8,
                Self::TooBig => 9,
                Self::ExtendedRequired => 10,
                Self::Other(number) => number,
            }
    }

    fn from_wire(kind: u32) -> Self {
        match kind & !ERROR_BIT {
            1 => Self::Unsupported,
            2 => Self::Policy,
            3 => Self::Invalid,
            4 => Self::Platform,
            5 => Self::TlsRequired,
            6 => Self::UnknownExport,
            7 => Self::Shutdown,
            8 => Self::BlockSizeRequired,
            9 => Self::TooBig,
            10 => Self::ExtendedRequired,
            number => Self::Other(number),
        }
    }
}

/// A refused option, with text for the human at the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub error: OptionError,
    /// Why, in words.
    pub text: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(error: OptionError, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { error, text }
    }
}

/// One piece of `NBD_REP_INFO`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Info {
    /// Size in bytes and abilities.
    Export {
        /// Size, in bytes.
        size: u64,
        /// Abilities.
        flags: TransmissionFlags,
    },
    /// Canonical name.
    Name(String),
    /// Text for a human.
    Description(String),
    /// Block sizes, in bytes.
    BlockSize(BlockSizes),
    /// A piece that is not known and may be skipped.
    Other {
        /// Its type.
        kind: u16,
        /// Its data.
        data: Bytes,
    },
}

/// A reply to an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionReply {
    /// Accepted, or the end of a list.
    Ack,
    /// One export of a list.
    Server {
        /// Its name.
        name: String,
        /// Text for a human; may be empty.
        description: String,
    },
    /// One piece of information about an export.
    Info(Info),
    /// One metadata context.
    MetaContext(MetaContext),
    /// Refused.
    Error(Refusal),
}

impl OptionReply {
    /// Writes head and data of a reply to `option`.
    pub fn encode(&self, option: u32, out: &mut impl BufMut) {
        let mut data = Vec::new();
        let kind = self.encode_data(&mut data);
        OptionReplyHead { option, kind, length: data.len() as u32 }.encode(out);
        out.put_slice(&data);
    }

    fn encode_data(&self, data: &mut Vec<u8>) -> u32 {
        match self {
            Self::Ack => ACK,
            Self::Server { name, description } => {
                put_text32(data, name);
                data.put_slice(clipped(description).as_bytes());
                SERVER
            }
            Self::Info(info) => {
                encode_info(info, data);
                INFO
            }
            Self::MetaContext(context) => {
                data.put_u32(context.id);
                data.put_slice(clipped(&context.name).as_bytes());
                META_CONTEXT
            }
            Self::Error(refusal) => {
                data.put_slice(clipped(&refusal.text).as_bytes());
                refusal.error.to_wire()
            }
        }
    }

    /// Reads the whole `data` of a reply of type `kind`; fails on unknown types without the error bit.
    pub fn decode(kind: u32, data: &[u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new("option reply", data);
        let reply = match kind {
            ACK => Self::Ack,
            SERVER => Self::Server { name: cursor.text32()?, description: cursor.rest_as_text()? },
            INFO => Self::Info(decode_info(&mut cursor)?),
            META_CONTEXT => {
                let id = cursor.u32()?;
                Self::MetaContext(MetaContext { id, name: cursor.rest_as_text()? })
            }
            _ if kind & ERROR_BIT != 0 => {
                let text = cursor.rest_as_text()?;
                Self::Error(Refusal { error: OptionError::from_wire(kind), text })
            }
            found => {
                return Err(WireError::UnknownType { what: "option reply", found });
            }
        };
        cursor.finish()?;
        Ok(reply)
    }
}

fn encode_info(info: &Info, out: &mut Vec<u8>) {
    match info {
        Info::Export { size, flags } => {
            out.put_u16(INFO_EXPORT);
            out.put_u64(*size);
            out.put_u16(flags.0);
        }
        Info::Name(name) => put_info_text(out, INFO_NAME, name),
        Info::Description(text) => put_info_text(out, INFO_DESCRIPTION, text),
        Info::BlockSize(sizes) => {
            out.put_u16(INFO_BLOCK_SIZE);
            [sizes.min, sizes.preferred, sizes.max].iter().for_each(|size| out.put_u32(*size));
        }
        Info::Other { kind, data } => {
            out.put_u16(*kind);
            out.put_slice(data);
        }
    }
}

fn put_info_text(out: &mut Vec<u8>, kind: u16, text: &str) {
    out.put_u16(kind);
    out.put_slice(clipped(text).as_bytes());
}

fn decode_info(cursor: &mut Cursor<'_>) -> Result<Info, WireError> {
    Ok(match cursor.u16()? {
        INFO_EXPORT => Info::Export { size: cursor.u64()?, flags: TransmissionFlags(cursor.u16()?) },
        INFO_NAME => Info::Name(cursor.rest_as_text()?),
        INFO_DESCRIPTION => Info::Description(cursor.rest_as_text()?),
        INFO_BLOCK_SIZE => {
            let (min, preferred, max) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
            Info::BlockSize(BlockSizes { min, preferred, max })
        }
        kind => Info::Other { kind, data: Bytes::copy_from_slice(cursor.rest()) },
    })
}
