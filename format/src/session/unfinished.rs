//! What an initiator remembers of a stream until its point is stored: enough to ask for its cursor again.
//!
//! Invariants: it is written durably before the first chunk leaves and removed after the point is stored; it names no
//! cursor, because only the appliance knows what is durable there. Losing it costs time: what was sent is then found by
//! its digests.

use crate::error::Result;
use crate::layout::{Layout, check_magic, check_range, check_version, encode_sealed, unseal};
use crate::stream::{Begin, BeginRecord};
use uuid::Uuid;

/// "Understudy UNFinished".
pub const UNFINISHED_MAGIC: [u8; 4] = *b"UUNF";
/// The layout that this program writes and reads.
pub const UNFINISHED_VERSION: u16 = 1;

crate::layout! {
    /// The file of an unfinished stream.
    pub struct UnfinishedStream, 144 {
        /// [`UNFINISHED_MAGIC`].
        0 magic: [u8; 4],
        /// [`UNFINISHED_VERSION`].
        4 version: u16,
        /// 0.
        6 reserved: u16,
        /// The pool that the stream goes to.
        8 pool: Uuid,
        /// A [`BeginRecord`].
        24 begin: [u8; 112],
        /// 0.
        136 reserved_tail: u32,
        /// CRC-32 of the bytes before.
        140 crc: u32,
    }
}

/// See [`UnfinishedStream`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfinished {
    /// The pool that the stream goes to.
    pub pool: Uuid,
    /// How the stream began.
    pub begin: Begin,
}

impl Unfinished {
    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut begin = [0; BeginRecord::SIZE];
        begin.copy_from_slice(&self.begin.encode());
        encode_sealed(&UnfinishedStream {
            magic: UNFINISHED_MAGIC,
            version: UNFINISHED_VERSION,
            reserved: 0,
            pool: self.pool,
            begin,
            reserved_tail: 0,
            crc: 0,
        })
    }

    /// Reads the bytes of the file.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let size = UnfinishedStream::SIZE as u64;
        check_range("unfinished stream", "length", bytes.len() as u64, size, size)?;
        let record = UnfinishedStream::get(bytes)?;
        check_magic("unfinished stream", record.magic, UNFINISHED_MAGIC)?;
        check_version("unfinished stream", record.version, UNFINISHED_VERSION)?;
        unseal("unfinished stream", bytes)?;
        Ok(Self { pool: record.pool, begin: Begin::decode(&record.begin)? })
    }
}
