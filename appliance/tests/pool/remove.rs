//! Removing points, protecting them, settings: what is recorded stays so, whatever is reopened, rebuilt or collected.

use crate::model::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use understudy_appliance::pool::Pool;
use understudy_format::ErrorKind;
use understudy_format::catalogue::Settings;
use understudy_format::map::Builder;
use understudy_format::session::Progress;
use understudy_format::stream::Totals;
use uuid::Uuid;

fn refused(pool: &Pool, name: &str, numbers: &[u64], reason: &str) {
    let error = remove(pool, name, numbers.iter().copied()).unwrap_err();
    assert!(error.to_string().contains(reason), "{error}");
}

/// Versions of a volume that share some blocks, each the base of the next.
fn history(pool: &Arc<Pool>, name: &str, seeds: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    let versions: Vec<Vec<u8>> = seeds.map(|seed| volume(&[1, seed * 100, 3, seed * 100 + 1, 0])).collect();
    let mut old: Option<&[u8]> = None;
    for new in &versions {
        let stream = u128::from(name.as_bytes()[0]) * 1000
            + pool.volume(&name.parse().unwrap()).map_or(0, |entry| entry.points.len() as u128)
            + 1;
        replicate_to(pool, name, old, new, stream).unwrap();
        old = Some(new);
    }
    versions
}

fn protected(pool: &Pool) -> BTreeSet<u64> {
    pool.volume(&"v".parse().unwrap()).unwrap().protected.clone()
}

#[test]
fn what_is_not_there_or_the_newest_is_not_removed() {
    let lab = Lab::quick();
    let pool = lab.open();
    let versions = history(&pool, "v", 1..4);
    refused(&pool, "w", &[1], "there is no volume w");
    refused(&pool, "v", &[1, 7], "there is no point v@7");
    refused(&pool, "v", &[1, 3], "v@3 is the newest point of its volume and stays");
    assert_eq!(numbers(&pool), [1, 2, 3], "all or nothing");
    remove(&pool, "v", [1]).unwrap();
    refused(&pool, "v", &[1], "there is no point v@1");
    lab.also_reopened(pool, |pool| {
        assert_eq!(numbers(pool), [2, 3]);
        assert!(read(pool, 2).unwrap() == versions[1] && read(pool, 3).unwrap() == versions[2]);
    });
}

#[test]
fn a_point_in_use_is_not_removed() {
    let lab = Lab::quick();
    let pool = lab.open();
    let versions = history(&pool, "v", 1..4);
    let looking = view(&pool, "v", 1).unwrap();
    let error = remove(&pool, "v", [1, 2]).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().contains("v@1 is in use by a test")),
        (ErrorKind::Retry, true),
        "{error}"
    );
    drop(looking);
    let stream = start(&pool, "v", Some(&versions[1]), &versions[2], 9).unwrap();
    let error = remove(&pool, "v", [1, 2]).unwrap_err();
    assert!(error.to_string().contains("v@2 is in use by a stream that is based on it"), "{error}");
    drop(stream);
    let stream = start(&pool, "v", None, &versions[2], 9).unwrap();
    let error = remove(&pool, "v", [1, 2, 3]).unwrap_err();
    assert!(error.kind() == ErrorKind::Retry && error.to_string().contains("is being written"), "{error}");
    drop(stream);
    remove(&pool, "v", [1, 2]).unwrap();
    assert_eq!(numbers(&pool), [3]);
}

#[test]
fn removals_protections_and_settings_survive_everything() {
    let lab = Lab::quick();
    let pool = lab.open();
    let versions = history(&pool, "v", 1..6);
    let (name, keep) = ("v".parse().unwrap(), Settings { keep: [7, 0, 0, 0, 0, 1], ..Settings::default() });
    pool.protect(&name, &BTreeSet::from([2, 3, 4]), true).unwrap();
    pool.set(&name, |set| *set = Settings { keep_within: "PT1H".into(), ..Settings::default() }).unwrap();
    collect(&pool);
    remove(&pool, "v", [1]).unwrap();
    pool.set(&name, |set| set.clone_from(&keep)).unwrap();
    pool.protect(&name, &BTreeSet::from([3]), false).unwrap();
    let check = |pool: &Arc<Pool>, when: &str| {
        assert_eq!((numbers(pool), protected(pool)), (vec![2, 3, 4, 5], BTreeSet::from([2, 4])), "{when}");
        assert_eq!(pool.known(&name).unwrap().settings, keep, "{when}");
        for number in numbers(pool) {
            assert!(read(pool, number).unwrap() == versions[number as usize - 1], "{when}: point {number}");
        }
    };
    check(&pool, "running");
    for round in 0..3 {
        collect(&pool);
        check(&pool, &format!("collected {round}"));
    }
    drop(pool);
    check(&lab.open(), "reopened");
    lab.lose_index();
    let pool = lab.open();
    check(&pool, "rebuilt");
    collect(&pool);
    check(&pool, "rebuilt and collected");
}

