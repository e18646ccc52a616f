//! What is damaged at rest is reported and never served: a block that left the disk wrong reaches nobody.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use understudy_tests::image::{self, MIB};
use understudy_tests::{Appliance, Lab, Rng, Run, args, compare, pool_check, seed};

const BLOCK: u64 = 65536;

/// A stopped appliance with volume `v`: point 1 has a random block 7, which point 2 does not have any more.
fn scene(lab: &Lab) -> (Appliance, PathBuf) {
    let mut rng = Rng::new(seed());
    let source = lab.file("source.raw");
    image::random(&source, 4 * MIB, &mut rng);
    let mut appliance = Appliance::start(lab);
    appliance.replicate(&source, "v");
    let kept = image::keep(&source, &lab.file("kept"));
    image::scribble(&source, 7 * BLOCK, BLOCK, &mut rng);
    appliance.replicate(&source, "v");
    appliance.settle("v");
    appliance.stop();
    (appliance, kept)
}

/// Flips one bit in the stored bytes of the volume's block at `offset` (incompressible, so stored as it is).
fn damage(pool: &Path, volume: &Path, offset: u64) {
    let mut needle = [0; 32];
    File::open(volume).and_then(|file| file.read_exact_at(&mut needle, offset + 1000)).expect("a block of the volume");
    let segments = fs::read_dir(pool.join("segments")).expect("the pool has segments");
    let mut hits = 0;
    for path in segments.map(|entry| entry.expect("a directory entry").path()).filter(|path| path.is_file()) {
        let bytes = fs::read(&path).expect("a segment");
        if let Some(at) = bytes.windows(needle.len()).position(|window| window == needle) {
            image::patch(&path, at as u64, &[needle[0] ^ 0x10]);
            hits += 1;
        }
    }
    assert_eq!(hits, 1, "an incompressible block is stored once, as it is");
}

#[test]
fn a_damaged_block_is_found_by_pool_check_with_its_place() {
    let lab = Lab::new();
    let (appliance, kept) = scene(&lab);
    pool_check(appliance.pool()).expect_code(0);
    damage(appliance.pool(), &kept, 7 * BLOCK);
    let found = pool_check(appliance.pool()).expect_code(1);
    found.says("v@1").says("block 7").says(&(7 * BLOCK).to_string());
}

#[test]
fn a_damaged_block_is_never_served() {
    let lab = Lab::new();
    let (mut appliance, kept) = scene(&lab);
    damage(appliance.pool(), &kept, 7 * BLOCK);
    appliance.restart();
    // Over NBD: an error for that block, the right bytes everywhere else.
    let copy = lab.file("copy.raw");
    let read = Run::peer("nbdcopy").args(args![appliance.uri("v@1"), &copy]).run();
    assert_ne!(read.code, Some(0), "reading a damaged block must be an error: {read}");
    appliance.understudy(args!["restore", "v@1", lab.file("restored.raw")]).expect_refusal().says("block 7");
    // The newest point does not have that block: it is as good as ever.
    appliance.assert_export(&lab, "v@2", &lab.file("source.raw"));
    appliance.assert_secondary("v", &lab.file("source.raw"));
}

#[test]
fn incident_longhorn_1385_a_block_known_to_be_damaged_is_sent_again_not_deduplicated_against() {
    let lab = Lab::new();
    let (mut appliance, kept) = scene(&lab);
    damage(appliance.pool(), &kept, 7 * BLOCK);
    appliance.restart();
    let read = Run::peer("nbdcopy").args(args![appliance.uri("v@1"), lab.file("copy.raw")]).run();
    assert_ne!(read.code, Some(0), "reading a damaged block must be an error: {read}");
    // The same content again, under another name: the damaged block travels again.
    appliance.replicate(&kept, "w").expect_kind("full").expect_count("blocks_sent", 1..=64);
    appliance.assert_export(&lab, "w", &kept);
    appliance.assert_secondary("w", &kept);
    // And with that, the old point is whole as well.
    appliance.assert_export(&lab, "v@1", &kept);
}

#[test]
fn a_secondary_that_was_lost_is_made_again_from_the_newest_point() {
    let lab = Lab::new();
    let (mut appliance, _kept) = scene(&lab);
    fs::remove_file(appliance.secondary("v")).expect("the secondary can be removed");
    appliance.restart();
    appliance.assert_secondary("v", &lab.file("source.raw"));
}

#[test]
fn pool_check_changes_nothing() {
    let lab = Lab::new();
    let (appliance, _kept) = scene(&lab);
    let before = compare::fingerprint(appliance.pool());
    pool_check(appliance.pool()).expect_code(0);
    assert_eq!(compare::fingerprint(appliance.pool()), before, "a read-only tool leaves no trace");
}
