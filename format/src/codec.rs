//! How one block is stored: as it is, or LZ4-compressed (block format, no frame).
//!
//! Invariants: each block is encoded by itself, so a single block can be read back alone; the
//! encoding is never longer than the content; decoding never writes more than the length that the
//! caller expects, and fails when it would be another.

use crate::error::{FormatError, Result};
use crate::layout::check_range;
use bytes::Bytes;

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

/// Looked at in a long content, in so many places, to see whether it is worth compressing, bytes.
const SAMPLE: usize = 8 << 10;
const SAMPLES: usize = 8;

/// The LZ4 form of `content` when that is shorter, otherwise the content, and which it is. What is long, and does not get a sixteenth
/// shorter in places, is not tried: that takes as long as what can be compressed, for nothing.
pub fn encode(content: Bytes) -> (Codec, Bytes) {
    if content.len() > 4 * SAMPLES * SAMPLE && !is_promising(&content) {
        return (Codec::Stored, content);
    }
    let mut encoded = Vec::new();
    let codec = encode_into(&content, &mut encoded);
    (codec, encoded.into())
}

fn is_promising(content: &[u8]) -> bool {
    let mut room = vec![0; encoded_room(SAMPLE)];
    let places = (0..SAMPLES).map(|sample| content.len() / SAMPLES * sample);
    let length: usize = places.map(|at| encode_to(&content[at..at + SAMPLE], &mut room).1).sum();
    length <= SAMPLES * SAMPLE / 16 * 15
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

    #[test]
    fn long_content_that_gets_no_shorter_is_not_copied_and_any_other_is_compressed() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let random: Bytes = (0..1 << 20).map(|_| random()).collect();
        let (codec, same) = encode(random.clone());
        assert_eq!((codec, same.as_ptr()), (Codec::Stored, random.as_ptr()));
        // An eighth of it can be compressed, wherever that is.
        for place in 0..8 {
            let mut mixed = random.to_vec();
            mixed[place << 17..(place + 1) << 17].fill(7);
            let (codec, encoded) = encode(mixed.clone().into());
            assert!(codec == Codec::Lz4 && encoded.len() < mixed.len(), "in part {place}");
            let mut decoded = vec![0; mixed.len()];
            decode_into(codec, &encoded, &mut decoded).unwrap();
            assert!(decoded == mixed);
        }
        assert_eq!(encode(Bytes::from(vec![7; 100])).0, Codec::Lz4);
    }

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
