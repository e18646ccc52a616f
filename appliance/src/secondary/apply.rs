//! Applying the difference of two maps to an image.
//!
//! One thread reads and checks blocks, another writes them: runs of up to 4 MiB, past the page cache.
//! Invariants: writes go in ascending order; zeros become holes; applying the same difference
//! again changes nothing, so an interrupted run is simply run again. Nothing is durable before the caller syncs.

use crate::error::{Error, Result, at};
use crate::pool::Pool;
use crate::pool::disk::{AlignedBuffer, DiskFile};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use understudy_format::map::{Change, Map, diff};
use understudy_format::{BlockId, Digest, FormatError};

/// Most memory of one write, bytes.
const WRITE_BYTES: usize = 4 << 20;
/// Writes that wait before reading waits too.
const WRITES: usize = 3;

/// What applying needs.
#[derive(Debug, Clone, Copy)]
pub struct Applier<'a> {
    /// Where the blocks are.
    pub pool: &'a Pool,
    /// Whether to end early.
    pub stop: &'a AtomicBool,
    /// The image.
    pub file: &'a dyn DiskFile,
    /// Of the image.
    pub path: &'a Path,
    /// Counted down while blocks are applied.
    pub behind_blocks: &'a AtomicU64,
}

/// One step on the image.
enum Step {
    Write { offset: u64, buffer: AlignedBuffer, length: usize, blocks: u64 },
    Zero { offset: u64, length: u64, blocks: u64 },
}

impl Applier<'_> {
    /// Makes an image of `old` one of `new`; their sizes are the caller's business.
    pub fn apply(&self, old: &Map, new: &Map) -> Result<()> {
        self.count(old, new)?;
        let (steps, receiver) = bounded(WRITES);
        let (give_back, buffers) = bounded(WRITES + 2);
        let bytes = self.buffer_bytes(new);
        (0..WRITES + 2).for_each(|_| give_back.send(AlignedBuffer::new(bytes)).expect("the channel has room"));
        std::thread::scope(|scope| {
            let writer = scope.spawn(move || self.write(&receiver, &give_back));
            let read = self.read(old, new, Collector { steps, buffers, open: None });
            let wrote = writer.join().unwrap_or_else(|_| Err(Error::Broken("writing a secondary panicked".into())));
            // When writing failed, reading noticed only that nobody takes its steps.
            wrote.and(read)
        })
    }

    /// Memory of one write, bytes: a small change needs little.
    fn buffer_bytes(&self, new: &Map) -> usize {
        let blocks = self.behind_blocks.load(Ordering::SeqCst).max(1);
        let bytes = blocks.saturating_mul(new.geometry.block_size().bytes().into());
        bytes.min(WRITE_BYTES as u64) as usize
    }

    fn count(&self, old: &Map, new: &Map) -> Result<()> {
        let mut blocks = 0;
        diff(old, new, &mut self.pool.pages(None), &mut |change| {
            self.go_on()?;
            blocks += match change {
                Change::Block(..) => 1,
                Change::Zero(_, count) => count,
            };
            Ok(())
        })?;
        self.behind_blocks.store(blocks, Ordering::SeqCst);
        Ok(())
    }

    fn read(&self, old: &Map, new: &Map, mut collector: Collector) -> Result<()> {
        let geometry = new.geometry;
        diff(old, new, &mut self.pool.pages(None), &mut |change| {
            self.go_on()?;
            match change {
                Change::Block(block, digest) => {
                    let content = self.content(digest, geometry.block_len(block), block)?;
                    collector.data(geometry.offset(block), &content)
                }
                Change::Zero(block, count) => {
                    let range = geometry.byte_range(block, count);
                    collector.send_open()?;
                    collector.send(Step::Zero { offset: range.start, length: range.end - range.start, blocks: count })
                }
            }
        })?;
        collector.send_open()
    }

    fn go_on(&self) -> Result<()> {
        if self.stop.load(Ordering::SeqCst) { Err(Error::Closing) } else { Ok(()) }
    }

    fn content(&self, digest: Digest, length: u32, block: BlockId) -> Result<bytes::Bytes> {
        let content = self.pool.block_once(digest)?;
        match content.len() == length as usize {
            true => Ok(content),
            false => {
                let reason = format!("block {block} has {} bytes, {length} expected", content.len());
                Err(FormatError::invalid("secondary", reason).into())
            }
        }
    }

    fn write(&self, steps: &Receiver<Step>, give_back: &Sender<AlignedBuffer>) -> Result<()> {
        for step in steps {
            let blocks = match step {
                Step::Write { offset, buffer, length, blocks } => {
                    self.pool.space().check(length as u64)?;
                    self.file.write_at(&buffer.bytes()[..length], offset).map_err(at(self.path))?;
                    let _ = give_back.send(buffer);
                    blocks
                }
                Step::Zero { offset, length, blocks } => {
                    self.file.zero(offset, length).map_err(at(self.path))?;
                    blocks
                }
            };
            self.behind_blocks.fetch_sub(blocks, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// Joins neighbouring blocks into one write.
struct Collector {
    steps: Sender<Step>,
    buffers: Receiver<AlignedBuffer>,
    open: Option<Open>,
}

struct Open {
    offset: u64,
    buffer: AlignedBuffer,
    length: usize,
    blocks: u64,
}

impl Collector {
    fn data(&mut self, offset: u64, content: &[u8]) -> Result<()> {
        let fits = |open: &Open| {
            open.offset + open.length as u64 == offset && open.length + content.len() <= open.buffer.bytes().len()
        };
        if !self.open.as_ref().is_some_and(fits) {
            self.send_open()?;
        }
        if self.open.is_none() {
            let buffer = self.buffers.recv().map_err(|_| Error::Closing)?;
            self.open = Some(Open { offset, buffer, length: 0, blocks: 0 });
        }
        let open = self.open.as_mut().expect("just opened");
        open.buffer.bytes_mut()[open.length..][..content.len()].copy_from_slice(content);
        open.length += content.len();
        open.blocks += 1;
        Ok(())
    }

    fn send_open(&mut self) -> Result<()> {
        match self.open.take() {
            None => Ok(()),
            Some(Open { offset, buffer, length, blocks }) => self.send(Step::Write { offset, buffer, length, blocks }),
        }
    }

    fn send(&self, step: Step) -> Result<()> {
        self.steps.send(step).map_err(|_| Error::Closing)
    }
}
