//! The file that makes a directory a pool: `DIR/pool`.
//!
//! Invariant: it is written once, when the pool is created, and never changes.

use crate::error::Result;
use crate::layout::{Layout, check_magic, check_range, check_version, encode_sealed, unseal};
use uuid::Uuid;

/// "Understudy POoL".
pub const POOL_MAGIC: [u8; 4] = *b"UPOL";
/// The pool layout that this program writes and reads.
pub const POOL_VERSION: u16 = 1;

crate::layout! {
    /// The content of the file `pool`.
    pub struct PoolRecord, 64 {
        /// [`POOL_MAGIC`].
        0 magic: [u8; 4],
        /// [`POOL_VERSION`].
        4 version: u16,
        /// 0.
        6 reserved: u16,
        /// The pool.
        8 pool: Uuid,
        /// When it was created, nanoseconds since 1970-01-01T00:00:00Z.
        24 created_ns: i64,
        /// 0.
        32 reserved_tail: [u8; 28],
        /// CRC-32 of the bytes before.
        60 crc: u32,
    }
}

impl PoolRecord {
    /// The record of a new pool.
    pub fn new(pool: Uuid, created_ns: i64) -> Self {
        let (magic, version) = (POOL_MAGIC, POOL_VERSION);
        Self { magic, version, reserved: 0, pool, created_ns, reserved_tail: [0; 28], crc: 0 }
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        encode_sealed(self)
    }

    /// Reads the file.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let size = Self::SIZE as u64;
        check_range("pool file", "length", bytes.len() as u64, size, size)?;
        let record = Self::get(bytes)?;
        check_magic("pool file", record.magic, POOL_MAGIC)?;
        check_version("pool file", record.version, POOL_VERSION)?;
        unseal("pool file", bytes)?;
        Ok(record)
    }
}
