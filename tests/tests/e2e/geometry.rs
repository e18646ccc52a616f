//! Volumes of every shape: sizes that no block size divides, volumes that grow and shrink, sizes that are refused.

use understudy_tests::image::{self, MIB};
use understudy_tests::{Appliance, Lab, Rng, args, compare, count, seed};

#[test]
fn every_size_with_every_block_size_comes_back_whole() {
    let lab = Lab::new();
    let mut rng = Rng::new(seed());
    let appliance = Appliance::start(&lab);
    for (block_size, bytes) in [("4K", 4096), ("64K", 65536), ("1M", MIB)] {
        for size in [512, 4096, 65024, 65536, 66048, MIB, MIB + 1536] {
            let volume = format!("v{size}-{block_size}");
            let source = lab.file("source.raw");
            image::random(&source, size, &mut rng);
            let run = appliance.replicate_with(&source, &volume, &["--block-size", block_size]);
            run.expect_count("blocks_total", size.div_ceil(bytes)..=size.div_ceil(bytes));
            appliance.assert_secondary(&volume, &source);
            appliance.assert_export(&lab, &volume, &source);
            let shown = appliance.find_volume(&volume).expect("a replicated volume is listed");
            assert_eq!(count(&shown, "size"), size, "{shown}");
            assert_eq!(count(&shown, "block_size"), bytes, "{shown}");
        }
    }
}

#[test]
fn incident_a_volume_that_grows_and_shrinks_between_increments_stays_identical() {
    let lab = Lab::new();
    let mut rng = Rng::new(seed());
    let mut appliance = Appliance::start(&lab);
    let source = lab.file("source.raw");
    image::random(&source, 8 * MIB + 512, &mut rng);
    appliance.replicate(&source, "v").expect_kind("full");
    let mut kept = vec![image::keep(&source, &lab.file("kept 1"))];

    // Grown by a hole, grown by data, shrunk into a tail, shrunk to less than a block, grown over what was there before.
    let steps: [(u64, bool); 5] =
        [(20 * MIB, false), (32 * MIB + 1024, true), (5 * MIB + 1536, false), (512, false), (9 * MIB, true)];
    for (size, fill) in steps {
        let before = compare::size(&source);
        image::resize(&source, size);
        if fill {
            image::scribble(&source, before, size - before, &mut rng);
        }
        appliance.replicate(&source, "v").expect_kind("incremental");
        appliance.assert_secondary("v", &source);
        kept.push(image::keep(&source, &lab.file(&format!("kept {}", kept.len() + 1))));
    }
    for (index, was) in kept.iter().enumerate() {
        appliance.assert_export(&lab, &format!("v@{}", index + 1), was);
        let target = lab.file(&format!("restored {index}"));
        appliance.understudy(args!["restore", format!("v@{}", index + 1), &target]).expect_code(0);
        compare::assert_same(&target, was, "a point restored has its own size and bytes");
    }
    appliance.stop();
    appliance.assert_pool_sound();
}

#[test]
fn a_volume_that_shrinks_and_grows_by_a_hole_shows_zeros_not_its_past() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let source = lab.file("source.raw");
    image::random(&source, 4 * MIB, &mut Rng::new(seed()));
    appliance.replicate(&source, "v");
    image::resize(&source, MIB + 512);
    appliance.replicate(&source, "v");
    image::resize(&source, 4 * MIB);
    appliance.replicate(&source, "v");
    appliance.assert_secondary("v", &source);
    appliance.assert_export(&lab, "v", &source);
}

#[test]
fn a_size_that_is_no_multiple_of_512_is_refused_with_the_size_and_the_reason() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let source = lab.file("odd.raw");
    image::hole(&source, MIB + 1);
    let refused = appliance.try_replicate(&source, "odd", &[]).expect_refusal();
    refused.says("1048577").says("512");
    appliance.assert_no_point("odd");
    let refused = appliance.understudy(args!["emit", &source, "-o", lab.file("odd.stream")]);
    refused.expect_refusal().says("1048577").says("512");
}

#[test]
fn an_empty_volume_is_refused_with_a_reason() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let source = lab.write("empty.raw", "");
    appliance.try_replicate(&source, "empty", &[]).expect_refusal().says_any(&["empty", "0 bytes", "no bytes"]);
    appliance.assert_no_point("empty");
}

#[test]
fn a_block_size_outside_the_documented_range_is_a_usage_error() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let source = lab.file("source.raw");
    image::hole(&source, MIB);
    for wrong in ["3000", "2K", "2M", "0", "nonsense"] {
        appliance.try_replicate(&source, "v", &["--block-size", wrong]).expect_code(2).says("block-size");
    }
}

#[test]
fn the_block_size_of_a_volume_is_fixed() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let source = lab.file("source.raw");
    image::random(&source, MIB, &mut Rng::new(seed()));
    appliance.replicate_with(&source, "v", &["--block-size", "16K"]);
    // Not given: the volume's own is used, not the default.
    appliance.replicate(&source, "v").expect_kind("incremental").expect_count("blocks_total", 64..=64);
    appliance.try_replicate(&source, "v", &["--block-size", "32K"]).expect_refusal().says("block size");
    assert_eq!(appliance.point_numbers("v"), [1, 2]);
}
