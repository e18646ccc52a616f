//! What an appliance remembers of the primary that it follows: `journals/NAME/state` of a pool.
//!
//! Invariants: it is replaced as a whole; the generation grows by one whenever another side becomes the primary, and a promotion
//! that is given up takes its own with it, for nobody else ever had that; what is said to be acknowledged was durable before that was
//! written, so a journal that ends earlier is damaged.

use crate::error::{FormatError, Result};
use crate::journal::Position;
use crate::layout::{Layout, check_magic, check_range, check_version, encode_sealed, unseal};
use uuid::Uuid;

/// "Understudy FOLlowing".
pub const FOLLOW_MAGIC: [u8; 4] = *b"UFOL";
/// The layout that this program writes and reads.
pub const FOLLOW_VERSION: u16 = 1;

crate::layout! {
    /// The state file of a volume that a tap makes.
    pub struct FollowState, 96 {
        /// [`FOLLOW_MAGIC`].
        0 magic: [u8; 4],
        /// [`FOLLOW_VERSION`].
        4 version: u16,
        /// 0 following, 1 promoted, 2 returning.
        6 role: u8,
        /// 0.
        7 reserved: u8,
        /// The volume; nil while there is no point of it.
        8 volume: Uuid,
        /// The generation of the volume, from 1.
        24 generation: u64,
        /// The number of the point that was promoted; 0 while following.
        32 promoted_point: u64,
        /// The newest journal; nil before the first.
        40 journal: Uuid,
        /// All entries of it up to this one were acknowledged, and perhaps more.
        56 acknowledged: u64,
        /// When the role became what it is, nanoseconds since 1970-01-01T00:00:00Z; 0 while it never was another one.
        64 since_ns: i64,
        /// The number of the point that the primary becomes; 0 unless returning.
        72 returned_point: u64,
        /// 0.
        80 reserved_tail: [u8; 12],
        /// CRC-32 of the bytes before.
        92 crc: u32,
    }
}

/// Which side is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// The primary is; the appliance follows.
    #[default]
    Following,
    /// The appliance is.
    Promoted {
        /// From which point on.
        point: u64,
    },
    /// The primary is to be again, as soon as it is what the appliance has.
    Returning {
        /// The point that was promoted.
        from: u64,
        /// The point that has what was written since.
        to: u64,
    },
}

/// See [`FollowState`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// The volume; nil while there is no point of it.
    pub volume: Uuid,
    /// Of the volume, from 1.
    pub generation: u64,
    /// Which side is written to.
    pub role: Role,
    /// Since when, nanoseconds since 1970-01-01T00:00:00Z; 0 while it never was the other one.
    pub since_ns: i64,
    /// The newest journal, and up to where it was acknowledged at least; `None` before the first.
    pub acknowledged: Option<Position>,
}

impl Default for State {
    fn default() -> Self {
        Self { volume: Uuid::nil(), generation: 1, role: Role::Following, since_ns: 0, acknowledged: None }
    }
}

impl State {
    /// The bytes of the state file.
    pub fn encode(&self) -> Vec<u8> {
        let (role, promoted_point, returned_point) = match self.role {
            Role::Following => (0, 0, 0),
            Role::Promoted { point } => (1, point, 0),
            Role::Returning { from, to } => (2, from, to),
        };
        encode_sealed(&FollowState {
            magic: FOLLOW_MAGIC,
            version: FOLLOW_VERSION,
            role,
            reserved: 0,
            volume: self.volume,
            generation: self.generation,
            promoted_point,
            journal: self.acknowledged.map_or(Uuid::nil(), |position| position.journal),
            acknowledged: self.acknowledged.map_or(0, |position| position.sequence),
            since_ns: self.since_ns,
            returned_point,
            reserved_tail: [0; 12],
            crc: 0,
        })
    }

    /// Reads a state file.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        const WHAT: &str = "follow state";
        check_range(WHAT, "length", bytes.len() as u64, FollowState::SIZE as u64, FollowState::SIZE as u64)?;
        let state = FollowState::get(bytes)?;
        check_magic(WHAT, state.magic, FOLLOW_MAGIC)?;
        check_version(WHAT, state.version, FOLLOW_VERSION)?;
        unseal(WHAT, bytes)?;
        check_range(WHAT, "generation", state.generation, 1, u64::MAX)?;
        let FollowState { volume, generation, journal, acknowledged: sequence, since_ns, .. } = state;
        let role = match (state.role, state.promoted_point, state.returned_point) {
            (0, 0, 0) => Role::Following,
            (1, point @ 1.., 0) => Role::Promoted { point },
            (2, from @ 1.., to) if to > from => Role::Returning { from, to },
            (role, from, to) => {
                return Err(FormatError::invalid(WHAT, format!("role {role} with points {from} and {to}")));
            }
        };
        let acknowledged = match (journal.is_nil(), sequence) {
            (true, 0) => None,
            (true, _) => return Err(FormatError::invalid(WHAT, "entries without a journal")),
            (false, _) => Some(Position { journal, sequence }),
        };
        Ok(Self { volume, generation, role, since_ns, acknowledged })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_contradicts_itself_is_refused() {
        let state = State { acknowledged: Some(Position { journal: Uuid::nil(), sequence: 3 }), ..State::default() };
        assert_eq!(
            State::decode(&state.encode()),
            Err(FormatError::invalid("follow state", "entries without a journal"))
        );
        let state = State { role: Role::Promoted { point: 0 }, ..State::default() };
        assert_eq!(
            State::decode(&state.encode()),
            Err(FormatError::invalid("follow state", "role 1 with points 0 and 0"))
        );
        let state = State { role: Role::Returning { from: 4, to: 4 }, ..State::default() };
        assert_eq!(
            State::decode(&state.encode()),
            Err(FormatError::invalid("follow state", "role 2 with points 4 and 4"))
        );
    }

    #[test]
    fn a_state_is_read_back() {
        let position = Position { journal: Uuid::from_u128(7), sequence: 9 };
        for role in [Role::Promoted { point: 4 }, Role::Returning { from: 4, to: 5 }] {
            let volume = Uuid::from_u128(3);
            let state = State { volume, generation: 2, role, since_ns: 8, acknowledged: Some(position) };
            assert_eq!(State::decode(&state.encode()), Ok(state));
        }
        assert_eq!(State::decode(&State::default().encode()), Ok(State::default()));
    }
}
