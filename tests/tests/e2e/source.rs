//! A source that vanishes, shrinks or fails while it is read: the point does not exist, and the reason is said.

use std::path::Path;

use understudy_tests::image::{self, MIB};
use understudy_tests::{Appliance, Lab, Loop, Mount, Outcome, Proxy, Rng, args, have_root, seed, tool};

/// More than any window of a bounded pipeline holds, so that the run has not read to the end when it is held.
const SIZE: u64 = 384 * MIB;

/// Replicates `path` as `volume` through a relay, does `harm` once a mebibyte is on its way, and expects a failure.
#[track_caller]
fn harmed(appliance: &Appliance, path: &Path, volume: &str, harm: impl FnOnce()) -> Outcome {
    let proxy = Proxy::hold_after(appliance.address(), MIB);
    let run = appliance.initiator(Appliance::replicate_args(path, volume));
    let run = run.env("UNDERSTUDY_APPLIANCE", proxy.address()).start().wait_held(&proxy);
    harm();
    proxy.release();
    run.finish().expect_refusal()
}

#[test]
fn incident_ceph_71553_a_source_truncated_while_it_is_read_makes_no_point() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let source = lab.file("source.raw");
    image::random(&source, SIZE, &mut Rng::new(seed()));
    harmed(&appliance, &source, "v", || image::resize(&source, MIB)).says("source.raw");
    appliance.assert_no_point("v");
    // What is left of it is a volume like any other, once the daemon has put the cut stream away.
    appliance.replicate_with(&source, "v", &["--retries", "20", "--retry-delay", "10"]).expect_kind("full");
    appliance.assert_secondary("v", &source);
}

#[test]
fn incident_ceph_71553_a_device_that_fails_while_it_is_read_makes_no_point() {
    if !have_root("a loop device") {
        return;
    }
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let backing = lab.file("backing.raw");
    image::random(&backing, SIZE, &mut Rng::new(seed()));
    let device = Loop::new(&backing);
    harmed(&appliance, device.path(), "v", || image::resize(&backing, MIB));
    appliance.assert_no_point("v");
}

#[test]
fn a_source_removed_between_runs_leaves_the_points_and_can_come_back() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let source = lab.file("source.raw");
    image::random(&source, 4 * MIB, &mut Rng::new(seed()));
    appliance.replicate(&source, "v");
    let kept = image::keep(&source, &lab.file("kept"));
    std::fs::remove_file(&source).expect("the source can be removed");
    appliance.try_replicate(&source, "v", &[]).expect_refusal().says("source.raw");
    appliance.assert_export(&lab, "v@1", &kept);
    image::keep(&kept, &source);
    appliance.replicate(&source, "v").expect_kind("incremental").expect_count("blocks_changed", 0..=0);
}

#[test]
fn a_mounted_device_that_is_written_to_while_it_is_read_is_doubted() {
    if !have_root("a kernel mount") {
        return;
    }
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let (backing, dir) = (lab.file("backing.raw"), lab.dir("mounted"));
    image::random(&backing, 48 * MIB, &mut Rng::new(seed()));
    // The filesystem has less than half of the device, and its journal starts with the mount.
    tool("mkfs.ext4", args!["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", &backing, "20M"]);
    let device = Loop::new(&backing);
    let mount = Mount::new(device.path(), &dir, "rw");
    tool("sync", args!["-f", &dir]);
    let proxy = Proxy::hold_after(appliance.address(), MIB);
    let run = appliance.initiator(Appliance::replicate_args(device.path(), "v"));
    let run = run.env("UNDERSTUDY_APPLIANCE", proxy.address()).start().wait_held(&proxy);
    std::fs::write(dir.join("new"), "written meanwhile").expect("a write");
    tool("sync", args!["-f", &dir]);
    proxy.release();
    run.finish().expect_code(3).says("and was written to: the point may mix several moments");
    mount.unmount();
}
