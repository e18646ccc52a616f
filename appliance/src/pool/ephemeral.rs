//! Points that are not recorded: moments between points, for as long as somebody looks at one.
//!
//! Everything that takes a point takes one of these, by its number. Invariants: the number of one has its highest bit set, which no
//! recorded point has; all that it needs is pinned, or its base needs it, which is leased; a moment is here once, and while there is a
//! lease of it, and never after the pool was closed.

use super::live::Lease;
use super::{Pool, StreamGuard};
use crate::error::{Error, Result};
use crate::locks::lock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use understudy_format::journal::Position;
use understudy_format::point::{MOMENT, Point, Volume};
use uuid::Uuid;

/// Who uses the point that a moment comes after.
const BASE: &str = "a moment after it that is looked at";

/// A point that is not recorded; what it needs may go when this is dropped.
#[derive(Debug)]
pub struct Ephemeral {
    volume: Volume,
    point: Point,
    _guard: StreamGuard,
    _base: Lease,
}

/// Those that there are; whoever looks at one keeps it.
#[derive(Debug, Default)]
pub(super) struct Ephemerals(Mutex<BTreeMap<(Uuid, u64), Weak<Ephemeral>>>);

impl Ephemerals {
    pub(super) fn find(&self, volume: &Uuid, number: u64) -> Option<Arc<Ephemeral>> {
        lock(&self.0).get(&(*volume, number))?.upgrade()
    }

    fn at(&self, volume: &Uuid, position: &Position) -> Option<Arc<Ephemeral>> {
        let of_volume = (*volume, 0)..=(*volume, u64::MAX);
        let open: Vec<_> = lock(&self.0).range(of_volume).filter_map(|(_, kept)| kept.upgrade()).collect();
        open.into_iter().find(|open| open.point.position.as_ref() == Some(position))
    }

    /// Enters a point under the number of its entry in its journal, or the next one when a moment of another journal has that.
    fn enter(&self, mut ephemeral: Ephemeral) -> Arc<Ephemeral> {
        let mut all = lock(&self.0);
        all.retain(|_, kept| kept.strong_count() > 0);
        let volume = ephemeral.volume.uuid;
        let sequence = ephemeral.point.position.map_or(0, |position| position.sequence);
        let free = |number: &u64| !all.contains_key(&(volume, *number));
        let number = (sequence..).map(|number| MOMENT | number).find(free).expect("few moments are open");
        ephemeral.point.number = number;
        let entered = Arc::new(ephemeral);
        all.insert((volume, number), Arc::downgrade(&entered));
        entered
    }
}

impl Ephemeral {
    /// What there is to read.
    pub(super) fn point(&self) -> (Volume, Point) {
        (self.volume.clone(), self.point.clone())
    }
}

impl Pool {
    /// Holds what a moment is made of that comes after a point of a volume, until it is [opened](Self::open_moment).
    pub fn begin_moment(self: &Arc<Self>, volume: &Uuid, base: u64) -> Result<(StreamGuard, Lease)> {
        let gone = || Error::Refused(format!("point {base} of volume {volume} was removed just now; ask again"));
        let base = self.lease(volume, base, BASE).ok_or_else(gone)?;
        let epoch = self.log.begin()?;
        Ok((StreamGuard { pool: self.clone(), holder: self.live.begin_moment(), epoch }, base))
    }

    /// Opens a moment, or the same that is open already: it can be read while there is a lease of it. The number is given here.
    pub fn open_moment(
        &self,
        (guard, base): (StreamGuard, Lease),
        volume: Volume,
        point: Point,
        by: &'static str,
    ) -> Result<(Point, Lease)> {
        self.settle(&guard)?;
        let known = point.position.and_then(|position| self.ephemerals.at(&volume.uuid, &position));
        let entered =
            known.unwrap_or_else(|| self.ephemerals.enter(Ephemeral { volume, point, _guard: guard, _base: base }));
        Ok(self.lease_moment(entered, by))
    }

    /// A moment that is open.
    pub fn moment(&self, volume: &Uuid, position: &Position, by: &'static str) -> Option<(Point, Lease)> {
        Some(self.lease_moment(self.ephemerals.at(volume, position)?, by))
    }

    fn lease_moment(&self, moment: Arc<Ephemeral>, by: &'static str) -> (Point, Lease) {
        let point = moment.point.clone();
        (point.clone(), self.live.lease(point.volume, point.number, by, Some(moment)))
    }

    /// Makes durable, so that it can be read, what a stream or a moment stored so far.
    pub fn settle(&self, guard: &StreamGuard) -> Result<()> {
        self.log.sync(guard.epoch)
    }
}
