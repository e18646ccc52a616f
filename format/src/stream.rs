//! Streams: a begin record, chunks in order, a commit record; each in a frame of its own.
//!
//! [`Checker`] holds the rules that make a run of records a stream: one volume, one geometry,
//! sequence numbers from 0 without gaps, blocks covered once and in order, totals that agree.
//! It is shared by every reader, online and offline, so that the two cannot differ.
//! It checks no digests and computes no root: that is the receiver's part.

use crate::chunk::{ChunkHead, Entry};
use crate::digest::Digest;
use crate::error::{FormatError, Result};
use crate::geometry::{BlockId, Geometry};
use crate::layout::{Layout, check_range, check_version, encode_sealed, unseal};
use uuid::Uuid;

/// Tag of the frame that opens a stream.
pub const BEGIN: [u8; 4] = *b"BEGN";
/// Tag of the frame that holds a chunk.
pub const CHUNK: [u8; 4] = *b"CHNK";
/// Tag of the frame that closes a stream.
pub const COMMIT: [u8; 4] = *b"CMIT";
/// The stream layout that this program writes and reads.
pub const STREAM_VERSION: u16 = 1;

crate::layout! {
    /// The body of a begin record.
    pub struct BeginRecord, 112 {
        /// [`STREAM_VERSION`].
        0 version: u16,
        /// 1 full, 2 incremental.
        2 kind: u8,
        /// 0.
        3 reserved: u8,
        /// Bytes.
        4 block_size: u32,
        /// The volume; nil when it belongs to no appliance's volume yet.
        8 volume: Uuid,
        /// A random name of this stream.
        24 stream: Uuid,
        /// Bytes.
        40 volume_size: u64,
        /// Size of the base, bytes; 0 in a full stream.
        48 base_size: u64,
        /// Root of the base; zeros in a full stream.
        56 base_root: Digest,
        /// When reading of the source began, nanoseconds since 1970-01-01T00:00:00Z.
        88 created_ns: i64,
        /// 0.
        96 reserved_tail: [u8; 12],
        /// CRC-32 of the bytes before.
        108 crc: u32,
    }
}

crate::layout! {
    /// The body of a commit record.
    pub struct CommitRecord, 104 {
        /// As in the begin record.
        0 stream: Uuid,
        /// Number of chunks.
        16 chunks: u64,
        /// Blocks whose bytes travelled.
        24 data_blocks: u64,
        /// Blocks that are all zero.
        32 zero_blocks: u64,
        /// Blocks as in the base.
        40 unchanged_blocks: u64,
        /// Blocks that the receiver had.
        48 reference_blocks: u64,
        /// Root of the whole volume, as the sender computed it.
        56 root: Digest,
        /// 0.
        88 reserved: [u8; 12],
        /// CRC-32 of the bytes before.
        100 crc: u32,
    }
}

/// The base of an incremental stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// Its root.
    pub root: Digest,
    /// Its volume size, bytes.
    pub size: u64,
}

/// How a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// The volume; nil when it belongs to no appliance's volume yet.
    pub volume: Uuid,
    /// A random name of this stream.
    pub stream: Uuid,
    /// Of the volume as it is sent.
    pub geometry: Geometry,
    /// What the unchanged blocks refer to; `None` makes the stream a full one.
    pub base: Option<Base>,
    /// When reading of the source began, nanoseconds since 1970-01-01T00:00:00Z.
    pub created_ns: i64,
}

impl Begin {
    /// The body of the begin frame.
    pub fn encode(&self) -> Vec<u8> {
        encode_sealed(&BeginRecord {
            version: STREAM_VERSION,
            kind: if self.base.is_some() { 2 } else { 1 },
            reserved: 0,
            block_size: self.geometry.block_size().bytes(),
            volume: self.volume,
            stream: self.stream,
            volume_size: self.geometry.volume_size(),
            base_size: self.base.map_or(0, |base| base.size),
            base_root: self.base.map_or(Digest::ZERO, |base| base.root),
            created_ns: self.created_ns,
            reserved_tail: [0; 12],
            crc: 0,
        })
    }

    /// Reads the body of a begin frame.
    pub fn decode(body: &[u8]) -> Result<Self> {
        let size = BeginRecord::SIZE as u64;
        check_range("begin record", "length", body.len() as u64, size, size)?;
        let record = BeginRecord::get(body)?;
        check_version("stream", record.version, STREAM_VERSION)?;
        unseal("begin record", body)?;
        let geometry = Geometry::from_wire(record.volume_size, record.block_size)?;
        let base = Base { root: record.base_root, size: record.base_size };
        let base = match (record.kind, base.root.is_zero(), base.size) {
            (1, true, 0) => None,
            (2, false, 1..) => Some(Geometry::new(base.size, geometry.block_size()).map(|_| base)?),
            _ => return Err(FormatError::invalid("begin record", "kind and base contradict each other")),
        };
        Ok(Self { volume: record.volume, stream: record.stream, geometry, base, created_ns: record.created_ns })
    }

    /// The geometry of the base, when there is one.
    pub fn base_geometry(&self) -> Option<Geometry> {
        let base = self.base?;
        Geometry::new(base.size, self.geometry.block_size()).ok()
    }
}

/// What a stream carried, in blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Number of chunks.
    pub chunks: u64,
    /// Blocks whose bytes travelled.
    pub data: u64,
    /// Blocks that are all zero.
    pub zero: u64,
    /// Blocks as in the base.
    pub unchanged: u64,
    /// Blocks that the receiver had.
    pub reference: u64,
}

