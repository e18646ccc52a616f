//! Volumes and points as they are recorded in segments, and the names that people give them.
//!
//! Invariants: a name can be a file name, an export name and a part of `NAME@POINT` at once; a
//! label can never be read as one of the other ways to name a point; a record is complete by
//! itself, so that the segments alone rebuild the pool.

use crate::digest::Digest;
use crate::error::{FormatError, Result};
use crate::geometry::Geometry;
use crate::group::{MEMBERS_MAX, MEMBERS_MIN};
use crate::journal::Position;
use crate::layout::{Field, Layout, Reader, check_range, put_record, put_text};
use crate::map::Map;
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// Most bytes of a volume name.
pub const NAME_MAX: usize = 128;
/// Most bytes of a label.
pub const LABEL_MAX: usize = 128;
/// The first number of a moment: a mark of a journal that is made into a point for those who read it, and never recorded.
pub const MOMENT: u64 = 1 << 63;

/// The name of a volume: 1 to 128 of `A-Z a-z 0-9 . _ -`, starting with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VolumeName(String);

impl VolumeName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for VolumeName {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        match starts && text.len() <= NAME_MAX && text.chars().all(allowed) {
            true => Ok(Self(text.to_owned())),
            false => Err(FormatError::invalid(
                "volume name",
                format!(
                    "{text:?}: expected 1 to 128 of letters, digits, '.', '_', '-', starting with a letter or digit"
                ),
            )),
        }
    }
}

/// A label: 1 to 128 of the characters of a volume name, starting with a letter, and neither `latest` nor `now`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Label(String);

impl Label {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self> {
        let starts = text.starts_with(|c: char| c.is_ascii_alphabetic());
        let valid = starts
            && text.len() <= LABEL_MAX
            && text.parse::<VolumeName>().is_ok()
            && !["latest", "now"].contains(&text);
        match valid {
            true => Ok(Self(text.to_owned())),
            false => Err(FormatError::invalid(
                "label",
                format!(
                    "{text:?}: expected 1 to 128 of letters, digits, '.', '_', '-', starting with a letter, and neither \"latest\" nor \"now\""
                ),
            )),
        }
    }
}

crate::layout! {
    /// The fixed part of a volume record; its name follows as a text.
    pub struct VolumeRecord, 32 {
        /// The volume.
        0 volume: Uuid,
        /// Bytes.
        16 block_size: u32,
        /// 0.
        20 reserved: u32,
        /// When the volume was created, nanoseconds since 1970-01-01T00:00:00Z.
        24 created_ns: i64,
    }
}

crate::layout! {
    /// The fixed part of a point record; its label follows as a text, empty for none.
    pub struct PointRecord, 192 {
        /// The volume.
        0 volume: Uuid,
        /// The number of the point in its volume, from 1.
        16 point: u64,
        /// The number of the point that the stream was based on; 0 for a full.
        24 base: u64,
        /// When reading of the source began, nanoseconds since 1970-01-01T00:00:00Z.
        32 created_ns: i64,
        /// Bytes.
        40 volume_size: u64,
        /// Bytes.
        48 block_size: u32,
        /// 0.
        52 reserved: u32,
        /// The top of the map.
        56 top: Digest,
        /// The root.
        88 root: Digest,
        /// The stream that brought the point.
        120 stream: Uuid,
        /// Blocks that the stream said are data, zero (in an incremental) or reference.
        136 changed_blocks: u64,
        /// Bytes that the stream added to segments.
        144 stored_bytes: u64,
        /// Content bytes of the blocks that the stream added to segments.
        152 new_bytes: u64,
        /// The journal that the point was made with; nil for none.
        160 journal: Uuid,
        /// The number of the last entry of it that is in the point.
        176 sequence: u64,
        /// 0.
        184 reserved_tail: [u8; 8],
    }
}

/// A volume as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The volume.
    pub uuid: Uuid,
    /// Its name.
    pub name: VolumeName,
    /// Of every point of it, bytes.
    pub block_size: crate::geometry::BlockSize,
    /// When it was created, nanoseconds since 1970-01-01T00:00:00Z.
    pub created_ns: i64,
}

impl Volume {
    /// The content of a volume record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let block_size = self.block_size.bytes();
        VolumeRecord { volume: self.uuid, block_size, reserved: 0, created_ns: self.created_ns }.put(&mut out);
        put_text(&mut out, self.name.as_str());
        out
    }

    /// Reads the content of a volume record.
    pub fn decode(content: &[u8]) -> Result<Self> {
        let mut reader = Reader::new("volume record", content);
        let record = reader.layout::<VolumeRecord>()?;
        let name = reader.text("name", NAME_MAX)?.parse()?;
        reader.finish()?;
        let block_size = crate::geometry::BlockSize::new(record.block_size)?;
        Ok(Self { uuid: record.volume, name, block_size, created_ns: record.created_ns })
    }
}

