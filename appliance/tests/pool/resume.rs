//! Streams that are cut: what is recorded of them survives the pool, and is void as soon as it should be.

use crate::model::{Lab, announced, begin, feed, feed_from, map, numbers, read, replicate, start, volume};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use understudy_appliance::error::Error;
use understudy_appliance::ingest::{Ingest, Resumed};
use understudy_appliance::pool::Pool;
use understudy_appliance::pool::collect::Options;
use understudy_format::BlockId;
use understudy_format::map::Map;
use understudy_format::session::{Cursor, Progress, Sender};

const OLD: u128 = 1;
const NEW: u128 = 2;

/// A volume with one point, and the next one: 70 blocks of which 40 changed.
fn volumes() -> (Vec<u8>, Vec<u8>) {
    let old: Vec<u64> = (1..=70).collect();
    let new: Vec<u64> = (1..=70).map(|n| if n % 7 < 4 { n + 1000 } else { n }).chain([0, 0, 5]).collect();
    (volume(&old), volume(&new))
}

fn resume(pool: &Arc<Pool>, old: &[u8], new: &[u8], stream: u128) -> Resumed {
    Ingest::resume(pool.clone(), announced("v", stream), begin(Some(old), new, stream)).unwrap()
}

fn goes(resumed: Resumed) -> Ingest {
    match resumed {
        Resumed::Goes(ingest) => *ingest,
        Resumed::Stored(point) => panic!("it is stored as point {}", point.number),
    }
}

/// A point of `old`, and a stream of `new` that was cut after two chunks.
fn cut(lab: &Lab, old: &[u8], new: &[u8]) -> Arc<Pool> {
    let pool = lab.open();
    replicate(&pool, None, old, OLD).unwrap();
    let (mut sender, mut ingest) = start(&pool, "v", Some(old), new, NEW).unwrap();
    feed(&mut sender, &mut ingest, Some(old), new, 2).unwrap();
    ingest.park(5);
    pool
}

fn progress(pool: &Pool) -> Option<Arc<Progress>> {
    pool.progress(&"v".parse().unwrap())
}

#[test]
fn a_stream_goes_on_after_the_pool_was_closed_and_makes_the_same_point() {
    let (old, new) = volumes();
    for (reopened, reindexed) in [(false, false), (true, false), (true, true)] {
        let lab = Lab::new();
        let mut pool = cut(&lab, &old, &new);
        if reopened {
            drop(pool);
            if reindexed {
                std::fs::remove_dir_all(lab.dir.path().join("index")).unwrap();
            }
            pool = lab.open();
        }
        assert_eq!(progress(&pool).unwrap().recorded_ns, 5);
        let mut ingest = goes(resume(&pool, &old, &new, NEW));
        let cursor = ingest.cursor();
        assert_eq!((cursor.next_block, cursor.totals.chunks), (BlockId(32), 2));
        let prefix: Vec<u8> = [&new[..32 * 4096], &vec![0; new.len() - 32 * 4096]].concat();
        assert_eq!(cursor.root, map(&prefix).root());
        let mut sender = Sender::resume(begin(Some(&old), &new, NEW), 4, &cursor);
        feed_from(32, &mut sender, &mut ingest, Some(&old), &new, usize::MAX).unwrap();
        let point = ingest.commit(&sender.commit(map(&new).root()).unwrap()).unwrap();
        assert_eq!((point.number, point.base, point.changed_blocks), (2, Some(1), 40 + 3));
        assert!(point.new_bytes > 0 && point.stored_bytes > point.new_bytes, "both parts are counted: {point:?}");
        assert_eq!(read(&pool, 2).unwrap(), new);
        assert!(progress(&pool).is_none(), "a stream that is stored is over");
    }
}

#[test]
fn only_the_very_stream_goes_on_and_another_one_voids_it_for_good() {
    let (old, new) = volumes();
    let lab = Lab::new();
    let pool = cut(&lab, &old, &new);
    let other = goes(resume(&pool, &old, &new, NEW + 1));
    assert_eq!(other.cursor(), Cursor::START);
    drop((other, pool));
    let pool = lab.open();
    assert!(progress(&pool).is_none());
    assert_eq!(goes(resume(&pool, &old, &new, NEW)).cursor(), Cursor::START);
}

