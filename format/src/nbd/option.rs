//! Options of the handshake, as the client sends them (proto.md, "Option types").
//!
//! Invariant: decoding takes the option's whole data and leaves nothing over. An option that is not
//! known decodes to [`OptionRequest::Unknown`]: refusing it is the handshake's part.

use bytes::{BufMut, Bytes};

use super::wire::{Cursor, expect_magic, put_text32};
use super::{OPTION_LEN_MAX, WireError};

/// `IHAVEOPT`, before every option and in the greeting.
pub(super) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// Bytes before an option's data: magic, option, length.
pub const OPTION_HEAD_LEN: usize = 16;

pub(super) const EXPORT_NAME: u32 = 1;
const ABORT: u32 = 2;
const LIST: u32 = 3;
pub(super) const STARTTLS: u32 = 5;
const INFO: u32 = 6;
const GO: u32 = 7;
const STRUCTURED_REPLY: u32 = 8;
const LIST_META_CONTEXT: u32 = 9;
pub(super) const SET_META_CONTEXT: u32 = 10;
const EXTENDED_HEADERS: u32 = 11;

/// The head of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionHead {
    /// Which option.
    pub option: u32,
    /// Length of its data, in bytes; at most [`OPTION_LEN_MAX`] where decoded.
    pub length: u32,
}

impl OptionHead {
    /// Writes the head: [`OPTION_HEAD_LEN`] bytes.
    pub fn encode(self, out: &mut impl BufMut) {
        out.put_u64(OPTION_MAGIC);
        out.put_u32(self.option);
        out.put_u32(self.length);
    }

    /// Reads a head without judging its length; fails on a wrong magic.
    pub fn decode(head: &[u8; OPTION_HEAD_LEN]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new("option", head);
        expect_magic("option", cursor.u64()?, OPTION_MAGIC)?;
        Ok(Self { option: cursor.u32()?, length: cursor.u32()? })
    }

    /// Fails when the data is longer than [`OPTION_LEN_MAX`].
    pub fn check_length(self) -> Result<(), WireError> {
        let (length, limit) = (self.length.into(), OPTION_LEN_MAX.into());
        if length <= limit {
            return Ok(());
        }
        Err(WireError::TooLong { what: "option", length, limit })
    }
}

/// Data of `NBD_OPT_INFO` and `NBD_OPT_GO`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfoRequest {
    /// Name of the export; empty for the default one.
    pub name: String,
    /// The information types asked for, known or not (`NBD_INFO_*`).
    pub wants: Vec<u16>,
}

/// Data of `NBD_OPT_LIST_META_CONTEXT` and `NBD_OPT_SET_META_CONTEXT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaQuery {
    /// Name of the export; empty for the default one.
    pub export: String,
    /// The queries, in the order sent.
    pub queries: Vec<String>,
}

/// An option with its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionRequest {
    /// Enter transmission with this export or close; it cannot be answered with an error.
    ExportName {
        /// Name of the export.
        name: String,
    },
    /// End the connection.
    Abort,
    /// List the exports.
    List,
    /// Switch to TLS.
    StartTls,
    /// Describe an export.
    Info(InfoRequest),
    /// Describe an export and enter transmission with it.
    Go(InfoRequest),
    /// Use structured replies.
    StructuredReply,
    /// List metadata contexts.
    ListMetaContext(MetaQuery),
    /// Replace the selected metadata contexts.
    SetMetaContext(MetaQuery),
    /// Use 64-bit requests.
    ExtendedHeaders,
    /// Anything else.
    Unknown {
        /// Which option.
        option: u32,
        /// Its data.
        data: Bytes,
    },
}

impl OptionRequest {
    /// The option's number.
    pub fn number(&self) -> u32 {
        match self {
            Self::ExportName { .. } => EXPORT_NAME,
            Self::Abort => ABORT,
            Self::List => LIST,
            Self::StartTls => STARTTLS,
            Self::Info(_) => INFO,
            Self::Go(_) => GO,
            Self::StructuredReply => STRUCTURED_REPLY,
            Self::ListMetaContext(_) => LIST_META_CONTEXT,
            Self::SetMetaContext(_) => SET_META_CONTEXT,
            Self::ExtendedHeaders => EXTENDED_HEADERS,
            Self::Unknown { option, .. } => *option,
        }
    }

