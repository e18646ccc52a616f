//! The initiator's end of a stream without I/O: what it says next, and what it makes of an answer.
//!
//! Around the same sending half that the real one uses; what is sent is its [`Feed`]'s. Invariant: it only says that a point is stored
//! when the appliance said so.

use crate::image::Image;
use crate::session::number;
use std::collections::VecDeque;
use std::sync::Arc;
use understudy_appliance::error::Result;
use understudy_format::chunk::Entry;
use understudy_format::group::Group;
use understudy_format::point::{Point, VolumeName};
use understudy_format::session::{Prepared, Sender, pack};
use understudy_format::stream::Begin;
use understudy_format::wire::Message;
use understudy_format::{BlockId, Digest, FormatError};
use uuid::Uuid;

/// Blocks of a chunk.
const CHUNK_BLOCKS: u64 = 16;

/// What is sent in a stream.
pub trait Feed {
    /// How it is announced.
    fn push(&self) -> Message;
    /// How it begins.
    fn begin(&self) -> Begin;
    /// What the blocks from `first` to before `end` are, in runs; asked for once each, ascending.
    fn entries(&mut self, first: u64, end: u64) -> Result<Vec<Entry>>;
    /// The bytes of a block, as they were when that was asked for.
    fn block(&self, block: BlockId) -> &[u8];
    /// The root of all, once it may be committed.
    fn root(&self) -> Option<Digest>;
}

/// A volume that is to be sent as it stands still.
#[derive(Debug, Clone)]
pub struct Job {
    /// Into this volume.
    pub name: VolumeName,
    /// The name of the stream.
    pub stream: Uuid,
    /// What the volume has before, when the stream is an incremental one.
    pub base: Option<Arc<Image>>,
    /// What it has after.
    pub image: Arc<Image>,
    /// The streams that it commits with.
    pub group: Option<Group>,
}

impl Feed for Job {
    fn push(&self) -> Message {
        Message::Push { name: self.name.clone(), label: None, group: self.group, over: None }
    }

    fn begin(&self) -> Begin {
        Begin {
            volume: Uuid::nil(),
            stream: self.stream,
            geometry: self.image.geometry(),
            base: self.base.as_ref().map(|base| base.as_base()),
            created_ns: number(self.stream) as i64,
        }
    }

    fn entries(&mut self, first: u64, end: u64) -> Result<Vec<Entry>> {
        Ok(self.image.entries(self.base.as_deref(), first, end))
    }

    fn block(&self, block: BlockId) -> &[u8] {
        self.image.block(block)
    }

    fn root(&self) -> Option<Digest> {
        Some(self.image.root())
    }
}

/// See the module documentation.
#[derive(Debug)]
pub struct Initiator<F = Job> {
    job: F,
    greeting: VecDeque<Message>,
    sender: Option<Sender<()>>,
    next_block: u64,
    committing: bool,
    stored: Option<Point>,
}

impl<F: Feed> Initiator<F> {
    /// One that sends `job`.
    pub fn new(job: F) -> Self {
        let greeting = [job.push(), Message::Begin(job.begin())].into();
        Self { job, greeting, sender: None, next_block: 0, committing: false, stored: None }
    }

    /// What is sent.
    pub fn job(&self) -> &F {
        &self.job
    }

    /// The point, once the appliance said that it is stored.
    pub fn stored(&self) -> Option<&Point> {
        self.stored.as_ref()
    }

    /// Whether the commit was sent: from then on the point may be there.
    pub fn is_committing(&self) -> bool {
        self.committing
    }

    /// Takes a message of the appliance.
    pub fn handle(&mut self, message: Message) -> Result<()> {
        match (message, &mut self.sender) {
            (Message::Accept { window, .. }, None) => self.sender = Some(Sender::online(self.job.begin(), window)),
            (Message::Need { sequence, wanted }, Some(sender)) => sender.need(sequence, &wanted)?,
            (Message::Stored(point), Some(_)) if self.committing => self.stored = Some(point),
            (other, _) => {
                return Err(FormatError::invalid("session", format!("{} has no place here", other.name())).into());
            }
        }
        Ok(())
    }

    /// The next message for the appliance; `None` when an answer is needed first.
    pub fn poll(&mut self) -> Result<Option<Message>> {
        if let Some(message) = self.greeting.pop_front() {
            return Ok(Some(message));
        }
        let Some(sender) = self.sender.as_mut().filter(|_| !self.committing) else { return Ok(None) };
        let blocks = self.job.begin().geometry.block_count();
        loop {
            if let Some(ready) = sender.take_ready()? {
                return Ok(Some(Message::Chunk(pack(ready.head, true, |block| self.job.block(block))?)));
            }
            if let Some(root) = self.job.root().filter(|_| self.next_block == blocks && sender.is_idle()) {
                self.committing = true;
                return Ok(Some(Message::Commit(sender.commit(root)?)));
            }
            if self.next_block == blocks || !sender.has_room() {
                return Ok(None);
            }
            let end = blocks.min(self.next_block + CHUNK_BLOCKS);
            let entries = self.job.entries(self.next_block, end)?;
            self.next_block = end;
            if let Some(head) = sender.offer(Prepared { entries, token: () }) {
                return Ok(Some(Message::Offer(head)));
            }
        }
    }
}
