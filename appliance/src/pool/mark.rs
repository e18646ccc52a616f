//! Marking: which records the points need, found by walking their maps.
//!
//! The points of a volume are walked one after another and each only where it differs from the one before, so marking costs the
//! unique blocks once and then what changed. Invariants: what lies under a page that was marked is marked; a
//! page that cannot be read or is lost ends the marking, because what lies under it is not known.

use super::index::Location;
use super::{Pool, VolumeEntry};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use understudy_format::Digest;
use understudy_format::map::Page;
use understudy_format::session::Progress;

/// A node of a map: the level that it is on, and its digest.
#[derive(Debug, Clone, Copy)]
struct Node {
    level: u8,
    digest: Digest,
}

/// What is live of a segment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Share {
    /// Records, pads and footer left out.
    pub(super) records: u64,
    /// Bytes of them.
    pub(super) bytes: u64,
}

impl Share {
    /// Adds a record.
    pub(super) fn add(&mut self, bytes: u64) {
        self.records += 1;
        self.bytes += bytes;
    }
}

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Marker<'a> {
    pool: &'a Pool,
    stop: &'a AtomicBool,
    /// The marked records, by segment.
    pub(super) live: BTreeMap<u64, Share>,
    /// Digests of blocks that maps name and the pool does not have.
    pub(super) missing: u64,
}

impl<'a> Marker<'a> {
    /// A marker that ends early when `stop` is set.
    pub(super) fn new(pool: &'a Pool, stop: &'a AtomicBool) -> Self {
        Self { pool, stop, live: BTreeMap::new(), missing: 0 }
    }

    /// Marks what the points of a volume need.
    pub(super) fn volume(&mut self, entry: &VolumeEntry) -> Result<()> {
        let mut before: Option<Node> = None;
        for point in &entry.points {
            let top = Node { level: point.map.top_level(), digest: point.map.top };
            let old = before.filter(|old| old.level == top.level);
            let name = format!("{}@{}", entry.volume.name, point.number);
            self.node(top, old).map_err(|source| unknown(&name, "remove that point", source))?;
            before = Some(top);
        }
        Ok(())
    }

    /// Marks what an interrupted stream needs to go on.
    pub(super) fn progress(&mut self, progress: &Progress) -> Result<()> {
        let name = format!("the interrupted stream into {}", progress.volume.name);
        self.partial(progress).map_err(|source| unknown(&name, "replicate the volume again", source))
    }

    fn partial(&mut self, progress: &Progress) -> Result<()> {
        for (level, page) in (0..).zip(&progress.map.open) {
            self.children(level, page, None)?;
        }
        let level = progress.map.open.len() as u8;
        let top = progress.map.top.map(|digest| Node { level, digest });
        top.map_or(Ok(()), |top| self.node(top, None))
    }

    fn node(&mut self, node: Node, old: Option<Node>) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Closing);
        }
        if node.digest.is_zero() || old.is_some_and(|old| old.digest == node.digest) || !self.mark(node)? {
            return Ok(());
        }
        if node.level == 0 {
            return Ok(());
        }
        let page = self.pool.page(node.digest)?;
        let old = old.filter(|old| !old.digest.is_zero()).map(|old| self.pool.page(old.digest)).transpose()?;
        self.children(node.level - 1, &page, old.as_ref())
    }

    fn children(&mut self, level: u8, page: &Page, old: Option<&Arc<Page>>) -> Result<()> {
        for slot in 0..understudy_format::map::FANOUT as usize {
            let old = old.map(|old| Node { level, digest: old.get(slot) });
            self.node(Node { level, digest: page.get(slot) }, old)?;
        }
        Ok(())
    }

    /// Marks the record of a node; whether it was not marked before.
    fn mark(&mut self, Node { level, digest }: Node) -> Result<bool> {
        let Some(location) = self.find(&digest)? else {
            self.missing += 1;
            return if level > 0 { Err(Error::Missing { what: "map page", digest }) } else { Ok(false) };
        };
        let is_new = self.pool.live.mark(&location);
        if is_new {
            self.live.entry(location.segment).or_default().add(location.record_length());
        }
        Ok(is_new)
    }

    /// Where a record is, also one that is known to be damaged: what it still has may be read again one day.
    fn find(&self, digest: &Digest) -> Result<Option<Location>> {
        match self.pool.log.location(digest)? {
            None => Ok(self.pool.index.get_damaged(digest)?.filter(|location| !location.is_nowhere())),
            found => Ok(found),
        }
    }
}

fn unknown(who: &str, otherwise: &str, source: Error) -> Error {
    match source {
        Error::Closing => Error::Closing,
        source => Error::Refused(format!(
            "what {who} needs cannot be told: {source}; nothing was removed; run `understudyd scrub`, which repairs what it can, \
             or {otherwise}"
        )),
    }
}
