//! How a tap begins, with what its state directory has.
//!
//! Invariant: nothing is cleared before what it stands for is in something else that is durable: the volume is synced and the dirty blocks are
//! stored, then the state, and only then the active extents and the files of a journal go.

use super::super::active;
use super::super::journal::remove_all_but;
use super::super::pages::PageFile;
use super::super::start::Start;
use super::*;

const DIRTY: &str = "dirty";
const ACTIVE: &str = "active";

impl Core {
    /// Opens a tap: it stands where it stood when it was closed, as far as that can be believed.
    pub fn open(parts: Parts) -> io::Result<Self> {
        let found = state::load(&*parts.directory);
        let start = start::start(found, &parts.geometry, &parts.volume.fingerprint()?);
        let (dirty, active, start) = open_pages(&parts, start)?;
        let (dirty, active) = (Dirty::new(parts.geometry, dirty), Active::new(active));
        let begun = begin(&parts, &dirty, &active, start)?;
        parts.volume.sync()?;
        dirty.store()?;
        state::store(&*parts.directory, &begun.state)?;
        active.clear()?;
        remove_all_but(&*parts.directory, begun.journal.as_ref().map(|journal| journal.id))?;
        Ok(Self::with(parts, dirty, active, begun))
    }

    fn with(parts: Parts, dirty: Dirty, active: Active, begun: Begun) -> Self {
        let Begun { state, journal, reason } = begun;
        let place = Place { phase: state.phase, journal, reason, is_kept: true, is_closed: false };
        let flushed = Flushed::none(parts.clock.now_ns());
        Self {
            parts,
            claims: Claims::default(),
            active,
            dirty,
            flushing: Mutex::new(flushed),
            tickets: AtomicU64::new(0),
            durable: AtomicU64::new(state.durable),
            has_point: AtomicBool::new(state.base.is_some()),
            turning: Mutex::new(state),
            place: RwLock::new(place),
            progress: Default::default(),
        }
    }
}

/// Where a tap stands when it begins.
struct Begun {
    state: TapState,
    journal: Option<Arc<Journal>>,
    reason: Option<Reason>,
}

impl Begun {
    fn dirty(state: TapState, reason: Reason) -> Self {
        let state = TapState { phase: Phase::Dirty, closed: None, durable: 0, reason: reason.to_string(), ..state };
        Self { state, journal: None, reason: Some(reason) }
    }
}

/// Both bitmaps; new ones when everything is dirty, which it is when one of them is damaged.
fn open_pages(parts: &Parts, start: Start) -> io::Result<(PageFile, PageFile, Start)> {
    let (blocks, extents) = (parts.geometry.block_count(), active::count(parts.geometry.volume_size()));
    let (dirty, active) = (parts.directory.open(DIRTY)?, parts.directory.open(ACTIVE)?);
    let start = match start {
        Start::Everything(reason) => reason,
        start => match (PageFile::open(dirty.clone(), blocks), PageFile::open(active.clone(), extents)) {
            (Ok(dirty), Ok(active)) => return Ok((dirty, active, start)),
            (Err(error), _) | (_, Err(error)) => Reason::StateDamaged(error.to_string()),
        },
    };
    // What is found must not be believed together with bitmaps that are empty.
    state::remove(&*parts.directory)?;
    Ok((PageFile::create(dirty, blocks)?, PageFile::create(active, extents)?, Start::Everything(start)))
}

fn begin(parts: &Parts, dirty: &Dirty, active: &Active, start: Start) -> io::Result<Begun> {
    let begun = match start {
        Start::Everything(reason) => Err(reason),
        Start::Recover(state) => recover(parts, dirty, active, state),
        Start::GoOn(state) => go_on(parts, state),
    };
    Ok(begun.unwrap_or_else(|reason| {
        dirty.insert_all();
        Begun::dirty(unknown(parts.geometry), reason)
    }))
}

fn unknown(geometry: Geometry) -> TapState {
    TapState {
        phase: Phase::Dirty,
        closed: None,
        volume: Uuid::nil(),
        generation: 0,
        journal: Uuid::nil(),
        last: 0,
        last_ns: 0,
        durable: 0,
        base: None,
        geometry,
        reason: String::new(),
    }
}

fn go_on(parts: &Parts, state: TapState) -> Result<Begun, Reason> {
    let state = TapState { closed: None, ..state };
    let reason = Some(state.reason.clone()).filter(|reason| !reason.is_empty()).map(Reason::Earlier);
    if state.phase == Phase::Dirty {
        return Ok(Begun { state, journal: None, reason });
    }
    let (directory, size, end) = (parts.directory.clone(), parts.geometry.volume_size(), (state.last, state.last_ns));
    let journal = Journal::resume(directory, state.journal, size, parts.journal_max, end);
    let journal = journal.map_err(|error| Reason::StateDamaged(error.to_string()))?;
    Ok(Begun { state, journal: Some(Arc::new(journal)), reason })
}

/// What the journal has is dirty, and what was being written to.
fn recover(parts: &Parts, dirty: &Dirty, active: &Active, mut state: TapState) -> Result<Begun, Reason> {
    active.ranges().into_iter().for_each(|range| dirty.insert(range));
    if state.phase == Phase::Dirty {
        let reason = Reason::Earlier(state.reason.clone());
        return Ok(Begun::dirty(state, reason));
    }
    let (directory, size) = (parts.directory.clone(), parts.geometry.volume_size());
    let first_kept = Journal::recover(directory, state.journal, size, &mut |range| dirty.insert(range));
    let first_kept = first_kept.map_err(|error| Reason::StateDamaged(error.to_string()))?;
    if state.phase == Phase::Following {
        // Files are removed only when the appliance has all of them.
        let sequence = state.durable.max(first_kept.unwrap_or(1) - 1);
        state.base = Some(Position { journal: state.journal, sequence });
    }
    Ok(Begun::dirty(state, Reason::Unclean))
}
