//! Scrubbing: damage of every kind is found, told with its place, and healed where the content still is anywhere.

use crate::model::*;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use understudy_appliance::clock::Clock;
use understudy_appliance::error::{Error, Result};
use understudy_appliance::pool::Pool;
use understudy_appliance::pool::collect;
use understudy_appliance::scrub::report::{Damaged, Place};
use understudy_appliance::scrub::resend::damaged_blocks;
use understudy_appliance::scrub::{self, Event, Options, Scrubbed};
use understudy_appliance::secondary::Secondaries;
use understudy_format::Digest;
use understudy_format::layout::Layout;
use understudy_format::segment::{Kind, RecordHeader};
use understudy_format::wire::BlockRange;

/// A clock that stands still: nobody may wait.
struct Still;

impl Clock for Still {
    fn elapsed_ns(&self) -> u64 {
        0
    }
    fn wait(&self, _: u64) {
        panic!("without a rate nobody waits");
    }
}

fn scrub_with(pool: &Arc<Pool>, options: &Options) -> (Scrubbed, Vec<Event>) {
    let mut events = Vec::new();
    let scrubbed =
        scrub::run(pool, &Secondaries::new(pool.clone()), options, &Still, &AtomicBool::new(false), &mut |event| {
            events.push(event)
        })
        .unwrap();
    (scrubbed, events)
}

fn scrub(pool: &Arc<Pool>) -> (Scrubbed, Vec<Event>) {
    scrub_with(pool, &Options { now_ns: 1000, ..Options::default() })
}

fn damages(events: &[Event]) -> Vec<&Damaged> {
    let mut damages = Vec::new();
    for event in events {
        if let Event::Damaged(damaged) = event {
            damages.push(damaged);
        }
    }
    damages
}

fn place(volume: &str, points: (u64, u64), first_block: u64, block_count: u64) -> Place {
    let offset = first_block * BLOCK as u64;
    Place { volume: volume.into(), first_point: points.0, last_point: points.1, first_block, block_count, offset }
}

fn flip(path: &Path, at: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_at(&[byte[0] ^ 1], at).unwrap();
}

/// The records of all segments: file, and header.
fn records(lab: &Lab) -> Vec<(PathBuf, RecordHeader)> {
    let mut found = Vec::new();
    for path in lab.segments() {
        let bytes = std::fs::read(&path).unwrap();
        let mut at = 64;
        while let Some(Ok(header)) = bytes.get(at..at + 64).map(|header| RecordHeader::decode(header, at as u64)) {
            at += header.record_length() as usize;
            found.push((path.clone(), header));
        }
    }
    found
}

/// Flips a bit of each record with `digest`, `at` bytes from the start of its header.
fn damage(lab: &Lab, digest: Digest, at: u64) {
    let found: Vec<_> = records(lab).into_iter().filter(|(_, header)| header.digest == digest).collect();
    assert_eq!(found.len(), 1, "{digest} is stored once");
    flip(&found[0].0, found[0].1.offset + at);
}

const IN_CONTENT: u64 = RecordHeader::SIZE as u64 + 100;
const IN_HEADER: u64 = 30;

fn digest(seed: u64) -> Digest {
    Digest::of_block(&block(seed))
}

fn page(digests: &[Digest]) -> Digest {
    let mut page = understudy_format::map::Page::zero();
    digests.iter().enumerate().for_each(|(slot, digest)| page.set(slot, *digest));
    page.digest()
}

fn drop_index(lab: &Lab) {
    std::fs::remove_dir_all(lab.dir.path().join("index")).unwrap();
}

/// What was healed stays healed: by the index, by the segments alone, and after a collection.
fn assert_whole(lab: &Lab, pool: Arc<Pool>, points: &[&[u8]]) {
    assert_eq!(assert_readable(lab, pool, points).warnings, 0);
}

fn assert_readable(lab: &Lab, pool: Arc<Pool>, points: &[&[u8]]) -> Scrubbed {
    let check = |pool: &Arc<Pool>, when: &str| {
        for (number, bytes) in (1..).zip(points) {
            assert!(read(pool, number).unwrap() == *bytes, "point {number} {when}");
        }
        assert_eq!(pool.damaged().unwrap(), [], "{when}");
    };
    check(&pool, "at once");
    drop(pool);
    check(&lab.open(), "after opening again");
    drop_index(lab);
    let pool = lab.open();
    check(&pool, "from the segments alone");
    pool.collect(collect::Options { dead_max: 0.0, dry_run: false }, &AtomicBool::new(false)).unwrap();
    drop(pool);
    let pool = lab.open();
    check(&pool, "after a collection");
    let (scrubbed, events) = scrub(&pool);
    assert_eq!((scrubbed.exit_code(), scrubbed.unneeded), (0, 0), "{events:?}");
    scrubbed
}

