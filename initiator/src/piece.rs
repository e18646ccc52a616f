//! Scanning one piece: read, digest, compare, and keep only what may have to travel.
//!
//! Invariants: the data blocks that are kept lie at the start of the buffer, one after another; what is
//! zero or unchanged is read over by what follows. So a volume in which little changed passes through the
//! first bytes of a few buffers, which stay in the processor's cache, and full pieces are never copied.

use crate::buffers::Buffer;
use crate::pack::Cargo;
use crate::scan::{Found, Job, Scanned, push_entry};
use anyhow::Result;
use understudy_format::chunk::Entry;
use understudy_format::codec::Codec;
use understudy_format::{BlockId, Digest};

/// A piece being scanned; see the module documentation.
pub struct Piece<'a> {
    job: &'a Job,
    buffer: Buffer,
    /// Bytes kept.
    end: usize,
    next: BlockId,
    entries: Vec<Entry>,
    digests: Vec<Digest>,
    starts: Vec<u32>,
}

impl<'a> Piece<'a> {
    /// Scans `count` blocks from `first`, which fit in the buffer.
    pub fn scan(job: &'a Job, first: BlockId, count: u64, buffer: Buffer) -> Result<Scanned> {
        let digests = Vec::with_capacity(count as usize);
        let mut piece = Self { job, buffer, end: 0, next: first, entries: Vec::new(), digests, starts: Vec::new() };
        let step = (job.source.read_size() as u64 / u64::from(job.geometry.block_size().bytes())).max(1);
        let end = first.0 + count;
        while piece.next.0 < end {
            piece.step(step.min(end - piece.next.0))?;
        }
        let Self { buffer, entries, digests, starts, .. } = piece;
        let found = Found::Read(digests);
        Ok(Scanned { first, count, entries, found, cargo: Cargo { buffer, starts } })
    }

    /// Reads the next `count` blocks behind what is kept.
    fn step(&mut self, count: u64) -> Result<()> {
        let range = self.job.geometry.byte_range(self.next, count);
        let length = (range.end - range.start) as usize;
        self.job.read(range.start, &mut self.buffer.bytes()[self.end..self.end + length])?;
        let mut at = self.end;
        for block in self.next.0..self.next.0 + count {
            at += self.block(BlockId(block), at);
        }
        self.next.0 += count;
        Ok(())
    }

    /// Digests the block that was read to `at`, and keeps it unless it is zero or as in the base; returns its length.
    fn block(&mut self, block: BlockId, at: usize) -> usize {
        let block_length = self.job.geometry.block_len(block);
        let content = at..at + block_length as usize;
        let digest = Digest::of_block(&self.buffer.as_ref()[content.clone()]);
        self.digests.push(digest);
        if self.job.base.as_ref().is_some_and(|base| base.has(block, &digest)) {
            push_entry(&mut self.entries, Entry::Unchanged { count: 1 });
        } else if digest.is_zero() {
            push_entry(&mut self.entries, Entry::Zero { count: 1 });
        } else {
            if at != self.end {
                self.buffer.bytes().copy_within(content, self.end);
            }
            self.starts.push(self.end as u32);
            self.end += block_length as usize;
            let codec = Codec::Stored;
            self.entries.push(Entry::Data { digest, codec, payload_offset: 0, payload_length: 0, block_length });
        }
        block_length as usize
    }
}
