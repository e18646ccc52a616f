//! Digests of the 4 KiB parts of a block, from which BLAKE3 makes the block's own: with them a part of the block can be
//! checked without the rest (BLAKE3 paper, section 2.1: the chaining values of subtrees; a part is one of four leaves).
//!
//! Invariants: they are worth what the block's digest is worth, for whoever made them compared the digest that came out of them; they are
//! never stored or sent. Blocks that are no power of two, as the last of a volume may be, have none: their trees have other shapes.

use crate::digest::Digest;
use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

/// Bytes of a part.
pub const PART: usize = 4096;

/// What [`PartDigests`] take of memory for each part, bytes.
pub const PART_DIGEST: usize = size_of::<ChainingValue>();

/// See the module documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartDigests(Box<[ChainingValue]>);

impl PartDigests {
    /// Those of a whole block that is not all zero, with the digest of the block that follows from them.
    ///
    /// `None` when the block has no parts: its length is no power of two, or less than two parts.
    pub fn of_block(content: &[u8]) -> Option<(Self, Digest)> {
        if !content.len().is_power_of_two() || content.len() < 2 * PART {
            return None;
        }
        let parts: Box<[_]> = content.chunks_exact(PART).enumerate().map(|(index, part)| digest(index, part)).collect();
        let root = root(&parts);
        Some((Self(parts), root))
    }

    /// Number of parts.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether `bytes`, which are whole parts, are those of the block from part `first` on.
    pub fn are(&self, first: usize, bytes: &[u8]) -> bool {
        let (parts, rest) = bytes.as_chunks::<PART>();
        let expected = self.0.get(first..).and_then(|from| from.get(..parts.len()));
        let is = |(at, (part, expected)): (usize, (&[u8; PART], &ChainingValue))| digest(first + at, part) == *expected;
        rest.is_empty() && expected.is_some_and(|expected| parts.iter().zip(expected).enumerate().all(is))
    }
}

fn digest(index: usize, part: &[u8]) -> ChainingValue {
    Hasher::new().set_input_offset((index * PART) as u64).update(part).finalize_non_root()
}

/// The digest of a whole that has these parts, a power of two of them and at least two.
fn root(parts: &[ChainingValue]) -> Digest {
    let (left, right) = parts.split_at(parts.len() / 2);
    Digest(*merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).as_bytes())
}

fn subtree(parts: &[ChainingValue]) -> ChainingValue {
    match parts {
        [part] => *part,
        parts => {
            let (left, right) = parts.split_at(parts.len() / 2);
            merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
    }

    #[test]
    fn the_digest_of_a_block_follows_from_its_parts() {
        for shift in 13..=20 {
            let content = content(1 << shift);
            let (parts, digest) = PartDigests::of_block(&content).unwrap();
            assert_eq!(digest, Digest::of_block(&content), "{} bytes", content.len());
            assert_eq!(parts.count(), content.len() / PART);
        }
    }

    #[test]
    fn a_part_is_itself_at_its_place_alone() {
        let content = content(16 * PART);
        let (parts, _) = PartDigests::of_block(&content).unwrap();
        for first in 0..16 {
            for count in 1..=16 - first {
                assert!(parts.are(first, &content[first * PART..(first + count) * PART]));
            }
            let mut part = content[first * PART..(first + 1) * PART].to_vec();
            assert!(!parts.are((first + 1) % 16, &part));
            part[first * 255] ^= 1;
            assert!(!parts.are(first, &part));
        }
    }

    #[test]
    fn what_is_no_whole_part_or_beyond_the_block_is_not_of_it() {
        let content = content(2 * PART);
        let (parts, _) = PartDigests::of_block(&content).unwrap();
        assert!(!parts.are(0, &content[..PART - 1]));
        assert!(!parts.are(2, &content[..PART]));
        assert!(!parts.are(1, &content));
        assert!(!parts.are(usize::MAX, &content[..PART]));
    }

    #[test]
    fn blocks_of_other_lengths_have_no_parts() {
        for length in [0, 1, PART, PART + 1, 3 * PART, 16 * PART - 512] {
            assert_eq!(PartDigests::of_block(&content(length)), None, "{length} bytes");
        }
    }
}
