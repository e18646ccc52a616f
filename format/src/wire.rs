//! The messages of a session between initiator and appliance: one frame each.
//!
//! A stream inside a session is the very frames of an offline stream ([`BEGIN`], [`CHUNK`],
//! [`COMMIT`]) with offers and needs between them. Invariants: every body except those that carry
//! chunks ends with a CRC-32 of itself (chunks have their own); every list and text has a named maximum; the hello is
//! pinned byte by byte, so that any two versions can at least say why they do not understand each other.
//! A client names points by volume and number, never digests by themselves: it cannot probe for existence. A session that begins with an
//! announcement is a control session of an agent ([`Control`]).

pub mod access;
mod agent;
mod body;
mod failover;
mod tap;

pub use agent::Control;
pub use failover::Failover;
pub use tap::{Moment, Tap};

use crate::chunk::{Chunk, ChunkHead};
use crate::digest::Digest;
use crate::error::{ErrorKind, Result};
use crate::frame::FrameHeader;
use crate::group::Group;
use crate::journal::Position;
use crate::layout::{Reader, check_range, seal, unseal};
use crate::point::{Label, Point, Volume, VolumeName};
use crate::session::Cursor;
use crate::stream::{BEGIN, Begin, CHUNK, COMMIT, Commit};
use bytes::Bytes;
use uuid::Uuid;

/// The session version that this program speaks.
pub const SESSION_VERSION: u16 = 1;
/// Most bytes of a message for people.
pub const TEXT_MAX: usize = 4096;
/// Most volumes in one answer.
pub const VOLUMES_MAX: u32 = 65_536;
/// Most points in one answer.
pub const POINTS_MAX: u32 = 100_000;
/// Most pages in one request.
pub const PAGES_MAX: u32 = 1024;
/// Most ranges in one request.
pub const RANGES_MAX: u32 = 65_536;
/// Most overlays in one answer.
pub const OVERLAYS_MAX: u32 = 65_536;
/// Most bytes of entries of a journal in one message, before they are compressed: one of the longest write at least.
pub const ENTRIES_BYTES_MAX: u32 = 8 << 20;
/// Most moments in one answer.
pub const MOMENTS_MAX: u32 = 65_536;
/// Most data entries of one offer, so of a need.
pub const NEED_MAX: u32 = crate::chunk::ENTRIES_MAX;

crate::layout! {
    /// The fixed part of what `VOLL` says of a volume; the volume record follows as a list of bytes.
    pub struct VolumeStatus, 112 {
        /// Number of points.
        0 points: u64,
        /// The number of the newest point; 0 when there is none.
        8 newest: u64,
        /// Size of the newest point, bytes.
        16 size: u64,
        /// Root of the newest point.
        24 newest_root: Digest,
        /// 0 none, 1 native.
        56 secondary_mode: u8,
        /// 0.
        57 reserved: [u8; 7],
        /// Root that the secondary has; zeros before the first point settled.
        64 settled_root: Digest,
        /// Blocks that are still to be applied to the secondary.
        96 behind_blocks: u64,
        /// 0.
        104 reserved_tail: [u8; 8],
    }
}

crate::layout! {
    /// The fixed part of what `OVLL` says of a scratch overlay; the volume's name follows as a text.
    pub struct OverlayStatus, 64 {
        /// The volume.
        0 volume: Uuid,
        /// The number of the point.
        16 point: u64,
        /// Bytes of the point.
        24 volume_size: u64,
        /// Bytes that were written, zeroed or trimmed, in granules.
        32 owned_bytes: u64,
        /// When the overlay came to be, nanoseconds since 1970-01-01T00:00:00Z.
        40 created_ns: i64,
        /// Connections that use it.
        48 connections: u32,
        /// 1 when it cannot be opened, or what it owns cannot be read.
        52 damaged: u8,
        /// 0.
        53 reserved: [u8; 11],
    }
}

/// What an appliance says of a scratch overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayInfo {
    /// The volume's name.
    pub name: VolumeName,
    /// Its state.
    pub status: OverlayStatus,
}