impl Totals {
    /// Counts one chunk.
    pub fn add(&mut self, head: &ChunkHead) {
        self.chunks += 1;
        for entry in &head.entries {
            *match entry {
                Entry::Data { .. } => &mut self.data,
                Entry::Zero { .. } => &mut self.zero,
                Entry::Unchanged { .. } => &mut self.unchanged,
                Entry::Reference { .. } => &mut self.reference,
            } += entry.count();
        }
    }

    /// All blocks; totals that were only just decoded may be any numbers, so the sum saturates.
    pub fn blocks(&self) -> u64 {
        [self.data, self.zero, self.unchanged, self.reference].into_iter().fold(0, u64::saturating_add)
    }
}

/// How a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// As in the begin record.
    pub stream: Uuid,
    /// What was sent.
    pub totals: Totals,
    /// Root of the whole volume, as the sender computed it.
    pub root: Digest,
}

impl Commit {
    /// The body of the commit frame.
    pub fn encode(&self) -> Vec<u8> {
        encode_sealed(&CommitRecord {
            stream: self.stream,
            chunks: self.totals.chunks,
            data_blocks: self.totals.data,
            zero_blocks: self.totals.zero,
            unchanged_blocks: self.totals.unchanged,
            reference_blocks: self.totals.reference,
            root: self.root,
            reserved: [0; 12],
            crc: 0,
        })
    }

    /// Reads the body of a commit frame.
    pub fn decode(body: &[u8]) -> Result<Self> {
        let size = CommitRecord::SIZE as u64;
        check_range("commit record", "length", body.len() as u64, size, size)?;
        let record = CommitRecord::get(body)?;
        unseal("commit record", body)?;
        let totals = Totals {
            chunks: record.chunks,
            data: record.data_blocks,
            zero: record.zero_blocks,
            unchanged: record.unchanged_blocks,
            reference: record.reference_blocks,
        };
        Ok(Self { stream: record.stream, totals, root: record.root })
    }
}

/// Holds the rules of a stream while its records go by.
#[derive(Debug, Clone)]
pub struct Checker {
    begin: Begin,
    next_block: u64,
    totals: Totals,
}

impl Checker {
    /// A checker of the stream that begins so.
    pub fn new(begin: Begin) -> Self {
        Self { begin, next_block: 0, totals: Totals::default() }
    }

    /// A checker of the rest of a stream whose chunks before `next_block` carried `totals`.
    pub fn resume(begin: Begin, totals: Totals, next_block: BlockId) -> Self {
        Self { begin, next_block: next_block.0, totals }
    }

    /// How the stream began.
    pub fn begin(&self) -> &Begin {
        &self.begin
    }

    /// What went by so far.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The block that the next chunk must start with.
    pub fn next_block(&self) -> BlockId {
        BlockId(self.next_block)
    }

    /// Takes the next chunk.
    pub fn chunk(&mut self, head: &ChunkHead) -> Result<()> {
        self.check_identity(head)?;
        if head.first_block.0 != self.next_block {
            let reason = format!("starts at block {}, block {} expected", head.first_block, self.next_block);
            return Err(FormatError::invalid("chunk", reason));
        }
        self.check_unchanged(head)?;
        self.next_block += head.block_count();
        self.totals.add(head);
        Ok(())
    }

    fn check_identity(&self, head: &ChunkHead) -> Result<()> {
        let wrong = |reason: String| Err(FormatError::invalid("chunk", reason));
        if head.stream != self.begin.stream || head.volume != self.begin.volume {
            return wrong(format!("of stream {}, not of stream {}", head.stream, self.begin.stream));
        }
        if head.geometry != self.begin.geometry {
            return wrong("of another volume or block size than its stream".into());
        }
        match head.sequence == self.totals.chunks {
            true => Ok(()),
            false => wrong(format!("sequence number {}, {} expected", head.sequence, self.totals.chunks)),
        }
    }

    /// Unchanged blocks must exist in the base, with the same length.
    fn check_unchanged(&self, head: &ChunkHead) -> Result<()> {
        let base = self.begin.base_geometry();
        for (block, entry) in head.blocks() {
            let Entry::Unchanged { count } = entry else { continue };
            let last = BlockId(block.0 + count - 1);
            let same =
                base.filter(|b| last.0 < b.block_count() && b.block_len(last) == self.begin.geometry.block_len(last));
            if same.is_none() {
                return Err(FormatError::invalid(
                    "chunk",
                    format!("block {last} is unchanged, but the base has no such block"),
                ));
            }
        }
        Ok(())
    }

    /// Takes the commit record: everything must have been covered, and the totals must agree.
    pub fn commit(&self, commit: &Commit) -> Result<()> {
        let wrong = |reason: String| Err(FormatError::invalid("commit record", reason));
        let blocks = self.begin.geometry.block_count();
        if commit.stream != self.begin.stream {
            return wrong(format!("of stream {}, not of stream {}", commit.stream, self.begin.stream));
        }
        if self.next_block != blocks {
            return wrong(format!("{} of {blocks} blocks were sent", self.next_block));
        }
        match commit.totals == self.totals {
            true => Ok(()),
            false => wrong(format!("totals sent {:?}, received {:?}", commit.totals, self.totals)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_of_any_size_are_added_without_overflow() {
        assert_eq!(Totals { data: u64::MAX, zero: 1, ..Totals::default() }.blocks(), u64::MAX);
        assert_eq!(Totals { chunks: 9, data: 1, zero: 2, unchanged: 3, reference: 4 }.blocks(), 10);
    }
}
