//! A file of bits, in pages of two slots that are written in turn, so that a torn write leaves those of the one before.
//!
//! Invariants: what [`PageFile::store`] was given is durable when it returned; when it fails, each page has the bits that it was given, or
//! those of before. Only pages that differ from what is stored are written.

use super::bits::Bits;
use super::disk::StateFile;
use std::io;
use std::sync::Arc;
use understudy_format::overlay::{Found, OwnedPage, PAGE_GRANULES, PAGE_SIZE, SLOT_SIZE};

/// See the module documentation.
#[derive(Debug)]
pub(super) struct PageFile {
    file: Arc<dyn StateFile>,
    stored: Bits,
    slots: Vec<Slot>,
}

/// Where a page is written to next.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    sequence: u64,
    next: u64,
}

impl PageFile {
    /// What a file has of `count` bits; fails when it is damaged or has another length.
    pub fn open(file: Arc<dyn StateFile>, count: u64) -> io::Result<Self> {
        let pages = count.div_ceil(PAGE_GRANULES);
        let mut opened = Self { file, stored: Bits::none(count), slots: Vec::new() };
        if opened.file.size()? != pages * PAGE_SIZE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file of a bitmap has another length"));
        }
        (0..pages).try_for_each(|number| opened.load(number))?;
        Ok(opened)
    }

    /// None of `count` bits, whatever the file has; not durable before it is stored.
    pub fn create(file: Arc<dyn StateFile>, count: u64) -> io::Result<Self> {
        let pages = count.div_ceil(PAGE_GRANULES);
        file.resize(0)?;
        file.resize(pages * PAGE_SIZE)?;
        Ok(Self { file, stored: Bits::none(count), slots: vec![Slot::default(); pages as usize] })
    }

    /// What is stored.
    pub fn bits(&self) -> &Bits {
        &self.stored
    }

    fn load(&mut self, number: u64) -> io::Result<()> {
        let mut slots = [0; PAGE_SIZE as usize];
        self.file.read_at(&mut slots, number * PAGE_SIZE)?;
        let (first, second) = slots.split_at(SLOT_SIZE);
        let found = OwnedPage::newest([first, second], number);
        let Found { page, next_slot, .. } = found.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.slots.push(Slot { sequence: page.sequence, next: next_slot as u64 });
        self.stored.put_bytes(number * PAGE_GRANULES, page.bits());
        Ok(())
    }

    /// Stores these bits, durably.
    pub fn store(&mut self, bits: &Bits) -> io::Result<()> {
        let differs = |number: &u64| bits.bytes(range(*number)) != self.stored.bytes(range(*number));
        let changed: Vec<u64> = (0..self.slots.len() as u64).filter(differs).collect();
        if changed.is_empty() {
            return Ok(());
        }
        for number in &changed {
            let slot = self.slots[*number as usize];
            let page = OwnedPage::with_bits(slot.sequence + 1, &bits.bytes(range(*number))).expect("as many as fit");
            self.file.write_at(&page.encode(*number), number * PAGE_SIZE + slot.next * SLOT_SIZE as u64)?;
        }
        self.file.sync()?;
        for number in &changed {
            let slot = &mut self.slots[*number as usize];
            *slot = Slot { sequence: slot.sequence + 1, next: 1 - slot.next };
        }
        self.stored.clone_from(bits);
        Ok(())
    }
}

fn range(page: u64) -> std::ops::Range<u64> {
    page * PAGE_GRANULES..(page + 1) * PAGE_GRANULES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tap::disk::Directory;
    use crate::tap::memory::MemoryDirectory;

    const COUNT: u64 = 2 * PAGE_GRANULES + 5;

    #[test]
    fn bits_are_there_again_and_can_be_cleared() {
        let directory = MemoryDirectory::default();
        let mut pages = PageFile::create(directory.open("bits").unwrap(), COUNT).unwrap();
        let mut bits = Bits::none(COUNT);
        for range in [3..5, PAGE_GRANULES - 1..PAGE_GRANULES + 1, COUNT - 1..COUNT] {
            bits.insert(range);
            pages.store(&bits).unwrap();
            assert_eq!(PageFile::open(directory.open("bits").unwrap(), COUNT).unwrap().bits(), &bits);
        }
        pages.store(&Bits::none(COUNT)).unwrap();
        assert!(PageFile::open(directory.open("bits").unwrap(), COUNT).unwrap().bits().is_empty());
        assert!(PageFile::open(directory.open("bits").unwrap(), COUNT + PAGE_GRANULES).is_err(), "another length");
    }

    #[test]
    fn a_torn_page_has_the_bits_of_before_and_a_damaged_one_is_told_of() {
        let directory = MemoryDirectory::default();
        let mut pages = PageFile::create(directory.open("bits").unwrap(), 10).unwrap();
        let stored = |end| {
            let mut bits = Bits::none(10);
            bits.insert(0..end);
            bits
        };
        pages.store(&stored(1)).unwrap();
        pages.store(&stored(2)).unwrap();
        let file = directory.open("bits").unwrap();
        file.write_at(&[0xA5; 100], SLOT_SIZE as u64 + 50).unwrap();
        assert_eq!(PageFile::open(file.clone(), 10).unwrap().bits(), &stored(1));
        file.write_at(&[0xA5; 100], 50).unwrap();
        assert!(PageFile::open(file, 10).is_err());
    }
}
