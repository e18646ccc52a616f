//! What must hold of a tap, whatever happens to it: a tap in memory, and an appliance that replays what it was given.

use super::super::memory::{MemoryDirectory, MemoryVolume};
use super::*;
use std::sync::atomic::AtomicI64;
use understudy_format::BlockSize;
use understudy_format::journal::{Change, Order, entries};

pub(super) const SIZE: u64 = 1 << 20;
const BLOCK: u64 = 4096;
pub(super) const JOURNAL: Uuid = Uuid::from_u128(1);

#[derive(Debug, Default)]
struct Hands(AtomicI64);

impl Clock for Hands {
    fn now_ns(&self) -> i64 {
        self.0.fetch_add(1_000_000_000, Ordering::SeqCst)
    }
}

pub(super) fn parts(volume: &Arc<MemoryVolume>, directory: &Arc<MemoryDirectory>) -> Parts {
    Parts {
        volume: volume.clone(),
        directory: directory.clone(),
        geometry: Geometry::new(SIZE, BlockSize::new(BLOCK as u32).unwrap()).unwrap(),
        journal_max: 1 << 20,
        clock: Arc::new(Hands::default()),
    }
}

/// What an appliance makes of what a tap sends.
pub(super) struct Appliance {
    point: Vec<u8>,
    number: u64,
    pub(super) position: Option<Position>,
    /// Of the journal that it follows, all entries.
    entries: Vec<u8>,
    pub(super) durable: u64,
    journal: Uuid,
}

impl Appliance {
    fn new() -> Self {
        let (point, journal) = (vec![0; SIZE as usize], Uuid::nil());
        Self { point, number: 0, position: None, entries: Vec::new(), durable: 0, journal }
    }

    fn seen(&self, journal: Uuid) -> Seen {
        let durable = if journal == self.journal { self.durable } else { 0 };
        Seen { durable, newest: self.number, position: self.position }
    }

    /// Follows a journal; the one before is folded to its end.
    fn follow(&mut self, journal: Uuid) {
        if self.journal != journal {
            self.fold();
            (self.journal, self.durable) = (journal, 0);
            self.entries.clear();
        }
    }

    fn take(&mut self, core: &Core) {
        while let Some(batch) = core.pending(self.durable, 100_000).unwrap() {
            assert_eq!(batch.first, self.durable + 1);
            self.entries.extend_from_slice(&batch.bytes);
            self.durable = batch.through;
        }
    }

    /// Makes a point at the end of the journal, when the newest one is in it.
    fn fold(&mut self) {
        if self.position.is_some_and(|position| position.journal == self.journal) {
            replay(&self.entries, &mut self.point);
            self.number += 1;
            self.position = Some(Position { journal: self.journal, sequence: self.durable });
        }
    }

    /// Takes a stream of what is dirty, and makes a point of it and the journal.
    fn stream(&mut self, core: &Core, snapshot: &DirtySnapshot) {
        let mut at = 0;
        while at < SIZE {
            let (is_dirty, end) = snapshot.run_at(at);
            if is_dirty {
                core.volume().read_at(&mut self.point[at as usize..end as usize], at).unwrap();
            }
            at = end;
        }
        self.take(core);
        self.position = Some(Position { journal: self.journal, sequence: 0 });
        self.fold();
    }

    /// A session until the tap follows; how many bytes were streamed.
    fn session(&mut self, core: &Core, new: Uuid) -> u64 {
        let journal = core.standing().journal.unwrap_or(new);
        self.follow(journal);
        match core.decide(&self.seen(journal)).unwrap() {
            Decision::GoOn => core.durable(self.durable),
            Decision::Begin(everything) => {
                core.begin_journal(journal, &self.seen(journal), everything).unwrap();
            }
            Decision::GiveUp(reason) => {
                core.lost(reason);
                return self.session(core, Uuid::from_u128(new.as_u128() + 100));
            }
            Decision::Wait(text) => panic!("{text}"),
        }
        let Some(snapshot) = core.dirty() else { return 0 };
        self.stream(core, &snapshot);
        assert!(core.resynchronised(&snapshot).unwrap());
        core.durable(self.durable);
        snapshot.bytes()
    }

    pub(super) fn check(&mut self, core: &Core, volume: &MemoryVolume) {
        self.take(core);
        self.fold();
        assert!(self.point == volume.content(), "the point is not the volume");
    }
}

fn replay(bytes: &[u8], volume: &mut [u8]) {
    for entry in entries(bytes, Order::new(SIZE, 1, 0)) {
        let (entry, payload) = entry.unwrap();
        let Some((offset, length)) = entry.change.range() else { continue };
        let range = &mut volume[offset as usize..(offset + length) as usize];
        match entry.change {
            Change::Write { .. } => range.copy_from_slice(&bytes[payload]),
            _ => range.fill(0),
        }
    }
}

