//! One file: what is durable of it, what was changed since, and what power loss makes of the two.
//!
//! Invariants: `seen` is what a reader gets, always; `durable` is what a loss of power leaves when it takes all
//! that it may take. In between anything is possible that a disk may do (SPEC.md, "What is asked of the
//! disk"): each unsynced change is lost, kept or torn, in any order with the others, and bytes of a torn write may be
//! garbage. A loss never touches bytes that no unsynced change was about.

use crate::rng::Rng;
use std::collections::BTreeSet;

/// What is written as a whole or not, on disks that keep such promises, bytes.
pub const SECTOR: usize = 512;
/// The unit in which space is taken, bytes.
pub const PAGE: u64 = 4096;

/// A change of a file's bytes or length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Bytes at an offset.
    Write {
        /// Bytes from the start of the file.
        offset: u64,
        /// What is written.
        bytes: Vec<u8>,
    },
    /// A range becomes zero; it never extends the file.
    Zero {
        /// Bytes from the start of the file.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// The file has this many bytes now.
    Resize(u64),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let (start, end) = (*offset as usize, *offset as usize + bytes.len());
                content.resize(content.len().max(end), 0);
                content[start..end].copy_from_slice(bytes);
            }
            Self::Zero { offset, length } => {
                let end = (offset + length).min(content.len() as u64) as usize;
                let start = (*offset as usize).min(end);
                content[start..end].fill(0);
            }
            Self::Resize(length) => content.resize(*length as usize, 0),
        }
    }

    /// The first sectors of a write that was interrupted; `None` when nothing of it was done.
    pub fn cut_short(self, rng: &mut Rng) -> Option<Self> {
        let Self::Write { offset, bytes } = self else { return None };
        let sectors = bytes.len().div_ceil(SECTOR) as u64;
        let kept = (rng.below(sectors + 1) as usize * SECTOR).min(bytes.len());
        (kept > 0).then(|| Self::Write { offset, bytes: bytes[..kept].to_vec() })
    }

    /// What is left of an unsynced change after a loss of power: any of its sectors, or all but a run of them, and
    /// garbage in one at times.
    fn torn(self, rng: &mut Rng) -> Vec<Self> {
        let Self::Write { offset, bytes } = self else { return Vec::new() };
        let sectors = bytes.len().div_ceil(SECTOR) as u64;
        let first = rng.below(sectors);
        let run = first..=first + rng.below(sectors - first);
        let by_run = rng.chance(50);
        let mut left = Vec::new();
        for (at, sector) in (0..).zip(bytes.chunks(SECTOR)) {
            let offset = offset + at * SECTOR as u64;
            let is_lost = if by_run { run.contains(&at) } else { rng.chance(50) };
            match (is_lost, rng.chance(6)) {
                (false, _) => left.push(Self::Write { offset, bytes: sector.to_vec() }),
                (true, true) => left.push(Self::Write { offset, bytes: garbage(sector.len(), rng) }),
                (true, false) => {}
            }
        }
        left
    }

    /// A lost write may leave the file as long as it would have been: its size is kept elsewhere than its bytes.
    fn lost(self, rng: &mut Rng, length: u64) -> Option<Self> {
        let Self::Write { offset, bytes } = self else { return None };
        let end = offset + bytes.len() as u64;
        (end > length && rng.chance(30)).then_some(Self::Resize(end))
    }
}

fn garbage(length: usize, rng: &mut Rng) -> Vec<u8> {
    (0..length).map(|_| rng.next_u64() as u8).collect()
}

/// How much of what was not synced a loss of power leaves.
#[derive(Debug, Clone, Copy)]
pub enum Loss {
    /// Nothing.
    All,
    /// All of it.
    Nothing,
    /// Each change has its own fate.
    Some,
}

impl Loss {
    /// The extremes are as likely as the rest: many a mistake shows at one of them alone.
    pub fn of(rng: &mut Rng) -> Self {
        match rng.below(4) {
            0 => Self::All,
            1 => Self::Nothing,
            _ => Self::Some,
        }
    }
}

/// See the module documentation.
#[derive(Debug, Clone, Default)]
pub struct File {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    /// Pages that take space, by number.
    pages: BTreeSet<u64>,
}

impl File {
    /// What a reader gets.
    pub fn content(&self) -> &[u8] {
        &self.seen
    }

    /// Bytes of the disk that it takes.
    pub fn space(&self) -> u64 {
        self.pages.len() as u64 * PAGE
    }

    /// Bytes of the disk that `change` would add.
    pub fn space_for(&self, change: &Change) -> u64 {
        let Change::Write { offset, bytes } = change else { return 0 };
        pages(*offset, bytes.len() as u64).filter(|page| !self.pages.contains(page)).count() as u64 * PAGE
    }

    /// Changes the file, not yet durably.
    pub fn change(&mut self, change: Change) {
        self.account(&change);
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }

    fn account(&mut self, change: &Change) {
        match change {
            Change::Write { offset, bytes } => self.pages.extend(pages(*offset, bytes.len() as u64)),
            Change::Zero { offset, length } => {
                let whole = offset.div_ceil(PAGE)..(offset + length) / PAGE;
                self.pages.retain(|page| !whole.contains(page));
            }
            Change::Resize(length) => drop(self.pages.split_off(&length.div_ceil(PAGE))),
        }
    }

    /// Makes all changes durable.
    pub fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// A sync that fails: the kernel forgets some of the changes for good, and the next sync knows nothing of it.
    ///
    /// The length stays what it was, and what was forgotten is read until [`File::forget_cached`].
    pub fn fail_sync(&mut self, rng: &mut Rng) {
        self.unsynced.retain(|change| matches!(change, Change::Resize(_)) || rng.chance(50));
        self.unsynced.push(Change::Resize(self.seen.len() as u64));
    }

    /// What a failed sync forgot is not read any more either.
    pub fn forget_cached(&mut self) {
        self.seen.clone_from(&self.durable);
        self.unsynced.iter().for_each(|change| change.apply(&mut self.seen));
    }

    /// What is there after a loss of power.
    pub fn lose_power(&mut self, loss: Loss, rng: &mut Rng) {
        let mut left = Vec::new();
        for change in self.unsynced.drain(..) {
            match (loss, rng.below(3)) {
                (Loss::Nothing, _) | (Loss::Some, 0) => left.push(change),
                (Loss::All, _) | (Loss::Some, 1) => left.extend(change.lost(rng, self.durable.len() as u64)),
                _ => left.extend(change.torn(rng)),
            }
        }
        if matches!(loss, Loss::Some) {
            rng.shuffle(&mut left);
        }
        left.iter().for_each(|change| change.apply(&mut self.durable));
        self.seen = self.durable.clone();
        self.pages = pages(0, self.seen.len() as u64).filter(|page| !self.is_zero(*page)).collect();
    }

    fn is_zero(&self, page: u64) -> bool {
        let start = (page * PAGE) as usize;
        self.seen[start..self.seen.len().min(start + PAGE as usize)].iter().all(|byte| *byte == 0)
    }

    /// Flips a bit on the disk itself; returns whether the file is long enough.
    pub fn flip(&mut self, offset: u64, bit: u8) -> bool {
        let flip = |bytes: &mut Vec<u8>| bytes.get_mut(offset as usize).map(|byte| *byte ^= 1 << bit).is_some();
        flip(&mut self.durable) | flip(&mut self.seen)
    }
}

fn pages(offset: u64, length: u64) -> std::ops::Range<u64> {
    offset / PAGE..(offset + length).div_ceil(PAGE)
}
