//! Digests: BLAKE3-256 of content, and the reserved digest of zeros.
//!
//! Invariants: the digest of a block is that of its bytes, never of their compressed form; the
//! digests of map pages, roots and records are taken in domains of their own, so that no
//! block can be made that passes for a page; [`Digest::ZERO`] stands for content that is all zero
//! and has no storage. A block that is not all zero never gets it (SPEC.md, "Digests").

use crate::layout::Field;
use std::fmt;

/// BLAKE3-256 of some content, or [`Digest::ZERO`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

/// The domain of map pages.
const PAGE_DOMAIN: &str = "understudy 2026-11 map page";
/// The domain of roots.
const ROOT_DOMAIN: &str = "understudy 2026-11 root";
/// The domain of volume and point records.
const RECORD_DOMAIN: &str = "understudy 2026-11 record";
/// The domain of certificates.
const CERTIFICATE_DOMAIN: &str = "understudy 2026-11 certificate";
/// The domain of the secrets of tokens.
const SECRET_DOMAIN: &str = "understudy 2026-11 token secret";

impl Digest {
    /// The reserved digest of an all-zero block, page or subtree.
    pub const ZERO: Self = Self([0; 32]);

    /// The digest of a block's content, [`Digest::ZERO`] when it is all zero.
    pub fn of_block(content: &[u8]) -> Self {
        match is_zero(content) {
            true => Self::ZERO,
            false => Self(*blake3::hash(content).as_bytes()),
        }
    }

    /// The digest of a map page's bytes, [`Digest::ZERO`] when they are all zero.
    pub fn of_page(bytes: &[u8]) -> Self {
        match is_zero(bytes) {
            true => Self::ZERO,
            false => Self::derived(PAGE_DOMAIN, bytes),
        }
    }

    /// The digest of a root's preimage (see [`crate::map::root`]).
    pub(crate) fn of_root(bytes: &[u8]) -> Self {
        Self::derived(ROOT_DOMAIN, bytes)
    }

    /// The digest of a volume or point record's bytes.
    pub fn of_record(bytes: &[u8]) -> Self {
        Self::derived(RECORD_DOMAIN, bytes)
    }

    /// The digest of a certificate in DER form: what people call its fingerprint.
    pub fn of_certificate(der: &[u8]) -> Self {
        Self::derived(CERTIFICATE_DOMAIN, der)
    }

    /// The digest of the secret of a token: all that an appliance keeps of it.
    pub fn of_secret(secret: &[u8; 16]) -> Self {
        Self::derived(SECRET_DOMAIN, secret)
    }

    fn derived(domain: &str, bytes: &[u8]) -> Self {
        Self(*blake3::Hasher::new_derive_key(domain).update(bytes).finalize().as_bytes())
    }

    /// Whether this stands for all zeros.
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// The first 12 hexadecimal digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Field for Digest {
    const SIZE: usize = 32;
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
    fn get(bytes: &[u8]) -> Self {
        Self(<[u8; 32]>::get(bytes))
    }
}

/// Whether every byte is zero.
///
/// Looks at 64 bytes at a time, which the compiler turns into vector instructions, and stops at
/// the first group that is not zero. No byte is left out at either end (bdsync #39).
pub fn is_zero(bytes: &[u8]) -> bool {
    let (groups, tail) = bytes.as_chunks::<64>();
    groups.iter().all(|group| group.iter().fold(0, |seen, byte| seen | byte) == 0) && tail.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// bdsync #39: a zero-detector missed one byte and dropped data.
    #[test]
    fn bdsync_39_one_byte_at_each_position_is_never_zero() {
        for length in [1, 63, 64, 65, 512, 4096, 4097] {
            let mut block = vec![0u8; length];
            assert!(is_zero(&block));
            assert_eq!(Digest::of_block(&block), Digest::ZERO);
            for at in 0..length {
                block[at] = 1;
                assert!(!is_zero(&block), "length {length}, byte {at}");
                block[at] = 0;
            }
        }
    }

    #[test]
    fn a_block_cannot_pass_for_a_page() {
        let bytes = [7u8; 8192];
        let digests =
            [Digest::of_block(&bytes), Digest::of_page(&bytes), Digest::of_root(&bytes), Digest::of_record(&bytes)];
        for (i, a) in digests.iter().enumerate() {
            assert!(digests[i + 1..].iter().all(|b| a != b));
        }
    }
}
