//! Holding a secondary against a point, block by block.
//!
//! Invariants: what is compared is what the disk has, read past the page cache where that is possible; a hole under a run of zero
//! blocks is not read; a piece that cannot be read differs; each piece stands for itself, so a comparison can be
//! interrupted between any two of them.

use super::apply::content;
use super::keeper::{Secondary, USER};
use super::target::Target;
use crate::error::{Error, Result, at};
use crate::pool::Pool;
use crate::pool::disk::AlignedBuffer;
use crate::view::PointView;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use understudy_format::map::Lookup;
use understudy_format::{BlockId, Digest, ErrorKind};

/// Bytes of one piece.
const PIECE_BYTES: usize = 4 << 20;
/// Differences that are named; of all others only their number is told.
pub const NAMED_MAX: usize = 1000;

/// A block of a secondary that is not what its point says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// The block.
    pub block: BlockId,
    /// Where it starts, bytes from the start of the volume.
    pub offset: u64,
    /// What it should be.
    pub expected: Digest,
    /// Whether it was made that.
    pub repaired: bool,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// The point that the secondary had settled at when the last block was read.
    pub point: u64,
    /// Blocks that were compared.
    pub blocks: u64,
    /// Blocks that differed.
    pub differing: u64,
    /// Those of them that were repaired, durably.
    pub repaired: u64,
    /// The first [`NAMED_MAX`] that differed.
    pub named: Vec<Difference>,
}

impl Compared {
    /// Counts a block that differed.
    pub fn add(&mut self, difference: Difference) {
        self.differing += 1;
        self.repaired += u64::from(difference.repaired);
        if self.named.len() < NAMED_MAX {
            self.named.push(difference);
        }
    }
}

/// One piece that was compared.
#[derive(Debug)]
pub struct Piece {
    /// The block after it.
    pub next: BlockId,
    /// Bytes that were read.
    pub bytes: u64,
    /// The blocks that differ, with the digests that they should have.
    pub differing: Vec<(BlockId, Digest)>,
}

/// Compares with one point, from any block on.
#[derive(Debug)]
pub struct Comparer {
    view: PointView,
    target: Target,
    lookup: Lookup,
    buffer: AlignedBuffer,
}

impl Comparer {
    /// Compares `target` with the point behind `view`.
    pub fn new(view: &PointView, target: &Target) -> Self {
        let (lookup, buffer) = (view.lookup(), AlignedBuffer::new(PIECE_BYTES));
        Self { view: view.clone(), target: target.clone(), lookup, buffer }
    }

    /// Compares a piece that starts with `block`, one of the volume's.
    pub fn piece(&mut self, block: BlockId) -> Result<Piece> {
        let from = self.skip_hole(block)?;
        let geometry = *self.view.geometry();
        let end = geometry.block_count().min(from.0 + PIECE_BYTES as u64 / u64::from(geometry.block_size().bytes()));
        let range = geometry.byte_range(from, end.saturating_sub(from.0));
        let is_read = self.read(range.start, range.end - range.start);
        let mut differing = Vec::new();
        for block in (from.0..end).map(BlockId) {
            let (start, length) = (geometry.offset(block), geometry.block_len(block) as usize);
            // What cannot be read as a whole may be readable but for one block.
            let at = if is_read {
                Some((start - range.start) as usize)
            } else {
                self.read(start, length as u64).then_some(0)
            };
            let expected = self.expected(block)?;
            let found = at.map(|at| Digest::of_block(&self.buffer.bytes()[at..at + length]));
            if found != Some(expected) {
                differing.push((block, expected));
            }
        }
        Ok(Piece { next: BlockId(end.max(from.0)), bytes: range.end - range.start, differing })
    }

    /// Takes a piece into the result, and repairs what differs when that is wanted.
    fn account(&self, piece: &Piece, repair: bool, compared: &mut Compared) -> Result<()> {
        let mut is_changed = false;
        for (block, expected) in piece.differing.iter().copied() {
            let offset = self.view.geometry().offset(block);
            let repaired = repair && self.try_repair(block, expected)?;
            is_changed |= repaired;
            compared.add(Difference { block, offset, expected, repaired });
        }
        if is_changed { self.target.file.sync().map_err(at(&self.target.path)) } else { Ok(()) }
    }

