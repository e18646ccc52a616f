//! Secondaries: always the newest point in the end, whatever interrupted the way there.

use crate::model::*;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use understudy_appliance::error::Error;
use understudy_appliance::pool::Pool;
use understudy_appliance::secondary::Secondaries;
use understudy_appliance::secondary::compare::{Compared, Difference};
use understudy_format::catalogue::SecondaryMode;
use understudy_format::point::Volume;
use understudy_format::{BlockId, Digest};

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

/// The bytes of the image, and how many writes and syncs it takes to settle.
fn settle_counted(lab: &Lab, secondaries: &Secondaries, pool: &Pool) -> (Vec<u8>, u64) {
    lab.disk.fail_at(1000, EIO);
    secondaries.settle(&v(pool)).unwrap();
    let left = lab.disk.left();
    (std::fs::read(image(lab)).unwrap(), 1000 - left)
}

fn image(lab: &Lab) -> PathBuf {
    lab.dir.path().join("volumes/v/secondary.raw")
}

fn v(pool: &Pool) -> Volume {
    pool.volume(&"v".parse().unwrap()).unwrap().volume.clone()
}

fn remove(pool: &Pool, numbers: &[u64]) -> Result<(), String> {
    let numbers = numbers.iter().copied().collect();
    pool.remove_points(&"v".parse().unwrap(), &numbers, 1).map_err(|error| error.to_string())
}

#[test]
fn the_points_of_a_secondary_are_leased_from_the_moment_it_is_known() {
    let lab = Lab::new();
    let pool = lab.open();
    let versions = [volume(&[1, 2]), volume(&[3, 2]), volume(&[3, 4])];
    replicate(&pool, None, &versions[0], 1).unwrap();
    settle(&pool).unwrap();
    replicate(&pool, Some(&versions[0]), &versions[1], 2).unwrap();
    replicate(&pool, Some(&versions[1]), &versions[2], 3).unwrap();
    let secondaries = Secondaries::new(pool.clone());
    assert_eq!(pool.users(&v(&pool).uuid, 1), ["the secondary"]);
    assert!(remove(&pool, &[1]).unwrap_err().contains("in use by the secondary"));
    remove(&pool, &[2]).unwrap();
    secondaries.settle(&v(&pool)).unwrap();
    assert_eq!(pool.users(&v(&pool).uuid, 3), ["the secondary"]);
    remove(&pool, &[1]).unwrap();
    assert!(std::fs::read(image(&lab)).unwrap() == versions[2]);
}

#[test]
fn an_interrupted_point_keeps_both_points_leased() {
    let lab = Lab::new();
    let pool = lab.open();
    let (old, new) = (volume(&[1, 2]), volume(&[3, 2]));
    replicate(&pool, None, &old, 1).unwrap();
    settle(&pool).unwrap();
    replicate(&pool, Some(&old), &new, 2).unwrap();
    let secondaries = Secondaries::new(pool.clone());
    lab.disk.fail_at(3, EIO);
    secondaries.settle(&v(&pool)).unwrap_err();
    assert!(lab.disk.failed());
    replicate(&pool, Some(&new), &old, 3).unwrap();
    for _ in 0..2 {
        assert!(remove(&pool, &[1]).unwrap_err().contains("the secondary"));
        assert!(remove(&pool, &[2]).unwrap_err().contains("the secondary"));
        drop(Secondaries::new(pool.clone()));
    }
    let busy = secondaries.compare(&v(&pool), false, &mut |_| Ok(())).unwrap_err().to_string();
    assert!(busy.contains("@2 is being applied"), "{busy}");
    secondaries.settle(&v(&pool)).unwrap();
    assert!(std::fs::read(image(&lab)).unwrap() == old);
}

/// Without the point that it settled at there is no difference to apply: it is read, and what differs is written.
#[test]
fn a_secondary_without_its_point_or_state_is_compared_and_not_rewritten() {
    let lab = Lab::new();
    let pool = lab.open();
    let old = volume(&(1..=40).collect::<Vec<_>>());
    let mut new = old.clone();
    new[20 * BLOCK..21 * BLOCK].fill(0);
    new[30 * BLOCK] ^= 1;
    replicate(&pool, None, &old, 1).unwrap();
    settle(&pool).unwrap();
    replicate(&pool, Some(&old), &new, 2).unwrap();
    remove(&pool, &[1]).unwrap();
    let from_difference = 2;
    let (found, writes) = settle_counted(&lab, &Secondaries::new(pool.clone()), &pool);
    assert!(found == new);
    let of_states = 2 * 2 + 1;
    assert_eq!(writes, from_difference + of_states, "one block was zeroed and one written");
    std::fs::remove_file(lab.dir.path().join("volumes/v/state")).unwrap();
    let (found, writes) = settle_counted(&lab, &Secondaries::new(pool.clone()), &pool);
    assert!(found == new && writes == of_states, "nothing was written but the state: {writes}");
}

