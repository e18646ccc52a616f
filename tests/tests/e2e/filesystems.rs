//! The main job: a real filesystem is replicated full, changed through real mounts, replicated incrementally, and
//! every point stays what the volume was at its time: restored, read over NBD, checked and mounted.

use std::path::{Path, PathBuf};

use understudy_tests::image::{self, Filesystem, WITNESS, md5};
use understudy_tests::{Appliance, Lab, NbdFuse, Rng, args, compare, count, have_root, seed, text};

const VOLUME: &str = "stage";

/// What the volume was at a point.
struct Kept {
    copy: PathBuf,
    witness: String,
}

#[test]
fn ext4_changed_through_mounts_keeps_every_point() {
    lifecycle(Filesystem::Ext4);
}

#[test]
fn xfs_changed_through_mounts_keeps_every_point() {
    lifecycle(Filesystem::Xfs);
}

#[test]
fn btrfs_changed_through_mounts_keeps_every_point() {
    lifecycle(Filesystem::Btrfs);
}

fn lifecycle(filesystem: Filesystem) {
    if !have_root("a kernel mount") {
        return;
    }
    let lab = Lab::new();
    let mut rng = Rng::new(seed());
    let source = lab.file("source.img");
    filesystem.make(&source, lab.path(), &mut rng);
    let mut appliance = Appliance::start(&lab);

    let full = appliance.replicate(&source, VOLUME).expect_kind("full").expect_count("point", 1..=1);
    assert!(!full.text("reason").is_empty(), "every full has a reason");
    appliance.assert_secondary(VOLUME, &source);
    let mut kept = vec![keep(&lab, &source, 1, filesystem)];

    for day in 1..=3 {
        let mount = filesystem.mount(&source, &lab.file("mount"));
        image::change(mount.path(), day, &mut rng);
        mount.unmount();
        let run = appliance.replicate(&source, VOLUME).expect_kind("incremental");
        let run = run.expect_count("point", day + 1..=day + 1);
        run.expect_count("bytes_sent", 1..full.count("bytes_sent"));
        appliance.assert_secondary(VOLUME, &source);
        kept.push(keep(&lab, &source, day + 1, filesystem));
    }

    assert_points(&appliance, &source);
    for (index, was) in kept.iter().enumerate() {
        assert_point(&lab, &appliance, filesystem, &format!("{VOLUME}@{}", index + 1), was);
    }
    appliance.stop();
    appliance.assert_pool_sound();
}

fn keep(lab: &Lab, source: &Path, point: u64, filesystem: Filesystem) -> Kept {
    let copy = image::keep(source, &lab.file(&format!("kept {point}.img")));
    let mount = filesystem.mount_to_read(&copy, &lab.file("kept mount"));
    let witness = md5(&mount.path().join(WITNESS));
    mount.unmount();
    Kept { copy, witness }
}

fn assert_points(appliance: &Appliance, source: &Path) {
    let points = appliance.points(VOLUME);
    assert_eq!(points.len(), 4, "one point a run: {points:?}");
    for (index, point) in points.iter().enumerate() {
        let kind = if index == 0 { "full" } else { "incremental" };
        assert_eq!(text(point, "kind"), kind, "{point}");
        assert_eq!(count(point, "point"), index as u64 + 1, "{point}");
        assert_eq!(count(point, "size"), compare::size(source), "{point}");
        assert_eq!(text(point, "root").len(), 64, "a root is 64 hex digits: {point}");
    }
}

/// The point is what the volume was, whichever way it is looked at.
fn assert_point(lab: &Lab, appliance: &Appliance, filesystem: Filesystem, point: &str, was: &Kept) {
    let target = lab.file("restored.img");
    let _ = std::fs::remove_file(&target);
    appliance.understudy(args!["restore", point, &target]).expect_code(0);
    compare::assert_same(&target, &was.copy, &format!("{point} restored is the volume at its time"));
    filesystem.check(&target);
    appliance.assert_export(lab, point, &was.copy);

    let disk = NbdFuse::new(&appliance.uri(point), &lab.file("nbdfuse"));
    let mount = filesystem.mount_to_read(&disk.disk(), &lab.file("attached"));
    let witness = md5(&mount.path().join(WITNESS));
    assert_eq!(witness, was.witness, "a file read out of {point}, attached over NBD, is the file at its time");
    mount.unmount();
}
