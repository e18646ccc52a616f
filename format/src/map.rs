//! Maps: the tree of digests that is a point.
//!
//! Level 0 of the tree are the digests of the blocks. A page holds the digests of 256 neighbours
//! of the level below, so a node of level L covers 256^L blocks; the *top* is the one node of the
//! smallest level (at least 1) that covers the whole volume, and the root is taken over the top and the
//! geometry. Invariants: a page always has 256 entries, those past the end of the volume are
//! [`Digest::ZERO`]; a page of only such entries is not stored and its digest is [`Digest::ZERO`]. So growing
//! a volume with zeros changes no page, and equal roots mean equal size, block size and bytes.
//! Nothing here does I/O: pages come and go through [`PageStore`].

mod builder;
mod diff;
mod differing;

pub use builder::{Builder, Partial};
pub use diff::{Change, diff};
pub use differing::differing;

use crate::digest::Digest;
use crate::error::{FormatError, Result};
use crate::geometry::{BlockId, Geometry};
use crate::layout::{Field, check_range};
use std::sync::Arc;

/// Entries of a page.
pub const FANOUT: u64 = 256;
/// Bytes of a page.
pub const PAGE_SIZE: usize = FANOUT as usize * 32;
/// Highest level of a tree: 256^7 blocks are more than the largest volume has.
pub const LEVEL_MAX: u8 = 7;

/// 256 digests of the level below.
#[derive(Clone, PartialEq, Eq)]
pub struct Page(Box<[u8]>);

impl Page {
    /// The page whose entries are all zero.
    pub fn zero() -> Self {
        Self(vec![0; PAGE_SIZE].into_boxed_slice())
    }

    /// A page of exactly [`PAGE_SIZE`] bytes.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        assert_eq!(bytes.len(), PAGE_SIZE, "the caller took a page");
        Self(bytes.into())
    }

    /// A page of exactly [`PAGE_SIZE`] bytes that have the digest `expected`.
    pub fn checked(bytes: &[u8], expected: Digest) -> Result<Self> {
        check_range("map page", "length", bytes.len() as u64, PAGE_SIZE as u64, PAGE_SIZE as u64)?;
        match Digest::of_page(bytes) {
            computed if computed == expected => Ok(Self(bytes.into())),
            computed => Err(FormatError::Digest { what: "map page", expected, computed }),
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Of the bytes.
    pub fn digest(&self) -> Digest {
        Digest::of_page(&self.0)
    }

    /// Entry `slot`, below 256.
    pub fn get(&self, slot: usize) -> Digest {
        Digest::get(&self.0[slot * 32..][..32])
    }

    /// Replaces entry `slot`, below 256.
    pub fn set(&mut self, slot: usize, digest: Digest) {
        self.0[slot * 32..][..32].copy_from_slice(&digest.0);
    }
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Page({})", self.digest())
    }
}

/// Where pages are loaded from and stored to; the pool, or a table in memory.
pub trait PageStore {
    /// Why a page could not be loaded or stored.
    type Error;
    /// The page with this digest, which is never [`Digest::ZERO`].
    fn load(&mut self, digest: Digest) -> Result<Arc<Page>, Self::Error>;
    /// Keeps a page that is not all zero.
    fn store(&mut self, digest: Digest, page: &Page) -> Result<(), Self::Error>;
}

/// Number of blocks under a node of `level`.
pub fn span(level: u8) -> u64 {
    FANOUT.pow(level.into())
}

/// The level of the top of a volume with `blocks` blocks.
pub fn top_level(blocks: u64) -> u8 {
    (1..=LEVEL_MAX).find(|level| span(*level) >= blocks).unwrap_or(LEVEL_MAX)
}

/// The root of a volume: over its geometry and the digest of its top.
pub fn root(geometry: &Geometry, top: Digest) -> Digest {
    let mut bytes = Vec::with_capacity(44);
    geometry.volume_size().put(&mut bytes);
    geometry.block_size().bytes().put(&mut bytes);
    top.put(&mut bytes);
    Digest::of_root(&bytes)
}

/// The tree of one version of a volume: its geometry and the digest of its top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Map {
    /// Size and block size.
    pub geometry: Geometry,
    /// The digest of the top node.
    pub top: Digest,
}

impl Map {
    /// The map of a volume that is all zero.
    pub fn zero(geometry: Geometry) -> Self {
        Self { geometry, top: Digest::ZERO }
    }

    /// The level of the top.
    pub fn top_level(&self) -> u8 {
        top_level(self.geometry.block_count())
    }

