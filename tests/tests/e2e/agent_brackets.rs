//! Brackets around reading: what they promise, and the scripts that are shipped: on real filesystems where this machine has them (fsfreeze,
//! btrfs), and with commands that write down how they are called where it has not (LVM, ZFS).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use understudy_tests::image::{self, Filesystem, MIB};
use understudy_tests::wait::wait_until;
use understudy_tests::{Agent, Appliance, Lab, Loop, Mount, Outcome, Rng, Run, args, compare, have_root, seed, tool};

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/brackets").join(name)
}

/// Runs a script by hand.
fn bracket(name: &str, words: &[&str]) -> Outcome {
    Run::peer("sh").args(args![script(name)]).args(words.iter().map(|word| word.into())).run()
}

fn connected(appliance: &Appliance) {
    wait_until("the agent is connected", || {
        let agents = appliance.upkeep(&["agents"]).out();
        if agents.contains("host: connected") { Ok(()) } else { Err(agents) }
    });
}

/// A bracket of agent.yaml.
fn hooks(name: &str, pre: &[String], post: &[String], timeout: &str) -> String {
    let list = |words: &[String]| words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ");
    format!("  {name}: {{pre: [{}], post: [{}], pre-timeout: {timeout}}}\n", list(pre), list(post))
}

#[test]
fn post_runs_whatever_became_of_the_rest_and_nothing_is_read_after_a_pre_that_failed() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let source = lab.file("source.raw");
    image::random(&source, MIB, &mut Rng::new(seed()));
    let log = lab.file("hooks.log");
    let hook = |rest: &str| {
        let line = "$UNDERSTUDY_PHASE $UNDERSTUDY_BRACKET $UNDERSTUDY_VOLUMES ${UNDERSTUDY_CODE-}";
        let script = format!("echo \"{line}\" >> \"{}\"; {rest}", log.display());
        vec!["/bin/sh".to_owned(), "-c".to_owned(), script]
    };
    let rest = format!(
        "volumes:\n  v: {{source: '{}'}}\nbrackets:\n{}{}{}",
        source.display(),
        hooks("good", &hook("true"), &hook("true"), "60s"),
        hooks("bad", &hook("exit 7"), &hook("true"), "60s"),
        hooks("stuck", &hook("sleep 1000"), &hook("true"), "500ms"),
    );
    let _agent = Agent::start(&lab, "host", appliance.address(), &rest);
    connected(&appliance);
    appliance
        .upkeep(&["replicate", "v", "--bracket", "bad"])
        .expect_refusal()
        .says("exit status: 7")
        .says("nothing was read");
    appliance.upkeep(&["replicate", "v", "--bracket", "stuck"]).expect_refusal().says("not done after 500ms");
    appliance.assert_no_point("v");
    appliance.upkeep(&["replicate", "v", "--bracket", "good"]).expect_code(0);
    appliance.upkeep(&["replicate", "v", "--bracket", "none"]).expect_refusal().says("it allows: bad, good, stuck");
    let said = std::fs::read_to_string(&log).expect("the hooks' log");
    let expected = ["pre bad v ", "post bad v 1", "pre stuck v ", "post stuck v 1", "pre good v ", "post good v 0"];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_frozen_filesystem_is_captured_and_thawed() {
    if !have_root("a kernel mount") {
        return;
    }
    let lab = Lab::new();
    let (image, work) = (lab.file("fs.raw"), lab.dir("work"));
    Filesystem::Ext4.make(&image, &work, &mut Rng::new(seed()));
    let device = Loop::new(&image);
    let dir = lab.dir("mounted");
    let mount = Mount::new(device.path(), &dir, "rw");
    let at = mount.path().display().to_string();
    bracket("fsfreeze", &["pre", &at]).expect_code(0);
    let frozen = Run::peer("fsfreeze").args(args!["--freeze", &at]).run();
    frozen.expect_codes(&[1, 32]).says("busy");
    bracket("fsfreeze", &["post", &at]).expect_code(0);
    bracket("fsfreeze", &["post", &at]).expect_code(0);
    bracket("fsfreeze", &["pre", &at, "/nowhere"]).expect_code(1).says("/nowhere cannot be frozen");
    std::fs::write(dir.join("after"), "it is thawed").expect("a write");
    bracket("fsfreeze", &["during", &at]).expect_code(1).says("expected pre or post");

    let appliance = Appliance::start(&lab);
    let words = |phase: &str| vec![script("fsfreeze").display().to_string(), phase.to_owned(), at.clone()];
    let hooks = hooks("frozen", &words("pre"), &words("post"), "60s");
    let rest = format!("volumes:\n  v: {{source: {}}}\nbrackets:\n{hooks}", device.path().display());
    let _agent = Agent::start(&lab, "host", appliance.address(), &rest);
    connected(&appliance);
    appliance.upkeep(&["replicate", "v", "--bracket", "frozen"]).expect_code(0);
    std::fs::write(dir.join("again"), "it is thawed").expect("a write");
    mount.unmount();
    drop(device);
    Filesystem::Ext4.check(&appliance.settle("v"));
}

