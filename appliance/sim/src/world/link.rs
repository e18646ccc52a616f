//! A connection: an initiator, the appliance's session, and the messages between them, which arrive when they arrive.

use crate::initiator::{Initiator, Job};
use crate::model::{Kept, Model};
use crate::rng::Rng;
use crate::session::Session;
use std::collections::VecDeque;
use std::sync::Arc;
use understudy_appliance::error::Error;
use understudy_appliance::pool::Pool;
use understudy_format::point::VolumeName;
use understudy_format::wire::Message;

/// What became of a connection.
pub enum Event {
    /// A message moved, or none could.
    Moved,
    /// The appliance stored the point; the initiator may never hear of it.
    Stored(Kept),
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
    /// Whether it was there when the disk was full: then it ends, sooner or later.
    pub is_doomed: bool,
}

impl Link {
    /// A connection over which `job` is to be sent.
    pub fn new(job: Job, pool: Arc<Pool>) -> Self {
        let (initiator, session) = (Initiator::new(job), Session::new(pool));
        Self { initiator, session, up: VecDeque::new(), down: VecDeque::new(), is_doomed: false }
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
            Err(error) => return Event::Failed(error.into(), None),
        }
        Event::Moved
    }

    fn arrive(&mut self, model: &Model) -> Event {
        let Some(message) = self.up.pop_front() else { return Event::Moved };
        let kept = matches!(message, Message::Commit(_)).then(|| self.kept(model));
        match (self.session.handle(message), kept) {
            (Ok(answer), kept) => {
                self.down.extend(answer);
                kept.map_or(Event::Moved, Event::Stored)
            }
            (Err(error), kept) => Event::Failed(error, kept),
        }
    }

    fn kept(&self, model: &Model) -> Kept {
        let job = self.initiator.job();
        let number = model.newest(&job.name).map_or(1, |kept| kept.number + 1);
        Kept { number, stream: job.stream, image: job.image.clone() }
    }

    fn answer(&mut self) -> Event {
        let Some(message) = self.down.pop_front() else { return Event::Moved };
        match self.initiator.handle(message) {
            Err(error) => Event::Failed(error.into(), None),
            Ok(()) if self.initiator.stored().is_some() => Event::Over,
            Ok(()) => Event::Moved,
        }
    }
}
