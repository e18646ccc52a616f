//! A point as something to read: blocks by ID, and where it is zero.
//!
//! Invariants: what is read is the point, whatever it is read from, so never half of a change; what is looked at is not removed meanwhile;
//! every failure names volume, point, block and byte offset.

use crate::error::{Error, Result};
use crate::pool::live::Lease;
use crate::pool::{PagesAtHand, Pool};
use bytes::Bytes;
use std::sync::Arc;
use understudy_format::map::{Lookup, span};
use understudy_format::point::{Point, Volume};
use understudy_format::{BlockId, Digest, Geometry};

/// One point of one volume.
#[derive(Debug, Clone)]
pub struct PointView {
    pool: Arc<Pool>,
    volume: Volume,
    point: Point,
    _lease: Arc<Lease>,
}

impl PointView {
    /// A view of `point`, which stays while there is a view of it; `by` says for people who looks.
    pub fn open(pool: &Arc<Pool>, volume: &Volume, point: &Point, by: &'static str) -> Result<Self> {
        let lease = pool.leased(volume, point, by)?;
        Ok(Self { pool: pool.clone(), volume: volume.clone(), point: point.clone(), _lease: Arc::new(lease) })
    }

    /// A view of another point of the same volume; `None` when there is no such point.
    pub fn sibling(&self, number: u64, by: &'static str) -> Option<Self> {
        let (volume, point) = self.pool.point(&self.volume.uuid, number)?;
        Self::open(&self.pool, &volume, &point, by).ok()
    }

    /// The numbers of all points of the volume, ascending.
    pub fn numbers(&self) -> Vec<u64> {
        let entry = self.pool.volume(&self.volume.name).filter(|entry| entry.volume.uuid == self.volume.uuid);
        entry.map_or(Vec::new(), |entry| entry.points.iter().map(|point| point.number).collect())
    }

    /// The pool that has the point.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The volume.
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    /// The point.
    pub fn point(&self) -> &Point {
        &self.point
    }

    /// Size and block size.
    pub fn geometry(&self) -> &Geometry {
        &self.point.map.geometry
    }

    /// Looks up blocks of this point one after another.
    pub fn lookup(&self) -> Lookup {
        Lookup::new(self.point.map)
    }

    /// The content of a block; `None` when it is zero.
    pub fn block(&self, lookup: &mut Lookup, block: BlockId) -> Result<Option<Bytes>> {
        Ok(self.digested_block(lookup, block)?.map(|(_, content)| content))
    }

    /// The content of a block with its digest, against which it was checked; `None` when it is zero.
    pub fn digested_block(&self, lookup: &mut Lookup, block: BlockId) -> Result<Option<(Digest, Bytes)>> {
        self.read(lookup, block).map_err(self.at(block))
    }

    fn read(&self, lookup: &mut Lookup, block: BlockId) -> Result<Option<(Digest, Bytes)>> {
        let digest = lookup.block(block, &mut self.pool.pages(None))?;
        if digest.is_zero() {
            return Ok(None);
        }
        let content = self.pool.block(digest)?;
        let (expected, found) = (self.geometry().block_len(block), content.len());
        match expected as usize == found {
            true => Ok(Some((digest, content))),
            false => Err(Error::refused(format!("the block has {found} bytes, {expected} expected"))),
        }
    }

    /// The digest of a block.
    pub fn digest(&self, lookup: &mut Lookup, block: BlockId) -> Result<Digest> {
        lookup.block(block, &mut self.pool.pages(None)).map_err(self.at(block))
    }

    /// The digest of a block, if the pages that lead to it are in memory.
    pub fn digest_at_hand(&self, block: BlockId) -> Option<Digest> {
        self.lookup().block(block, &mut PagesAtHand(&self.pool)).ok()
    }

    /// Names a block in an error.
    pub fn at(&self, block: BlockId) -> impl FnOnce(Error) -> Error + '_ {
        move |source| Error::At {
            volume: self.volume.name.to_string(),
            point: self.point.number,
            block: block.0,
            offset: self.geometry().offset(block),
            source: Box::new(source),
        }
    }

    /// Whether `block` is zero, and for how many blocks from it on (at most `max`) that stays so.
    ///
    /// Costs the depth of the map, not the length of a zero run under one subtree.
    pub fn run(&self, lookup: &mut Lookup, block: BlockId, max: u64) -> Result<(bool, u64)> {
        let mut pages = self.pool.pages(None);
        let top = self.point.map.top_level();
        for level in (0..=top).rev() {
            if lookup.node(level, block.0 / span(level), &mut pages)?.is_zero() {
                let end = (block.0 / span(level) + 1) * span(level);
                return Ok((true, (end - block.0).min(max)));
            }
        }
        Ok((false, 1))
    }
}
