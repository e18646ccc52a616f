//! Which granules an overlay owns: bits in memory, on the disk as of the last flush, and pending for the case that this
//! process ends before the next one.
//!
//! Invariants: a bit that was set stays set; what is pending is believed in the run of the system that wrote it only; what [`Bits::take`] gave out stays in memory until it is stored; a page is
//! stored only by a flush, which made the data durable before. Memory: at most [`PAGES_MAX`] pages, and what was set
//! since somebody saw that these are too many ([`Bits::is_crowded`]).

use crate::locks::lock;
use crate::pool::disk::DiskFile;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use understudy_format::overlay::{Found, OwnedPage, PAGE_GRANULES, PAGE_SIZE, SLOT_SIZE};
use uuid::Uuid;

/// Pages that are kept in memory: 1 MiB, the bits of 32 GiB.
const PAGES_MAX: usize = 256;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Bits {
    file: Arc<dyn DiskFile>,
    pending: Arc<dyn DiskFile>,
    /// This run of the system; nil when that is not known, and nothing pending is believed.
    boot: Uuid,
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
    /// The bits in `file` and, as far as they are of this run of the system, in `pending`.
    pub fn new(file: Arc<dyn DiskFile>, pending: Arc<dyn DiskFile>, boot: Uuid) -> Self {
        Self { file, pending, boot, pages: Mutex::default() }
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
        let (mut pages, mut from) = (lock(&self.pages), granules.start);
        while from < granules.end {
            let number = from / PAGE_GRANULES;
            let end = granules.end.min((number + 1) * PAGE_GRANULES);
            let kept = self.page(&mut pages, number)?;
            let new = (from..end).filter(|granule| kept.page.insert(granule % PAGE_GRANULES)).count();
            if new > 0 {
                kept.stand = Stand::Changed;
                self.remember(number, &kept.page)?;
            }
            from = end;
        }
        Ok(())
    }

    /// Writes a page where the next process finds it, should this one end; a loss of power may take it.
    fn remember(&self, number: u64, page: &OwnedPage) -> io::Result<()> {
        match self.boot.is_nil() {
            true => Ok(()),
            false => self.pending.write_at(&page.next(self.boot).encode(number), number * SLOT_SIZE as u64),
        }
    }

    /// What is pending is not to be believed any more.
    pub fn forget_pending(&self) -> io::Result<()> {
        let _pages = lock(&self.pages);
        self.pending.resize(0)
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
            Taken { number: *number, page: kept.page.next(Uuid::nil()), slot: kept.next_slot }
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

    /// Writes all pages of the file anew, because it is not known what a sync that failed made durable of them.
    pub fn renew(&self) -> io::Result<()> {
        let mut number = 0;
        while let Some(next) = next_in(&*self.file, number, PAGE_SIZE)? {
            self.page(&mut lock(&self.pages), next)?.stand = Stand::Changed;
            if self.is_crowded() {
                self.store(&self.take())?;
            }
            number = next + 1;
        }
        self.store(&self.take())
    }

    /// The next page, at or after `number`, that may own something.
    fn next_page(&self, number: u64) -> io::Result<Option<u64>> {
        let in_memory = lock(&self.pages).range(number..).next().map(|(number, _)| *number);
        let flushed = next_in(&*self.file, number, PAGE_SIZE)?;
        let pending = next_in(&*self.pending, number, SLOT_SIZE as u64)?;
        Ok(in_memory.into_iter().chain(flushed).chain(pending).min())
    }

    /// A page, read when it is not in memory.
    fn page<'a>(&self, pages: &'a mut BTreeMap<u64, Kept>, number: u64) -> io::Result<&'a mut Kept> {
        if !pages.contains_key(&number) {
            if pages.len() >= PAGES_MAX {
                pages.retain(|_, kept| kept.stand != Stand::Stored);
            }
            let Found { mut page, next_slot, damage } = self.load(number)?;
            if let Some(damage) = damage {
                tracing::warn!(number, %damage, "a page of a scratch overlay was torn: its bits of the flush before are used");
            }
            let is_more = self.load_pending(number)?.is_some_and(|pending| page.merge(&pending));
            let stand = if is_more { Stand::Changed } else { Stand::Stored };
            pages.insert(number, Kept { page, next_slot, stand });
        }
        Ok(pages.get_mut(&number).expect("just seen"))
    }

    /// What is pending of a page; what a loss of power made of it is of another run of the system.
    fn load_pending(&self, number: u64) -> io::Result<Option<OwnedPage>> {
        let mut slot = [0; SLOT_SIZE];
        read_at_most(&*self.pending, &mut slot, number * SLOT_SIZE as u64)?;
        let page = OwnedPage::decode(&slot, number).ok();
        Ok(page.filter(|page| page.boot == self.boot && !self.boot.is_nil()))
    }

    fn load(&self, number: u64) -> io::Result<Found> {
        let mut slots = [0; PAGE_SIZE as usize];
        read_at_most(&*self.file, &mut slots, number * PAGE_SIZE)?;
        let (first, second) = slots.split_at(SLOT_SIZE);
        OwnedPage::newest([first, second], number).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// The next page of a file, at or after `number`, that is no hole.
fn next_in(file: &dyn DiskFile, number: u64, page_size: u64) -> io::Result<Option<u64>> {
    let (size, from) = (file.size()?, number.saturating_mul(page_size));
    let data = if from < size { file.next_data(from)? } else { size };
    Ok((data < size).then_some((data / page_size).max(number)))
}

/// Reads as much as there is.
fn read_at_most(file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let there = file.size()?.saturating_sub(offset).min(buffer.len() as u64) as usize;
    file.read_at(&mut buffer[..there], offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::disk::{Access, Disk, RealDisk};

    fn in_boot(dir: &tempfile::TempDir, boot: u128) -> Bits {
        let open = |name| RealDisk.open(&dir.path().join(name), Access::Write).unwrap();
        Bits::new(open("owned"), open("pending"), Uuid::from_u128(boot))
    }

    /// As after a loss of power.
    fn bits(dir: &tempfile::TempDir) -> Bits {
        in_boot(dir, 0)
    }

    #[test]
    fn what_was_not_flushed_is_there_as_long_as_the_system_runs() {
        let dir = tempfile::tempdir().unwrap();
        in_boot(&dir, 1).own(5..7).unwrap();
        let far = 9 * PAGE_GRANULES;
        in_boot(&dir, 1).own(far - 1..far + 1).unwrap();
        assert_eq!(in_boot(&dir, 1).count().unwrap(), 4);
        assert_eq!(in_boot(&dir, 1).next_owned(7).unwrap(), Some(far - 1));
        assert_eq!(in_boot(&dir, 2).count().unwrap(), 0);
        let own = in_boot(&dir, 1);
        assert_eq!(own.run(5, 9).unwrap(), (true, 2));
        own.store(&own.take()).unwrap();
        assert_eq!(in_boot(&dir, 2).count().unwrap(), 2, "what was looked at was flushed as well");
        own.forget_pending().unwrap();
        assert_eq!(in_boot(&dir, 1).count().unwrap(), 2);
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