/// Volume `v` with two points; with or without a secondary.
fn two_points(secondary: bool) -> (Lab, [Vec<u8>; 2]) {
    let lab = Lab::new();
    let versions = [volume(&[1, 2, 0, 3]), volume(&[1, 2, 4, 3])];
    let pool = lab.open();
    replicate(&pool, None, &versions[0], 1).unwrap();
    replicate(&pool, Some(&versions[0]), &versions[1], 2).unwrap();
    if secondary {
        settle(&pool).unwrap();
    }
    drop(pool);
    (lab, versions)
}

#[test]
fn a_whole_pool_is_found_whole_and_every_record_is_read() {
    let (lab, versions) = two_points(true);
    let pool = lab.open();
    let (scrubbed, events) = scrub(&pool);
    let stored = records(&lab).iter().filter(|(_, header)| header.kind != Kind::Pad as u8).count();
    assert_eq!((scrubbed.exit_code(), scrubbed.records, scrubbed.warnings), (0, stored as u64, 0), "{events:?}");
    assert!(events.iter().all(|event| matches!(event, Event::Progress { .. })), "{events:?}");
    assert_whole(&lab, pool, &[&versions[0], &versions[1]]);
}

#[test]
fn a_damaged_block_is_told_with_its_place_and_healed_from_the_secondary() {
    let (lab, versions) = two_points(true);
    damage(&lab, digest(2), IN_CONTENT);
    let pool = lab.open();
    let (scrubbed, events) = scrub(&pool);
    assert_eq!((scrubbed.damaged, scrubbed.healed, scrubbed.exit_code()), (1, 1, 3), "{events:?}");
    let damaged = damages(&events)[0];
    assert_eq!(damaged.places, [place("v", (1, 2), 1, 1)]);
    let text = Event::Damaged(damaged.clone()).to_string();
    assert!(text.starts_with("volume v, points 1 to 2, block 1 (byte offset 4096): damaged block "), "{text}");
    assert!(text.contains("in segment 0000000000000001 at offset ") && text.contains("CRC-32 mismatch"), "{text}");
    assert!(events.iter().any(|event| event.to_string().ends_with(" from the secondary of volume v")), "{events:?}");
    assert_whole(&lab, pool, &[&versions[0], &versions[1]]);
}

#[test]
fn behind_a_damaged_header_the_content_is_found_without_a_secondary() {
    let (lab, versions) = two_points(false);
    damage(&lab, digest(2), IN_HEADER);
    let pool = lab.open();
    let (scrubbed, events) = scrub(&pool);
    assert_eq!((scrubbed.damaged, scrubbed.healed, scrubbed.exit_code()), (1, 1, 3), "{events:?}");
    assert_readable(&lab, pool, &[&versions[0], &versions[1]]);
}

#[test]
fn what_cannot_be_healed_stays_marked_until_a_stream_brings_it_again() {
    let (lab, versions) = two_points(false);
    damage(&lab, digest(2), IN_CONTENT);
    let pool = lab.open();
    let (scrubbed, events) = scrub(&pool);
    assert_eq!((scrubbed.damaged, scrubbed.unhealed, scrubbed.exit_code()), (1, 1, 4), "{events:?}");
    let unhealed = events.iter().find(|event| matches!(event, Event::Unhealed { .. })).unwrap().to_string();
    assert!(unhealed.contains("the next `understudy replicate` of v sends it again"), "{unhealed}");
    drop(pool);
    let pool = lab.open();
    let again = Options { older_than_ns: Some(1), now_ns: 1000, ..Options::default() };
    let (scrubbed, events) = scrub_with(&pool, &again);
    assert_eq!((scrubbed.segments, scrubbed.unhealed), (0, 1), "known from before: {events:?}");
    let (mut sender, mut ingest) = start(&pool, "w", None, &versions[1], 3).unwrap();
    assert_eq!(feed(&mut sender, &mut ingest, None, &versions[1], 9).unwrap(), 1, "only that block is asked for");
    ingest.commit(&sender.commit(map(&versions[1]).root()).unwrap()).unwrap();
    assert_eq!(scrub(&pool).0.exit_code(), 0);
    assert_whole(&lab, pool, &[&versions[0], &versions[1]]);
}

