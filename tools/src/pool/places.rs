//! Where each block and map page is, for reading one point: as small a table as can be.
//!
//! Invariants: all copies of a content are kept, and are tried newest first; nothing is said of whether a copy is good,
//! which shows when it is read. Memory: 44 bytes for each stored block and page, so 0.74 GB for 1 TiB of different
//! 64 KiB blocks, whatever the number and size of volumes and points.

use understudy_format::Digest;
use understudy_format::segment::RECORD_ALIGNMENT;

/// A stored block or page. The order of the fields is the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    digest: [u8; 32],
    /// Position in [`Places::segments`], ascending like the numbers there.
    segment: u32,
    /// Of the record's header, in units of the alignment of records.
    offset: u32,
    stored_length: u32,
}

/// The bound on memory in the module documentation rests on this.
const _: () = assert!(size_of::<Slot>() == 44);

/// One copy of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The segment.
    pub segment: u64,
    /// Of the record's header in it, bytes.
    pub offset: u64,
    /// Bytes of the record after its header.
    pub stored_length: u32,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Places {
    segments: Vec<u64>,
    slots: Vec<Slot>,
}

impl Places {
    /// What comes next is in this segment; segments come in ascending order.
    pub fn enter(&mut self, segment: u64) {
        assert!(self.segments.last().is_none_or(|last| *last < segment), "segments ascend");
        self.segments.push(segment);
    }

    /// Takes a block or page of the segment that was entered last.
    pub fn push(&mut self, digest: Digest, offset: u64, stored_length: u32) {
        let segment = self.segments.len() as u32 - 1;
        let offset = (offset / RECORD_ALIGNMENT) as u32;
        self.slots.push(Slot { digest: digest.0, segment, offset, stored_length });
    }

    /// To be called once, after the last block and before the first question.
    pub fn sort(&mut self) {
        self.slots.sort_unstable();
    }

    /// All copies of a content, the newest first.
    pub fn copies(&self, digest: &Digest) -> impl Iterator<Item = Place> {
        let from = self.slots.partition_point(|slot| slot.digest < digest.0);
        let own = self.slots[from..].iter().take_while(|slot| slot.digest == digest.0);
        let own: Vec<Place> = own.map(|slot| self.place(slot)).collect();
        own.into_iter().rev()
    }

    fn place(&self, slot: &Slot) -> Place {
        Place {
            segment: self.segments[slot.segment as usize],
            offset: u64::from(slot.offset) * RECORD_ALIGNMENT,
            stored_length: slot.stored_length,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_copies_are_found_the_newest_first() {
        let mut places = Places::default();
        for segment in [3, 9] {
            places.enter(segment);
            (0..5).for_each(|n: u8| places.push(Digest([n; 32]), 64 * (u64::from(n) + segment), segment as u32));
        }
        places.sort();
        let found: Vec<Place> = places.copies(&Digest([4; 32])).collect();
        let expected = [(9, 64 * 13, 9), (3, 64 * 7, 3)];
        assert_eq!(found, expected.map(|(segment, offset, stored_length)| Place { segment, offset, stored_length }));
        assert_eq!(places.copies(&Digest([5; 32])).count(), 0);
    }
}