    /// See [`root`].
    pub fn root(&self) -> Digest {
        root(&self.geometry, self.top)
    }
}

/// Looks up nodes of one map, keeping the last page of each level.
#[derive(Debug)]
pub struct Lookup {
    map: Map,
    /// `path[level]` is the page whose entries are nodes of `level`, with the digest it has.
    path: Vec<Option<(Digest, Arc<Page>)>>,
}

impl Lookup {
    /// Looks up nodes of `map`.
    pub fn new(map: Map) -> Self {
        Self { map, path: vec![None; map.top_level().into()] }
    }

    /// The map.
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// The digest of a block, which must be one of the volume's.
    pub fn block<S: PageStore>(&mut self, block: BlockId, store: &mut S) -> Result<Digest, S::Error> {
        self.node(0, block.0, store)
    }

    /// The digest of node `index` of `level`, at most the top level.
    pub fn node<S: PageStore>(&mut self, level: u8, index: u64, store: &mut S) -> Result<Digest, S::Error> {
        let mut digest = self.map.top;
        for below in (level..self.map.top_level()).rev() {
            if digest.is_zero() {
                break;
            }
            let slot = index / span(below - level) % FANOUT;
            digest = self.page(below, digest, store)?.get(slot as usize);
        }
        Ok(digest)
    }

    /// The page with this digest whose entries are nodes of `level`.
    fn page<S: PageStore>(&mut self, level: u8, digest: Digest, store: &mut S) -> Result<&Page, S::Error> {
        let kept = &mut self.path[usize::from(level)];
        if kept.as_ref().is_none_or(|(known, _)| *known != digest) {
            *kept = Some((digest, store.load(digest)?));
        }
        Ok(&kept.as_ref().expect("just loaded").1)
    }
}

#[cfg(test)]
pub(crate) mod memory {
    //! Pages in memory, for tests.
    use super::*;
    use std::collections::HashMap;
    use std::convert::Infallible;

    #[derive(Debug, Default)]
    pub struct Memory {
        pub pages: HashMap<Digest, Arc<Page>>,
        pub loads: u64,
    }

    impl PageStore for Memory {
        type Error = Infallible;
        fn load(&mut self, digest: Digest) -> Result<Arc<Page>, Infallible> {
            self.loads += 1;
            Ok(self.pages[&digest].clone())
        }
        fn store(&mut self, digest: Digest, page: &Page) -> Result<(), Infallible> {
            assert!(!digest.is_zero());
            self.pages.insert(digest, Arc::new(page.clone()));
            Ok(())
        }
    }

    /// A map over the given block digests, by the plain definition.
    pub fn by_definition(geometry: Geometry, blocks: &[Digest]) -> Map {
        let mut level = blocks.to_vec();
        for _ in 0..top_level(geometry.block_count()) {
            level = level
                .chunks(256)
                .map(|entries| {
                    let mut page = Page::zero();
                    entries.iter().enumerate().for_each(|(slot, digest)| page.set(slot, *digest));
                    page.digest()
                })
                .collect();
        }
        assert_eq!(level.len(), 1);
        Map { geometry, top: level[0] }
    }
}

#[cfg(test)]
mod tests {
    use super::memory::{Memory, by_definition};
    use super::*;
    use crate::geometry::BlockSize;
    use proptest::prelude::*;

    fn geometry(blocks: u64) -> Geometry {
        Geometry::new(blocks * 4096, BlockSize::new(4096).unwrap()).unwrap()
    }

    fn digests(contents: &[u8]) -> Vec<Digest> {
        contents.iter().map(|content| Digest::of_block(&[*content; 64])).collect()
    }

    fn build(store: &mut Memory, contents: &[u8]) -> Map {
        let mut builder = Builder::new(geometry(contents.len() as u64), None);
        for run in contents.chunk_by(|a, b| *a == 0 && *b == 0) {
            match run[0] {
                0 => builder.zero(run.len() as u64, store).unwrap(),
                content => builder.block(digests(&[content])[0], store).unwrap(),
            }
        }
        builder.finish(store).unwrap()
    }

    fn increment(store: &mut Memory, base: (Map, &[u8]), contents: &[u8]) -> Map {
        let mut builder = Builder::new(geometry(contents.len() as u64), Some(base.0));
        let same = |at: usize| base.1.get(at) == Some(&contents[at]);
        let positions: Vec<usize> = (0..contents.len()).collect();
        for run in positions.chunk_by(|a, b| same(*a) && same(*b)) {
            match same(run[0]) {
                true => builder.unchanged(run.len() as u64, store).unwrap(),
                false => builder.block(digests(&contents[run[0]..=run[0]])[0], store).unwrap(),
            }
        }
        builder.finish(store).unwrap()
    }

