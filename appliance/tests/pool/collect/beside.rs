//! Collections beside streams, reads, secondaries and removals.

use crate::model::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use understudy_appliance::error::Error;
use understudy_appliance::ingest::Ingest;
use understudy_appliance::pool::Pool;
use understudy_appliance::secondary::Secondaries;
use understudy_format::chunk::ChunkHead;
use understudy_format::session::{Prepared, Sender};
use understudy_format::{Digest, ErrorKind};

/// A stream that can be frozen between any two messages.
struct Stream<'a> {
    sender: Sender<()>,
    ingest: Ingest,
    old: Option<&'a [u8]>,
    new: &'a [u8],
    /// Chunks of 16 blocks that were offered, and what is ready to be sent of them.
    offered: usize,
}

impl<'a> Stream<'a> {
    fn start(pool: &Arc<Pool>, name: &str, old: Option<&'a [u8]>, new: &'a [u8], id: u128) -> Self {
        let (sender, ingest) = start(pool, name, old, new, id).unwrap();
        Self { sender, ingest, old, new, offered: 0 }
    }

    /// Offers a chunk and hears what is needed; returns how many blocks are.
    fn offer(&mut self) -> usize {
        let entries = entries(self.old, self.new);
        let entries = entries.chunks(16).nth(self.offered).unwrap().to_vec();
        self.offered += 1;
        let head: Option<ChunkHead> = self.sender.offer(Prepared { entries, token: () });
        let Some(head) = head else { return 0 };
        let wanted = self.ingest.offer(&head).unwrap();
        self.sender.need(head.sequence, &wanted).unwrap();
        wanted.iter().filter(|wanted| **wanted).count()
    }

    /// Sends one chunk that was offered.
    fn send(&mut self) {
        send_ready(&mut self.sender, &mut self.ingest, self.new, 1).unwrap();
    }

    fn finish(mut self) -> u64 {
        while self.offered < self.new.len().div_ceil(BLOCK).div_ceil(16) {
            self.offer();
            self.send();
        }
        send_ready(&mut self.sender, &mut self.ingest, self.new, usize::MAX).unwrap();
        self.ingest.commit(&self.sender.commit(map(self.new).root()).unwrap()).unwrap().number
    }
}

fn seeds(range: std::ops::Range<u64>) -> Vec<u8> {
    volume(&range.collect::<Vec<_>>())
}

/// In the pool, in the pool reopened, without its index, and after another collection.
fn check_everywhere(lab: &Lab, pool: Arc<Pool>, check: impl Fn(&Arc<Pool>)) {
    drop(lab.also_reopened(pool, &check));
    lab.lose_index();
    let pool = lab.open();
    check(&pool);
    collect(&pool);
    check(&pool);
}

fn check_rebuilt(lab: &Lab, pool: Arc<Pool>, points: &[(&str, u64, &[u8])]) {
    let check = |pool: &Arc<Pool>| {
        for (name, number, bytes) in points {
            assert!(read_of(pool, name, *number).unwrap() == *bytes, "{name}@{number}");
        }
    };
    check_everywhere(lab, pool, check);
}

/// What it was told not to send is named by no point any more, and moved twice, before it goes on.
#[test]
fn a_frozen_stream_keeps_what_it_was_told_not_to_send() {
    let lab = Lab::quick();
    let pool = lab.open();
    let (shared, other) = (seeds(1..65), seeds(300..310));
    replicate_to(&pool, "w", None, &[&shared[..], &seeds(200..260)].concat(), 1).unwrap();
    let mut stream = Stream::start(&pool, "v", None, &shared, 2);
    assert_eq!((stream.offer(), stream.offer()), (0, 0));
    stream.send();
    remove(&pool, "w", [1]).unwrap();
    for round in 0..3 {
        let collected = collect(&pool);
        assert!(round > 0 || collected.copied_bytes >= 32 * BLOCK as u64, "{collected:?}");
        // So that its copies are worth moving again.
        replicate_to(&pool, "w", None, &seeds(400 + round * 100..460 + round * 100), u128::from(round) + 10).unwrap();
        remove(&pool, "w", numbers_of(&pool, "w")).unwrap();
    }
    replicate_to(&pool, "w", None, &other, 20).unwrap();
    assert_eq!((stream.offer(), stream.offer()), (16, 16), "of the rest nobody told it, and it is gone");
    let number = stream.finish();
    let last = *numbers_of(&pool, "w").last().unwrap();
    check_rebuilt(&lab, pool, &[("v", number, &shared), ("w", last, &other)]);
}

