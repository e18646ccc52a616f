//! Extents that may have been written to since all of the volume was last known to be durable.
//!
//! After a loss of power the volume may hold any part of what was written and not synced; these extents are all that is uncertain then.
//! Invariants: the bit of an extent is durable before the first write to it; it is cleared only by a checkpoint, the sync of which began after
//! the last write to it ended. Extents that were written to lately stay, so that they are not made durable again and again.

use super::bits::Bits;
use super::lock;
use super::pages::PageFile;
use std::io;
use std::ops::Range;
use std::sync::Mutex;
use understudy_format::tap::EXTENT;
use understudy_net::claims::Claims;

/// Extents that are made durable before they are needed, where the one before is active: that is how volumes are filled.
const AHEAD: u64 = 8;
/// With more active extents than these the volume counts as one that is written to all over: then extents are made durable by the group, so that
/// a sync is not needed for each. After a loss of power that much more is read.
const MANY: u64 = 16;
/// Extents of a group.
const GROUP: u64 = 16;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Active {
    state: Mutex<State>,
    /// Locked before `state`.
    file: Mutex<PageFile>,
}

#[derive(Debug)]
struct State {
    /// In the file.
    durable: Bits,
    /// Written to since the last checkpoint began.
    recent: Bits,
}

/// How many extents a volume has.
pub(super) fn count(volume_size: u64) -> u64 {
    volume_size.div_ceil(EXTENT)
}

fn extents(bytes: &Range<u64>) -> Range<u64> {
    bytes.start / EXTENT..bytes.end.div_ceil(EXTENT)
}

impl Active {
    /// The extents that a file has.
    pub fn new(file: PageFile) -> Self {
        let durable = file.bits().clone();
        let recent = Bits::none(durable.count());
        Self { state: Mutex::new(State { durable, recent }), file: Mutex::new(file) }
    }

    /// A range of bytes is going to be written: its extents are durably active when this returns.
    pub fn touch(&self, bytes: &Range<u64>) -> io::Result<()> {
        let extents = extents(bytes);
        if lock(&self.state).touch(&extents) {
            return Ok(());
        }
        let mut file = lock(&self.file);
        let wanted = {
            let state = lock(&self.state);
            // Somebody else made them durable while this waited.
            if state.durable.contains_all(&extents) {
                return Ok(());
            }
            state.with_ahead(&extents)
        };
        file.store(&wanted)?;
        lock(&self.state).durable.merge(&wanted);
        Ok(())
    }

    /// Whether a range of bytes can be written without anything being made durable before; if so, it is going to be.
    pub fn touch_now(&self, bytes: &Range<u64>) -> bool {
        let mut state = lock(&self.state);
        let extents = extents(bytes);
        let is_durable = state.durable.contains_all(&extents);
        if is_durable {
            state.recent.insert(extents);
        }
        is_durable
    }

    /// A checkpoint begins, before anything is synced for it: the extents that are to stay for what was written before.
    pub fn begin(&self, claims: &Claims) -> Bits {
        let mut state = lock(&self.state);
        let none = Bits::none(state.recent.count());
        let before = std::mem::replace(&mut state.recent, none);
        // Who claims a range after this comes to `touch` after this.
        claims.asked().iter().for_each(|bytes| state.recent.insert(extents(bytes)));
        before
    }

    /// All that was written before the checkpoint began is durable.
    pub fn finish(&self, before: &Bits) -> io::Result<()> {
        let mut file = lock(&self.file);
        let wanted = {
            let mut state = lock(&self.state);
            let mut wanted = state.recent.clone();
            wanted.merge(before);
            state.durable.clone_from(&wanted);
            wanted
        };
        file.store(&wanted)
    }

    /// The checkpoint failed: it clears nothing, nor does the next one clear what this would have.
    pub fn give_up(&self, before: &Bits) {
        lock(&self.state).recent.merge(before);
    }

    /// No extent is active: all of the volume is durable, and nobody writes to it.
    pub fn clear(&self) -> io::Result<()> {
        let mut file = lock(&self.file);
        let mut state = lock(&self.state);
        let none = Bits::none(state.recent.count());
        *state = State { durable: none.clone(), recent: none.clone() };
        file.store(&none)
    }

    /// Bytes of the extents that are active.
    pub fn ranges(&self) -> Vec<Range<u64>> {
        let state = lock(&self.state);
        state.durable.runs().map(|run| run.start * EXTENT..run.end * EXTENT).collect()
    }
}

impl State {
    /// Whether extents that are going to be written are active already.
    fn touch(&mut self, extents: &Range<u64>) -> bool {
        self.recent.insert(extents.clone());
        self.durable.contains_all(extents)
    }

