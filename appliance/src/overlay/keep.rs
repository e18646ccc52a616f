//! Keeping an overlay: what it shows becomes the first point of a new volume.
//!
//! Invariants: nothing is written to the overlay meanwhile, nor is it opened, so the point is one moment's image; it costs what was written,
//! for blocks that the overlay owns nothing of are taken over with the map pages above them; the order of a commit is the
//! pool's. The overlay stays.

use super::{Overlay, Overlays};
use crate::error::{Error, Result, at};
use crate::pool::{NewPoint, Pool, StreamGuard};
use std::sync::Arc;
use understudy_format::codec::encode_into;
use understudy_format::map::Builder;
use understudy_format::nbd::Failure;
use understudy_format::point::{Label, Point, Volume, VolumeName};
use understudy_format::{BlockId, Digest, Geometry};
use understudy_net::export::{Content, Export};
use uuid::Uuid;

/// Bytes that may have been written to an overlay that is kept while it is used. Writers wait meanwhile, and with them the
/// threads that serve all exports: for seconds, not for minutes.
const IN_USE_MAX: u64 = 1 << 30;

/// What becomes of an overlay.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The new volume.
    pub name: VolumeName,
    /// For its first point.
    pub label: Option<Label>,
    /// The new volume.
    pub uuid: Uuid,
    /// Stands for the stream that would have brought the point.
    pub stream: Uuid,
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    pub now_ns: i64,
}

impl Overlays {
    /// Makes a new volume out of the overlay over a point: durable when this returns.
    pub fn keep(&self, volume: &Uuid, number: u64, kept: Kept) -> Result<(Volume, Point)> {
        let alone = self.to_keep(volume, number)?;
        let overlay = alone.overlay().expect("one to keep is open");
        // One is the registry's, one is ours.
        let (connections, owned) = (Arc::strong_count(overlay).saturating_sub(2), overlay.owned_bytes());
        let owned = owned.map_err(at(self.pool.dir()))?;
        if connections > 0 && owned > IN_USE_MAX {
            return Err(Error::Busy(format!(
                "{} is used by {connections} connections, which would wait for as long as it takes to store {owned} bytes; \
                 detach it first",
                overlay.name()
            )));
        }
        let gone = || Error::refused(format!("there is no point {number} of volume {volume}"));
        let (_, source) = self.pool.point(volume, number).ok_or_else(gone)?;
        let guard = self.pool.begin_stream(&kept.name, Uuid::nil())?;
        if self.pool.volume(&kept.name).is_some() {
            let name = &kept.name;
            return Err(Error::Refused(format!("there is a volume {name} already; name a new one with --as")));
        }
        let _still = overlay.hold_still();
        let geometry = source.map.geometry;
        let builder = Builder::new(geometry, Some(source.map));
        let keeper = Keeper { pool: &self.pool, guard: &guard, overlay, geometry, builder, sums: Sums::default() };
        let (map, sums) = keeper.run()?;
        let point = Point {
            volume: kept.uuid,
            number: 1,
            base: None,
            created_ns: kept.now_ns,
            map,
            stream: kept.stream,
            changed_blocks: sums.changed_blocks,
            stored_bytes: sums.stored_bytes,
            new_bytes: sums.new_bytes,
            label: kept.label,
            position: None,
        };
        let block_size = geometry.block_size();
        let volume = Volume { uuid: kept.uuid, name: kept.name, block_size, created_ns: kept.now_ns };
        self.pool.commit(vec![NewPoint { guard: &guard, volume: &volume, point: point.clone() }])?;
        Ok((volume, point))
    }
}

/// What keeping added.
#[derive(Debug, Default)]
struct Sums {
    changed_blocks: u64,
    stored_bytes: u64,
    new_bytes: u64,
}

struct Keeper<'a> {
    pool: &'a Arc<Pool>,
    guard: &'a StreamGuard,
    overlay: &'a Overlay,
    geometry: Geometry,
    builder: Builder,
    sums: Sums,
}

impl Keeper<'_> {
    fn run(mut self) -> Result<(understudy_format::map::Map, Sums)> {
        let (blocks, mut next) = (self.geometry.block_count(), 0);
        let mut pages = self.pool.pages(Some(self.guard));
        while next < blocks {
            let owned = self.overlay.next_owned(self.geometry.offset(BlockId(next)));
            let owned = owned.map_err(|error| self.failed(error.into()))?;
            let block = owned.map_or(blocks, |offset| self.geometry.block_at(offset).0);
            self.builder.unchanged(block - next, &mut pages)?;
            if block < blocks {
                match self.block(BlockId(block))? {
                    None => self.builder.zero(1, &mut pages)?,
                    Some(digest) => self.builder.block(digest, &mut pages)?,
                }
            }
            next = block + 1;
        }
        let map = self.builder.finish(&mut pages)?;
        self.sums.stored_bytes += pages.stored_bytes;
        Ok((map, self.sums))
    }

    /// Stores a block as the overlay shows it; `None` when it is zero.
    fn block(&mut self, block: BlockId) -> Result<Option<Digest>> {
        let mut content = vec![0; self.geometry.block_len(block) as usize];
        let read = self.overlay.read(self.geometry.offset(block), &mut content);
        self.sums.changed_blocks += 1;
        if read.map_err(|failure| self.failed(failure))? == Content::Zeroes {
            return Ok(None);
        }
        let digest = Digest::of_block(&content);
        if digest.is_zero() {
            return Ok(None);
        }
        if self.pool.block_length(self.guard, &digest)?.is_none() {
            let mut stored = Vec::new();
            let codec = encode_into(&content, &mut stored);
            let length = content.len() as u32;
            self.sums.stored_bytes += self.pool.store_block(self.guard, digest, codec, length, &stored)?;
            self.sums.new_bytes += u64::from(length);
        }
        Ok(Some(digest))
    }

    fn failed(&self, failure: Failure) -> Error {
        Error::Refused(format!("{} cannot be kept: {failure}", self.overlay.name()))
    }
}
