//! Space that no point needs comes back, and nothing else goes: beside streams that are slow, beside readers, on a full
//! disk. Every point that stays is compared byte for byte afterwards, and again from the segments alone.

use std::path::{Path, PathBuf};

use serde_json::Value;
use understudy_tests::compare::{self, disk_usage};
use understudy_tests::image::{self, Filesystem, MIB};
use understudy_tests::{
    Appliance, Lab, Mount, NbdFuse, Proxy, Rng, Run, Running, Signal, Summary, args, count, have_root, seed, tool,
};

/// Debian's libnbd tools need Debian's Python.
const SYSTEM_PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

/// Collects everything that is dead, and returns what was done.
#[track_caller]
fn collect(appliance: &Appliance) -> Value {
    let outcome = appliance.upkeep(&["collect", "--dead-max", "0", "--json"]).expect_code(0);
    let json = outcome.json();
    assert_eq!((count(&json, "missing"), count(&json, "left_alone")), (0, 0), "{outcome}");
    json
}

#[track_caller]
fn prune(appliance: &Appliance, words: &[&str]) {
    appliance.upkeep(&[&["prune"], words].concat()).expect_code(0);
}

fn segment_bytes(appliance: &Appliance) -> u64 {
    disk_usage(&appliance.pool().join("segments"))
}

/// The pool is sound at rest, and opens again from its segments alone.
#[track_caller]
fn assert_sound(appliance: &mut Appliance) {
    appliance.stop();
    appliance.assert_pool_sound();
    appliance.lose_index();
    appliance.restart();
}

#[test]
fn ext4_points_that_stay_are_whole_and_the_space_of_the_others_comes_back() {
    several_days(Filesystem::Ext4, 6);
}

#[test]
fn btrfs_points_that_stay_are_whole_and_the_space_of_the_others_comes_back() {
    several_days(Filesystem::Btrfs, 3);
}

/// A volume that changes from day to day, and what it was each evening.
struct Stage {
    lab: Lab,
    rng: Rng,
    filesystem: Filesystem,
    day: u64,
}

impl Stage {
    fn source(&self) -> PathBuf {
        self.lab.file("source.img")
    }

    fn kept(&self, point: u64) -> PathBuf {
        self.lab.file(&format!("kept {point}.img"))
    }

    /// A run that compresses everything: otherwise it depends on the speed of this machine what is compressed.
    fn replicate(&self, appliance: &Appliance) -> Summary {
        appliance.replicate_with(&self.source(), "v", &["--compress", "lz4"])
    }

    /// Points are numbered as days are, from 1 on.
    fn live_a_day(&mut self, appliance: &Appliance) {
        let mount = self.filesystem.mount(&self.source(), &self.lab.file("mount"));
        image::change(mount.path(), self.day, &mut self.rng);
        mount.unmount();
        self.day += 1;
        self.replicate(appliance).expect_count("point", self.day..=self.day);
        image::keep(&self.source(), &self.kept(self.day));
        appliance.settle("v");
    }

    /// Exactly these points exist; each is restored, compared, attached and checked.
    #[track_caller]
    fn assert_points(&self, appliance: &Appliance, points: &[u64]) {
        assert_eq!(appliance.point_numbers("v"), points);
        for point in points {
            let (name, target) = (format!("v@{point}"), self.lab.file("restored.img"));
            appliance.understudy(args!["restore", &name, &target, "--force"]).expect_code(0);
            compare::assert_same(&target, &self.kept(*point), &format!("{name}, restored after a collection"));
            let disk = NbdFuse::new(&appliance.uri(&name), &self.lab.file("attached"));
            self.filesystem.check(&disk.disk());
        }
    }
}

