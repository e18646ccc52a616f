//! The messages with which the appliance becomes the side that is written to, and with which a primary becomes it again.
//!
//! [`Failover::Promote`] is answered by [`Failover::Promoted`]. A primary comes back with [`Failover::Failback`]; after
//! [`Failover::FailingBack`] it makes its volume equal to that point and says so with [`Failover::FailedBack`]. That, and
//! [`Failover::Demote`], are answered like a tap is, by [`super::Tap::Following`]; so is [`Failover::Failback`] where it is over. Invariant:
//! [`Failover::put_body`] and [`Failover::read_body`] name the same fields in the same order.

use super::Message;
use super::body::{read_bool, read_name};
use crate::error::Result;
use crate::layout::{Field, Reader, put_text};
use crate::point::VolumeName;
use uuid::Uuid;

/// One message about which side is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failover {
    /// Asks the appliance to become the side that is written to, from the newest moment of the volume on.
    Promote {
        /// The volume.
        name: VolumeName,
        /// Also while a tap follows it, or a failback is under way.
        force: bool,
    },
    /// It is that side.
    Promoted {
        /// The volume.
        volume: Uuid,
        /// The point whose scratch overlay is written to.
        point: u64,
        /// The generation of the volume since then.
        generation: u64,
        /// Since when, nanoseconds since 1970-01-01T00:00:00Z.
        at_ns: i64,
    },
    /// Asks for what was written since then, as a point.
    Failback {
        /// The volume.
        name: VolumeName,
    },
    /// That point; nothing is written to the overlay any more.
    FailingBack {
        /// The volume.
        volume: Uuid,
        /// The point that was promoted.
        from: u64,
        /// The point to make the primary of.
        to: u64,
        /// The generation that the primary has afterwards.
        generation: u64,
        /// All entries up to this one of the journal of the point that was promoted are in that point; 0 for none.
        durable: u64,
    },
    /// The primary is that point, durably, and is written to from now on.
    FailedBack {
        /// The volume.
        name: VolumeName,
        /// The point.
        point: u64,
    },
    /// Gives up what was written since the promotion: the primary goes on as if there had been none.
    Demote {
        /// The volume.
        name: VolumeName,
    },
}

const PROMOTE: [u8; 4] = *b"PRMT";
const PROMOTED: [u8; 4] = *b"PRMD";
const FAILBACK: [u8; 4] = *b"FLBK";
const FAILING_BACK: [u8; 4] = *b"FLBG";
const FAILED_BACK: [u8; 4] = *b"FLBD";
const DEMOTE: [u8; 4] = *b"DMOT";

/// Every tag of these, with what it is for.
pub(super) const TAGS: [([u8; 4], &str); 6] = [
    (PROMOTE, "Promote"),
    (PROMOTED, "Promoted"),
    (FAILBACK, "Failback"),
    (FAILING_BACK, "FailingBack"),
    (FAILED_BACK, "FailedBack"),
    (DEMOTE, "Demote"),
];

impl From<Failover> for Message {
    fn from(failover: Failover) -> Self {
        Self::Failover(failover)
    }
}

impl Failover {
    pub(super) fn tag(&self) -> [u8; 4] {
        match self {
            Self::Promote { .. } => PROMOTE,
            Self::Promoted { .. } => PROMOTED,
            Self::Failback { .. } => FAILBACK,
            Self::FailingBack { .. } => FAILING_BACK,
            Self::FailedBack { .. } => FAILED_BACK,
            Self::Demote { .. } => DEMOTE,
        }
    }

    pub(super) fn put_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Promote { name, force } => {
                put_text(out, name.as_str());
                u8::from(*force).put(out);
            }
            Self::Promoted { volume, point, generation, at_ns } => {
                volume.put(out);
                point.put(out);
                generation.put(out);
                at_ns.put(out);
            }
            Self::FailingBack { volume, from, to, generation, durable } => {
                volume.put(out);
                from.put(out);
                to.put(out);
                generation.put(out);
                durable.put(out);
            }
            Self::FailedBack { name, point } => {
                put_text(out, name.as_str());
                point.put(out);
            }
            Self::Failback { name } | Self::Demote { name } => put_text(out, name.as_str()),
        }
    }

    /// The body that this tag has; `None` for a tag of another kind.
    pub(super) fn read_body(tag: [u8; 4], r: &mut Reader<'_>) -> Result<Option<Self>> {
        Ok(Some(match tag {
            PROMOTE => Self::Promote { name: read_name(r)?, force: read_bool("Promote", "force", r)? },
            PROMOTED => {
                Self::Promoted { volume: r.field()?, point: r.field()?, generation: r.field()?, at_ns: r.field()? }
            }
            FAILBACK => Self::Failback { name: read_name(r)? },
            FAILING_BACK => Self::FailingBack {
                volume: r.field()?,
                from: r.field()?,
                to: r.field()?,
                generation: r.field()?,
                durable: r.field()?,
            },
            FAILED_BACK => Self::FailedBack { name: read_name(r)?, point: r.field()? },
            DEMOTE => Self::Demote { name: read_name(r)? },
            _ => return Ok(None),
        }))
    }
}
