//! Descending the map of a point at the appliance, page by page, only where it differs from a map here.
//!
//! Invariants: every page is checked against the digest that its parent has for it, from the point's top
//! down, so a wrong page is never believed; differences come in ascending block order; memory is a few requests'
//! worth of indexes, whatever the size of the volume.

use crate::connection::Appliance;
use crate::digest_map::MapFile;
use anyhow::{Context, Result, ensure};
use std::collections::VecDeque;
use std::ops::Range;
use understudy_format::Digest;
use understudy_format::map::{FANOUT, PAGE_SIZE, Page, span};
use understudy_format::mapfile::Shape;
use understudy_format::point::Point;
use understudy_format::wire::PAGES_MAX;

/// What was found about a node of the point's map, compared with the map here.
#[derive(Debug)]
pub enum Finding<'a> {
    /// The node is as it is here, with all that is below it.
    Same {
        /// Of the node.
        level: u8,
        /// Of the node.
        index: u64,
    },
    /// This page of nodes differs.
    Page {
        /// Of the nodes in it.
        level: u8,
        /// Of the page.
        index: u64,
        /// The page at the appliance.
        page: &'a Page,
    },
    /// The node is all zero, and not so here.
    Zero {
        /// Of the node.
        level: u8,
        /// Of the node.
        index: u64,
    },
}

/// Takes findings.
pub type Visit<'a> = dyn FnMut(Finding<'_>) -> Result<()> + 'a;

/// Whether some of these blocks are to be looked at.
pub type Wanted = dyn Fn(Range<u64>) -> bool + Send + Sync;

/// Pages that are still to be fetched, of one level, with the digests they must have.
type Pending = (u8, VecDeque<(u64, Digest)>);

/// A descent that can be continued; see the module documentation.
pub struct Descent<'a> {
    point: &'a Point,
    shape: Shape,
    here: Option<&'a MapFile>,
    wanted: Option<&'a Wanted>,
    stack: Vec<Pending>,
}

impl std::fmt::Debug for Descent<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Descent").field("point", &self.point.number).field("stack", &self.stack).finish_non_exhaustive()
    }
}

impl<'a> Descent<'a> {
    /// A descent of the map of `point`, compared with `here`; nothing here is like all zeros.
    pub fn new(point: &'a Point, here: Option<&'a MapFile>) -> Self {
        Self { point, shape: Shape::new(&point.map.geometry), here, wanted: None, stack: Vec::new() }
    }

    /// The same, without what is below a node over blocks of which none is wanted.
    pub fn only(self, wanted: &'a Wanted) -> Self {
        Self { wanted: Some(wanted), ..self }
    }

    /// Compares the tops; what is below them is for [`Descent::step`].
    pub fn start(&mut self, visit: &mut Visit<'_>) -> Result<()> {
        let top = self.shape.top_level();
        let first = self.node(top, 0, self.point.map.top, visit)?;
        self.stack.extend(first.map(|page| (top - 1, VecDeque::from([page]))));
        Ok(())
    }

    /// Fetches the next pages and tells what is in them; `false` when none were left.
    pub async fn step(&mut self, appliance: &mut Appliance, visit: &mut Visit<'_>) -> Result<bool> {
        let Some((level, mut pending)) = self.stack.pop() else { return Ok(false) };
        let rest = pending.split_off(pending.len().min(PAGES_MAX as usize));
        if !rest.is_empty() {
            self.stack.push((level, rest));
        }
        let indexes = pending.iter().map(|(index, _)| *index).collect();
        let pages = appliance.pages(self.point, level, indexes).await?;
        let (expected, found) = (pending.len() * PAGE_SIZE, pages.len());
        ensure!(expected == found, "appliance {}: {expected} bytes of map expected, {found} came", appliance.address);
        let mut children = VecDeque::new();
        for ((index, expected), bytes) in pending.into_iter().zip(pages.chunks_exact(PAGE_SIZE)) {
            let page = Page::checked(bytes, expected);
            let page =
                page.with_context(|| format!("appliance {}: page {index} of level {level}", appliance.address))?;
            visit(Finding::Page { level, index, page: &page })?;
            self.children(level, index, &page, &mut children, visit)?;
        }
        if !children.is_empty() {
            self.stack.push((level - 1, children));
        }
        Ok(true)
    }

    fn children(
        &self,
        level: u8,
        index: u64,
        page: &Page,
        children: &mut VecDeque<(u64, Digest)>,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        if level == 0 {
            return Ok(());
        }
        let nodes = self.shape.nodes(level).saturating_sub(index * FANOUT).min(FANOUT);
        for slot in 0..nodes {
            let child = self.node(level, index * FANOUT + slot, page.get(slot as usize), visit)?;
            children.extend(child);
        }
        Ok(())
    }

    /// Compares a node of a level above the blocks; tells the page to fetch when it must be looked into.
    fn node(&self, level: u8, index: u64, digest: Digest, visit: &mut Visit<'_>) -> Result<Option<(u64, Digest)>> {
        let here = self.here.map_or(Digest::ZERO, |map| map.node(level, index));
        // A volume that grew past a power of 256 has nodes above the top of the map here.
        let known = self.here.is_none_or(|map| level <= map.shape().top_level());
        match (here == digest && known, digest.is_zero()) {
            (true, _) => visit(Finding::Same { level, index })?,
            (_, true) => visit(Finding::Zero { level, index })?,
            _ if self.is_wanted(level, index) => return Ok(Some((index, digest))),
            _ => {}
        };
        Ok(None)
    }

    fn is_wanted(&self, level: u8, index: u64) -> bool {
        self.wanted.is_none_or(|wanted| wanted(blocks_under(&self.shape, level, index)))
    }
}

/// The blocks under a node, cut at the end of the volume.
pub fn blocks_under(shape: &Shape, level: u8, index: u64) -> Range<u64> {
    let blocks = shape.nodes(0);
    (index * span(level)).min(blocks)..((index + 1) * span(level)).min(blocks)
}
