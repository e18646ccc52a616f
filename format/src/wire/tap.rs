//! The messages of a tap's session, in which a journal travels as it fills, and those about the moments that it makes.
//!
//! A tap opens its session with [`Tap::Follow`]; after [`Tap::Following`] it sends [`Tap::Entries`] whenever it has some, and none now and
//! then as a sign of life; each is answered, in order, by [`Tap::Durable`] once all up to there is durable. Invariant: [`Tap::put_body`] and
//! [`Tap::read_body`] name the same fields in the same order.

use super::body::{put_list, read_name};
use super::{ENTRIES_BYTES_MAX, MOMENTS_MAX, Message};
use crate::codec::Codec;
use crate::error::Result;
use crate::geometry::Geometry;
use crate::journal::{Position, check_named};
use crate::layout::{Field, Reader, check_range, put_text};
use crate::point::VolumeName;
use bytes::Bytes;
use uuid::Uuid;

/// A mark of a journal: a moment that can be attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    pub time_ns: i64,
    /// The number of the mark in its journal.
    pub sequence: u64,
    /// The point that it comes after.
    pub point: u64,
}

/// One message of a tap, or about moments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tap {
    /// Opens the session of a tap, which is the only one of its volume.
    Follow {
        /// The volume, which may not be there yet.
        name: VolumeName,
        /// The journal.
        journal: Uuid,
        /// Of the volume.
        geometry: Geometry,
        /// The generation that the primary has; 0 for one that was never told.
        generation: u64,
    },
    /// The answer to [`Tap::Follow`].
    Following {
        /// The volume; nil when there is no point of it yet.
        volume: Uuid,
        /// The generation of the volume; the primary remembers it.
        generation: u64,
        /// All entries of the journal up to this one are durable here; 0 for none.
        durable: u64,
        /// The number of the newest point; 0 when there is none.
        newest: u64,
        /// Where in a journal the newest point is; `None` when no tap made it.
        position: Option<Position>,
    },
    /// The next entries of the journal; none of them as a sign of life.
    Entries {
        /// The number of the first of them, from 1.
        first: u64,
        /// Bytes of all, before they were compressed.
        length: u32,
        /// How they are compressed, all together; as they are unless that is shorter.
        codec: Codec,
        /// As they stand in a file of the journal, one after another.
        bytes: Bytes,
    },
    /// All entries up to this one are durable.
    Durable {
        /// Its number; 0 for none.
        through: u64,
    },
    /// Asks for the newest moments of a volume within a span of time.
    ListMoments {
        /// The volume.
        name: VolumeName,
        /// Not before, nanoseconds since 1970-01-01T00:00:00Z.
        from_ns: i64,
        /// Not after.
        to_ns: i64,
        /// At most so many.
        newest: u32,
    },
    /// Moments, ascending.
    Moments(Vec<Moment>),
    /// Asks for the newest point or moment at or before a time, to be read in this session; answered by [`Message::Points`] with
    /// one point at most.
    OpenMoment {
        /// The volume.
        name: VolumeName,
        /// Nanoseconds since 1970-01-01T00:00:00Z.
        at_ns: i64,
    },
}

const FOLLOW: [u8; 4] = *b"FLLW";
const FOLLOWING: [u8; 4] = *b"FLWG";
const ENTRIES: [u8; 4] = *b"ENTR";
const DURABLE: [u8; 4] = *b"DRBL";
const LIST_MOMENTS: [u8; 4] = *b"LMOM";
const MOMENTS: [u8; 4] = *b"MOML";
const OPEN_MOMENT: [u8; 4] = *b"OMOM";

/// Every tag of these, with what it is for.
pub(super) const TAGS: [([u8; 4], &str); 7] = [
    (FOLLOW, "Follow"),
    (FOLLOWING, "Following"),
    (ENTRIES, "Entries"),
    (DURABLE, "Durable"),
    (LIST_MOMENTS, "ListMoments"),
    (MOMENTS, "Moments"),
    (OPEN_MOMENT, "OpenMoment"),
];

impl From<Tap> for Message {
    fn from(tap: Tap) -> Self {
        Self::Tap(tap)
    }
}

