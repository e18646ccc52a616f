//! Scrub: damage is told with volume, point, block and byte offset, healed from the secondary, and otherwise sent again by the
//! next ordinary replication; beside a running daemon and without one.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use understudy_tests::image::{self, MIB};
use understudy_tests::{Appliance, Lab, Outcome, Rng, Run, UNDERSTUDYD, args, pool_check, seed};

const BLOCK: u64 = 65536;

fn scrub(pool: &Path, more: &[&str]) -> Outcome {
    let more = more.iter().map(OsString::from);
    Run::ours(UNDERSTUDYD).args(args!["scrub", "--pool", pool].into_iter().chain(more)).run()
}

/// An appliance with two points of volume `v`, which differ in block 3, and the source as it is at point 2.
fn scene(lab: &Lab) -> (Appliance, PathBuf) {
    let mut rng = Rng::new(seed());
    let source = lab.file("source.raw");
    image::random(&source, 4 * MIB, &mut rng);
    let appliance = Appliance::start(lab);
    appliance.replicate(&source, "v");
    image::scribble(&source, 3 * BLOCK, BLOCK, &mut rng);
    appliance.replicate(&source, "v");
    appliance.settle("v");
    (appliance, source)
}

/// Flips one bit in the stored bytes of the volume's block at `offset` (incompressible, so stored as it is).
fn damage(pool: &Path, volume: &Path, offset: u64) {
    let mut needle = [0; 32];
    File::open(volume).and_then(|file| file.read_exact_at(&mut needle, offset + 1000)).expect("a block of the volume");
    for path in fs::read_dir(pool.join("segments")).expect("segments").map(|entry| entry.expect("an entry").path()) {
        let bytes = fs::read(&path).expect("a segment");
        if let Some(at) = bytes.windows(needle.len()).position(|window| window == needle) {
            return image::patch(&path, at as u64, &[needle[0] ^ 0x10]);
        }
    }
    panic!("the block is stored");
}

#[test]
fn a_damaged_block_is_told_and_healed_from_the_secondary_beside_a_running_daemon() {
    let lab = Lab::new();
    let (appliance, source) = scene(&lab);
    scrub(appliance.pool(), &[]).expect_code(0).says("nothing is damaged").says("1 secondaries compared");
    damage(appliance.pool(), &source, 7 * BLOCK);
    let found = scrub(appliance.pool(), &[]).expect_code(3);
    let found = found.says("volume v, points 1 to 2, block 7 (byte offset 458752): damaged block");
    found.says("from the secondary of volume v").says("all of them are healed");
    scrub(appliance.pool(), &["--volume", "v", "--rate", "1G"]).expect_code(0);
    appliance.assert_export(&lab, "v@2", &source);
}

#[test]
fn what_no_secondary_has_is_sent_again_by_the_next_incremental() {
    let lab = Lab::new();
    let (mut appliance, source) = scene(&lab);
    appliance.stop();
    damage(appliance.pool(), &source, 7 * BLOCK);
    // The secondary does not have that block any more either.
    image::patch(&appliance.secondary("v"), 7 * BLOCK + 5, &[1, 2, 3, 4]);
    scrub(appliance.pool(), &["--json"]).expect_code(4);
    scrub(appliance.pool(), &["--older-than", "1d"]).expect_code(4).says("the next `understudy replicate` of v");
    appliance.restart();
    image::patch(&source, 20 * BLOCK, &[7; 512]);
    appliance.replicate(&source, "v").expect_kind("incremental").expect_count("blocks_sent", 2..=2);
    appliance.assert_export(&lab, "v@3", &source);
    // With the pool whole again, the secondary is made whole from it.
    scrub(appliance.pool(), &[]).expect_code(3).says("1 of 1 wrong blocks repaired");
    scrub(appliance.pool(), &[]).expect_code(0);
    appliance.stop();
    fs::remove_dir_all(appliance.pool().join("index")).expect("the index is a cache");
    appliance.restart();
    appliance.assert_export(&lab, "v@3", &source);
}

#[test]
fn a_secondary_that_was_written_to_by_hand_is_repaired() {
    let lab = Lab::new();
    let (mut appliance, source) = scene(&lab);
    appliance.stop();
    image::patch(&appliance.secondary("v"), 9 * BLOCK + 1, b"somebody mounted it");
    let found = scrub(appliance.pool(), &[]).expect_code(3);
    found.says("secondary of volume v, point 2, block 9 (byte offset 589824): repaired");
    appliance.restart();
    appliance.assert_secondary("v", &source);
    appliance.stop();
    pool_check(appliance.pool()).expect_code(0);
}
