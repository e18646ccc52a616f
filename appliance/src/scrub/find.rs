//! Who needs what is damaged: every volume, run of points and range of blocks that names it.
//!
//! Invariants: what is known of one damaged record is bounded, however often it is named (the count is exact); a damaged page
//! stands for all blocks beneath it, because what is there cannot be told before the page is healed.

use super::report::{Damaged, Place};
use super::walk::{Node, Visitor};
use crate::error::{Error, Result};
use crate::pool::heal::Damage;
use crate::pool::{Pool, VolumeEntry};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use understudy_format::point::VolumeName;
use understudy_format::segment::Kind;
use understudy_format::{BlockId, Digest, Geometry};

/// Places that are told of one damaged record.
const PLACES_MAX: usize = 16;
/// Places in newest points that are remembered of one damaged record: where its content may still be.
const SOURCES_MAX: usize = 4;

/// Where content may still be outside the pool's segments: in the secondary of a volume.
#[derive(Debug, Clone)]
pub struct Source {
    /// The volume.
    pub volume: Arc<VolumeEntry>,
    /// In the map of its newest point.
    pub node: Node,
}

/// What is known of a damaged record.
#[derive(Debug, Clone)]
pub struct Wound {
    /// What is damaged, and where.
    pub damage: Damage,
    /// The first places that need it.
    pub places: Vec<Place>,
    /// How many places need it.
    pub place_count: u64,
    /// The volumes that need it.
    pub volumes: BTreeSet<VolumeName>,
    /// Where its content may still be.
    pub sources: Vec<Source>,
}

impl Wound {
    fn new(damage: Damage) -> Self {
        let (places, place_count, volumes, sources) = Default::default();
        Self { damage, places, place_count, volumes, sources }
    }

    /// What people are told.
    pub fn told(&self, reason: String) -> Damaged {
        let Damage { digest, kind, location } = self.damage;
        let mut places = self.places.clone();
        places
            .sort_by(|a, b| (&a.volume, a.first_point, a.first_block).cmp(&(&b.volume, b.first_point, b.first_block)));
        Damaged {
            what: if kind == Kind::Page { "map page" } else { "block" },
            digest: digest.to_string(),
            segment: location.segment,
            offset: location.offset,
            reason,
            places,
            more_places: self.place_count - self.places.len() as u64,
        }
    }
}

/// All that is damaged, by digest.
pub type Wounds = BTreeMap<Digest, Wound>;

/// What the pool knows to be damaged; nobody is known to need it yet.
pub fn wounds(pool: &Pool) -> Result<Wounds> {
    Ok(pool.damaged()?.into_iter().map(|damage| (damage.digest, Wound::new(damage))).collect())
}

/// A node that is damaged, and is so since some point.
#[derive(Debug, Clone, Copy)]
struct Open {
    node: Node,
    first_point: u64,
}

/// Finds who needs what is damaged, one volume at a time.
pub struct Finder<'a> {
    pool: &'a Pool,
    wounds: &'a mut Wounds,
    volume: Arc<VolumeEntry>,
    geometry: Option<Geometry>,
    point: u64,
    point_before: u64,
    /// By first block.
    open: BTreeMap<u64, Open>,
}

impl<'a> Finder<'a> {
    /// A finder for the points of a volume.
    pub fn new(pool: &'a Pool, wounds: &'a mut Wounds, volume: Arc<VolumeEntry>) -> Self {
        let (geometry, point, point_before, open) = Default::default();
        Self { pool, wounds, volume, geometry, point, point_before, open }
    }

    /// Ends the volume.
    pub fn finish(mut self) {
        for open in std::mem::take(&mut self.open).into_values() {
            self.record(open, self.point);
            let source = Source { volume: self.volume.clone(), node: open.node };
            if let Some(wound) = self.wounds.get_mut(&open.node.digest).filter(|w| w.sources.len() < SOURCES_MAX) {
                wound.sources.push(source);
            }
        }
    }

    /// Ends what was damaged beneath a node up to the point before, unless it is this very node.
    fn close(&mut self, node: &Node) {
        let beneath = self.open.range(node.first_block()..node.end_block());
        let ended: Vec<u64> = beneath.filter(|(_, open)| open.node != *node).map(|(first, _)| *first).collect();
        for first in ended {
            let open = self.open.remove(&first).expect("just seen");
            self.record(open, self.point_before);
        }
    }

    /// Ends a page that was damaged in the place of one that can be read.
    fn close_page(&mut self, node: &Node) {
        let first = node.first_block();
        if self.open.get(&first).is_some_and(|open| open.node.level >= node.level) {
            let open = self.open.remove(&first).expect("just seen");
            self.record(open, self.point_before);
        }
    }

    fn open(&mut self, node: &Node) {
        self.close(node);
        self.open.entry(node.first_block()).or_insert(Open { node: *node, first_point: self.point });
    }

    fn record(&mut self, open: Open, last_point: u64) {
        let (Some(geometry), Some(wound)) = (self.geometry, self.wounds.get_mut(&open.node.digest)) else { return };
        let name = &self.volume.volume.name;
        wound.volumes.insert(name.clone());
        wound.place_count += 1;
        if wound.places.len() < PLACES_MAX {
            let first = open.node.first_block();
            wound.places.push(Place {
                volume: name.to_string(),
                first_point: open.first_point,
                last_point,
                first_block: first,
                block_count: open.node.end_block().min(geometry.block_count()) - first,
                offset: geometry.offset(BlockId(first)),
            });
        }
    }
}

impl Visitor for Finder<'_> {
    fn point(&mut self, number: u64, geometry: &Geometry) {
        self.point_before = std::mem::replace(&mut self.point, number);
        // What is past the end is not passed any more.
        let ended = self.open.split_off(&geometry.block_count());
        ended.into_values().for_each(|open| self.record(open, self.point_before));
        self.geometry = Some(*geometry);
    }

    fn node(&mut self, node: &Node) -> Result<bool> {
        if self.wounds.contains_key(&node.digest) {
            self.open(node);
            return Ok(false);
        }
        match node.level == 0 || node.digest.is_zero() {
            true => self.close(node),
            // What is beneath is passed one by one where it changed.
            false => self.close_page(node),
        }
        Ok(true)
    }

    fn unreadable(&mut self, node: &Node, error: Error) -> Result<()> {
        if let Error::Missing { .. } = error {
            self.pool.mark_missing(&node.digest, node.kind())?;
        }
        if let Some(damage) = self.pool.damage(&node.digest)? {
            self.wounds.entry(node.digest).or_insert_with(|| Wound::new(damage));
            self.open(node);
        }
        Ok(())
    }
}
