//! Extents in the making, in order and without gaps.
//!
//! Invariant: neighbours are never alike; they end where the request does at the latest, and are no more than a reply has room for.

use std::ops::ControlFlow;
use understudy_format::nbd::{EXTENTS_MAX, Extent, Span};

pub(super) struct Runs {
    at: u64,
    end: u64,
    count_max: usize,
    extents: Vec<Extent>,
}

impl Runs {
    /// Those of `span`, or the first of them alone.
    pub(super) fn new(span: Span, one: bool) -> Self {
        let count_max = if one { 1 } else { EXTENTS_MAX };
        Self { at: span.offset, end: span.offset + span.length, count_max, extents: Vec::new() }
    }

    /// Where the next one starts, bytes.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Where the request ends, bytes.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// From where they end to `end` it is so; breaks when nothing more can be told.
    pub(super) fn until(&mut self, end: u64, flags: u32) -> ControlFlow<()> {
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
    pub(super) fn extents(self) -> Vec<Extent> {
        self.extents
    }
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