#[test]
fn every_volume_and_every_run_of_points_that_needs_a_block_is_told() {
    let lab = Lab::new();
    let pool = lab.open();
    let versions = [volume(&[7, 2]), volume(&[7, 3, 7]), volume(&[5, 3, 7]), volume(&[7, 3, 7])];
    let mut old: Option<&Vec<u8>> = None;
    for (at, new) in versions.iter().enumerate() {
        replicate(&pool, old.map(|old| &old[..]), new, at as u128 + 1).unwrap();
        old = Some(new);
    }
    let other = volume(&[1, 7]);
    let (mut sender, mut ingest) = start(&pool, "w", None, &other, 9).unwrap();
    feed(&mut sender, &mut ingest, None, &other, 9).unwrap();
    ingest.commit(&sender.commit(map(&other).root()).unwrap()).unwrap();
    drop(pool);
    damage(&lab, digest(7), IN_CONTENT);
    damage(&lab, digest(2), IN_CONTENT);
    let pool = lab.open();
    let (_, events) = scrub(&pool);
    let find = |seed| damages(&events).into_iter().find(|damaged| damaged.digest == digest(seed).to_string()).unwrap();
    assert_eq!(
        find(7).places,
        [place("v", (1, 2), 0, 1), place("v", (2, 4), 2, 1), place("v", (4, 4), 0, 1), place("w", (1, 1), 1, 1)],
    );
    assert_eq!(find(2).places, [place("v", (1, 1), 1, 1)]);
    let only = Options { volume: Some("w".parse().unwrap()), ..Options::default() };
    let (scrubbed, events) = scrub_with(&pool, &only);
    assert_eq!((scrubbed.damaged, damages(&events)[0].places.len()), (1, 4), "what w needs, and who else does");
}

#[test]
fn places_that_are_told_are_bounded() {
    let lab = Lab::new();
    let bytes = volume(&[7; 100]);
    replicate(&lab.open(), None, &[&volume(&[1]), &bytes[..]].concat(), 1).unwrap();
    damage(&lab, digest(7), IN_CONTENT);
    let (_, events) = scrub(&lab.open());
    assert_eq!((damages(&events)[0].places.len(), damages(&events)[0].more_places), (16, 84));
}

#[test]
fn damaged_pages_of_all_levels_and_a_block_beneath_are_healed_from_the_secondary() {
    let seeds: Vec<u64> = (1..700).collect();
    let bytes = volume(&seeds);
    let leaves: Vec<Digest> =
        seeds.chunks(256).map(|seeds| page(&seeds.iter().map(|seed| digest(*seed)).collect::<Vec<_>>())).collect();
    for secondary in [true, false] {
        let lab = Lab::new();
        let pool = lab.open();
        replicate(&pool, None, &bytes, 1).unwrap();
        if secondary {
            settle(&pool).unwrap();
        }
        drop(pool);
        damage(&lab, page(&leaves), IN_CONTENT);
        damage(&lab, leaves[1], IN_CONTENT);
        damage(&lab, digest(300), IN_CONTENT);
        let pool = lab.open();
        let (scrubbed, events) = scrub(&pool);
        let damaged = damages(&events);
        assert_eq!((damaged[0].what, &damaged[0].places[..]), ("map page", &[place("v", (1, 1), 0, 699)][..]));
        if secondary {
            assert_eq!((scrubbed.damaged, scrubbed.healed, scrubbed.exit_code()), (3, 3, 3), "{events:?}");
            assert_eq!(damaged[1].places, [place("v", (1, 1), 256, 256)]);
            assert_eq!((damaged[2].what, &damaged[2].places[..]), ("block", &[place("v", (1, 1), 299, 1)][..]));
            assert_whole(&lab, pool, &[&bytes]);
        } else {
            assert_eq!((scrubbed.unhealed, scrubbed.exit_code()), (1, 4), "{events:?}");
        }
    }
}

