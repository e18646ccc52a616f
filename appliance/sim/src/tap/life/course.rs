//! A fixed course of events between a primary and its appliance, with something going wrong at one operation of one of their disks.
//!
//! Invariant: without a fault it is the same from seed to seed up to how disks tear, so that operations can be counted first and broken one by
//! one then.

use super::{Breach, Life, Stats};
use crate::disk::fault::{Fault, Operation};
use crate::model::Checked;
use crate::world::Failure;
use std::ops::Range;

/// Bytes of the tap's journal at most: of files as short as they get.
const JOURNAL_MAX: u64 = 256 << 10;

/// Something that happens.
#[derive(Debug, Clone)]
pub enum Step {
    /// Bytes are written.
    Write(Range<u64>),
    /// A range becomes zero.
    Zero(Range<u64>),
    /// A range is given back.
    Trim(Range<u64>),
    /// The volume is flushed.
    Flush,
    /// Time passes, seconds.
    Wait(u64),
    /// What is in the journal arrives, and what is stale, as far as the appliance takes it.
    Arrive,
    /// The appliance cannot be reached for the steps that come, or can be again.
    Away(bool),
    /// The journal becomes a point.
    Fold,
    /// Points and files go that no moment which is kept needs, and space is given back.
    Prune,
    /// The secondary is brought up to date.
    Settle,
    /// Moments are opened.
    Look,
    /// The tap ends in order, and starts again.
    RestartTap,
    /// The appliance does.
    RestartSite,
}

/// One of the disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// That of the primary volume.
    Volume,
    /// That on which the tap remembers.
    State,
    /// The appliance's.
    Appliance,
}

/// Runs a course in which something goes wrong at one place, or nothing; to a good end.
pub fn course(steps: &[Step], seed: u64, fault: Option<(Place, Fault)>, breach: Breach) -> Result<Stats, Failure> {
    let mut life = Life::with(seed, breach, JOURNAL_MAX);
    if let Some((place, fault)) = fault {
        life.disk(place).set_fault(Some(fault));
    }
    match life.take(steps).and_then(|()| life.settle_down()) {
        Ok(()) => Ok(life.stats),
        Err(wrong) => Err(Failure { seed, wrong, trace: life.trace, test: "tap::course" }),
    }
}

/// All operations that a disk has in a course without a fault.
pub fn operations(steps: &[Step], place: Place) -> Vec<Operation> {
    let mut life = Life::with(0, Breach::None, JOURNAL_MAX);
    life.take(steps).expect("nothing goes wrong");
    life.disk(place).history()
}

impl Life {
    fn disk(&self, place: Place) -> &crate::disk::SimDisk {
        match place {
            Place::Volume => &self.primary.volume,
            Place::State => &self.primary.state,
            Place::Appliance => self.site.disk(),
        }
    }

    fn take(&mut self, steps: &[Step]) -> Checked {
        self.is_calm = true;
        self.boot_site()?;
        self.boot_tap()?;
        for step in steps {
            self.primary.clock.advance(1_000_000);
            self.note(format!("{step:?}"));
            self.step(step)?;
            self.recover()?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Checked {
        match step {
            Step::Write(range) => self.write(range),
            Step::Zero(range) => self.zero(range, false),
            Step::Trim(range) => self.zero(range, true),
            Step::Flush => self.flush(),
            Step::Wait(seconds) => {
                self.primary.clock.advance(seconds * 1_000_000_000);
                Ok(())
            }
            Step::Arrive => self.all_arrives(),
            Step::Away(true) => {
                self.away = u64::MAX;
                self.cut_line()
            }
            Step::Away(false) => {
                self.away = 0;
                Ok(())
            }
            Step::Fold => self.fold(),
            Step::Prune => self.remove_points().and_then(|()| self.trim()).and_then(|()| self.collect()),
            Step::Settle => self.settle(),
            Step::Look => self.look().and_then(|()| self.look_at_held()),
            Step::RestartTap => self.restart_tap(),
            Step::RestartSite => self.restart_site(),
        }
    }

    fn all_arrives(&mut self) -> Checked {
        for _ in 0..8 {
            self.connect()?;
            self.exchange()?;
            self.recover()?;
        }
        Ok(())
    }
}
