//! Scratch overlays: what was written over a point that itself never changes.
//!
//! An overlay is a [`Header`], the data at its own offsets, and for each [`GRANULE`] one bit that says whether the overlay
//! owns it: the granule's bytes are those of the data, otherwise those of the point. Bits are kept in pages, each
//! in two slots that are written in turn; a third one, elsewhere, has those that are not flushed yet, and counts only as long as the system
//! that it was written by runs. Invariants: an owned granule is never given up; a page is written to the slot
//! that does not hold its newest bits, so that a torn write leaves those of the last flush; a slot of zeros was never written.

use crate::digest::Digest;
use crate::error::{FormatError, Result};
use crate::layout::{Layout, check_magic, check_range, check_version, encode_sealed, unseal};
use uuid::Uuid;

/// "Understudy OVerLay".
pub const OVERLAY_MAGIC: [u8; 4] = *b"UOVL";
/// The overlay layout that this program writes and reads.
pub const OVERLAY_VERSION: u16 = 1;
/// What is owned by the overlay or by the point as a whole, bytes.
pub const GRANULE: u64 = 4096;
/// Bytes of a slot.
pub const SLOT_SIZE: usize = 4096;
/// Bytes of a page in the file of owned granules: two slots.
pub const PAGE_SIZE: u64 = 2 * SLOT_SIZE as u64;
/// Bytes of bits in a slot.
pub const SLOT_BITS: usize = 4056;
/// Granules of a page: almost 127 MiB of a volume.
pub const PAGE_GRANULES: u64 = SLOT_BITS as u64 * 8;

crate::layout! {
    /// The file `header` of an overlay.
    pub struct OverlayHeader, 128 {
        /// [`OVERLAY_MAGIC`].
        0 magic: [u8; 4],
        /// [`OVERLAY_VERSION`].
        4 version: u16,
        /// 0.
        6 reserved: u16,
        /// The pool.
        8 pool: Uuid,
        /// The volume.
        24 volume: Uuid,
        /// The number of the point.
        40 point: u64,
        /// Bytes of the point.
        48 volume_size: u64,
        /// Root of the point.
        56 root: Digest,
        /// When the overlay came to be, nanoseconds since 1970-01-01T00:00:00Z.
        88 created_ns: i64,
        /// 0.
        96 reserved_tail: [u8; 28],
        /// CRC-32 of the bytes before.
        124 crc: u32,
    }
}

crate::layout! {
    /// A slot of the files `owned` and `pending` of an overlay.
    pub struct OwnedSlot, 4096 {
        /// The number of the page.
        0 page: u64,
        /// How often the page was written; the higher one of two slots counts.
        8 sequence: u64,
        /// When it was written, in the file `pending`; nil in the file `owned`.
        16 boot: Uuid,
        /// One bit for each granule, the lowest of the first byte first.
        32 bits: [u8; 4056],
        /// 0.
        4088 reserved: [u8; 4],
        /// CRC-32 of the bytes before.
        4092 crc: u32,
    }
}

/// What an overlay is over; see [`OverlayHeader`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The pool.
    pub pool: Uuid,
    /// The volume.
    pub volume: Uuid,
    /// The number of the point.
    pub point: u64,
    /// Bytes of the point.
    pub volume_size: u64,
    /// Root of the point.
    pub root: Digest,
    /// When the overlay came to be, nanoseconds since 1970-01-01T00:00:00Z.
    pub created_ns: i64,
}

impl Header {
    /// The bytes of the header file.
    pub fn encode(&self) -> Vec<u8> {
        encode_sealed(&OverlayHeader {
            magic: OVERLAY_MAGIC,
            version: OVERLAY_VERSION,
            reserved: 0,
            pool: self.pool,
            volume: self.volume,
            point: self.point,
            volume_size: self.volume_size,
            root: self.root,
            created_ns: self.created_ns,
            reserved_tail: [0; 28],
            crc: 0,
        })
    }

    /// Reads a header file.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let size = OverlayHeader::SIZE as u64;
        check_range("overlay header", "length", bytes.len() as u64, size, size)?;
        let header = OverlayHeader::get(bytes)?;
        check_magic("overlay header", header.magic, OVERLAY_MAGIC)?;
        check_version("overlay header", header.version, OVERLAY_VERSION)?;
        unseal("overlay header", bytes)?;
        let OverlayHeader { pool, volume, point, volume_size, root, created_ns, .. } = header;
        Ok(Self { pool, volume, point, volume_size, root, created_ns })
    }
}

/// A page of bits; see [`OwnedSlot`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedPage {
    /// How often the page was written; 0 when it never was.
    pub sequence: u64,
    /// The run of the system that a pending page was written in; nil for one that was flushed.
    pub boot: Uuid,
    bits: Box<[u8]>,
}

/// Where the newest bits of a page are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The newest page.
    pub page: OwnedPage,
    /// The slot that the page is written to next: 0 or 1.
    pub next_slot: usize,
    /// Why the other slot cannot be read: a write that was torn, or damage.
    pub damage: Option<FormatError>,
}

impl Default for OwnedPage {
    fn default() -> Self {
        Self { sequence: 0, boot: Uuid::nil(), bits: vec![0; SLOT_BITS].into() }
    }
}

