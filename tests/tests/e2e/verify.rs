//! `verify` says identical only when it is, and otherwise names the first place where it is not.

use understudy_tests::image::{self, MIB};
use understudy_tests::{Appliance, Lab, Rng, args, seed};

const BLOCK: u64 = 65536;

fn scene(lab: &Lab) -> Appliance {
    let appliance = Appliance::start(lab);
    let source = lab.file("source.raw");
    image::mixed(&source, 24 * MIB + 512, &mut Rng::new(seed()));
    appliance.replicate_with(&source, "v", &["--label", "opening"]);
    appliance
}

#[test]
fn identical_is_exit_code_0() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    for point in ["v", "v@1", "v@latest", "v@opening"] {
        appliance.understudy(args!["verify", lab.file("source.raw"), point]).expect_code(0).says("identical");
    }
}

#[test]
fn one_changed_byte_is_exit_code_4_with_its_block_and_offset() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    let source = lab.file("source.raw");
    for block in [0, 7, 255, 256, 300, 384] {
        let copy = image::keep(&source, &lab.file("changed.raw"));
        let at = block * BLOCK + 17;
        let was = std::fs::read(&copy).expect("the copy")[usize::try_from(at).expect("a small volume")];
        image::patch(&copy, at, &[was ^ 1]);
        let outcome = appliance.understudy(args!["verify", &copy, "v"]).expect_code(4);
        outcome.says(&format!("block {block}")).says(&(block * BLOCK).to_string());
    }
}

#[test]
fn the_first_of_several_differences_is_named() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    let source = lab.file("source.raw");
    image::scribble(&source, 20 * MIB, MIB, &mut Rng::new(1));
    image::scribble(&source, 5 * BLOCK, 10, &mut Rng::new(2));
    appliance.understudy(args!["verify", &source, "v"]).expect_code(4).says("block 5").says("327680");
}

#[test]
fn a_volume_of_another_size_is_not_identical() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    let source = lab.file("source.raw");
    image::resize(&source, 24 * MIB);
    appliance.understudy(args!["verify", &source, "v"]).expect_code(4).says("size");
    image::resize(&source, 25 * MIB);
    appliance.understudy(args!["verify", &source, "v"]).expect_code(4).says("size");
}

#[test]
fn a_point_proves_itself_over_nbd_to_a_client_that_is_not_ours() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    let nbd = appliance.nbd_address().to_string();
    for point in ["v", "v@1"] {
        appliance.understudy(args!["verify", point, "--over-nbd", &nbd]).expect_code(0).says("identical");
    }
    // Without an address the appliance says where its NBD server is.
    appliance.understudy(args!["verify", "v@opening", "--over-nbd"]).expect_code(0);
}