/// A restore point as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The volume.
    pub volume: Uuid,
    /// The number of the point in its volume, from 1.
    pub number: u64,
    /// The point that the stream was based on; `None` for a full.
    pub base: Option<u64>,
    /// When reading of the source began, nanoseconds since 1970-01-01T00:00:00Z.
    pub created_ns: i64,
    /// Geometry and top.
    pub map: Map,
    /// The stream that brought the point.
    pub stream: Uuid,
    /// Blocks that the stream said are changed.
    pub changed_blocks: u64,
    /// Bytes that the stream added to segments.
    pub stored_bytes: u64,
    /// Content bytes of the blocks that the stream added to segments.
    pub new_bytes: u64,
    /// A name that people gave to the point.
    pub label: Option<Label>,
    /// Up to where a journal is in it, when a tap made it.
    pub position: Option<Position>,
}

impl Point {
    /// Whether it is a moment between recorded points; see [`MOMENT`].
    pub fn is_moment(&self) -> bool {
        self.number >= MOMENT
    }

    /// Its number, which names it as long as it is kept; `None` of a moment.
    pub fn recorded(&self) -> Option<u64> {
        Some(self.number).filter(|_| !self.is_moment())
    }

    /// The content of a point record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(PointRecord::SIZE + 2);
        PointRecord {
            volume: self.volume,
            point: self.number,
            base: self.base.unwrap_or(0),
            created_ns: self.created_ns,
            volume_size: self.map.geometry.volume_size(),
            block_size: self.map.geometry.block_size().bytes(),
            reserved: 0,
            top: self.map.top,
            root: self.map.root(),
            stream: self.stream,
            changed_blocks: self.changed_blocks,
            stored_bytes: self.stored_bytes,
            new_bytes: self.new_bytes,
            journal: self.position.map_or(Uuid::nil(), |position| position.journal),
            sequence: self.position.map_or(0, |position| position.sequence),
            reserved_tail: [0; 8],
        }
        .put(&mut out);
        put_text(&mut out, self.label.as_ref().map_or("", Label::as_str));
        out
    }

    /// Reads the content of a point record.
    pub fn decode(content: &[u8]) -> Result<Self> {
        let mut reader = Reader::new("point record", content);
        let record = reader.layout::<PointRecord>()?;
        let label = reader.text("label", LABEL_MAX)?;
        reader.finish()?;
        check_range("point record", "point", record.point, 1, u64::MAX)?;
        let position = match (record.journal, record.sequence) {
            (journal, 0) if journal.is_nil() => None,
            (journal, sequence) if !journal.is_nil() => Some(Position { journal, sequence }),
            _ => return Err(FormatError::invalid("point record", "a number in no journal")),
        };
        let map = Map { geometry: Geometry::from_wire(record.volume_size, record.block_size)?, top: record.top };
        if map.root() != record.root {
            return Err(FormatError::Digest { what: "point record", expected: record.root, computed: map.root() });
        }
        Ok(Self {
            volume: record.volume,
            number: record.point,
            base: Some(record.base).filter(|base| *base != 0),
            created_ns: record.created_ns,
            map,
            stream: record.stream,
            changed_blocks: record.changed_blocks,
            stored_bytes: record.stored_bytes,
            new_bytes: record.new_bytes,
            label: if label.is_empty() { None } else { Some(label.parse()?) },
            position,
        })
    }
}

/// The content of a record with the points of a group: since it is one record, all of them count or none.
pub fn encode_points(points: &[Point]) -> Vec<u8> {
    let mut out = Vec::new();
    (points.len() as u32).put(&mut out);
    points.iter().for_each(|point| put_record(&mut out, &point.encode()));
    out
}

/// Reads the content of a record with the points of a group.
pub fn decode_points(content: &[u8]) -> Result<Vec<Point>> {
    let mut reader = Reader::new("points of a group", content);
    let points = reader.list("points", MEMBERS_MAX.into(), |r| Point::decode(r.record()?))?;
    reader.finish()?;
    check_range("points of a group", "points", points.len() as u64, MEMBERS_MIN.into(), MEMBERS_MAX.into())?;
    Ok(points)
}
