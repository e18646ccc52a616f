//! The initiator's end of a stream without I/O: what it says next, and what it makes of an answer.
//!
//! Around the same sending half that the real one uses. Invariant: it only says that a point is stored when the
//! appliance said so.

use crate::image::Image;
use crate::session::number;
use std::collections::VecDeque;
use std::sync::Arc;
use understudy_format::FormatError;
use understudy_format::group::Group;
use understudy_format::point::{Point, VolumeName};
use understudy_format::session::{Prepared, Sender, pack};
use understudy_format::stream::Begin;
use understudy_format::wire::Message;
use uuid::Uuid;

/// Blocks of a chunk.
const CHUNK_BLOCKS: u64 = 16;

/// A stream that is to be sent.
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

impl Job {
    fn begin(&self) -> Begin {
        Begin {
            volume: Uuid::nil(),
            stream: self.stream,
            geometry: self.image.geometry(),
            base: self.base.as_ref().map(|base| base.as_base()),
            created_ns: number(self.stream) as i64,
        }
    }
}

/// See the module documentation.
#[derive(Debug)]
pub struct Initiator {
    job: Job,
    greeting: VecDeque<Message>,
    sender: Option<Sender<()>>,
    next_block: u64,
    committing: bool,
    stored: Option<Point>,
}

impl Initiator {
    /// One that sends `job`.
    pub fn new(job: Job) -> Self {
        let push = Message::Push { name: job.name.clone(), label: None, group: job.group, over: None };
        let greeting = [push, Message::Begin(job.begin())].into();
        Self { job, greeting, sender: None, next_block: 0, committing: false, stored: None }
    }

    /// What is sent.
    pub fn job(&self) -> &Job {
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
    pub fn handle(&mut self, message: Message) -> Result<(), FormatError> {
        match (message, &mut self.sender) {
            (Message::Accept { window, .. }, None) => self.sender = Some(Sender::online(self.job.begin(), window)),
            (Message::Need { sequence, wanted }, Some(sender)) => sender.need(sequence, &wanted)?,
            (Message::Stored(point), Some(_)) if self.committing => self.stored = Some(point),
            (other, _) => return Err(FormatError::invalid("session", format!("{} has no place here", other.name()))),
        }
        Ok(())
    }

    /// The next message for the appliance; `None` when an answer is needed first.
    pub fn poll(&mut self) -> Result<Option<Message>, FormatError> {
        if let Some(message) = self.greeting.pop_front() {
            return Ok(Some(message));
        }
        let Some(sender) = self.sender.as_mut().filter(|_| !self.committing) else { return Ok(None) };
        let blocks = self.job.image.geometry().block_count();
        loop {
            if let Some(ready) = sender.take_ready()? {
                return Ok(Some(Message::Chunk(pack(ready.head, true, |block| self.job.image.block(block))?)));
            }
            if self.next_block == blocks && sender.is_idle() {
                self.committing = true;
                return Ok(Some(Message::Commit(sender.commit(self.job.image.root())?)));
            }
            if self.next_block == blocks || !sender.has_room() {
                return Ok(None);
            }
            let end = blocks.min(self.next_block + CHUNK_BLOCKS);
            let entries = self.job.image.entries(self.job.base.as_deref(), self.next_block, end);
            self.next_block = end;
            if let Some(head) = sender.offer(Prepared { entries, token: () }) {
                return Ok(Some(Message::Offer(head)));
            }
        }
    }
}