fn several_days(filesystem: Filesystem, days: u64) {
    if !have_root("a kernel mount") {
        return;
    }
    let lab = Lab::new();
    let mut rng = Rng::new(seed());
    filesystem.make(&lab.file("source.img"), lab.path(), &mut rng);
    let mut appliance = Appliance::start(&lab);
    let mut stage = Stage { lab, rng, filesystem, day: 1 };
    stage.replicate(&appliance).expect_kind("full");
    image::keep(&stage.source(), &stage.kept(1));
    (1..days).for_each(|_| stage.live_a_day(&appliance));

    appliance.upkeep(&["protect", "v@2"]).expect_code(0);
    prune(&appliance, &["--keep-last", "1"]);
    let before = segment_bytes(&appliance);
    let collected = collect(&appliance);
    let freed = before.saturating_sub(segment_bytes(&appliance));
    assert!(freed > 0, "{before} bytes of segments before, and no fewer after: {collected}");
    stage.assert_points(&appliance, &[2, days]);
    assert_sound(&mut appliance);
    stage.assert_points(&appliance, &[2, days]);

    stage.live_a_day(&appliance);
    appliance.upkeep(&["unprotect", "v@2"]).expect_code(0);
    prune(&appliance, &["--keep-last", "1"]);
    appliance.upkeep(&["collect"]).expect_code(0);
    stage.assert_points(&appliance, &[days + 1]);
    assert_hardly_larger_than_fresh(&stage, &mut appliance);
}

/// A pool of which one point is left takes hardly more than one that never had another.
fn assert_hardly_larger_than_fresh(stage: &Stage, appliance: &mut Appliance) {
    let pool = appliance.pool().to_path_buf();
    appliance.stop();
    appliance.assert_pool_sound();
    let old = appliance.history_bytes();
    let segments = segment_bytes(appliance);
    let mut fresh = Appliance::start_on(&stage.lab, &stage.lab.file("fresh pool"));
    stage.replicate(&fresh).expect_kind("full");
    fresh.stop();
    let new = fresh.history_bytes();
    assert!(
        old * 100 <= new * 115,
        "{old} bytes ({segments} of them segments) in {}, {new} in a fresh pool",
        pool.display()
    );
    drop(fresh);
    appliance.restart();
    stage.assert_points(appliance, &[stage.day]);
}

/// What a stream meets while it is held: `v`, which it builds on, and `old`, half of which it has in common with it.
struct Slow {
    lab: Lab,
    rng: Rng,
    appliance: Appliance,
    source: PathBuf,
}

impl Slow {
    /// `v@2` is the newest; nothing but `v@1` has 4 MiB of the pool, and nothing but `old` 12 MiB. The source begins with
    /// 8 MiB of `old`, goes on with 8 MiB that nobody has seen, and ends as it was.
    fn new() -> Slow {
        let lab = Lab::new();
        let mut rng = Rng::new(seed());
        let appliance = Appliance::start(&lab);
        let (source, old) = (lab.file("source.raw"), lab.file("old.raw"));
        image::random(&source, 24 * MIB, &mut rng);
        appliance.replicate(&source, "v");
        image::scribble(&source, 0, 4 * MIB, &mut rng);
        appliance.replicate(&source, "v");
        let shared = rng.bytes(8 << 20);
        image::random(&old, 4 * MIB, &mut rng);
        image::resize(&old, 12 * MIB);
        image::patch(&old, 4 * MIB, &shared);
        appliance.replicate(&old, "old");
        // A secondary that is on its way keeps the points that it comes from and goes to.
        for volume in ["v", "old"] {
            appliance.settle(volume);
        }
        image::patch(&source, 0, &shared);
        image::scribble(&source, 8 * MIB, 8 * MIB, &mut rng);
        Slow { lab, rng, appliance, source }
    }

    /// A stream of the source that is held in the middle of what nobody has seen.
    fn start(&self, proxy: &Proxy) -> Running {
        let run = self.appliance.initiator(Appliance::replicate_args(&self.source, "v"));
        run.env("UNDERSTUDY_APPLIANCE", proxy.address()).start().wait_held(proxy)
    }