/// The record that ends a protection stands in a segment of its own, which is collected while that of the protection stays.
#[test]
fn an_ended_protection_does_not_come_back_with_the_index() {
    let lab = Lab { segment_size: 1 << 20, ..Lab::quick() };
    let pool = lab.open();
    let (name, bytes) = ("v".parse().unwrap(), volume(&(1..100).collect::<Vec<_>>()));
    replicate(&pool, None, &bytes, 1).unwrap();
    pool.protect(&name, &BTreeSet::from([1]), true).unwrap();
    // Seals the segment, which stays: all of it counts.
    collect(&pool);
    replicate_to(&pool, "w", None, &volume(&(100..130).collect::<Vec<_>>()), 2).unwrap();
    pool.protect(&name, &BTreeSet::from([1]), false).unwrap();
    remove(&pool, "w", [1]).unwrap();
    assert!(collect(&pool).removed_segments == 1 && lab.segments().len() == 2);
    assert!(protected(&pool).is_empty());
    drop(pool);
    lab.lose_index();
    assert!(protected(&lab.open()).is_empty(), "the protection was ended");
}

#[test]
fn a_volume_without_points_is_gone_and_its_name_free() {
    let lab = Lab::quick();
    let pool = lab.open();
    let name = "v".parse().unwrap();
    history(&pool, "v", 1..4);
    pool.protect(&name, &BTreeSet::from([1, 3]), true).unwrap();
    pool.set(&name, |set| set.keep = [1; 6]).unwrap();
    remove(&pool, "v", [1, 2, 3]).unwrap();
    lab.also_reopened(pool, |pool| {
        assert!(pool.volumes().is_empty());
        collect(pool);
        assert_eq!(pool.known(&name).unwrap_err().to_string(), "there is no volume v in this pool");
    });
    let bytes = volume(&[7, 8]);
    replicate(&lab.open(), None, &bytes, 9).unwrap();
    for _ in 0..2 {
        let pool = lab.open();
        assert_eq!((numbers(&pool), protected(&pool)), (vec![1], BTreeSet::new()));
        assert_eq!(pool.known(&name).unwrap().settings, Settings::default());
        assert!(read(&pool, 1).unwrap() == bytes);
        drop(pool);
        lab.lose_index();
    }
}

/// The same volume, by its UUID, comes again after all of its points were removed.
#[test]
fn a_number_is_given_once() {
    let lab = Lab::quick();
    let (uuid, bytes) = (Uuid::from_u128(5), volume(&[1, 2, 3]));
    let again = |pool: &Arc<Pool>, stream: u128| {
        let begin = understudy_format::stream::Begin { volume: uuid, ..begin(None, &bytes, stream) };
        let name = "v".parse().unwrap();
        let announced = understudy_appliance::ingest::Announced {
            name,
            label: None,
            new_uuid: uuid,
            now_ns: 1,
            learns: true,
            over: None,
        };
        let mut sender = understudy_format::session::Sender::online(begin, 4);
        let mut ingest = understudy_appliance::ingest::Ingest::begin(pool.clone(), announced, begin).unwrap();
        feed(&mut sender, &mut ingest, None, &bytes, 9).unwrap();
        ingest.commit(&sender.commit(map(&bytes).root()).unwrap()).unwrap().number
    };
    let name = "v".parse().unwrap();
    for round in 1..4 {
        let pool = lab.open();
        assert_eq!(again(&pool, round.into()), round);
        assert!(protected(&pool).is_empty(), "what was said of v@{} says nothing of v@{round}", round - 1);
        pool.protect(&name, &BTreeSet::from([round]), true).unwrap();
        pool.set(&name, |set| set.keep = [3; 6]).unwrap();
        remove(&pool, "v", [round]).unwrap();
        for _ in 0..round {
            collect(&pool);
        }
        drop(pool);
        lab.lose_index();
    }
    let pool = lab.open();
    assert_eq!(again(&pool, 4), 4);
    drop(pool);
    lab.lose_index();
    let pool = lab.open();
    assert_eq!((numbers(&pool), protected(&pool)), (vec![4], BTreeSet::new()));
    assert_eq!(pool.known(&name).unwrap().settings, Settings::default());
}

