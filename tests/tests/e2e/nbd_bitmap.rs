//! Dirty bitmaps of real qemu: an increment reads what is dirty and nothing else, and whenever it is not certain that the
//! bitmap knows everything, everything is compared, for a reason that is said.

use std::path::Path;

use serde_json::Value;
use understudy_tests::image::MIB;
use understudy_tests::{Appliance, Lab, Outcome, Proxy, Qcow2, Rng, args, compare, seed, text, tool};

const SIZE: u64 = 256 * MIB;
const BLOCK: u64 = 64 << 10;
/// Clean blocks that are read all the same.
const SAMPLE: u64 = 128;

struct Scene {
    lab: Lab,
    appliance: Appliance,
    disk: Qcow2,
}

impl Scene {
    /// A disk of which 128 MiB are written, with a bitmap, and its first point.
    fn new() -> Scene {
        let scene = Scene::unseen();
        scene.replicate(&[]).summary().expect_kind("full");
        scene
    }

    /// The same before anybody read it.
    fn unseen() -> Scene {
        let lab = Lab::new();
        let appliance = Appliance::start(&lab);
        let disk = Qcow2::new(&lab, SIZE);
        disk.io(&["write -P 7 0 128M"]);
        disk.add_bitmap("b0");
        Scene { lab, appliance, disk }
    }

    /// Replicates with the bitmap, and proves that the point is the disk.
    #[track_caller]
    fn replicate(&self, more: &[&str]) -> Outcome {
        self.replicate_to_end(more).expect_code(0)
    }

    #[track_caller]
    fn replicate_to_end(&self, more: &[&str]) -> Outcome {
        let served = self.disk.serve();
        let more = [&["--bitmap", "b0"], more].concat();
        let mut arguments = Appliance::replicate_args(Path::new(&served.uri()), "v");
        arguments.extend(more.iter().map(Into::into));
        // A stream that compares everything follows one that was given up: the appliance may be busy for a moment.
        let run = self.appliance.initiator(arguments).env("UNDERSTUDY_RETRIES", "5000");
        let outcome = run.env("UNDERSTUDY_RETRY_DELAY", "1").run().expect_codes(&[0, 3]);
        drop(served);
        self.appliance.assert_export(&self.lab, "v", &self.disk.content(&self.lab));
        outcome
    }

    fn state_file(&self, kind: &str) -> std::path::PathBuf {
        let pools = std::fs::read_dir(self.appliance.state()).expect("the state directory");
        let pool = pools.flatten().find(|entry| entry.path().is_dir()).expect("the pool's directory");
        pool.path().join(format!("v.{kind}"))
    }
}

/// Whether the bitmap was used, and why not, as it was told last.
#[track_caller]
fn told(outcome: &Outcome) -> Value {
    let mut events = outcome.events().into_iter().filter(|event| event["event"] == "bitmap");
    events.next_back().unwrap_or_else(|| panic!("nothing is told of the bitmap: {outcome}"))
}

#[track_caller]
fn assert_used(outcome: &Outcome, dirty_blocks: u64) {
    assert_eq!(told(outcome)["used"], true, "{outcome}");
    let summary = outcome.summary().expect_kind("incremental").expect_count("bitmap_lies", 0..=0);
    summary.expect_count("blocks_sampled", SAMPLE..=SAMPLE).expect_count("blocks_read", ..=SAMPLE + dirty_blocks);
}

#[track_caller]
fn assert_compared(outcome: &Outcome, reason: &str) {
    let event = told(outcome);
    assert_eq!(event["used"], false, "{outcome}");
    let found = text(&event, "reason");
    assert!(found.contains(reason), "expected {reason:?}, found {found:?}: {outcome}");
    outcome.summary().expect_count("blocks_read", 128 * MIB / BLOCK..).expect_count("blocks_sampled", 0..=0);
}

#[test]
fn an_increment_reads_what_is_dirty_and_nothing_else() {
    let scene = Scene::new();
    assert_used(&scene.replicate(&[]), 0);
    scene.disk.io(&["write -P 1 0 4k", "write -P 2 100M 1M", "write -P 3 200M 64k"]);
    let outcome = scene.replicate(&[]);
    assert_used(&outcome, 18);
    let summary = outcome.summary().expect_count("blocks_changed", 18..=18);
    summary.expect_count("blocks_clean", 128 * MIB / BLOCK - 17..);
    // What is dirty and zero is not read either.
    scene.disk.io(&["write -z -u 50M 20M", "write -z 80M 1M"]);
    let outcome = scene.replicate(&[]);
    assert_used(&outcome, 18);
    outcome.summary().expect_count("blocks_changed", 336..=336);
    // A user who begins the bitmap anew after a run loses nothing.
    scene.disk.bitmap(&["--clear"], "b0");
    scene.disk.io(&["write -P 5 7M 64k"]);
    assert_used(&scene.replicate(&[]), 1);
}

