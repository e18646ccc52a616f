//! What people are told of a scrub, while it goes on and at its end.
//!
//! Every event is text for people by [`Display`](fmt::Display) and an object for programs by [`Event::json`].

use crate::secondary::compare::{Compared, Difference};
use serde_json::{Value, json};
use std::fmt;

/// Blocks that are named of one secondary.
const BLOCKS_MAX: usize = 16;

/// Somebody who needs a damaged record: a range of blocks, in a run of points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The volume's name.
    pub volume: String,
    /// The number of the first point of the run.
    pub first_point: u64,
    /// The number of the last point of the run.
    pub last_point: u64,
    /// The first block.
    pub first_block: u64,
    /// Number of blocks: 1 for a block, those beneath it for a map page.
    pub block_count: u64,
    /// Of the first block in the volume, bytes.
    pub offset: u64,
}

/// A damaged block or map page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// "block" or "map page".
    pub what: &'static str,
    /// Of the content.
    pub digest: String,
    /// The segment that the damaged record is in; 0 when it is missing.
    pub segment: u64,
    /// Of the record in the segment, bytes.
    pub offset: u64,
    /// In which way.
    pub reason: String,
    /// Who needs it; empty when nobody does.
    pub places: Vec<Place>,
    /// How many more do.
    pub more_places: u64,
}

/// A secondary that was not what its point says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secondary {
    /// The volume's name.
    pub volume: String,
    /// The number of the point that it had settled at.
    pub point: u64,
    /// Blocks that differed.
    pub differing: u64,
    /// Those of them that were repaired, durably.
    pub repaired: u64,
    /// The first of them: block, byte offset, and whether it was repaired.
    pub blocks: Vec<(u64, u64, bool)>,
}

impl Secondary {
    /// What a comparison found.
    pub fn new(volume: String, compared: &Compared) -> Self {
        let Compared { point, differing, repaired, named, .. } = compared;
        let block = |own: &Difference| (own.block.0, own.offset, own.repaired);
        let blocks = named.iter().take(BLOCKS_MAX).map(block).collect();
        Self { volume, point: *point, differing: *differing, repaired: *repaired, blocks }
    }

    fn json(&self) -> Value {
        let Self { volume, point, differing, repaired, blocks } = self;
        let block = |(block, offset, repaired): &(u64, u64, bool)| json!({"block": block, "offset": offset, "repaired": repaired});
        json!({
            "event": "secondary", "volume": volume, "point": point, "differing": differing, "repaired": repaired,
            "blocks": blocks.iter().map(block).collect::<Vec<_>>(),
        })
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A segment was checked.
    Progress {
        /// Segments that were checked or passed over.
        done: u64,
        /// Segments there are.
        segments: u64,
        /// Bytes that were read.
        bytes: u64,
    },
    /// Something is damaged that costs no content.
    Warning {
        /// The segment.
        segment: u64,
        /// Bytes from its start.
        offset: u64,
        /// What.
        reason: String,
    },
    /// A block or page is damaged; what becomes of it follows.
    Damaged(Damaged),
    /// Content was stored once more.
    Healed {
        /// Which.
        digest: String,
        /// Where it still was.
        from: String,
    },
    /// Content could not be found anywhere.
    Unhealed {
        /// Which.
        digest: String,
        /// The volumes whose next stream can bring it.
        volumes: Vec<String>,
    },
    /// Nobody needs what is damaged: its space is given back by the next collection.
    Unneeded {
        /// Which.
        digest: String,
    },
    /// A secondary was not what its point says.
    Secondary(Secondary),
    /// A secondary could not be compared.
    SecondaryFailed {
        /// The volume's name.
        volume: String,
        /// Why.
        reason: String,
    },
    /// What the catalogue had was recorded once more, because a segment's own header or those records are damaged.
    Recorded {
        /// The segment.
        segment: u64,
        /// Records.
        records: u64,
    },
}

impl Place {
    fn json(&self) -> Value {
        let Self { volume, first_point, last_point, first_block, block_count, offset } = self;
        json!({
            "volume": volume, "first_point": first_point, "last_point": last_point, "first_block": first_block,
            "block_count": block_count, "offset": offset,
        })
    }
}

impl Event {
    /// The event as an object with an `event`.
    pub fn json(&self) -> Value {
        match self {
            Self::Progress { done, segments, bytes } => {
                json!({"event": "progress", "done": done, "segments": segments, "bytes": bytes})
            }
            Self::Warning { segment, offset, reason } => {
                json!({"event": "warning", "segment": segment, "offset": offset, "reason": reason})
            }
            Self::Damaged(Damaged { what, digest, segment, offset, reason, places, more_places }) => json!({
                "event": "damaged", "what": what, "digest": digest, "segment": segment, "offset": offset,
                "reason": reason, "places": places.iter().map(Place::json).collect::<Vec<_>>(),
                "more_places": more_places,
            }),
            Self::Healed { digest, from } => json!({"event": "healed", "digest": digest, "from": from}),
            Self::Unhealed { digest, volumes } => json!({"event": "unhealed", "digest": digest, "volumes": volumes}),
            Self::Unneeded { digest } => json!({"event": "unneeded", "digest": digest}),
            Self::Secondary(secondary) => secondary.json(),
            Self::SecondaryFailed { volume, reason } => {
                json!({"event": "secondary_failed", "volume": volume, "reason": reason})
            }
            Self::Recorded { segment, records } => {
                json!({"event": "recorded", "segment": segment, "records": records})
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { volume, first_point, last_point, first_block, block_count, offset } = self;
        match first_point == last_point {
            true => write!(f, "volume {volume}, point {first_point}, ")?,
            false => write!(f, "volume {volume}, points {first_point} to {last_point}, ")?,
        }
        match block_count {
            1 => write!(f, "block {first_block} (byte offset {offset})"),
            count => write!(f, "blocks {first_block} to {} (from byte offset {offset})", first_block + count - 1),
        }
    }
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, digest, places, more_places, reason, .. } = self;
        for place in places {
            writeln!(f, "{place}: damaged {what} {digest}")?;
        }
        if *more_places > 0 {
            writeln!(f, "damaged {what} {digest}: {more_places} more places")?;
        }
        // The reason says where the record stands.
        f.write_str(reason)
    }
}

impl fmt::Display for Secondary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { volume, point, differing, repaired, blocks } = self;
        for (block, offset, repaired) in blocks {
            let outcome = if *repaired { "repaired" } else { "not repaired" };
            writeln!(
                f,
                "secondary of volume {volume}, point {point}, block {block} (byte offset {offset}): {outcome}"
            )?;
        }
        write!(
            f,
            "secondary of volume {volume}: {differing} blocks were not those of point {point}, {repaired} repaired"
        )
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Progress { done, segments, bytes } => {
                write!(f, "{done} of {segments} segments, {bytes} bytes read")
            }
            Self::Warning { segment, offset, reason } => {
                write!(f, "segment {segment:016x}, offset {offset}: {reason}")
            }
            Self::Damaged(damaged) => damaged.fmt(f),
            Self::Healed { digest, from } => write!(f, "healed {digest} from {from}"),
            Self::Unhealed { digest, volumes } => {
                let names = volumes.join(", ");
                write!(
                    f,
                    "not healed: {digest} is nowhere else in the pool; the next `understudy replicate` of {names} sends it \
                     again if the source still has it"
                )
            }
            Self::Unneeded { digest } => {
                write!(f, "no point needs {digest}; the next collection gives its space back")
            }
            Self::Secondary(secondary) => secondary.fmt(f),
            Self::SecondaryFailed { volume, reason } => {
                write!(f, "the secondary of volume {volume} cannot be compared: {reason}")
            }
            Self::Recorded { segment, records } => {
                write!(f, "segment {segment:016x}: recorded {records} records of the catalogue once more")
            }
        }
    }
}