#[test]
fn a_damaged_footer_or_trailer_is_a_warning_and_costs_nothing() {
    let bytes = volume(&(1..700).collect::<Vec<_>>());
    for in_trailer in [false, true] {
        let lab = Lab::new();
        replicate(&lab.open(), None, &bytes, 1).unwrap();
        let first = lab.segments()[0].clone();
        let footer = records(&lab).into_iter().find(|(_, header)| header.kind == Kind::Footer as u8).unwrap();
        assert_eq!(footer.0, first);
        let length = std::fs::metadata(&first).unwrap().len();
        flip(&first, if in_trailer { length - 20 } else { footer.1.offset + 100 });
        let pool = lab.open();
        let (scrubbed, events) = scrub(&pool);
        assert_eq!((scrubbed.exit_code(), scrubbed.damaged), (0, 0), "{events:?}");
        let expected = if in_trailer { "the trailer is damaged" } else { "the footer is damaged" };
        assert!(events.iter().any(|event| event.to_string().contains(expected)), "{events:?}");
        drop(pool);
        drop_index(&lab);
        assert!(read(&lab.open(), 1).unwrap() == bytes);
    }
}

/// A replay passes over a segment without a header: what only it has would be gone with the index.
#[test]
fn a_segment_whose_own_header_is_damaged_is_copied() {
    let (lab, versions) = two_points(false);
    let pool = lab.open();
    flip(&lab.segments()[0], 20);
    let (scrubbed, events) = scrub(&pool);
    assert_eq!((scrubbed.exit_code(), scrubbed.warnings), (3, 1), "{events:?}");
    drop(pool);
    drop_index(&lab);
    let pool = lab.open();
    assert_eq!(numbers(&pool), [1, 2]);
    assert!(read(&pool, 1).unwrap() == versions[0] && read(&pool, 2).unwrap() == versions[1]);
}

#[test]
fn a_damaged_record_of_the_catalogue_is_recorded_once_more() {
    for at in [IN_HEADER, RecordHeader::SIZE as u64 + 10] {
        let (lab, versions) = two_points(false);
        let pool = lab.open();
        for (path, header) in records(&lab).iter().filter(|(_, header)| header.kind == Kind::Point as u8) {
            flip(path, header.offset + at);
        }
        let (scrubbed, events) = scrub(&pool);
        assert_eq!((scrubbed.damaged, scrubbed.healed, scrubbed.exit_code()), (2, 2, 3), "{events:?}");
        drop(pool);
        drop_index(&lab);
        let pool = lab.open();
        assert_eq!(numbers(&pool), [1, 2], "without the index, damaged at {at}");
        assert!(read(&pool, 2).unwrap() == versions[1]);
    }
}

/// A header that is damaged, and an index that was made anew: nothing leads to the record any more.
#[test]
fn a_record_that_the_index_does_not_find_is_missed_by_its_points() {
    for secondary in [true, false] {
        let (lab, versions) = two_points(secondary);
        damage(&lab, digest(2), IN_HEADER);
        drop_index(&lab);
        let pool = lab.open();
        let (scrubbed, events) = scrub(&pool);
        let damaged = damages(&events)[0];
        assert_eq!((damaged.segment, &damaged.places[..]), (0, &[place("v", (1, 2), 1, 1)][..]), "{events:?}");
        assert!(damaged.reason.contains("is not in the pool"), "{}", damaged.reason);
        if secondary {
            assert_eq!(scrubbed.exit_code(), 3);
            assert!(read(&pool, 1).unwrap() == versions[0] && read(&pool, 2).unwrap() == versions[1]);
        } else {
            assert_eq!((scrubbed.exit_code(), pool.damaged().unwrap().len()), (4, 1));
            assert!(matches!(read(&pool, 2), Err(Error::At { .. })));
            pool.remove_points(&"v".parse().unwrap(), &[1, 2].into(), 5).unwrap();
            assert_eq!((scrub(&pool).0.exit_code(), pool.damaged().unwrap().len()), (0, 0), "nobody needs it any more");
        }
    }
}

#[test]
fn a_segment_that_was_removed_by_hand_is_healed_from_the_secondary() {
    let lab = Lab::new();
    let bytes = volume(&(1..700).collect::<Vec<_>>());
    let pool = lab.open();
    replicate(&pool, None, &bytes, 1).unwrap();
    settle(&pool).unwrap();
    drop(pool);
    assert!(lab.segments().len() > 2);
    std::fs::remove_file(&lab.segments()[0]).unwrap();
    let pool = lab.open();
    let (scrubbed, events) = scrub(&pool);
    assert!(scrubbed.healed > 100 && scrubbed.exit_code() == 3, "{scrubbed:?} {:?}", events.last());
    assert!(read(&pool, 1).unwrap() == bytes);
    assert_eq!(scrub(&pool).0.exit_code(), 0);
}

