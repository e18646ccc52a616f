//! Which granules an overlay owns: bits in memory, and on the disk as of the last flush.
//!
//! Invariants: a bit that was set stays set; what [`Bits::take`] gave out stays in memory until it is stored; a page is
//! stored only by a flush, which made the data durable before. Memory: at most [`PAGES_MAX`] pages, and what was set
//! since somebody saw that these are too many ([`Bits::is_crowded`]).

use crate::locks::lock;
use crate::pool::disk::DiskFile;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use understudy_format::overlay::{Found, OwnedPage, PAGE_GRANULES, SLOT_SIZE};

/// Pages that are kept in memory: 1 MiB, the bits of 32 GiB.
const PAGES_MAX: usize = 256;
/// Bytes of a page in the file: two slots.
const PAGE_SIZE: u64 = 2 * SLOT_SIZE as u64;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Bits {
    file: Arc<dyn DiskFile>,
    pages: Mutex<BTreeMap<u64, Kept>>,
}

/// A page in memory.
#[derive(Debug)]
struct Kept {
    page: OwnedPage,
    next_slot: usize,
    stand: Stand,
}

/// What the file has of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// All of it.
    Stored,
    /// All of it soon: a flush has it.
    Storing,
    /// Not all of it.
    Changed,
}

/// A page on its way into the file.
#[derive(Debug)]
pub(super) struct Taken {
    number: u64,
    page: OwnedPage,
    slot: usize,
}

