//! A full disk fails the stream with a clear error, keeps what was there, and freeing space is enough to go on.

use std::path::Path;

use understudy_tests::image::{self, MIB};
use understudy_tests::wait::wait_until;
use understudy_tests::{Appliance, Lab, Mount, Rng, args, have_root, seed, tool};

/// A pool on a filesystem of its own, with a settled volume `v`, and a ballast file that leaves `free` bytes.
fn scene(lab: &Lab, rng: &mut Rng, free: u64) -> (Mount, Appliance) {
    let disk = lab.file("disk.img");
    image::hole(&disk, 1024 * MIB);
    tool("mke2fs", args!["-q", "-F", "-t", "ext4", "-m", "0", &disk]);
    let mount = Mount::new(&disk, &lab.file("disk"), "loop");
    let appliance = Appliance::start_on(lab, &mount.path().join("pool"));
    let source = lab.file("kept.raw");
    image::random(&source, 8 * MIB, rng);
    appliance.replicate(&source, "v");
    appliance.settle("v");
    let ballast = free_bytes(mount.path()) - free;
    tool("fallocate", args!["--length", ballast.to_string(), mount.path().join("ballast")]);
    (mount, appliance)
}

fn free_bytes(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).expect("the filesystem can be asked");
    stat.f_bavail * stat.f_frsize
}

#[test]
fn incident_rustic_1731_a_full_disk_fails_the_stream_and_freeing_space_is_enough() {
    if !have_root("a small filesystem") {
        return;
    }
    let lab = Lab::new();
    let mut rng = Rng::new(seed());
    let (mount, mut appliance) = scene(&lab, &mut rng, 64 * MIB);
    let big = lab.file("big.raw");
    image::random(&big, 160 * MIB, &mut rng);

    for _ in 1..=2 {
        appliance.try_replicate(&big, "big", &[]).expect_refusal().says("space");
        appliance.assert_no_point("big");
        appliance.assert_export(&lab, "v@1", &lab.file("kept.raw"));
    }
    std::fs::remove_file(mount.path().join("ballast")).expect("the ballast can be removed");
    appliance.replicate(&big, "big");
    appliance.assert_secondary("big", &big);
    appliance.assert_export(&lab, "big@1", &big);
    appliance.assert_export(&lab, "v@1", &lab.file("kept.raw"));
    appliance.stop();
    appliance.assert_pool_sound();
    drop(appliance);
    mount.unmount();
}

#[test]
fn a_full_disk_at_start_keeps_the_points_readable() {
    if !have_root("a small filesystem") {
        return;
    }
    let lab = Lab::new();
    let mut rng = Rng::new(seed());
    let (mount, mut appliance) = scene(&lab, &mut rng, 64 * MIB);
    let big = lab.file("big.raw");
    image::random(&big, 160 * MIB, &mut rng);
    appliance.try_replicate(&big, "big", &[]).expect_refusal().says("space");
    appliance.kill();
    std::fs::remove_file(mount.path().join("ballast")).expect("the ballast can be removed");
    appliance.restart();
    appliance.assert_export(&lab, "v@1", &lab.file("kept.raw"));
    appliance.replicate(&big, "big");
    appliance.assert_secondary("big", &big);
    appliance.stop();
    appliance.assert_pool_sound();
    drop(appliance);
    mount.unmount();
}

#[test]
fn a_secondary_that_does_not_fit_is_behind_and_its_point_is_readable() {
    if !have_root("a small filesystem") {
        return;
    }
    let lab = Lab::new();
    let mut rng = Rng::new(seed());
    // Enough for the history of the point (96 MiB), not enough for its native image as well.
    let (mount, mut appliance) = scene(&lab, &mut rng, 150 * MIB);
    let big = lab.file("big.raw");
    image::random(&big, 96 * MIB, &mut rng);
    let outcome = appliance.try_replicate(&big, "big", &[]);
    assert!(matches!(outcome.code, Some(0 | 3)), "the point was committed, so the run is done: {outcome}");
    appliance.assert_export(&lab, "big@1", &big);
    wait_until("the secondary is known to be behind", || {
        let shown = appliance.find_volume("big").expect("the volume is listed");
        if shown["secondary"]["state"] == "behind" { Ok(()) } else { Err(shown.to_string()) }
    });
    std::fs::remove_file(mount.path().join("ballast")).expect("the ballast can be removed");
    appliance.stop();
    appliance.restart();
    appliance.assert_secondary("big", &big);
    drop(appliance);
    mount.unmount();
}
