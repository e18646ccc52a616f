//! `pool check` finds what is wrong, says where, and takes a torn tail for what it is.

use crate::build::{BLOCK, Scene, Segment, block, noise};
use std::fs;
use understudy_format::Digest;
use understudy_format::secondary::{Place, Settled, State};
use understudy_format::segment::Kind;
use understudy_tools::pool::report::Report;

/// Two points: block 7 is noise in the first, something else in the second; the rest is shared.
fn scene() -> Scene {
    let mut scene = Scene::new();
    let mut blocks: Vec<Vec<u8>> = (0..600).map(block).collect();
    blocks[7] = noise(7, BLOCK);
    blocks[500] = noise(500, BLOCK);
    scene.commit(&blocks);
    blocks[7] = block(6077);
    scene.commit(&blocks);
    scene
}

fn texts(report: &Report) -> Vec<&str> {
    report.damages.iter().map(|damage| damage.text.as_str()).collect()
}

#[track_caller]
fn assert_sound(report: &Report) {
    assert_eq!(texts(report), Vec::<&str>::new());
}

#[track_caller]
fn says(report: &Report, expected: &str) {
    assert!(texts(report).iter().any(|text| text.contains(expected)), "{expected:?} in {:#?}", texts(report));
}

#[test]
fn a_sound_pool_is_sound_sealed_or_not() {
    let mut scene = scene();
    let report = scene.check();
    assert_sound(&report);
    let summary = report.summary;
    assert_eq!((summary.segments, summary.points, summary.unique_blocks), (1, 2, 600));
    assert_eq!((summary.reclaimable, summary.settled_secondaries, summary.unacknowledged_bytes), (0, 1, 0));
    scene.segment.seal();
    let sealed = scene.check();
    assert_sound(&sealed);
    assert_eq!((sealed.summary.sealed_segments, sealed.summary.records), (1, summary.records));
}

#[test]
fn a_damaged_block_is_named_with_its_volume_point_block_and_offset() {
    for seal in [false, true] {
        let mut scene = scene();
        if seal {
            scene.segment.seal();
        }
        let at = scene.find(&noise(7, BLOCK));
        scene.segment.bytes[at + 9] ^= 4;
        let report = scene.check();
        says(&report, "v@1: block 7 (offset 28672)");
        says(&report, "CRC-32 mismatch");
        let hurt = report.damages.iter().find(|damage| damage.point.is_some()).expect("a point is hurt");
        assert_eq!((hurt.point, hurt.block, hurt.other_points), (Some(1), Some(7), Some(0)));
    }
}

#[test]
fn a_damaged_block_of_several_points_is_named_once_with_the_newest() {
    let mut scene = scene();
    let at = scene.find(&noise(500, BLOCK));
    scene.segment.bytes[at] ^= 1;
    let report = scene.check();
    let hurt: Vec<_> = report.damages.iter().filter(|damage| damage.point.is_some()).collect();
    assert_eq!(hurt.len(), 1, "{hurt:#?}");
    assert_eq!((hurt[0].point, hurt[0].block, hurt[0].other_points), (Some(2), Some(500), Some(1)));
}

#[test]
fn a_damaged_block_that_was_stored_again_is_healed() {
    let mut scene = scene();
    let content = noise(7, BLOCK);
    let at = scene.find(&content);
    scene.segment.bytes[at] ^= 1;
    let mut second = Segment::new(2);
    second.content(Kind::Block, &content);
    second.sync(0);
    second.write(scene.path());
    let report = scene.check();
    assert_sound(&report);
    assert_eq!(report.notes, ["1 damaged record with a good copy elsewhere: nothing is hurt"]);
    assert_eq!(report.summary.reclaimable, 1);
}

#[test]
fn right_checksums_over_the_wrong_content_are_damage() {
    let mut scene = Scene::new();
    let wanted = noise(1, BLOCK);
    scene.segment.put(Kind::Block, Digest::of_block(&wanted), &noise(2, BLOCK));
    scene.commit(&[wanted]);
    scene.segment.seal();
    let report = scene.check();
    says(&report, "digest mismatch");
    says(&report, "v@1: block 0");
}

#[test]
fn a_damaged_block_that_nobody_names_is_a_note() {
    let mut scene = scene();
    scene.segment.put(Kind::Block, Digest::of_block(&noise(1, BLOCK)), &noise(2, BLOCK));
    scene.segment.seal();
    let report = scene.check();
    assert_sound(&report);
    assert_eq!(report.summary.reclaimable, 1);
    assert!(report.notes.iter().any(|note| note.contains("nobody names: record: digest mismatch")), "{report:#?}");
}

#[test]
fn every_flipped_bit_of_a_header_in_front_of_a_point_is_damage() {
    let mut scene = scene();
    let header = scene.find(&noise(7, BLOCK)) - 64;
    for bit in (0..512).step_by(7) {
        scene.segment.bytes[header + bit / 8] ^= 1 << (bit % 8);
        says(&scene.check(), "v@1: block 7");
        scene.segment.bytes[header + bit / 8] ^= 1 << (bit % 8);
    }
    assert_sound(&scene.check());
}

