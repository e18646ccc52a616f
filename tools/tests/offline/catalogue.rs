//! `pool check` over what becomes of points: removed, protected, collected, cut on their way.

use crate::build::{BLOCK, POOL, Pages, Scene, Segment, VOLUME, block, block_size, noise};
use std::fs;
use understudy_format::catalogue::{RemovalRecord, SecondaryMode, Settings};
use understudy_format::map::Builder;
use understudy_format::point::Volume;
use understudy_format::secondary::{Place, Settled, State};
use understudy_format::segment::Kind;
use understudy_format::session::Progress;
use understudy_format::stream::{Begin, Totals};
use understudy_format::{Digest, Geometry};
use understudy_tools::pool::report::Report;
use uuid::Uuid;

/// Three points: block 7 is different noise in each.
fn scene() -> Scene {
    let mut scene = Scene::new();
    let mut blocks: Vec<Vec<u8>> = (0..20).map(block).collect();
    for seed in 1..=3 {
        blocks[7] = noise(seed, BLOCK);
        scene.commit(&blocks);
    }
    scene
}

#[track_caller]
fn sound(report: Report) -> Report {
    assert!(report.is_sound(), "{:#?}", report.damages);
    report
}

#[test]
fn the_blocks_of_a_removed_point_are_not_demanded() {
    let mut scene = scene();
    let at = scene.find(&noise(2, BLOCK));
    scene.segment.bytes[at + 9] ^= 1;
    assert!(!scene.check().is_sound());
    scene.remove(2);
    let report = sound(scene.check());
    let summary = report.summary;
    assert_eq!((summary.points, summary.removals), (2, 1));
    // The block, the page and the point record of the removed point.
    assert_eq!(summary.reclaimable, 3);
    assert!(summary.reclaimable_bytes > BLOCK as u64, "{summary:?}");
}

#[test]
fn a_volume_is_there_while_it_has_a_point() {
    let mut scene = scene();
    (1..=3).for_each(|point| scene.remove(point));
    let report = sound(scene.check());
    assert_eq!((report.summary.volumes, report.summary.points, report.summary.removals), (0, 0, 3));
    assert_eq!(report.summary.reclaimable, report.summary.records - 3);
    // A point that is recorded again after its removal is there.
    let again = scene.points[1].encode();
    scene.record(Kind::Point, &again);
    let report = sound(scene.check());
    assert_eq!((report.summary.volumes, report.summary.points, report.summary.removals), (1, 1, 2));
}

#[test]
fn a_removal_is_reclaimable_once_the_segment_of_its_point_is_gone() {
    let mut scene = scene();
    scene.remove(2);
    let removal = RemovalRecord { volume: VOLUME, point: 1, removed_ns: 5, segment: 99 };
    scene.record(Kind::Removal, &removal.encode());
    // Two blocks, two pages, two points, and the removal that names a segment that is not there.
    assert_eq!(sound(scene.check()).summary.reclaimable, 7);
}

#[test]
fn the_last_record_in_log_order_counts_whatever_is_read_first() {
    let mut scene = scene();
    scene.protect(1, true);
    scene.protect(2, true);
    scene.next_segment(9);
    scene.protect(2, false);
    let report = sound(scene.check());
    assert_eq!(report.summary.protected, 1);
    scene.remove(1);
    assert_eq!(sound(scene.check()).summary.protected, 0);
}

#[test]
fn a_protection_of_a_point_that_nobody_has_is_noted() {
    let mut scene = scene();
    scene.protect(2, true);
    scene.remove(2);
    scene.protect(44, true);
    scene.record(Kind::Settings, &Settings::default().encode(Uuid::from_u128(99)));
    let report = sound(scene.check());
    assert_eq!(report.notes, ["v@44 is protected, and no segment has it"]);
}

#[test]
fn a_collected_pool_has_gaps_and_copies_and_is_sound() {
    let mut scene = scene();
    scene.segment.seal();
    scene.segment.write(scene.path());
    // Everything again in segment 5, as collecting segment 1 leaves it before the old one is unlinked.
    let mut copy = Segment::new(5);
    let whole = std::mem::replace(&mut scene.segment, Segment::new(5));
    whole.copy_to(&mut copy);
    copy.seal();
    scene.segment = copy;
    let report = sound(scene.check());
    assert_eq!((report.summary.segments, report.summary.points), (2, 3));
    assert_eq!(report.summary.reclaimable * 2, report.summary.records);
    fs::remove_file(scene.path().join("segments/0000000000000001.seg")).unwrap();
    let report = sound(scene.check());
    assert_eq!((report.summary.segments, report.summary.points, report.summary.reclaimable), (1, 3, 0));
}

