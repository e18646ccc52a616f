//! Collection: space comes back, and nothing that a point, a stream or a reader needs goes.

mod beside;
mod damaged;
mod failing;
mod history;

use crate::model::*;

#[test]
fn what_is_left_reads_back_and_the_rest_is_gone() {
    let lab = Lab::quick();
    let pool = lab.open();
    let versions: Vec<_> = (0..6).map(|at| volume(&(at * 50 + 1..at * 50 + 101).collect::<Vec<_>>())).collect();
    for (at, new) in versions.iter().enumerate() {
        let old = at.checked_sub(1).map(|at| &versions[at][..]);
        replicate(&pool, old, new, at as u128 + 1).unwrap();
        replicate_to(&pool, "w", old, new, at as u128 + 101).unwrap();
    }
    let before = lab.bytes();
    remove(&pool, "v", [1, 2, 4]).unwrap();
    remove(&pool, "w", 1..=6).unwrap();
    let collected = collect(&pool);
    assert!(lab.bytes() < before * 9 / 10, "{before} bytes before, {} after", lab.bytes());
    assert_eq!((collected.left_alone, collected.missing), (0, 0));
    let check = |pool: &std::sync::Arc<understudy_appliance::pool::Pool>| {
        assert_eq!(numbers(pool), [3, 5, 6]);
        numbers(pool).iter().for_each(|number| assert!(read(pool, *number).unwrap() == versions[*number as usize - 1]));
    };
    drop(lab.also_reopened(pool, check));
    lab.lose_index();
    check(&lab.open());
}

#[test]
fn a_second_collection_right_after_changes_nothing() {
    let lab = Lab::quick();
    let pool = lab.open();
    let mut old: Option<Vec<u8>> = None;
    for at in 0..20 {
        let new = volume(&[1, at + 2, 3, at + 200]);
        replicate(&pool, old.as_deref(), &new, u128::from(at) + 1).unwrap();
        old = Some(new);
    }
    remove(&pool, "v", 1..10).unwrap();
    assert!(collect(&pool).removed_segments > 0);
    for _ in 0..3 {
        let again = collect(&pool);
        assert_eq!((again.removed_segments, again.copied_bytes), (0, 0));
    }
}

/// Each collection seals the open segment, however little is in it.
#[test]
fn collecting_often_leaves_no_heap_of_small_segments() {
    let lab = Lab { segment_size: 8 << 20, ..Lab::quick() };
    let pool = lab.open();
    let mut old: Option<Vec<u8>> = None;
    for at in 0..40 {
        let new = volume(&[1, at + 2, 3, at + 200]);
        replicate(&pool, old.as_deref(), &new, u128::from(at) + 1).unwrap();
        collect(&pool);
        old = Some(new);
    }
    assert!(lab.segments().len() < 12, "{} segments", lab.segments().len());
    assert!(read(&pool, 7).unwrap() == volume(&[1, 8, 3, 206]));
}

#[test]
fn a_dry_run_tells_and_removes_nothing() {
    let lab = Lab::quick();
    let pool = lab.open();
    replicate(&pool, None, &volume(&(1..90).collect::<Vec<_>>()), 1).unwrap();
    replicate(&pool, None, &volume(&[1, 2]), 2).unwrap();
    remove(&pool, "v", [1]).unwrap();
    let options = understudy_appliance::pool::collect::Options { dry_run: true, ..Default::default() };
    let told = pool.collect(options, &Default::default()).unwrap();
    assert_eq!((told.live_records, told.removed_segments, told.copied_bytes), (3, 0, 0));
    assert!(told.bytes > 80 * BLOCK as u64 && lab.bytes() >= told.bytes);
    let stopped = pool.collect(Default::default(), &true.into()).unwrap_err();
    assert_eq!(stopped.kind(), understudy_format::ErrorKind::Closed);
    assert!(collect(&pool).removed_segments > 0);
}

/// A new segment with the number of one that is gone: nothing that is known of the old one is taken for it.
#[test]
fn numbers_of_segments_are_used_again() {
    let lab = Lab::quick();
    for round in 1..5 {
        let pool = lab.open();
        let bytes = volume(&(round * 100..round * 100 + 70).collect::<Vec<_>>());
        let name = format!("volume-{round}");
        replicate_to(&pool, &name, None, &bytes, u128::from(round)).unwrap();
        drop(pool);
        let pool = lab.open();
        assert!(read_of(&pool, &name, 1).unwrap() == bytes);
        remove(&pool, &name, [1]).unwrap();
        for _ in 0..3 {
            collect(&pool);
        }
        assert!(lab.bytes() < 70 * BLOCK as u64 / 4, "{} bytes", lab.bytes());
    }
}
