//! Where two versions of a volume differ, in bytes and at the cost of what differs, from wherever one wants to know it.
//!
//! Invariants: equal subtrees are never loaded, nor what lies outside of the range that was asked for; what is told is in ascending
//! order and within that range. Unlike [`super::diff`] this is symmetric, but for bytes that the other version does
//! not have: those differ, whatever they are. A block whose length changed differs unless it is zero in both.

use super::{FANOUT, Map, Page, PageStore, span};
use crate::digest::Digest;
use crate::geometry::{BlockId, Geometry};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

/// A node of one of the two trees, lifted to the level of the higher one.
#[derive(Clone, Copy)]
enum Node {
    At(Digest),
    /// The ancestor, above its own top, of a tree whose top has this level.
    Above(u8, Digest),
}

impl Node {
    fn top_of(map: &Map, level: u8) -> Self {
        match map.top_level() {
            top if top < level => Self::Above(top, map.top),
            _ => Self::At(map.top),
        }
    }
}

/// Tells `visit` the bytes within `bytes`, a range of `map`, that differ from `other`, until it breaks.
///
/// One call is for one block, or for all that `other` cannot be compared with: bytes past its end, or everything when
/// its blocks have another size.
pub fn differing<S: PageStore>(
    map: &Map,
    other: &Map,
    bytes: Range<u64>,
    store: &mut S,
    visit: &mut impl FnMut(Range<u64>) -> ControlFlow<()>,
) -> Result<(), S::Error> {
    let geometry = map.geometry;
    let comparable = match geometry.block_size() == other.geometry.block_size() {
        true => bytes.start..bytes.end.min(other.geometry.volume_size()).max(bytes.start),
        false => bytes.start..bytes.start,
    };
    let level = map.top_level().max(other.top_level());
    let end = comparable.end;
    if !comparable.is_empty() {
        let blocks = geometry.block_at(comparable.start).0..geometry.block_at(end - 1).0 + 1;
        let mut walk = Walk { geometry, bytes: comparable, blocks, store, visit };
        if walk.node(level, 0, Node::top_of(map, level), Node::top_of(other, level))?.is_break() {
            return Ok(());
        }
    }
    if end < bytes.end {
        let _ = visit(end..bytes.end);
    }
    Ok(())
}

struct Walk<'a, S, V> {
    geometry: Geometry,
    bytes: Range<u64>,
    blocks: Range<u64>,
    store: &'a mut S,
    visit: &'a mut V,
}