#[test]
fn an_older_good_copy_heals_a_newer_damaged_one() {
    let mut scene = scene();
    let content = noise(2, BLOCK);
    scene.next_segment(2);
    scene.segment.content(Kind::Block, &content);
    scene.segment.seal();
    let at = scene.find(&content);
    scene.segment.bytes[at] ^= 1;
    let report = sound(scene.check());
    assert_eq!(report.notes, ["1 damaged record with a good copy elsewhere: nothing is hurt"]);
}

#[test]
fn a_damaged_record_of_the_catalogue_is_damage_unless_there_is_a_copy() {
    let mut scene = scene();
    scene.protect(1, true);
    let before = scene.segment.bytes.len() - 4096;
    let at = (before..).step_by(64).find(|at| scene.segment.bytes[*at..].starts_with(b"UREC")).unwrap();
    let whole = scene.segment.bytes.clone();
    scene.segment.bytes[at + 64] ^= 1;
    scene.next_segment(2);
    let report = scene.check();
    assert_eq!(report.damages.len(), 1, "{:#?}", report.damages);
    scene.protect(1, true);
    assert_eq!(sound(scene.check()).summary.protected, 1);
    assert_ne!(whole, scene.segment.bytes);
}

#[test]
fn a_cut_stream_keeps_its_blocks_until_its_point_is_there() {
    let mut scene = scene();
    let mut pages = Pages::default();
    let geometry = Geometry::new(600 * BLOCK as u64, block_size()).unwrap();
    let mut builder = Builder::new(geometry, None);
    let stored: Vec<Vec<u8>> = (0..300).map(|seed| noise(5000 + seed, BLOCK)).collect();
    for content in &stored {
        scene.segment.content(Kind::Block, content);
        let Ok(()) = builder.block(Digest::of_block(content), &mut pages);
    }
    for (digest, page) in &pages.0 {
        scene.segment.put(Kind::Page, *digest, page.bytes());
    }
    let stream = Uuid::from_u128(4711);
    let progress = Progress {
        volume: Volume { uuid: VOLUME, name: "v".parse().unwrap(), block_size: block_size(), created_ns: 1 },
        label: None,
        begin: Begin { volume: VOLUME, stream, geometry, base: None, created_ns: 7 },
        totals: Totals::default(),
        map: Builder::new(geometry, None).partial(),
        recorded_ns: 8,
        stored_bytes: 0,
        new_bytes: 0,
    };
    scene.record(Kind::Progress, &progress.encode());
    assert_eq!(sound(scene.check()).summary.open_streams, 0, "a stream that came nowhere keeps nothing");
    let progress = Progress { map: builder.partial(), ..progress };
    scene.record(Kind::Progress, &progress.encode());
    let report = sound(scene.check());
    assert_eq!(report.notes, ["a stream of volume v was cut and may go on at block 300"]);
    assert_eq!((report.summary.open_streams, report.summary.reclaimable), (1, 1));
    let at = scene.find(&stored[299]);
    let whole = scene.segment.bytes.clone();
    scene.segment.bytes[at] ^= 1;
    scene.segment.seal();
    assert!(scene.check().notes.iter().any(|note| note.contains("cannot go on: block 299: ")));
    // The same stream commits something else: nobody names these blocks any more.
    scene.segment.bytes = whole;
    let mut point = scene.points[2].clone();
    (point.number, point.stream, point.created_ns) = (4, stream, 7);
    scene.record(Kind::Point, &point.encode());
    let report = sound(scene.check());
    assert_eq!((report.summary.open_streams, report.summary.reclaimable), (0, 303));
    assert_eq!(report.pool, POOL.to_string());
}

#[test]
fn a_secondary_is_judged_as_it_is_set() {
    let mut scene = scene();
    fs::write(scene.path().join("volumes/v/secondary.raw"), "stale").unwrap();
    assert!(!scene.check().is_sound());
    for secondary in [SecondaryMode::None, SecondaryMode::Device("/dev/loop77".into())] {
        let settings = Settings { secondary, ..Settings::default() };
        scene.record(Kind::Settings, &settings.encode(VOLUME));
        sound(scene.check());
    }
}

#[test]
fn a_secondary_of_a_removed_point_is_on_its_way() {
    let mut scene = scene();
    scene.settle(&[], &scene.points[1]);
    scene.remove(2);
    let report = sound(scene.check());
    assert!(report.volumes[0].secondary.contains("@2, which was removed"), "{report:#?}");
}

#[test]
fn a_state_about_a_device_says_nothing_of_the_image() {
    let scene = scene();
    fs::write(scene.path().join("volumes/v/secondary.raw"), "stale").unwrap();
    let settled = Some(Settled { point: 3, root: scene.points[2].map.root() });
    scene.state(State { volume: VOLUME, place: Place::device("/dev/loop77"), settled, applying: None });
    let report = sound(scene.check());
    assert_eq!(report.volumes[0].secondary, "not made yet: what settled is on a device, and is not looked at");
}
