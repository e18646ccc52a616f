//! Building the map of a new point while its blocks go by in order.
//!
//! Invariants: memory is one page a level, however large the volume; a run of zero or unchanged
//! blocks that covers whole subtrees takes them whole, so a new point costs what changed and not
//! what is there; pages are stored bottom-up, each before the page that names it.

use super::{FANOUT, Lookup, Map, Page, PageStore, span, top_level};
use crate::digest::Digest;
use crate::geometry::Geometry;

/// A map as far as it was built: the open pages, and nothing of what is below them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partial {
    /// The next block.
    pub next: u64,
    /// `open[level]` is the page being filled with nodes of `level`; as many as the map has levels below its top.
    pub open: Vec<Page>,
    /// The top, once its last slot was filled.
    pub top: Option<Digest>,
}

/// Collects a new map; see the module documentation.
#[derive(Debug)]
pub struct Builder {
    geometry: Geometry,
    top_level: u8,
    base: Option<Lookup>,
    /// `open[level]` is the page being filled with nodes of `level`.
    open: Vec<Page>,
    /// The next block.
    next: u64,
    /// The top, once its last slot was filled.
    top: Option<Digest>,
}

impl Builder {
    /// A builder of a map for `geometry`; unchanged blocks are those of `base`.
    pub fn new(geometry: Geometry, base: Option<Map>) -> Self {
        let top_level = top_level(geometry.block_count());
        let open = vec![Page::zero(); top_level.into()];
        Self { geometry, top_level, base: base.map(Lookup::new), open, next: 0, top: None }
    }

    /// A builder that goes on where another one was when it told its [`Builder::partial`].
    pub fn resume(geometry: Geometry, base: Option<Map>, partial: Partial) -> Self {
        let Partial { next, open, top } = partial;
        Self { open, next, top, ..Self::new(geometry, base) }
    }

    /// What was built so far.
    pub fn partial(&self) -> Partial {
        Partial { next: self.next, open: self.open.clone(), top: self.top }
    }

    /// The map of a volume whose blocks from the next one on are all zero: what a resumed stream is held against.
    pub fn prefix<S: PageStore>(&self, store: &mut S) -> Result<Map, S::Error> {
        let mut all = Self::resume(self.geometry, None, self.partial());
        all.zero(self.geometry.block_count() - self.next, store)?;
        all.finish(store)
    }

    /// The next block has this digest.
    pub fn block<S: PageStore>(&mut self, digest: Digest, store: &mut S) -> Result<(), S::Error> {
        self.push(0, digest, store)
    }

    /// The next `count` blocks are zero.
    pub fn zero<S: PageStore>(&mut self, count: u64, store: &mut S) -> Result<(), S::Error> {
        self.run(count, store, |_, _, _, _| Ok(Digest::ZERO))
    }

    /// The next `count` blocks are as in the base, which must have them (see `stream::Checker`).
    pub fn unchanged<S: PageStore>(&mut self, count: u64, store: &mut S) -> Result<(), S::Error> {
        self.run(count, store, |base, level, index, store| match base {
            Some(base) => base.node(level, index, store),
            None => unreachable!("the stream checker admits unchanged blocks only over a base"),
        })
    }

    /// All blocks went by: the map.
    pub fn finish<S: PageStore>(mut self, store: &mut S) -> Result<Map, S::Error> {
        assert_eq!(self.next, self.geometry.block_count(), "every block must have gone by");
        // The rest of the tree is zero; the top comes out when its last slot is filled.
        while self.top.is_none() {
            let level = self.largest(span(self.top_level) - self.next);
            self.push(level, Digest::ZERO, store)?;
        }
        Ok(Map { geometry: self.geometry, top: self.top.expect("just seen") })
    }

    fn run<S: PageStore>(
        &mut self,
        mut count: u64,
        store: &mut S,
        node: impl Fn(Option<&mut Lookup>, u8, u64, &mut S) -> Result<Digest, S::Error>,
    ) -> Result<(), S::Error> {
        while count > 0 {
            let level = self.largest(count);
            let digest = node(self.base.as_mut(), level, self.next / span(level), store)?;
            count -= span(level);
            self.push(level, digest, store)?;
        }
        Ok(())
    }

    /// The level of the largest subtree that starts at the next block and has at most `count` blocks.
    fn largest(&self, count: u64) -> u8 {
        let fits = |level: &u8| self.next.is_multiple_of(span(*level)) && span(*level) <= count;
        (0..self.top_level).rev().find(fits).unwrap_or(0)
    }

    /// Puts a node into its page, and full pages into theirs.
    fn push<S: PageStore>(&mut self, level: u8, digest: Digest, store: &mut S) -> Result<(), S::Error> {
        let (mut node, mut index) = (digest, self.next / span(level));
        self.next += span(level);
        for level in usize::from(level)..self.top_level.into() {
            let slot = index % FANOUT;
            self.open[level].set(slot as usize, node);
            if slot + 1 < FANOUT {
                return Ok(());
            }
            node = self.close(level, store)?;
            index /= FANOUT;
        }
        self.top = Some(node);
        Ok(())
    }

    /// Stores the page of `level` and starts a new one.
    fn close<S: PageStore>(&mut self, level: usize, store: &mut S) -> Result<Digest, S::Error> {
        let page = std::mem::replace(&mut self.open[level], Page::zero());
        let digest = page.digest();
        if !digest.is_zero() {
            store.store(digest, &page)?;
        }
        Ok(digest)
    }
}
