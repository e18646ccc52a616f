//! How one block is stored: as it is, or LZ4-compressed (block format, no frame).
//!
//! Invariants: each block is encoded by itself, so a single block can be read back alone; the
//! encoding is never longer than the content; decoding never writes more than the length that the
//! caller expects, and fails when it would be another.

use crate::error::{FormatError, Result};
use crate::layout::check_range;

/// How the bytes of a block, page or record are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// The bytes themselves.
    Stored = 0,
    /// LZ4 block format (lz4_Block_format.md of the LZ4 project), without a size prefix.
    Lz4 = 1,
}

impl Codec {
    /// The codec for its number in a header.
    pub fn from_wire(number: u8) -> Result<Self> {
        match number {
            0 => Ok(Self::Stored),
            1 => Ok(Self::Lz4),
            _ => Err(FormatError::Range { what: "codec", field: "number", found: number.into(), min: 0, max: 1 }),
        }
    }
}

/// Appends the LZ4 form of `content` to `out` when that is shorter, otherwise the content.
///
/// Returns the codec that was used.
pub fn encode_into(content: &[u8], out: &mut Vec<u8>) -> Codec {
    let start = out.len();
    out.resize(start + lz4_flex::block::get_maximum_output_size(content.len()), 0);
    match lz4_flex::block::compress_into(content, &mut out[start..]) {
        Ok(length) if length < content.len() => {
            out.truncate(start + length);
            Codec::Lz4
        }
        _ => {
            out.truncate(start);
            out.extend_from_slice(content);
            Codec::Stored
        }
    }
}

/// The room that [`encode_to`] needs for a content of `length` bytes.
pub fn encoded_room(length: usize) -> usize {
    lz4_flex::block::get_maximum_output_size(length)
}

/// Writes the LZ4 form of `content` to the start of `out` when that is shorter, otherwise the content.
///
/// Returns the codec that was used and the encoded length. `out` has [`encoded_room`]; unlike
/// [`encode_into`] this never clears memory first, which costs as much as a fast compressor.
pub fn encode_to(content: &[u8], out: &mut [u8]) -> (Codec, usize) {
    match lz4_flex::block::compress_into(content, out) {
        Ok(length) if length < content.len() => (Codec::Lz4, length),
        _ => {
            out[..content.len()].copy_from_slice(content);
            (Codec::Stored, content.len())
        }
    }
}

/// Decodes into `out`, whose length is the length that the content must have.
pub fn decode_into(codec: Codec, encoded: &[u8], out: &mut [u8]) -> Result<()> {
    let length = out.len() as u64;
    let exact = |found: u64| check_range("encoded block", "decoded length", found, length, length);
    match codec {
        Codec::Stored => {
            exact(encoded.len() as u64)?;
            out.copy_from_slice(encoded);
            Ok(())
        }
        Codec::Lz4 => {
            let decoded = lz4_flex::block::decompress_into(encoded, out);
            let decoded = decoded.map_err(|e| FormatError::invalid("encoded block", format!("LZ4: {e}")))?;
            exact(decoded as u64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_comes_back_and_is_never_longer(content in prop::collection::vec(0u8..4, 1..9000)) {
            let mut encoded = vec![9];
            let codec = encode_into(&content, &mut encoded);
            prop_assert!(encoded.len() - 1 <= content.len());
            let mut room = vec![7; encoded_room(content.len())];
            let (same, length) = encode_to(&content, &mut room);
            prop_assert_eq!((same, &room[..length]), (codec, &encoded[1..]));
            let mut out = vec![0; content.len()];
            decode_into(codec, &encoded[1..], &mut out).unwrap();
            prop_assert_eq!(out, content);
        }

        #[test]
        fn a_wrong_length_is_an_error(content in prop::collection::vec(0u8..4, 2..4000), change in 1usize..100) {
            let mut encoded = Vec::new();
            let codec = encode_into(&content, &mut encoded);
            prop_assert!(decode_into(codec, &encoded, &mut vec![0; content.len() + change]).is_err());
            prop_assert!(decode_into(codec, &encoded, &mut vec![0; content.len().saturating_sub(change)]).is_err());
        }
    }

    #[test]
    fn random_bytes_are_stored() {
        let mut content = vec![0; 65536];
        blake3::Hasher::new().finalize_xof().fill(&mut content);
        let mut encoded = Vec::new();
        assert_eq!(encode_into(&content, &mut encoded), Codec::Stored);
        assert_eq!(encoded, content);
    }
}
