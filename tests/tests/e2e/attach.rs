//! `understudy attach`, `attached` and `detach` with the kernel's filesystems: points of volumes whose journals are dirty,
//! overlays that are written through a mount, and attaching that fails in the middle.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde_json::Value;
use understudy_tests::image::{self, Filesystem, MIB, WITNESS, md5};
use understudy_tests::{Appliance, Lab, Mount, NbdFuse, Outcome, Rng, Run, args, have_root, seed, text, tool};

/// Detaches whatever a failed test left attached.
struct Tidy<'a>(&'a Appliance);

impl Drop for Tidy<'_> {
    fn drop(&mut self) {
        let listed = self.0.initiator(args!["attached", "--json"]).run();
        for one in listed.json().as_array().cloned().unwrap_or_default() {
            self.0.initiator(args!["detach", one["export"].as_str().unwrap_or_default()]).run();
        }
    }
}

fn attached(appliance: &Appliance) -> Vec<Value> {
    let outcome = appliance.understudy(args!["attached", "--json"]).expect_code(0);
    outcome.json().as_array().cloned().unwrap_or_else(|| panic!("not a JSON array: {outcome}"))
}

fn attach(appliance: &Appliance, words: &[&str], mount: &Path) -> Outcome {
    let words = words.iter().map(|word| std::ffi::OsString::from(*word));
    let run = appliance.initiator(args!["attach", "--json", "--mount", mount]).args(words);
    run.run()
}

fn detach(appliance: &Appliance, name: impl AsRef<OsStr>) -> Outcome {
    appliance.understudy(args!["detach", name.as_ref()])
}

fn is_mount(dir: &Path) -> bool {
    Run::peer("mountpoint").args(args!["-q", dir]).run().code == Some(0)
}

/// A copy of a filesystem as it is while it is mounted and written to: as after a loss of power.
fn crashed(lab: &Lab, filesystem: Filesystem) -> (PathBuf, String) {
    let (source, copy) = (lab.file("source.img"), lab.file("crashed.img"));
    filesystem.make(&source, lab.path(), &mut Rng::new(seed()));
    let mount = filesystem.mount(&source, &lab.file("mount"));
    let witness = md5(&mount.path().join(WITNESS));
    std::fs::write(mount.path().join("late.txt"), "written last").expect("a file");
    tool("sync", args!["-f", mount.path()]);
    image::keep(&source, &copy);
    mount.unmount();
    (copy, witness)
}

fn dirty_journal(filesystem: Filesystem) {
    if !have_root("a kernel mount") {
        return;
    }
    let lab = Lab::new();
    let (copy, witness) = crashed(&lab, filesystem);
    let appliance = Appliance::start(&lab);
    let _tidy = Tidy(&appliance);
    appliance.replicate(&copy, "v");
    let dir = lab.file("a mount point");
    let told = attach(&appliance, &["v"], &dir).expect_code(0).events().remove(0);
    assert_eq!((text(&told, "export"), told["writable"].as_bool()), ("v@1", Some(false)), "{told}");
    assert_eq!(md5(&dir.join(WITNESS)), witness, "a file of the point, through the mount");
    assert!(std::fs::write(dir.join("new"), "no").is_err(), "the mount is read-only");
    let listed = attached(&appliance);
    assert_eq!((text(&listed[0], "state"), text(&listed[0], "export")), ("attached", "v@1"), "{listed:?}");
    attach(&appliance, &["v@1"], &lab.file("elsewhere")).expect_refusal().says("attached already");
    detach(&appliance, &dir).expect_code(0);
    assert!(!dir.exists(), "the directory that was made is gone");
    assert!(attached(&appliance).is_empty());
    appliance.understudy(args!["verify", &copy, "v@1"]).expect_code(0);
}

#[test]
fn ext4_with_a_dirty_journal_mounts_read_only() {
    dirty_journal(Filesystem::Ext4);
}

#[test]
fn xfs_with_a_dirty_log_mounts_read_only() {
    dirty_journal(Filesystem::Xfs);
}

#[test]
fn btrfs_with_a_dirty_log_mounts_read_only() {
    dirty_journal(Filesystem::Btrfs);
}

fn written_mount(filesystem: Filesystem) {
    if !have_root("a kernel mount") {
        return;
    }
    let lab = Lab::new();
    let (copy, witness) = crashed(&lab, filesystem);
    let mut appliance = Appliance::start(&lab);
    appliance.replicate(&copy, "v");
    let dir = lab.dir("mount point");
    attach(&appliance, &["v", "--rw"], &dir).expect_code(0);
    assert_eq!(std::fs::read(dir.join("late.txt")).expect("the journal was replayed"), b"written last");
    let mut rng = Rng::new(seed());
    image::change(&dir, 1, &mut rng);
    let changed = md5(&dir.join(WITNESS));
    assert_ne!(changed, witness);
    detach(&appliance, "v").expect_code(0).says("its scratch overlay stays");
    // Unmounting flushed all of it.
    appliance.kill();
    appliance.restart();
    let disk = NbdFuse::new(&appliance.uri("v@1+w"), &lab.file("disk"));
    filesystem.check(&disk.disk());
    drop(disk);
    let _tidy = Tidy(&appliance);
    attach(&appliance, &["v@1", "--rw"], &dir).expect_code(0);
    assert_eq!(md5(&dir.join(WITNESS)), changed, "what was written is there");
    assert_eq!(std::fs::read_dir(dir.join("dir 1")).expect("a new directory").count(), 0);
    detach(&appliance, &dir).expect_code(0);
    assert!(dir.exists() && !is_mount(&dir), "a directory that was there stays");
    appliance.understudy(args!["verify", &copy, "v@1"]).expect_code(0);
    appliance.understudy(args!["attach", "discard", "v@1", "--force"]).expect_code(0);
}

