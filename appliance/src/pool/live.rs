//! Who still needs which records: what is under way relies on, what a collection found live, which points are in use.
//!
//! A stream may rely on a record that no point names: one that it stored itself, or one that it was told not to send; so may a moment
//! that is open. Both are *holders*. Invariants: looking a record up for a holder and pinning it is one step against the decision that the
//! record is dead ([`Live::sweep`]); what an ended holder relied on counts as live for a collection that is under way, because a
//! stream's point may be newer than the roots that the collection walked; it is never taken for walked, for what lies
//! under a page that a holder relied on may be pinned by nobody.

use super::ephemeral::Ephemeral;
use super::index::Location;
use crate::locks::{lock, read, write};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use understudy_format::point::VolumeName;
use uuid::Uuid;

/// Who uses a point that has a scratch overlay, for as long as there is one.
pub const OVERLAY: &str = "a scratch overlay";

/// A set of records: one bit each, by segment and ordinal. 2 MiB stand for 16 million records, 1 TiB in blocks of 64 KiB.
#[derive(Debug, Default)]
pub struct Bits {
    segments: BTreeMap<u64, Vec<u64>>,
}

impl Bits {
    /// Adds a record; whether it was not there.
    pub fn insert(&mut self, location: &Location) -> bool {
        let (word, bit) = (location.ordinal as usize / 64, 1 << (location.ordinal % 64));
        let words = self.segments.entry(location.segment).or_default();
        if words.len() <= word {
            words.resize(word + 1, 0);
        }
        let is_new = words[word] & bit == 0;
        words[word] |= bit;
        is_new
    }

    /// Whether a record is there.
    pub fn contains(&self, location: &Location) -> bool {
        let words = self.segments.get(&location.segment);
        let word = words.and_then(|words| words.get(location.ordinal as usize / 64));
        word.is_some_and(|word| word & 1 << (location.ordinal % 64) != 0)
    }

    /// Adds all of another set.
    pub fn merge(&mut self, other: &Self) {
        for (segment, more) in &other.segments {
            let words = self.segments.entry(*segment).or_default();
            if words.len() < more.len() {
                words.resize(more.len(), 0);
            }
            words.iter_mut().zip(more).for_each(|(word, more)| *word |= more);
        }
    }

    /// Forgets the records of a segment.
    pub fn forget(&mut self, segment: u64) {
        self.segments.remove(&segment);
    }
}

/// Which holder: no two of one run of the system are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HolderId(u64);

/// Who relies on records.
#[derive(Debug)]
struct Holder {
    /// The volume that a stream goes into, by name and UUID; `None` of a moment.
    into: Option<(VolumeName, Uuid)>,
    pins: Bits,
}

impl Holder {
    fn is_into(&self, name: &VolumeName) -> bool {
        self.into.as_ref().is_some_and(|(own, _)| own == name)
    }

    fn is_of(&self, volume: &Uuid) -> bool {
        !volume.is_nil() && self.into.as_ref().is_some_and(|(_, own)| own == volume)
    }
}

/// What the collection that is under way knows to be live.
#[derive(Debug, Default)]
struct Marks {
    /// What the walk from the roots came by.
    walked: Bits,
    /// What holders relied on that ended meanwhile, and copies.
    kept: Bits,
}

impl Marks {
    fn contains(&self, location: &Location) -> bool {
        self.walked.contains(location) || self.kept.contains(location)
    }
}

#[derive(Debug, Default)]
struct State {
    holders: BTreeMap<HolderId, Holder>,
    /// How many holders there were.
    count: u64,
    marks: Option<Marks>,
    /// Points in use: by volume and number, with who uses them.
    leases: HashMap<(Uuid, u64), Vec<&'static str>>,
}

impl State {
    fn begin(&mut self, into: Option<(VolumeName, Uuid)>) -> HolderId {
        self.count += 1;
        let id = HolderId(self.count);
        self.holders.insert(id, Holder { into, pins: Bits::default() });
        id
    }
}

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Live {
    state: Mutex<State>,
    sweeping: RwLock<()>,
}

impl Live {
    /// A stream, for which a volume is reserved by name and, unless that is nil, by UUID; `None` when it was not free.
    pub fn begin_stream(&self, name: &VolumeName, volume: Uuid) -> Option<HolderId> {
        let mut state = lock(&self.state);
        let is_taken = state.holders.values().any(|holder| holder.is_into(name) || holder.is_of(&volume));
        (!is_taken).then(|| state.begin(Some((name.clone(), volume))))
    }

    /// A moment, for which nothing is reserved.
    pub fn begin_moment(&self) -> HolderId {
        lock(&self.state).begin(None)
    }

    /// Ends a holder; what it relied on is live for a collection that is under way.
    pub fn end(&self, holder: HolderId) {
        let mut state = lock(&self.state);
        if let (Some(holder), Some(marks)) = (state.holders.remove(&holder), &mut state.marks) {
            marks.kept.merge(&holder.pins);
        }
    }