/// What an appliance says of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeInfo {
    /// As recorded.
    pub volume: Volume,
    /// Its state.
    pub status: VolumeStatus,
}

/// A run of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRange {
    /// The first block.
    pub first: u64,
    /// Number of blocks.
    pub count: u64,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The client's first message: its version, and its name for the log.
    Hello {
        /// See [`SESSION_VERSION`].
        version: u16,
        /// Program and version.
        software: String,
    },
    /// The appliance's answer to a hello.
    Welcome {
        /// See [`SESSION_VERSION`].
        version: u16,
        /// The pool behind it.
        pool: Uuid,
        /// Program and version.
        software: String,
        /// Where it serves NBD (`HOST:PORT`); empty when it does not.
        nbd: String,
    },
    /// The request failed; the session goes on unless it was a stream.
    Fail {
        /// What to do about it.
        kind: ErrorKind,
        /// For people.
        text: String,
    },
    /// Asks for all volumes.
    ListVolumes,
    /// All volumes, by name.
    Volumes(Vec<VolumeInfo>),
    /// Asks for a volume and its newest points.
    ListPoints {
        /// The volume.
        name: VolumeName,
        /// At most this many, the newest.
        newest: u32,
    },
    /// A volume, if it exists, and points in ascending order.
    Points {
        /// `None` when there is no such volume.
        volume: Option<VolumeInfo>,
        /// Ascending.
        points: Vec<Point>,
        /// The numbers of those that retention may not remove, ascending.
        protected: Vec<u64>,
    },
    /// Asks for pages of a point's map.
    GetPages {
        /// The volume.
        volume: Uuid,
        /// The point.
        point: u64,
        /// Of the entries of the pages.
        level: u8,
        /// Which pages.
        indexes: Vec<u64>,
    },
    /// The pages that were asked for, one after another, zero pages included.
    Pages(Bytes),
    /// Asks for blocks of a point; answered by chunks and a [`Message::ReadEnd`].
    Read {
        /// The volume.
        volume: Uuid,
        /// The point.
        point: u64,
        /// Ascending, not overlapping.
        ranges: Vec<BlockRange>,
    },
    /// All chunks of a read went by.
    ReadEnd,
    /// Announces a stream: the next message is its begin record.
    Push {
        /// The volume, created when it does not exist.
        name: VolumeName,
        /// For the new point.
        label: Option<Label>,
        /// The streams that its point is committed with.
        group: Option<Group>,
        /// Where the journal of what is written meanwhile was when reading began: the point is what was read with all of it that is
        /// durable at the commit.
        over: Option<Position>,
    },
    /// Opens a stream.
    Begin(Begin),
    /// The stream may be sent.
    Accept {
        /// Chunks that may be offered and not yet sent.
        window: u32,
        /// Where it goes on when it was cut before.
        cursor: Cursor,
        /// Blocks of the base that the appliance has lost: they are offered, or told as zero, also when they did not change.
        again: Vec<BlockRange>,
    },
    /// A chunk without its payload.
    Offer(ChunkHead),
    /// Which data entries of an offer the appliance lacks.
    Need {
        /// Of the offered chunk.
        sequence: u64,
        /// One for each data entry, in order.
        wanted: Vec<bool>,
    },
    /// A chunk.
    Chunk(Chunk),
    /// Closes a stream.
    Commit(Commit),
    /// The commit is held until the rest of the group is ready; comes again and again, as a sign of life.
    Waiting {
        /// Members whose commit is held.
        ready: u16,
        /// All of them.
        members: u16,
        /// For people: which are not ready, and why.
        lacking: String,
    },
    /// The point is durable.
    Stored(Point),
    /// Asks for all scratch overlays.
    ListOverlays,
    /// Scratch overlays: all of them, or the one that was discarded.
    Overlays(Vec<OverlayInfo>),
    /// Asks for a new volume out of a scratch overlay; answered by [`Message::Stored`].
    Keep {
        /// The volume that the overlay is over.
        volume: Uuid,
        /// The point that it is over.
        point: u64,
        /// The new volume.
        name: VolumeName,
        /// For its first point.
        label: Option<Label>,
    },
    /// Asks to become the client that a token was made for; answered by [`Message::Identity`].
    Enrol {
        /// The secret of the token.
        secret: [u8; 16],
        /// The public half of the key that the client made.
        key: access::PublicKey,
    },
    /// Asks for another certificate, as a client; answered by [`Message::Identity`].
    Renew {
        /// The public half of its key.
        key: access::PublicKey,
    },
    /// A certificate.
    Identity(access::Identity),
    /// Asks that a scratch overlay be discarded; answered by [`Message::Overlays`].
    Discard {
        /// The volume that the overlay is over.
        volume: Uuid,
        /// The point that it is over.
        point: u64,
        /// Also when something was written to it, or somebody uses it.
        force: bool,
    },
    /// What is said in the control session of an agent.
    Control(Control),
    /// What is said in the session of a tap, or about moments.
    Tap(Tap),
    /// What is said about which side of a volume is written to.
    Failover(Failover),
}