/// A collection that was interrupted leaves a second record of a point; a removal counts for both.
#[test]
fn a_removed_point_does_not_come_back_from_a_segment_that_was_kept() {
    let lab = Lab { segment_size: 1 << 20, ..Lab::quick() };
    let pool = lab.open();
    let (small, large) = (volume(&[1, 2]), volume(&(100..300).collect::<Vec<_>>()));
    replicate_to(&pool, "w", None, &large, 1).unwrap();
    replicate(&pool, None, &small, 2).unwrap();
    replicate(&pool, Some(&small), &volume(&[1, 3]), 3).unwrap();
    remove(&pool, "w", [1]).unwrap();
    let first = lab.segments().pop().unwrap();
    let whole = std::fs::read(&first).unwrap();
    assert_eq!(collect(&pool).removed_segments, 1);
    drop(pool);
    // As if the directory had not been synced: the segment is there, its successor as well. A stream then finds in
    // it what it has: it is worth keeping.
    std::fs::write(&first, &whole).unwrap();
    lab.lose_index();
    let pool = lab.open();
    assert_eq!(numbers(&pool), [1, 2]);
    replicate_to(&pool, "x", None, &large, 4).unwrap();
    remove(&pool, "v", [1]).unwrap();
    replicate_to(&pool, "y", None, &volume(&(400..440).collect::<Vec<_>>()), 5).unwrap();
    remove(&pool, "y", [1]).unwrap();
    for _ in 0..3 {
        collect(&pool);
    }
    drop(pool);
    lab.lose_index();
    let pool = lab.open();
    assert_eq!(numbers(&pool), [2], "point 1 was removed");
    assert!(read_of(&pool, "x", 1).unwrap() == large);
}

fn progress(pool: &Arc<Pool>, name: &str, bytes: &[u8], stream: u128, recorded_ns: i64) -> Progress {
    let (begin, geometry) = (begin(None, bytes, stream), geometry(bytes));
    let guard = pool.begin_stream(&name.parse().unwrap(), Uuid::nil()).unwrap();
    let mut builder = Builder::new(geometry, None);
    let mut pages = pool.pages(Some(&guard));
    for content in bytes.chunks(BLOCK).take(2) {
        let digest = understudy_format::Digest::of_block(content);
        pool.store_block(&guard, digest, understudy_format::codec::Codec::Stored, BLOCK as u32, content).unwrap();
        builder.block(digest, &mut pages).unwrap();
    }
    let uuid = pool.volume(&name.parse().unwrap()).map_or(Uuid::from_u128(stream), |entry| entry.volume.uuid);
    let progress = Progress {
        volume: understudy_format::point::Volume {
            uuid,
            name: name.parse().unwrap(),
            block_size: geometry.block_size(),
            created_ns: 1,
        },
        label: None,
        begin,
        totals: Totals { chunks: 1, data: 2, ..Totals::default() },
        map: builder.partial(),
        recorded_ns,
        stored_bytes: 0,
        new_bytes: 0,
    };
    pool.save_progress(&guard, progress.clone()).unwrap();
    progress
}

/// What it brought is kept by collections just as long as it can be gone on with.
#[test]
fn an_interrupted_stream_is_kept_and_dropped_alike_by_running_and_reopened_pools() {
    let lab = Lab::quick();
    let (name, bytes) = ("v".parse().unwrap(), volume(&[11, 12, 13, 14]));
    let pool = lab.open();
    replicate(&pool, None, &volume(&[1]), 5).unwrap();
    replicate(&pool, None, &volume(&[2]), 7).unwrap();
    let saved = progress(&pool, "v", &bytes, 8, 2);
    remove(&pool, "v", [1]).unwrap();
    let pool = lab.also_reopened(pool, |pool| {
        collect(pool);
        assert_eq!(pool.progress(&name).as_deref(), Some(&saved));
        let blocks = bytes.chunks(BLOCK).take(2).map(understudy_format::Digest::of_block);
        blocks.for_each(|digest| drop(pool.block(digest).unwrap()));
    });
    remove(&pool, "v", [2]).unwrap();
    let pool = lab.also_reopened(pool, |pool| {
        collect(pool);
        assert_eq!(pool.progress(&name), None, "the volume was removed since");
    });
    drop(pool);
    lab.lose_index();
    assert_eq!(lab.open().progress(&name), None, "the volume was removed since");
}