    /// Held while a record is looked up for a holder and pinned.
    pub fn pinning(&self) -> RwLockReadGuard<'_, ()> {
        read(&self.sweeping)
    }

    /// Held while records are found dead and forgotten: nothing is pinned meanwhile.
    pub fn sweep(&self) -> RwLockWriteGuard<'_, ()> {
        write(&self.sweeping)
    }

    /// A holder relies on a record.
    pub fn pin(&self, holder: HolderId, location: &Location) {
        if let Some(holder) = lock(&self.state).holders.get_mut(&holder) {
            holder.pins.insert(location);
        }
    }

    /// A copy of a record takes its place: who relied on the one relies on the other. Under [`Live::sweep`], once nobody
    /// finds the other place any more.
    pub fn moved(&self, from: &Location, to: &Location) {
        let mut state = lock(&self.state);
        for holder in state.holders.values_mut().filter(|holder| holder.pins.contains(from)) {
            holder.pins.insert(to);
        }
        if let Some(marks) = state.marks.as_mut().filter(|marks| marks.contains(from)) {
            marks.kept.insert(to);
        }
    }

    /// Begins a collection.
    pub fn begin_marks(&self) {
        lock(&self.state).marks = Some(Marks::default());
    }

    /// Ends a collection.
    pub fn end_marks(&self) {
        lock(&self.state).marks = None;
    }

    /// A point names a record; whether the walk had not come by it yet.
    pub fn mark(&self, location: &Location) -> bool {
        lock(&self.state).marks.as_mut().is_some_and(|marks| marks.walked.insert(location))
    }

    /// Whether a record is needed by anybody, while a collection is under way.
    pub fn is_live(&self, location: &Location) -> bool {
        let state = lock(&self.state);
        state.marks.as_ref().is_none_or(|marks| marks.contains(location))
            || state.holders.values().any(|holder| holder.pins.contains(location))
    }

    /// Forgets a segment that is gone.
    pub fn forget(&self, segment: u64) {
        let mut state = lock(&self.state);
        state.holders.values_mut().for_each(|holder| holder.pins.forget(segment));
        if let Some(marks) = &mut state.marks {
            marks.walked.forget(segment);
            marks.kept.forget(segment);
        }
    }

    /// Whether a stream into the volume is under way.
    pub fn is_streaming(&self, name: &VolumeName) -> bool {
        lock(&self.state).holders.values().any(|holder| holder.is_into(name))
    }

    /// Keeps a point from being removed; the caller made sure that it is there, under a lock that removing takes, too.
    pub fn lease(
        self: &Arc<Self>,
        volume: Uuid,
        point: u64,
        by: &'static str,
        moment: Option<Arc<Ephemeral>>,
    ) -> Lease {
        lock(&self.state).leases.entry((volume, point)).or_default().push(by);
        Lease { live: self.clone(), volume, point, by, _moment: moment }
    }

    /// How many use any point for this purpose.
    pub fn uses(&self, by: &str) -> usize {
        lock(&self.state).leases.values().flatten().filter(|used| **used == by).count()
    }

    /// Who uses a point.
    pub fn users(&self, volume: Uuid, point: u64) -> Vec<&'static str> {
        lock(&self.state).leases.get(&(volume, point)).cloned().unwrap_or_default()
    }
}

/// A point in use: it is not removed while this exists.
#[derive(Debug)]
pub struct Lease {
    live: Arc<Live>,
    volume: Uuid,
    point: u64,
    by: &'static str,
    /// What is there only while this exists.
    _moment: Option<Arc<Ephemeral>>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = lock(&self.live.state);
        let Some(users) = state.leases.get_mut(&(self.volume, self.point)) else { return };
        if let Some(at) = users.iter().position(|by| *by == self.by) {
            users.swap_remove(at);
        }
        if users.is_empty() {
            state.leases.remove(&(self.volume, self.point));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(segment: u64, ordinal: u32) -> Location {
        Location { segment, offset: 64, stored_length: 0, content_length: 0, ordinal, kind: 1 }
    }

    #[test]
    fn what_a_stream_relied_on_stays_live_after_its_end() {
        let (live, name) = (Live::default(), "v".parse().unwrap());
        let stream = live.begin_stream(&name, Uuid::nil()).unwrap();
        assert_eq!(live.begin_stream(&name, Uuid::nil()), None);
        live.pin(stream, &location(3, 700));
        live.begin_marks();
        assert!(live.is_live(&location(3, 700)) && !live.is_live(&location(3, 701)));
        live.moved(&location(3, 700), &location(9, 2));
        live.end(stream);
        assert!(live.is_live(&location(3, 700)) && live.is_live(&location(9, 2)));
        live.forget(3);
        assert!(!live.is_live(&location(3, 700)));
        live.end_marks();
        assert!(live.is_live(&location(1, 1)), "without a collection nothing is known to be dead");
    }

    /// Its point may share a page with others and be unpinned below it: the walk must go on there.
    #[test]
    fn what_an_ended_stream_relied_on_is_not_taken_for_walked() {
        let (live, name) = (Live::default(), "v".parse().unwrap());
        live.begin_marks();
        let stream = live.begin_stream(&name, Uuid::nil()).unwrap();
        live.pin(stream, &location(3, 7));
        live.end(stream);
        assert!(live.is_live(&location(3, 7)));
        assert!(live.mark(&location(3, 7)), "the walk has not come by it");
        assert!(!live.mark(&location(3, 7)));
    }

    #[test]
    fn leases_end_one_by_one() {
        let live = Arc::new(Live::default());
        let (one, two) = (live.lease(Uuid::nil(), 1, "an export", None), live.lease(Uuid::nil(), 1, "a stream", None));
        drop(one);
        assert_eq!(live.users(Uuid::nil(), 1), ["a stream"]);
        drop(two);
        assert!(live.users(Uuid::nil(), 1).is_empty());
    }
}