impl OwnedPage {
    /// The slot's bytes, for page number `page`.
    pub fn encode(&self, page: u64) -> Vec<u8> {
        let bits = self.bits[..].try_into().expect("a page always has all its bits");
        encode_sealed(&OwnedSlot { page, sequence: self.sequence, boot: self.boot, bits, reserved: [0; 4], crc: 0 })
    }

    /// Reads a slot of page number `page`.
    pub fn decode(bytes: &[u8], page: u64) -> Result<Self> {
        let size = OwnedSlot::SIZE as u64;
        check_range("overlay slot", "length", bytes.len() as u64, size, size)?;
        unseal("overlay slot", bytes)?;
        let slot = OwnedSlot::get(bytes)?;
        check_range("overlay slot", "page", slot.page, page, page)?;
        check_range("overlay slot", "sequence", slot.sequence, 1, u64::MAX - 1)?;
        Ok(Self { sequence: slot.sequence, boot: slot.boot, bits: slot.bits.into() })
    }

    /// The newest of the two slots of page number `page`; fails when neither of them can be read.
    pub fn newest(slots: [&[u8]; 2], page: u64) -> Result<Found> {
        let decode = |bytes: &[u8]| match bytes.iter().all(|byte| *byte == 0) {
            true => Ok(Self::default()),
            false => Self::decode(bytes, page),
        };
        let found = |page, next_slot, damage| Found { page, next_slot, damage };
        match slots.map(decode) {
            [Ok(first), Ok(second)] if first.sequence >= second.sequence => Ok(found(first, 1, None)),
            [Ok(_), Ok(second)] => Ok(found(second, 0, None)),
            [Ok(first), Err(damage)] => Ok(found(first, 1, Some(damage))),
            [Err(damage), Ok(second)] => Ok(found(second, 0, Some(damage))),
            [Err(damage), Err(_)] => Err(damage),
        }
    }

    /// A flushed page with these bits, [`SLOT_BITS`] bytes at most, those that are missing 0; `None` when there are more.
    pub fn with_bits(sequence: u64, bits: &[u8]) -> Option<Self> {
        let mut page = Self { sequence, ..Self::default() };
        page.bits.get_mut(..bits.len())?.copy_from_slice(bits);
        Some(page)
    }

    /// [`SLOT_BITS`] bytes, the lowest bit of the first one first.
    pub fn bits(&self) -> &[u8] {
        &self.bits
    }

    /// The same bits, to be written once more: to be flushed when `boot` is nil, pending otherwise.
    pub fn next(&self, boot: Uuid) -> Self {
        Self { sequence: self.sequence + 1, boot, ..self.clone() }
    }

    /// Owns what another page owns as well; whether that is more.
    pub fn merge(&mut self, other: &Self) -> bool {
        let before = self.count();
        self.bits.iter_mut().zip(&other.bits).for_each(|(own, other)| *own |= other);
        self.count() > before
    }

    /// Whether the granule at this place in the page is owned.
    pub fn contains(&self, at: u64) -> bool {
        self.bits[(at / 8) as usize] & 1 << (at % 8) != 0
    }

    /// Owns the granule at this place in the page; whether it was not.
    pub fn insert(&mut self, at: u64) -> bool {
        let is_new = !self.contains(at);
        self.bits[(at / 8) as usize] |= 1 << (at % 8);
        is_new
    }

    /// How many granules are owned.
    pub fn count(&self) -> u64 {
        self.bits.iter().map(|byte| u64::from(byte.count_ones())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(sequence: u64, at: u64) -> OwnedPage {
        let mut page = OwnedPage { sequence, ..OwnedPage::default() };
        assert!(page.insert(at) && !page.insert(at));
        page
    }

    #[test]
    fn the_slot_that_was_written_last_counts_and_the_other_is_next() {
        let (one, two) = (page(1, 0).encode(7), page(2, PAGE_GRANULES - 1).encode(7));
        let newest =
            |slots: [&[u8]; 2]| OwnedPage::newest(slots, 7).map(|found| (found.page.sequence, found.next_slot));
        let never = vec![0; SLOT_SIZE];
        assert_eq!(newest([&one, &two]), Ok((2, 0)));
        assert_eq!(newest([&two, &one]), Ok((2, 1)));
        assert_eq!(newest([&one, &never]), Ok((1, 1)));
        assert_eq!(newest([&never, &never]), Ok((0, 1)));
    }

    #[test]
    fn pages_are_merged_and_know_when_they_were_written() {
        let (mut one, two) = (page(1, 3), page(4, 9));
        assert!(one.merge(&two) && !one.merge(&two));
        assert!(one.contains(3) && one.contains(9) && one.sequence == 1);
        let boot = Uuid::from_u128(8);
        let again = OwnedPage::decode(&one.next(boot).encode(5), 5).unwrap();
        assert_eq!((again.boot, again.sequence, again.count()), (boot, 2, 2));
    }

    #[test]
    fn a_torn_slot_leaves_the_bits_of_the_one_before() {
        let (one, mut two) = (page(1, 9).encode(0), page(2, 10).encode(0));
        two[2000..].fill(0xA5);
        let found = OwnedPage::newest([&one, &two], 0).unwrap();
        assert!(found.page.contains(9) && !found.page.contains(10));
        assert_eq!((found.page.count(), found.next_slot, found.damage.is_some()), (1, 1, true));
        assert!(OwnedPage::newest([&two, &two], 0).is_err());
        assert!(OwnedPage::newest([&one, &one], 1).is_err(), "another page's slot");
    }
}
