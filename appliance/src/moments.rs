//! Moments: marks between points, opened as points that are not recorded.
//!
//! A moment is the newest point before it in its journal, with the entries after that folded over it; where some of those are gone with a
//! file that was kept long enough, it is none. Invariants: what is opened is what
//! the primary was when it flushed; a moment that equals a point is that point; one that is open is shared by all who ask for it
//! ([`crate::pool::ephemeral`]), and nothing of it is left when the last of them is gone.

use crate::error::Result;
use crate::fold::Folder;
use crate::journals::{Journals, Mark};
use crate::pool::live::Lease;
use crate::pool::{Pool, VolumeEntry};
use std::sync::Arc;
use understudy_format::journal::Position;
use understudy_format::point::{Point, Volume, VolumeName};
use understudy_format::select::{PointName, Selector};
use understudy_format::wire::{MOMENTS_MAX, Moment};
use uuid::Uuid;

/// Why a point or a moment is not removed.
pub const USE: &str = "a request for it";

/// What was asked for, for as long as this exists.
#[derive(Debug)]
pub struct Opened {
    /// The volume.
    pub volume: Volume,
    /// A recorded point, or one that is here only as long as somebody looks at it.
    pub point: Point,
    /// Holds it.
    pub hold: Lease,
}

/// The point or moment that is meant; `None` when there is none, or no such volume.
pub fn find(pool: &Arc<Pool>, journals: &Arc<Journals>, wanted: &PointName) -> Result<Option<Opened>> {
    if let Some(at_ns) = wanted.selector.at_or_before() {
        return open(pool, journals, &wanted.volume, at_ns);
    }
    let Some(entry) = pool.volume(&wanted.volume) else { return Ok(None) };
    let volume = &entry.volume;
    let point = match wanted.selector {
        Selector::Number(number) => pool.point(&volume.uuid, number).map(|(_, point)| point),
        _ => wanted.selector.find(&entry.points).cloned(),
    };
    point.map(|point| recorded(pool, volume, &point)).transpose()
}

fn recorded(pool: &Arc<Pool>, volume: &Volume, point: &Point) -> Result<Opened> {
    let hold = pool.leased(volume, point, USE)?;
    Ok(Opened { volume: volume.clone(), point: point.clone(), hold })
}

/// The newest point or moment of a volume at or before a time; `None` when there is neither, or no such volume.
pub fn open(pool: &Arc<Pool>, journals: &Arc<Journals>, name: &VolumeName, at_ns: i64) -> Result<Option<Opened>> {
    let Some(entry) = pool.volume(name) else { return Ok(None) };
    let newest = entry.points.iter().rev().find(|point| point.created_ns <= at_ns);
    let opening = Opening { folder: Folder { pool, journals, name }, entry: &entry };
    match opening.mark(newest, at_ns)? {
        Some((base, position, mark)) => opening.moment(base, position, mark).map(Some),
        None => newest.map(|point| recorded(pool, &entry.volume, point)).transpose(),
    }
}

/// The newest moments of a volume between two times that can be opened, ascending, at most so many.
pub fn list(
    pool: &Pool,
    journals: &Journals,
    name: &VolumeName,
    (from_ns, to_ns): (i64, i64),
    newest: u32,
) -> Result<Vec<Moment>> {
    let Some(entry) = pool.volume(name) else { return Ok(Vec::new()) };
    let marks = journals.marks(name, from_ns, to_ns, newest.min(MOMENTS_MAX) as usize)?;
    let moment = |(journal, mark): (Uuid, Mark)| {
        let point = base(&entry, journals, &Position { journal, sequence: mark.sequence })?.number;
        Some(Moment { time_ns: mark.time_ns, sequence: mark.sequence, point })
    };
    Ok(marks.into_iter().filter_map(moment).collect())
}

/// The newest point at or before a position of its journal, when all entries between them are here.
fn base<'a>(entry: &'a VolumeEntry, journals: &Journals, at: &Position) -> Option<&'a Point> {
    let before =
        |point: &'a Point| point.position.filter(|own| own.journal == at.journal && own.sequence <= at.sequence);
    let (base, position) = entry.points.iter().rev().find_map(|point| Some((point, before(point)?)))?;
    let is_kept = |first: u64| first <= position.sequence + 1;
    let is_whole = position == *at || journals.first(&entry.volume.name, &at.journal).is_some_and(is_kept);
    is_whole.then_some(base)
}

struct Opening<'a> {
    folder: Folder<'a>,
    entry: &'a VolumeEntry,
}

impl<'a> Opening<'a> {
    /// The newest mark at or before a time that can be opened and is newer than the newest point of that time.
    fn mark(&self, newest: Option<&Point>, at_ns: i64) -> Result<Option<(&'a Point, Position, Mark)>> {
        let Folder { journals, name, .. } = self.folder;
        let found = journals.mark_at(name, at_ns)?;
        let with_base = |(journal, mark): (Uuid, Mark)| {
            let position = Position { journal, sequence: mark.sequence };
            Some((base(self.entry, journals, &position)?, position, mark))
        };
        let mut opened = found.and_then(with_base);
        if found.is_some() && opened.is_none() {
            // The newest journal has no point yet: those before it may have.
            let from_ns = newest.map_or(i64::MIN, |point| point.created_ns);
            let marks = journals.marks(name, from_ns, at_ns, MOMENTS_MAX as usize)?;
            opened = marks.into_iter().rev().find_map(with_base);
        }
        Ok(opened.filter(|(base, position, mark)| newest.is_none_or(|newest| is_newer(mark, position, base, newest))))
    }

    fn moment(&self, base: &Point, position: Position, mark: Mark) -> Result<Opened> {
        let (pool, volume) = (self.folder.pool, &self.entry.volume);
        if base.position == Some(position) {
            return recorded(pool, volume, base);
        }
        if let Some((point, hold)) = pool.moment(&volume.uuid, &position, USE) {
            return Ok(Opened { volume: volume.clone(), point, hold });
        }
        let held = pool.begin_moment(&volume.uuid, base.number)?;
        let after = base.position.unwrap_or(position);
        let folded = self.folder.lay_over(&held.0, base.map, after, position.sequence)?.folded;
        if folded.changed_blocks == 0 {
            return recorded(pool, volume, base);
        }
        let made = folded.point(volume.uuid, base.number, Uuid::nil(), mark.time_ns);
        let point = Point { base: Some(base.number), position: Some(position), ..made };
        let (point, hold) = pool.open_moment(held, volume.clone(), point, USE)?;
        Ok(Opened { volume: volume.clone(), point, hold })
    }
}

/// Whether a mark, which comes after `base`, is newer than a point.
fn is_newer(mark: &Mark, position: &Position, base: &Point, newest: &Point) -> bool {
    match newest.position {
        Some(other) if other.journal == position.journal => other.sequence < position.sequence,
        // It came after the point that the journal goes on from.
        _ => base.number >= newest.number || mark.time_ns > newest.created_ns,
    }
}
