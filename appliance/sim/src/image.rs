//! The content of a volume at one moment, with everything that follows from it: what points are compared with.
//!
//! Invariant: nothing here is computed by the pool; the root follows from the bytes by the definition in SPEC.md.

use crate::rng::Rng;
use std::sync::Arc;
use understudy_format::chunk::Entry;
use understudy_format::codec::Codec;
use understudy_format::map::{FANOUT, Map, Page, top_level};
use understudy_format::stream::Base;
use understudy_format::{BlockId, BlockSize, Digest, Geometry};

/// Bytes of a block: the smallest that there is, so that small volumes have many.
pub const BLOCK: u64 = 4096;

/// See the module documentation.
#[derive(PartialEq, Eq)]
pub struct Image {
    bytes: Vec<u8>,
    digests: Vec<Digest>,
    map: Map,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({} blocks, root {})", self.digests.len(), self.map.root().short())
    }
}

impl Image {
    /// A volume of one block a seed, of which the last `missing` bytes are left out; seed 0 is a zero block.
    pub fn of(seeds: &[u64], missing: u64) -> Arc<Self> {
        let mut bytes: Vec<u8> = seeds.iter().flat_map(|seed| block(*seed)).collect();
        bytes.truncate(bytes.len() - missing as usize);
        let digests: Vec<Digest> = bytes.chunks(BLOCK as usize).map(Digest::of_block).collect();
        let block_size = BlockSize::new(BLOCK as u32).expect("a power of two");
        let geometry = Geometry::new(bytes.len() as u64, block_size).expect("whole sectors");
        let map = Map { geometry, top: top(&digests) };
        Arc::new(Self { bytes, digests, map })
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Size and block size.
    pub fn geometry(&self) -> Geometry {
        self.map.geometry
    }

    /// Its root.
    pub fn root(&self) -> Digest {
        self.map.root()
    }

    /// The bytes of a block.
    pub fn block(&self, block: BlockId) -> &[u8] {
        self.bytes.chunks(BLOCK as usize).nth(block.0 as usize).expect("a block of the volume")
    }

    /// The digest of a block.
    pub fn digest(&self, block: BlockId) -> Digest {
        self.digests[block.0 as usize]
    }

    /// As the base of a stream.
    pub fn as_base(&self) -> Base {
        Base { root: self.root(), size: self.bytes.len() as u64 }
    }

    /// What a stream from `base` says of the blocks from `first` to before `end`, in runs.
    pub fn entries(&self, base: Option<&Self>, first: u64, end: u64) -> Vec<Entry> {
        in_runs((first..end).map(|block| self.entry(base, BlockId(block))))
    }

    fn entry(&self, base: Option<&Self>, block: BlockId) -> Entry {
        let block_length = self.geometry().block_len(block);
        let digest = self.digest(block);
        let same = |base: &Self| {
            base.digests.get(block.0 as usize) == Some(&digest) && base.geometry().block_len(block) == block_length
        };
        if base.is_some_and(same) { Entry::Unchanged { count: 1 } } else { of_block(digest, block_length) }
    }
}

impl Blocks for Image {
    fn block(&self, block: BlockId) -> &[u8] {
        self.block(block)
    }

    fn digest(&self, block: BlockId) -> Digest {
        self.digest(block)
    }
}

/// The content of a volume, block by block.
pub trait Blocks {
    /// The bytes of a block.
    fn block(&self, block: BlockId) -> &[u8];
    /// The digest of a block.
    fn digest(&self, block: BlockId) -> Digest;
}

/// What a stream says of one block that is brought.
pub fn of_block(digest: Digest, block_length: u32) -> Entry {
    match digest.is_zero() {
        true => Entry::Zero { count: 1 },
        false => Entry::Data { digest, codec: Codec::Stored, payload_offset: 0, payload_length: 0, block_length },
    }
}

/// What is the same of block after block in one entry.
pub fn in_runs(blocks: impl Iterator<Item = Entry>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for block in blocks {
        match (entries.last_mut(), block) {
            (Some(Entry::Zero { count }), Entry::Zero { .. })
            | (Some(Entry::Unchanged { count }), Entry::Unchanged { .. }) => *count += 1,
            (_, entry) => entries.push(entry),
        }
    }
    entries
}

/// The top of the map by its plain definition.
pub(crate) fn top(digests: &[Digest]) -> Digest {
    let mut level = digests.to_vec();
    for _ in 0..top_level(digests.len() as u64) {
        level = level.chunks(FANOUT as usize).map(page).collect();
    }
    level[0]
}

fn page(digests: &[Digest]) -> Digest {
    let mut page = Page::zero();
    digests.iter().enumerate().for_each(|(slot, digest)| page.set(slot, *digest));
    page.digest()
}

/// The block of a seed: zeros for 0, every third can be compressed, no two are the same.
fn block(seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let words = BLOCK as usize / 8;
    match seed {
        0 => vec![0; BLOCK as usize],
        _ if seed.is_multiple_of(3) => rng.next_u64().to_le_bytes().repeat(words),
        _ => (0..words).flat_map(|_| rng.next_u64().to_le_bytes()).collect(),
    }
}
