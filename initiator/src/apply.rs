//! Applying chunks of a point to a target: decode, check, write, on threads of their own.
//!
//! Invariants: a block is written only when its bytes have the digest that came with it; what was written is
//! noted in the target's map by the digest of the very bytes; the first failure stops everything and is
//! what [`Applier::finish`] returns. Memory: a few chunks.

use crate::target::Target;
use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::BytesMut;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::thread::JoinHandle;
use understudy_format::chunk::{Chunk, Entry};
use understudy_format::codec::decode_into;
use understudy_format::mapfile::Shape;
use understudy_format::{BlockId, Digest, Geometry};
use understudy_net::aligned;

const THREADS: usize = 2;
const QUEUE: usize = 4;
/// Bytes of one write: the largest block, at least.
const RUN_MAX: usize = 1 << 20;

/// What is written to, and what is noted of it.
#[derive(Debug)]
pub struct Sink {
    /// The target.
    pub target: Target,
    /// The map of the target, patched as it is written.
    pub map: File,
    /// Of the point.
    pub geometry: Geometry,
}

/// Neighbouring blocks on their way to one write.
struct Run {
    buffer: BytesMut,
    offset: u64,
    length: usize,
}

impl Run {
    fn new() -> Self {
        Self { buffer: aligned::pages(RUN_MAX), offset: 0, length: 0 }
    }

    fn takes(&self, offset: u64, length: usize) -> bool {
        self.length == 0 || (self.offset + self.length as u64 == offset && self.length + length <= RUN_MAX)
    }

    /// Memory for the bytes that come next.
    fn extend(&mut self, offset: u64, length: usize) -> &mut [u8] {
        if self.length == 0 {
            self.offset = offset;
        }
        self.length += length;
        &mut self.buffer[self.length - length..self.length]
    }
}

impl Sink {
    /// Writes what a chunk holds.
    fn apply(&self, chunk: &Chunk, run: &mut Run) -> Result<()> {
        for (id, entry) in chunk.head.blocks() {
            match *entry {
                Entry::Data { digest, block_length, .. } => {
                    let (codec, encoded) = chunk.encoded(entry).context("a data entry has bytes")?;
                    let (offset, length) = (self.geometry.offset(id), block_length as usize);
                    if !run.takes(offset, length) {
                        self.write(run)?;
                    }
                    let content = run.extend(offset, length);
                    decode_into(codec, &encoded, content).with_context(|| format!("block {id}"))?;
                    let found = Digest::of_block(content);
                    ensure!(
                        found == digest,
                        "block {id} at offset {offset}: expected digest {digest}, the appliance sent {found}"
                    );
                    self.note(id, found)?;
                }
                Entry::Zero { count } => self.zero(id, count)?,
                Entry::Unchanged { .. } | Entry::Reference { .. } => {
                    bail!("block {id}: the appliance sent no bytes for it")
                }
            }
        }
        self.write(run)
    }

    fn write(&self, run: &mut Run) -> Result<()> {
        let length = std::mem::take(&mut run.length);
        self.target.write(run.offset, &run.buffer[..length])
    }

    /// Makes blocks zero.
    pub fn zero(&self, first: BlockId, count: u64) -> Result<()> {
        let range = self.geometry.byte_range(first, count);
        self.target.zero(range.start, range.end - range.start)?;
        (first.0..first.0 + count).try_for_each(|block| self.note(BlockId(block), Digest::ZERO))
    }

    fn note(&self, block: BlockId, digest: Digest) -> Result<()> {
        let offset = Shape::new(&self.geometry).node(0, block.0).start as u64;
        self.map.write_all_at(&digest.0, offset).context("digest map of the target: writing")
    }
}

/// Applies chunks; see the module documentation.
#[derive(Debug)]
pub struct Applier {
    chunks: Sender<Chunk>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Applier {
    /// Starts the threads.
    pub fn start(sink: &Arc<Sink>) -> Self {
        let (chunks, queue) = bounded(QUEUE);
        let spawn = |_| {
            let (sink, queue) = (sink.clone(), queue.clone());
            std::thread::spawn(move || work(&sink, &queue))
        };
        Self { chunks, threads: (0..THREADS).map(spawn).collect() }
    }

    /// Hands over a chunk; `false` when all threads have failed.
    pub fn apply(&self, chunk: Chunk) -> bool {
        self.chunks.send(chunk).is_ok()
    }

    /// Waits until everything is written; the first failure, if there was one.
    pub fn finish(self) -> Result<()> {
        drop(self.chunks);
        let join = |thread: JoinHandle<_>| thread.join().unwrap_or_else(|_| Err(anyhow!("a writing thread panicked")));
        let ended: Vec<Result<()>> = self.threads.into_iter().map(join).collect();
        ended.into_iter().collect()
    }
}

fn work(sink: &Sink, queue: &Receiver<Chunk>) -> Result<()> {
    let mut run = Run::new();
    queue.iter().try_for_each(|chunk| sink.apply(&chunk, &mut run))
}
