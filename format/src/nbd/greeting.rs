//! What a server says first (proto.md, "Fixed newstyle negotiation"); an old-style server's is told apart.

use bytes::BufMut;

use super::option::OPTION_MAGIC;
use super::wire::{Cursor, expect_magic};
use super::{HandshakeFlags, WireError};

/// `NBDMAGIC`, the first bytes of every connection.
const INIT_MAGIC: u64 = 0x4e42_444d_4147_4943;

/// The server's first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// What the server offers.
    pub flags: HandshakeFlags,
}

impl Greeting {
    /// Bytes on the wire.
    pub const LEN: usize = 18;

    /// Writes it.
    pub fn encode(self, out: &mut impl BufMut) {
        out.put_u64(INIT_MAGIC);
        out.put_u64(OPTION_MAGIC);
        out.put_u16(self.flags.0);
    }

    /// Reads it; fails on wrong magics (an old-style server has another second one).
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new("greeting", bytes);
        expect_magic("greeting", cursor.u64()?, INIT_MAGIC)?;
        expect_magic("newstyle greeting", cursor.u64()?, OPTION_MAGIC)?;
        Ok(Self { flags: HandshakeFlags(cursor.u16()?) })
    }
}
