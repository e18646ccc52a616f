//! The index: where each digest is stored, and which volumes and points there are.
//!
//! A cache of the segments and nothing more: it can be deleted and is then rebuilt by replaying
//! them. Invariants: an entry is published only after the bytes that it names are durable; entries
//! and the mark up to which their segment is indexed go in one atomic batch, so a replay from the mark
//! finds exactly what is missing. fjall (an LSM tree) holds it, because digests arrive in random order.

use crate::error::Result;
use crate::locks::lock;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::Path;
use std::sync::Mutex;
use understudy_format::Digest;
use understudy_format::point::{Point, Volume};
use uuid::Uuid;

/// Memory for the index's blocks, bytes.
const CACHE_BYTES: u64 = 32 << 20;
/// Memory for entries that are not yet in tables, bytes a keyspace.
const MEMTABLE_BYTES: u64 = 8 << 20;

/// Where a record is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The number of the segment.
    pub segment: u64,
    /// Of the record's header, bytes from the start of the segment.
    pub offset: u64,
    /// Bytes after the record's header.
    pub stored_length: u32,
    /// Bytes of the content.
    pub content_length: u32,
    /// See `segment::Kind`: what is stored as one kind is never taken for another.
    pub kind: u8,
}

impl Location {
    fn to_bytes(self) -> [u8; 25] {
        let mut bytes = [0; 25];
        bytes[..8].copy_from_slice(&self.segment.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.stored_length.to_be_bytes());
        bytes[20..24].copy_from_slice(&self.content_length.to_be_bytes());
        bytes[24] = self.kind;
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (segment, rest) = bytes.split_first_chunk::<8>()?;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let (stored_length, rest) = rest.split_first_chunk::<4>()?;
        let (content_length, rest) = rest.split_first_chunk::<4>()?;
        let [kind] = *rest else { return None };
        Some(Self {
            segment: u64::from_be_bytes(*segment),
            offset: u64::from_be_bytes(*offset),
            stored_length: u32::from_be_bytes(*stored_length),
            content_length: u32::from_be_bytes(*content_length),
            kind,
        })
    }
}

/// What became durable together.
#[derive(Debug, Default)]
pub struct Batch {
    /// Blocks and pages.
    pub records: Vec<(Digest, Location)>,
    /// Volumes.
    pub volumes: Vec<Volume>,
    /// Points.
    pub points: Vec<Point>,
    /// A segment, and up to which of its bytes it is indexed now.
    pub indexed: Option<(u64, u64)>,
}

/// The index of one pool.
pub struct Index {
    database: Database,
    records: Keyspace,
    damaged: Keyspace,
    catalogue: Keyspace,
    segments: Keyspace,
    /// Held while entries of records are changed: what is published is never taken for what was damaged.
    changing: Mutex<()>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Index")
    }
}

impl Index {
    /// Opens the index in `dir`, creating it when absent.
    pub fn open(dir: &Path) -> Result<Self> {
        let database = Database::builder(dir).cache_size(CACHE_BYTES).max_journaling_size(64 << 20).open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let keyspace = |name| database.keyspace(name, options);
        let (records, damaged) = (keyspace("records")?, keyspace("damaged")?);
        let (catalogue, segments) = (keyspace("catalogue")?, keyspace("segments")?);
        Ok(Self { database, records, damaged, catalogue, segments, changing: Mutex::new(()) })
    }

    /// Where the record with this digest is, if it is there and not known to be damaged.
    pub fn get(&self, digest: &Digest) -> Result<Option<Location>> {
        Ok(self.records.get(digest.0)?.and_then(|bytes| Location::from_bytes(&bytes)))
    }

    /// Where a record that is known to be damaged is.
    pub fn get_damaged(&self, digest: &Digest) -> Result<Option<Location>> {
        Ok(self.damaged.get(digest.0)?.and_then(|bytes| Location::from_bytes(&bytes)))
    }

    /// From now on the record is not deduplicated against, until it is stored again.
    pub fn mark_damaged(&self, digest: &Digest, location: Location) -> Result<()> {
        let _changing = lock(&self.changing);
        if self.get(digest)? != Some(location) {
            return Ok(());
        }
        let mut batch = self.database.batch();
        batch.remove(&self.records, digest.0);
        batch.insert(&self.damaged, digest.0, location.to_bytes());
        Ok(batch.commit()?)
    }

    /// Publishes what became durable, in one atomic step.
    pub fn publish(&self, new: &Batch) -> Result<()> {
        let _changing = lock(&self.changing);
        let mut batch = self.database.batch();
        for (digest, location) in &new.records {
            batch.insert(&self.records, digest.0, location.to_bytes());
        }
        for volume in &new.volumes {
            batch.insert(&self.catalogue, volume_key(&volume.uuid), volume.encode());
        }
        for point in &new.points {
            batch.insert(&self.catalogue, point_key(&point.volume, point.number), point.encode());
        }
        if let Some((segment, indexed_to)) = new.indexed {
            batch.insert(&self.segments, segment.to_be_bytes(), indexed_to.to_be_bytes());
        }
        Ok(batch.commit()?)
    }

    /// Makes everything that was published durable.
    pub fn sync(&self) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }

    /// Up to which byte a segment is indexed; 0 when it is not.
    pub fn indexed_to(&self, segment: u64) -> Result<u64> {
        let bytes = self.segments.get(segment.to_be_bytes())?;
        Ok(bytes.and_then(|bytes| bytes.as_ref().try_into().ok()).map_or(0, u64::from_be_bytes))
    }

    /// All volumes, in no order.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        let values = self.catalogue.prefix(b"v").map(|entry| Ok(Volume::decode(&entry.value()?)?));
        values.collect()
    }

    /// All points of a volume, ascending.
    pub fn points(&self, volume: &Uuid) -> Result<Vec<Point>> {
        let prefix = [b"p", &volume.as_bytes()[..]].concat();
        self.catalogue.prefix(prefix).map(|entry| Ok(Point::decode(&entry.value()?)?)).collect()
    }
}

fn volume_key(volume: &Uuid) -> Vec<u8> {
    [b"v", &volume.as_bytes()[..]].concat()
}

fn point_key(volume: &Uuid, number: u64) -> Vec<u8> {
    [b"p", &volume.as_bytes()[..], &number.to_be_bytes()].concat()
}
