//! What the catalogue knows, record by record: volumes, points, and what was recorded of them since.
//!
//! Invariant: two records with the same [`Record::key`] are about the same thing, and the one that stands later in the
//! log counts. A removal has the key of the point that it removes. One record of a segment says several things where they count together.

use crate::error::Result;
use understudy_format::catalogue::{ProtectionRecord, RemovalRecord, Settings};
use understudy_format::point::{Point, Volume, decode_points};
use understudy_format::segment::Kind;
use understudy_format::session::Progress;
use uuid::Uuid;

/// Where a record of the catalogue stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The number of the segment.
    pub segment: u64,
    /// Of the record's header, bytes from the start of the segment.
    pub offset: u64,
}

/// A record of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A volume came to be.
    Volume(Volume),
    /// A point is committed.
    Point(Point),
    /// A point is gone.
    Removal(RemovalRecord),
    /// Whether retention may remove a point.
    Protection(ProtectionRecord),
    /// What is set for a volume.
    Settings(Uuid, Settings),
    /// How far a stream came.
    Progress(Box<Progress>),
}

impl Record {
    /// The record's kind in segments.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Volume(_) => Kind::Volume,
            Self::Point(_) => Kind::Point,
            Self::Removal(_) => Kind::Removal,
            Self::Protection(_) => Kind::Protection,
            Self::Settings(..) => Kind::Settings,
            Self::Progress(_) => Kind::Progress,
        }
    }

    /// The record's content in segments.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Volume(volume) => volume.encode(),
            Self::Point(point) => point.encode(),
            Self::Removal(removal) => removal.encode(),
            Self::Protection(protection) => protection.encode(),
            Self::Settings(volume, settings) => settings.encode(*volume),
            Self::Progress(progress) => progress.encode(),
        }
    }

    /// What a record of a segment says; nothing for kinds that are not of the catalogue.
    pub fn decode(kind: Kind, content: &[u8]) -> Result<Vec<Self>> {
        Ok(vec![match kind {
            Kind::Volume => Self::Volume(Volume::decode(content)?),
            Kind::Point => Self::Point(Point::decode(content)?),
            Kind::Removal => Self::Removal(RemovalRecord::decode(content)?),
            Kind::Protection => Self::Protection(ProtectionRecord::decode(content)?),
            Kind::Settings => Settings::decode(content).map(|(volume, settings)| Self::Settings(volume, settings))?,
            Kind::Progress => Self::Progress(Box::new(Progress::decode(content)?)),
            Kind::Points => return Ok(decode_points(content)?.into_iter().map(Self::Point).collect()),
            Kind::Block | Kind::Page | Kind::Pad | Kind::Footer => return Ok(Vec::new()),
        }])
    }

    /// What the record is about.
    pub fn key(&self) -> Vec<u8> {
        let (letter, volume, point) = match self {
            Self::Volume(volume) => (b'v', volume.uuid, None),
            Self::Point(point) => (b'p', point.volume, Some(point.number)),
            Self::Removal(removal) => (b'p', removal.volume, Some(removal.point)),
            Self::Protection(protection) => (b'r', protection.volume, Some(protection.point)),
            Self::Settings(volume, _) => (b's', *volume, None),
            Self::Progress(progress) => (b'g', progress.volume.uuid, None),
        };
        let mut key = vec![letter];
        key.extend_from_slice(volume.as_bytes());
        key.extend(point.into_iter().flat_map(u64::to_be_bytes));
        key
    }
}
