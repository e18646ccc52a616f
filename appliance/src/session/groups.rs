//! The groups of streams that come in: their members gather, and the last one that is ready commits for all.
//!
//! Invariants: a group settles once, and everybody in it learns of it; what is held of a member goes with its seat, so waiting costs nobody anything
//! but its own volume; a group is of the peer that began it, and nobody else learns of it or comes to it; the UUID of a group that is settled is refused for as long as one of its members may come.

use super::gathering::{AWAY_MAX, Gathering};
use crate::access::Peer;
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use crate::ingest::Ready;
use crate::locks::lock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use understudy_format::group::Group;
use understudy_format::point::VolumeName;
use understudy_format::wire::Message;
use uuid::Uuid;

/// Groups that are remembered, settled or not.
const GROUPS_MAX: usize = 1024;
/// Groups of one peer that are not settled.
const UNDER_WAY_MAX: usize = 64;
/// How often it is looked whether somebody is overdue.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What became of a group.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// All points are there.
    Committed,
    /// None is, for this reason.
    Failed(String),
}

#[derive(Debug)]
struct Entry {
    /// Who began it.
    peer: Peer,
    /// `None` once everybody is ready, or the group has failed.
    gathering: Option<Gathering<Ready>>,
    outcome: watch::Sender<Option<Outcome>>,
    settled: Option<Duration>,
}

impl Entry {
    fn settle(&mut self, outcome: Outcome, now: Duration) {
        if self.settled.is_none() {
            self.settled = Some(now);
            self.gathering = None;
            self.outcome.send_replace(Some(outcome));
        }
    }

    /// Fails a group that has waited long enough.
    fn look(&mut self, now: Duration) {
        if let Some(reason) = self.gathering.as_ref().and_then(|gathering| gathering.overdue(now)) {
            self.settle(Outcome::Failed(reason), now);
        }
    }
}

/// See the module documentation.
#[derive(Debug)]
pub struct Groups {
    clock: SystemClock,
    all: Mutex<HashMap<Uuid, Entry>>,
}

impl Default for Groups {
    fn default() -> Self {
        Self { clock: SystemClock::start(), all: Mutex::default() }
    }
}

impl Groups {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.clock.elapsed_ns())
    }

    /// A seat in the group for the stream of a peer into a volume.
    pub fn come(self: &Arc<Self>, peer: &Peer, group: Group, name: &VolumeName) -> Result<Seat> {
        let (now, mut all) = (self.now(), lock(&self.all));
        all.values_mut().for_each(|entry| entry.look(now));
        all.retain(|_, entry| entry.settled.is_none_or(|settled| now.saturating_sub(settled) <= AWAY_MAX));
        if !all.contains_key(&group.uuid) {
            check_room(&all, peer)?;
        }
        let fresh = || Entry {
            peer: peer.clone(),
            gathering: Some(Gathering::new(group.members, now)),
            outcome: watch::channel(None).0,
            settled: None,
        };
        let entry = all.entry(group.uuid).or_insert_with(fresh);
        if entry.peer != *peer {
            return Err(refused(&group, "its UUID is taken, each attempt takes one of its own"));
        }
        match &mut entry.gathering {
            Some(gathering) => gathering.come(name, group.members).map_err(|reason| refused(&group, &reason))?,
            None => return Err(refused(&group, &over(entry.outcome.borrow().as_ref()))),
        }
        let outcome = entry.outcome.subscribe();
        Ok(Seat { groups: self.clone(), group, name: name.clone(), outcome })
    }
}

/// Fails unless a peer may begin another group.
fn check_room(all: &HashMap<Uuid, Entry>, peer: &Peer) -> Result<()> {
    let own = all.values().filter(|entry| entry.settled.is_none() && entry.peer == *peer).count();
    let full = |count| Err(Error::Busy(format!("{count} groups are under way or were just now; try again later")));
    match (own, all.len()) {
        (UNDER_WAY_MAX.., _) => full(own),
        (_, GROUPS_MAX..) => full(all.len()),
        _ => Ok(()),
    }
}