fn interrupt_after(pool: &Arc<Pool>, done_max: u64, options: &Options) -> Result<Scrubbed> {
    let stop = AtomicBool::new(false);
    let mut report = |event| {
        if let Event::Progress { done, .. } = event {
            stop.store(done >= done_max, Ordering::SeqCst);
        }
    };
    scrub::run(pool, &Secondaries::new(pool.clone()), options, &Still, &stop, &mut report)
}

#[test]
fn an_interrupted_scrub_goes_on_where_it_was() {
    let lab = Lab::new();
    let bytes = volume(&(1..900).collect::<Vec<_>>());
    replicate(&lab.open(), None, &bytes, 1).unwrap();
    let segments = lab.segments().len() as u64;
    assert!(segments > 3);
    let at = |now_ns, age| Options { now_ns, older_than_ns: Some(age), ..Options::default() };
    assert!(matches!(interrupt_after(&lab.open(), 2, &at(1000, 100)), Err(Error::Closing)));
    let pool = lab.open();
    let (scrubbed, _) = scrub_with(&pool, &at(1050, 100));
    assert_eq!((scrubbed.passed_over, scrubbed.segments), (2, segments - 2));
    assert_eq!(scrub_with(&pool, &at(1100, 100)).0.segments, 0, "all were checked within 100 ns");
    assert_eq!(scrub_with(&pool, &at(1101, 100)).0.segments, 2, "two of them longer ago");
    let all = Options { now_ns: 1101, ..Options::default() };
    assert_eq!(scrub_with(&pool, &all).0.segments, segments, "everything, when no age is given");
}

#[test]
fn one_volume_costs_what_it_needs_and_is_no_scrub_of_the_segments() {
    let lab = Lab::new();
    let pool = lab.open();
    replicate(&pool, None, &volume(&(1..200).collect::<Vec<_>>()), 1).unwrap();
    let other = volume(&[1000, 7]);
    let (mut sender, mut ingest) = start(&pool, "w", None, &other, 9).unwrap();
    feed(&mut sender, &mut ingest, None, &other, 9).unwrap();
    ingest.commit(&sender.commit(map(&other).root()).unwrap()).unwrap();
    drop(pool);
    damage(&lab, digest(50), IN_CONTENT);
    let pool = lab.open();
    let only = |name: &str| Options { volume: Some(name.parse().unwrap()), now_ns: 9, ..Options::default() };
    let (scrubbed, events) = scrub_with(&pool, &only("w"));
    assert_eq!(scrubbed.exit_code(), 0, "{events:?}");
    assert!(scrubbed.records < 20 && scrubbed.bytes < 40 * BLOCK as u64, "{scrubbed:?}");
    let (scrubbed, _) = scrub_with(&pool, &Options { older_than_ns: Some(5), ..only("v") });
    assert_eq!((scrubbed.exit_code(), scrubbed.passed_over), (4, 0));
    let unknown =
        scrub::run(&pool, &Secondaries::new(pool.clone()), &only("x"), &Still, &AtomicBool::new(false), &mut |_| {});
    assert!(unknown.unwrap_err().to_string().contains("there is no volume x"));
}

/// An incremental stream does not offer what did not change: it has to be told what was lost.
#[test]
fn a_stream_that_brings_the_damaged_blocks_of_its_base_heals_it() {
    let seeds: Vec<u64> = (1..600).collect();
    let old = volume(&seeds);
    let leaf = page(&seeds[256..512].iter().map(|seed| digest(*seed)).collect::<Vec<_>>());
    let lab = Lab::new();
    let base = replicate(&lab.open(), None, &old, 1).unwrap();
    assert_eq!(damaged_blocks(&lab.open(), &base).unwrap(), []);
    for lost in [digest(8), digest(9), digest(600 - 1), leaf] {
        damage(&lab, lost, IN_CONTENT);
    }
    let pool = lab.open();
    assert_eq!(scrub(&pool).0.exit_code(), 4);
    let ranges = damaged_blocks(&pool, &base).unwrap();
    let range = |first, count| BlockRange { first, count };
    assert_eq!(ranges, [range(7, 2), range(256, 256), range(598, 1)]);
    let new = [&old[..], &volume(&[1000])[..]].concat();
    let mut known = old.clone();
    for BlockRange { first, count } in ranges {
        known[first as usize * BLOCK..][..count as usize * BLOCK].fill(0xee);
    }
    let (mut sender, mut ingest) = start(&pool, "v", Some(&old), &new, 2).unwrap();
    assert_eq!(feed(&mut sender, &mut ingest, Some(&known), &new, 99).unwrap(), 4, "three lost blocks and a new one");
    ingest.commit(&sender.commit(map(&new).root()).unwrap()).unwrap();
    assert_eq!(scrub(&pool).0.exit_code(), 0);
    assert_whole(&lab, pool, &[&old, &new]);
}

