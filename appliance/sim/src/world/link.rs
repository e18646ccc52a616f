//! A connection: an initiator, the appliance's session, and the messages between them, which arrive when they arrive.

use crate::image::Image;
use crate::initiator::{Initiator, Job};
use crate::model::{Kept, Model};
use crate::rng::Rng;
use crate::session::Session;
use std::collections::VecDeque;
use std::sync::Arc;
use understudy_appliance::error::Error;
use understudy_appliance::ingest::Ready;
use understudy_appliance::pool::Pool;
use understudy_format::group::Group;
use understudy_format::point::VolumeName;
use understudy_format::wire::Message;

/// What became of a connection.
pub enum Event {
    /// A message moved, or none could.
    Moved,
    /// The appliance stored the point; the initiator may never hear of it.
    Stored(Kept),
    /// The commit of a member of a group is held.
    Held(Group),
    /// Both ends are done.
    Over,
    /// The appliance ended it; the point of a commit that failed is in doubt.
    Failed(Error, Option<Kept>),
}

/// See the module documentation.
pub struct Link {
    initiator: Initiator,
    session: Session,
    up: VecDeque<Message>,
    down: VecDeque<Message>,
    /// Of the point, decided when the stream begins.
    number: u64,
    /// Whether it was there when the disk was full: then it ends, sooner or later.
    pub is_doomed: bool,
}

impl Link {
    /// A connection over which `job` is to be sent.
    pub fn new(job: Job, pool: Arc<Pool>) -> Self {
        let (initiator, session) = (Initiator::new(job), Session::new(pool));
        Self { initiator, session, up: VecDeque::new(), down: VecDeque::new(), number: 0, is_doomed: false }
    }

    /// The volume.
    pub fn name(&self) -> &VolumeName {
        &self.initiator.job().name
    }

    /// Moves one message, in one of the ways in which one can move.
    pub fn advance(&mut self, rng: &mut Rng, model: &Model) -> Event {
        match rng.below(3) {
            0 => self.speak(),
            1 => self.arrive(model),
            _ => self.answer(),
        }
    }

    fn speak(&mut self) -> Event {
        match self.initiator.poll() {
            Ok(message) => self.up.extend(message),
            Err(error) => return Event::Failed(error, None),
        }
        Event::Moved
    }

    fn arrive(&mut self, model: &Model) -> Event {
        let Some(message) = self.up.pop_front() else { return Event::Moved };
        if matches!(message, Message::Begin(_)) {
            self.number = model.next_number(self.name());
        }
        let is_alone = self.group().is_none();
        let kept = (matches!(message, Message::Commit(_)) && is_alone).then(|| self.kept());
        match (self.session.handle(message), kept) {
            (Ok(answer), kept) => {
                self.down.extend(answer);
                if let Some(group) = self.group().filter(|_| self.is_holding()) {
                    return Event::Held(group);
                }
                kept.map_or(Event::Moved, Event::Stored)
            }
            (Err(error), kept) => Event::Failed(error, kept),
        }
    }

    /// The group of the stream.
    pub fn group(&self) -> Option<Group> {
        self.initiator.job().group
    }

    /// Whether its commit is held.
    pub fn is_holding(&self) -> bool {
        self.session.is_holding()
    }

    /// The commit that is held.
    pub fn take_held(&mut self) -> Option<Ready> {
        self.session.take_held()
    }

    /// The point that there is once it is committed.
    pub fn kept(&self) -> Kept {
        let job = self.initiator.job();
        Kept { number: self.number, stream: job.stream, image: job.image.clone() }
    }

    /// Whether the stream has a base that was removed since.
    pub fn lacks_base(&self, model: &Model) -> bool {
        let job = self.initiator.job();
        let is_gone = |base: &Arc<Image>| model.points(&job.name).iter().all(|kept| kept.image != *base);
        job.base.as_ref().is_some_and(is_gone)
    }

    fn answer(&mut self) -> Event {
        let Some(message) = self.down.pop_front() else { return Event::Moved };
        match self.initiator.handle(message) {
            Err(error) => Event::Failed(error, None),
            Ok(()) if self.initiator.stored().is_some() => Event::Over,
            Ok(()) => Event::Moved,
        }
    }
}
