//! How a tap comes to stand elsewhere: a journal begins, all of it is a point, it is given up, or the tap is closed.
//!
//! Invariants: one turn at a time; what is in the state directory is true before, during and after each of them: dirty blocks are stored before a
//! journal goes, and the state says that there is none before its files do.

use super::super::journal::remove_all_but;
use super::*;

impl Core {
    /// Begins a journal, as decided; it goes by the newest point of `seen`. Waits for the writes that are under way.
    pub fn begin_journal(&self, journal: Uuid, seen: &Seen, everything: Option<Reason>) -> io::Result<DirtySnapshot> {
        // What was only made dirty has to be in the volume before it is read.
        let _still = self.claims.all();
        let mut state = lock(&self.turning);
        let is_kept = self.check_dirty(&state)?;
        if everything.is_some() {
            self.dirty.insert_all();
        }
        self.dirty.begin();
        self.dirty.store()?;
        if !is_kept {
            // Extents were not recorded, so nothing may be left for them to say.
            self.parts.volume.sync()?;
            self.active.clear()?;
        }
        let base = if everything.is_none() { state.base.and(seen.position) } else { None };
        let reason = everything.as_ref().map_or(state.reason.clone(), ToString::to_string);
        let began = TapState { phase: Phase::CatchingUp, journal, last: 0, durable: 0, base, reason, ..state.clone() };
        state::store(self.directory(), &began)?;
        *state = began;
        self.has_point.store(seen.newest > 0, Ordering::SeqCst);
        self.go_into(journal, everything);
        Ok(self.snapshot(journal))
    }

    /// Fails unless a journal may begin; tells whether the state directory is kept.
    fn check_dirty(&self, state: &TapState) -> io::Result<bool> {
        let place = self.read();
        match (state.phase, place.is_closed) {
            (Phase::Dirty, false) => Ok(place.is_kept),
            (_, true) => Err(io::Error::other("the tap is closed")),
            _ => Err(io::Error::other("there is a journal already")),
        }
    }

    fn go_into(&self, id: Uuid, everything: Option<Reason>) {
        let (directory, size, max) =
            (self.parts.directory.clone(), self.parts.geometry.volume_size(), self.parts.journal_max);
        let journal = Journal::begin(directory, id, size, max, self.parts.clock.now_ns());
        let mut place = self.change();
        self.durable.store(0, Ordering::SeqCst);
        (place.phase, place.journal, place.is_kept) = (Phase::CatchingUp, Some(Arc::new(journal)), true);
        place.reason = everything.or(place.reason.take());
        drop(place);
        self.notify();
    }

    /// What was streamed is a point now. Tells whether that counts: a journal that was given up meanwhile does not.
    pub fn resynchronised(&self, snapshot: &DirtySnapshot) -> io::Result<bool> {
        self.caught_up(snapshot.over.journal)
    }

    pub(super) fn caught_up(&self, journal: Uuid) -> io::Result<bool> {
        let mut state = lock(&self.turning);
        if state.phase != Phase::CatchingUp || state.journal != journal {
            return Ok(state.phase == Phase::Following && state.journal == journal);
        }
        {
            let mut place = self.change();
            if place.journal.is_none() {
                return Ok(false);
            }
            (place.phase, place.reason) = (Phase::Following, None);
            self.dirty.clear();
        }
        let base = Some(Position { journal, sequence: 0 });
        *state = TapState { phase: Phase::Following, base, reason: String::new(), ..state.clone() };
        self.has_point.store(true, Ordering::SeqCst);
        let stored = state::store(self.directory(), &state).and_then(|()| self.dirty.store());
        drop(state);
        stored.inspect_err(|error| self.fall(Reason::StateFailed(error.to_string())))?;
        self.notify();
        Ok(true)
    }

    /// The journal is given up: what the appliance lacks is dirty from now on.
    pub fn lost(&self, reason: Reason) {
        self.fall(reason);
    }

