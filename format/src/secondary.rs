//! The state of a secondary: what it is kept on, which point it is, and which one it is becoming.
//!
//! Invariants: `applying` is recorded durably before the first byte of that point is written to the secondary,
//! and `settled` only after the last one is durable; so after a crash the secondary is the settled
//! point with any part of the difference to the applied one. A state says nothing of any other place.

use crate::digest::Digest;
use crate::error::{FormatError, Result};
use crate::layout::{Layout, check_magic, check_range, check_version, encode_sealed, unseal};
use uuid::Uuid;

/// "Understudy SECondary".
pub const SECONDARY_MAGIC: [u8; 4] = *b"USEC";
/// The state layout that this program writes and reads.
pub const SECONDARY_VERSION: u16 = 1;

crate::layout! {
    /// The state file of a secondary.
    pub struct SecondaryState, 128 {
        /// [`SECONDARY_MAGIC`].
        0 magic: [u8; 4],
        /// [`SECONDARY_VERSION`].
        4 version: u16,
        /// 0.
        6 reserved: u16,
        /// The volume.
        8 volume: Uuid,
        /// The number of the point that the secondary is; 0 before the first one settled.
        24 settled_point: u64,
        /// The number of the point that the secondary is becoming; 0 when it is settled.
        32 applying_point: u64,
        /// Root of the settled point; zeros for none.
        40 settled_root: Digest,
        /// Root of the point being applied; zeros for none.
        72 applying_root: Digest,
        /// What the secondary is kept on; see [`Place`].
        104 place: [u8; 16],
        /// 0.
        120 reserved_tail: [u8; 4],
        /// CRC-32 of the bytes before.
        124 crc: u32,
    }
}

/// What a secondary is kept on: the image in the pool, or one device of all there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place([u8; 16]);

impl Place {
    /// The image in the pool.
    pub const IMAGE: Self = Self([0; 16]);

    /// The device that is told from all others by this text.
    pub fn device(text: &str) -> Self {
        let mut place = [0; 16];
        place.copy_from_slice(&Digest::of_record(text.as_bytes()).0[..16]);
        Self(place)
    }
}

/// A point as a secondary knows it: its number and root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The number of the point.
    pub point: u64,
    /// Its root.
    pub root: Digest,
}

/// See [`SecondaryState`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// The volume.
    pub volume: Uuid,
    /// What this state is about.
    pub place: Place,
    /// The point that the secondary is.
    pub settled: Option<Settled>,
    /// The point that the secondary is becoming.
    pub applying: Option<Settled>,
}

impl State {
    /// The bytes of the state file.
    pub fn encode(&self) -> Vec<u8> {
        let number = |settled: Option<Settled>| settled.map_or(0, |settled| settled.point);
        let root = |settled: Option<Settled>| settled.map_or(Digest::ZERO, |settled| settled.root);
        encode_sealed(&SecondaryState {
            magic: SECONDARY_MAGIC,
            version: SECONDARY_VERSION,
            reserved: 0,
            volume: self.volume,
            settled_point: number(self.settled),
            applying_point: number(self.applying),
            settled_root: root(self.settled),
            applying_root: root(self.applying),
            place: self.place.0,
            reserved_tail: [0; 4],
            crc: 0,
        })
    }

    /// Reads a state file.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let size = SecondaryState::SIZE as u64;
        check_range("secondary state", "length", bytes.len() as u64, size, size)?;
        let state = SecondaryState::get(bytes)?;
        check_magic("secondary state", state.magic, SECONDARY_MAGIC)?;
        check_version("secondary state", state.version, SECONDARY_VERSION)?;
        unseal("secondary state", bytes)?;
        let settled = |point, root: Digest| match (point, root.is_zero()) {
            (0, true) => Ok(None),
            (1.., false) => Ok(Some(Settled { point, root })),
            _ => Err(FormatError::invalid("secondary state", "point and root contradict each other")),
        };
        Ok(Self {
            volume: state.volume,
            place: Place(state.place),
            settled: settled(state.settled_point, state.settled_root)?,
            applying: settled(state.applying_point, state.applying_root)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_without_a_root_and_a_root_without_a_point_are_refused() {
        let error = Err(FormatError::invalid("secondary state", "point and root contradict each other"));
        for settled in [Settled { point: 1, root: Digest::ZERO }, Settled { point: 0, root: Digest([1; 32]) }] {
            let state = State { volume: Uuid::nil(), place: Place::IMAGE, settled: Some(settled), applying: None };
            assert_eq!(State::decode(&state.encode()), error);
        }
    }
}
