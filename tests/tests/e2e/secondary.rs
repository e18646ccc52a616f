//! Where a secondary is kept, and that switching costs no full: in the pool, on a block device, not at all. A device is
//! written to only when nobody else needs it.

use std::path::Path;

use understudy_tests::image::{self, MIB};
use understudy_tests::wait::wait_until;
use understudy_tests::{Appliance, Lab, Loop, Mount, Outcome, Rng, Run, UNDERSTUDYD};
use understudy_tests::{args, compare, have_root, seed, text, tool};

const SIZE: u64 = 24 * MIB + 512;

/// An appliance with a volume `v` of one point.
fn scene(lab: &Lab) -> Appliance {
    let appliance = Appliance::start(lab);
    image::mixed(&lab.file("source.raw"), SIZE, &mut Rng::new(seed()));
    appliance.replicate(&lab.file("source.raw"), "v");
    appliance
}

/// A loop device over a file of zeros.
fn blank(lab: &Lab, name: &str, size: u64) -> Loop {
    image::hole(&lab.file(name), size);
    Loop::new(&lab.file(name))
}

fn set(appliance: &Appliance, mode: &str, more: &[&str]) -> Outcome {
    let mut arguments = args!["set", "--pool", appliance.pool(), "v", "--secondary", mode];
    arguments.extend(more.iter().map(std::ffi::OsString::from));
    Run::ours(UNDERSTUDYD).args(arguments).run()
}

fn name(device: &Loop) -> &str {
    device.path().to_str().expect("a path of ASCII")
}

/// The device is the newest point as soon as it has settled.
#[track_caller]
fn assert_on(appliance: &Appliance, lab: &Lab, device: &Loop) {
    appliance.settle("v");
    let size = std::fs::metadata(lab.file("source.raw")).expect("the source").len();
    tool("cmp", args!["-n", size.to_string(), device.path(), lab.file("source.raw")]);
}

/// A change and an increment: no switch makes a full necessary.
#[track_caller]
fn change(appliance: &Appliance, lab: &Lab, at: u64) {
    image::scribble(&lab.file("source.raw"), at * MIB, MIB, &mut Rng::new(100 + at));
    appliance.replicate(&lab.file("source.raw"), "v").expect_kind("incremental").expect_count("blocks_sent", 1..=16);
}

#[track_caller]
fn shown(appliance: &Appliance, mode: &str) {
    let volume = appliance.find_volume("v").expect("the volume");
    assert_eq!(text(&volume["secondary"], "mode"), mode, "{volume}");
}

#[test]
fn switching_between_all_modes_needs_no_full() {
    if !have_root("a loop device") {
        return;
    }
    let lab = Lab::new();
    let mut appliance = scene(&lab);
    let source = lab.file("source.raw");
    let device = blank(&lab, "device.img", SIZE.next_multiple_of(MIB) + MIB);
    appliance.assert_secondary("v", &source);
    shown(&appliance, "native");

    set(&appliance, "none", &[]).expect_code(0);
    shown(&appliance, "none");
    assert!(!appliance.secondary("v").exists(), "without a secondary there is no image");
    change(&appliance, &lab, 1);
    assert!(!appliance.secondary("v").exists(), "nor does a point make one");

    set(&appliance, name(&device), &[]).expect_code(0);
    shown(&appliance, "device");
    assert_on(&appliance, &lab, &device);
    change(&appliance, &lab, 2);
    assert_on(&appliance, &lab, &device);
    let mounting = Run::peer("mount").args(args![device.path(), lab.dir("mnt")]).run();
    assert_ne!(mounting.code, Some(0), "nobody mounts it while it is the secondary: {mounting}");

    set(&appliance, "native", &[]).expect_code(0);
    appliance.assert_secondary("v", &source);
    change(&appliance, &lab, 3);
    appliance.assert_secondary("v", &source);
    appliance.stop();
    appliance.assert_pool_sound();
}

#[test]
fn a_daemon_is_not_needed_to_switch() {
    if !have_root("a loop device") {
        return;
    }
    let lab = Lab::new();
    let mut appliance = scene(&lab);
    let device = blank(&lab, "device.img", 32 * MIB);
    appliance.stop();
    set(&appliance, name(&device), &[]).expect_code(0);
    appliance.assert_pool_sound();
    appliance.restart();
    assert_on(&appliance, &lab, &device);
}

#[test]
fn a_device_that_somebody_may_need_is_refused_and_left_alone() {
    if !have_root("a loop device") {
        return;
    }
    let lab = Lab::new();
    let appliance = scene(&lab);
    appliance.assert_secondary("v", &lab.file("source.raw"));
    let precious = lab.file("precious.img");
    image::hole(&precious, 32 * MIB);
    tool("mke2fs", args!["-q", "-F", "-t", "ext4", &precious]);
    let before = image::keep(&precious, &lab.file("before.img"));
    let device = Loop::new(&precious);
    set(&appliance, name(&device), &[]).expect_refusal().says("not blank").says("--force").says(name(&device));
    let mount = Mount::new(device.path(), &lab.file("a mount"), "ro,noload");
    for more in [&[][..], &["--force"]] {
        set(&appliance, name(&device), more).expect_refusal().says("mounted at").says("a mount").says("unmount");
    }
    mount.unmount();
    compare::assert_same(&precious, &before, "a refused device is left alone");

    let small = blank(&lab, "small.img", 20 * MIB);
    let missing = (SIZE - 20 * MIB).to_string();
    set(&appliance, name(&small), &["--force"]).expect_refusal().says(&missing).says("missing");
    set(&appliance, "/dev/null", &["--force"]).expect_refusal().says("no block device");
    set(&appliance, "/dev/understudy-none", &[]).expect_refusal().says("no such device");
    shown(&appliance, "native");
    appliance.assert_secondary("v", &lab.file("source.raw"));

    set(&appliance, name(&device), &["--force"]).expect_code(0);
    assert_on(&appliance, &lab, &device);
}

