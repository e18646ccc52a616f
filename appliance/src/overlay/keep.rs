//! Keeping an overlay: what it shows becomes the first point of a new volume, or the next one of the volume that it is over.
//!
//! Invariants: nothing is written to the overlay meanwhile, nor is it opened, so the point is one moment's image; it costs what was written,
//! for blocks that the overlay owns nothing of are taken over with the map pages above them; the order of a commit is the
//! pool's. The overlay stays.

use super::{Overlay, Overlays};
use crate::error::{Error, Result, at};
use crate::fold::{Folded, Folding};
use crate::pool::{NewPoint, StreamGuard};
use std::sync::Arc;
use understudy_format::BlockId;
use understudy_format::journal::Position;
use understudy_format::map::Map;
use understudy_format::nbd::Failure;
use understudy_format::point::{Label, Point, Volume, VolumeName};
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

/// What a point is that an overlay becomes in its own volume.
#[derive(Debug, Clone, Copy)]
pub struct Given {
    /// Stands for the stream that would have brought the point.
    pub stream: Uuid,
    /// By which the primary knows the point.
    pub position: Position,
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
        let (_, source) = self.below(volume, number)?;
        let guard = self.pool.begin_stream(&kept.name, Uuid::nil())?;
        if self.pool.volume(&kept.name).is_some() {
            let name = &kept.name;
            return Err(Error::Refused(format!("there is a volume {name} already; name a new one with --as")));
        }
        let _still = overlay.hold_still();
        let folded = self.fold(&guard, overlay, source.map)?;
        let point = Point { label: kept.label, ..folded.point(kept.uuid, 1, kept.stream, kept.now_ns) };
        let block_size = source.map.geometry.block_size();
        let volume = Volume { uuid: kept.uuid, name: kept.name, block_size, created_ns: kept.now_ns };
        self.pool.commit(vec![NewPoint { guard: &guard, volume: &volume, point: point.clone() }])?;
        Ok((volume, point))
    }

    /// Makes the next point of its volume out of an overlay that nobody uses: durable when this returns. Nobody uses it before `settle` is done with that.
    pub fn give_back<T>(
        &self,
        volume: &Uuid,
        number: u64,
        given: Given,
        settle: impl FnOnce(&Volume, &Point) -> Result<T>,
    ) -> Result<T> {
        let alone = self.to_keep(volume, number)?;
        let overlay = alone.overlay().expect("one to keep is open");
        let connections = Arc::strong_count(overlay).saturating_sub(2);
        if connections > 0 {
            let name = overlay.name();
            return Err(Error::Refused(format!(
                "{name} is used by {connections} connections: unmount and detach it first (`understudy detach {name}`)"
            )));
        }
        let (volume, source) = self.below(volume, number)?;
        let guard = self.pool.begin_stream(&volume.name, volume.uuid)?;
        let _still = overlay.hold_still();
        let folded = self.fold(&guard, overlay, source.map)?;
        let made = folded.point(volume.uuid, self.pool.next_number(&volume.uuid), given.stream, given.now_ns);
        let point = Point { base: Some(number), position: Some(given.position), ..made };
        self.pool.commit(vec![NewPoint { guard: &guard, volume: &volume, point: point.clone() }])?;
        settle(&volume, &point)
    }

    /// The point that an overlay is over.
    fn below(&self, volume: &Uuid, number: u64) -> Result<(Volume, Point)> {
        let gone = || Error::refused(format!("there is no point {number} of volume {volume}"));
        self.pool.point(volume, number).ok_or_else(gone)
    }

    /// Stores the blocks of which the overlay owns anything, as it shows them.
    fn fold(&self, guard: &StreamGuard, overlay: &Overlay, base: Map) -> Result<Folded> {
        let geometry = base.geometry;
        let failed = |failure: Failure| Error::Refused(format!("{} cannot be kept: {failure}", overlay.name()));
        let mut folding = Folding::over(&self.pool, guard, base);
        let (mut content, mut next) = (Vec::new(), 0);
        while next < geometry.block_count() {
            let owned = overlay.next_owned(geometry.offset(BlockId(next)));
            let Some(offset) = owned.map_err(|error| failed(error.into()))? else { break };
            let block = geometry.block_at(offset);
            content.resize(geometry.block_len(block) as usize, 0);
            if overlay.read(geometry.offset(block), &mut content).map_err(failed)? == Content::Zeroes {
                content.fill(0);
            }
            folding.put(block, &content)?;
            next = block.0 + 1;
        }
        folding.finish()
    }
}