/// A tap that follows, with the volume full of `1`.
pub(super) fn following() -> (Arc<MemoryVolume>, Arc<MemoryDirectory>, Core, Appliance) {
    let (volume, directory) = (MemoryVolume::with(vec![1; SIZE as usize]), Arc::new(MemoryDirectory::default()));
    let core = Core::open(parts(&volume, &directory)).unwrap();
    let mut appliance = Appliance::new();
    assert_eq!(core.standing().reason, Some(Reason::New));
    assert_eq!(appliance.session(&core, JOURNAL), SIZE);
    assert_eq!((core.standing().phase, core.standing().dirty_bytes), (Phase::Following, 0));
    appliance.check(&core, &volume);
    (volume, directory, core, appliance)
}

#[test]
fn what_is_written_is_in_the_volume_and_in_the_journal() {
    let (volume, _, core, mut appliance) = following();
    core.write(5, b"hello").unwrap();
    core.zero(100, 50, false).unwrap();
    core.trim(8192, 4096).unwrap();
    let mark = core.flush().unwrap().unwrap();
    assert_eq!((mark, core.last_sequence()), (Position { journal: JOURNAL, sequence: 4 }, 4));
    appliance.check(&core, &volume);
    assert_eq!(&volume.content()[4..11], b"\x01hello\x01");
    assert_eq!(volume.cut().content(), volume.content(), "flushed");
}

#[test]
fn a_stream_that_is_read_while_writes_go_on_is_one_moment_with_the_journal() {
    let (volume, directory) = (MemoryVolume::with(vec![1; SIZE as usize]), Arc::new(MemoryDirectory::default()));
    let (core, mut appliance) = (Core::open(parts(&volume, &directory)).unwrap(), Appliance::new());
    core.write(0, &[2; 100]).unwrap();
    appliance.follow(JOURNAL);
    core.begin_journal(JOURNAL, &appliance.seen(JOURNAL), None).unwrap();
    core.write(50, &[3; 100]).unwrap();
    let snapshot = core.dirty().unwrap();
    appliance.stream(&core, &snapshot);
    core.write(70, &[4; 100]).unwrap();
    assert!(core.resynchronised(&snapshot).unwrap());
    appliance.check(&core, &volume);
}

#[test]
fn a_tap_that_was_closed_goes_on_and_reads_nothing() {
    let (volume, directory, core, mut appliance) = following();
    core.write(0, &[7; 5000]).unwrap();
    core.close().unwrap();
    assert!(core.write(0, &[8]).is_err() && core.flush().is_err());
    drop(core);
    let core = Core::open(parts(&volume, &directory.cut())).unwrap();
    assert_eq!((core.standing().phase, core.standing().last), (Phase::Following, 1));
    assert_eq!(appliance.session(&core, Uuid::from_u128(2)), 0);
    core.write(3000, &[9; 5000]).unwrap();
    appliance.check(&core, &volume);
}

#[test]
fn a_volume_that_was_written_past_the_tap_is_read_as_a_whole() {
    let (volume, directory, core, mut appliance) = following();
    core.close().unwrap();
    volume.write_at(&[9], 12345).unwrap();
    let core = Core::open(parts(&volume, &directory)).unwrap();
    assert!(matches!(core.standing().reason, Some(Reason::Touched(_))));
    assert_eq!(appliance.session(&core, Uuid::from_u128(2)), SIZE);
    appliance.check(&core, &volume);
}

/// The tap ends with what the disk made of it; the next one makes the appliance the same again without reading everything where it can.
fn ends(cut: impl Fn(&MemoryDirectory, &Arc<MemoryVolume>) -> (Arc<MemoryDirectory>, Arc<MemoryVolume>)) {
    let (volume, directory, core, mut appliance) = following();
    core.write(0, &[7; 5000]).unwrap();
    appliance.take(&core);
    core.durable(appliance.durable);
    core.write(100_000, &[8; 10]).unwrap();
    core.flush().unwrap();
    core.write(300_000, &[9; 10]).unwrap();
    let (directory, volume) = cut(&directory, &volume);
    let core = Core::open(parts(&volume, &directory)).unwrap();
    assert_eq!(core.standing().reason, Some(Reason::Unclean));
    let streamed = appliance.session(&core, Uuid::from_u128(2));
    assert!(streamed > 0);
    appliance.check(&core, &volume);
}

#[test]
fn a_tap_that_was_killed_makes_the_appliance_the_same_again() {
    ends(|directory, volume| (directory.kill(), volume.clone()));
}

#[test]
fn a_host_that_lost_power_makes_the_appliance_the_same_again() {
    ends(|directory, volume| (directory.cut(), volume.cut()));
}