#[test]
fn a_volume_that_outgrows_its_device_goes_on_without_and_finds_its_way_to_a_larger_one() {
    if !have_root("a loop device") {
        return;
    }
    let lab = Lab::new();
    let appliance = scene(&lab);
    let (small, large) = (blank(&lab, "small.img", 25 * MIB), blank(&lab, "large.img", 64 * MIB));
    set(&appliance, name(&small), &[]).expect_code(0);
    assert_on(&appliance, &lab, &small);
    let source = lab.file("source.raw");
    let before = image::keep(&source, &lab.file("before.raw"));
    let file = std::fs::File::options().write(true).open(&source).expect("the source");
    file.set_len(40 * MIB).expect("a larger source");
    image::scribble(&source, 30 * MIB, MIB, &mut Rng::new(seed()));
    appliance.replicate(&source, "v").expect_kind("incremental");
    appliance.assert_export(&lab, "v", &source);
    tool("cmp", args!["-n", SIZE.to_string(), small.path(), &before]);
    set(&appliance, name(&large), &[]).expect_code(0);
    assert_on(&appliance, &lab, &large);
    let log = appliance.log();
    assert!(log.contains(&format!("{} bytes are missing", 15 * MIB)), "{log}");
}

/// Kernels hand out the names of devices anew: what is found under the name later may be somebody else's.
#[test]
fn a_device_that_was_exchanged_is_not_overwritten_without_force() {
    if !have_root("a loop device") {
        return;
    }
    let lab = Lab::new();
    let mut appliance = scene(&lab);
    let device = blank(&lab, "device.img", 32 * MIB);
    set(&appliance, name(&device), &[]).expect_code(0);
    assert_on(&appliance, &lab, &device);
    appliance.stop();
    let other = lab.file("other.img");
    image::random(&other, 32 * MIB, &mut Rng::new(7));
    let before = image::keep(&other, &lab.file("before.img"));
    tool("losetup", args!["-d", device.path()]);
    tool("losetup", args![device.path(), &other]);
    appliance.restart();
    change(&appliance, &lab, 5);
    let log = wait_until("the exchange is noticed", || {
        let log = appliance.log();
        if log.contains("does not hold the secondary of v") { Ok(log) } else { Err(log) }
    });
    assert!(log.contains("--force"), "{log}");
    compare::assert_same(&other, &before, "a device that is not known is left alone");
    set(&appliance, name(&device), &["--force"]).expect_code(0);
    assert_on(&appliance, &lab, &device);
}

#[test]
fn kill_nine_while_a_device_is_written_leaves_it_identical_in_the_end() {
    if !have_root("a loop device") {
        return;
    }
    let lab = Lab::new();
    let mut appliance = scene(&lab);
    let device = blank(&lab, "device.img", 32 * MIB);
    set(&appliance, name(&device), &[]).expect_code(0);
    appliance.kill();
    appliance.restart();
    assert_on(&appliance, &lab, &device);
    let source = lab.file("source.raw");
    for round in 0..4 {
        image::scribble(&source, 0, SIZE, &mut Rng::new(round));
        let run = appliance.initiator(Appliance::replicate_args(&source, "v")).start();
        let run = run.wait_line(r#""event":"summary""#);
        appliance.kill();
        run.finish();
        // The daemon may not be there when the next point comes: what was interrupted is finished first.
        appliance.restart();
        if round % 2 == 1 {
            change(&appliance, &lab, round);
        }
        assert_on(&appliance, &lab, &device);
    }
    appliance.stop();
    appliance.assert_pool_sound();
}

#[test]
fn what_somebody_wrote_to_the_device_meanwhile_is_undone() {
    if !have_root("a loop device") {
        return;
    }
    let lab = Lab::new();
    let mut appliance = scene(&lab);
    let device = blank(&lab, "device.img", 32 * MIB);
    set(&appliance, name(&device), &[]).expect_code(0);
    assert_on(&appliance, &lab, &device);
    appliance.stop();
    // As a mount and a write would do: at the start, where a filesystem says that it was mounted, and anywhere.
    tool("dd", args!["if=/dev/urandom", format!("of={}", name(&device)), "bs=4096", "count=1", "conv=notrunc,fsync"]);
    tool(
        "dd",
        args!["if=/dev/urandom", format!("of={}", name(&device)), "bs=1M", "seek=11", "count=1", "conv=notrunc,fsync"],
    );
    appliance.restart();
    assert_on(&appliance, &lab, &device);
}

#[test]
fn removing_a_volume_removes_its_image_and_leaves_its_device() {
    if !have_root("a loop device") {
        return;
    }
    let lab = Lab::new();
    let appliance = scene(&lab);
    appliance.replicate(&lab.file("source.raw"), "w");
    appliance.assert_secondary("w", &lab.file("source.raw"));
    let device = blank(&lab, "device.img", 32 * MIB);
    set(&appliance, name(&device), &[]).expect_code(0);
    assert_on(&appliance, &lab, &device);
    for volume in ["v", "w"] {
        let remove = args!["remove", "--pool", appliance.pool(), volume, "--force"];
        Run::ours(UNDERSTUDYD).args(remove).run().expect_code(0);
        assert!(!appliance.pool().join("volumes").join(volume).exists(), "nothing is left of {volume}");
    }
    tool("cmp", args!["-n", SIZE.to_string(), device.path(), lab.file("source.raw")]);
    tool("losetup", args!["-d", device.path()]);
    assert!(Path::new(&lab.file("device.img")).exists());
}
