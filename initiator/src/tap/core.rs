//! The owner of where a tap stands; what is written goes through it, and what is shipped comes out of it.
//!
//! A session with the appliance goes like this: [`Core::standing`] tells the journal to ask for, or that a new one is needed, whose name
//! whoever asks makes up; after the answer, [`Core::decide`] says whether the journal goes on ([`Decision::GoOn`]: [`Core::durable`] with what
//! the appliance has, then [`Core::pending`] after that), or that the new one begins ([`Core::begin_journal`]). Whenever [`Core::dirty`] is
//! something, that is to be streamed, and [`Core::resynchronised`] once it is a point.
//! Invariants: an entry is in the journal before its bytes are in the volume; writes that meet are in the journal in the order in which they reach
//! the volume; a journal begins while no write is under way. No time and no randomness is asked for here.

use super::bits::Bits;
use super::reason::Reason;
use super::snapshot::DirtySnapshot;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use understudy_format::Geometry;
use understudy_format::journal::{Change, Order, Position};
use uuid::Uuid;

/// Where a tap stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// There is no journal; blocks that may differ are dirty.
    Dirty,
    /// There is a journal; the blocks that were dirty when it began have to be streamed.
    CatchingUp,
    /// Journal and appliance together have everything.
    Following,
}

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

/// What the appliance says of the volume when it is asked to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// All entries of the journal that was asked for, up to this one, are durable there.
    pub durable: u64,
    /// The number of the newest point; 0 for none.
    pub newest: u64,
    /// Where in a journal that point is.
    pub position: Option<Position>,
}

/// What follows from that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The journal goes on after what is durable.
    GoOn,
    /// The new journal begins; what is dirty is streamed against the newest point, everything for a reason when there is one.
    Begin(Option<Reason>),
    /// The journal is of no use any more: [`Core::lost`], then another session with a new one.
    GiveUp(Reason),
    /// The appliance has not yet made the point that this tap goes by: another session, later.
    Wait(String),
}

/// Entries that are to be shipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The number of the first entry.
    pub first: u64,
    /// The number of the last one.
    pub through: u64,
    /// When the first one was written, nanoseconds since 1970-01-01T00:00:00Z.
    pub oldest_ns: i64,
    /// Headers and payloads, one after another.
    pub bytes: Bytes,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Core {
    geometry: Geometry,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    standing: Standing,
    order: Order,
    entries: VecDeque<(u64, i64, Vec<u8>)>,
    dirty: Arc<Bits>,
}