    /// Reads the whole `data` of `option`.
    ///
    /// # Errors
    /// Truncated or left-over data, over-long text, text that is not UTF-8. The stream position is
    /// not lost: the option can be refused and the handshake goes on.
    pub fn decode(option: u32, data: &Bytes) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(name(option), data);
        let request = match option {
            EXPORT_NAME => Self::ExportName { name: cursor.rest_as_text()? },
            // Data after an abort changes nothing about what the client wants.
            ABORT => return Ok(Self::Abort),
            LIST => Self::List,
            STARTTLS => Self::StartTls,
            INFO => Self::Info(decode_info(&mut cursor)?),
            GO => Self::Go(decode_info(&mut cursor)?),
            STRUCTURED_REPLY => Self::StructuredReply,
            LIST_META_CONTEXT => Self::ListMetaContext(decode_query(&mut cursor)?),
            SET_META_CONTEXT => Self::SetMetaContext(decode_query(&mut cursor)?),
            EXTENDED_HEADERS => Self::ExtendedHeaders,
            _ => {
                return Ok(Self::Unknown { option, data: data.clone() });
            }
        };
        cursor.finish()?;
        Ok(request)
    }

    /// Writes head and data.
    pub fn encode(&self, out: &mut impl BufMut) {
        let mut data = Vec::new();
        match self {
            Self::ExportName { name } => data.put_slice(name.as_bytes()),
            Self::Info(info) | Self::Go(info) => encode_info(info, &mut data),
            Self::ListMetaContext(query) | Self::SetMetaContext(query) => {
                encode_query(query, &mut data);
            }
            Self::Unknown { data: unknown, .. } => data.put_slice(unknown),
            Self::Abort | Self::List | Self::StartTls | Self::StructuredReply | Self::ExtendedHeaders => {}
        }
        OptionHead { option: self.number(), length: data.len() as u32 }.encode(out);
        out.put_slice(&data);
    }
}

/// Whether a server that requires TLS serves the option before.
pub(super) fn may_come_before_tls(option: u32) -> bool {
    matches!(option, ABORT | STARTTLS)
}

/// The option's name in messages.
pub(super) fn name(option: u32) -> &'static str {
    match option {
        EXPORT_NAME => "EXPORT_NAME",
        ABORT => "ABORT",
        LIST => "LIST",
        STARTTLS => "STARTTLS",
        INFO => "INFO",
        GO => "GO",
        STRUCTURED_REPLY => "STRUCTURED_REPLY",
        LIST_META_CONTEXT => "LIST_META_CONTEXT",
        SET_META_CONTEXT => "SET_META_CONTEXT",
        EXTENDED_HEADERS => "EXTENDED_HEADERS",
        _ => "unknown option",
    }
}

fn decode_info(cursor: &mut Cursor<'_>) -> Result<InfoRequest, WireError> {
    let name = cursor.text32()?;
    let count = cursor.u16()?;
    let wants = (0..count).map(|_| cursor.u16()).collect::<Result<_, _>>()?;
    Ok(InfoRequest { name, wants })
}

fn encode_info(info: &InfoRequest, out: &mut impl BufMut) {
    put_text32(out, &info.name);
    out.put_u16(info.wants.len() as u16);
    info.wants.iter().for_each(|want| out.put_u16(*want));
}

fn decode_query(cursor: &mut Cursor<'_>) -> Result<MetaQuery, WireError> {
    let export = cursor.text32()?;
    let count = cursor.u32()?;
    // A count that lies ends the loop with `Truncated`; it never sizes an allocation.
    let mut queries = Vec::new();
    for _ in 0..count {
        queries.push(cursor.text32()?);
    }
    Ok(MetaQuery { export, queries })
}

fn encode_query(query: &MetaQuery, out: &mut impl BufMut) {
    put_text32(out, &query.export);
    out.put_u32(query.queries.len() as u32);
    query.queries.iter().for_each(|text| put_text32(out, text));
}
