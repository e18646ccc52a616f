//! The index: where each digest is stored, and what the catalogue knows.
//!
//! A cache of the segments and nothing more: it can be deleted and is then rebuilt by replaying
//! them. Invariants: an entry is published only after the bytes that it names are durable; entries
//! and the mark up to which their segment is indexed go in one atomic batch, so a replay from the mark
//! finds exactly what is missing; an entry is moved or removed only while it names the place that was looked at.

use super::record::{Place, Record};
use super::store::{Change, Store, Table};
use crate::error::Result;
use crate::locks::lock;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use understudy_format::Digest;
use understudy_format::layout::Layout;
use understudy_format::segment::{Kind, RECORD_ALIGNMENT, RecordHeader};

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
    /// The number of the record in its segment, pads left out: one bit stands for it while space is reclaimed.
    pub ordinal: u32,
    /// See `segment::Kind`: what is stored as one kind is never taken for another.
    pub kind: u8,
}

impl Location {
    /// Bytes from the start of this record to that of the next.
    pub fn record_length(&self) -> u64 {
        (RecordHeader::SIZE as u64 + u64::from(self.stored_length)).next_multiple_of(RECORD_ALIGNMENT)
    }

    /// Of a record that is nowhere.
    fn nowhere(kind: Kind) -> Self {
        let (segment, offset, stored_length, content_length, ordinal) = Default::default();
        Self { segment, offset, stored_length, content_length, ordinal, kind: kind as u8 }
    }

    /// Whether the record is nowhere; see [`Index::mark_missing`].
    pub fn is_nowhere(&self) -> bool {
        self.segment == 0
    }

    /// Where it stands.
    pub fn place(&self) -> Place {
        Place { segment: self.segment, offset: self.offset }
    }

    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(29);
        bytes.extend_from_slice(&self.segment.to_be_bytes());
        bytes.extend_from_slice(&self.offset.to_be_bytes());
        bytes.extend_from_slice(&self.stored_length.to_be_bytes());
        bytes.extend_from_slice(&self.content_length.to_be_bytes());
        bytes.extend_from_slice(&self.ordinal.to_be_bytes());
        bytes.push(self.kind);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (segment, rest) = bytes.split_first_chunk::<8>()?;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let (stored_length, rest) = rest.split_first_chunk::<4>()?;
        let (content_length, rest) = rest.split_first_chunk::<4>()?;
        let (ordinal, rest) = rest.split_first_chunk::<4>()?;
        let [kind] = *rest else { return None };
        Some(Self {
            segment: u64::from_be_bytes(*segment),
            offset: u64::from_be_bytes(*offset),
            stored_length: u32::from_be_bytes(*stored_length),
            content_length: u32::from_be_bytes(*content_length),
            ordinal: u32::from_be_bytes(*ordinal),
            kind,
        })
    }
}

/// What became durable together.
#[derive(Debug, Default)]
pub struct Batch {
    /// Blocks and pages; with the place that a copy was made from, an entry that names another one stays.
    pub records: Vec<(Digest, Location, Option<Place>)>,
    /// The catalogue, in the order of the log.
    pub catalogue: Vec<(Record, Place)>,
    /// A segment, and up to which of its bytes it is indexed now.
    pub indexed: Option<(u64, u64)>,
}

/// The index of one pool.
#[derive(Debug)]
pub struct Index {
    store: Arc<dyn Store>,
    /// Held while entries of records are changed: what is published is never taken for what was damaged.
    changing: Mutex<()>,
}