    /// The same for one journal; nothing when it is given up already.
    pub(super) fn fall_from(&self, journal: &Arc<Journal>, reason: Reason) {
        self.turn_dirty(Some(journal.id), reason);
    }

    pub(super) fn fall(&self, reason: Reason) {
        self.turn_dirty(None, reason);
    }

    fn turn_dirty(&self, from: Option<Uuid>, reason: Reason) {
        let mut state = lock(&self.turning);
        let Some(journal) = self.leave(from, &reason) else { return };
        tracing::warn!(volume = self.volume().name(), %reason, "what the appliance lacks is dirty from now on");
        let is_known = journal.as_ref().is_none_or(|journal| self.take_over(journal));
        let base = match (is_known && !reason.is_about_everything(), state.phase) {
            (false, _) => {
                self.dirty.insert_all();
                None
            }
            (true, Phase::Following) => {
                Some(Position { journal: state.journal, sequence: self.durable.load(Ordering::SeqCst) })
            }
            (true, _) => state.base,
        };
        *state = TapState { phase: Phase::Dirty, base, durable: 0, reason: reason.to_string(), ..state.clone() };
        if let Err(error) = self.keep(&state) {
            self.distrust(&error);
        }
        drop(state);
        self.notify();
    }

    /// From now on writes make blocks dirty: the journal that was left, if any; `None` when nothing is to be done.
    fn leave(&self, from: Option<Uuid>, reason: &Reason) -> Option<Option<Arc<Journal>>> {
        let mut place = self.change();
        let current = place.journal.as_ref().map(|journal| journal.id);
        let is_meant = from.is_none_or(|from| current == Some(from));
        if place.is_closed || !is_meant || (current.is_none() && !reason.is_about_everything()) {
            return None;
        }
        (place.phase, place.reason) = (Phase::Dirty, Some(reason.clone()));
        Some(place.journal.take())
    }

    /// What a journal has and the appliance lacks is dirty; whether all of it could be read.
    fn take_over(&self, journal: &Journal) -> bool {
        journal.end_waiting();
        let after = self.durable.load(Ordering::SeqCst);
        journal.ranges_after(after, &mut |range| self.dirty.insert(range)).is_ok()
    }

    /// Makes durable that there is no journal.
    fn keep(&self, state: &TapState) -> io::Result<()> {
        self.dirty.store()?;
        state::store(self.directory(), state)?;
        remove_all_but(self.directory(), None)
    }

    /// The state directory cannot say any more what there is, so it must say nothing.
    fn distrust(&self, error: &io::Error) {
        self.change().is_kept = false;
        self.dirty.insert_all();
        match state::remove(self.directory()) {
            Ok(()) => tracing::error!(%error, "the state directory failed: everything will be read again"),
            Err(_) => tracing::error!(
                %error,
                "the state directory failed, and its state cannot be removed: remove the directory before the tap is started again"
            ),
        }
    }

    /// Makes all durable and says that the tap ended as it should; nothing is written after that.
    pub fn close(&self) -> io::Result<()> {
        let _still = self.claims.all();
        let _one = lock(&self.flushing);
        let mut state = lock(&self.turning);
        let (journal, is_kept) = {
            let mut place = self.change();
            place.is_closed = true;
            (place.journal.clone(), place.is_kept)
        };
        if let Some(journal) = &journal {
            journal.end_waiting();
        }
        self.notify();
        self.parts.volume.sync()?;
        match is_kept {
            true => self.seal(&mut state, journal.as_deref()),
            false => Err(io::Error::other("the state directory failed before")),
        }
    }

    fn seal(&self, state: &mut TapState, journal: Option<&Journal>) -> io::Result<()> {
        journal.map_or(Ok(()), Journal::sync)?;
        self.dirty.store()?;
        self.active.clear()?;
        (state.last, state.last_ns) = journal.map_or((0, 0), Journal::end);
        state.durable = journal.map_or(0, |_| self.durable.load(Ordering::SeqCst));
        state.closed = Some(self.parts.volume.fingerprint()?);
        state::store(self.directory(), state)
    }
}