#[test]
fn too_many_ranges_are_told_as_the_whole_volume() {
    let lab = Lab::new();
    let seeds: Vec<u64> = (0..9000).map(|at| 1 + at % 2).collect();
    let point = replicate(&lab.open(), None, &volume(&seeds), 1).unwrap();
    damage(&lab, digest(1), IN_CONTENT);
    let pool = lab.open();
    scrub(&pool);
    assert_eq!(damaged_blocks(&pool, &point).unwrap(), [BlockRange { first: 0, count: 9000 }]);
}

/// A stream was told not to send a block; then that was found damaged and healed: the new record is what it relies on.
#[test]
fn who_relied_on_a_damaged_record_relies_on_the_healed_one() {
    let (lab, versions) = two_points(true);
    damage(&lab, digest(2), IN_CONTENT);
    let pool = lab.open();
    let (mut sender, mut ingest) = start(&pool, "w", None, &versions[1], 3).unwrap();
    assert_eq!(feed(&mut sender, &mut ingest, None, &versions[1], 9).unwrap(), 0);
    assert_eq!(scrub(&pool).0.exit_code(), 3);
    pool.remove_points(&"v".parse().unwrap(), &[1, 2].into(), 5).unwrap();
    let collect = collect::Options { dead_max: 0.0, dry_run: false };
    pool.collect(collect, &AtomicBool::new(false)).unwrap();
    ingest.commit(&sender.commit(map(&versions[1]).root()).unwrap()).unwrap();
    let only = Options { volume: Some("w".parse().unwrap()), ..Options::default() };
    assert_eq!(scrub_with(&pool, &only).0.exit_code(), 0, "nothing that w needs is missing");
}

/// Whatever write or sync fails while healing: nothing is told as healed that is not, and the next scrub heals it.
#[test]
fn a_failure_while_healing_loses_nothing() {
    for n in 1.. {
        let (lab, versions) = two_points(true);
        damage(&lab, digest(2), IN_CONTENT);
        let pool = lab.open();
        lab.disk.fail_at(n, 5);
        let mut healed = 0;
        let result = scrub::run(
            &pool,
            &Secondaries::new(pool.clone()),
            &Options::default(),
            &Still,
            &AtomicBool::new(false),
            &mut |event| {
                healed += u64::from(matches!(event, Event::Healed { .. }));
            },
        );
        let failed = lab.disk.failed();
        assert_eq!(result.is_ok(), healed == 1, "failure {n}");
        drop(pool);
        let pool = lab.open();
        if healed == 1 {
            assert!(read(&pool, 1).unwrap() == versions[0]);
        }
        scrub(&pool);
        assert_whole(&lab, pool, &[&versions[0], &versions[1]]);
        if !failed {
            return assert!(n > 1, "{n} writes and syncs were tried");
        }
    }
}

#[test]
fn a_secondary_that_is_not_what_its_point_says_is_told_and_repaired() {
    let (lab, versions) = two_points(true);
    let image = lab.dir.path().join("volumes/v/secondary.raw");
    flip(&image, BLOCK as u64 + 5);
    let pool = lab.open();
    let (scrubbed, events) = scrub(&pool);
    let counts = (scrubbed.secondaries, scrubbed.secondary_blocks, scrubbed.secondary_blocks_repaired);
    assert_eq!((counts, scrubbed.exit_code()), ((1, 1, 1), 3), "{events:?}");
    let text = events.last().unwrap().to_string();
    assert!(text.starts_with("secondary of volume v, point 2, block 1 (byte offset 4096): repaired"), "{text}");
    assert!(std::fs::read(&image).unwrap() == versions[1]);
    assert_eq!(scrub(&pool).0.exit_code(), 0);
}

#[test]
fn what_is_damaged_in_the_pool_and_in_the_secondary_stays_damaged_in_both() {
    let (lab, _) = two_points(true);
    damage(&lab, digest(2), IN_CONTENT);
    flip(&lab.dir.path().join("volumes/v/secondary.raw"), BLOCK as u64 + 5);
    let (scrubbed, events) = scrub(&lab.open());
    let counts = (scrubbed.unhealed, scrubbed.secondary_blocks, scrubbed.secondary_blocks_repaired);
    assert_eq!((counts, scrubbed.exit_code()), ((1, 1, 0), 4), "{events:?}");
}
