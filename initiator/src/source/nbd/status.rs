//! What a server told of a range, in both contexts at once. Pure: extents in, extents out.
//!
//! Invariants: a hole is only what the server says reads as zeros (a hole that does not is of undefined content,
//! and is data); contexts end where they like, and beyond the shortest nothing is known; what a bitmap has not is dirty.

use super::super::Extent;
use understudy_format::nbd::{ContextExtents, STATE_ZERO};

/// `qemu:dirty-bitmap:`: it was written.
const STATE_DIRTY: u32 = 1;

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Status {
    start: u64,
    /// Ascending, each beginning where the one before ends.
    extents: Vec<Extent>,
}

impl Status {
    /// What was told from `start` on of an export of `size` bytes; without a bitmap nothing is clean.
    pub fn new(start: u64, size: u64, allocation: Option<&ContextExtents>, dirty: Option<&ContextExtents>) -> Self {
        let hole = Runs::new(start, size, allocation, |flags| flags & STATE_ZERO != 0);
        let clean = Runs::new(start, size, dirty, |flags| flags & STATE_DIRTY == 0);
        Self { start, extents: intersect(hole, clean) }
    }

    /// What is there from `offset` on, if it was told.
    pub fn at(&self, offset: u64) -> Option<Extent> {
        let at = self.extents.partition_point(|extent| extent.end <= offset);
        self.extents.get(at).copied().filter(|_| offset >= self.start)
    }
}

/// The extents of one context: where each ends, and what it is.
struct Runs(Box<dyn Iterator<Item = (u64, bool)>>);

impl Runs {
    fn new(start: u64, size: u64, told: Option<&ContextExtents>, is: fn(u32) -> bool) -> Self {
        let Some(told) = told.cloned() else { return Self(Box::new(std::iter::once((size, false)))) };
        let runs = told.extents.into_iter().scan(start, move |end, extent| {
            // What is told beyond the end of the export is nothing.
            *end = end.saturating_add(extent.length).min(size);
            Some((*end, is(extent.flags)))
        });
        Self(Box::new(runs))
    }
}

fn intersect(hole: Runs, clean: Runs) -> Vec<Extent> {
    let (Runs(mut holes), Runs(mut cleans)) = (hole, clean);
    let (mut hole, mut clean) = (holes.next(), cleans.next());
    let mut extents: Vec<Extent> = Vec::new();
    while let (Some((hole_end, is_hole)), Some((clean_end, is_clean))) = (hole, clean) {
        let end = hole_end.min(clean_end);
        match extents.last_mut() {
            Some(last) if last.end == end => {}
            Some(last) if (last.hole, last.clean) == (is_hole, is_clean) => last.end = end,
            _ => extents.push(Extent { end, hole: is_hole, clean: is_clean }),
        }
        if hole_end == end {
            hole = holes.next();
        }
        if clean_end == end {
            clean = cleans.next();
        }
    }
    extents
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use understudy_format::nbd::{self, STATE_HOLE};

    fn context(extents: &[(u64, u32)]) -> ContextExtents {
        let extents = extents.iter().map(|(length, flags)| nbd::Extent { length: *length, flags: *flags }).collect();
        ContextExtents { context: 1, extents }
    }

    fn told(allocation: Option<&[(u64, u32)]>, dirty: Option<&[(u64, u32)]>) -> Vec<(u64, bool, bool)> {
        let (allocation, dirty) = (allocation.map(context), dirty.map(context));
        let status = Status::new(0, 100, allocation.as_ref(), dirty.as_ref());
        status.extents.iter().map(|extent| (extent.end, extent.hole, extent.clean)).collect()
    }

    #[test]
    fn the_two_contexts_are_intersected() {
        let both = STATE_HOLE | STATE_ZERO;
        let found = told(Some(&[(40, 0), (60, both)]), Some(&[(20, 0), (50, 1), (30, 0)]));
        assert_eq!(found, [(20, false, true), (40, false, false), (70, true, false), (100, true, true)]);
    }

    #[test]
    fn a_hole_that_does_not_read_as_zeros_is_data() {
        assert_eq!(told(Some(&[(50, STATE_HOLE), (50, STATE_ZERO)]), None), [(50, false, false), (100, true, false)]);
    }

    #[test]
    fn beyond_the_shorter_context_nothing_is_known() {
        let status = Status::new(0, 100, Some(&context(&[(100, 0)])), Some(&context(&[(30, 0)])));
        assert_eq!(status.at(29).unwrap(), Extent { end: 30, hole: false, clean: true });
        assert_eq!(status.at(30), None);
    }

    #[test]
    fn what_is_told_beyond_the_end_is_cut_off() {
        assert_eq!(told(Some(&[(500, 0), (7, 3)]), Some(&[(u64::MAX, 0), (u64::MAX, 1)])), [(100, false, true)]);
    }

    #[test]
    fn without_a_bitmap_nothing_is_clean() {
        assert_eq!(told(Some(&[(100, 3)]), None), [(100, true, false)]);
        assert_eq!(told(None, Some(&[(100, 0)])), [(100, false, true)]);
    }

    #[test]
    fn what_was_not_asked_about_is_not_known() {
        let status = Status::new(50, 100, Some(&context(&[(10, 0)])), None);
        assert_eq!((status.at(49), status.at(60)), (None, None));
        assert_eq!(status.at(50), Some(Extent::data(60)));
        assert_eq!(Status::default().at(0), None);
    }

    fn runs() -> impl Strategy<Value = Vec<(u64, u32)>> {
        proptest::collection::vec((1u64..30, 0u32..4), 1..20)
    }

    /// What a run says of a byte.
    fn flags(runs: &[(u64, u32)], byte: u64) -> Option<u32> {
        let mut end = 0;
        runs.iter().find_map(|(length, flags)| {
            end += length;
            (byte < end).then_some(*flags)
        })
    }

    proptest! {
        #[test]
        fn each_byte_is_what_both_contexts_say(allocation in runs(), dirty in runs()) {
            let status = Status::new(0, 100, Some(&context(&allocation)), Some(&context(&dirty)));
            for byte in 0..100 {
                let expected = flags(&allocation, byte).zip(flags(&dirty, byte));
                let found = status.at(byte).map(|extent| (extent.hole, extent.clean));
                prop_assert_eq!(found, expected.map(|(hole, dirty)| (hole & STATE_ZERO != 0, dirty & 1 == 0)));
            }
        }
    }
}