    /// Everything that can go, goes; twice, with a stream of somebody else between.
    fn reclaim(&mut self) {
        self.appliance.upkeep(&["remove", "old", "--force"]).expect_code(0);
        prune(&self.appliance, &["--keep-last", "1"]);
        let first = collect(&self.appliance);
        assert!(count(&first, "freed_bytes") > 7 * MIB, "8 MiB that nobody needs: {first}");
        let other = self.lab.file("other.raw");
        image::random(&other, 2 * MIB, &mut self.rng);
        self.appliance.replicate(&other, "other");
        collect(&self.appliance);
    }

    /// The stream ended with a point that is right, now and from the segments alone, whatever is collected after.
    fn assert_right(&mut self, run: Running) {
        run.finish().expect_code(0).summary().expect_kind("incremental").expect_count("point", 3..=3);
        for _ in 0..2 {
            assert_eq!(self.appliance.point_numbers("v"), [2, 3]);
            self.appliance.assert_export(&self.lab, "v@3", &self.source);
            self.appliance.assert_secondary("v", &self.source);
            self.appliance.assert_export(&self.lab, "other", &self.lab.file("other.raw"));
            assert_sound(&mut self.appliance);
            prune(&self.appliance, &["--keep-last", "2"]);
            collect(&self.appliance);
        }
    }
}

#[test]
fn collection_beside_a_stream_that_the_line_holds_up_takes_nothing_from_it() {
    for limit in [MIB, 7 * MIB] {
        let mut slow = Slow::new();
        let proxy = Proxy::hold_after(slow.appliance.address(), limit);
        let run = slow.start(&proxy);
        slow.reclaim();
        proxy.release();
        slow.assert_right(run);
    }
}

#[test]
fn incident_restic_gc_beside_a_slow_writer() {
    let mut slow = Slow::new();
    let proxy = Proxy::hold_after(slow.appliance.address(), 4 * MIB);
    let run = slow.start(&proxy);
    run.signal(Signal::STOP);
    // All that it had sent arrives; there it stands.
    proxy.release();
    slow.reclaim();
    run.signal(Signal::CONT);
    slow.assert_right(run);
}

#[test]
fn what_a_broken_stream_left_behind_is_collected() {
    let mut slow = Slow::new();
    let proxy = Proxy::hold_after(slow.appliance.address(), 6 * MIB);
    let run = slow.start(&proxy);
    slow.reclaim();
    run.kill();
    proxy.cut();
    drop(proxy);
    // Without the index too, for what is recorded of a stream that can go on counts there.
    assert_sound(&mut slow.appliance);
    slow.appliance.replicate(&slow.source, "v").expect_count("point", 3..=3);
    slow.appliance.settle("v");
    prune(&slow.appliance, &["--keep-last", "1"]);
    collect(&slow.appliance);
    slow.appliance.assert_export(&slow.lab, "v@3", &slow.source);
    let left = segment_bytes(&slow.appliance);
    assert!(left < 28 * MIB, "24 MiB of v and 2 MiB of other are needed, {left} bytes are there");
    assert_sound(&mut slow.appliance);
    slow.appliance.assert_export(&slow.lab, "v@3", &slow.source);
}

/// Reads all of a point again and again over one connection, until a file says that it is enough.
const READER: &str = r#"
import os
expected = open(FILE, "rb").read()
passes = 0
while not os.path.exists(ENOUGH):
    for at in range(0, len(expected), 1 << 20):
        got = h.pread(min(1 << 20, len(expected) - at), at)
        assert got == expected[at:at + len(got)], "wrong bytes at %d, in pass %d" % (at, passes)
    passes += 1
    print("pass %d" % passes, flush=True)
"#;