#[test]
fn a_frozen_stream_keeps_what_it_sent() {
    let lab = Lab::quick();
    let pool = lab.open();
    let (new, other) = (seeds(1..81), seeds(100..200));
    replicate_to(&pool, "w", None, &other, 1).unwrap();
    let mut stream = Stream::start(&pool, "v", None, &new, 2);
    for _ in 0..3 {
        assert_eq!(stream.offer(), 16);
    }
    (0..2).for_each(|_| stream.send());
    remove(&pool, "w", [1]).unwrap();
    for round in 0..3 {
        collect(&pool);
        replicate_to(&pool, "w", None, &seeds(400 + round * 100..460 + round * 100), u128::from(round) + 10).unwrap();
        remove(&pool, "w", numbers_of(&pool, "w")).unwrap();
    }
    assert!(lab.bytes() < 110 * BLOCK as u64, "what nobody needs is gone: {} bytes", lab.bytes());
    let number = stream.finish();
    check_rebuilt(&lab, pool, &[("v", number, &new)]);
}

/// What it relies on goes once it ended, and not before.
#[test]
fn what_a_stream_without_a_commit_brought_is_given_back() {
    let lab = Lab::quick();
    let pool = lab.open();
    let new = seeds(1..81);
    let mut stream = Stream::start(&pool, "v", None, &new, 2);
    for _ in 0..4 {
        stream.offer();
    }
    (0..4).for_each(|_| stream.send());
    collect(&pool);
    assert!(lab.bytes() > 64 * BLOCK as u64);
    drop(stream);
    collect(&pool);
    assert_eq!(lab.bytes(), 0);
}

/// A base that goes right after the stream that was based on it.
#[test]
fn unchanged_parts_of_a_removed_base_stay() {
    let lab = Lab::quick();
    let pool = lab.open();
    let one = seeds(1..700);
    let mut two = one.clone();
    two[300 * BLOCK..301 * BLOCK].copy_from_slice(&block(5000));
    replicate(&pool, None, &one, 1).unwrap();
    let stream = Stream::start(&pool, "v", Some(&one), &two, 2);
    collect(&pool);
    let number = stream.finish();
    remove(&pool, "v", [1]).unwrap();
    collect(&pool);
    check_rebuilt(&lab, pool, &[("v", number, &two)]);
}

/// An increment without a change stores the top of its base, which is there, and relies on nothing below.
#[test]
fn a_stream_that_ends_while_points_are_walked_hides_nothing_from_the_walk() {
    let lab = Lab::quick();
    let pool = lab.open();
    let bytes = seeds(1..60);
    // The first volume to be walked, whose page is not cached.
    replicate_to(&pool, "a", None, &seeds(200..203), 1).unwrap();
    replicate(&pool, None, &bytes, 2).unwrap();
    replicate_to(&pool, "w", None, &seeds(300..380), 3).unwrap();
    remove(&pool, "w", [1]).unwrap();
    drop(pool);
    let pool = lab.open();
    let (own, same) = (pool.clone(), bytes.clone());
    let committed = Arc::new(AtomicU64::new(0));
    let number = committed.clone();
    lab.disk.on_read(move || {
        number.store(Stream::start(&own, "v", Some(&same), &same, 4).finish(), Ordering::SeqCst);
    });
    assert!(collect(&pool).removed_segments > 0);
    assert_eq!(committed.load(Ordering::SeqCst), 2, "while points were walked");
    check_rebuilt(&lab, pool, &[("v", 1, &bytes), ("v", 2, &bytes)]);
}

