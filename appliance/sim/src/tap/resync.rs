//! The stream that a tap sends beside its journal, of what the appliance may have otherwise, read while the volume is written to.
//!
//! Invariants: only what is dirty is read; it is committed when the journal is durable up to where it was when reading ended.

use super::content::Content;
use super::disks::SimVolume;
use crate::image::{Blocks, in_runs, of_block};
use crate::initiator::{Feed, Initiator};
use crate::session::Session;
use std::sync::Arc;
use understudy_appliance::error::{Error, Result};
use understudy_format::chunk::Entry;
use understudy_format::point::{Point, VolumeName};
use understudy_format::stream::{Base, Begin};
use understudy_format::wire::Message;
use understudy_format::{BlockId, Digest, Geometry};
use understudy_initiator::tap::core::Core;
use understudy_initiator::tap::disk::Volume;
use understudy_initiator::tap::snapshot::DirtySnapshot;
use uuid::Uuid;

/// What is dirty of a volume.
#[derive(Debug)]
pub struct Stale {
    /// The volume.
    pub name: VolumeName,
    /// The name of the stream.
    pub stream: Uuid,
    /// When it begins.
    pub now_ns: i64,
    /// What is dirty.
    pub snapshot: DirtySnapshot,
    /// The newest point; without one everything is read.
    pub base: Option<Content>,
    /// What was read so far, over the base.
    pub read: Content,
    /// Where it is read.
    pub volume: Arc<SimVolume>,
    /// Of its tap.
    pub core: Arc<Core>,
    /// The last entry when all was read.
    pub read_through: Option<u64>,
}

impl Stale {
    fn geometry(&self) -> Geometry {
        self.read.geometry()
    }

    fn entry(&mut self, block: BlockId) -> Result<Entry> {
        let range = self.geometry().byte_range(block, 1);
        if self.base.is_some() && !self.snapshot.run_at(range.start).0 {
            return Ok(Entry::Unchanged { count: 1 });
        }
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let failed = |source| Error::Disk { path: self.volume.name().into(), source };
        self.volume.read_at(&mut bytes, range.start).map_err(failed)?;
        self.read.put(block, &bytes);
        let digest = self.read.digest(block);
        let is_same = self.base.as_ref().is_some_and(|base| base.digest(block) == digest);
        Ok(if is_same { Entry::Unchanged { count: 1 } } else { of_block(digest, bytes.len() as u32) })
    }
}

impl Feed for Stale {
    fn push(&self) -> Message {
        Message::Push { name: self.name.clone(), label: None, group: None, over: Some(self.snapshot.over) }
    }

    fn begin(&self) -> Begin {
        let (geometry, size) = (self.geometry(), self.geometry().volume_size());
        let base = self.base.as_ref().map(|base| Base { root: base.root(), size });
        Begin { volume: Uuid::nil(), stream: self.stream, geometry, base, created_ns: self.now_ns }
    }

    fn entries(&mut self, first: u64, end: u64) -> Result<Vec<Entry>> {
        let entries: Vec<Entry> = (first..end).map(|block| self.entry(BlockId(block))).collect::<Result<_>>()?;
        if end == self.geometry().block_count() {
            self.read_through = Some(self.core.last_sequence());
        }
        Ok(in_runs(entries.into_iter()))
    }

    fn block(&self, block: BlockId) -> &[u8] {
        self.read.block(block)
    }

    fn root(&self) -> Option<Digest> {
        let is_covered = self.read_through.is_some_and(|read| self.core.standing().durable >= read);
        is_covered.then(|| self.read.root())
    }
}

/// A stream on its way.
#[derive(Debug)]
pub struct Resync {
    initiator: Initiator<Stale>,
    session: Session,
}

/// How far one step brought it.
#[derive(Debug)]
pub enum Step {
    /// A message was passed.
    Moved,
    /// Neither end has anything to say at present.
    Waiting,
    /// The appliance has the point; the tap may never hear of it.
    Stored(Point),
}

impl Resync {
    /// A stream of what is dirty.
    pub fn new(stale: Stale, session: Session) -> Self {
        Self { initiator: Initiator::new(stale), session }
    }

    /// What is sent.
    pub fn stale(&self) -> &Stale {
        self.initiator.job()
    }

    /// Passes a message to the appliance, and its answer back.
    pub fn step(&mut self) -> Result<Step> {
        let Some(message) = self.initiator.poll()? else { return Ok(Step::Waiting) };
        match self.session.handle(message)? {
            Some(Message::Stored(point)) => Ok(Step::Stored(point)),
            Some(answer) => self.initiator.handle(answer).map(|()| Step::Moved),
            None => Ok(Step::Moved),
        }
    }
}
