//! `qemu:dirty-bitmap:since-POINT`: where a point differs from another one of its volume, older or newer.
//!
//! Any tool that reads dirty bitmaps can so pull the difference of two points. It is computed from the two maps, at the
//! cost of what differs. Invariants: the other point is in use, so never removed, from when a client selects the context until it
//! closes the connection; however many points a volume has, a client is shown [`SHOWN_MAX`] of the contexts, and may select any.

use super::LOOKS_MAX;
use crate::error::Result;
use crate::locks::lock;
use crate::view::PointView;
use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::Mutex;
use understudy_format::map::differing;
use understudy_format::nbd::{Extent, Runs, Span};

const PREFIX: &str = "qemu:dirty-bitmap:since-";
/// The bytes differ.
const DIRTY: u32 = 1;
/// Contexts that a client is shown.
const SHOWN_MAX: usize = 128;

/// The contexts that a client is shown: those of the points nearest in number, older ones first.
pub(super) fn shown(view: &PointView) -> Vec<String> {
    let own = view.point().number;
    let mut others = view.numbers();
    others.retain(|number| *number != own);
    others.sort_by_key(|number| (*number > own, number.abs_diff(own)));
    others.into_iter().take(SHOWN_MAX).map(|number| format!("{PREFIX}{number}")).collect()
}

/// Whether a context is about another point that is there.
pub(super) fn knows(view: &PointView, context: &str) -> bool {
    point_of(view, context).is_some_and(|number| view.numbers().binary_search(&number).is_ok())
}

/// The number of the other point in the name of a context; there is one way to write it.
fn point_of(view: &PointView, context: &str) -> Option<u64> {
    let text = context.strip_prefix(PREFIX)?;
    let number = text.parse().ok().filter(|number: &u64| number.to_string() == text)?;
    (number != view.point().number).then_some(number)
}

/// The other points that a client uses.
#[derive(Debug, Default)]
pub(super) struct Others(Mutex<BTreeMap<u64, PointView>>);

impl Others {
    /// The other point of a context; from now on it is in use.
    pub(super) fn find(&self, view: &PointView, context: &str) -> Option<PointView> {
        let number = point_of(view, context)?;
        let mut held = lock(&self.0);
        if let Some(other) = held.get(&number) {
            return Some(other.clone());
        }
        let other = view.sibling(number, "an export")?;
        held.insert(number, other.clone());
        Some(other)
    }
}

/// Where `view` differs from `other`.
pub(super) fn extents(view: &PointView, other: &PointView, span: Span, one: bool) -> Result<Vec<Extent>> {
    let (mut runs, mut looks, mut done) = (Runs::new(span, one), 0, ControlFlow::Continue(()));
    let (map, base) = (&view.point().map, &other.point().map);
    let mut visit = |bytes| {
        looks += 1;
        done = match looks > LOOKS_MAX {
            true => ControlFlow::Break(()),
            false => clean_then_dirty(&mut runs, bytes),
        };
        done
    };
    differing(map, base, span.offset..span.offset + span.length, &mut view.pool().pages(None), &mut visit)?;
    if done.is_continue() {
        let _ = runs.until(runs.end(), 0);
    }
    Ok(runs.extents())
}

fn clean_then_dirty(runs: &mut Runs, bytes: Range<u64>) -> ControlFlow<()> {
    if bytes.start > runs.at() {
        runs.until(bytes.start, 0)?;
    }
    runs.until(bytes.end, DIRTY)
}
