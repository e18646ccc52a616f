//! Groups: several volumes are committed together or not at all, whoever is late, cut off, killed or wrong; and what came of a
//! member is not sent twice.

use std::path::PathBuf;

use understudy_tests::image::{self, MIB};
use understudy_tests::{Appliance, Lab, Outcome, Proxy, Rng, Run, Running, count, seed, text};

const SIZE: u64 = 24 * MIB;

/// An appliance, and sources with content that nobody has seen.
struct Scene {
    lab: Lab,
    rng: Rng,
    appliance: Appliance,
    groups: u64,
}

impl Scene {
    fn new(volumes: &[&str]) -> Scene {
        let lab = Lab::new();
        let mut rng = Rng::new(seed());
        volumes.iter().for_each(|volume| image::random(&lab.file(volume), SIZE, &mut rng));
        let appliance = Appliance::start(&lab);
        Scene { lab, rng, appliance, groups: 0 }
    }

    fn source(&self, volume: &str) -> PathBuf {
        self.lab.file(volume)
    }

    /// Another group of so many.
    fn group(&mut self, members: u64) -> String {
        self.groups += 1;
        format!("00000000-0000-4000-8000-{:012}:{members}", self.groups)
    }

    /// A run in a group that tries again often and soon.
    fn member(&self, volume: &str, group: &str) -> Run {
        let mut arguments = Appliance::replicate_args(&self.source(volume), volume);
        arguments.extend(["--group", group].map(Into::into));
        let run = self.appliance.initiator(arguments);
        run.env("UNDERSTUDY_RETRIES", "5000").env("UNDERSTUDY_RETRY_DELAY", "1")
    }

    /// The same through a relay.
    fn through(&self, proxy: &Proxy, volume: &str, group: &str) -> Run {
        self.member(volume, group).env("UNDERSTUDY_APPLIANCE", proxy.address())
    }

    /// The newest points are these, and have the bytes of their sources; the pool is sound, also without its index.
    #[track_caller]
    fn assert_sound(mut self, points: &[(&str, u64)]) {
        for (volume, number) in points {
            assert_eq!(self.appliance.point_numbers(volume).last(), Some(number), "{volume}");
            self.appliance.assert_export(&self.lab, volume, &self.source(volume));
        }
        self.appliance.stop();
        self.appliance.assert_pool_sound();
        self.appliance.lose_index();
        self.appliance.restart();
        points.iter().for_each(|(volume, _)| self.appliance.assert_export(&self.lab, volume, &self.source(volume)));
    }
}

/// A member whose commit is held.
fn waits(run: Run) -> Running {
    run.start().wait_line("\"event\":\"waiting\"")
}

#[track_caller]
fn assert_resumed_at_its_end(outcome: &Outcome) {
    let summary = outcome.summary();
    assert_eq!(summary.count("resumed_from"), SIZE / 65536, "it went on behind all that had come: {outcome}");
    assert!(summary.count("bytes_sent") < MIB, "nothing was sent twice: {outcome}");
}

#[test]
fn nothing_is_there_until_the_last_member_is_ready() {
    let mut scene = Scene::new(&["a", "b", "c"]);
    let group = scene.group(3);
    let first = waits(scene.member("a", &group));
    let second = waits(scene.member("b", &group));
    ["a", "b"].iter().for_each(|volume| scene.appliance.assert_no_point(volume));
    // Whoever waits is in nobody's way.
    scene.appliance.upkeep(&["collect"]).expect_code(0);
    scene.appliance.replicate(&scene.source("c"), "other");
    let third = scene.member("c", &group).run().expect_code(0);
    let first = first.finish().expect_code(0);
    second.finish().expect_code(0);
    let told = first.events().into_iter().find(|event| event["event"] == "waiting").expect("it waited");
    assert_eq!((count(&told, "ready"), count(&told, "members")), (1, 3));
    assert_eq!(text(&told, "lacking"), "2 did not come yet");
    assert_eq!(third.summary().count("point"), 1);
    scene.assert_sound(&[("a", 1), ("b", 1), ("c", 1)]);
}

/// The next runs, in another group, go on behind all that had come.
#[test]
fn a_member_whose_source_fails_fails_all_and_is_named() {
    let mut scene = Scene::new(&["a", "b"]);
    let group = scene.group(2);
    let waiting = waits(scene.member("a", &group));
    let proxy = Proxy::hold_after(scene.appliance.address(), 4 * MIB);
    let failing = scene.through(&proxy, "b", &group).start().wait_held(&proxy);
    image::resize(&scene.source("b"), 8 * MIB);
    proxy.release();
    let failed = failing.finish().expect_refusal();
    let told = waiting.finish().expect_refusal().says("is not committed: b: ").says("kept for its next run");
    assert!(told.stderr.contains("b: source") || told.stderr.contains(" b"), "{told} {failed}");
    ["a", "b"].iter().for_each(|volume| scene.appliance.assert_no_point(volume));
    let late = scene.member("a", &group).run().expect_refusal();
    late.says("is not committed: b: ");
    image::random(&scene.source("b"), SIZE, &mut scene.rng);
    let group = scene.group(2);
    let again = scene.member("a", &group).start();
    scene.member("b", &group).run().expect_code(0);
    assert_resumed_at_its_end(&again.finish().expect_code(0));
    scene.assert_sound(&[("a", 1), ("b", 1)]);
}