/// A message as bytes: the frame header and all but the payload, then the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Frame header and body, up to the payload.
    pub head: Vec<u8>,
    /// The rest of the body; shared, not copied.
    pub payload: Bytes,
}

const HELLO: [u8; 4] = *b"HELO";
const WELCOME: [u8; 4] = *b"WELC";
const FAIL: [u8; 4] = *b"FAIL";
const LIST_VOLUMES: [u8; 4] = *b"LVOL";
const VOLUMES: [u8; 4] = *b"VOLL";
const LIST_POINTS: [u8; 4] = *b"LPNT";
const POINTS: [u8; 4] = *b"PNTL";
const GET_PAGES: [u8; 4] = *b"GPAG";
const PAGES: [u8; 4] = *b"PAGS";
const READ: [u8; 4] = *b"READ";
const READ_END: [u8; 4] = *b"REND";
const PUSH: [u8; 4] = *b"PUSH";
const ACCEPT: [u8; 4] = *b"ACPT";
const OFFER: [u8; 4] = *b"OFFR";
const NEED: [u8; 4] = *b"NEED";
const WAITING: [u8; 4] = *b"WAIT";
const STORED: [u8; 4] = *b"STOR";
const LIST_OVERLAYS: [u8; 4] = *b"LOVL";
const OVERLAYS: [u8; 4] = *b"OVLL";
const KEEP: [u8; 4] = *b"KEEP";
const DISCARD: [u8; 4] = *b"DSCD";
const ENROL: [u8; 4] = *b"ENRL";
const RENEW: [u8; 4] = *b"RENW";
const IDENTITY: [u8; 4] = *b"IDTY";

const TAGS: [([u8; 4], &str); 27] = [
    (HELLO, "Hello"),
    (WELCOME, "Welcome"),
    (FAIL, "Fail"),
    (LIST_VOLUMES, "ListVolumes"),
    (VOLUMES, "Volumes"),
    (LIST_POINTS, "ListPoints"),
    (POINTS, "Points"),
    (GET_PAGES, "GetPages"),
    (PAGES, "Pages"),
    (READ, "Read"),
    (READ_END, "ReadEnd"),
    (PUSH, "Push"),
    (BEGIN, "Begin"),
    (ACCEPT, "Accept"),
    (OFFER, "Offer"),
    (NEED, "Need"),
    (CHUNK, "Chunk"),
    (COMMIT, "Commit"),
    (WAITING, "Waiting"),
    (STORED, "Stored"),
    (LIST_OVERLAYS, "ListOverlays"),
    (OVERLAYS, "Overlays"),
    (KEEP, "Keep"),
    (DISCARD, "Discard"),
    (ENROL, "Enrol"),
    (RENEW, "Renew"),
    (IDENTITY, "Identity"),
];

/// Every tag of a session, with what it is for; SPEC.md lists the same.
pub fn tags() -> impl Iterator<Item = ([u8; 4], &'static str)> {
    TAGS.into_iter().chain(agent::TAGS).chain(tap::TAGS).chain(failover::TAGS)
}

