//! What could not be had of a point: told as it is found, as ranges of blocks.
//!
//! Invariants: ranges ascend, do not overlap, and neighbours that are missing for the same reason are one range; telling
//! never fails a run, for whoever closed the pipe does not want to know.

use crate::text::{bytes, plural};
use serde_json::json;
use std::io::Write;
use understudy_format::{BlockId, Geometry};

/// See the module documentation.
#[derive(Debug)]
pub struct Missing<'a, W> {
    /// Where it is told.
    pub out: &'a mut W,
    /// As JSON lines.
    pub json: bool,
    /// `NAME@NUMBER`.
    pub point: String,
    /// Of the point.
    pub geometry: Geometry,
    /// The range that may still grow: first block, number of blocks, reason.
    pub open: Option<(u64, u64, String)>,
    /// Ranges that were told.
    pub ranges: u64,
    /// Blocks in them.
    pub blocks: u64,
    /// Bytes in them.
    pub bytes: u64,
}

impl<W: Write> Missing<'_, W> {
    /// These blocks are missing.
    pub fn add(&mut self, first: BlockId, count: u64, reason: &str) {
        match &mut self.open {
            Some((start, blocks, why)) if *start + *blocks == first.0 && why == reason => *blocks += count,
            _ => {
                self.tell();
                self.open = Some((first.0, count, reason.to_owned()));
            }
        }
    }

    /// Tells the range that was open.
    pub fn tell(&mut self) {
        let Some((first, count, reason)) = self.open.take() else { return };
        let range = self.geometry.byte_range(BlockId(first), count);
        let (offset, length) = (range.start, range.end - range.start);
        self.ranges += 1;
        self.blocks += count;
        self.bytes += length;
        let blocks = match count {
            1 => format!("block {first}"),
            _ => format!("blocks {first} to {}", first + count - 1),
        };
        let event = json!({
            "event": "missing", "point": self.point, "block": first, "blocks": count,
            "offset": offset, "length": length, "reason": reason,
        });
        let text = format!("missing: {}: {blocks} (offset {offset}, {length} bytes): {reason}", self.point);
        let _ = if self.json { writeln!(self.out, "{event}") } else { writeln!(self.out, "{text}") };
    }

    /// All of it in a few words; `None` when nothing is missing.
    pub fn summary(&self) -> Option<String> {
        let (blocks, ranges) = (plural(self.blocks, "block"), plural(self.ranges, "range"));
        (self.blocks > 0).then(|| format!("{blocks} in {ranges} ({})", bytes(self.bytes)))
    }
}
