//! The difference of two maps, at the cost of what differs.
//!
//! Invariant: equal subtrees are never loaded. The walk goes in ascending block order and covers the
//! blocks of the newer map; what the older one had beyond that is the caller's to cut off.

use super::{FANOUT, Map, Page, PageStore, span};
use crate::digest::Digest;
use crate::geometry::BlockId;
use std::sync::Arc;

/// One difference, in ascending block order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// This block has this digest now.
    Block(BlockId, Digest),
    /// This many blocks from this one are zero now.
    Zero(BlockId, u64),
}

/// A node of the older tree, which may be lower than the newer one.
#[derive(Clone, Copy)]
enum Old {
    Node(Digest),
    /// The ancestor, above its own top, of a tree whose top has this level.
    Above(u8, Digest),
}

/// Tells `visit` every block of `new` that differs from `old`; both have the same block size.
pub fn diff<S: PageStore>(
    old: &Map,
    new: &Map,
    store: &mut S,
    visit: &mut impl FnMut(Change) -> Result<(), S::Error>,
) -> Result<(), S::Error> {
    let level = new.top_level();
    let mut walk = Walk { blocks: new.geometry.block_count(), store, visit };
    let root = match old.top_level() {
        top if top < level => Old::Above(top, old.top),
        top if top == level => Old::Node(old.top),
        top => {
            let mut digest = old.top;
            for _ in level..top {
                digest = walk.load(digest)?.map_or(Digest::ZERO, |page| page.get(0));
            }
            Old::Node(digest)
        }
    };
    walk.node(level, 0, root, new.top)
}

struct Walk<'a, S, V> {
    blocks: u64,
    store: &'a mut S,
    visit: &'a mut V,
}

impl<S: PageStore, V: FnMut(Change) -> Result<(), S::Error>> Walk<'_, S, V> {
    fn load(&mut self, digest: Digest) -> Result<Option<Arc<Page>>, S::Error> {
        match digest.is_zero() {
            true => Ok(None),
            false => self.store.load(digest).map(Some),
        }
    }

    fn node(&mut self, level: u8, index: u64, old: Old, new: Digest) -> Result<(), S::Error> {
        let first = index * span(level);
        if first >= self.blocks || matches!(old, Old::Node(old) if old == new) {
            return Ok(());
        }
        match (level, new.is_zero(), old) {
            (_, true, Old::Node(_)) => {
                let count = span(level).min(self.blocks - first);
                (self.visit)(Change::Zero(BlockId(first), count))
            }
            (0, ..) => (self.visit)(Change::Block(BlockId(first), new)),
            _ => self.children(level, index, old, new),
        }
    }

    fn children(&mut self, level: u8, index: u64, old: Old, new: Digest) -> Result<(), S::Error> {
        let new = self.load(new)?;
        let old_page = match old {
            Old::Node(digest) => self.load(digest)?,
            Old::Above(..) => None,
        };
        let entry = |page: &Option<Arc<Page>>, slot| page.as_ref().map_or(Digest::ZERO, |page| page.get(slot));
        for slot in 0..FANOUT as usize {
            let old = match old {
                Old::Above(top, digest) if slot == 0 && top == level - 1 => Old::Node(digest),
                Old::Above(top, digest) if slot == 0 => Old::Above(top, digest),
                _ => Old::Node(entry(&old_page, slot)),
            };
            self.node(level - 1, index * FANOUT + slot as u64, old, entry(&new, slot))?;
        }
        Ok(())
    }
}
