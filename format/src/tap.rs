//! The state of a tap: where it stands, and what of the appliance that rests on.
//!
//! Invariants: while a tap runs, its state says that it is not closed; a state that is not closed is believed only together with the
//! journal's files and the extents that were being written to. The bitmaps beside it have the layout of [`crate::overlay::OwnedSlot`]: one bit
//! a block in the file `dirty`, one each [`EXTENT`] in the file `active`.

use crate::digest::Digest;
use crate::error::Result;
use crate::geometry::Geometry;
use crate::journal::Position;
use crate::layout::{Layout, Reader, check_magic, check_range, check_version, put_text, seal, unseal};
use uuid::Uuid;

/// "Understudy TAP".
pub const TAP_MAGIC: [u8; 4] = *b"UTAP";
/// The layout that this program writes and reads.
pub const TAP_VERSION: u16 = 1;
/// What is active or not as a whole, bytes of the volume.
pub const EXTENT: u64 = 4 << 20;
/// Most bytes of a reason.
pub const REASON_MAX: usize = 1 << 10;

crate::layout! {
    /// The fixed part of the file; the reason follows as a text, then a CRC-32 of all bytes before it.
    pub struct TapRecord, 160 {
        /// [`TAP_MAGIC`].
        0 magic: [u8; 4],
        /// [`TAP_VERSION`].
        4 version: u16,
        /// 0 dirty, 1 catching up, 2 following.
        6 phase: u8,
        /// 1 when the tap ended as it should, and nothing was written since; otherwise 0.
        7 is_closed: u8,
        /// The volume at the appliance; nil when that was never told.
        8 volume: Uuid,
        /// Its generation; 0 when that was never told.
        24 generation: u64,
        /// The journal; while dirty, the last one, or nil.
        32 journal: Uuid,
        /// The number of its last entry, as far as the state is closed.
        48 last: u64,
        /// When that was written, nanoseconds since 1970-01-01T00:00:00Z.
        56 last_ns: i64,
        /// All entries up to this one are durable at the appliance.
        64 durable: u64,
        /// The journal of the point that blocks which are not dirty are known by; nil when there is none.
        72 base_journal: Uuid,
        /// Where in that journal the point is, or after it.
        88 base_sequence: u64,
        /// Bytes of the volume.
        96 volume_size: u64,
        /// Bytes of a block.
        104 block_size: u32,
        /// 0.
        108 reserved: [u8; 4],
        /// What the volume looks like when nobody wrote to it since; zeros unless closed.
        112 fingerprint: Digest,
        /// 0.
        144 reserved_tail: [u8; 16],
    }
}

/// Where a tap stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// There is no journal; blocks that may differ are dirty.
    Dirty = 0,
    /// There is a journal; the blocks that were dirty when it began have to be streamed.
    CatchingUp = 1,
    /// Journal and appliance together have everything.
    Following = 2,
}

/// See [`TapRecord`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TapState {
    /// Where the tap stands.
    pub phase: Phase,
    /// What the volume looked like when the tap was closed; `None` while it runs.
    pub closed: Option<Digest>,
    /// The volume at the appliance; nil when that was never told.
    pub volume: Uuid,
    /// Its generation; 0 when that was never told.
    pub generation: u64,
    /// The journal; while dirty, the last one, or nil.
    pub journal: Uuid,
    /// The number of its last entry, as far as the state is closed.
    pub last: u64,
    /// When that was written, nanoseconds since 1970-01-01T00:00:00Z.
    pub last_ns: i64,
    /// All entries up to this one are durable at the appliance.
    pub durable: u64,
    /// Blocks that are not dirty are those of the point here, or after it in the same journal.
    pub base: Option<Position>,
    /// Of the volume.
    pub geometry: Geometry,
    /// Why blocks are dirty; empty while following.
    pub reason: String,
}

