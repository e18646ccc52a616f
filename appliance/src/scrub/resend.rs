//! Which blocks of a point a stream based on it must bring once more, because the pool has lost them.
//!
//! An incremental stream does not offer what did not change. Invariants: a stream that brings all blocks told here needs
//! no damaged record of its base, and heals the base; without any damage in the pool this costs one look at the
//! index, otherwise a walk of the point's map.

use super::pace::Pace;
use super::walk::{Node, Visitor, Walk};
use crate::error::{Error, Result};
use crate::pool::Pool;
use std::collections::HashSet;
use std::sync::atomic::AtomicBool;
use understudy_format::point::Point;
use understudy_format::wire::BlockRange;
use understudy_format::{Digest, Geometry};

/// Ranges that are told one by one; with more of them the whole volume is.
pub const RANGES_MAX: usize = 4096;

/// The blocks of a point that are damaged or lie beneath a damaged page: ascending, apart, at most [`RANGES_MAX`].
pub fn damaged_blocks(pool: &Pool, point: &Point) -> Result<Vec<BlockRange>> {
    let damaged: HashSet<Digest> = pool.damaged()?.iter().map(|damage| damage.digest).collect();
    if damaged.is_empty() {
        return Ok(Vec::new());
    }
    let never = AtomicBool::new(false);
    let mut lost = Lost { damaged, ranges: Vec::new(), blocks: point.map.geometry.block_count() };
    Walk { pool, pace: &mut Pace::unlimited(&never) }.point(point, None, &mut lost)?;
    match lost.ranges.len() > RANGES_MAX {
        true => Ok(vec![BlockRange { first: 0, count: lost.blocks }]),
        false => Ok(lost.ranges),
    }
}

struct Lost {
    damaged: HashSet<Digest>,
    /// One more than the maximum stands for all.
    ranges: Vec<BlockRange>,
    blocks: u64,
}

impl Lost {
    fn add(&mut self, node: &Node) {
        let (first, end) = (node.first_block(), node.end_block().min(self.blocks));
        let is_room = self.ranges.len() <= RANGES_MAX;
        match self.ranges.last_mut().filter(|last| last.first + last.count == first) {
            Some(last) => last.count += end - first,
            None if is_room => {
                self.ranges.push(BlockRange { first, count: end - first });
            }
            None => {}
        }
    }
}

impl Visitor for Lost {
    fn point(&mut self, _: u64, _: &Geometry) {}

    fn node(&mut self, node: &Node) -> Result<bool> {
        let is_damaged = self.damaged.contains(&node.digest);
        if is_damaged {
            self.add(node);
        }
        Ok(!is_damaged && self.ranges.len() <= RANGES_MAX)
    }

    fn unreadable(&mut self, node: &Node, _: Error) -> Result<()> {
        self.add(node);
        Ok(())
    }
}
