//! Secondaries: always the newest point in the end, whatever interrupted the way there.

use crate::model::*;
use understudy_appliance::secondary::Secondaries;

const EIO: u64 = 5;

#[test]
fn the_secondary_follows_grown_shrunk_and_zeroed_points() {
    let lab = Lab::new();
    let pool = lab.open();
    let mut old: Option<Vec<u8>> = None;
    for (at, seeds) in
        [vec![1, 2, 0, 3], vec![1, 0, 0, 3, 4, 5], vec![9], vec![0, 0, 0], vec![1, 2, 3]].iter().enumerate()
    {
        let new = volume(seeds);
        replicate(&pool, old.as_deref(), &new, at as u128 + 1).unwrap();
        assert!(settle(&pool).unwrap() == new, "{seeds:?}");
        old = Some(new);
    }
}

/// Blocks that the interrupted point changed and the next one changed back are in no difference
/// between the settled point and the newest one.
#[test]
fn an_interrupted_point_is_finished_before_a_newer_one() {
    let versions = [volume(&[1, 2, 3, 4]), volume(&[5, 2, 6, 0]), volume(&[1, 2, 3, 7])];
    for n in 1.. {
        let lab = Lab::new();
        let pool = lab.open();
        replicate(&pool, None, &versions[0], 1).unwrap();
        settle(&pool).unwrap();
        replicate(&pool, Some(&versions[0]), &versions[1], 2).unwrap();
        lab.disk.fail_at(n, EIO);
        let interrupted = settle(&pool);
        let failed = lab.disk.failed();
        replicate(&pool, Some(&versions[1]), &versions[2], 3).unwrap();
        drop(pool);
        assert!(settle(&lab.open()).unwrap() == versions[2], "interrupted at {n}");
        if !failed {
            assert!(interrupted.is_ok() && n > 5, "{n} writes and syncs were tried");
            return;
        }
    }
}

#[test]
fn a_lost_or_cut_image_or_state_is_made_anew() {
    let lab = Lab::new();
    let bytes = volume(&[1, 2, 0, 3]);
    let pool = lab.open();
    replicate(&pool, None, &bytes, 1).unwrap();
    settle(&pool).unwrap();
    let dir = lab.dir.path().join("volumes/v");
    std::fs::remove_file(dir.join("secondary.raw")).unwrap();
    assert!(settle(&pool).unwrap() == bytes);
    std::fs::write(dir.join("secondary.raw"), b"short").unwrap();
    assert!(settle(&pool).unwrap() == bytes);
    std::fs::write(dir.join("state"), b"nonsense").unwrap();
    assert!(settle(&pool).unwrap() == bytes);
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(settle(&pool).unwrap() == bytes);
}

#[test]
fn the_status_tells_how_far_it_is_behind() {
    let lab = Lab::new();
    let pool = lab.open();
    replicate(&pool, None, &volume(&[1, 2, 3]), 1).unwrap();
    let entry = pool.volume(&"v".parse().unwrap()).unwrap();
    let secondaries = Secondaries::new(pool.clone());
    let status = secondaries.status(&entry.volume, entry.points.last()).unwrap();
    assert!(status.behind_blocks > 0 && status.settled_root.is_zero());
    secondaries.settle(&entry.volume).unwrap();
    let status = secondaries.status(&entry.volume, entry.points.last()).unwrap();
    assert_eq!((status.behind_blocks, status.settled_root), (0, entry.points[0].map.root()));
}