#[test]
fn an_image_on_btrfs_is_captured_from_a_snapshot() {
    if !have_root("a kernel mount") {
        return;
    }
    let lab = Lab::new();
    let disk = lab.file("btrfs.raw");
    image::hole(&disk, 256 * MIB);
    tool("mkfs.btrfs", args!["-q", &disk]);
    let dir = lab.dir("mounted");
    let mount = Mount::new(&disk, &dir, "loop,rw");
    let (images, snapshot) = (dir.join("images"), dir.join("understudy"));
    tool("btrfs", args!["subvolume", "create", &images]);
    let image = images.join("disk.raw");
    image::random(&image, 4 * MIB, &mut Rng::new(seed()));
    let as_it_was = image::keep(&image, &lab.file("as it was"));
    let (from, to) = (images.display().to_string(), snapshot.display().to_string());
    bracket("btrfs", &["pre", &from, &to]).expect_code(0);
    image::patch(&image, MIB, b"written meanwhile");
    compare::assert_same(&snapshot.join("disk.raw"), &as_it_was, "a snapshot is of one moment");
    // What a run that was cut left is taken away; what somebody else made is not.
    bracket("btrfs", &["pre", &from, &to]).expect_code(0);
    bracket("btrfs", &["post", &from, &to]).expect_code(0);
    bracket("btrfs", &["post", &from, &to]).expect_code(0);
    assert!(!snapshot.exists());
    bracket("btrfs", &["post", "/", &from]).expect_code(1).says("can be written to");
    assert!(image.exists());

    let appliance = Appliance::start(&lab);
    let words = |phase: &str| vec![script("btrfs").display().to_string(), phase.to_owned(), from.clone(), to.clone()];
    let hooks = hooks("snapshot", &words("pre"), &words("post"), "60s");
    let rest =
        format!("volumes:\n  v: {{source: '{}', size: 4M}}\nbrackets:\n{hooks}", snapshot.join("disk.raw").display());
    let _agent = Agent::start(&lab, "host", appliance.address(), &rest);
    connected(&appliance);
    appliance.upkeep(&["replicate", "v", "--bracket", "snapshot"]).expect_code(0);
    assert!(!snapshot.exists());
    appliance.assert_secondary("v", &image);
    mount.unmount();
}

/// Commands that write down how they are called, and say and do what they are told.
struct Stubs {
    lab: Lab,
}

impl Stubs {
    fn new(commands: &[(&str, &str)]) -> Stubs {
        let lab = Lab::new();
        lab.dir("bin");
        for (name, does) in commands {
            let text = format!("#!/bin/sh\necho \"{name} $*\" >> \"{}\"\n{does}\n", lab.file("log").display());
            let path = lab.write(&format!("bin/{name}"), text);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
        }
        Stubs { lab }
    }

    fn run(&self, name: &str, words: &[&str]) -> Outcome {
        let path = format!("{}:/usr/bin:/bin", self.lab.file("bin").display());
        let run = Run::peer("/bin/sh").args(args![script(name)]).args(words.iter().map(|word| word.into()));
        run.env("PATH", path).run()
    }

    /// How the commands were called since the last time.
    fn calls(&self) -> Vec<String> {
        let log = self.lab.file("log");
        let calls = std::fs::read_to_string(&log).unwrap_or_default().lines().map(str::to_owned).collect();
        let _ = std::fs::remove_file(log);
        calls
    }
}

#[test]
fn lvm_is_told_to_make_and_remove_a_snapshot() {
    let lvm = |lvs: &str| Stubs::new(&[("lvs", lvs), ("lvcreate", "true"), ("lvremove", "true")]);
    let none = lvm("exit 5");
    none.run("lvm", &["pre", "vg/mail", "shot", "10G"]).expect_code(0);
    let made = "lvcreate --yes --snapshot --name shot --size 10G vg/mail";
    assert_eq!(none.calls(), ["lvs --noheadings -o origin vg/shot", made]);
    none.run("lvm", &["pre", "mail", "shot", "10G"]).expect_code(1).says("expected VG/LV, found mail");
    let left = lvm("case $3 in origin) echo '  mail' ;; *) echo '  swi-a-s---' ;; esac");
    left.run("lvm", &["pre", "vg/mail", "shot", "10G"]).expect_code(0);
    assert_eq!(left.calls()[1..], ["lvremove --yes vg/shot", made]);
    left.run("lvm", &["post", "vg/mail", "shot"]).expect_code(0);
    assert_eq!(left.calls().last().unwrap(), "lvremove --yes vg/shot");
    let full = lvm("case $3 in origin) echo '  mail' ;; *) echo '  swi-I-s---' ;; esac");
    full.run("lvm", &["post", "vg/mail", "shot"]).expect_code(1).says("overflowed");
    assert_eq!(full.calls().last().unwrap(), "lvremove --yes vg/shot");
    let others = lvm("echo '  db'");
    others.run("lvm", &["pre", "vg/mail", "shot", "10G"]).expect_code(1).says("is no snapshot of vg/mail");
    assert!(others.calls().iter().all(|call| call.starts_with("lvs ")), "nothing of somebody else's is removed");
}

#[test]
fn zfs_is_told_to_make_and_destroy_a_snapshot() {
    let zfs = |list: &str| Stubs::new(&[("zfs", &format!("case $1 in list) {list} ;; esac")), ("udevadm", "true")]);
    let none = zfs("exit 1");
    none.run("zfs", &["pre", "tank/mail", "shot"]).expect_code(0);
    let listed = "zfs list -H -t snapshot -o name tank/mail@shot";
    let made = ["zfs set snapdev=visible tank/mail", "zfs snapshot tank/mail@shot", "udevadm settle --timeout=30"];
    assert_eq!(none.calls(), [&[listed], &made[..]].concat());
    let there = zfs("echo tank/mail@shot");
    there.run("zfs", &["pre", "tank/mail", "shot"]).expect_code(0);
    assert_eq!(there.calls(), [&[listed, "zfs destroy tank/mail@shot"], &made[..]].concat());
    there.run("zfs", &["post", "tank/mail", "shot"]).expect_code(0);
    assert_eq!(there.calls(), [listed, "zfs destroy tank/mail@shot"]);
    let fails = zfs("exit 0 ;; destroy) echo dataset is busy >&2; exit 1");
    fails.run("zfs", &["post", "tank/mail", "shot"]).expect_code(1).says("cannot be destroyed: dataset is busy");
}