fn name_of(tag: [u8; 4]) -> Option<&'static str> {
    tags().find(|(known, _)| *known == tag).map(|(_, name)| name)
}

impl Message {
    /// The name of the message, for errors.
    pub fn name(&self) -> &'static str {
        name_of(self.tag()).expect("every tag is listed")
    }

    fn tag(&self) -> [u8; 4] {
        match self {
            Self::Hello { .. } => HELLO,
            Self::Welcome { .. } => WELCOME,
            Self::Fail { .. } => FAIL,
            Self::ListVolumes => LIST_VOLUMES,
            Self::Volumes(_) => VOLUMES,
            Self::ListPoints { .. } => LIST_POINTS,
            Self::Points { .. } => POINTS,
            Self::GetPages { .. } => GET_PAGES,
            Self::Pages(_) => PAGES,
            Self::Read { .. } => READ,
            Self::ReadEnd => READ_END,
            Self::Push { .. } => PUSH,
            Self::Begin(_) => BEGIN,
            Self::Accept { .. } => ACCEPT,
            Self::Offer(_) => OFFER,
            Self::Need { .. } => NEED,
            Self::Chunk(_) => CHUNK,
            Self::Commit(_) => COMMIT,
            Self::Waiting { .. } => WAITING,
            Self::Stored(_) => STORED,
            Self::ListOverlays => LIST_OVERLAYS,
            Self::Overlays(_) => OVERLAYS,
            Self::Keep { .. } => KEEP,
            Self::Discard { .. } => DISCARD,
            Self::Enrol { .. } => ENROL,
            Self::Renew { .. } => RENEW,
            Self::Identity(_) => IDENTITY,
            Self::Control(control) => control.tag(),
            Self::Tap(tap) => tap.tag(),
            Self::Failover(failover) => failover.tag(),
        }
    }

    /// The message as bytes.
    ///
    /// Fails when it would be longer than a frame may be.
    pub fn encode(&self) -> Result<Encoded> {
        let (body, payload) = match self {
            Self::Begin(begin) => (begin.encode(), Bytes::new()),
            Self::Commit(commit) => (commit.encode(), Bytes::new()),
            Self::Offer(head) => (head.encode(), Bytes::new()),
            Self::Chunk(chunk) => (chunk.head.encode(), chunk.payload.clone()),
            other => (other.encode_sealed(), Bytes::new()),
        };
        let header = FrameHeader::encode(self.tag(), 0, body.len() + payload.len())?;
        Ok(Encoded { head: [&header[..], &body].concat(), payload })
    }

    fn encode_sealed(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put_body(&mut out);
        out.extend_from_slice(&[0; 4]);
        seal(&mut out);
        out
    }

    /// Reads the body of a frame; `None` for a tag that is unknown and may be skipped.
    pub fn decode(header: &FrameHeader, body: &Bytes) -> Result<Option<Self>> {
        let tag = header.tag;
        match tag {
            BEGIN => return Begin::decode(body).map(Self::Begin).map(Some),
            COMMIT => return Commit::decode(body).map(Self::Commit).map(Some),
            CHUNK => return Chunk::decode(body).map(Self::Chunk).map(Some),
            OFFER => return decode_offer(body).map(Some),
            _ => {}
        }
        let Some(what) = name_of(tag) else {
            return if header.may_skip() { Ok(None) } else { Err(header.unexpected("a known message")) };
        };
        let body = body.slice_ref(unseal(what, body)?);
        let mut reader = Reader::new(what, &body);
        let message = Self::read_body(tag, &mut reader, &body)?;
        reader.finish()?;
        Ok(Some(message))
    }
}

fn decode_offer(body: &[u8]) -> Result<Message> {
    let (head, rest) = ChunkHead::decode(body)?;
    Reader::new("Offer", rest).finish()?;
    check_range("Offer", "payload length", head.payload_length.into(), 0, 0)?;
    check_range("Offer", "payload checksum", head.payload_crc.into(), 0, 0)?;
    Ok(Message::Offer(head))
}

#[cfg(test)]
mod tests;
