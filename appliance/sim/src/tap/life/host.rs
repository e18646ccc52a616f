//! What is done at the primary: its volume is changed, flushed and read through the tap, which ends and starts again.
//!
//! Invariant: nothing but its own volume makes a request fail.

use super::{Life, VOLUME_SIZE};
use crate::model::{Checked, Wrong};
use crate::tap::content::Content;
use std::io;
use std::ops::Range;
use understudy_format::journal::Position;
use understudy_initiator::tap::core::{Clock, Core, Phase};
use understudy_initiator::tap::disk::Volume;

impl Life {
    /// Where writes go: mostly around the borders of extents and of the volume.
    fn range(&mut self) -> Range<u64> {
        let around = *self.rng.pick(&[0, 0, 4 << 20, 8 << 20, VOLUME_SIZE]);
        let start = match self.rng.below(10) {
            0 => self.rng.below(VOLUME_SIZE),
            _ => (around + self.rng.below(200 << 10)).saturating_sub(100 << 10),
        };
        let start = start.min(VOLUME_SIZE - 512) / 512 * 512;
        let most = if self.rng.chance(5) { 5 << 20 } else { 40 << 10 };
        start..(start + 512 + self.rng.below(most) / 512 * 512).min(VOLUME_SIZE)
    }

    pub(super) fn change_volume(&mut self) -> Checked {
        let range = self.range();
        match self.rng.below(10) {
            kind @ 0..2 => self.zero(&range, kind == 0)?,
            _ => self.write(&(range.start..range.end.min(range.start + (48 << 10))))?,
        }
        if self.rng.chance(4) { self.flush() } else { Ok(()) }
    }

    /// Any bytes are written to a range.
    pub(super) fn write(&mut self, range: &Range<u64>) -> Checked {
        let bytes = self.bytes((range.end - range.start) as usize);
        self.change(range, |core| core.write(range.start, &bytes), |now| now.write(range.start, &bytes))
    }

    /// A range becomes zero, or is given back.
    pub(super) fn zero(&mut self, range: &Range<u64>, is_trim: bool) -> Checked {
        let (offset, length) = (range.start, range.end - range.start);
        let request = |core: &Core| if is_trim { core.trim(offset, length) } else { core.zero(offset, length, true) };
        self.change(range, request, |now| now.zero(range.clone()))
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let word = if self.rng.chance(10) { 0 } else { self.rng.next_u64() };
        (0..length as u64 / 8).flat_map(|at| (word ^ (at / 100)).to_le_bytes()).collect()
    }

    fn change(
        &mut self,
        range: &Range<u64>,
        request: impl FnOnce(&Core) -> io::Result<()>,
        model: impl FnOnce(&mut Content),
    ) -> Checked {
        let Some(tap) = self.primary.tap().cloned() else { return Ok(()) };
        self.note(format!("change {range:?}"));
        self.stats.writes += 1;
        self.past.doubt(range);
        model(&mut self.past.now);
        let result = request(&tap.core);
        self.entered();
        self.answered("a change", result)
    }

    /// What was done last is in the journal, if there is one.
    fn entered(&mut self) -> Option<Position> {
        let standing = self.primary.tap()?.core.standing();
        let at = Position { journal: standing.journal?, sequence: standing.last };
        self.past.entered(&at);
        (standing.phase != Phase::Dirty).then_some(at)
    }

    /// A request fails with its volume, and never otherwise.
    fn answered(&mut self, what: &str, result: io::Result<()>) -> Checked {
        if self.primary.is_off() {
            return Ok(());
        }
        let volume = self.primary.volume.clone();
        match result {
            _ if volume.failed() => {
                self.note(format!("the volume failed at {what}: {result:?}"));
                volume.set_fault(None);
                self.past.found(&self.primary.content())
            }
            Ok(()) => Ok(()),
            Err(failure) => Err(Wrong(format!("{what} failed though the volume did not: {failure:?}"))),
        }
    }

    pub(super) fn flush(&mut self) -> Checked {
        let Some(tap) = self.primary.tap().cloned() else { return Ok(()) };
        self.note("flush");
        let result = tap.core.flush().map(|_| ());
        let at = self.entered();
        at.iter().for_each(|at| self.past.marked(self.primary.clock.now_ns(), at));
        if result.is_ok() && !self.primary.is_off() {
            self.stats.flushes += 1;
            self.past.flushed();
            self.asked = at.or(self.asked);
        }
        self.answered("a flush", result)
    }

    /// The volume reads as it is.
    pub(super) fn read_volume(&mut self) -> Checked {
        let Some(tap) = self.primary.tap().cloned() else { return Ok(()) };
        let mut bytes = vec![0xEE; VOLUME_SIZE as usize];
        match tap.volume.read_at(&mut bytes, 0) {
            Ok(()) => {}
            Err(_) if self.primary.is_off() => return Ok(()),
            Err(error) => return Err(Wrong(format!("the volume cannot be read: {error}"))),
        }
        match self.past.now.differences(&bytes).first() {
            None => Ok(()),
            Some(block) => Err(Wrong(format!("block {block} of the volume is not what was written"))),
        }
    }

    /// The tap ends as it should, and starts again.
    pub(super) fn restart_tap(&mut self) -> Checked {
        self.note("the tap is restarted");
        self.drop_sessions();
        let closed = self.primary.stop();
        self.note(format!("closed: {closed:?}"));
        self.after_an_end()
    }

    /// The tap ends without notice.
    pub(super) fn end_tap(&mut self, with_power: bool) -> Checked {
        self.note(if with_power { "the primary loses its power" } else { "the tap is killed" });
        self.drop_sessions();
        self.stats.crashes += 1;
        self.stats.operations += self.primary.volume.operations() + self.primary.state.operations();
        self.primary.end(&mut self.rng, with_power);
        self.after_an_end()
    }

    pub(super) fn end_both(&mut self) -> Checked {
        self.end_site(true)?;
        self.end_tap(true)
    }

    fn after_an_end(&mut self) -> Checked {
        self.asked = None;
        if self.primary.is_off() {
            self.primary.end(&mut self.rng, true);
        }
        self.primary.volume.set_fault(None);
        self.past.found(&self.primary.content())?;
        self.boot_tap()
    }

    /// Starts the tap, which may be interrupted again, and which never fails but by its own disks.
    pub(super) fn boot_tap(&mut self) -> Checked {
        self.primary.state.set_limit(None);
        if !self.is_calm && self.rng.chance(10) {
            let at = self.primary.state.operations() + 1 + self.rng.below(12);
            self.primary.state.cut_at(at);
        }
        match self.primary.start() {
            Ok(()) => Ok(()),
            Err(error) if self.primary.is_off() => {
                self.note(format!("the tap cannot be started: {error}"));
                self.primary.end(&mut self.rng, true);
                self.boot_tap()
            }
            Err(_) if self.primary.volume.failed() || self.primary.state.failed() => {
                self.primary.volume.set_fault(None);
                self.primary.state.set_fault(None);
                self.past.found(&self.primary.content())?;
                self.boot_tap()
            }
            Err(error) => Err(Wrong(format!("the tap cannot be started: {error}"))),
        }
    }
}
