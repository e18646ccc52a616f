//! Applying chunks of a point to a target: decode, check, write, on threads of their own.
//!
//! Invariants: a block is written only when its bytes have the digest that came with it; what was written is
//! noted in the target's map by the digest of the very bytes; the first failure stops everything and is
//! what [`Applier::finish`] returns. Memory: a few chunks.

use crate::target::Target;
use anyhow::{Context, Result, anyhow, bail, ensure};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::thread::JoinHandle;
use understudy_format::chunk::{Chunk, Entry};
use understudy_format::codec::{Codec, decode_into};
use understudy_format::mapfile::Shape;
use understudy_format::{BlockId, Digest, Geometry};

const THREADS: usize = 2;
const QUEUE: usize = 4;

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

impl Sink {
    /// Writes what a chunk holds.
    fn apply(&self, chunk: &Chunk, block: &mut Vec<u8>) -> Result<()> {
        for (id, entry) in chunk.head.blocks() {
            match *entry {
                Entry::Data { digest, block_length, .. } => {
                    let (codec, encoded) = chunk.encoded(entry).context("a data entry has bytes")?;
                    // A stored block is its own content: no copy.
                    let content = if codec == Codec::Stored && encoded.len() == block_length as usize {
                        &encoded[..]
                    } else {
                        block.resize(block_length as usize, 0);
                        decode_into(codec, &encoded, block).with_context(|| format!("block {id}"))?;
                        &block[..]
                    };
                    let found = Digest::of_block(content);
                    let offset = self.geometry.offset(id);
                    ensure!(
                        found == digest,
                        "block {id} at offset {offset}: expected digest {digest}, the appliance sent {found}"
                    );
                    self.target.write(offset, content)?;
                    self.note(id, found)?;
                }
                Entry::Zero { count } => self.zero(id, count)?,
                Entry::Unchanged { .. } | Entry::Reference { .. } => {
                    bail!("block {id}: the appliance sent no bytes for it")
                }
            }
        }
        Ok(())
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
    let mut block = Vec::new();
    queue.iter().try_for_each(|chunk| sink.apply(&chunk, &mut block))
}