/// It stores blocks that are there and being copied: it relies on the copies once those are what is left.
#[test]
fn a_stream_that_stores_what_is_just_copied_relies_on_the_copy() {
    let lab = Lab::quick();
    let pool = lab.open();
    let shared = seeds(1..17);
    let more = [&shared[..], &seeds(200..230)].concat();
    replicate_to(&pool, "w", None, &more, 1).unwrap();
    replicate_to(&pool, "w", Some(&more), &shared, 2).unwrap();
    remove(&pool, "w", [1]).unwrap();
    // The one segment is sealed: the first that is synced are the copies.
    assert_eq!(lab.segments().len(), 1);
    let stop = AtomicBool::new(true);
    pool.collect(Default::default(), &stop).unwrap_err();
    let stream = Arc::new(Mutex::new(None));
    let (own, offline, bytes) = (pool.clone(), stream.clone(), shared.clone());
    lab.disk.on_sync(move || {
        let (mut sender, mut ingest) = start_offline(&own, "v", &bytes, 3);
        send_ready(&mut sender, &mut ingest, &bytes, usize::MAX).unwrap();
        *offline.lock().unwrap() = Some((sender, ingest));
    });
    assert!(collect(&pool).copied_bytes > shared.len() as u64);
    let (sender, ingest) = stream.lock().unwrap().take().expect("the copies were synced");
    remove(&pool, "w", [2]).unwrap();
    replicate_to(&pool, "x", None, &seeds(300..380), 4).unwrap();
    remove(&pool, "x", numbers_of(&pool, "x")).unwrap();
    collect(&pool);
    let number = ingest.commit(&sender.commit(map(&shared).root()).unwrap()).unwrap().number;
    check_rebuilt(&lab, pool, &[("v", number, &shared)]);
}

/// Sends all blocks as data, whatever is there already.
fn start_offline(pool: &Arc<Pool>, name: &str, bytes: &[u8], id: u128) -> (Sender<()>, Ingest) {
    let (_, ingest) = start(pool, name, None, bytes, id).unwrap();
    let mut sender = Sender::offline(begin(None, bytes, id));
    sender.offer(Prepared { entries: entries(None, bytes), token: () });
    (sender, ingest)
}

/// What a stream was told not to send was damaged, and another stream brought it again.
#[test]
fn a_frozen_stream_relies_on_what_healed_what_it_was_told() {
    let lab = Lab::quick();
    let pool = lab.open();
    let shared = seeds(1..17);
    replicate_to(&pool, "w", None, &shared, 1).unwrap();
    let mut stream = Stream::start(&pool, "v", None, &shared, 2);
    assert_eq!(stream.offer(), 0);
    // What comes from now on is in another segment.
    for _ in 0..2 {
        collect(&pool);
    }
    super::damaged::damage(&lab, Digest::of_block(&block(5)), 70);
    read_of(&pool, "w", 1).unwrap_err();
    replicate_to(&pool, "x", None, &shared, 3).unwrap();
    remove(&pool, "x", [1]).unwrap();
    remove(&pool, "w", [1]).unwrap();
    for _ in 0..2 {
        collect(&pool);
    }
    let number = stream.finish();
    check_rebuilt(&lab, pool, &[("v", number, &shared)]);
}

#[test]
fn a_view_reads_on_through_a_collection() {
    let lab = Lab::quick();
    let pool = lab.open();
    let (one, two) = (seeds(1..80), seeds(50..120));
    replicate(&pool, None, &one, 1).unwrap();
    replicate_to(&pool, "w", None, &seeds(200..260), 2).unwrap();
    replicate(&pool, Some(&one), &two, 3).unwrap();
    drop(pool);
    // Nothing is in the caches.
    let pool = lab.open();
    let looking = view(&pool, "v", 1).unwrap();
    let mut lookup = looking.lookup();
    let first = looking.block(&mut lookup, understudy_format::BlockId(0)).unwrap();
    assert_eq!(first.unwrap(), block(1));
    remove(&pool, "w", [1]).unwrap();
    assert!(collect(&pool).removed_segments > 0);
    assert!(read_view(&looking).unwrap() == one);
    drop(looking);
    remove(&pool, "v", [1]).unwrap();
    collect(&pool);
    check_rebuilt(&lab, pool, &[("v", 2, &two)]);
}

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }
}

