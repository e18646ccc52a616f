//! What the points of a volume need: which records, and whether they are there at all.
//!
//! Memory: a bit a record. What a map names and no segment has is remembered as damage, so that it is asked for again.

use super::walk::{Node, Visitor};
use crate::error::{Error, Result};
use crate::pool::Pool;
use crate::pool::index::Location;
use crate::pool::live::Bits;
use std::collections::BTreeSet;
use understudy_format::Geometry;

/// Collects what is needed; see the module documentation.
pub struct Needed<'a> {
    pool: &'a Pool,
    /// Segments that are there, as far as that was asked.
    segments: BTreeSet<u64>,
    /// The records that were passed.
    pub records: Bits,
}

impl<'a> Needed<'a> {
    /// Nothing is needed yet.
    pub fn new(pool: &'a Pool) -> Self {
        Self { pool, segments: BTreeSet::new(), records: Bits::default() }
    }

    fn is_there(&mut self, segment: u64) -> Result<bool> {
        if !self.segments.contains(&segment) {
            self.segments = self.pool.segment_numbers()?.into_iter().collect();
        }
        Ok(self.segments.contains(&segment))
    }

    /// Whether a record that was found is in a segment that is gone, and nowhere else.
    fn is_gone(&mut self, node: &Node, location: Location) -> Result<bool> {
        // What is not yet written has no file yet; what was moved is found elsewhere.
        Ok(!self.is_there(location.segment)? && self.pool.locate(&node.digest)? == Some(location))
    }
}

impl Visitor for Needed<'_> {
    fn point(&mut self, _: u64, _: &Geometry) {}

    fn node(&mut self, node: &Node) -> Result<bool> {
        if node.digest.is_zero() {
            return Ok(false);
        }
        let missing = || {
            let what = if node.level == 0 { "block" } else { "map page" };
            Error::Missing { what, digest: node.digest }
        };
        let location = self.pool.locate(&node.digest)?.ok_or_else(missing)?;
        if location.is_nowhere() {
            return Ok(false);
        }
        if self.is_gone(node, location)? {
            self.pool.mark_gone(&node.digest, location)?;
            return Ok(false);
        }
        Ok(self.records.insert(&location))
    }

    fn unreadable(&mut self, node: &Node, error: Error) -> Result<()> {
        match error {
            Error::Missing { .. } => self.pool.mark_missing(&node.digest, node.kind()),
            // Reading it has marked it.
            _ => Ok(()),
        }
    }
}