impl Core {
    /// A tap of which nothing is known, on a volume of this geometry.
    pub fn new(geometry: Geometry) -> Self {
        let standing = Standing {
            phase: Phase::Dirty,
            journal: None,
            reason: Some(Reason::New),
            dirty_bytes: geometry.volume_size(),
            last: 0,
            durable: 0,
            volume: Uuid::nil(),
            generation: 0,
        };
        let (order, dirty) = (Order::new(geometry.volume_size(), 1, 0), Arc::new(Bits::all(geometry.block_count())));
        Self {
            geometry,
            state: Mutex::new(State { standing, order, entries: VecDeque::new(), dirty }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the tap stands.
    pub fn standing(&self) -> Standing {
        self.lock().standing.clone()
    }

    /// Remembers what the appliance calls the volume, and its generation.
    pub fn remember(&self, volume: Uuid, generation: u64) -> io::Result<()> {
        let mut state = self.lock();
        (state.standing.volume, state.standing.generation) = (volume, generation);
        Ok(())
    }

    /// What is to be done after the appliance answered.
    pub fn decide(&self, seen: &Seen) -> Decision {
        match self.lock().standing.journal {
            Some(_) if seen.durable >= self.lock().standing.durable => Decision::GoOn,
            Some(_) => Decision::GiveUp(Reason::JournalGone(format!("it has entries up to {}", seen.durable))),
            None => Decision::Begin(Some(Reason::New)),
        }
    }

    /// Begins a journal, as decided; it goes by the newest point of `seen`. Waits for the writes that are under way.
    pub fn begin_journal(&self, journal: Uuid, seen: &Seen, everything: Option<Reason>) -> io::Result<DirtySnapshot> {
        let _ = seen;
        let mut state = self.lock();
        if everything.is_some() {
            state.dirty = Arc::new(Bits::all(self.geometry.block_count()));
        }
        state.order = Order::new(self.geometry.volume_size(), 1, state.order.time_ns());
        state.entries.clear();
        let standing = &mut state.standing;
        (standing.phase, standing.journal, standing.last, standing.durable) = (Phase::CatchingUp, Some(journal), 0, 0);
        Ok(DirtySnapshot::new(Position { journal, sequence: 0 }, self.geometry, state.dirty.clone()))
    }

    /// What has to be streamed while the journal goes on; `None` unless catching up.
    pub fn dirty(&self) -> Option<DirtySnapshot> {
        let state = self.lock();
        let journal = state.standing.journal.filter(|_| state.standing.phase == Phase::CatchingUp)?;
        Some(DirtySnapshot::new(Position { journal, sequence: 0 }, self.geometry, state.dirty.clone()))
    }

    /// What was streamed is a point now. Tells whether that counts: a journal that was given up meanwhile does not.
    pub fn resynchronised(&self, snapshot: &DirtySnapshot) -> io::Result<bool> {
        let mut state = self.lock();
        if state.standing.journal != Some(snapshot.over.journal) {
            return Ok(false);
        }
        (state.standing.phase, state.standing.reason, state.standing.dirty_bytes) = (Phase::Following, None, 0);
        self.changed.notify_all();
        Ok(true)
    }

    /// The journal is given up: what the appliance lacks is dirty from now on.
    pub fn lost(&self, reason: Reason) {
        let mut state = self.lock();
        (state.standing.phase, state.standing.journal) = (Phase::Dirty, None);
        state.standing.reason = Some(reason);
        self.changed.notify_all();
    }

    /// Entries after number `after`, at least one when there is one, of at most `max_bytes` unless one is longer.
    pub fn pending(&self, after: u64, max_bytes: usize) -> io::Result<Option<Batch>> {
        let state = self.lock();
        let mut batch = Batch { first: after + 1, through: after, oldest_ns: 0, bytes: Bytes::new() };
        let mut bytes = Vec::new();
        for (sequence, time_ns, entry) in state.entries.iter().filter(|entry| entry.0 > after) {
            if !bytes.is_empty() && bytes.len() + entry.len() > max_bytes {
                break;
            }
            if bytes.is_empty() {
                batch.oldest_ns = *time_ns;
            }
            bytes.extend_from_slice(entry);
            batch.through = *sequence;
        }
        batch.bytes = bytes.into();
        Ok(Some(batch).filter(|batch| batch.through > after))
    }

    /// All entries up to this one are durable at the appliance: they are forgotten here.
    pub fn durable(&self, through: u64) {
        let mut state = self.lock();
        state.standing.durable = state.standing.durable.max(through);
        state.entries.retain(|entry| entry.0 > through);
        self.changed.notify_all();
    }

    /// The number of the last entry.
    pub fn last_sequence(&self) -> u64 {
        self.lock().standing.last
    }

    /// Returns when there are entries after number `after`, when the journal is given up, or after `timeout`: the number of the last entry.
    pub fn wait_for_entries(&self, after: u64, timeout: Duration) -> u64 {
        let none = |state: &mut State| state.standing.last <= after && state.standing.journal.is_some();
        let waited = self.changed.wait_timeout_while(self.lock(), timeout, none);
        waited.unwrap_or_else(PoisonError::into_inner).0.standing.last
    }

    /// A change becomes the next entry of the journal, or makes its blocks dirty.
    pub fn record(&self, now_ns: i64, change: Change, payload: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        if state.standing.journal.is_some() {
            let entry = state.order.make(now_ns, change, payload);
            state.standing.last = entry.sequence;
            state.entries.push_back((entry.sequence, entry.time_ns, [&entry.encode(), payload].concat()));
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Makes all durable and says that the tap ended as it should; nothing is written after that.
    pub fn close(&self) -> io::Result<()> {
        Ok(())
    }
}