impl Index {
    /// The index that `store` holds.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, changing: Mutex::new(()) }
    }

    /// Where the record with this digest is, if it is there and not known to be damaged.
    pub fn get(&self, digest: &Digest) -> Result<Option<Location>> {
        Ok(self.store.get(Table::Records, &digest.0)?.and_then(|bytes| Location::from_bytes(&bytes)))
    }

    /// Where a record that is known to be damaged is.
    pub fn get_damaged(&self, digest: &Digest) -> Result<Option<Location>> {
        Ok(self.store.get(Table::Damaged, &digest.0)?.and_then(|bytes| Location::from_bytes(&bytes)))
    }

    /// All records that are known to be damaged and were not stored again.
    pub fn damaged(&self) -> Result<Vec<(Digest, Location)>> {
        let entry = |(key, bytes): (Vec<u8>, Vec<u8>)| Some((digest(&key)?, Location::from_bytes(&bytes)?));
        let mut damaged = Vec::new();
        for (digest, location) in self.store.prefix(Table::Damaged, &[])?.into_iter().filter_map(entry) {
            if self.get(&digest)?.is_none() {
                damaged.push((digest, location));
            }
        }
        Ok(damaged)
    }

    /// From now on the record is not deduplicated against, until it is stored again.
    pub fn mark_damaged(&self, digest: &Digest, location: Location) -> Result<()> {
        let _changing = lock(&self.changing);
        if self.get(digest)? != Some(location) {
            return Ok(());
        }
        self.store.apply(vec![
            Change::Remove(Table::Records, digest.0.into()),
            Change::Put(Table::Damaged, digest.0.into(), location.to_bytes()),
        ])
    }

    /// Remembers that a record which is needed is nowhere: as a damaged one that stands in segment 0, which there never is.
    pub fn mark_missing(&self, digest: &Digest, kind: Kind) -> Result<()> {
        let _changing = lock(&self.changing);
        if self.get(digest)?.is_some() || self.get_damaged(digest)?.is_some() {
            return Ok(());
        }
        self.store.apply(vec![Change::Put(Table::Damaged, digest.0.into(), Location::nowhere(kind).to_bytes())])
    }

    /// Forgets the damage of records that were stored again.
    pub fn forget_healed(&self, digests: &[Digest]) -> Result<()> {
        let _changing = lock(&self.changing);
        let mut changes = Vec::new();
        for digest in digests {
            if self.get(digest)?.is_some() {
                changes.push(Change::Remove(Table::Damaged, digest.0.into()));
            }
        }
        self.store.apply(changes)
    }

    /// The records that are named in some parts of a segment. Goes through the whole index, a piece at a time.
    pub fn find_in(&self, segment: u64, parts: &[Range<u64>]) -> Result<Vec<(Digest, Location)>> {
        let wanted = |location: &Location| {
            location.segment == segment && parts.iter().any(|part| part.contains(&location.offset))
        };
        let mut found = Vec::new();
        for prefix in 0..=u16::MAX {
            let pairs = self.store.prefix(Table::Records, &prefix.to_be_bytes())?;
            let entries = pairs.iter().filter_map(|(key, bytes)| Some((digest(key)?, Location::from_bytes(bytes)?)));
            found.extend(entries.filter(|(_, location)| wanted(location)));
        }
        Ok(found)
    }

    /// Publishes what became durable, in one atomic step.
    pub fn publish(&self, new: &Batch) -> Result<()> {
        let _changing = lock(&self.changing);
        let mut changes = Vec::with_capacity(new.records.len() + new.catalogue.len() + 1);
        for (digest, location, copied_from) in &new.records {
            if self.takes(digest, *copied_from)? {
                changes.push(Change::Put(Table::Records, digest.0.into(), location.to_bytes()));
            }
        }
        for (record, place) in &new.catalogue {
            changes.push(Change::Put(Table::Catalogue, record.key(), catalogue_value(record, *place)));
            if let Record::Point(_) = record {
                changes.push(Change::Put(Table::PointRecords, key_in(record, place.segment), Vec::new()));
            }
        }
        if let Some((segment, indexed_to)) = new.indexed {
            changes.push(Change::Put(Table::Segments, segment.to_be_bytes().into(), indexed_to.to_be_bytes().into()));
        }
        self.store.apply(changes)
    }

    /// Whether an entry may name a copy of the record at `copied_from`: it does not name another one.
    fn takes(&self, digest: &Digest, copied_from: Option<Place>) -> Result<bool> {
        let Some(place) = copied_from else { return Ok(true) };
        Ok(self.get(digest)?.is_none_or(|location| location.place() == place))
    }

    /// Forgets records, each only if its entry still names that place.
    pub fn forget(&self, records: &[(Digest, Place)]) -> Result<()> {
        let _changing = lock(&self.changing);
        let mut changes = Vec::new();
        for (digest, place) in records {
            let names = |location: Option<Location>| location.is_some_and(|location| location.place() == *place);
            if names(self.get(digest)?) {
                changes.push(Change::Remove(Table::Records, digest.0.into()));
            }
            if names(self.get_damaged(digest)?) {
                changes.push(Change::Remove(Table::Damaged, digest.0.into()));
            }
        }
        self.store.apply(changes)
    }

    /// Forgets that records are damaged, each only if it is known to be so at that place.
    pub fn forget_damaged(&self, records: &[(Digest, Place)]) -> Result<()> {
        let _changing = lock(&self.changing);
        let mut changes = Vec::new();
        for (digest, place) in records {
            if self.get_damaged(digest)?.is_some_and(|location| location.place() == *place) {
                changes.push(Change::Remove(Table::Damaged, digest.0.into()));
            }
        }
        self.store.apply(changes)
    }

    /// Forgets a record of the catalogue, which says nothing any more.
    pub fn forget_catalogue(&self, record: &Record) -> Result<()> {
        self.store.apply(vec![Change::Remove(Table::Catalogue, record.key())])
    }

    /// The segments that have a record of the point which a removal is about.
    pub fn segments_with(&self, removal: &Record) -> Result<Vec<u64>> {
        let pairs = self.store.prefix(Table::PointRecords, &removal.key())?;
        let segment = |key: &[u8]| key.last_chunk().map(|segment| u64::from_be_bytes(*segment));
        Ok(pairs.iter().filter_map(|(key, _)| segment(key)).collect())
    }

    /// All that says that a segment has the record of a point, by segment.
    pub fn points_by_segment(&self) -> Result<BTreeMap<u64, Vec<Vec<u8>>>> {
        let mut all: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
        for (key, _) in self.store.prefix(Table::PointRecords, &[])? {
            let segment = key.last_chunk().map_or(0, |segment| u64::from_be_bytes(*segment));
            all.entry(segment).or_default().push(key);
        }
        Ok(all)
    }

    /// Forgets some of [`Index::points_by_segment`]: the segment is gone.
    pub fn forget_points(&self, keys: Vec<Vec<u8>>) -> Result<()> {
        self.store.apply(keys.into_iter().map(|key| Change::Remove(Table::PointRecords, key)).collect())
    }

    /// Forgets up to which byte a segment is indexed: it is gone.
    pub fn forget_segment(&self, segment: u64) -> Result<()> {
        let key = segment.to_be_bytes();
        self.store.apply(vec![Change::Remove(Table::Segments, key.into()), Change::Remove(Table::Scrubbed, key.into())])
    }

    /// Forgets all segments that are not in `existing`: their numbers may be used again.
    pub fn forget_segments_but(&self, existing: &[u64]) -> Result<()> {
        for (key, _) in self.store.prefix(Table::Segments, &[])? {
            let segment = key.try_into().map(u64::from_be_bytes).unwrap_or(0);
            if existing.binary_search(&segment).is_err() {
                self.forget_segment(segment)?;
            }
        }
        Ok(())
    }

    /// Makes everything that was published durable.
    pub fn sync(&self) -> Result<()> {
        self.store.sync()
    }

    /// Up to which byte a segment is indexed; 0 when it is not.
    pub fn indexed_to(&self, segment: u64) -> Result<u64> {
        self.number(Table::Segments, segment).map(|number| number.unwrap_or(0))
    }

    /// When a segment was last read and found whole, nanoseconds since 1970-01-01T00:00:00Z.
    pub fn scrubbed(&self, segment: u64) -> Result<Option<i64>> {
        Ok(self.number(Table::Scrubbed, segment)?.map(|number| number as i64))
    }

    /// Remembers that a segment was read and found whole.
    pub fn set_scrubbed(&self, segment: u64, now_ns: i64) -> Result<()> {
        let value = now_ns.to_be_bytes().into();
        self.store.apply(vec![Change::Put(Table::Scrubbed, segment.to_be_bytes().into(), value)])
    }

    fn number(&self, table: Table, segment: u64) -> Result<Option<u64>> {
        let bytes = self.store.get(table, &segment.to_be_bytes())?;
        Ok(bytes.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes))
    }

    /// What counts of the catalogue, by key.
    pub fn catalogue(&self) -> Result<Vec<(Record, Place)>> {
        let pairs = self.store.prefix(Table::Catalogue, &[])?;
        let entries = pairs.iter().map(|(_, value)| catalogue_entry(value));
        Ok(entries.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// What counts of the thing with this key (see [`Record::key`]), and where it stands.
    pub fn catalogue_entry(&self, key: &[u8]) -> Result<Option<(Record, Place)>> {
        let value = self.store.get(Table::Catalogue, key)?;
        value.map_or(Ok(None), |value| catalogue_entry(&value))
    }
}

fn digest(key: &[u8]) -> Option<Digest> {
    key.try_into().ok().map(Digest)
}

/// What a record is about, and a segment.
fn key_in(record: &Record, segment: u64) -> Vec<u8> {
    [&record.key()[..], &segment.to_be_bytes()].concat()
}

/// Kind, place, content.
fn catalogue_value(record: &Record, place: Place) -> Vec<u8> {
    let mut value = vec![record.kind() as u8];
    value.extend_from_slice(&place.segment.to_be_bytes());
    value.extend_from_slice(&place.offset.to_be_bytes());
    value.extend_from_slice(&record.encode());
    value
}

fn catalogue_entry(value: &[u8]) -> Result<Option<(Record, Place)>> {
    let split = || {
        let (kind, rest) = value.split_first()?;
        let (segment, rest) = rest.split_first_chunk::<8>()?;
        let (offset, content) = rest.split_first_chunk::<8>()?;
        let place = Place { segment: u64::from_be_bytes(*segment), offset: u64::from_be_bytes(*offset) };
        Some((Kind::from_wire(*kind)?, place, content))
    };
    let Some((kind, place, content)) = split() else { return Ok(None) };
    Ok(Record::decode(kind, content)?.pop().map(|record| (record, place)))
}
