//! The bytes of a volume at one moment, cheap to keep many of: two that differ in a block share all others.

use crate::image::{Blocks, top};
use std::ops::Range;
use std::sync::Arc;
use understudy_format::map::Map;
use understudy_format::{BlockId, Digest, Geometry};

#[derive(PartialEq, Eq)]
struct Block {
    bytes: Vec<u8>,
    digest: Digest,
}

/// See the module documentation.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    geometry: Geometry,
    blocks: Vec<Arc<Block>>,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Content({} blocks, root {})", self.blocks.len(), self.root().short())
    }
}

impl Block {
    fn of(bytes: Vec<u8>) -> Arc<Self> {
        let digest = Digest::of_block(&bytes);
        Arc::new(Self { bytes, digest })
    }
}

impl Content {
    /// All zeros.
    pub fn zeroes(geometry: Geometry) -> Self {
        let zeroes = |length: u32| Block::of(vec![0; length as usize]);
        let (whole, last) = (zeroes(geometry.block_size().bytes()), BlockId(geometry.block_count() - 1));
        let mut blocks = vec![whole; geometry.block_count() as usize];
        blocks[last.0 as usize] = zeroes(geometry.block_len(last));
        Self { geometry, blocks }
    }

    /// Size and block size.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The root of its map, by the plain definition.
    pub fn root(&self) -> Digest {
        let top = top(&self.blocks.iter().map(|block| block.digest).collect::<Vec<_>>());
        Map { geometry: self.geometry, top }.root()
    }

    /// A block has these bytes now.
    pub fn put(&mut self, block: BlockId, bytes: &[u8]) {
        if self.block(block) != bytes {
            self.blocks[block.0 as usize] = Block::of(bytes.to_vec());
        }
    }

    /// Bytes are written at an offset.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        self.change(offset..end, |at, part| part.copy_from_slice(&bytes[at..at + part.len()]));
    }

    /// A range becomes zero.
    pub fn zero(&mut self, range: Range<u64>) {
        self.change(range, |_, part| part.fill(0));
    }

    /// Changes each block of a range, given where in the range its part begins.
    fn change(&mut self, range: Range<u64>, change: impl Fn(usize, &mut [u8])) {
        let first = self.geometry.block_at(range.start).0;
        for block in (first..=self.geometry.block_at(range.end - 1).0).map(BlockId) {
            let own = self.geometry.byte_range(block, 1);
            let (from, to) = (own.start.max(range.start), own.end.min(range.end));
            let mut bytes = self.block(block).to_vec();
            change((from - range.start) as usize, &mut bytes[(from - own.start) as usize..(to - own.start) as usize]);
            self.put(block, &bytes);
        }
    }

    /// The blocks in which a volume has something else.
    pub fn differences(&self, bytes: &[u8]) -> Vec<BlockId> {
        let found = bytes.chunks(self.geometry.block_size().bytes() as usize);
        (0..).map(BlockId).zip(found).filter(|(block, found)| self.block(*block) != *found).map(|(at, _)| at).collect()
    }
}

impl Blocks for Content {
    fn block(&self, block: BlockId) -> &[u8] {
        &self.blocks[block.0 as usize].bytes
    }

    fn digest(&self, block: BlockId) -> Digest {
        self.blocks[block.0 as usize].digest
    }
}