    /// Whether a block was repaired: it is not while the pool's own copy is damaged.
    fn try_repair(&self, block: BlockId, expected: Digest) -> Result<bool> {
        match self.repair(block, expected) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::error!(%error, "the secondary cannot be repaired here");
                Ok(false)
            }
            result => result.map(|()| true),
        }
    }

    /// Whether one block is what the point says, or what any of `others` says.
    pub fn is_known(&mut self, block: BlockId, others: &mut [Self]) -> Result<bool> {
        let piece = self.view.geometry().byte_range(block, 1);
        let length = (piece.end - piece.start) as usize;
        if !self.read(piece.start, length as u64) {
            return Ok(false);
        }
        let found = Digest::of_block(&self.buffer.bytes()[..length]);
        let mut is_known = found == self.expected(block)?;
        for other in others.iter_mut().filter(|other| block.0 < other.view.geometry().block_count()) {
            is_known |= found == other.expected(block)?;
        }
        Ok(is_known)
    }

    /// Makes a block that differs what it should be; durable after a sync.
    fn repair(&self, block: BlockId, expected: Digest) -> Result<()> {
        let range = self.view.geometry().byte_range(block, 1);
        if expected.is_zero() {
            return self.target.zero(range, &|| false);
        }
        let content = content(&self.view, block, expected)?;
        self.target.file.write_at(&content, range.start).map_err(at(&self.target.path))
    }

    fn expected(&mut self, block: BlockId) -> Result<Digest> {
        let pool = self.view.pool();
        self.lookup.block(block, &mut pool.pages(None)).map_err(self.view.at(block))
    }

    /// The first block from `block` on that must be read: a hole is what a run of zero blocks should be.
    fn skip_hole(&mut self, block: BlockId) -> Result<BlockId> {
        let geometry = *self.view.geometry();
        let (is_zero, count) = self.view.run(&mut self.lookup, block, u64::MAX).map_err(self.view.at(block))?;
        if !is_zero {
            return Ok(block);
        }
        let end = geometry.block_count().min(block.0 + count);
        let data = self.target.file.next_data(geometry.offset(block)).map_err(at(&self.target.path))?;
        Ok(BlockId(geometry.block_at(data).0.clamp(block.0, end)))
    }

    fn read(&mut self, offset: u64, length: u64) -> bool {
        let bytes = &mut self.buffer.bytes_mut()[..length as usize];
        let read = self.target.file.read_at(bytes, offset);
        if let Err(error) = &read {
            tracing::error!(path = %self.target.path.display(), offset, length, %error, "the secondary cannot be read");
        }
        read.is_ok()
    }
}

impl Secondary {
    /// Compares all of it with the point that it settled at; see [`super::Secondaries::compare`].
    pub fn compare(
        &self,
        pool: &Arc<Pool>,
        repair: bool,
        step: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Option<Compared>> {
        let generation = self.generation.load(Ordering::SeqCst);
        let (mut compared, mut next, mut comparer) = (Compared::default(), BlockId(0), None);
        loop {
            let bytes = {
                let _turn = self.turn.patient();
                if self.generation.load(Ordering::SeqCst) != generation {
                    let reason = format!("the secondary of {} was switched; compare again", self.volume.name);
                    return Err(Error::Busy(reason));
                }
                comparer = self.comparer(pool, comparer)?;
                let Some(comparer) = &mut comparer else { return Ok(None) };
                compared.point = comparer.view.point().number;
                if next.0 >= comparer.view.geometry().block_count() {
                    return Ok(Some(compared));
                }
                let piece = comparer.piece(next)?;
                comparer.account(&piece, repair, &mut compared)?;
                compared.blocks += piece.next.0 - next.0;
                next = piece.next;
                piece.bytes
            };
            step(bytes)?;
        }
    }

    /// What compares with the point that is settled now; `None` when there is none.
    fn comparer(&self, pool: &Arc<Pool>, known: Option<Comparer>) -> Result<Option<Comparer>> {
        if let Some(known) = known.filter(|known| self.is_settled_at(known.view.point())) {
            return Ok(Some(known));
        }
        let entry = pool.known(&self.volume.name)?;
        let Some(target) = self.target(pool, &entry)? else { return Ok(None) };
        let Some(point) = self.settled_point(&entry)? else { return Ok(None) };
        if !target.fits(point.map.geometry.volume_size())? {
            let path = target.path.display();
            return Err(Error::Refused(format!("{path} was removed or cut; it is made anew with the next point")));
        }
        let view = PointView::open(pool, &self.volume, point, USER)?;
        Ok(Some(Comparer::new(&view, &target)))
    }
}