#[test]
fn ext4_is_written_through_an_overlay() {
    written_mount(Filesystem::Ext4);
}

#[test]
fn xfs_is_written_through_an_overlay() {
    written_mount(Filesystem::Xfs);
}

#[test]
fn btrfs_is_written_through_an_overlay() {
    written_mount(Filesystem::Btrfs);
}

/// A disk with a partition table: an ext4 from the first MiB on, and a second partition with nothing on it.
fn partitioned(lab: &Lab) -> PathBuf {
    let (disk, part) = (lab.file("disk.img"), lab.file("partition.img"));
    let staging = lab.dir("staging");
    lab.write("staging/play.txt", "act one");
    image::hole(&part, 16 * MIB);
    tool("mke2fs", args!["-q", "-F", "-t", "ext4", "-d", staging, &part]);
    image::hole(&disk, 32 * MIB);
    let mut table = vec![0; 66];
    for (at, start, sectors) in [(0, 2048_u32, 32768_u32), (16, 2048 + 32768, 2048)] {
        table[at + 4] = 0x83;
        table[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
        table[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
    }
    table[64..].copy_from_slice(&[0x55, 0xaa]);
    image::patch(&disk, 446, &table);
    image::patch(&disk, MIB, &std::fs::read(&part).expect("the partition"));
    disk
}

#[test]
fn a_partition_is_mounted_by_its_number() {
    if !have_root("a kernel mount") {
        return;
    }
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let _tidy = Tidy(&appliance);
    appliance.replicate(&partitioned(&lab), "v");
    let dir = lab.file("mount point");
    let refused = attach(&appliance, &["v"], &dir).expect_refusal();
    refused.says("name one with --partition N; it has 1 (16.8 MB, ext4), 2 (1.0 MB, no known filesystem)");
    assert!(attached(&appliance).is_empty() && !dir.exists(), "what was done is undone");
    attach(&appliance, &["v", "--partition", "3"], &dir).expect_refusal().says("no partition 3; it has 1 (");
    attach(&appliance, &["v", "--partition", "2"], &dir).expect_refusal().says("has no filesystem");
    for rw in [&["v", "--partition", "1"][..], &["v", "--partition", "1", "--rw"]] {
        attach(&appliance, rw, &dir).expect_code(0);
        assert_eq!(std::fs::read(dir.join("play.txt")).expect("a file"), b"act one");
        detach(&appliance, "v").expect_code(0);
    }
}

#[test]
fn an_attach_that_fails_in_the_middle_leaves_nothing() {
    if !have_root("a kernel mount") {
        return;
    }
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let _tidy = Tidy(&appliance);
    let source = lab.file("source.raw");
    image::random(&source, MIB, &mut Rng::new(seed()));
    appliance.replicate(&source, "v");
    let dir = lab.file("mount point");
    attach(&appliance, &["v"], &dir).expect_refusal().says("v@1 has no filesystem").says("without --mount");
    assert!(attached(&appliance).is_empty() && !dir.exists());
    attach(&appliance, &["w"], &dir).expect_refusal().says("no such volume");
    let file = lab.write("a file", "x");
    attach(&appliance, &["v"], &file).expect_refusal().says("is no directory");
    appliance.understudy(args!["attach", "v", "--device", "/dev/null"]).expect_refusal().says("/dev/null");
    assert!(attached(&appliance).is_empty());
    // As a disk, without a mount, it is what it is.
    let told = appliance.understudy(args!["attach", "v", "--json"]).expect_code(0).events().remove(0);
    let disk = PathBuf::from(text(&told, "disk"));
    tool("cmp", args![&disk, &source]);
    detach(&appliance, &disk).expect_code(0);
}

#[test]
fn a_mount_that_is_used_stays_and_one_that_is_gone_is_noticed() {
    if !have_root("a kernel mount") {
        return;
    }
    let lab = Lab::new();
    let mut appliance = Appliance::start(&lab);
    let source = lab.file("source.img");
    Filesystem::Ext4.make(&source, lab.path(), &mut Rng::new(seed()));
    appliance.replicate(&source, "v");
    let dir = lab.file("mount point");
    {
        let _tidy = Tidy(&appliance);
        attach(&appliance, &["v"], &dir).expect_code(0);
        let open = std::fs::File::open(dir.join(WITNESS)).expect("a file");
        detach(&appliance, "v").expect_refusal().says("fuser -vm");
        assert!(is_mount(&dir), "what is used stays");
        assert_eq!(text(&attached(&appliance)[0], "state"), "attached");
        drop(open);
        detach(&appliance, "nothing").expect_refusal().says("attached are v@1");
        tool("umount", args![&dir]);
        assert_eq!(text(&attached(&appliance)[0], "state"), "in part");
        detach(&appliance, "v").expect_code(0);
        detach(&appliance, "v").expect_refusal().says("nothing is attached");
    }
    // The daemon ends under a disk of nbdfuse, which does not connect again: that is seen, and undone.
    let told = appliance.understudy(args!["attach", "v", "--json"]).expect_code(0).events().remove(0);
    appliance.kill();
    let read = Run::peer("dd").args(args![format!("if={}", text(&told, "disk")), "of=/dev/null", "count=8"]).run();
    assert_ne!(read.code, Some(0), "nobody is there to answer: {read}");
    appliance.restart();
    detach(&appliance, "v").expect_code(0);
    assert!(attached(&appliance).is_empty());
    let mount = Mount::new(&source, &lab.file("other"), "loop,ro");
    attach(&appliance, &["v"], mount.path()).expect_refusal().says("something is mounted there already");
    mount.unmount();
}
