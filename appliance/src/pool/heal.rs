//! Healing: content that was damaged is stored once more, at the end of the log.
//!
//! Nothing is overwritten: the damaged record stays where it is and the index names the new one; a replay of the
//! segments ends with the new one as well, because it stands later. Invariants: content is stored under a digest that it
//! was held against; nothing counts as healed before the new record and the index are durable; who relied on the
//! damaged record relies on the new one.

use super::Pool;
use super::check::Target;
use super::index::Location;
use super::log::{Epoch, Purpose};
use super::record::{Place, Record};
use crate::error::{Error, Result};
use crate::locks::lock;
use bytes::Bytes;
use understudy_format::Digest;
use understudy_format::codec::{Codec, decode_into, encode_into};
use understudy_format::layout::Layout;
use understudy_format::segment::{Kind, NewRecord, RecordHeader};

/// A block or page that is damaged, or needed and missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// Of the content.
    pub digest: Digest,
    /// Block or page.
    pub kind: Kind,
    /// Where the damaged record is; see [`Location::is_nowhere`].
    pub location: Location,
}

/// Content to be stored once more.
#[derive(Debug, Clone)]
pub struct Content {
    /// What it replaces.
    pub damage: Damage,
    /// With the digest of `damage`.
    pub bytes: Bytes,
}

impl Pool {
    /// All blocks and pages that are known to be damaged and were not stored again.
    pub fn damaged(&self) -> Result<Vec<Damage>> {
        let damage = |(digest, location): (Digest, Location)| {
            Kind::from_wire(location.kind).map(|kind| Damage { digest, kind, location })
        };
        Ok(self.index.damaged()?.into_iter().filter_map(damage).collect())
    }

    /// The damage of one digest, if it is known and nothing was stored in its place.
    pub fn damage(&self, digest: &Digest) -> Result<Option<Damage>> {
        let location = match self.index.get(digest)? {
            None => self.index.get_damaged(digest)?,
            Some(_) => None,
        };
        let damage = |location: Location| Some((Kind::from_wire(location.kind)?, location));
        Ok(location.and_then(damage).map(|(kind, location)| Damage { digest: *digest, kind, location }))
    }

    /// Remembers that a record which is needed is not there.
    pub fn mark_missing(&self, digest: &Digest, kind: Kind) -> Result<()> {
        tracing::error!(%digest, "needed, and not in the pool");
        self.index.mark_missing(digest, kind)
    }

    /// Remembers that a record stands in a segment that is gone.
    pub fn mark_gone(&self, digest: &Digest, location: Location) -> Result<()> {
        self.index.mark_damaged(digest, location)
    }

    /// Forgets damage that nobody needs repaired, if what was damaged is nowhere.
    pub fn forget_missing(&self, damage: &Damage) -> Result<()> {
        self.index.forget(&[(damage.digest, damage.location.place())])
    }

    /// Reads a damaged record once more; the error says in which way it is damaged.
    pub fn read_again(&self, damage: &Damage) -> Result<Bytes> {
        let Damage { digest, kind, location } = *damage;
        if location.is_nowhere() {
            let what = if kind == Kind::Page { "map page" } else { "block" };
            return Err(Error::Missing { what, digest });
        }
        self.segments.read(location, kind, digest)
    }

    /// The content of a damaged record, from what the pool itself has left of it: in memory, or behind a damaged header.
    pub fn salvage(&self, damage: &Damage) -> Option<Bytes> {
        let kept = match damage.kind {
            Kind::Page => self.pages.get(&damage.digest).map(|page| Bytes::copy_from_slice(page.bytes())),
            _ => self.blocks.get(&damage.digest),
        };
        kept.or_else(|| self.behind_header(damage))
    }

    /// The content of a record whose header is damaged: the index knows what the header said, but for the codec.
    fn behind_header(&self, damage: &Damage) -> Option<Bytes> {
        let Damage { digest, kind, location } = *damage;
        let stored = self.segments.raw(location, kind, digest).ok()?.slice(RecordHeader::SIZE..);
        let codec = if location.stored_length == location.content_length { Codec::Stored } else { Codec::Lz4 };
        let mut content = vec![0; location.content_length as usize];
        decode_into(codec, &stored, &mut content).ok()?;
        (kind.digest(&content) == digest).then(|| content.into())
    }

    /// Stores content once more: durable, and found by its digest, when this returns.
    pub fn store_again(&self, contents: &[Content]) -> Result<()> {
        let epoch = self.log.begin()?;
        let mut stored = Vec::new();
        for Content { damage, bytes } in contents {
            stored.clear();
            let codec = encode_into(bytes, &mut stored);
            let Damage { digest, kind, location } = *damage;
            let record = NewRecord { kind, codec, digest, content_length: bytes.len() as u32, stored: &stored };
            let (to, _) = self.log.store(epoch, &record, Purpose::Upkeep)?;
            let _sweep = self.live.sweep();
            self.live.moved(&location, &to);
        }
        self.log.sync(epoch)?;
        let digests: Vec<Digest> = contents.iter().map(|content| content.damage.digest).collect();
        self.index.forget_healed(&digests)?;
        self.index.sync()
    }

    /// Records once more what the catalogue has, where its record is damaged; returns how many still counted.
    pub fn record_again(&self, records: &[(Record, Place)]) -> Result<u64> {
        let epoch = self.log.begin()?;
        let _recording = lock(&self.recording);
        let mut count = 0;
        for (record, place) in records {
            let current = self.index.catalogue_entry(&record.key())?;
            if current.is_some_and(|(_, current)| current == *place) {
                self.log.enter(epoch, record.clone(), Purpose::Upkeep)?;
                count += 1;
            }
        }
        self.log.sync(epoch)?;
        self.index.sync()?;
        Ok(count)
    }

    /// Sees to it that nothing is appended to the segment that is being written, nor to one before it.
    pub fn leave_segment(&self) -> Result<()> {
        self.log.seal_open(self.log.begin()?).map(drop)
    }

    /// Copies blocks and pages to the end of the log, durably; those that cannot be read are passed over.
    pub fn copy_again(&self, records: &[Target]) -> Result<()> {
        let epoch = self.log.begin()?;
        for target in records {
            let Target { digest, kind, location } = *target;
            if self.index.get(&digest)? != Some(location) {
                continue;
            }
            let Ok((header, stored)) = self.segments.stored(location, kind, digest) else { continue };
            let (to, _) = self.append_copy(epoch, target, &header, &stored)?;
            let _sweep = self.live.sweep();
            self.live.moved(&location, &to);
        }
        self.log.sync(epoch)?;
        self.index.sync()
    }

    /// Appends a record as it was read from its place; returns where the copy is, and the bytes that were added.
    pub(super) fn append_copy(
        &self,
        epoch: Epoch,
        target: &Target,
        header: &RecordHeader,
        stored: &[u8],
    ) -> Result<(Location, u64)> {
        let Target { digest, kind, location } = *target;
        let codec = Codec::from_wire(header.codec)?;
        let record = NewRecord { kind, codec, digest, content_length: header.content_length, stored };
        self.log.copy(epoch, &record, location.place())
    }
}