impl Tap {
    pub(super) fn tag(&self) -> [u8; 4] {
        match self {
            Self::Follow { .. } => FOLLOW,
            Self::Following { .. } => FOLLOWING,
            Self::Entries { .. } => ENTRIES,
            Self::Durable { .. } => DURABLE,
            Self::ListMoments { .. } => LIST_MOMENTS,
            Self::Moments(_) => MOMENTS,
            Self::OpenMoment { .. } => OPEN_MOMENT,
        }
    }

    pub(super) fn put_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Follow { name, journal, geometry, generation } => {
                put_text(out, name.as_str());
                journal.put(out);
                geometry.volume_size().put(out);
                geometry.block_size().bytes().put(out);
                generation.put(out);
            }
            Self::Following { volume, generation, durable, newest, position } => {
                volume.put(out);
                generation.put(out);
                durable.put(out);
                newest.put(out);
                put_list(out, position.as_slice(), put_position);
            }
            Self::Entries { first, length, codec, bytes } => {
                first.put(out);
                length.put(out);
                (*codec as u8).put(out);
                (bytes.len() as u32).put(out);
                out.extend_from_slice(bytes);
            }
            Self::Durable { through } => through.put(out),
            Self::ListMoments { name, from_ns, to_ns, newest } => {
                put_text(out, name.as_str());
                from_ns.put(out);
                to_ns.put(out);
                newest.put(out);
            }
            Self::Moments(moments) => put_list(out, moments, |out, moment| {
                moment.time_ns.put(out);
                moment.sequence.put(out);
                moment.point.put(out);
            }),
            Self::OpenMoment { name, at_ns } => {
                put_text(out, name.as_str());
                at_ns.put(out);
            }
        }
    }

    /// The body that this tag has; `None` for a tag of another kind of session.
    pub(super) fn read_body(tag: [u8; 4], r: &mut Reader<'_>, body: &Bytes) -> Result<Option<Self>> {
        Ok(Some(match tag {
            FOLLOW => {
                let (name, journal) = (read_name(r)?, check_named("Follow", r.field()?)?);
                let geometry = Geometry::from_wire(r.field()?, r.field()?)?;
                Self::Follow { name, journal, geometry, generation: r.field()? }
            }
            FOLLOWING => Self::Following {
                volume: r.field()?,
                generation: r.field()?,
                durable: r.field()?,
                newest: r.field()?,
                position: r.list("position", 1, read_position)?.pop(),
            },
            ENTRIES => read_entries(r, body)?,
            DURABLE => Self::Durable { through: r.field()? },
            LIST_MOMENTS => {
                Self::ListMoments { name: read_name(r)?, from_ns: r.field()?, to_ns: r.field()?, newest: r.field()? }
            }
            MOMENTS => Self::Moments(r.list("moments", MOMENTS_MAX, |r| {
                Ok(Moment { time_ns: r.field()?, sequence: r.field()?, point: r.field()? })
            })?),
            OPEN_MOMENT => Self::OpenMoment { name: read_name(r)?, at_ns: r.field()? },
            _ => return Ok(None),
        }))
    }
}

fn read_entries(r: &mut Reader<'_>, body: &Bytes) -> Result<Tap> {
    let (first, length, codec) = (r.field()?, r.field::<u32>()?, Codec::from_wire(r.field()?)?);
    check_range("Entries", "first", first, 1, u64::MAX)?;
    check_range("Entries", "length", length.into(), 0, ENTRIES_BYTES_MAX.into())?;
    let stored = r.field::<u32>()?;
    let (min, max) = if codec == Codec::Stored { (length, length) } else { (1, length.saturating_sub(1)) };
    check_range("Entries", "stored length", stored.into(), min.into(), max.into())?;
    let bytes = body.slice_ref(r.take(stored as usize)?);
    Ok(Tap::Entries { first, length, codec, bytes })
}

pub(super) fn put_position(out: &mut Vec<u8>, position: &Position) {
    position.journal.put(out);
    position.sequence.put(out);
}

pub(super) fn read_position(r: &mut Reader<'_>) -> Result<Position> {
    Ok(Position { journal: check_named("position", r.field()?)?, sequence: r.field()? })
}
