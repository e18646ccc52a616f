//! Groups: the points of several volumes are there together or not at all, whatever fails and whenever.

use crate::model::{
    Lab, announced, begin, collect, feed, map, numbers_of, read_of, remove, replicate_to, start, volume,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use understudy_appliance::error::{Error, Result};
use understudy_appliance::ingest::{Ingest, Ready, Resumed};
use understudy_appliance::pool::Pool;
use understudy_format::ErrorKind;
use understudy_format::session::Sender;

const NAMES: [&str; 3] = ["a", "b", "new"];

/// What the volumes have before, and with the group; the last of them is made by it.
fn versions() -> [(Option<Vec<u8>>, Vec<u8>); 3] {
    let of = |seeds: std::ops::Range<u64>| volume(&seeds.collect::<Vec<_>>());
    [(Some(of(1..40)), of(20..90)), (Some(of(100..110)), of(105..120)), (None, of(30..35))]
}

/// A pool with the first versions.
fn first(lab: &Lab) -> Arc<Pool> {
    let pool = lab.open();
    for (at, (name, (old, _))) in NAMES.into_iter().zip(versions()).enumerate() {
        old.iter().for_each(|old| drop(replicate_to(&pool, name, None, old, at as u128 + 1).unwrap()));
    }
    pool
}

/// Brings the second versions as far as their commits; `from` tells their streams from others.
fn ready(pool: &Arc<Pool>, from: u128) -> Result<Vec<Ready>> {
    let streams = NAMES.into_iter().zip(versions()).enumerate().map(|(at, (name, (old, new)))| {
        let (mut sender, mut ingest) = start(pool, name, old.as_deref(), &new, from + at as u128)?;
        feed(&mut sender, &mut ingest, old.as_deref(), &new, usize::MAX)?;
        ingest.ready(&sender.commit(map(&new).root()).map_err(Error::from)?)
    });
    streams.collect()
}

/// Asserts that all points of the group are there, whole, or that none is; whether they are.
fn all_or_none(pool: &Arc<Pool>, context: &str) -> bool {
    let is_there = NAMES.into_iter().zip(versions()).map(|(name, (old, new))| {
        let before = u64::from(old.is_some());
        old.iter().for_each(|old| assert!(read_of(pool, name, 1).unwrap() == *old, "{context}"));
        let is_there = numbers_of(pool, name).last().copied().unwrap_or(0) > before;
        assert!(!is_there || read_of(pool, name, before + 1).unwrap() == new, "{context}");
        is_there
    });
    let found: BTreeSet<bool> = is_there.collect();
    assert_eq!(found.len(), 1, "{context}: some points of the group are there and some are not");
    found.contains(&true)
}

#[test]
fn a_group_is_there_as_a_whole_also_without_the_index() {
    let lab = Lab::new();
    let pool = first(&lab);
    let held = ready(&pool, 10).unwrap();
    assert!(!all_or_none(&pool, "held"));
    Ready::commit(&held).unwrap();
    assert!(all_or_none(&pool, "committed"));
    drop((held, pool));
    assert!(all_or_none(&lab.open(), "opened again"));
    lab.lose_index();
    assert!(all_or_none(&lab.open(), "replayed"));
}

/// The loop of SQLite and redb: fail each write and sync in turn, until a run needs no more of them.
#[test]
fn a_failure_at_any_write_or_sync_leaves_all_points_or_none() {
    for (errno, name) in [(28, "ENOSPC"), (5, "EIO")] {
        for n in 1.. {
            let lab = Lab::quick();
            let pool = first(&lab);
            lab.disk.fail_at(n, errno);
            let result = ready(&pool, 10).and_then(|held| Ready::commit(&held));
            let (context, failed) = (format!("{name} at operation {n}"), lab.disk.failed());
            assert_eq!(all_or_none(&pool, &context), result.is_ok(), "{context}");
            drop(pool);
            all_or_none(&lab.open(), &context);
            lab.lose_index();
            let there = all_or_none(&lab.open(), &context);
            if !failed {
                assert!(there && result.is_ok() && n > 4, "{n} writes and syncs were tried");
                break;
            }
            assert!(result.is_err(), "{context} was not noticed");
        }
    }
}

#[test]
fn a_segment_cut_at_any_byte_has_all_points_or_none() {
    let lab = Lab { segment_size: 1 << 20, ..Lab::quick() };
    drop(first(&lab));
    let path = lab.segments().pop().unwrap();
    let before = std::fs::metadata(&path).unwrap().len();
    Ready::commit(&ready(&lab.open(), 10).unwrap()).unwrap();
    let whole = std::fs::read(&path).unwrap();
    assert_eq!(lab.segments().len(), 1);
    let after = whole.len() as u64;
    let record = after - 4096;
    let edges = (before..record).step_by(4096).chain((record..after).step_by(64)).chain([after - 1, after]);
    for length in edges {
        lab.lose_index();
        std::fs::write(&path, &whole[..length as usize]).unwrap();
        assert_eq!(all_or_none(&lab.open(), &format!("cut at {length}")), length == after, "cut at {length}");
    }
}

/// From then on they are points like any other.
#[test]
fn points_of_a_group_are_removed_and_collected_one_by_one() {
    let lab = Lab::quick();
    let pool = first(&lab);
    Ready::commit(&ready(&pool, 10).unwrap()).unwrap();
    let newest = volume(&[7, 8]);
    replicate_to(&pool, "a", None, &newest, 20).unwrap();
    remove(&pool, "a", [1, 2]).unwrap();
    remove(&pool, "b", [1]).unwrap();
    collect(&pool);
    let check = |pool: &Arc<Pool>| {
        assert_eq!(
            (numbers_of(pool, "a"), numbers_of(pool, "b"), numbers_of(pool, "new")),
            (vec![3], vec![2], vec![1])
        );
        assert!(read_of(pool, "a", 3).unwrap() == newest);
        assert!(read_of(pool, "b", 2).unwrap() == versions()[1].1);
        assert!(read_of(pool, "new", 1).unwrap() == versions()[2].1);
    };
    check(&pool);
    drop(pool);
    lab.lose_index();
    let pool = lab.open();
    check(&pool);
    // Again, now that the record of the group is gone.
    collect(&pool);
    drop(pool);
    lab.lose_index();
    check(&lab.open());
}

/// One that waits holds nothing but its own volume.
#[test]
fn a_commit_that_is_held_is_in_nobodys_way() {
    let lab = Lab::quick();
    let pool = first(&lab);
    let held = ready(&pool, 10).unwrap();
    replicate_to(&pool, "other", None, &volume(&[1, 2, 3]), 20).unwrap();
    remove(&pool, "other", []).unwrap();
    collect(&pool);
    let error = replicate_to(&pool, "a", None, &volume(&[5]), 21).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
    Ready::commit(&held).unwrap();
    assert!(all_or_none(&pool, "collected meanwhile"));
    drop(held);
    replicate_to(&pool, "a", None, &volume(&[5]), 22).unwrap();
}

/// Whoever's write failed: what the others rely on may be gone, and nobody commits.
#[test]
fn a_member_of_before_a_full_disk_fails_the_group() {
    let lab = Lab::quick();
    let pool = first(&lab);
    let held = ready(&pool, 10).unwrap();
    lab.disk.fail_at(1, 28);
    // Whoever writes next meets it: this stream, or the log with what it has of those that are held.
    let _ = replicate_to(&pool, "other", None, &volume(&[1, 2, 3]), 20);
    assert!(lab.disk.failed());
    replicate_to(&pool, "other", None, &volume(&[1, 2, 3]), 21).unwrap();
    let error = Ready::commit(&held).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    assert!(!all_or_none(&pool, "held since before"));
}

/// A group that came to nothing: each stream goes on behind all that came of it.
#[test]
fn what_was_held_goes_on_at_its_end() {
    let lab = Lab::quick();
    let pool = first(&lab);
    let (old, new) = versions().into_iter().next().unwrap();
    let (mut sender, mut ingest) = start(&pool, "a", old.as_deref(), &new, 30).unwrap();
    feed(&mut sender, &mut ingest, old.as_deref(), &new, usize::MAX).unwrap();
    ingest.record(5).unwrap();
    drop(ingest.ready(&sender.commit(map(&new).root()).unwrap()).unwrap());
    drop(pool);
    let pool = lab.open();
    let begin = begin(old.as_deref(), &new, 30);
    let Resumed::Goes(ingest) = Ingest::resume(pool.clone(), announced("a", 30), begin).unwrap() else {
        panic!("it is not stored")
    };
    let cursor = ingest.cursor();
    assert_eq!(cursor.next_block.0, begin.geometry.block_count());
    assert_eq!(cursor.root, map(&new).root());
    let sender = Sender::<()>::resume(begin, 4, &cursor);
    ingest.commit(&sender.commit(map(&new).root()).unwrap()).unwrap();
    assert!(read_of(&pool, "a", 2).unwrap() == new);
}
