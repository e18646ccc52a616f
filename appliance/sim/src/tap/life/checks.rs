//! Everything that the appliance has is compared with what the volume was.

use super::{Held, Life};
use crate::model::{Checked, Wrong, check_point};
use crate::tap::content::Content;
use understudy_appliance::error::Error;
use understudy_appliance::moments::{self, Opened};
use understudy_format::journal::Position;
use understudy_format::point::Point;
use understudy_format::wire::{MOMENTS_MAX, Moment};

impl Life {
    /// What the volume was where a point says that it is of.
    fn expected(&self, point: &Point) -> Checked<(Position, Content)> {
        let Some(at) = point.position else {
            return Err(Wrong(format!("point {} comes from no journal", point.number)));
        };
        let content = self.past.at(&at).cloned();
        let content =
            content.ok_or_else(|| Wrong(format!("point {} is up to {at:?}, which never was", point.number)))?;
        Ok((at, content))
    }

    fn check_root(&self, point: &Point) -> Checked<Position> {
        let (at, content) = self.expected(point)?;
        match content.root() == point.map.root() {
            true => Ok(at),
            false => Err(Wrong(format!("point {} is not what the volume was at {at:?}", point.number))),
        }
    }

    /// Every point is what the volume was, and the newest moment is no less than what was promised.
    pub(super) fn compare(&mut self) -> Checked {
        let Ok(pool) = self.site.pool() else { return Ok(()) };
        for point in pool.volume(&self.name).iter().flat_map(|entry| &entry.points) {
            self.check_root(point)?;
        }
        match self.open(i64::MAX)? {
            Some(newest) => self.check_root(&newest.point).and_then(|at| self.check_promise(Some(&at))),
            None => self.check_promise(None),
        }
    }

    fn check_promise(&self, newest: Option<&Position>) -> Checked {
        let rank = |at: Option<&Position>| at.and_then(|at| self.past.rank(at));
        // Nothing but flushes may have come since.
        let content = |at: Option<&Position>| at.and_then(|at| self.past.at(at));
        let promised = self.promised.as_ref();
        match () {
            () if self.is_excused() || rank(newest) >= rank(promised) => Ok(()),
            () if content(newest) == content(promised) => Ok(()),
            () => Err(Wrong(format!("a flush returned at {:?}, and the newest moment is {newest:?}", self.promised))),
        }
    }

    /// Opens the newest moment at or before a time.
    pub(super) fn open(&mut self, at_ns: i64) -> Checked<Option<Opened>> {
        let (Ok(pool), Ok(journals)) = (self.site.pool(), self.site.journals()) else { return Ok(None) };
        match moments::open(pool, journals, &self.name, at_ns) {
            Ok(opened) => Ok(opened),
            Err(error) => self.not_opened(&error).map(|()| None),
        }
    }

    fn not_opened(&mut self, error: &Error) -> Checked {
        match self.is_excused() {
            true => Ok(()),
            false => Err(Wrong(format!("a moment cannot be opened: {error}"))),
        }
    }

    /// The newest moment that is listed and some others are what the volume was when it was flushed.
    pub(super) fn look(&mut self) -> Checked {
        self.compare()?;
        let (Ok(pool), Ok(journals)) = (self.site.pool(), self.site.journals()) else { return Ok(()) };
        let listed = match moments::list(pool, journals, &self.name, (i64::MIN, i64::MAX), MOMENTS_MAX) {
            Ok(listed) => listed,
            Err(error) => return self.not_opened(&error),
        };
        let Some(newest) = listed.last() else { return Ok(()) };
        self.look_at(newest)?;
        for _ in 0..2 {
            let moment = *self.rng.pick(&listed);
            self.look_at(&moment)?;
        }
        Ok(())
    }

    fn look_at(&mut self, moment: &Moment) -> Checked {
        let Some(opened) = self.open(moment.time_ns)? else { return Ok(()) };
        let position = self.check_root(&opened.point)?;
        let root = self.past.flushed_at(moment.time_ns).map(Content::root);
        if root != Some(opened.point.map.root()) {
            return Err(Wrong(format!("{moment:?} was listed, and opened as {position:?}, which is no such flush")));
        }
        self.stats.moments += 1;
        if self.held.len() < 4 && self.rng.chance(40) {
            self.held.push(Held { opened, position });
        }
        Ok(())
    }

    /// What is being looked at is still there, byte for byte, whatever happened meanwhile.
    pub(super) fn look_at_held(&mut self) -> Checked {
        let Some(Held { opened, position }) = self.held.pop() else { return Ok(()) };
        self.note(format!("read the moment at {position:?}"));
        self.read(&opened)
    }

    pub(super) fn read(&mut self, opened: &Opened) -> Checked {
        let Ok(pool) = self.site.pool() else { return Ok(()) };
        let (_, content) = self.expected(&opened.point)?;
        match check_point(pool, &opened.volume, &opened.point, &content) {
            Err(_) if self.site.disk().is_off() => Ok(()),
            checked => checked,
        }
    }

    /// The secondary is the newest point, byte for byte.
    pub(super) fn check_secondary(&self) -> Checked {
        let Ok(pool) = self.site.pool() else { return Ok(()) };
        let Some(entry) = pool.volume(&self.name) else { return Ok(()) };
        let Some(newest) = entry.newest() else { return Ok(()) };
        let (at, content) = self.expected(newest)?;
        let image = self.site.secondary(&self.name).unwrap_or_default();
        let size = content.geometry().volume_size();
        match image.len() as u64 == size && content.differences(&image).is_empty() {
            true => Ok(()),
            false => Err(Wrong(format!("the secondary is not what the volume was at {at:?}"))),
        }
    }
}