#[test]
fn what_needs_no_disk_is_written_at_once_and_nothing_else() {
    let (volume, directory, core, mut appliance) = following();
    assert!(core.write_now(5, b"hello").is_none(), "the extent is not active");
    core.write(5, b"hello").unwrap();
    core.write_now(6, b"again").unwrap().unwrap();
    assert!(core.write_now(0, &[7; 100_000]).is_none(), "long");
    assert_eq!(core.last_sequence(), 2);
    appliance.check(&core, &volume);
    assert_eq!(&volume.content()[5..11], b"hagain");
    directory.fail(true);
    core.flush().unwrap();
    assert!(core.write_now(6, b"fails").is_none(), "nothing can be kept");
    core.close().unwrap_err();
    assert!(core.write_now(6, b"ended").is_none());
}

#[test]
fn a_journal_at_its_limit_becomes_dirty_blocks_and_writes_go_on() {
    let (volume, directory, core, mut appliance) = following();
    for at in 0..20 {
        core.write(at * 50_000, &[at as u8 + 10; 40_000]).unwrap();
        core.write(0, &vec![at as u8; 40_000]).unwrap();
    }
    let standing = core.standing();
    assert_eq!((standing.phase, standing.reason), (Phase::Dirty, Some(Reason::Limit(1 << 20))));
    assert!(directory.list().unwrap().iter().all(|name| !name.ends_with(".journal")), "its files are gone");
    assert!(standing.dirty_bytes < SIZE);
    core.write(999_999, &[1; 7]).unwrap();
    let streamed = appliance.session(&core, Uuid::from_u128(2));
    assert!(streamed < SIZE, "only what is dirty: {streamed}");
    appliance.check(&core, &volume);
}

#[test]
fn a_state_directory_that_fails_fails_no_write_and_leaves_nothing_to_be_believed() {
    let (volume, directory, core, mut appliance) = following();
    directory.fail(true);
    core.write(0, &[7; 5000]).unwrap();
    core.flush().unwrap();
    assert_eq!(core.standing().phase, Phase::Dirty);
    assert!(!directory.list().unwrap().contains(&"state".into()));
    assert!(core.begin_journal(JOURNAL, &appliance.seen(JOURNAL), None).is_err());
    core.write(8192, &[8; 5000]).unwrap();
    directory.fail(false);
    assert_eq!(appliance.session(&core, Uuid::from_u128(2)), SIZE);
    core.write(9000, &[9; 5000]).unwrap();
    appliance.check(&core, &volume);
}

#[test]
fn a_volume_that_fails_fails_the_write_and_is_read_again_where_it_is_uncertain() {
    let (volume, _, core, mut appliance) = following();
    volume.fail(true);
    assert!(core.write(0, &[7; 5000]).is_err() && core.flush().is_err());
    volume.fail(false);
    assert!(matches!(core.standing().reason, Some(Reason::VolumeFailed(_))));
    assert!(appliance.session(&core, Uuid::from_u128(2)) > 0);
    appliance.check(&core, &volume);
}

#[test]
fn an_appliance_that_lost_the_journal_gets_everything() {
    let (volume, _, core, mut appliance) = following();
    core.write(0, &[7; 5000]).unwrap();
    appliance.take(&core);
    core.durable(appliance.durable);
    for _ in 0..10 {
        core.write(0, &[8; 40_000]).unwrap();
        appliance.take(&core);
        core.durable(appliance.durable);
    }
    (appliance.journal, appliance.position) = (Uuid::nil(), None);
    assert_eq!(appliance.session(&core, Uuid::from_u128(2)), SIZE);
    appliance.check(&core, &volume);
}

#[test]
fn a_journal_that_is_given_up_while_catching_up_leaves_all_that_was_written_beside_it_dirty() {
    let (volume, _, core, mut appliance) = following();
    core.lost(Reason::JournalFailed("told to".into()));
    core.write(0, &[5; 10]).unwrap();
    let second = Uuid::from_u128(2);
    appliance.follow(second);
    assert_eq!(core.decide(&appliance.seen(second)).unwrap(), Decision::Begin(None));
    let snapshot = core.begin_journal(second, &appliance.seen(second), None).unwrap();
    core.write(500_000, &[6; 10]).unwrap();
    appliance.take(&core);
    core.durable(appliance.durable);
    core.lost(Reason::JournalFailed("told to".into()));
    assert!(!core.resynchronised(&snapshot).unwrap(), "it was given up");
    assert_eq!(appliance.session(&core, Uuid::from_u128(3)), 2 * BLOCK);
    appliance.check(&core, &volume);
}

#[test]
fn a_synchronous_flush_waits_for_the_appliance() {
    let (_, _, core, mut appliance) = following();
    core.write(0, &[7; 10]).unwrap();
    let mark = core.flush().unwrap();
    let (told, returned) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| told.send(core.wait_until_there(mark)).unwrap());
        core.durable(mark.unwrap().sequence - 1);
        assert!(returned.try_recv().is_err());
        appliance.take(&core);
        core.durable(appliance.durable);
        returned.recv().unwrap().unwrap();
    });
    let mark = core.flush().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| core.wait_until_there(mark));
        core.close().unwrap();
        assert!(waiting.join().unwrap().is_err(), "nobody waits for a tap that is closed");
    });
}