#[test]
fn a_stream_that_began_otherwise_is_another_one() {
    let (old, new) = volumes();
    let lab = Lab::new();
    let pool = cut(&lab, &old, &new);
    let grown = [&new[..], &[7; 4096]].concat();
    assert_eq!(goes(resume(&pool, &old, &grown, NEW)).cursor(), Cursor::START);
}

#[test]
fn a_refused_stream_leaves_what_was_cut_alone() {
    let (old, new) = volumes();
    let lab = Lab::new();
    let pool = cut(&lab, &old, &new);
    let alien = begin(Some(&new), &old, 9);
    let error = Ingest::resume(pool.clone(), announced("v", 9), alien).unwrap_err();
    assert!(error.to_string().starts_with("no common base"), "{error}");
    assert_eq!(progress(&pool).unwrap().next_block(), 32);
}

#[test]
fn a_stream_that_is_wrong_does_not_go_on() {
    let (old, new) = volumes();
    let lab = Lab::new();
    let pool = cut(&lab, &old, &new);
    let mut ingest = goes(resume(&pool, &old, &new, NEW));
    let mut sender = Sender::resume(begin(Some(&old), &new, NEW), 4, &ingest.cursor());
    feed_from(32, &mut sender, &mut ingest, Some(&old), &new, usize::MAX).unwrap();
    let error = ingest.commit(&sender.commit(Map::zero(map(&new).geometry).root()).unwrap()).unwrap_err();
    assert!(matches!(error, Error::Format(_)), "{error}");
    assert!(progress(&pool).is_none());
    drop(pool);
    assert!(progress(&lab.open()).is_none(), "for good");
}

#[test]
fn a_stream_that_is_stored_is_not_taken_twice() {
    let (old, new) = volumes();
    let lab = Lab::new();
    let pool = lab.open();
    replicate(&pool, None, &old, OLD).unwrap();
    replicate(&pool, Some(&old), &new, NEW).unwrap();
    let Resumed::Stored(point) = resume(&pool, &old, &new, NEW) else { panic!("it goes on") };
    assert_eq!((point.number, numbers(&pool)), (2, vec![1, 2]));
}

#[test]
fn what_a_stream_that_was_cut_brought_is_not_given_back() {
    let (old, new) = volumes();
    let lab = Lab::new();
    let pool = cut(&lab, &old, &new);
    // Left over by a stream that is void: there is something to give back.
    let litter = volume(&(5000..5400).collect::<Vec<_>>());
    let (mut sender, mut ingest) = start(&pool, "w", None, &litter, 9).unwrap();
    feed(&mut sender, &mut ingest, None, &litter, usize::MAX).unwrap();
    drop(ingest);
    let options = Options { dead_max: 0.0, dry_run: false };
    let collected = pool.collect(options, &AtomicBool::new(false)).unwrap();
    assert!(collected.removed_bytes > 1 << 20 && collected.missing == 0, "{collected:?}");
    let mut ingest = goes(resume(&pool, &old, &new, NEW));
    let mut sender = Sender::resume(begin(Some(&old), &new, NEW), 4, &ingest.cursor());
    feed_from(32, &mut sender, &mut ingest, Some(&old), &new, usize::MAX).unwrap();
    ingest.commit(&sender.commit(map(&new).root()).unwrap()).unwrap();
    assert_eq!(read(&pool, 2).unwrap(), new);
}

#[test]
fn nothing_is_recorded_of_nothing() {
    let (old, new) = volumes();
    let lab = Lab::new();
    let pool = lab.open();
    let (_, ingest) = start(&pool, "v", None, &old, OLD).unwrap();
    ingest.park(5);
    assert!(progress(&pool).is_none());
    let (mut sender, mut ingest) = start(&pool, "v", None, &new, NEW).unwrap();
    feed(&mut sender, &mut ingest, None, &new, 1).unwrap();
    assert!(!ingest.is_due(), "64 KiB are not worth a record");
}
