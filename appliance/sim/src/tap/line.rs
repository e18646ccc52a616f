//! The session in which a journal travels, without I/O: what the tap sends, what the appliance makes durable, and what the tap hears of it.
//!
//! Around the same core and the same follower that real connections feed. Invariants: messages arrive in order, or never; nothing is
//! answered before it is durable, unless the appliance is hasty on purpose.

use std::collections::VecDeque;
use std::sync::Arc;
use understudy_appliance::error::Result;
use understudy_appliance::journals::{Follower, Journals};
use understudy_appliance::pool::Pool;
use understudy_format::point::VolumeName;
use understudy_initiator::tap::core::{Batch, Core, Decision, Seen};
use uuid::Uuid;

/// Bytes of one message, unless one entry is longer.
const MESSAGE_BYTES: usize = 64 << 10;

/// What a tap asks for.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The volume.
    pub name: &'a VolumeName,
    /// Its bytes.
    pub volume_size: u64,
    /// The journal.
    pub journal: Uuid,
    /// That the primary has.
    pub generation: u64,
}

/// What the appliance answers, and what follows the tap from then on.
#[derive(Debug)]
pub struct Answer {
    follower: Follower,
    volume: Uuid,
    generation: u64,
    /// What there is.
    pub seen: Seen,
}

impl Answer {
    /// The appliance's.
    pub fn to(asked: &Asked<'_>, pool: &Pool, journals: &Arc<Journals>, now_ns: i64) -> Result<Self> {
        let Asked { name, volume_size, journal, generation } = *asked;
        journals.check_primary(name, generation)?;
        let entry = pool.volume(name);
        let newest = entry.as_ref().and_then(|entry| entry.newest());
        let follower = journals.follow(name, journal, volume_size, "the tap".into(), now_ns)?;
        Ok(Self {
            volume: entry.as_ref().map_or(Uuid::nil(), |entry| entry.volume.uuid),
            generation: journals.generation(name),
            seen: Seen {
                durable: follower.durable(),
                newest: newest.map_or(0, |point| point.number),
                position: newest.and_then(|point| point.position),
            },
            follower,
        })
    }

    /// What the tap does with it; `None` when this session is of no use.
    pub fn agree(self, core: &Core, journal: Uuid) -> std::io::Result<Option<Line>> {
        let Self { follower, volume, generation, seen } = self;
        let sent = match core.decide(&seen)? {
            Decision::GoOn => {
                core.remember(volume, generation)?;
                core.durable(seen.durable);
                seen.durable
            }
            Decision::Begin(everything) => {
                core.remember(volume, generation)?;
                core.begin_journal(journal, &seen, everything)?;
                0
            }
            Decision::GiveUp(reason) => {
                core.lost(reason);
                return Ok(None);
            }
            Decision::Wait(_) => return Ok(None),
        };
        Ok(Some(Line { follower, journal, sent, up: VecDeque::new(), down: VecDeque::new(), hasty: false }))
    }
}

/// See the module documentation.
#[derive(Debug)]
pub struct Line {
    follower: Follower,
    /// The journal that travels.
    pub journal: Uuid,
    sent: u64,
    up: VecDeque<Batch>,
    down: VecDeque<u64>,
    /// Whether the appliance answers as soon as entries are on their way, as one would that has the order wrong.
    hasty: bool,
}

impl Line {
    /// The same, to an appliance that is hasty or not.
    pub fn with_haste(self, hasty: bool) -> Self {
        Self { hasty, ..self }
    }

    /// The tap sends what it has.
    pub fn speak(&mut self, core: &Core) -> std::io::Result<()> {
        if let Some(batch) = core.pending(self.sent, MESSAGE_BYTES)? {
            self.sent = batch.through;
            self.down.extend(self.hasty.then_some(batch.through));
            self.up.push_back(batch);
        }
        Ok(())
    }

    /// The appliance takes a message.
    pub fn arrive(&mut self) -> Result<()> {
        let Some(batch) = self.up.pop_front() else { return Ok(()) };
        let through = self.follower.append(batch.first, &batch.bytes)?;
        self.down.push_back(through);
        Ok(())
    }

    /// The tap hears what is durable.
    pub fn hear(&mut self, core: &Core) {
        if let Some(through) = self.down.pop_front() {
            core.durable(through);
        }
    }

    /// The connection ends, and the appliance notices.
    pub fn close(self) -> Result<()> {
        self.follower.save()
    }
}