    fn contents() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![1usize..600, Just(256usize), Just(65536), 65000usize..66500].prop_flat_map(|length| {
            prop::collection::vec((0..length, 0u8..5, 0..length), 0..12).prop_map(move |runs| {
                let mut contents = vec![0; length];
                for (start, content, span) in runs {
                    let end = (start + span).min(length);
                    contents[start..end].fill(content);
                }
                contents
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn built_maps_are_those_of_the_definition(contents in contents()) {
            let mut store = Memory::default();
            let map = build(&mut store, &contents);
            prop_assert_eq!(map, by_definition(geometry(contents.len() as u64), &digests(&contents)));
            let mut lookup = Lookup::new(map);
            for (at, digest) in digests(&contents).iter().enumerate() {
                prop_assert_eq!(lookup.block(BlockId(at as u64), &mut store).unwrap(), *digest);
            }
        }

        #[test]
        fn a_builder_goes_on_from_what_it_told(contents in contents(), cut in 0usize..70_000) {
            let (mut store, cut) = (Memory::default(), cut % contents.len());
            let mut builder = Builder::new(geometry(contents.len() as u64), None);
            let digests = digests(&contents);
            digests[..cut].iter().for_each(|digest| builder.block(*digest, &mut store).unwrap());
            let mut zeroed = contents.clone();
            zeroed[cut..].fill(0);
            prop_assert_eq!(builder.prefix(&mut store).unwrap(), build(&mut store, &zeroed));
            let mut builder = Builder::resume(geometry(contents.len() as u64), None, builder.partial());
            digests[cut..].iter().for_each(|digest| builder.block(*digest, &mut store).unwrap());
            prop_assert_eq!(builder.finish(&mut store).unwrap(), build(&mut store, &contents));
        }

        #[test]
        fn increments_and_differences_agree_over_grown_and_shrunk_volumes(old in contents(), new in contents()) {
            let mut store = Memory::default();
            let base = build(&mut store, &old);
            let map = increment(&mut store, (base, &old), &new);
            prop_assert_eq!(map, by_definition(geometry(new.len() as u64), &digests(&new)));
            let mut patched = digests(&old);
            patched.resize(new.len(), Digest::ZERO);
            let mut told = 0;
            diff(&base, &map, &mut store, &mut |change| {
                let (block, count, digest) = match change {
                    Change::Block(block, digest) => (block, 1, digest),
                    Change::Zero(block, count) => (block, count, Digest::ZERO),
                };
                assert!(block.0 >= told, "ascending");
                told = block.0 + count;
                patched[block.0 as usize..told as usize].fill(digest);
                Ok(())
            }).unwrap();
            prop_assert_eq!(patched, digests(&new));
        }
    }

    #[test]
    fn an_increment_of_one_block_loads_and_stores_one_page_a_level() {
        let mut store = Memory::default();
        let mut contents: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8 + 1).collect();
        let base = build(&mut store, &contents);
        let old = contents.clone();
        contents[100_000] = 252;
        let (pages, _) = (store.pages.len(), store.loads = 0);
        let map = increment(&mut store, (base, &old), &contents);
        assert_eq!(store.pages.len() - pages, 3, "one new page at each of three levels");
        assert!(store.loads < 10, "{} loads", store.loads);
        store.loads = 0;
        let mut changes = Vec::new();
        diff(&base, &map, &mut store, &mut |change| {
            changes.push(change);
            Ok(())
        })
        .unwrap();
        assert_eq!(changes, [Change::Block(BlockId(100_000), digests(&[252])[0])]);
        assert_eq!(store.loads, 6, "two pages a level");
    }

    #[test]
    fn roots_differ_by_size_and_block_size_even_when_all_is_zero() {
        let a = Geometry::from_wire(1 << 30, 65536).unwrap();
        let b = Geometry::from_wire(1 << 31, 65536).unwrap();
        let c = Geometry::from_wire(1 << 30, 4096).unwrap();
        assert_ne!(Map::zero(a).root(), Map::zero(b).root());
        assert_ne!(Map::zero(a).root(), Map::zero(c).root());
        assert_eq!(Map::zero(a).root(), Map::zero(a).root());
    }
}
