//! What happens between the two: sessions begin and are cut, entries and what is stale travel.

use super::{Breach, Life};
use crate::model::Checked;
use crate::session::Session;
use crate::tap::line::{Answer, Asked};
use crate::tap::resync::{Resync, Stale, Step};
use understudy_appliance::error::Error;
use understudy_format::ErrorKind;
use understudy_format::journal::Position;
use understudy_initiator::tap::core::Phase;

impl Life {
    /// Both sides are gone for each other; the appliance notices in order, or is about to end.
    pub(super) fn drop_sessions(&mut self) {
        (self.line, self.resync) = (None, None);
    }

    pub(super) fn cut_line(&mut self) -> Checked {
        self.resync = None;
        let Some(line) = self.line.take() else { return Ok(()) };
        self.note("the connection is cut");
        line.close().or_else(|error| self.excuse("the end of a session", &error))
    }

    /// The tap asks to be followed.
    pub(super) fn connect(&mut self) -> Checked {
        let Some(tap) = self.primary.tap().cloned() else { return Ok(()) };
        if self.line.is_some() || self.away > 0 {
            return Ok(());
        }
        let (standing, fresh) = (tap.core.standing(), self.id());
        let journal = standing.journal.unwrap_or(fresh);
        let (Ok(pool), Ok(journals)) = (self.site.pool(), self.site.journals()) else { return Ok(()) };
        let volume_size = self.past.now.geometry().volume_size();
        let asked = Asked { name: &self.name, volume_size, journal, generation: standing.generation };
        let answer = match Answer::to(&asked, pool, journals, self.now_ns()) {
            Ok(answer) => answer,
            Err(error) => return self.not_followed(&error),
        };
        self.note(format!("{standing:?} asks for {journal}: {:?}", answer.seen));
        let hasty = self.breach == Breach::HastyAppliance;
        if standing.journal.is_none() {
            self.past.begun(journal);
        }
        match answer.agree(&tap.core, journal) {
            Ok(line) => self.line = line.map(|line| line.with_haste(hasty)),
            Err(error) => self.note(format!("the tap cannot begin: {error}")),
        }
        let standing = tap.core.standing();
        self.stats.journals += u64::from(standing.journal == Some(fresh));
        self.note(format!("then it stands so: {standing:?}"));
        Ok(())
    }

    /// A journal of which the appliance does not know any more is begun anew by the tap, when it hears so.
    fn not_followed(&mut self, error: &Error) -> Checked {
        self.excuse("following", error)
    }

    /// Some messages move.
    pub(super) fn talk(&mut self) -> Checked {
        for _ in 0..1 + self.rng.below(24) {
            match self.rng.below(5) {
                0 => self.speak()?,
                1 => self.arrive()?,
                2 => self.hear(),
                _ => self.stream()?,
            }
        }
        Ok(())
    }

    /// Messages move in turn.
    pub(super) fn exchange(&mut self) -> Checked {
        for _ in 0..20 {
            self.speak()?;
            self.arrive()?;
            self.hear();
            self.stream()?;
        }
        Ok(())
    }

    pub(super) fn speak(&mut self) -> Checked {
        let (Some(line), Some(tap)) = (&mut self.line, self.primary.tap()) else { return Ok(()) };
        if tap.core.standing().journal != Some(line.journal) {
            return self.cut_line();
        }
        if let Err(error) = line.speak(&tap.core) {
            self.note(format!("what is pending cannot be read: {error}"));
            return self.cut_line();
        }
        Ok(())
    }

    pub(super) fn arrive(&mut self) -> Checked {
        let Some(line) = &mut self.line else { return Ok(()) };
        let Err(error) = line.arrive() else { return Ok(()) };
        self.cut_line()?;
        self.excuse("appending", &error)
    }

    pub(super) fn hear(&mut self) {
        let (Some(line), Some(tap)) = (&mut self.line, self.primary.tap()) else { return };
        line.hear(&tap.core);
        let standing = tap.core.standing();
        let returns = |at: &Position| standing.journal == Some(at.journal) && standing.durable >= at.sequence;
        if standing.phase == Phase::Following
            && let Some(at) = self.asked.take_if(|at| returns(at))
        {
            self.promised = Some(at);
        }
    }

    /// The stream of what is stale moves on, or begins.
    pub(super) fn stream(&mut self) -> Checked {
        let (Some(line), Some(tap)) = (&self.line, self.primary.tap()) else { return Ok(()) };
        let journal = line.journal;
        if self.resync.as_ref().is_some_and(|resync| resync.stale().snapshot.over.journal != journal) {
            self.resync = None;
        }
        if self.resync.is_none() && tap.core.dirty().is_some_and(|snapshot| snapshot.over.journal == journal) {
            self.begin_stream();
        }
        let Some(resync) = &mut self.resync else { return Ok(()) };
        match resync.step() {
            Ok(Step::Moved | Step::Waiting) => Ok(()),
            Ok(Step::Stored(point)) => self.stored(point.number, point.position),
            Err(_) if self.primary.is_off() => Ok(()),
            Err(error) => self.stream_failed(&error),
        }
    }

    fn stored(&mut self, number: u64, position: Option<Position>) -> Checked {
        self.note(format!("point {number} is stored, up to {position:?}"));
        self.stats.resyncs += 1;
        let Some(resync) = self.resync.take() else { return Ok(()) };
        if !self.is_calm && self.rng.chance(15) {
            self.note("nobody hears of it");
            return self.cut_line();
        }
        if let Some(tap) = self.primary.tap() {
            let counts = tap.core.resynchronised(&resync.stale().snapshot);
            self.note(format!("it counts: {counts:?}"));
        }
        Ok(())
    }

    fn stream_failed(&mut self, error: &Error) -> Checked {
        let read_through = self.resync.take().and_then(|resync| resync.stale().read_through);
        self.note(format!("the stream failed, read up to {read_through:?}: {error}"));
        match error.kind() {
            // The volume is held by a fold, or a stream before that is just over.
            ErrorKind::Retry => Ok(()),
            _ => self.excuse("the stream", error),
        }
    }

    fn begin_stream(&mut self) {
        let stream = self.id();
        let (Some(tap), Ok(pool), Ok(journals)) = (self.primary.tap(), self.site.pool(), self.site.journals()) else {
            return;
        };
        let Some(snapshot) = tap.core.dirty() else { return };
        let entry = pool.volume(&self.name);
        let newest = entry.as_ref().and_then(|entry| entry.newest());
        let base = newest.and_then(|point| self.past.at(point.position.as_ref()?)).cloned();
        let read = base.clone().unwrap_or_else(|| super::Content::zeroes(self.past.now.geometry()));
        let line = format!("stream {stream} of {} bytes over {:?}", snapshot.bytes(), base);
        let (core, volume, name, now_ns) = (tap.core.clone(), tap.volume.clone(), self.name.clone(), self.now_ns());
        let stale = Stale { name, stream, now_ns, snapshot, base, read, volume, core, read_through: None };
        self.resync = Some(Resync::new(stale, Session::beside(pool.clone(), journals.clone())));
        self.note(line);
    }
}
