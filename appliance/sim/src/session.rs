//! The appliance's end of a stream without I/O: the same [`Ingest`] that real connections feed.

use std::sync::Arc;
use understudy_appliance::error::{Error, Result};
use understudy_appliance::ingest::{Announced, Ingest, Over, Ready};
use understudy_appliance::journals::Journals;
use understudy_appliance::pool::Pool;
use understudy_format::journal::Position;
use understudy_format::point::VolumeName;
use understudy_format::wire::Message;
use uuid::Uuid;

/// Offers that an initiator may have in flight.
const WINDOW: u32 = 3;

/// One connection to a pool.
#[derive(Debug)]
pub struct Session {
    pool: Arc<Pool>,
    journals: Option<Arc<Journals>>,
    pushed: Option<(VolumeName, Option<Position>)>,
    ingest: Option<Ingest>,
    in_group: bool,
    held: Option<Ready>,
}

impl Session {
    /// A connection over which nothing was said yet.
    pub fn new(pool: Arc<Pool>) -> Self {
        Self { pool, journals: None, pushed: None, ingest: None, in_group: false, held: None }
    }

    /// One to an appliance that follows taps.
    pub fn beside(pool: Arc<Pool>, journals: Arc<Journals>) -> Self {
        Self { journals: Some(journals), ..Self::new(pool) }
    }

    /// Takes a message of the initiator and returns the answer, if one is due; after an error the connection is over.
    pub fn handle(&mut self, message: Message) -> Result<Option<Message>> {
        match (message, &mut self.ingest) {
            (Message::Push { name, group, over, .. }, None) => {
                (self.pushed, self.in_group) = (Some((name, over)), group.is_some());
                Ok(None)
            }
            (Message::Begin(begin), None) => {
                let announced = self.pushed.take();
                let (name, position) = announced.ok_or_else(|| Error::refused("a stream that was not announced"))?;
                let over = self.journals.clone().zip(position).map(|(journals, position)| Over { journals, position });
                // The name of the stream serves as that of its volume, when this is new: both must only be unique.
                let (new_uuid, now_ns) = (begin.stream, begin.created_ns);
                let announced = Announced { name, label: None, new_uuid, now_ns, learns: true, over };
                let ingest = self.ingest.insert(Ingest::begin(self.pool.clone(), announced, begin)?);
                Ok(Some(Message::Accept { window: WINDOW, cursor: ingest.cursor(), again: ingest.again()? }))
            }
            (Message::Offer(head), Some(ingest)) => {
                Ok(Some(Message::Need { sequence: head.sequence, wanted: ingest.offer(&head)? }))
            }
            (Message::Chunk(chunk), Some(ingest)) => ingest.chunk(&chunk).map(|()| None),
            (Message::Commit(commit), Some(_)) => {
                let ingest = self.ingest.take().expect("just seen");
                if self.in_group {
                    self.held = Some(ingest.ready(&commit)?);
                    return Ok(None);
                }
                Ok(Some(Message::Stored(ingest.commit(&commit)?)))
            }
            (other, _) => Err(Error::refused(format!("{} has no place in a stream", other.name()))),
        }
    }

    /// Whether the commit of a member of a group is held.
    pub fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// The commit that is held; from then on the connection has nothing to say.
    pub fn take_held(&mut self) -> Option<Ready> {
        self.held.take()
    }
}

/// Names are made from numbers, so that a run can be had again.
pub fn uuid(number: u64) -> Uuid {
    Uuid::from_u128(u128::from(number) << 64 | 0x5eed)
}

/// The number that a name was made from.
pub fn number(uuid: Uuid) -> u64 {
    (uuid.as_u128() >> 64) as u64
}
