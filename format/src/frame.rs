//! Frames: what streams and sessions are made of, the same bytes in a file, a pipe or a connection.
//!
//! A frame is a 16-byte header (tag, flags, body length, CRC-32 of the three) and the body.
//! Invariants: the length is trusted only after the header's checksum, and never above
//! [`BODY_MAX`]; a frame with an unknown tag is skipped when it is marked [`MAY_SKIP`] and an
//! error otherwise, so that later versions can add records of both kinds.

use crate::error::{FormatError, Result};
use crate::layout::{Layout, check_crc, check_range, encode_sealed};

/// The largest body, bytes: one chunk with its mapping.
pub const BODY_MAX: u32 = 32 << 20;
/// Flag: a reader that does not know the tag passes over the frame.
pub const MAY_SKIP: u32 = 1;

crate::layout! {
    /// The header of every frame.
    pub struct FrameHeader, 16 {
        /// Which body follows: four ASCII letters.
        0 tag: [u8; 4],
        /// [`MAY_SKIP`] or 0; other bits are reserved and ignored.
        4 flags: u32,
        /// Bytes of the body.
        8 length: u32,
        /// CRC-32 of the 12 bytes before.
        12 header_crc: u32,
    }
}

impl FrameHeader {
    /// Reads and checks a header.
    pub fn decode(bytes: &[u8; 16]) -> Result<Self> {
        let header = Self::get(bytes)?;
        check_crc("frame header", header.header_crc, crc32fast::hash(&bytes[..12]))?;
        check_range("frame", "body length", header.length.into(), 0, BODY_MAX.into())?;
        Ok(header)
    }

    /// The bytes of a header for a body of `length` bytes.
    ///
    /// Fails when the body is longer than [`BODY_MAX`].
    pub fn encode(tag: [u8; 4], flags: u32, length: usize) -> Result<[u8; 16]> {
        check_range("frame", "body length", length as u64, 0, BODY_MAX.into())?;
        let header = Self { tag, flags, length: length as u32, header_crc: 0 };
        Ok(encode_sealed(&header).try_into().expect("the layout has 16 bytes"))
    }

    /// Whether a reader that does not know the tag passes over the frame.
    pub fn may_skip(&self) -> bool {
        self.flags & MAY_SKIP != 0
    }

    /// The error for a tag that is not expected here.
    pub fn unexpected(&self, expected: &str) -> FormatError {
        FormatError::invalid("frame", format!("expected {expected}, found {:?}", self.tag.escape_ascii().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_header() {
        let bytes = FrameHeader::encode(*b"CHNK", 0, 5).unwrap();
        assert_eq!(&bytes[..12], b"CHNK\0\0\0\0\x05\0\0\0");
        assert_eq!(FrameHeader::decode(&bytes).unwrap().length, 5);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = FrameHeader::encode(*b"CHNK", 0, 5).unwrap();
        for bit in 0..128 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(FrameHeader::decode(&bad), Err(FormatError::Crc { .. })), "bit {bit}");
        }
    }

    #[test]
    fn a_long_body_is_refused_on_both_sides() {
        let expected = FormatError::Range {
            what: "frame",
            field: "body length",
            found: u64::from(BODY_MAX) + 1,
            min: 0,
            max: BODY_MAX.into(),
        };
        assert_eq!(FrameHeader::encode(*b"CHNK", 0, BODY_MAX as usize + 1), Err(expected.clone()));
        let header = FrameHeader { tag: *b"CHNK", flags: 0, length: BODY_MAX + 1, header_crc: 0 };
        let bytes: [u8; 16] = encode_sealed(&header).try_into().unwrap();
        assert_eq!(FrameHeader::decode(&bytes), Err(expected));
    }
}
