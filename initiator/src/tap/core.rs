//! The owner of where a tap stands; what is written goes through it, and what is shipped comes out of it.
//!
//! A session with the appliance goes like this: [`Core::standing`] tells the journal to ask for, or that a new one is needed, whose name
//! whoever asks makes up; after the answer, [`Core::decide`] says whether the journal goes on ([`Decision::GoOn`]: [`Core::durable`] with what
//! the appliance has, then [`Core::pending`] after that), or that the new one begins ([`Core::begin_journal`]). Whenever [`Core::dirty`] is
//! something, that is to be streamed, and [`Core::resynchronised`] once it is a point.
//! Invariants: an entry is in the journal before its bytes are in the volume; writes that meet are in the journal in the order in which they reach
//! the volume; a journal begins while no write is under way. What is in the state directory suffices at any moment to know
//! which blocks may differ from what the appliance has; where that cannot be kept up, there is no state, so everything does.
//! No time and no randomness is asked for here.
//!
//! Locks, in the order in which they are taken: claims, `flushing`, `turning`, `place`, then those of the parts.

mod open;
mod returned;
#[cfg(test)]
mod tests;
mod turn;
mod write;

use super::active::Active;
use super::dirty::Dirty;
use super::disk::{Directory, Volume};
pub use super::journal::Batch;
use super::journal::Journal;
use super::lock;
use super::reason::Reason;
use super::snapshot::DirtySnapshot;
pub use super::start::{Decision, Seen};
use super::{start, state};
use std::fmt::Debug;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use understudy_format::Geometry;
use understudy_format::journal::Position;
pub use understudy_format::tap::Phase;
use understudy_format::tap::TapState;
use understudy_net::claims::Claims;
use uuid::Uuid;
use write::Flushed;
pub use write::Mark;

/// What is known of a tap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Where it stands.
    pub phase: Phase,
    /// The journal; `None` while dirty.
    pub journal: Option<Uuid>,
    /// Why blocks are dirty; `None` while following.
    pub reason: Option<Reason>,
    /// Bytes that may differ, beside what the journal has.
    pub dirty_bytes: u64,
    /// The number of the last entry; 0 for none.
    pub last: u64,
    /// All entries up to this one are durable at the appliance.
    pub durable: u64,
    /// The volume at the appliance; nil when that was never told.
    pub volume: Uuid,
    /// Its generation; 0 when that was never told.
    pub generation: u64,
}

/// Tells the time.
pub trait Clock: Debug + Send + Sync {
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    fn now_ns(&self) -> i64;
}

/// What a tap is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// What is served.
    pub volume: Arc<dyn Volume>,
    /// What is remembered.
    pub directory: Arc<dyn Directory>,
    /// Of the volume.
    pub geometry: Geometry,
    /// Most bytes of the journal's files, together.
    pub journal_max: u64,
    /// What entries are dated by.
    pub clock: Arc<dyn Clock>,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Core {
    parts: Parts,
    claims: Claims,
    active: Active,
    dirty: Dirty,
    /// One flush at a time; what the last one did.
    flushing: Mutex<Flushed>,
    /// Flushes that were asked for.
    tickets: AtomicU64,
    /// The state, as it is in its file. Who has it may change `place`.
    turning: Mutex<TapState>,
    place: RwLock<Place>,
    durable: AtomicU64,
    /// Whether the appliance has a point of the volume, as far as that was seen.
    has_point: AtomicBool,
    /// What is waited for may have happened.
    progress: (Mutex<()>, Condvar),
}

/// Where what is written goes.
#[derive(Debug)]
struct Place {
    phase: Phase,
    journal: Option<Arc<Journal>>,
    reason: Option<Reason>,
    /// Whether the state directory says what there is; otherwise it says nothing.
    is_kept: bool,
    is_closed: bool,
}