impl Bits {
    /// The bits in `file`.
    pub fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { file, pages: Mutex::default() }
    }

    /// Whether granule `first` is owned, and for how many from it on, at most `max`, that stays so.
    pub fn run(&self, first: u64, max: u64) -> io::Result<(bool, u64)> {
        let (number, at) = (first / PAGE_GRANULES, first % PAGE_GRANULES);
        let mut pages = lock(&self.pages);
        let page = &self.page(&mut pages, number)?.page;
        let (owned, end) = (page.contains(at), at.saturating_add(max).min(PAGE_GRANULES));
        let count = (at..end).take_while(|at| page.contains(*at) == owned).count();
        Ok((owned, count as u64))
    }

    /// Owns granules from now on.
    pub fn own(&self, granules: Range<u64>) -> io::Result<()> {
        let mut pages = lock(&self.pages);
        for granule in granules {
            let kept = self.page(&mut pages, granule / PAGE_GRANULES)?;
            if kept.page.insert(granule % PAGE_GRANULES) {
                kept.stand = Stand::Changed;
            }
        }
        Ok(())
    }

    /// Whether so much changed since the last flush that another one should come before more does.
    pub fn is_crowded(&self) -> bool {
        lock(&self.pages).values().filter(|kept| kept.stand != Stand::Stored).count() >= PAGES_MAX
    }

    /// The first owned granule at or after `from`.
    pub fn next_owned(&self, from: u64) -> io::Result<Option<u64>> {
        let (mut number, mut at) = (from / PAGE_GRANULES, from % PAGE_GRANULES);
        while let Some(next) = self.next_page(number)? {
            at = if next == number { at } else { 0 };
            let mut pages = lock(&self.pages);
            let page = &self.page(&mut pages, next)?.page;
            if let Some(found) = (at..PAGE_GRANULES).find(|at| page.contains(*at)) {
                return Ok(Some(next * PAGE_GRANULES + found));
            }
            (number, at) = (next + 1, 0);
        }
        Ok(None)
    }

    /// How many granules are owned.
    pub fn count(&self) -> io::Result<u64> {
        let (mut number, mut count) = (0, 0);
        while let Some(next) = self.next_page(number)? {
            count += self.page(&mut lock(&self.pages), next)?.page.count();
            number = next + 1;
        }
        Ok(count)
    }

    /// What changed since it was stored, for a flush that must give it to [`Bits::store`].
    pub fn take(&self) -> Vec<Taken> {
        let mut pages = lock(&self.pages);
        let changed = pages.iter_mut().filter(|(_, kept)| kept.stand == Stand::Changed);
        let take = |(number, kept): (&u64, &mut Kept)| {
            kept.stand = Stand::Storing;
            Taken { number: *number, page: kept.page.next(), slot: kept.next_slot }
        };
        changed.map(take).collect()
    }

    /// Writes pages, whose data is durable; not durable before the file is synced.
    pub fn store(&self, taken: &[Taken]) -> io::Result<()> {
        let offset = |taken: &Taken| taken.number * PAGE_SIZE + (taken.slot * SLOT_SIZE) as u64;
        let written =
            taken.iter().try_for_each(|taken| self.file.write_at(&taken.page.encode(taken.number), offset(taken)));
        let mut pages = lock(&self.pages);
        for Taken { number, page, slot } in taken {
            let kept = pages.get_mut(number).expect("what is being stored stays in memory");
            if written.is_ok() {
                (kept.page.sequence, kept.next_slot) = (page.sequence, 1 - slot);
            }
            kept.stand = match (&written, kept.stand) {
                (Ok(()), Stand::Storing) => Stand::Stored,
                _ => Stand::Changed,
            };
        }
        written
    }

    /// The next page, at or after `number`, that may own something.
    fn next_page(&self, number: u64) -> io::Result<Option<u64>> {
        let in_memory = lock(&self.pages).range(number..).next().map(|(number, _)| *number);
        let (size, from) = (self.file.size()?, number.saturating_mul(PAGE_SIZE));
        let data = if from < size { self.file.next_data(from)? } else { size };
        let in_file = (data < size).then_some((data / PAGE_SIZE).max(number));
        Ok(in_memory.into_iter().chain(in_file).min())
    }

    /// A page, read when it is not in memory.
    fn page<'a>(&self, pages: &'a mut BTreeMap<u64, Kept>, number: u64) -> io::Result<&'a mut Kept> {
        if !pages.contains_key(&number) {
            if pages.len() >= PAGES_MAX {
                pages.retain(|_, kept| kept.stand != Stand::Stored);
            }
            let Found { page, next_slot, damage } = self.load(number)?;
            if let Some(damage) = damage {
                tracing::warn!(number, %damage, "a page of a scratch overlay was torn: its bits of the flush before are used");
            }
            pages.insert(number, Kept { page, next_slot, stand: Stand::Stored });
        }
        Ok(pages.get_mut(&number).expect("just seen"))
    }

    fn load(&self, number: u64) -> io::Result<Found> {
        let (mut slots, from) = ([0; PAGE_SIZE as usize], number * PAGE_SIZE);
        let there = self.file.size()?.saturating_sub(from).min(PAGE_SIZE) as usize;
        self.file.read_at(&mut slots[..there], from)?;
        let (first, second) = slots.split_at(SLOT_SIZE);
        OwnedPage::newest([first, second], number).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::disk::{Access, Disk, RealDisk};

    fn bits(dir: &tempfile::TempDir) -> Bits {
        Bits::new(RealDisk.open(&dir.path().join("owned"), Access::Write).unwrap())
    }

    #[test]
    fn what_was_set_after_a_flush_took_its_pages_is_for_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let own = bits(&dir);
        own.own(5..7).unwrap();
        let taken = own.take();
        own.own(7..8).unwrap();
        own.store(&taken).unwrap();
        assert_eq!(bits(&dir).run(0, 100).unwrap(), (false, 5));
        assert_eq!(bits(&dir).run(5, 100).unwrap(), (true, 2));
        assert_eq!(own.run(5, 100).unwrap(), (true, 3));
        own.store(&own.take()).unwrap();
        assert_eq!(bits(&dir).run(5, 100).unwrap(), (true, 3));
        assert!(own.take().is_empty());
    }

    #[test]
    fn memory_is_bounded_however_large_the_volume_is() {
        let dir = tempfile::tempdir().unwrap();
        let own = bits(&dir);
        let at = |page: u64| page * 1000 * PAGE_GRANULES + 9;
        for page in 0..4 * PAGES_MAX as u64 {
            own.own(at(page)..at(page) + 1).unwrap();
            if own.is_crowded() {
                own.store(&own.take()).unwrap();
            }
            assert!(lock(&own.pages).len() <= PAGES_MAX);
        }
        assert_eq!(own.count().unwrap(), 4 * PAGES_MAX as u64);
        own.store(&own.take()).unwrap();
        let (own, mut from, mut found) = (bits(&dir), 0, Vec::new());
        while let Some(next) = own.next_owned(from).unwrap() {
            (from, _) = (next + 1, found.push(next));
        }
        assert!(found.into_iter().eq((0..4 * PAGES_MAX as u64).map(at)));
    }
}