    /// What is or has to be active.
    fn with_ahead(&self, extents: &Range<u64>) -> Bits {
        let mut wanted = self.durable.clone();
        wanted.merge(&self.recent);
        if wanted.ones() > MANY {
            wanted.insert(extents.start / GROUP * GROUP..extents.end.div_ceil(GROUP) * GROUP);
        }
        if extents.start > 0 && self.durable.contains(extents.start - 1) {
            wanted.insert(extents.start..extents.end + AHEAD);
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tap::disk::Directory;
    use crate::tap::memory::MemoryDirectory;

    const COUNT: u64 = 100;

    fn stored(directory: &MemoryDirectory) -> Vec<(u64, u64)> {
        PageFile::open(directory.open("active").unwrap(), COUNT)
            .unwrap()
            .bits()
            .runs()
            .map(|run| (run.start, run.end))
            .collect()
    }

    fn fresh() -> (MemoryDirectory, Active, Claims) {
        let directory = MemoryDirectory::default();
        let file = PageFile::create(directory.open("active").unwrap(), COUNT).unwrap();
        (directory, Active::new(file), Claims::default())
    }

    #[test]
    fn extents_are_in_the_file_before_they_are_written_to_and_are_prepared_for_who_fills_the_volume() {
        let (directory, active, _) = fresh();
        active.touch(&(50 * EXTENT + 5..50 * EXTENT + 6)).unwrap();
        active.touch(&(9 * EXTENT - 1..9 * EXTENT + 1)).unwrap();
        assert_eq!(stored(&directory), [(8, 10), (50, 51)]);
        active.touch(&(10 * EXTENT..10 * EXTENT + 1)).unwrap();
        assert_eq!(stored(&directory), [(8, 11 + AHEAD), (50, 51)]);
    }

    #[test]
    fn a_volume_that_is_written_to_all_over_is_prepared_by_the_group() {
        let (directory, active, _) = fresh();
        let touch = |extent| active.touch(&(extent * EXTENT..extent * EXTENT + 1)).unwrap();
        (0..MANY / 2).for_each(|at| touch(at * 2 + 64));
        assert_eq!(stored(&directory).len() as u64, MANY / 2, "those alone");
        (0..MANY / 2).for_each(|at| touch(at * 2 + 33));
        assert_eq!(stored(&directory).last(), Some(&(78, 79)));
        touch(20);
        assert_eq!(stored(&directory)[0], (GROUP, 2 * GROUP));
    }

    #[test]
    fn what_is_not_active_is_not_written_at_once() {
        let (directory, active, claims) = fresh();
        assert!(!active.touch_now(&(5..6)));
        active.touch(&(5..6)).unwrap();
        assert!(active.touch_now(&(5..6)) && !active.touch_now(&(EXTENT - 1..EXTENT + 1)));
        let checkpoint = || active.finish(&active.begin(&claims)).unwrap();
        checkpoint();
        assert!(active.touch_now(&(5..6)), "and counts as written to");
        checkpoint();
        assert_eq!(stored(&directory), [(0, 1)]);
        checkpoint();
        checkpoint();
        assert!(!active.touch_now(&(5..6)));
    }

    #[test]
    fn a_checkpoint_keeps_what_was_written_lately_and_what_is_under_way() {
        let (directory, active, claims) = fresh();
        let touch = |extent| active.touch(&(extent * EXTENT..extent * EXTENT + 1)).unwrap();
        touch(1);
        let under_way = claims.take(30 * EXTENT..30 * EXTENT + 1);
        touch(30);
        let checkpoint = || {
            let before = active.begin(&claims);
            touch(60);
            active.finish(&before).unwrap();
        };
        checkpoint();
        assert_eq!(stored(&directory), [(1, 2), (30, 31), (60, 61)], "written since the one before");
        checkpoint();
        assert_eq!(stored(&directory), [(30, 31), (60, 61)], "still under way when the one before began");
        drop(under_way);
        checkpoint();
        checkpoint();
        assert_eq!(stored(&directory), [(60, 61)]);
        touch(1);
        assert_eq!(stored(&directory), [(1, 2), (60, 61)], "cleared, so made durable again");
    }

    #[test]
    fn a_checkpoint_that_failed_clears_nothing_next_time_either() {
        let (directory, active, claims) = fresh();
        active.touch(&(0..1)).unwrap();
        let before = active.begin(&claims);
        active.give_up(&before);
        let before = active.begin(&claims);
        active.finish(&before).unwrap();
        assert_eq!(stored(&directory), [(0, 1)]);
        active.clear().unwrap();
        assert_eq!(stored(&directory), []);
    }
}