struct Crowd {
    pool: Arc<Pool>,
    streams: AtomicU64,
    done: AtomicBool,
}

impl Crowd {
    /// Replicates one volume again and again, whose points all have content of one small range: the volumes share it.
    fn replicate(&self, name: &str, random: &mut Random) -> Vec<(u64, Vec<u8>)> {
        let (mut points, mut old): (Vec<_>, Option<Vec<u8>>) = (Vec::new(), None);
        for round in 0..ROUNDS {
            let length = 20 + random.below(60);
            let new = match old.clone().filter(|_| random.below(4) == 0) {
                // A point that is like the one before has its pages already.
                Some(same) => same,
                None => volume(&(0..length).map(|_| random.below(200)).collect::<Vec<_>>()),
            };
            let id = self.streams.fetch_add(1, Ordering::SeqCst) + 1;
            let base = old.as_deref().filter(|_| random.below(3) > 0);
            let mut stream = Stream::start(&self.pool, name, base, &new, id.into());
            for _ in 0..random.below(2) {
                stream.offer();
            }
            if random.below(5) == 0 {
                continue;
            }
            points.push((stream.finish(), new.clone()));
            if round % 2 == 0 {
                self.prune(name, &mut points, random);
            }
            old = Some(new);
        }
        points
    }

    fn prune(&self, name: &str, points: &mut Vec<(u64, Vec<u8>)>, random: &mut Random) {
        let at = random.below(points.len() as u64) as usize;
        if at + 1 == points.len() {
            return;
        }
        match remove(&self.pool, name, [points[at].0]) {
            Ok(()) => drop(points.remove(at)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Retry, "{error}"),
        }
    }

    fn collect(&self) {
        while !self.done.load(Ordering::SeqCst) {
            let collected = collect(&self.pool);
            assert_eq!((collected.missing, collected.left_alone), (0, 0), "{collected:?}");
        }
    }

    fn read(&self, random: &mut Random) {
        while !self.done.load(Ordering::SeqCst) {
            for entry in self.pool.volumes() {
                let point = &entry.points[random.below(entry.points.len() as u64) as usize];
                let opened = understudy_appliance::view::PointView::open(&self.pool, &entry.volume, point, "a reader");
                match opened {
                    Ok(view) => assert!(map(&read_view(&view).unwrap()).root() == point.map.root()),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Refused, "{error}"),
                }
            }
        }
    }

    fn apply(&self) {
        let secondaries = Secondaries::new(self.pool.clone());
        while !self.done.load(Ordering::SeqCst) {
            for entry in self.pool.volumes() {
                match secondaries.settle(&entry.volume) {
                    // The point that it had settled at was removed meanwhile: it is made anew.
                    Ok(()) | Err(Error::Missing { .. } | Error::At { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

const ROUNDS: u64 = 25;

#[test]
fn everything_at_once() {
    let lab = Lab::quick();
    let crowd = Crowd { pool: lab.open(), streams: AtomicU64::new(0), done: AtomicBool::new(false) };
    let names = ["a", "b", "c"];
    let points = std::thread::scope(|scope| {
        let crowd = &crowd;
        let writers: Vec<_> = names
            .iter()
            .zip(1..)
            .map(|(name, seed)| scope.spawn(move || crowd.replicate(name, &mut Random(seed))))
            .collect();
        let others = [
            scope.spawn(move || crowd.collect()),
            scope.spawn(move || crowd.read(&mut Random(77))),
            scope.spawn(move || crowd.apply()),
        ];
        let points: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        crowd.done.store(true, Ordering::SeqCst);
        others.into_iter().for_each(|other| other.join().unwrap());
        points.into_iter().map(|points| points.unwrap()).collect::<Vec<_>>()
    });
    let Crowd { pool, .. } = crowd;
    let check = |pool: &Arc<Pool>| {
        for (name, points) in names.iter().zip(&points) {
            assert_eq!(numbers_of(pool, name), points.iter().map(|(number, _)| *number).collect::<Vec<_>>());
            for (number, bytes) in points {
                assert!(read_of(pool, name, *number).unwrap() == *bytes, "{name}@{number}");
            }
        }
    };
    check_everywhere(&lab, pool, check);
}
