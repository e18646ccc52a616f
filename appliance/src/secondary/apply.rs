//! Making a secondary a point: what is different goes from the pool to the image or device.
//!
//! One thread finds, reads and checks blocks, another writes them: runs of up to 4 MiB, past the page cache.
//! What is different comes from two maps, or, when it is not known what the secondary is, from reading it. Invariants: writes
//! go in ascending order; zeros become holes; doing the same again changes nothing, so an interrupted run
//! is simply run again. Nothing is durable before the caller syncs.

use super::compare::Comparer;
use super::target::Target;
use crate::error::{Error, Result, at};
use crate::pool::disk::AlignedBuffer;
use crate::view::PointView;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::sync::atomic::{AtomicU64, Ordering};
use understudy_format::map::{Change, Map, diff};
use understudy_format::{BlockId, Digest, FormatError};

/// Most memory of one write, bytes.
const WRITE_BYTES: usize = 4 << 20;
/// Writes that wait before reading waits too.
const WRITES: usize = 3;

/// What applying needs.
pub struct Applier<'a> {
    /// The point that the secondary becomes.
    pub to: &'a PointView,
    /// Whether to end early.
    pub stop: &'a (dyn Fn() -> bool + Sync),
    /// What is written to.
    pub target: &'a Target,
    /// Counted down while blocks are applied.
    pub behind_blocks: &'a AtomicU64,
}

/// One step on the image.
enum Step {
    Write { offset: u64, buffer: AlignedBuffer, length: usize, blocks: u64 },
    Zero { offset: u64, length: u64, blocks: u64 },
}

impl Applier<'_> {
    /// Makes an image of `old` one of the point; their sizes are the caller's business.
    pub fn apply(&self, old: &Map) -> Result<()> {
        let mut blocks = 0;
        self.difference(old, &mut |_, count| {
            blocks += count;
            Ok(())
        })?;
        self.behind_blocks.store(blocks, Ordering::SeqCst);
        self.run(&mut |collector| self.difference(old, &mut |change, _| self.change(collector, change)))
    }

    /// Reads all that is there, and makes it the point where it is not.
    pub fn compare(&self) -> Result<()> {
        let blocks = self.to.geometry().block_count();
        self.behind_blocks.store(blocks, Ordering::SeqCst);
        self.run(&mut |collector| {
            let mut comparer = Comparer::new(self.to, self.target);
            let mut next = BlockId(0);
            while next.0 < blocks {
                self.go_on()?;
                let piece = comparer.piece(next)?;
                let equal = piece.next.0 - next.0 - piece.differing.len() as u64;
                self.behind_blocks.fetch_sub(equal, Ordering::SeqCst);
                piece
                    .differing
                    .iter()
                    .try_for_each(|(block, digest)| self.change(collector, as_change(*block, *digest)))?;
                next = piece.next;
            }
            Ok(())
        })
    }

    /// Tells `visit` each change from `old`, and how many blocks it is about.
    fn difference(&self, old: &Map, visit: &mut dyn FnMut(Change, u64) -> Result<()>) -> Result<()> {
        let map = self.to.point().map;
        diff(old, &map, &mut self.to.pool().pages(None), &mut |change| {
            self.go_on()?;
            let count = match change {
                Change::Block(..) => 1,
                Change::Zero(_, count) => count,
            };
            visit(change, count)
        })
    }

    /// Runs `read`, which finds what is to be written, beside a thread that writes it.
    fn run(&self, read: &mut dyn FnMut(&mut Collector) -> Result<()>) -> Result<()> {
        let (steps, receiver) = bounded(WRITES);
        let (give_back, buffers) = bounded(WRITES + 2);
        let bytes = self.buffer_bytes();
        (0..WRITES + 2).for_each(|_| give_back.send(AlignedBuffer::new(bytes)).expect("the channel has room"));
        std::thread::scope(|scope| {
            let writer = scope.spawn(move || self.write(&receiver, &give_back));
            let mut collector = Collector { steps, buffers, open: None };
            let found = read(&mut collector).and_then(|()| collector.send_open());
            drop(collector);
            let wrote = writer.join().unwrap_or_else(|_| Err(Error::Broken("writing a secondary panicked".into())));
            // When writing failed, reading noticed only that nobody takes its steps.
            wrote.and(found)
        })
    }

    /// Memory of one write, bytes: a small change needs little.
    fn buffer_bytes(&self) -> usize {
        let blocks = self.behind_blocks.load(Ordering::SeqCst).max(1);
        let bytes = blocks.saturating_mul(self.to.geometry().block_size().bytes().into());
        bytes.min(WRITE_BYTES as u64) as usize
    }

    fn change(&self, collector: &mut Collector, change: Change) -> Result<()> {
        let geometry = self.to.geometry();
        match change {
            Change::Block(block, digest) => {
                let content = content(self.to, block, digest)?;
                collector.data(geometry.offset(block), &content)
            }
            Change::Zero(block, count) => {
                let range = geometry.byte_range(block, count);
                collector.send_open()?;
                collector.send(Step::Zero { offset: range.start, length: range.end - range.start, blocks: count })
            }
        }
    }

    fn go_on(&self) -> Result<()> {
        if (self.stop)() { Err(Error::Closing) } else { Ok(()) }
    }

    fn write(&self, steps: &Receiver<Step>, give_back: &Sender<AlignedBuffer>) -> Result<()> {
        for step in steps {
            let blocks = match step {
                Step::Write { offset, buffer, length, blocks } => {
                    self.check_space(length as u64)?;
                    self.target.file.write_at(&buffer.bytes()[..length], offset).map_err(at(&self.target.path))?;
                    let _ = give_back.send(buffer);
                    blocks
                }
                Step::Zero { offset, length, blocks } => {
                    self.target.zero(offset..offset + length, self.stop)?;
                    blocks
                }
            };
            self.behind_blocks.fetch_sub(blocks, Ordering::SeqCst);
        }
        Ok(())
    }

    /// A device takes none of the pool's space.
    fn check_space(&self, bytes: u64) -> Result<()> {
        if self.target.device.is_some() { Ok(()) } else { self.to.pool().space().check(bytes) }
    }
}

/// What a block should be, as a change.
fn as_change(block: BlockId, digest: Digest) -> Change {
    if digest.is_zero() { Change::Zero(block, 1) } else { Change::Block(block, digest) }
}

/// The content of a block of a point, which is not zero.
pub fn content(point: &PointView, block: BlockId, digest: Digest) -> Result<bytes::Bytes> {
    let content = point.pool().block_once(digest).map_err(point.at(block))?;
    let (expected, found) = (point.geometry().block_len(block) as usize, content.len());
    match found == expected {
        true => Ok(content),
        false => {
            let reason = format!("block {block} has {found} bytes, {expected} expected");
            Err(point.at(block)(FormatError::invalid("secondary", reason).into()))
        }
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