#[test]
fn comparing_names_what_differs_and_repairing_ends_it() {
    let lab = Lab::new();
    let pool = lab.open();
    let bytes = volume(&[1, 2, 0, 3, 0, 4]);
    replicate(&pool, None, &bytes, 1).unwrap();
    settle(&pool).unwrap();
    let secondaries = Secondaries::new(pool.clone());
    let file = std::fs::OpenOptions::new().write(true).open(image(&lab)).unwrap();
    let mut steps = Vec::new();
    let mut compare = |repair| {
        let mut step = |bytes| {
            steps.push(bytes);
            Ok(())
        };
        secondaries.compare(&v(&pool), repair, &mut step).unwrap().unwrap()
    };
    let all = Compared { point: 1, blocks: 6, ..Compared::default() };
    assert_eq!(compare(true), all);
    // A block that was lost, one that came from nowhere, and one with another bit.
    file.write_all_at(&[0; BLOCK], BLOCK as u64).unwrap();
    file.write_all_at(b"x", 4 * BLOCK as u64 + 9).unwrap();
    file.write_all_at(&[block(4)[100] ^ 1], 5 * BLOCK as u64 + 100).unwrap();
    let differences = |repaired| {
        [(1, block(2)), (4, vec![0; BLOCK]), (5, block(4))].map(|(at, content)| Difference {
            block: BlockId(at),
            offset: at * BLOCK as u64,
            expected: Digest::of_block(&content),
            repaired,
        })
    };
    assert_eq!(compare(false), Compared { differing: 3, named: differences(false).to_vec(), ..all.clone() });
    assert_eq!(compare(true), Compared { differing: 3, repaired: 3, named: differences(true).to_vec(), ..all.clone() });
    assert_eq!(compare(false), all);
    assert!(std::fs::read(image(&lab)).unwrap() == bytes);
    assert!(steps.iter().sum::<u64>() >= 4 * 4 * BLOCK as u64, "{steps:?}");
}

#[test]
fn a_block_that_the_pool_has_lost_too_is_left_and_the_others_are_repaired() {
    let lab = Lab::new();
    let pool = lab.open();
    let bytes = volume(&[1, 2, 3]);
    replicate(&pool, None, &bytes, 1).unwrap();
    settle(&pool).unwrap();
    drop(pool);
    let segment = &lab.segments()[0];
    let mut content = std::fs::read(segment).unwrap();
    let at = content.windows(64).position(|window| *window == block(2)[..64]).unwrap();
    content[at] ^= 1;
    std::fs::write(segment, content).unwrap();
    let pool = lab.open();
    let secondaries = Secondaries::new(pool.clone());
    assert_eq!(secondaries.block(&v(&pool), BlockId(1), Digest::of_block(&block(2))).unwrap(), block(2));
    assert!(secondaries.block(&v(&pool), BlockId(0), Digest::of_block(&block(2))).is_none());
    assert!(secondaries.block(&v(&pool), BlockId(3), Digest::of_block(&block(2))).is_none());
    let file = std::fs::OpenOptions::new().write(true).open(image(&lab)).unwrap();
    file.write_all_at(&[7; 3 * BLOCK], 0).unwrap();
    assert!(secondaries.block(&v(&pool), BlockId(1), Digest::of_block(&block(2))).is_none());
    let compared = secondaries.compare(&v(&pool), true, &mut |_| Ok(())).unwrap().unwrap();
    assert_eq!((compared.differing, compared.repaired), (3, 2));
    let left: Vec<_> = compared.named.iter().filter(|found| !found.repaired).map(|found| found.block).collect();
    assert_eq!(left, [BlockId(1)]);
}

/// A point that is committed while a comparison goes on is applied between two pieces of it.
#[test]
fn a_comparison_lets_applying_go_first_and_goes_on_with_the_newer_point() {
    let lab = Lab::new();
    let pool = lab.open();
    let mut old = volume(&[1]);
    old.resize(9 << 20, 0);
    old[(9 << 20) - BLOCK..].copy_from_slice(&block(2));
    replicate(&pool, None, &old, 1).unwrap();
    settle(&pool).unwrap();
    let secondaries = Secondaries::new(pool.clone());
    let mut new = old.clone();
    new[(9 << 20) - BLOCK..].copy_from_slice(&block(3));
    let mut pieces = 0;
    let mut step = |_| {
        pieces += 1;
        if pieces == 1 {
            replicate(&pool, Some(&old), &new, 2).unwrap();
            secondaries.settle(&v(&pool)).unwrap();
        }
        Ok(())
    };
    let compared = secondaries.compare(&v(&pool), false, &mut step).unwrap().unwrap();
    assert_eq!(compared, Compared { point: 2, blocks: 9 << 8, ..Compared::default() });
    let mut step = |_| Err(Error::Closing);
    assert!(matches!(secondaries.compare(&v(&pool), false, &mut step), Err(Error::Closing)));
    let mut step = |_| {
        secondaries.set_mode(&"v".parse().unwrap(), SecondaryMode::None, false).unwrap();
        Ok(())
    };
    let switched = secondaries.compare(&v(&pool), false, &mut step).unwrap_err().to_string();
    assert!(switched.contains("was switched"), "{switched}");
    assert_eq!(secondaries.compare(&v(&pool), false, &mut |_| Ok(())).unwrap(), None);
}

#[test]
fn a_volume_is_removed_with_its_secondary_or_not_at_all() {
    let lab = Lab::new();
    let pool = lab.open();
    replicate(&pool, None, &volume(&[1, 2]), 1).unwrap();
    let secondaries = Secondaries::new(pool.clone());
    secondaries.settle(&v(&pool)).unwrap();
    assert!(remove(&pool, &[1]).unwrap_err().contains("the secondary"), "not while the secondary needs it");
    let failed = secondaries.remove(&v(&pool), || Err(Error::refused("no"))).unwrap_err();
    assert_eq!(failed.to_string(), "no");
    assert_eq!(pool.users(&v(&pool).uuid, 1), ["the secondary"]);
    let removed = secondaries.remove(&v(&pool), || remove(&pool, &[1]).map_err(Error::Refused));
    removed.unwrap();
    assert!(!lab.dir.path().join("volumes/v").exists());
    let other = volume(&[3]);
    replicate(&pool, None, &other, 2).unwrap();
    secondaries.settle(&v(&pool)).unwrap();
    assert!(std::fs::read(image(&lab)).unwrap() == other, "the name can be used again");
}