#[test]
fn a_bitmap_of_which_nobody_knows_since_when_it_records_is_not_used() {
    let scene = Scene::unseen();
    let served = scene.disk.serve_bare();
    let uri = served.uri("disk");
    scene.appliance.replicate(Path::new(&uri), "v");
    served.kill();
    // It is there, and may have come after the point.
    assert_compared(&scene.replicate(&[]), "no point was made with it from here");
    assert_used(&scene.replicate(&[]), 0);
    // A point that was made without it from here.
    let served = scene.disk.serve_bare();
    scene.appliance.replicate(Path::new(&uri), "v");
    served.kill();
    assert_compared(&scene.replicate(&[]), "no point was made with it from here");
    // A memory that is damaged.
    std::fs::write(scene.state_file("bitmap"), b"UBIT, or so").expect("the file can be written");
    assert_compared(&scene.replicate(&[]), "truncated");
    assert_used(&scene.replicate(&[]), 0);
}

#[test]
fn a_point_that_somebody_else_made_is_compared_with() {
    let scene = Scene::new();
    let other = scene.lab.file("other state");
    scene.disk.io(&["write -P 9 3M 64k"]);
    let served = scene.disk.serve();
    let run = scene.appliance.initiator(Appliance::replicate_args(Path::new(&served.uri()), "v"));
    run.env("UNDERSTUDY_STATE_DIR", &other).run().expect_code(0);
    drop(served);
    assert_compared(&scene.replicate(&[]), "the newest is point 2, made by another");
    assert_used(&scene.replicate(&[]), 1);
    // The map alone was lost: it is fetched, and what it is of is proven by its root.
    std::fs::remove_file(scene.state_file("map")).expect("the map can be removed");
    assert_used(&scene.replicate(&[]), 1);
}

#[test]
fn a_bitmap_that_is_not_there_is_told_and_everything_is_compared() {
    let scene = Scene::new();
    scene.disk.io(&["write -P 9 3M 64k"]);
    let served = scene.disk.serve_bare();
    let uri = served.uri("disk");
    let outcome = scene.appliance.try_replicate(Path::new(&uri), "v", &["--bitmap", "b0"]).expect_code(0);
    assert_compared(&outcome, "the server does not offer bitmap b0");
    outcome.summary().expect_count("blocks_changed", 1..=1);
}

#[test]
fn incident_dattobd_209_a_bitmap_that_lies_is_caught_and_everything_is_compared() {
    let scene = Scene::new();
    // Written, and forgotten by the bitmap: a third of what it calls clean.
    scene.disk.io(&["write -P 9 20M 40M", "write -P 1 0 64k"]);
    scene.disk.bitmap(&["--clear"], "b0");
    let outcome = scene.replicate_to_end(&["--sample-seed", "7"]).expect_code(3);
    assert_compared(&outcome, "clean, which differs from point 1");
    let lie = outcome.events().into_iter().find(|event| event["event"] == "warning");
    assert!(lie.is_some_and(|event| text(&event, "text").starts_with("the bitmap lies: it calls block")), "{outcome}");
    let summary = outcome.summary().expect_count("bitmap_lies", 1..=1);
    summary.expect_count("blocks_changed", 641..=641);
    // Who lied once is not believed because it did not lie again meanwhile.
    assert_compared(&scene.replicate(&[]), "no point was made with it from here");
    assert_used(&scene.replicate(&[]), 0);
    // What was discarded behind its back needs no luck to be found.
    scene.disk.io(&["discard 70M 64k"]);
    scene.disk.bitmap(&["--clear"], "b0");
    let outcome = scene.replicate_to_end(&[]).expect_code(3);
    outcome.summary().expect_count("bitmap_lies", 1..=1).expect_count("blocks_changed", 1..=1);
}

#[test]
fn a_volume_that_was_resized_is_compared() {
    let scene = Scene::new();
    scene.disk.io(&["write -P 9 3M 64k"]);
    tool("qemu-img", args!["resize", "-q", "-f", "qcow2", scene.disk.path(), "320M"]);
    scene.disk.io(&["write -P 9 300M 64k"]);
    let outcome = scene.replicate(&[]);
    assert_compared(&outcome, "the volume has 335.5 MB now, it had 268.4 MB");
    assert_used(&scene.replicate(&[]), 2);
}

#[test]
fn an_initiator_killed_in_the_middle_loses_nothing_of_the_increment() {
    let scene = Scene::new();
    let mut rng = Rng::new(seed());
    for round in 0..3 {
        // Noise, so that it has to travel.
        scene.disk.scribble(8 * MIB, 64 * MIB, &mut rng);
        let served = scene.disk.serve();
        let proxy = Proxy::hold_after(scene.appliance.address(), (4 + 17 * round) * MIB);
        let mut arguments = Appliance::replicate_args(Path::new(&served.uri()), "v");
        arguments.extend(args!["--bitmap", "b0", "--compress", "none"]);
        let run = scene.appliance.initiator(arguments).env("UNDERSTUDY_APPLIANCE", proxy.address());
        run.start().wait_held(&proxy).kill();
        drop((served, proxy));
        // More is written before anybody tries again.
        scene.disk.io(&["write -P 77 120M 64k"]);
        let outcome = scene.replicate(&[]);
        assert_eq!(told(&outcome)["used"], true, "{outcome}");
        // A part may be read twice: what was durable is held against the source.
        let read = outcome.summary().expect_count("blocks_changed", 1024..).count("blocks_read");
        assert!(read <= 2 * (1025 + SAMPLE), "{read} blocks were read: {outcome}");
    }
    compare::assert_same(&scene.appliance.settle("v"), &scene.disk.content(&scene.lab), "the secondary is the disk");
}
