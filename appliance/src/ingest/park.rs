//! Streams that were cut: recording how far one came, and going on behind that.
//!
//! Invariants: what is recorded stands behind whole chunks whose blocks are durable; only the very stream that was cut goes
//! on, and any other one makes its record void, durably, before it stores its first block; nothing that was recorded is
//! ever a reason to refuse a stream.

use super::{Announced, Ingest, Target};
use crate::error::{Error, Result};
use crate::pool::{Pool, StreamGuard};
use std::convert::Infallible;
use std::sync::Arc;
use understudy_format::map::{Builder, Page, PageStore};
use understudy_format::point::Point;
use understudy_format::session::{Cursor, Progress, Receiver};
use understudy_format::stream::{Begin, Totals};
use understudy_format::{BlockId, Digest, ErrorKind};

/// Bytes that a stream stores before it records how far it came: what the loss of the appliance costs to read again.
const STORED_MAX: u64 = 64 << 20;
/// Bytes of the volume that a stream covers before it does: zero, unchanged and known blocks cost the source's reading only.
const COVERED_MAX: u64 = 4 << 30;

/// Where a stream was when it was recorded last.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mark {
    next_block: u64,
    stored_bytes: u64,
}

/// What becomes of a stream that may have come before.
#[derive(Debug)]
pub enum Resumed {
    /// It goes on from its cursor.
    Goes(Box<Ingest>),
    /// It is this point: only the news of it was lost.
    Stored(Box<Point>),
}

impl Ingest {
    /// Begins a stream, or goes on with it where it was cut; refuses one that does not fit the volume.
    pub fn resume(pool: Arc<Pool>, announced: Announced, begin: Begin) -> Result<Resumed> {
        let guard = pool.begin_stream(&announced.name, begin.volume)?;
        let newest = pool.volume(&announced.name).and_then(|entry| entry.points.last().cloned());
        if let Some(point) = newest.filter(|point| point.stream == begin.stream) {
            return Ok(Resumed::Stored(Box::new(point)));
        }
        let (name, parked) = (announced.name.clone(), pool.progress(&announced.name));
        let same = parked.as_ref().map(|parked| same_stream(parked, &begin));
        let ingest = match (parked, same) {
            (Some(parked), Some(Ok(()))) => {
                tracing::info!(volume = %name, block = parked.next_block(), "a stream that was cut goes on");
                Self::behind(pool, guard, &parked, announced)?
            }
            (Some(parked), Some(Err(reason))) => {
                let block = parked.next_block();
                tracing::info!(volume = %name, block, %reason, "the progress of a stream that was cut is dropped");
                Self::fresh(pool, guard, announced, begin)?
            }
            _ => Self::fresh(pool, guard, announced, begin)?,
        };
        Ok(Resumed::Goes(Box::new(ingest)))
    }

    fn behind(pool: Arc<Pool>, guard: StreamGuard, parked: &Progress, announced: Announced) -> Result<Self> {
        let target = Target::find(&pool, &announced, &parked.begin, Some(&parked.volume))?;
        let (begin, next_block) = (parked.begin, BlockId(parked.next_block()));
        let receiver = Receiver::resume(begin, parked.totals, next_block);
        let base = target.base.as_ref().map(|point| point.map);
        let builder = Builder::resume(begin.geometry, base, parked.map.clone());
        let mut ingest = Self::make(pool, guard, target, receiver, builder, announced);
        (ingest.stored_bytes, ingest.new_bytes) = (parked.stored_bytes, parked.new_bytes);
        ingest.mark = ingest.here();
        Ok(ingest)
    }

    /// Where the stream goes on.
    pub fn cursor(&self) -> Cursor {
        let (next_block, totals) = (self.receiver.next_block(), *self.receiver.totals());
        if next_block.0 == 0 {
            return Cursor::START;
        }
        let Ok(prefix) = self.builder.prefix(&mut Nowhere);
        Cursor { next_block, totals, root: prefix.root() }
    }

    /// Whether so much came since the last record that another is due.
    pub fn is_due(&self) -> bool {
        let covered = self.receiver.next_block().0 - self.mark.next_block;
        let covered = covered.saturating_mul(self.receiver.begin().geometry.block_size().bytes().into());
        self.stored_bytes - self.mark.stored_bytes >= STORED_MAX || covered >= COVERED_MAX
    }

    /// Records how far the stream came: all of it is durable when this returns.
    pub fn record(&mut self, now_ns: i64) -> Result<()> {
        if self.mark.next_block == self.receiver.next_block().0 {
            return Ok(());
        }
        self.pool.save_progress(&self.guard, self.progress(now_ns))?;
        self.mark = self.here();
        Ok(())
    }

    /// The stream was cut: records how far it came.
    pub fn park(mut self, now_ns: i64) {
        let (name, block) = (self.volume.name.clone(), self.receiver.next_block().0);
        match self.record(now_ns) {
            Ok(()) => tracing::info!(volume = %name, block, "a stream was cut; it can go on behind this block"),
            Err(error) => {
                tracing::warn!(volume = %name, %error, "a stream was cut, and how far it came is not recorded")
            }
        }
    }

    /// The stream failed: when it was for what it said, the same would fail again, so it has no progress any more.
    pub fn give_up(&self, error: &Error) {
        if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Refused) {
            drop_parked(&self.pool, &self.guard, &self.volume.name, self.began_ns);
        }
    }

    fn here(&self) -> Mark {
        Mark { next_block: self.receiver.next_block().0, stored_bytes: self.stored_bytes }
    }

    fn progress(&self, now_ns: i64) -> Progress {
        Progress {
            volume: self.volume.clone(),
            label: self.label.clone(),
            begin: *self.receiver.begin(),
            totals: *self.receiver.totals(),
            map: self.builder.partial(),
            recorded_ns: now_ns,
            stored_bytes: self.stored_bytes,
            new_bytes: self.new_bytes,
        }
    }
}

/// Makes what was recorded of the volume's streams void.
///
/// Failing here fails nothing: what stays recorded belongs to a stream that nobody asks for again.
pub(super) fn drop_parked(pool: &Pool, guard: &StreamGuard, name: &understudy_format::point::VolumeName, now_ns: i64) {
    let Some(parked) = pool.progress(name) else { return };
    let map = Builder::new(parked.begin.geometry, None).partial();
    let (totals, stored_bytes, new_bytes) = (Totals::default(), 0, 0);
    let void = Progress { totals, map, recorded_ns: now_ns, stored_bytes, new_bytes, ..(*parked).clone() };
    if let Err(error) = pool.save_progress(guard, void) {
        tracing::warn!(volume = %name, %error, "the progress of a stream cannot be dropped");
    }
}

/// Why what is parked is not the stream that begins now.
fn same_stream(parked: &Progress, begin: &Begin) -> Result<(), String> {
    if parked.begin.stream != begin.stream {
        return Err(format!("another stream begins ({}, not {})", begin.stream, parked.begin.stream));
    }
    if parked.begin != *begin {
        return Err("the stream begins with another size, base or time than before".into());
    }
    match parked.totals.blocks() == parked.next_block() {
        true => Ok(()),
        false => Err("what was recorded contradicts itself".into()),
    }
}

/// Takes pages that nobody reads: the root of a prefix is all that is wanted.
struct Nowhere;

impl PageStore for Nowhere {
    type Error = Infallible;

    fn load(&mut self, _: Digest) -> Result<Arc<Page>, Infallible> {
        unreachable!("a map without a base reads no pages")
    }

    fn store(&mut self, _: Digest, _: &Page) -> Result<(), Infallible> {
        Ok(())
    }
}
