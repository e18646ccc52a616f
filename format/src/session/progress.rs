//! How far a stream came: what the appliance records durably, so that a stream that was cut goes on.
//!
//! Invariants: all blocks before [`Progress::next_block`] are durable when the record is; the record has all that the
//! receiving end knows, so a stream goes on after the loss of power of an appliance as after that of a connection.

use crate::digest::Digest;
use crate::error::Result;
use crate::layout::{Layout, Reader, check_range, put_text};
use crate::map::{LEVEL_MAX, PAGE_SIZE, Page, Partial, top_level};
use crate::point::{LABEL_MAX, Label, NAME_MAX, Volume};
use crate::stream::{Begin, BeginRecord, Totals};
use uuid::Uuid;

crate::layout! {
    /// The fixed part of a progress record; a begin record, the texts `name` and `label` and a list of map pages follow.
    pub struct ProgressRecord, 144 {
        /// The volume.
        0 volume: Uuid,
        /// When the volume was or will have been created, nanoseconds since 1970-01-01T00:00:00Z.
        16 volume_created_ns: i64,
        /// When this was recorded, nanoseconds since 1970-01-01T00:00:00Z.
        24 recorded_ns: i64,
        /// The block after the last one that is durable.
        32 next_block: u64,
        /// Number of chunks.
        40 chunks: u64,
        /// Blocks whose bytes travelled.
        48 data_blocks: u64,
        /// Blocks in zero runs.
        56 zero_blocks: u64,
        /// Blocks in unchanged runs.
        64 unchanged_blocks: u64,
        /// Blocks that were references.
        72 reference_blocks: u64,
        /// Bytes that the stream added to segments so far.
        80 stored_bytes: u64,
        /// Content bytes of the blocks that the stream added to segments so far.
        88 new_bytes: u64,
        /// The top of the map when all slots below it are filled, else zeros.
        96 top: Digest,
        /// 0.
        128 reserved: [u8; 16],
    }
}

/// See the module documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The volume; it may not have a point yet.
    pub volume: Volume,
    /// For the new point.
    pub label: Option<Label>,
    /// How the stream began.
    pub begin: Begin,
    /// What was received.
    pub totals: Totals,
    /// The map, as far as it was built.
    pub map: Partial,
    /// When this was recorded, nanoseconds since 1970-01-01T00:00:00Z.
    pub recorded_ns: i64,
    /// Bytes that the stream added to segments so far.
    pub stored_bytes: u64,
    /// Content bytes of the blocks that the stream added to segments so far.
    pub new_bytes: u64,
}

impl Progress {
    /// The block after the last one that is durable.
    pub fn next_block(&self) -> u64 {
        self.map.next
    }

    /// The content of a progress record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        ProgressRecord {
            volume: self.volume.uuid,
            volume_created_ns: self.volume.created_ns,
            recorded_ns: self.recorded_ns,
            next_block: self.map.next,
            chunks: self.totals.chunks,
            data_blocks: self.totals.data,
            zero_blocks: self.totals.zero,
            unchanged_blocks: self.totals.unchanged,
            reference_blocks: self.totals.reference,
            stored_bytes: self.stored_bytes,
            new_bytes: self.new_bytes,
            top: self.map.top.unwrap_or(Digest::ZERO),
            reserved: [0; 16],
        }
        .put(&mut out);
        out.extend_from_slice(&self.begin.encode());
        put_text(&mut out, self.volume.name.as_str());
        put_text(&mut out, self.label.as_ref().map_or("", Label::as_str));
        out.extend_from_slice(&(self.map.open.len() as u32).to_le_bytes());
        self.map.open.iter().for_each(|page| out.extend_from_slice(page.bytes()));
        out
    }

    /// Reads the content of a progress record.
    pub fn decode(content: &[u8]) -> Result<Self> {
        let mut reader = Reader::new("progress record", content);
        let record = reader.layout::<ProgressRecord>()?;
        let begin = Begin::decode(reader.take(BeginRecord::SIZE)?)?;
        let name = reader.text("name", NAME_MAX)?.parse()?;
        let label = reader.text("label", LABEL_MAX)?;
        let open = reader.list("pages", LEVEL_MAX.into(), |r| Ok(Page::from_bytes(r.take(PAGE_SIZE)?)))?;
        reader.finish()?;
        let (blocks, levels) = (begin.geometry.block_count(), top_level(begin.geometry.block_count()));
        check_range("progress record", "next block", record.next_block, 0, blocks)?;
        check_range("progress record", "pages", open.len() as u64, levels.into(), levels.into())?;
        let block_size = begin.geometry.block_size();
        let top = (record.next_block == crate::map::span(levels)).then_some(record.top);
        Ok(Self {
            volume: Volume { uuid: record.volume, name, block_size, created_ns: record.volume_created_ns },
            label: if label.is_empty() { None } else { Some(label.parse()?) },
            begin,
            totals: Totals {
                chunks: record.chunks,
                data: record.data_blocks,
                zero: record.zero_blocks,
                unchanged: record.unchanged_blocks,
                reference: record.reference_blocks,
            },
            map: Partial { next: record.next_block, open, top },
            recorded_ns: record.recorded_ns,
            stored_bytes: record.stored_bytes,
            new_bytes: record.new_bytes,
        })
    }
}