/// What a scrub did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scrubbed {
    /// Segments that were checked.
    pub segments: u64,
    /// Segments that were passed over: checked recently enough, or gone.
    pub passed_over: u64,
    /// Records that were checked.
    pub records: u64,
    /// Bytes that were read of segments.
    pub bytes: u64,
    /// Damaged blocks, pages and records of the catalogue that are needed, old damage included.
    pub damaged: u64,
    /// Those of them that are whole again.
    pub healed: u64,
    /// Those of them that stay damaged.
    pub unhealed: u64,
    /// Damaged blocks and pages that no point needs.
    pub unneeded: u64,
    /// Damage that costs no content.
    pub warnings: u64,
    /// Secondaries that were compared.
    pub secondaries: u64,
    /// Secondaries that could not be compared.
    pub secondaries_failed: u64,
    /// Blocks of secondaries that were not what their points say.
    pub secondary_blocks: u64,
    /// Those of them that are now.
    pub secondary_blocks_repaired: u64,
}

impl Scrubbed {
    /// The numbers as an object with an `event`.
    pub fn json(&self) -> Value {
        let Self { segments, passed_over, records, bytes, damaged, healed, unhealed, unneeded, warnings, .. } = self;
        json!({
            "event": "scrubbed", "segments": segments, "passed_over": passed_over, "records": records, "bytes": bytes,
            "damaged": damaged, "healed": healed, "unhealed": unhealed, "unneeded": unneeded, "warnings": warnings,
            "secondaries": self.secondaries, "secondaries_failed": self.secondaries_failed,
            "secondary_blocks": self.secondary_blocks,
            "secondary_blocks_repaired": self.secondary_blocks_repaired,
        })
    }

    /// For the shell: 0 nothing found, 3 damage found and all of it repaired, 4 damage remains.
    pub fn exit_code(&self) -> u8 {
        let found = self.damaged + self.secondary_blocks + self.secondaries_failed;
        let left = self.unhealed + self.secondaries_failed + (self.secondary_blocks - self.secondary_blocks_repaired);
        match (found, left) {
            (0, _) => 0,
            (_, 0) => 3,
            _ => 4,
        }
    }
}
