//! Restoring writes exactly the point, and nothing that somebody did not agree to lose.

use std::path::Path;

use understudy_tests::image::{self, MIB};
use understudy_tests::{Appliance, Lab, Loop, Mount, Rng, args, compare, have_root, seed, tool};

/// An appliance with a volume `v` of one point; the source is a third data, a third text, a third holes.
fn scene(lab: &Lab) -> Appliance {
    let appliance = Appliance::start(lab);
    image::mixed(&lab.file("source.raw"), 16 * MIB + 512, &mut Rng::new(seed()));
    appliance.replicate(&lab.file("source.raw"), "v");
    appliance
}

fn assert_restored(lab: &Lab, target: &Path) {
    compare::assert_same(target, &lab.file("source.raw"), "the target is the point");
}

#[test]
fn incident_benji_a_restore_over_a_dirty_target_equals_the_point_holes_included() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    let target = lab.write("dirty.raw", vec![0xaa; (16 << 20) + 512]);
    appliance.understudy(args!["restore", "v", &target]).expect_code(0);
    assert_restored(&lab, &target);
    compare::assert_sparse(&target, 12 * MIB);
}

#[test]
fn a_restore_onto_the_point_itself_writes_nothing() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    let target = lab.file("target.raw");
    appliance.understudy(args!["restore", "v", &target]).expect_code(0);
    let again = appliance.understudy(args!["restore", "v", &target, "--json"]).expect_code(0).summary();
    again.expect_count("blocks_written", 0..=0);
    image::patch(&target, 5 * MIB, b"changed");
    let third = appliance.understudy(args!["restore", "v", &target, "--json"]).expect_code(0).summary();
    assert_eq!(third.count("blocks_written") + third.count("blocks_zeroed"), 1, "one block was another");
    assert_restored(&lab, &target);
}

#[test]
fn a_target_of_another_size_is_refused_without_force_and_fitted_with_it() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    for size in [MIB, 16 * MIB, 17 * MIB, 40 * MIB] {
        let target = lab.file(&format!("target {size}.raw"));
        image::random(&target, size, &mut Rng::new(size));
        let before = image::keep(&target, &lab.file("before.raw"));
        let refused = appliance.understudy(args!["restore", "v", &target]).expect_refusal();
        refused.says(&size.to_string()).says("16777728").says("--force");
        compare::assert_same(&target, &before, "a refused restore leaves its target alone");
        appliance.understudy(args!["restore", "v", &target, "--force"]).expect_code(0);
        assert_restored(&lab, &target);
    }
}

#[test]
fn incident_ceph_csi_3209_a_mounted_device_is_refused_and_left_alone() {
    if !have_root("a loop device") {
        return;
    }
    let lab = Lab::new();
    let appliance = scene(&lab);
    let file = lab.file("precious.img");
    image::hole(&file, 16 * MIB + 512);
    tool("mke2fs", args!["-q", "-F", "-t", "ext4", &file]);
    let device = Loop::new(&file);
    let mount = Mount::new(device.path(), &lab.file("mount"), "rw");
    std::fs::write(mount.path().join("precious"), "do not lose this").expect("a file on the mounted filesystem");
    appliance.understudy(args!["restore", "v", device.path()]).expect_refusal().says("mounted");
    assert_eq!(std::fs::read_to_string(mount.path().join("precious")).expect("the file"), "do not lose this");
    mount.unmount();
    tool("e2fsck", args!["-f", "-n", device.path()]);
    // Not mounted any more: its content is nobody's mount, and its size is right.
    appliance.understudy(args!["restore", "v", device.path()]).expect_code(0);
    tool("blockdev", args!["--flushbufs", device.path()]);
    drop(device);
    assert_restored(&lab, &file);
}

#[test]
fn a_file_that_backs_a_mounted_loop_device_is_refused() {
    if !have_root("a loop device") {
        return;
    }
    let lab = Lab::new();
    let appliance = scene(&lab);
    let file = lab.file("precious.img");
    image::hole(&file, 16 * MIB + 512);
    tool("mke2fs", args!["-q", "-F", "-t", "ext4", &file]);
    let mount = Mount::new(&file, &lab.file("mount"), "loop");
    appliance.understudy(args!["restore", "v", &file]).expect_refusal().says_any(&["mounted", "in use"]);
    mount.unmount();
    tool("e2fsck", args!["-f", "-n", &file]);
}

#[test]
fn a_block_device_is_a_source_and_a_target() {
    if !have_root("a loop device") {
        return;
    }
    let lab = Lab::new();
    let appliance = scene(&lab);
    let source = Loop::new(&lab.file("source.raw"));
    appliance.replicate(source.path(), "device").expect_kind("full").expect_count("bytes_sent", 0..MIB);
    appliance.assert_secondary("device", &lab.file("source.raw"));

    let file = lab.write("target.img", vec![0x55; (16 << 20) + 512]);
    let target = Loop::new(&file);
    appliance.understudy(args!["restore", "device@1", target.path()]).expect_code(0);
    drop(target);
    assert_restored(&lab, &file);
}

#[test]
fn incident_longhorn_12830_a_target_that_cannot_be_written_is_a_failure() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    appliance.understudy(args!["restore", "v", lab.file("no/such/dir/target.raw")]).expect_refusal().says("no/such");
    appliance.understudy(args!["restore", "v", lab.path()]).expect_refusal();
    if have_root("a filesystem that is too small") {
        let mount = Mount::tmpfs(&lab.file("small"), 8 * MIB);
        let target = mount.path().join("target.raw");
        appliance.understudy(args!["restore", "v", &target]).expect_refusal().says("space");
    }
}