impl TapState {
    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.record().put(&mut out);
        put_text(&mut out, &self.reason[..self.reason.floor_char_boundary(REASON_MAX)]);
        out.extend_from_slice(&[0; 4]);
        seal(&mut out);
        out
    }

    fn record(&self) -> TapRecord {
        TapRecord {
            magic: TAP_MAGIC,
            version: TAP_VERSION,
            phase: self.phase as u8,
            is_closed: self.closed.is_some().into(),
            volume: self.volume,
            generation: self.generation,
            journal: self.journal,
            last: self.last,
            last_ns: self.last_ns,
            durable: self.durable,
            base_journal: self.base.map_or(Uuid::nil(), |base| base.journal),
            base_sequence: self.base.map_or(0, |base| base.sequence),
            volume_size: self.geometry.volume_size(),
            block_size: self.geometry.block_size().bytes(),
            reserved: [0; 4],
            fingerprint: self.closed.unwrap_or(Digest([0; 32])),
            reserved_tail: [0; 16],
        }
    }

    /// Reads the bytes of the file.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        const WHAT: &str = "tap state";
        let record = TapRecord::get(bytes)?;
        check_magic(WHAT, record.magic, TAP_MAGIC)?;
        check_version(WHAT, record.version, TAP_VERSION)?;
        let mut reader = Reader::new(WHAT, unseal(WHAT, bytes)?);
        let record: TapRecord = reader.layout()?;
        let reason = reader.text("reason", REASON_MAX)?;
        reader.finish()?;
        check_range(WHAT, "phase", record.phase.into(), 0, 2)?;
        check_range(WHAT, "closed", record.is_closed.into(), 0, 1)?;
        check_range(WHAT, "durable", record.durable, 0, if record.is_closed == 1 { record.last } else { u64::MAX })?;
        let base = Position { journal: record.base_journal, sequence: record.base_sequence };
        Ok(Self {
            phase: [Phase::Dirty, Phase::CatchingUp, Phase::Following][usize::from(record.phase)],
            closed: (record.is_closed == 1).then_some(record.fingerprint),
            volume: record.volume,
            generation: record.generation,
            journal: record.journal,
            last: record.last,
            last_ns: record.last_ns,
            durable: record.durable,
            base: Some(base).filter(|base| !base.journal.is_nil()),
            geometry: Geometry::from_wire(record.volume_size, record.block_size)?,
            reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::BlockSize;

    fn state(phase: Phase) -> TapState {
        TapState {
            phase,
            closed: Some(Digest([7; 32])),
            volume: Uuid::from_u128(1),
            generation: 2,
            journal: Uuid::from_u128(3),
            last: 9,
            last_ns: -5,
            durable: 4,
            base: Some(Position { journal: Uuid::from_u128(6), sequence: 7 }),
            geometry: Geometry::new(1 << 30, BlockSize::default()).unwrap(),
            reason: "the journal failed".into(),
        }
    }

    #[test]
    fn states_are_read_as_they_were_written() {
        for phase in [Phase::Dirty, Phase::CatchingUp, Phase::Following] {
            let state = state(phase);
            assert_eq!(TapState::decode(&state.encode()), Ok(state.clone()));
            let open = TapState { closed: None, base: None, reason: String::new(), ..state };
            assert_eq!(TapState::decode(&open.encode()), Ok(open));
        }
        let long = TapState { reason: "ä".repeat(REASON_MAX), ..state(Phase::Dirty) };
        assert_eq!(TapState::decode(&long.encode()).unwrap().reason, "ä".repeat(REASON_MAX / 2));
    }

    #[test]
    fn a_state_that_contradicts_itself_is_refused() {
        let refused = |at: usize, byte: u8| {
            let mut bytes = state(Phase::Following).encode();
            bytes[at] = byte;
            seal(&mut bytes);
            TapState::decode(&bytes).unwrap_err().to_string()
        };
        assert_eq!(refused(6, 3), "tap state: phase is 3, allowed is 0 to 2");
        assert_eq!(refused(7, 2), "tap state: closed is 2, allowed is 0 to 1");
        assert_eq!(refused(64, 10), "tap state: durable is 10, allowed is 0 to 9");
        let bytes = state(Phase::Following).encode();
        assert!(TapState::decode(&bytes[..bytes.len() - 1]).unwrap_err().to_string().contains("CRC-32"));
    }
}
