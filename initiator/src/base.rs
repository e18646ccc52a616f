//! What the blocks of a source are compared with: the map of the last point, and what may be believed about it.
//!
//! Invariants: blocks beyond what base and volume have in common, and those that the appliance lost, are never unchanged,
//! whatever anybody says; a dirty bitmap is asked about no others.

use crate::digest_map::MapFile;
use crate::sample::Sample;
use crate::source::Mistrust;
use std::sync::{Arc, Mutex};
use understudy_format::wire::BlockRange;
use understudy_format::{BlockId, Digest, Geometry};

/// The map of the base, as far as blocks can be compared with it.
#[derive(Debug, Clone)]
pub struct Base {
    /// The map.
    pub map: Arc<MapFile>,
    /// Blocks from the first on that base and volume have with the same length.
    pub comparable: u64,
    /// Blocks that the appliance lost: none of them counts as unchanged. Ascending, apart.
    pub again: Arc<[BlockRange]>,
    /// Whether the source's dirty bitmap is believed, and which of the clean blocks are looked at nevertheless.
    pub believed: Option<Arc<Mutex<Sample>>>,
}

impl Base {
    /// The base `map` of a volume with this geometry, which has the same block size.
    pub fn new(map: Arc<MapFile>, geometry: &Geometry) -> Self {
        let (own, new) = (map.id().geometry.volume_size(), geometry.volume_size());
        let comparable = match own == new {
            true => geometry.block_count(),
            false => own.min(new) / u64::from(geometry.block_size().bytes()),
        };
        Self { map, comparable, again: Arc::new([]), believed: None }
    }

    /// Whether the base has this block with this digest and the same length.
    pub fn has(&self, block: BlockId, digest: &Digest) -> bool {
        block.0 < self.comparable && self.map.blocks(block.0, 1) == [digest.0] && !self.again_from(block.0).0
    }

    /// Fails unless a block that was said to be clean is as in the base.
    pub fn check(&self, block: BlockId, digest: &Digest, geometry: &Geometry) -> Result<(), Mistrust> {
        if self.map.node(0, block.0) == *digest { Ok(()) } else { Err(self.lie(block, geometry)) }
    }

    /// The bitmap called a block clean that is not as in the base.
    pub fn lie(&self, block: BlockId, geometry: &Geometry) -> Mistrust {
        let (point, offset) = (self.map.id().point, geometry.offset(block));
        Mistrust::Lie(format!("it calls block {block} at offset {offset} clean, which differs from point {point}"))
    }

    /// The clean blocks that are looked at, ascending.
    pub fn sampled(&self) -> Vec<u64> {
        let sample = self.believed.as_ref().map(|sample| sample.lock().expect("no panic while locked").blocks());
        sample.unwrap_or_default()
    }

    /// Whether a bitmap is believed about a block, and how many blocks from it on, at most `max`, are the same in that.
    pub fn believes(&self, block: u64, max: u64) -> (bool, u64) {
        match self.believed {
            Some(_) if block < self.comparable => {
                let (again, end) = self.again_from(block);
                (!again, max.min(end - block).min(self.comparable - block))
            }
            _ => (false, max),
        }
    }

    /// Whether a block must be sent again, and where that changes at the latest.
    fn again_from(&self, block: u64) -> (bool, u64) {
        let next = self.again.partition_point(|range| range.first + range.count <= block);
        match self.again.get(next) {
            Some(range) if range.first <= block => (true, range.first + range.count),
            Some(range) => (false, range.first),
            None => (false, u64::MAX),
        }
    }

    /// Whether a block that is zero is unchanged, and how many blocks from it on, at most `max`, are the same in that.
    pub fn zeros(&self, first: u64, max: u64) -> (bool, u64) {
        let (again, end) = self.again_from(first);
        let max = max.min(end - first);
        if again { (false, max) } else { self.map.run(first, max) }
    }
}