impl<S: PageStore, V: FnMut(Range<u64>) -> ControlFlow<()>> Walk<'_, S, V> {
    fn node(&mut self, level: u8, index: u64, a: Node, b: Node) -> Result<ControlFlow<()>, S::Error> {
        let (first, next) = (index * span(level), (index + 1) * span(level));
        let outside = first >= self.blocks.end || next <= self.blocks.start;
        match (a, b) {
            _ if outside => Ok(ControlFlow::Continue(())),
            (Node::At(a), Node::At(b)) if a == b => Ok(ControlFlow::Continue(())),
            _ if level == 0 => {
                let bytes = self.within(BlockId(first));
                Ok((self.visit)(bytes))
            }
            _ => self.children(level, index, a, b),
        }
    }

    /// The bytes of a block that were asked for.
    fn within(&self, block: BlockId) -> Range<u64> {
        let block = self.geometry.byte_range(block, 1);
        block.start.max(self.bytes.start)..block.end.min(self.bytes.end)
    }

    fn children(&mut self, level: u8, index: u64, a: Node, b: Node) -> Result<ControlFlow<()>, S::Error> {
        let (below_a, below_b) = (self.page(a)?, self.page(b)?);
        let first = index * FANOUT;
        // The slots whose blocks were asked for, and no others: a page high up has most of its slots far away.
        let wanted = self.blocks.start / span(level - 1)..(self.blocks.end - 1) / span(level - 1) + 1;
        for child in wanted.start.max(first)..wanted.end.min(first + FANOUT) {
            let slot = (child - first) as usize;
            let (a, b) = (child_of(a, &below_a, level, slot), child_of(b, &below_b, level, slot));
            if self.node(level - 1, child, a, b)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn page(&mut self, node: Node) -> Result<Option<Arc<Page>>, S::Error> {
        match node {
            Node::At(digest) if !digest.is_zero() => self.store.load(digest).map(Some),
            _ => Ok(None),
        }
    }
}

/// What lies below a node, in one slot of its page.
fn child_of(node: Node, page: &Option<Arc<Page>>, level: u8, slot: usize) -> Node {
    match node {
        Node::Above(top, digest) if slot == 0 && top == level - 1 => Node::At(digest),
        Node::Above(top, digest) if slot == 0 => Node::Above(top, digest),
        _ => Node::At(page.as_ref().map_or(Digest::ZERO, |page| page.get(slot))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::{Memory, by_definition};
    use super::*;
    use crate::geometry::{BLOCK_SIZE_MIN, BlockSize};
    use proptest::prelude::*;

    const BLOCK: u64 = BLOCK_SIZE_MIN as u64;
    const SECTOR: u64 = 512;

    /// A volume as what each of its sectors holds: sectors of one block hold the same, a last block may be short.
    #[derive(Clone, Debug)]
    struct Volume(Vec<u8>);

    impl Volume {
        fn size(&self) -> u64 {
            self.0.len() as u64 * SECTOR
        }

        /// Stores the pages of its map.
        fn map(&self, store: &mut Memory) -> Map {
            let geometry = Geometry::new(self.size(), BlockSize::new(BLOCK_SIZE_MIN).unwrap()).unwrap();
            let digests: Vec<Digest> = self.0.chunks((BLOCK / SECTOR) as usize).map(digest).collect();
            let mut builder = super::super::Builder::new(geometry, None);
            digests.iter().for_each(|digest| builder.block(*digest, store).unwrap());
            let map = builder.finish(store).unwrap();
            assert_eq!(map, by_definition(geometry, &digests));
            map
        }
    }

    /// Of the content, and so of its length, unless it is zero.
    fn digest(sectors: &[u8]) -> Digest {
        if sectors.iter().all(|sector| *sector == 0) { Digest::ZERO } else { Digest::of_block(sectors) }
    }

    fn volume() -> impl Strategy<Value = Volume> {
        let sectors =
            prop_oneof![1usize..5000, Just(256 * 8), Just(256 * 8 + 1), (256usize * 8 * 256)..(256 * 8 * 257)];
        sectors.prop_flat_map(|sectors| {
            prop::collection::vec((0..sectors, 0u8..3, 1usize..5000), 0..9).prop_map(move |runs| {
                let mut content = vec![0; sectors];
                for (start, value, length) in runs {
                    content[start..(start + length).min(sectors)].fill(value);
                }
                Volume(content)
            })
        })
    }

    /// The same with a few runs of it changed, or another size.
    fn pair() -> impl Strategy<Value = (Volume, Volume)> {
        let changes = prop::collection::vec((any::<prop::sample::Index>(), 0u8..3, 1usize..200), 0..5);
        (volume(), volume(), changes, any::<bool>()).prop_map(|(one, other, changes, alike)| {
            let mut changed = if alike { one.clone() } else { other };
            for (at, value, length) in changes {
                let (at, len) = (at.index(changed.0.len()), changed.0.len());
                changed.0[at..(at + length).min(len)].fill(value);
            }
            (one, changed)
        })
    }

    /// What [`differing`] must tell of a range: blocks whose content or length differs, by plain comparison.
    fn by_comparison(one: &Volume, other: &Volume, bytes: Range<u64>) -> Vec<bool> {
        let block_of = |volume: &Volume, sector: usize| {
            let block = sector / 8 * 8;
            let content = &volume.0[block..(block + 8).min(volume.0.len())];
            if content.iter().all(|sector| *sector == 0) { Vec::new() } else { content.to_vec() }
        };
        let differs = |sector: usize| sector >= other.0.len() || block_of(one, sector) != block_of(other, sector);
        (bytes.start / SECTOR..bytes.end / SECTOR).map(|sector| differs(sector as usize)).collect()
    }

    fn told(one: &Map, other: &Map, bytes: Range<u64>, store: &mut Memory) -> Vec<bool> {
        let mut marks = vec![false; ((bytes.end - bytes.start) / SECTOR) as usize];
        let mut at = bytes.start;
        differing(one, other, bytes.clone(), store, &mut |range| {
            assert!(at <= range.start && range.start < range.end && range.end <= bytes.end, "{range:?} after {at}");
            at = range.end;
            marks[((range.start - bytes.start) / SECTOR) as usize..((at - bytes.start) / SECTOR) as usize].fill(true);
            ControlFlow::Continue(())
        })
        .unwrap();
        marks
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn what_is_told_is_what_a_plain_comparison_finds(
            (one, other) in pair(), from: prop::sample::Index, to: prop::sample::Index,
        ) {
            let mut store = Memory::default();
            let (map, other_map) = (one.map(&mut store), other.map(&mut store));
            let (from, to) = (from.index(one.0.len()) as u64, to.index(one.0.len()) as u64);
            let part = from.min(to) * SECTOR..(from.max(to) + 1) * SECTOR;
            for bytes in [0..one.size(), part] {
                let expected = by_comparison(&one, &other, bytes.clone());
                prop_assert_eq!(told(&map, &other_map, bytes, &mut store), expected);
            }
        }
    }

    #[test]
    fn one_changed_block_in_a_million_costs_one_page_a_level_of_each() {
        let (mut store, blocks) = (Memory::default(), 1u64 << 20);
        let geometry = Geometry::new(blocks * BLOCK, BlockSize::new(BLOCK_SIZE_MIN).unwrap()).unwrap();
        let map = |changed: u64, store: &mut Memory| {
            let mut builder = super::super::Builder::new(geometry, None);
            let content = |block: u64| if block == changed { u64::MAX } else { block };
            (0..blocks)
                .for_each(|block| builder.block(Digest::of_block(&content(block).to_le_bytes()), store).unwrap());
            builder.finish(store).unwrap()
        };
        let (one, other) = (map(u64::MAX, &mut store), map(777_777, &mut store));
        store.loads = 0;
        let mut found = Vec::new();
        let mut visit = |range| {
            found.push(range);
            ControlFlow::Continue(())
        };
        differing(&one, &other, 0..geometry.volume_size(), &mut store, &mut visit).unwrap();
        assert_eq!((found.len(), &found[0]), (1, &(777_777 * BLOCK..777_778 * BLOCK)));
        assert_eq!(store.loads, 6);
        // Elsewhere the difference costs nothing but the way there.
        let mut visit = |range: Range<u64>| panic!("{range:?}");
        differing(&one, &other, 0..BLOCK, &mut store, &mut visit).unwrap();
        assert_eq!(store.loads, 8, "the tops differ, what is below them at the start does not");
    }

    #[test]
    fn who_has_seen_enough_ends_the_walk() {
        let mut store = Memory::default();
        let (one, other) = (Volume(vec![1; 5000]).map(&mut store), Volume(vec![2; 5000]).map(&mut store));
        let mut count = 0;
        let mut visit = |_| {
            count += 1;
            if count == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        differing(&one, &other, 0..5000 * SECTOR, &mut store, &mut visit).unwrap();
        assert_eq!(count, 3);
    }

    #[test]
    fn blocks_of_another_size_differ_all() {
        let coarse = Geometry::from_wire(1 << 20, 65536).unwrap();
        let fine = Geometry::from_wire(1 << 20, 4096).unwrap();
        let mut found = Vec::new();
        let mut visit = |range| {
            found.push(range);
            ControlFlow::Continue(())
        };
        differing(&Map::zero(coarse), &Map::zero(fine), 512..4096, &mut Memory::default(), &mut visit).unwrap();
        assert_eq!((found.len(), &found[0]), (1, &(512..4096)));
    }
}
