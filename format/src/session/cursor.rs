//! Where a stream goes on: what the receiving end says when it accepts one.
//!
//! Invariants: a cursor stands behind blocks that are durable at the receiver; it is all zeros when the stream begins
//! from its start, and has a root otherwise, so one meaning has one encoding. The root proves that both ends mean the
//! same blocks before a single one is sent behind them.

use crate::digest::Digest;
use crate::error::{FormatError, Result};
use crate::geometry::BlockId;
use crate::layout::{Layout, Reader, check_range};
use crate::stream::Totals;

crate::layout! {
    /// The cursor in the answer to a begin record.
    pub struct CursorRecord, 80 {
        /// The block that the next chunk starts with.
        0 next_block: u64,
        /// Number of chunks before it.
        8 chunks: u64,
        /// Blocks in them whose bytes travelled.
        16 data_blocks: u64,
        /// Blocks in zero runs.
        24 zero_blocks: u64,
        /// Blocks in unchanged runs.
        32 unchanged_blocks: u64,
        /// Blocks that were references.
        40 reference_blocks: u64,
        /// Root of the volume whose blocks from the next one on are all zero.
        48 root: Digest,
    }
}

/// See the module documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The block that the next chunk starts with.
    pub next_block: BlockId,
    /// What the chunks before it carried.
    pub totals: Totals,
    /// Root of the volume whose blocks from the next one on are all zero; ZERO at the start.
    pub root: Digest,
}

impl Cursor {
    /// Of a stream that begins from its start.
    pub const START: Self = Self {
        next_block: BlockId(0),
        totals: Totals { chunks: 0, data: 0, zero: 0, unchanged: 0, reference: 0 },
        root: Digest::ZERO,
    };

    /// Whether the stream begins from its start.
    pub fn is_start(&self) -> bool {
        self.next_block.0 == 0
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        CursorRecord {
            next_block: self.next_block.0,
            chunks: self.totals.chunks,
            data_blocks: self.totals.data,
            zero_blocks: self.totals.zero,
            unchanged_blocks: self.totals.unchanged,
            reference_blocks: self.totals.reference,
            root: self.root,
        }
        .put(out);
    }

    pub(crate) fn read(what: &'static str, r: &mut Reader<'_>) -> Result<Self> {
        let record: CursorRecord = r.layout()?;
        let totals = Totals {
            chunks: record.chunks,
            data: record.data_blocks,
            zero: record.zero_blocks,
            unchanged: record.unchanged_blocks,
            reference: record.reference_blocks,
        };
        let cursor = Self { next_block: BlockId(record.next_block), totals, root: record.root };
        let next = record.next_block;
        check_range(what, "blocks before the cursor", totals.blocks(), next, next)?;
        check_range(what, "chunks before the cursor", totals.chunks, next.min(1), next)?;
        match cursor.root.is_zero() == cursor.is_start() {
            true => Ok(cursor),
            false => Err(FormatError::invalid(what, "cursor and root contradict each other")),
        }
    }
}
