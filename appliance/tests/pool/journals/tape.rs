//! A journal in memory, to be appended and compared with.

use std::sync::Arc;
use understudy_appliance::error::Result;
use understudy_appliance::journals::{Follower, Journals};
use understudy_format::journal::{Change, Entry, Order, Position};
use understudy_format::point::VolumeName;
use uuid::Uuid;

pub const SIZE: u64 = 64 << 10;

pub fn name() -> VolumeName {
    "v".parse().unwrap()
}

pub fn follow(journals: &Arc<Journals>, tape: &Tape) -> Result<Follower> {
    journals.follow(&name(), tape.journal, tape.size, "a test".to_owned(), 1)
}

/// Entries whose times are their numbers, times 1000.
pub struct Tape {
    pub journal: Uuid,
    pub size: u64,
    order: Order,
    /// Not taken yet.
    bytes: Vec<u8>,
    all: Vec<(Entry, Vec<u8>)>,
}

impl Tape {
    pub fn new(journal: u128) -> Self {
        let order = Order::new(1 << 40, 1, 0);
        Self { journal: Uuid::from_u128(journal), size: SIZE, order, bytes: Vec::new(), all: Vec::new() }
    }

    pub fn position(&self, sequence: u64) -> Position {
        Position { journal: self.journal, sequence }
    }

    pub fn add(&mut self, change: Change) -> &mut Self {
        let number = self.order.next();
        let payload: Vec<u8> =
            (0..change.payload_length()).map(|at| (at * 7 + number * 31 + at / 251) as u8 | 1).collect();
        let entry = self.order.make(number as i64 * 1000, change, &payload);
        self.bytes.extend_from_slice(&entry.encode());
        self.bytes.extend_from_slice(&payload);
        self.all.push((entry, payload));
        self
    }

    pub fn write(&mut self, offset: u64, length: u64) -> &mut Self {
        self.add(Change::Write { offset, length })
    }

    pub fn mark(&mut self) -> &mut Self {
        self.add(Change::Mark)
    }

    /// What came since this was asked last, as it travels.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// The plain definition: a volume with these entries replayed over it, and which bytes they touch.
    pub fn replay(&self, after: u64, through: u64, volume: &mut [u8]) -> Vec<bool> {
        let mut touched = vec![false; volume.len()];
        for (entry, payload) in &self.all[after as usize..through as usize] {
            let Some((offset, length)) = entry.change.range() else { continue };
            let range = offset as usize..(offset + length) as usize;
            touched[range.clone()].fill(true);
            match entry.change {
                Change::Write { .. } => volume[range].copy_from_slice(payload),
                _ => volume[range].fill(0),
            }
        }
        touched
    }

    /// The journal has these entries, and they make of a volume what they should.
    #[track_caller]
    pub fn check(&self, journals: &Arc<Journals>, after: u64, through: u64) {
        let changes = journals.changes(&name(), &self.journal, after, through).unwrap();
        assert_eq!((changes.through(), changes.time_ns()), (through, through as i64 * 1000));
        let before: Vec<u8> = (0..SIZE).map(|at| (at % 253) as u8).collect();
        let mut expected = before.clone();
        let touched = self.replay(after, through, &mut expected);
        for step in [SIZE as usize, 4096, 777] {
            let mut found = before.clone();
            for (at, piece) in found.chunks_mut(step).enumerate() {
                changes.apply((at * step) as u64, piece).unwrap();
            }
            assert!(found == expected, "{after} to {through}, in pieces of {step}");
        }
        let mut extents = vec![false; SIZE as usize];
        let mut end = None;
        for extent in changes.extents() {
            assert!(end.is_none_or(|end| end < extent.start), "extents ascend, and are as long as can be");
            end = Some(extent.end);
            extents[extent.start as usize..extent.end as usize].fill(true);
        }
        assert!(extents == touched);
    }
}
