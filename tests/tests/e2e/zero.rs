//! Zeros cost nothing, and nothing that is not zero is ever taken for it.

use understudy_tests::image::{self, MIB};
use understudy_tests::{Appliance, Lab, Rng, args, compare, seed};

/// What a run may send when there is no data at all: handshake, mapping, commit.
const HARDLY_ANYTHING: u64 = 16 << 10;

#[test]
fn a_volume_that_is_a_hole_sends_hardly_anything_and_stays_a_hole() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let source = lab.file("hole.raw");
    image::hole(&source, 256 * MIB);
    let run = appliance.replicate(&source, "hole").expect_count("bytes_sent", 0..HARDLY_ANYTHING);
    let run = run.expect_count("blocks_zero", 4096..=4096).expect_count("blocks_sent", 0..=0);
    run.expect_count("bytes_read", 0..=0);
    appliance.assert_secondary("hole", &source);
    compare::assert_sparse(&appliance.secondary("hole"), MIB);
    appliance.assert_export(&lab, "hole", &source);
}

#[test]
fn stored_zeros_are_read_once_and_not_sent() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let source = lab.write("zeros.raw", vec![0; 32 << 20]);
    let run = appliance.replicate(&source, "zeros").expect_count("bytes_sent", 0..HARDLY_ANYTHING);
    run.expect_count("blocks_zero", 512..=512).expect_count("blocks_sent", 0..=0);
    appliance.assert_secondary("zeros", &source);
    compare::assert_sparse(&appliance.secondary("zeros"), MIB);
}

#[test]
fn a_sparse_volume_stays_sparse_through_replication_and_restore() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let mut rng = Rng::new(seed());
    let source = lab.file("sparse.raw");
    image::hole(&source, 128 * MIB);
    for _ in 0..10 {
        let at = rng.below(127 * MIB);
        image::scribble(&source, at, 10_000, &mut rng);
    }
    let run = appliance.replicate(&source, "sparse").expect_count("bytes_sent", 100_000..3 * MIB);
    run.expect_count("blocks_sent", 1..=20);
    appliance.assert_secondary("sparse", &source);
    compare::assert_sparse(&appliance.secondary("sparse"), 3 * MIB);
    let target = lab.file("restored.raw");
    appliance.understudy(args!["restore", "sparse", &target]).expect_code(0);
    compare::assert_same(&target, &source, "restored is the source");
    compare::assert_sparse(&target, 3 * MIB);
}

#[test]
fn blocks_that_become_zero_are_released_in_the_secondary() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let source = lab.file("source.raw");
    image::random(&source, 32 * MIB, &mut Rng::new(seed()));
    appliance.replicate(&source, "v");
    image::hole(&source, 32 * MIB);
    appliance.replicate(&source, "v").expect_kind("incremental").expect_count("bytes_sent", 0..HARDLY_ANYTHING);
    appliance.assert_secondary("v", &source);
    compare::assert_sparse(&appliance.secondary("v"), MIB);
}

#[test]
fn incident_bdsync_39_a_block_with_one_byte_set_is_never_a_zero_block() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    // Block N of 4096 has its only set byte at position N: each position there is.
    const BLOCK: usize = 4096;
    let mut content = vec![0; BLOCK * BLOCK];
    for block in 0..BLOCK {
        content[block * BLOCK + block] = if block % 2 == 0 { 0x01 } else { 0x80 };
    }
    let source = lab.write("ones.raw", &content);
    let run = appliance.replicate_with(&source, "ones", &["--block-size", "4K"]);
    run.expect_count("blocks_zero", 0..=0).expect_count("blocks_total", 4096..=4096);
    appliance.assert_secondary("ones", &source);
    appliance.assert_export(&lab, "ones", &source);
}

#[test]
fn incident_bdsync_39_one_byte_set_in_a_hole_is_found_by_the_next_increment() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let mut rng = Rng::new(seed());
    let source = lab.file("hole.raw");
    image::hole(&source, 16 * MIB + 512);
    appliance.replicate(&source, "v");
    let mut places = vec![0, 65535, 65536, 16 * MIB - 1, 16 * MIB, 16 * MIB + 511];
    places.extend((0..6).map(|_| rng.below(16 * MIB)));
    for at in places {
        image::patch(&source, at, &[1]);
        let run = appliance.replicate(&source, "v").expect_kind("incremental");
        run.expect_count("blocks_changed", 1..=1);
        appliance.assert_secondary("v", &source);
    }
}