fn refused(group: &Group, reason: &str) -> Error {
    Error::Group(format!("group {}: {reason}; what came of this stream is kept for its next run", group.uuid))
}

/// Why nobody can come to a group any more.
fn over(outcome: Option<&Outcome>) -> String {
    match outcome {
        Some(Outcome::Failed(reason)) => format!("it is not committed: {reason}"),
        _ => "it is committed already, each attempt takes a UUID of its own".into(),
    }
}

/// The place of a stream in its group, which it leaves when this is dropped.
#[derive(Debug)]
pub struct Seat {
    groups: Arc<Groups>,
    group: Group,
    name: VolumeName,
    outcome: watch::Receiver<Option<Outcome>>,
}

impl Seat {
    /// Calls `step` on the group, which is there as long as somebody has a seat.
    fn with<T>(&self, step: impl FnOnce(&mut Entry, Duration) -> T) -> Option<T> {
        let (now, mut all) = (self.groups.now(), lock(&self.groups.all));
        all.get_mut(&self.group.uuid).map(|entry| step(entry, now))
    }

    /// Holds the commit; when it was the last one, returns those of all members, to be committed and [settled](Self::settle).
    pub fn hold(&self, ready: Ready) -> Option<Vec<Ready>> {
        self.with(|entry, now| {
            let all = entry.gathering.as_mut()?.hold(&self.name, ready, now)?;
            entry.gathering = None;
            Some(all)
        })?
    }

    /// Tells everybody what became of the group.
    pub fn settle(&self, outcome: Outcome) {
        self.with(|entry, now| entry.settle(outcome, now));
    }

    /// This member failed, and with it the group.
    pub fn fail(&self, reason: &str) {
        self.settle(Outcome::Failed(format!("{}: {reason}", self.name)));
    }

    /// Returns once the group is settled: an error that says why it failed.
    pub async fn settled(&self) -> Result<()> {
        let mut outcome = self.outcome.clone();
        loop {
            let settled = outcome.wait_for(Option::is_some);
            match tokio::time::timeout(LOOK_EVERY, settled).await {
                Ok(Ok(outcome)) => match &*outcome {
                    Some(Outcome::Failed(_)) => return Err(refused(&self.group, &over(outcome.as_ref()))),
                    _ => return Ok(()),
                },
                // A group that is not settled is not forgotten.
                Ok(Err(_)) => return Err(Error::Closing),
                Err(_) => drop(self.with(Entry::look)),
            }
        }
    }

    /// What a member is told that waits.
    pub fn waiting(&self) -> Message {
        let members = self.group.members;
        let told = self.with(|entry, _| {
            let gathering = entry.gathering.as_ref();
            gathering.map_or((members, String::new()), |gathering| (gathering.ready(), gathering.lacking()))
        });
        let (ready, lacking) = told.unwrap_or_default();
        Message::Waiting { ready, members, lacking }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.with(|entry, now| {
            entry.gathering.iter_mut().for_each(|gathering| gathering.leave(&self.name, now));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> Peer {
        Peer::Client(name.parse().unwrap())
    }

    fn group(number: u128) -> Group {
        Group { uuid: Uuid::from_u128(number), members: 2 }
    }

    #[test]
    fn nobody_comes_to_the_group_of_another() {
        let (groups, name) = (Arc::new(Groups::default()), "v".parse().unwrap());
        let _seat = groups.come(&peer("a"), group(1), &name).unwrap();
        let error = groups.come(&peer("b"), group(1), &"w".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("its UUID is taken"), "{error}");
        groups.come(&peer("a"), group(1), &"w".parse().unwrap()).unwrap();
    }

    #[test]
    fn one_peer_leaves_room_for_others() {
        let (groups, name) = (Arc::new(Groups::default()), "v".parse().unwrap());
        let come = |who: &str, number| groups.come(&peer(who), group(number), &name);
        let seats: Vec<_> = (0..UNDER_WAY_MAX as u128).map(|number| come("a", number).unwrap()).collect();
        assert!(matches!(come("a", 100), Err(Error::Busy(_))));
        come("b", 101).unwrap();
        drop(seats);
    }
}