impl Core {
    fn read(&self) -> RwLockReadGuard<'_, Place> {
        self.place.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, Place> {
        self.place.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn journal(&self) -> Option<Arc<Journal>> {
        self.read().journal.clone()
    }

    fn directory(&self) -> &dyn Directory {
        &*self.parts.directory
    }

    /// The volume.
    pub fn volume(&self) -> &dyn Volume {
        &*self.parts.volume
    }

    /// Where the tap stands.
    pub fn standing(&self) -> Standing {
        let (volume, generation) = {
            let state = lock(&self.turning);
            (state.volume, state.generation)
        };
        let place = self.read();
        let journal = place.journal.as_ref();
        Standing {
            phase: place.phase,
            journal: journal.map(|journal| journal.id),
            reason: place.reason.clone(),
            dirty_bytes: self.dirty.bytes(),
            last: journal.map_or(0, |journal| journal.last()),
            durable: self.durable.load(Ordering::SeqCst),
            volume,
            generation,
        }
    }

    /// Remembers what the appliance calls the volume, and its generation.
    pub fn remember(&self, volume: Uuid, generation: u64) -> io::Result<()> {
        let mut state = lock(&self.turning);
        if (state.volume, state.generation) == (volume, generation) {
            return Ok(());
        }
        (state.volume, state.generation) = (volume, generation);
        state::store(self.directory(), &state)
    }

    /// What is to be done after the appliance answered.
    pub fn decide(&self, seen: &Seen) -> io::Result<Decision> {
        let state = lock(&self.turning).clone();
        let journal = self.journal();
        let (first_kept, last) = journal.map_or((1, 0), |journal| (journal.first_kept(), journal.last()));
        let decision = start::decide(&state, first_kept, last, seen);
        let position = seen.position.filter(|position| position.journal == state.journal);
        if let (Decision::GoOn, Phase::CatchingUp, Some(position)) = (&decision, state.phase, position) {
            // It became a point, and the answer did not arrive.
            self.caught_up(position.journal)?;
        }
        Ok(decision)
    }

    /// What has to be streamed while the journal goes on; `None` unless catching up.
    pub fn dirty(&self) -> Option<DirtySnapshot> {
        let place = self.read();
        let journal = place.journal.as_ref().filter(|_| place.phase == Phase::CatchingUp)?;
        Some(self.snapshot(journal.id))
    }

    fn snapshot(&self, journal: Uuid) -> DirtySnapshot {
        DirtySnapshot::new(Position { journal, sequence: 0 }, self.parts.geometry, self.dirty.old())
    }

    /// Entries after number `after`, at least one when there is one, of at most `max_bytes` unless one is longer.
    pub fn pending(&self, after: u64, max_bytes: usize) -> io::Result<Option<Batch>> {
        let Some(journal) = self.journal() else { return Ok(None) };
        let pending = journal.pending(after, max_bytes);
        // A journal that is being given up may be gone; then there is nothing to ship.
        match (pending, self.journal()) {
            (Err(error), Some(_)) => {
                self.fall(Reason::JournalFailed(error.to_string()));
                Err(error)
            }
            (Err(_), None) => Ok(None),
            (pending, _) => pending,
        }
    }

    /// All entries up to this one are durable at the appliance: they are forgotten here.
    pub fn durable(&self, through: u64) {
        let place = self.read();
        let Some(journal) = &place.journal else { return };
        self.durable.fetch_max(through.min(journal.last()), Ordering::SeqCst);
        if let Err(error) = journal.forget(through) {
            tracing::warn!(%error, "a file of the journal could not be removed");
        }
        drop(place);
        self.notify();
    }

    /// The number of the last entry.
    pub fn last_sequence(&self) -> u64 {
        self.journal().map_or(0, |journal| journal.last())
    }

    /// Returns when there are entries after number `after`, when the journal is given up, or after `timeout`: the number of the last entry.
    pub fn wait_for_entries(&self, after: u64, timeout: Duration) -> u64 {
        if let Some(journal) = self.journal() {
            journal.wait_for_entries(after, timeout);
        }
        self.last_sequence()
    }

    /// Writes the journal as it fills, so that who appends need not; returns when the tap is closed. For a thread of its own.
    pub fn write_behind(&self) {
        loop {
            let Some(journal) = self.wait_for_journal() else { return };
            if let (true, Err(error)) = (journal.wait_for_pieces(), journal.write_out()) {
                self.fall_from(&journal, Reason::JournalFailed(error.to_string()));
            }
        }
    }

    fn wait_for_journal(&self) -> Option<Arc<Journal>> {
        let mut waiting = lock(&self.progress.0);
        loop {
            let place = self.read();
            match &place.journal {
                _ if place.is_closed => return None,
                Some(journal) => return Some(journal.clone()),
                None => drop(place),
            }
            waiting = self.progress.1.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn notify(&self) {
        drop(lock(&self.progress.0));
        self.progress.1.notify_all();
    }
}