#[test]
fn a_line_that_breaks_keeps_the_seat() {
    let mut scene = Scene::new(&["a", "b"]);
    let group = scene.group(2);
    let proxy = Proxy::open(scene.appliance.address());
    let mut waiting = waits(scene.through(&proxy, "a", &group));
    proxy.break_now();
    waiting = waiting.wait_line("\"event\":\"retry\"").wait_line("\"event\":\"waiting\"");
    let breaking = Proxy::break_after(scene.appliance.address(), &[2 * MIB, 9 * MIB]);
    scene.through(&breaking, "b", &group).run().expect_code(0);
    assert_resumed_at_its_end_of_this(&waiting.finish().expect_code(0));
    scene.assert_sound(&[("a", 1), ("b", 1)]);
}

/// The run itself sent everything before its line broke.
#[track_caller]
fn assert_resumed_at_its_end_of_this(outcome: &Outcome) {
    let summary = outcome.summary();
    assert_eq!(summary.count("resumed_from"), SIZE / 65536, "{outcome}");
    assert!(summary.count("bytes_sent") < SIZE + MIB, "nothing was sent twice: {outcome}");
}

/// Its next run takes the seat over: nobody else notices.
#[test]
fn a_member_that_is_killed_comes_again() {
    let mut scene = Scene::new(&["a", "b"]);
    let group = scene.group(2);
    waits(scene.member("a", &group)).kill();
    let waiting = waits(scene.member("b", &group));
    scene.appliance.assert_no_point("b");
    assert_resumed_at_its_end(&scene.member("a", &group).run().expect_code(0));
    waiting.finish().expect_code(0);
    scene.assert_sound(&[("a", 1), ("b", 1)]);
}

/// The daemon knows nothing of the group any more: its members come again, and gather anew.
#[test]
fn an_appliance_that_is_killed_while_members_wait_loses_nothing() {
    let mut scene = Scene::new(&["a", "b"]);
    let group = scene.group(2);
    let waiting = waits(scene.member("a", &group));
    scene.appliance.kill();
    scene.appliance.restart();
    let waiting = waiting.wait_line("\"event\":\"waiting\"");
    scene.member("b", &group).run().expect_code(0);
    assert_resumed_at_its_end_of_this(&waiting.finish().expect_code(0));
    scene.assert_sound(&[("a", 1), ("b", 1)]);
}

#[test]
fn who_does_not_belong_to_a_group_is_refused_and_the_group_goes_on() {
    let mut scene = Scene::new(&["a", "b", "c"]);
    let group = scene.group(2);
    let waiting = waits(scene.member("a", &group));
    let other_count = group.replace(":2", ":3");
    scene.member("b", &other_count).run().expect_refusal().says("it has 2 members, and b says that it has 3");
    let twice = scene.member("a", &group).env("UNDERSTUDY_STATE_DIR", scene.lab.file("another state"));
    twice.env("UNDERSTUDY_RETRIES", "0").run().expect_refusal().says("being written by another stream");
    scene.member("b", &group).run().expect_code(0);
    waiting.finish().expect_code(0);
    scene.member("c", &group).run().expect_refusal().says("it is committed already");
    scene.assert_sound(&[("a", 1), ("b", 1)]);
}

/// Each with volumes of its own, at the same time; the next ones are increments.
#[test]
fn groups_do_not_know_of_each_other() {
    let mut scene = Scene::new(&["a", "b", "c", "d"]);
    for number in 1..=2 {
        let (one, other) = (scene.group(2), scene.group(2));
        let (a, c) = (waits(scene.member("a", &one)), waits(scene.member("c", &other)));
        scene.member("d", &other).run().expect_code(0);
        c.finish().expect_code(0);
        assert_eq!(scene.appliance.point_numbers("a").len(), number - 1);
        scene.member("b", &one).run().expect_code(0);
        a.finish().expect_code(0);
        for volume in ["a", "b", "c", "d"] {
            let source = scene.source(volume);
            image::scribble(&source, MIB, 2 * MIB, &mut scene.rng);
        }
    }
    let last = scene.group(2);
    let a = waits(scene.member("a", &last));
    scene.member("b", &last).run().expect_code(0).summary().expect_kind("incremental");
    a.finish().expect_code(0);
    scene.assert_sound(&[("a", 3), ("b", 3)]);
}

/// The rate itself is tested over simulated time; here it reaches the connection, and is told.
#[test]
fn a_run_that_keeps_to_a_rate_tells_it_and_arrives() {
    let scene = Scene::new(&["a"]);
    let outcome = scene.appliance.try_replicate(&scene.source("a"), "a", &["--bandwidth", "8M"]).expect_code(0);
    let progress = outcome.events().into_iter().find(|event| event["event"] == "progress");
    assert_eq!(count(&progress.expect("it took long enough to be told"), "bandwidth"), 8 * MIB);
    let target = scene.lab.file("restored");
    let restore = understudy_tests::args!["restore", "a", &target, "--bandwidth", "8M", "--json"];
    let restored = scene.appliance.understudy(restore).expect_code(0);
    assert!(restored.events().iter().any(|event| event["event"] == "progress" && event["bandwidth"] == 8 * MIB));
    understudy_tests::compare::assert_same(&target, &scene.source("a"), "what was restored");
    scene.assert_sound(&[("a", 1)]);
}
