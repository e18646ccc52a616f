//! Folding the journal of a volume: over a map, and over its newest point into the next one.
//!
//! Invariants: a point is what the volume was at one moment: a mark where there is one, the end of a journal that is closed; a journal is
//! folded over points of its own alone, and while the primary is what is written to, so a state that another stream brought is never taken back; nothing is removed here.

use super::{Folded, Overwrites, fold};
use crate::error::{Error, Result};
use crate::journals::{Changes, Journals};
use crate::pool::{NewPoint, Pool, StreamGuard, VolumeEntry};
use std::ops::Range;
use std::sync::Arc;
use understudy_format::follow::Role;
use understudy_format::journal::Position;
use understudy_format::map::Map;
use understudy_format::point::{Point, Volume, VolumeName};
use uuid::Uuid;

impl Overwrites for Changes {
    fn extents(&self) -> impl Iterator<Item = Range<u64>> {
        Self::extents(self)
    }

    fn apply(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        Self::apply(self, offset, buffer)
    }
}

/// The journals of one volume, and the pool that they are folded into.
#[derive(Debug, Clone, Copy)]
pub struct Folder<'a> {
    /// The pool.
    pub pool: &'a Arc<Pool>,
    /// Its journals.
    pub journals: &'a Arc<Journals>,
    /// The volume.
    pub name: &'a VolumeName,
}

/// What a run of entries made of a map.
#[derive(Debug, Clone, Copy)]
pub struct Laid {
    /// The new map.
    pub folded: Folded,
    /// When the last of them was written; `None` when there was none.
    pub time_ns: Option<i64>,
    /// Up to where a journal is in it.
    pub position: Option<Position>,
}

impl Laid {
    /// The map itself, which no journal was laid over.
    pub fn nothing(map: Map) -> Self {
        Self { folded: Folded::nothing(map), time_ns: None, position: None }
    }
}

/// What a volume's journal has that is in no point.
#[derive(Debug)]
struct Pending {
    entry: Arc<VolumeEntry>,
    after: Position,
    /// Up to where it may be folded: the newest mark, when something was written before it; else the end.
    ends: Vec<u64>,
    /// A tap that has begun another one waits for a point with all of this one.
    is_closed: bool,
}

impl Folder<'_> {
    /// Lays the entries after `after` up to number `through` over a map, whose blocks and pages are durable.
    pub fn lay_over(&self, guard: &StreamGuard, base: Map, after: Position, through: u64) -> Result<Laid> {
        let mut laid = Laid { position: Some(Position { sequence: through, ..after }), ..Laid::nothing(base) };
        let mut at = after.sequence;
        while at < through {
            let changes = self.journals.changes(self.name, &after.journal, at, through)?;
            if changes.through() <= at {
                let reason = format!("entry {} of journal {} of volume {}", at + 1, after.journal, self.name);
                return Err(Error::Refused(format!("{reason} cannot be read")));
            }
            laid.folded = fold(self.pool, guard, laid.folded.map, &changes)?.after(&laid.folded);
            laid.time_ns = Some(changes.time_ns());
            at = changes.through();
            // What comes next is read from what this stored.
            self.pool.settle(guard)?;
        }
        Ok(laid)
    }

    /// Makes a point of what the journal has after the newest point; `None` when nothing was written since, unless it is closed. Durable when this returns.
    pub fn fold(&self, stream: Uuid, now_ns: i64) -> Result<Option<(Volume, Point)>> {
        let Some(Pending { entry, .. }) = self.pending() else { return Ok(None) };
        let guard = self.pool.begin_stream(self.name, entry.volume.uuid)?;
        // A stream may have ended just now.
        let Some(Pending { entry, after, ends, is_closed }) = self.pending() else { return Ok(None) };
        let newest = entry.newest().expect("a volume has points");
        for through in ends {
            let laid = self.lay_over(&guard, newest.map, after, through)?;
            if laid.folded.changed_blocks > 0 || is_closed {
                let point = self.commit(&guard, &entry.volume, newest, laid, stream, now_ns)?;
                return Ok(Some((entry.volume.clone(), point)));
            }
        }
        Ok(None)
    }

    fn commit(
        &self,
        guard: &StreamGuard,
        volume: &Volume,
        newest: &Point,
        laid: Laid,
        stream: Uuid,
        now_ns: i64,
    ) -> Result<Point> {
        let Laid { folded, time_ns, position } = laid;
        // A primary whose clock is ahead must not hide that it falls behind.
        let created_ns = time_ns.unwrap_or(now_ns).min(now_ns);
        let made = folded.point(volume.uuid, self.pool.next_number(&volume.uuid), stream, created_ns);
        let point = Point { base: Some(newest.number), position, ..made };
        self.pool.commit(vec![NewPoint { guard, volume, point: point.clone() }])?;
        Ok(point)
    }

    /// What there is after the newest point, if anything.
    fn pending(&self) -> Option<Pending> {
        if self.journals.state(self.name).role != Role::Following {
            return None;
        }
        let entry = self.pool.volume(self.name)?;
        let after = entry.newest()?.position?;
        let end = self.journals.durable(self.name, &after.journal);
        let is_closed = self.journals.is_closed(self.name, &after.journal);
        let mark = self.newest_mark(&after).filter(|mark| *mark < end && !is_closed);
        let ends = mark.into_iter().chain([end]).collect();
        (end > after.sequence).then_some(Pending { entry, after, ends, is_closed })
    }

    /// The number of the newest mark after a position.
    fn newest_mark(&self, after: &Position) -> Option<u64> {
        let mark = self.journals.newest_mark(self.name, &after.journal)?;
        Some(mark.sequence).filter(|sequence| *sequence > after.sequence)
    }
}
