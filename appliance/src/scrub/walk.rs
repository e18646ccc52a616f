//! Walking the maps of a volume's points, each only where it differs from the one before.
//!
//! Invariants: every node of a map is shown once for each run of points that have it in the same place; what cannot be read is
//! told and passed over, unless the point was removed meanwhile: then what it named may be gone, and that is no damage.

use super::pace::Pace;
use crate::error::{Error, Result};
use crate::pool::{Pool, VolumeEntry};
use std::sync::Arc;
use understudy_format::map::{FANOUT, PAGE_SIZE, Page, span};
use understudy_format::point::Point;
use understudy_format::segment::Kind;
use understudy_format::{Digest, Geometry};

/// A node of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// 0 for blocks.
    pub level: u8,
    /// Among the nodes of its level.
    pub index: u64,
    /// May be [`Digest::ZERO`].
    pub digest: Digest,
}

impl Node {
    /// The first block beneath it.
    pub fn first_block(&self) -> u64 {
        self.index * span(self.level)
    }

    /// The block after the last one beneath it, which may be past the end of the volume.
    pub fn end_block(&self) -> u64 {
        (self.index + 1) * span(self.level)
    }

    /// What it is stored as.
    pub fn kind(&self) -> Kind {
        if self.level == 0 { Kind::Block } else { Kind::Page }
    }
}

/// Whom a walk shows what it passes.
pub trait Visitor {
    /// A point begins.
    fn point(&mut self, number: u64, geometry: &Geometry);
    /// A node that the point before did not have in this place; whether to go beneath it.
    fn node(&mut self, node: &Node) -> Result<bool>;
    /// A node was damaged or missing.
    fn unreadable(&mut self, node: &Node, error: Error) -> Result<()>;
}

/// See the module documentation.
pub struct Walk<'a, 'p, 'c> {
    /// Where the pages are.
    pub pool: &'a Pool,
    /// Asked before each page.
    pub pace: &'p mut Pace<'c>,
}

impl Walk<'_, '_, '_> {
    /// Walks the points of a volume.
    pub fn volume(&mut self, entry: &VolumeEntry, visitor: &mut impl Visitor) -> Result<()> {
        let mut before: Option<Node> = None;
        for point in &entry.points {
            before = Some(self.point(point, before, visitor)?);
        }
        Ok(())
    }

    /// Walks a point where it differs from the one whose top is `before`; returns its top.
    pub fn point(&mut self, point: &Point, before: Option<Node>, visitor: &mut impl Visitor) -> Result<Node> {
        visitor.point(point.number, &point.map.geometry);
        let top = Node { level: point.map.top_level(), index: 0, digest: point.map.top };
        let old = before.filter(|old| old.level == top.level).map(|old| old.digest);
        self.node(point, &top, old, visitor)?;
        Ok(top)
    }

    fn node(&mut self, point: &Point, node: &Node, old: Option<Digest>, visitor: &mut impl Visitor) -> Result<()> {
        if old == Some(node.digest) {
            return Ok(());
        }
        self.pace.go_on()?;
        match self.show(node, visitor) {
            Ok(None) => Ok(()),
            Ok(Some(page)) => {
                // An old page that cannot be read was told when its point came.
                let old = old.filter(|old| !old.is_zero()).and_then(|old| self.page(old).ok());
                self.children(point, node, &page, old.as_deref(), visitor)
            }
            Err(error @ (Error::Damaged { .. } | Error::Missing { .. } | Error::Format(_))) => {
                match self.pool.point(&point.volume, point.number) {
                    Some(_) => visitor.unreadable(node, error),
                    None => Ok(()),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn show(&mut self, node: &Node, visitor: &mut impl Visitor) -> Result<Option<Arc<Page>>> {
        match visitor.node(node)? && node.level > 0 && !node.digest.is_zero() {
            true => self.page(node.digest).map(Some),
            false => Ok(None),
        }
    }

    fn page(&mut self, digest: Digest) -> Result<Arc<Page>> {
        self.pace.take(PAGE_SIZE as u64)?;
        self.pool.page(digest)
    }

    fn children(
        &mut self,
        point: &Point,
        node: &Node,
        page: &Page,
        old: Option<&Page>,
        visitor: &mut impl Visitor,
    ) -> Result<()> {
        for slot in 0..FANOUT {
            let at = slot as usize;
            let child = Node { level: node.level - 1, index: node.index * FANOUT + slot, digest: page.get(at) };
            self.node(point, &child, old.map(|old| old.get(at)), visitor)?;
        }
        Ok(())
    }
}
