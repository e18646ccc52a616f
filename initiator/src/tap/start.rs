//! What a tap may believe: of its own state when it begins, and of that together with what the appliance says.
//!
//! Pure functions. Invariant: blocks that are not dirty are believed to be those of the newest point only where that point is, or comes
//! after, the one that they are known by; in any doubt everything is read, for a reason.

use super::reason::Reason;
use understudy_format::Digest;
use understudy_format::Geometry;
use understudy_format::journal::Position;
use understudy_format::tap::{Phase, TapState};

/// How a tap begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// As it was when it was closed.
    GoOn(TapState),
    /// It was not closed: what its journal has and what was being written to is dirty.
    Recover(TapState),
    /// Nothing is known of any block.
    Everything(Reason),
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
    /// The journal is of no use any more: [`super::core::Core::lost`], then another session with a new one.
    GiveUp(Reason),
    /// The appliance has entries durably of which it has made no point yet: another session, later. When that lasts, what it has is
    /// [`Reason::OtherPoint`].
    Wait(String),
}

/// How a tap on a volume of this geometry, which looks like this, begins with the state that was found.
pub fn start(found: Result<Option<TapState>, Reason>, geometry: &Geometry, looks: &Digest) -> Start {
    let state = match found {
        Ok(Some(state)) => state,
        Ok(None) => return Start::Everything(Reason::New),
        Err(reason) => return Start::Everything(reason),
    };
    if state.geometry != *geometry {
        return Start::Everything(Reason::OtherVolume(format!(
            "it had {} bytes in blocks of {}, and has {} in blocks of {}",
            state.geometry.volume_size(),
            state.geometry.block_size(),
            geometry.volume_size(),
            geometry.block_size()
        )));
    }
    match state.closed {
        None => Start::Recover(state),
        Some(looked) if looked == *looks => Start::GoOn(state),
        Some(_) => Start::Everything(Reason::Touched("it does not look as it did when the tap ended".into())),
    }
}

/// What follows from the appliance's answer; of the journal, the entries from `first_kept` to `last` are here.
pub fn decide(state: &TapState, first_kept: u64, last: u64, seen: &Seen) -> Decision {
    let other = || Reason::OtherPoint(describe(seen));
    if state.phase == Phase::Dirty {
        return begin(state, seen);
    }
    if seen.durable + 1 < first_kept || seen.durable > last {
        let (durable, kept) = (seen.durable, first_kept);
        let text = format!("it has entries up to {durable}, and those from {kept} to {last} are here");
        return Decision::GiveUp(Reason::JournalGone(text));
    }
    let is_in_journal = seen.position.is_some_and(|position| position.journal == state.journal);
    let is_known = match (state.phase, state.base) {
        (Phase::CatchingUp, None) => true,
        (Phase::CatchingUp, Some(base)) => {
            is_in_journal || seen.position.is_some_and(|position| is_after(&position, &base))
        }
        _ => is_in_journal,
    };
    if is_known { Decision::GoOn } else { Decision::GiveUp(other()) }
}

fn begin(state: &TapState, seen: &Seen) -> Decision {
    // Everything is dirty then.
    let Some(base) = state.base else { return Decision::Begin(None) };
    match seen.position {
        Some(position) if is_after(&position, &base) => Decision::Begin(None),
        Some(position) if position.journal == base.journal => Decision::Wait(format!(
            "the newest point has entries up to {} of the journal, and the appliance had {}",
            position.sequence, base.sequence
        )),
        // The stream became a point when the journal beside it was given up.
        Some(position) if position.journal == state.journal => Decision::Begin(None),
        _ => Decision::Begin(Some(Reason::OtherPoint(describe(seen)))),
    }
}

fn is_after(position: &Position, base: &Position) -> bool {
    position.journal == base.journal && position.sequence >= base.sequence
}