#[test]
fn collection_under_a_reader_changes_nothing_for_it() {
    let lab = Lab::new();
    let mut rng = Rng::new(seed());
    let mut appliance = Appliance::start(&lab);
    let source = lab.file("source.raw");
    // More than the appliance keeps in memory, so that it reads from segments.
    image::random(&source, 40 * MIB, &mut rng);
    appliance.replicate(&source, "v");
    let kept = image::keep(&source, &lab.file("kept"));
    let quoted = |path: &Path| format!("{:?}", path.display().to_string());
    let script = READER.replace("FILE", &quoted(&kept)).replace("ENOUGH", &quoted(&lab.file("enough")));
    let reader = Run::peer("nbdsh").env("PATH", SYSTEM_PATH).args(args!["-u", appliance.uri("v@1"), "-c", script]);
    let mut reader = reader.start().wait_line("pass 1");
    for round in 0..3 {
        // A quarter of what the point shares with the newest ones changes: its blocks move from segment to segment.
        image::scribble(&source, round * 10 * MIB, 8 * MIB, &mut rng);
        appliance.replicate(&source, "v");
        appliance.settle("v");
        prune(&appliance, &["--keep-last", "1"]);
        let collected = collect(&appliance);
        assert!(round == 0 || count(&collected, "removed_segments") > 0, "round {round}: {collected}");
        reader = reader.wait_line("pass");
    }
    lab.write("enough", "");
    reader.finish().expect_code(0);
    assert_eq!(appliance.point_numbers("v"), [1, 4], "what is read stays");
    prune(&appliance, &["--keep-last", "1"]);
    collect(&appliance);
    appliance.assert_export(&lab, "v@4", &source);
    assert_sound(&mut appliance);
    appliance.assert_export(&lab, "v@4", &source);
}

/// Increments until the disk is full; the numbers of the points that there are then.
fn fill(lab: &Lab, appliance: &Appliance, rng: &mut Rng) -> Vec<u64> {
    let source = lab.file("source.raw");
    for _ in 0..40 {
        image::scribble(&source, rng.below(16) * MIB, 8 * MIB, rng);
        let outcome = appliance.try_replicate(&source, "v", &[]);
        if outcome.code != Some(0) {
            outcome.expect_refusal().says("no space left in the pool").says("bytes are missing");
            return appliance.point_numbers("v");
        }
        let newest = appliance.point_numbers("v").pop().expect("a point");
        image::keep(&source, &lab.file(&format!("kept {newest}")));
        let _ = std::fs::remove_file(lab.file(&format!("kept {}", newest.saturating_sub(2))));
    }
    panic!("the disk takes 40 increments of 8 MiB");
}

#[test]
fn a_full_pool_can_be_pruned_and_collected_and_takes_streams_again() {
    if !have_root("a small filesystem") {
        return;
    }
    let lab = Lab::new();
    let mut rng = Rng::new(seed());
    let disk = lab.file("disk.img");
    image::hole(&disk, 256 * MIB);
    tool("mke2fs", args!["-q", "-F", "-t", "ext4", "-m", "0", &disk]);
    let mount = Mount::new(&disk, &lab.file("disk"), "loop");
    let mut appliance = Appliance::start_on(&lab, &mount.path().join("pool"));
    image::random(&lab.file("source.raw"), 24 * MIB, &mut rng);
    for daemon in [true, false] {
        let points = fill(&lab, &appliance, &mut rng);
        let newest = *points.last().expect("a point");
        if !daemon {
            appliance.kill();
        }
        let before = segment_bytes(&appliance);
        prune(&appliance, &["--keep-last", "2"]);
        collect(&appliance);
        let after = segment_bytes(&appliance);
        assert!(after + 32 * MIB < before, "{before} bytes of segments before, {after} after");
        if !daemon {
            appliance.restart();
        }
        for point in [newest - 1, newest] {
            appliance.assert_export(&lab, &format!("v@{point}"), &lab.file(&format!("kept {point}")));
        }
        appliance.replicate(&lab.file("source.raw"), "v").expect_kind("incremental");
        image::keep(&lab.file("source.raw"), &lab.file(&format!("kept {}", newest + 1)));
        appliance.assert_secondary("v", &lab.file("source.raw"));
        assert_sound(&mut appliance);
        appliance.assert_export(&lab, "v", &lab.file("source.raw"));
    }
    drop(appliance);
    mount.unmount();
}
