//! What a volume was, at each entry of each journal that its tap ever began: what points and moments are compared with.
//!
//! Invariants: entered here is what the volume's user did, never what the tap or the appliance say of it; what an entry made of the volume
//! stays true, whether its bytes reached the volume or not.

use super::content::Content;
use crate::model::{Checked, Wrong};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use understudy_format::BlockId;
use understudy_format::journal::Position;
use uuid::Uuid;

#[derive(Debug)]
struct Journal {
    uuid: Uuid,
    /// What there was after as many entries as its index.
    contents: Vec<Content>,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Past {
    /// What the volume is now.
    pub now: Content,
    /// Blocks that were written to since the last flush.
    doubtful: BTreeSet<BlockId>,
    journals: Vec<Journal>,
    /// The last entry of each flush, by when that was.
    marks: BTreeMap<i64, Position>,
}

impl Past {
    /// Of a volume that nobody wrote down before.
    pub fn new(now: Content) -> Self {
        Self { now, doubtful: BTreeSet::new(), journals: Vec::new(), marks: BTreeMap::new() }
    }

    /// A range is about to be changed: until the next flush nobody is promised what a loss of power leaves of it.
    pub fn doubt(&mut self, range: &Range<u64>) {
        let block = |at| self.now.geometry().block_at(at).0;
        self.doubtful.extend((block(range.start)..=block(range.end - 1)).map(BlockId));
    }

    /// Everything is durable at the primary, as a flush said.
    pub fn flushed(&mut self) {
        self.doubtful.clear();
    }

    /// After something went wrong at the primary: what the volume has now, which must be what was flushed.
    pub fn found(&mut self, volume: &[u8]) -> Checked {
        let differing = self.now.differences(volume);
        if let Some(block) = differing.iter().find(|block| !self.doubtful.contains(block)) {
            return Err(Wrong(format!("block {block} of the volume changed, though it was flushed")));
        }
        let geometry = self.now.geometry();
        for block in differing {
            let range = geometry.byte_range(block, 1);
            self.now.put(block, &volume[range.start as usize..range.end as usize]);
        }
        Ok(())
    }

    /// A journal begins.
    pub fn begun(&mut self, uuid: Uuid) {
        self.journals.push(Journal { uuid, contents: vec![self.now.clone()] });
    }

    /// What was done last made all entries of a journal up to this one.
    pub fn entered(&mut self, at: &Position) {
        let Some(journal) = self.journals.iter_mut().find(|journal| journal.uuid == at.journal) else { return };
        journal.contents.resize(journal.contents.len().max(at.sequence as usize + 1), self.now.clone());
    }

    /// The volume was flushed, and what was done last is the mark of it.
    pub fn marked(&mut self, time_ns: i64, at: &Position) {
        self.marks.insert(time_ns, *at);
    }

    /// What there was at the flush of this time.
    pub fn flushed_at(&self, time_ns: i64) -> Option<&Content> {
        self.at(self.marks.get(&time_ns)?)
    }

    /// What there was at an entry.
    pub fn at(&self, at: &Position) -> Option<&Content> {
        let journal = self.journals.iter().find(|journal| journal.uuid == at.journal)?;
        journal.contents.get(at.sequence as usize)
    }

    /// Which of two positions is later: by the order in which the journals began.
    pub fn rank(&self, at: &Position) -> Option<(usize, u64)> {
        let journal = self.journals.iter().position(|journal| journal.uuid == at.journal)?;
        Some((journal, at.sequence))
    }
}