fn describe(seen: &Seen) -> String {
    match (seen.newest, seen.position) {
        (0, _) => "there is none".into(),
        (number, None) => format!("point {number} was made by no tap"),
        (number, Some(position)) => format!("point {number} is of another journal, {}", position.journal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_format::BlockSize;
    use uuid::Uuid;

    fn position(journal: u128, sequence: u64) -> Option<Position> {
        Some(Position { journal: Uuid::from_u128(journal), sequence })
    }

    fn geometry(size: u64) -> Geometry {
        Geometry::new(size, BlockSize::default()).unwrap()
    }

    fn state(phase: Phase, journal: u128, base: Option<Position>) -> TapState {
        let (volume, journal) = (Uuid::nil(), Uuid::from_u128(journal));
        let (last, last_ns, durable, reason) = (9, 0, 4, String::new());
        let (closed, generation, geometry) = (Some(Digest([1; 32])), 0, geometry(1 << 20));
        TapState { phase, closed, volume, generation, journal, last, last_ns, durable, base, geometry, reason }
    }

    #[test]
    fn only_a_state_that_was_closed_over_a_volume_that_nobody_touched_goes_on() {
        let state = state(Phase::Following, 1, position(1, 0));
        let began = |found, size, looks| start(found, &geometry(size), &Digest([looks; 32]));
        assert_eq!(began(Ok(Some(state.clone())), 1 << 20, 1), Start::GoOn(state.clone()));
        assert_eq!(began(Ok(None), 1 << 20, 1), Start::Everything(Reason::New));
        let open = TapState { closed: None, ..state.clone() };
        assert_eq!(began(Ok(Some(open.clone())), 1 << 20, 2), Start::Recover(open));
        let touched = began(Ok(Some(state.clone())), 1 << 20, 2);
        assert!(matches!(touched, Start::Everything(Reason::Touched(_))), "{touched:?}");
        let grown = began(Ok(Some(state)), 2 << 20, 1);
        assert!(matches!(grown, Start::Everything(Reason::OtherVolume(_))), "{grown:?}");
    }

    fn decided(state: &TapState, durable: u64, position: Option<Position>) -> Decision {
        decide(state, 3, 9, &Seen { durable, newest: position.map_or(0, |_| 7), position })
    }

    #[test]
    fn a_journal_goes_on_where_the_appliance_has_all_that_is_not_here() {
        let state = state(Phase::Following, 1, position(1, 0));
        for durable in [2, 4, 9] {
            assert_eq!(decided(&state, durable, position(1, 2)), Decision::GoOn);
        }
        for durable in [0, 1, 10] {
            let given_up = decided(&state, durable, position(1, 2));
            assert!(matches!(given_up, Decision::GiveUp(Reason::JournalGone(_))), "{given_up:?}");
        }
        for other in [None, position(2, 9)] {
            let given_up = decided(&state, 4, other);
            assert!(matches!(given_up, Decision::GiveUp(Reason::OtherPoint(_))), "{given_up:?}");
        }
    }

    #[test]
    fn catching_up_goes_on_over_the_same_point_or_what_it_made_of_it() {
        let state = state(Phase::CatchingUp, 2, position(1, 5));
        for newest in [position(1, 5), position(1, 6), position(2, 4)] {
            assert_eq!(decided(&state, 4, newest), Decision::GoOn);
        }
        for newest in [None, position(1, 4), position(3, 9)] {
            assert!(matches!(decided(&state, 4, newest), Decision::GiveUp(Reason::OtherPoint(_))));
        }
        let baseline = TapState { base: None, ..state };
        assert_eq!(decided(&baseline, 4, None), Decision::GoOn);
    }

    #[test]
    fn what_is_dirty_is_enough_only_over_the_point_that_the_rest_is_known_by() {
        let state = state(Phase::Dirty, 2, position(1, 5));
        for newest in [position(1, 5), position(1, 9), position(2, 1)] {
            assert_eq!(decided(&state, 0, newest), Decision::Begin(None));
        }
        assert!(matches!(decided(&state, 0, position(1, 4)), Decision::Wait(_)), "not folded yet");
        for newest in [None, position(3, 9)] {
            assert!(matches!(decided(&state, 0, newest), Decision::Begin(Some(Reason::OtherPoint(_)))));
        }
        assert_eq!(decided(&TapState { base: None, ..state }, 0, position(3, 9)), Decision::Begin(None));
    }
}
