//! The state directory is a cache: lost, stale or damaged, it costs a look-up, never a silent full and never a byte.

use std::fs;
use std::path::PathBuf;

use understudy_tests::image::{self, MIB};
use understudy_tests::{Appliance, Lab, Rng, args, seed};

/// What an increment of one block may send: the block, its mapping, the session, and map pages on their way back.
const LITTLE: u64 = 256 << 10;

fn scene(lab: &Lab) -> (Appliance, PathBuf, Rng) {
    let mut rng = Rng::new(seed());
    let source = lab.file("source.raw");
    image::random(&source, 48 * MIB, &mut rng);
    let appliance = Appliance::start(lab);
    let run = appliance.replicate(&source, "v").expect_kind("full");
    assert!(!run.text("reason").is_empty(), "a first full says why");
    (appliance, source, rng)
}

#[test]
fn incident_xen_orchestra_8713_a_lost_state_directory_is_no_reason_for_a_full() {
    let lab = Lab::new();
    let (appliance, source, mut rng) = scene(&lab);
    fs::remove_dir_all(appliance.state()).expect("the state directory can be removed");
    image::scribble(&source, 5 * MIB, 100, &mut rng);
    let run = appliance.replicate(&source, "v").expect_kind("incremental").expect_count("bytes_sent", 1..LITTLE);
    run.expect_count("blocks_changed", 1..=1);
    appliance.assert_secondary("v", &source);
}

#[test]
fn a_stale_map_is_brought_up_to_date() {
    let lab = Lab::new();
    let (appliance, source, mut rng) = scene(&lab);
    let elsewhere = lab.file("state elsewhere").display().to_string();
    image::scribble(&source, 7 * MIB, MIB, &mut rng);
    appliance.replicate_with(&source, "v", &["--state-dir", &elsewhere]).expect_kind("incremental");
    // Here the map still is that of point 1; the newest is point 2.
    image::scribble(&source, 9 * MIB, 100, &mut rng);
    let run = appliance.replicate(&source, "v").expect_kind("incremental").expect_count("bytes_sent", 1..LITTLE);
    run.expect_count("blocks_changed", 1..=1).expect_count("point", 3..=3);
    appliance.assert_secondary("v", &source);
}

#[test]
fn a_damaged_map_never_damages_a_point() {
    let lab = Lab::new();
    let (appliance, source, mut rng) = scene(&lab);
    for round in 0..4 {
        for file in files(appliance.state().to_path_buf()) {
            let length = fs::metadata(&file).expect("a state file").len();
            match round {
                0 => image::resize(&file, length / 2),
                1 => image::resize(&file, 0),
                _ if length > 0 => image::patch(&file, rng.below(length), &rng.bytes(1)),
                _ => {}
            }
        }
        image::scribble(&source, rng.below(40 * MIB), 100, &mut rng);
        let outcome = appliance.try_replicate(&source, "v", &[]);
        outcome.expect_codes(&[0, 3]);
        appliance.assert_secondary("v", &source);
    }
}

fn files(root: PathBuf) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![root]);
    while let Some(dir) = open.pop() {
        for path in fs::read_dir(&dir).expect("a directory").map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    assert!(!found.is_empty(), "the state directory holds the digest map");
    found
}

#[test]
fn nothing_changed_sends_hardly_anything() {
    let lab = Lab::new();
    let (appliance, source, _) = scene(&lab);
    let run = appliance.replicate(&source, "v").expect_kind("incremental").expect_count("bytes_sent", 0..16 << 10);
    run.expect_count("blocks_changed", 0..=0).expect_count("blocks_sent", 0..=0);
    let points = appliance.points("v");
    assert_eq!(points[0]["root"], points[1]["root"], "the same bytes have the same root");
}

#[test]
fn a_full_that_was_asked_for_says_so_and_sends_nothing_twice() {
    let lab = Lab::new();
    let (appliance, source, _) = scene(&lab);
    let run = appliance.replicate_with(&source, "v", &["--full"]).expect_kind("full");
    assert!(run.text("reason").contains("--full"), "the reason for a full is printed: {}", run.text("reason"));
    run.expect_count("blocks_sent", 0..=0).expect_count("blocks_deduplicated", 768..=768);
    appliance.assert_secondary("v", &source);
    let plain = appliance.understudy(args!["replicate", &source, "--volume", "v", "--full"]).expect_code(0);
    plain.says("--full");
}

#[test]
fn a_volume_removed_with_its_pool_is_a_full_with_a_reason() {
    let lab = Lab::new();
    let (mut appliance, source, _) = scene(&lab);
    appliance.stop();
    drop(appliance);
    fs::remove_dir_all(lab.file("pool")).expect("the pool can be removed");
    // Another pool, the old state: its maps are of no use, and nobody believes them.
    let appliance = Appliance::start(&lab);
    let run = appliance.replicate(&source, "v").expect_kind("full").expect_count("point", 1..=1);
    assert!(!run.text("reason").is_empty(), "every full has a reason");
    appliance.assert_secondary("v", &source);
}

#[test]
fn moved_blocks_are_found_and_not_sent_again() {
    let lab = Lab::new();
    let (appliance, source, _) = scene(&lab);
    let bytes = fs::read(&source).expect("the source");
    image::patch(&source, 0, &bytes[16 << 20..24 << 20]);
    let run = appliance.replicate(&source, "v").expect_kind("incremental");
    run.expect_count("blocks_changed", 128..=128).expect_count("blocks_sent", 0..=0);
    appliance.assert_secondary("v", &source);
}