#[test]
fn a_torn_tail_is_no_damage_wherever_it_is_torn() {
    let mut scene = scene();
    let acknowledged = scene.segment.bytes.len();
    scene.segment.content(Kind::Block, &noise(1000, BLOCK));
    scene.segment.content(Kind::Block, &noise(1001, BLOCK));
    scene.segment.sync(0);
    let whole = scene.segment.bytes.clone();
    for length in [acknowledged + 1, acknowledged + 64, acknowledged + 5000, whole.len() - 1, whole.len() - 4096] {
        scene.segment.bytes = whole[..length].to_vec();
        let report = scene.check();
        assert_sound(&report);
        assert_eq!(report.summary.unacknowledged_bytes, (length - acknowledged) as u64);
        // A hole where bytes were not written yet.
        scene.segment.bytes = whole.clone();
        scene.segment.bytes[acknowledged + 64..length.max(acknowledged + 65)].fill(0);
        assert_sound(&scene.check());
    }
}

#[test]
fn a_point_cut_off_is_missed_by_the_secondary_that_settled_on_it() {
    let mut scene = scene();
    let whole = scene.segment.bytes.len();
    scene.segment.bytes.truncate(whole - 4096);
    says(&scene.check(), "settled on @2, which no segment has");
}

#[test]
fn a_sealed_segment_without_the_last_bytes_of_its_trailer_is_damage() {
    let mut scene = scene();
    scene.segment.seal();
    let last = scene.segment.bytes.len() - 1;
    scene.segment.bytes[last] ^= 1;
    says(&scene.check(), "trailer of a sealed segment is damaged");
}

#[test]
fn a_footer_that_leaves_a_record_out_is_damage() {
    let mut scene = scene();
    let left_out = scene.segment.forget_last();
    scene.segment.seal();
    says(&scene.check(), &format!("the footer lists {left_out} records, {} are there", left_out + 1));
}

#[test]
fn missing_segments_are_missed_by_the_secondaries() {
    let scene = scene();
    let report = understudy_tools::pool::check(scene.path(), false).unwrap();
    assert_eq!((report.summary.segments, report.summary.points), (0, 0));
    says(&report, "volumes/v: a secondary settled on @2 of volume");
}

#[test]
fn a_wrong_byte_in_the_secondary_is_named() {
    let scene = scene();
    scene.check();
    let path = scene.path().join("volumes/v/secondary.raw");
    let mut image = fs::read(&path).unwrap();
    image[300 * BLOCK + 5] ^= 1;
    fs::write(&path, &image).unwrap();
    says(&scene.check(), "1 blocks differ, the first is block 300 (offset 1228800)");
    image.truncate(BLOCK);
    fs::write(&path, &image).unwrap();
    says(&scene.check(), "its image has 4096 bytes");
    fs::remove_file(&path).unwrap();
    says(&scene.check(), "its image is missing");
}

#[test]
fn a_secondary_on_its_way_to_a_point_is_not_judged() {
    let scene = scene();
    let settled = |at: usize| Settled { point: at as u64 + 1, root: scene.points[at].map.root() };
    scene.state(State {
        volume: crate::build::VOLUME,
        place: Place::IMAGE,
        settled: Some(settled(0)),
        applying: Some(settled(1)),
    });
    fs::write(scene.path().join("volumes/v/secondary.raw"), "half").unwrap();
    let report = scene.check();
    assert_sound(&report);
    assert_eq!((report.summary.settled_secondaries, report.summary.unsettled_secondaries), (0, 1));
    assert!(report.volumes[0].secondary.contains("@2 is being applied"));
}

#[test]
fn a_state_file_with_a_flipped_bit_is_damage() {
    let scene = scene();
    let path = scene.path().join("volumes/v/state");
    let mut state = fs::read(&path).unwrap();
    state[40] ^= 1;
    fs::write(&path, state).unwrap();
    says(&scene.check(), "secondary state: CRC-32 mismatch");
}

#[test]
fn what_is_no_pool_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = understudy_tools::pool::check(dir.path(), false).unwrap_err().to_string();
    assert!(error.contains("is not a pool"), "{error}");
    fs::write(dir.path().join("pool"), "UPOL").unwrap();
    let error = understudy_tools::pool::check(dir.path(), false).unwrap_err();
    assert!(format!("{error:#}").contains("pool file"), "{error:#}");
}

#[test]
fn a_pool_in_use_is_refused_unless_live_is_said() {
    let scene = scene();
    scene.check();
    let daemon = fs::File::options().write(true).open(scene.path().join("lock")).unwrap();
    daemon.lock().unwrap();
    let error = understudy_tools::pool::check(scene.path(), false).unwrap_err().to_string();
    assert!(error.contains("in use") && error.contains("--live"), "{error}");
    assert_sound(&understudy_tools::pool::check(scene.path(), true).unwrap());
}
