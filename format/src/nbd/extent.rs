//! Runs of an export with one status each, as `NBD_CMD_BLOCK_STATUS` reports them.
//!
//! Invariant of what [`Runs`] and [`fit`] return: no empty run, no two neighbours with equal flags, never more
//! bytes than asked for and never more than [`EXTENTS_MAX`] runs. It must not interpret flags: their
//! meaning belongs to the metadata context.

use super::Span;
use std::ops::ControlFlow;

/// `base:allocation`: not allocated in the storage behind the export.
pub const STATE_HOLE: u32 = 1;
/// `base:allocation`: reads as zeroes.
pub const STATE_ZERO: u32 = 2;
/// Most runs in one reply for one context; a client asks again from where they end. 32 KiB on the wire.
pub const EXTENTS_MAX: usize = 4096;

/// A run of bytes with one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Length, in bytes.
    pub length: u64,
    /// Status, with the meaning that its context gives it.
    pub flags: u32,
}

impl Extent {
    /// A run that holds, or may hold, data (`base:allocation`).
    pub const fn data(length: u64) -> Self {
        Self { length, flags: 0 }
    }

    /// A run without storage that reads as zeroes (`base:allocation`).
    pub const fn hole(length: u64) -> Self {
        Self { length, flags: STATE_HOLE | STATE_ZERO }
    }
}

/// Runs in the making, in order and without gaps.
#[derive(Debug)]
pub struct Runs {
    at: u64,
    end: u64,
    count_max: usize,
    extents: Vec<Extent>,
}

impl Runs {
    /// Those of `span`, or the first of them alone.
    pub fn new(span: Span, one: bool) -> Self {
        let count_max = if one { 1 } else { EXTENTS_MAX };
        Self { at: span.offset, end: span.offset + span.length, count_max, extents: Vec::new() }
    }

    /// Where the next one starts, bytes.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Where the request ends, bytes.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// From where they end to `end` it is so; breaks when nothing more can be told.
    pub fn until(&mut self, end: u64, flags: u32) -> ControlFlow<()> {
        let end = end.min(self.end);
        let length = end.saturating_sub(self.at);
        let full = self.extents.len() == self.count_max;
        match self.extents.last_mut() {
            _ if length == 0 => {}
            Some(last) if last.flags == flags => last.length += length,
            _ if full => return ControlFlow::Break(()),
            _ => self.extents.push(Extent { length, flags }),
        }
        self.at = end.max(self.at);
        if self.at == self.end { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// What was told.
    pub fn extents(self) -> Vec<Extent> {
        self.extents
    }
}

/// Makes `extents`, which start at a request's offset, sendable as the answer to a request of
/// `length` bytes: clipped, merged and bounded; a single run when `one` is set.
pub fn fit(extents: impl IntoIterator<Item = Extent>, length: u64, one: bool) -> Vec<Extent> {
    let mut runs = Runs::new(Span { offset: 0, length }, one);
    for Extent { length, flags } in extents {
        if runs.until(runs.at().saturating_add(length), flags).is_break() {
            break;
        }
    }
    runs.extents()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alike_neighbours_are_one_and_the_request_ends_them() {
        let mut runs = Runs::new(Span { offset: 100, length: 50 }, false);
        assert!(
            runs.until(110, 1).is_continue() && runs.until(110, 0).is_continue() && runs.until(120, 1).is_continue()
        );
        assert!(runs.until(1000, 0).is_break());
        assert_eq!(runs.extents(), [Extent { length: 20, flags: 1 }, Extent { length: 30, flags: 0 }]);
    }

    #[test]
    fn the_first_alone_goes_on_until_it_ends() {
        let mut runs = Runs::new(Span { offset: 0, length: 50 }, true);
        assert!(runs.until(10, 1).is_continue() && runs.until(20, 1).is_continue());
        assert!(runs.until(30, 0).is_break() && runs.until(40, 0).is_break());
        assert_eq!(runs.extents(), [Extent { length: 20, flags: 1 }]);
    }
}
