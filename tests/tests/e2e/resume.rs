//! A stream that is cut goes on: wherever the line breaks, whoever dies, and whatever became of the source, the point is
//! the source in the end, and little is sent twice. What does not fit any more is dropped with a message, never an error.

use std::path::{Path, PathBuf};

use serde_json::Value;
use understudy_tests::image::{self, MIB};
use understudy_tests::wait::wait_until;
use understudy_tests::{
    Appliance, Lab, Loop, Outcome, Proxy, Rng, Run, Running, UNDERSTUDYD, args, count, have_root, seed, text,
};

/// What may be on its way when a line breaks: 16 chunks of 1 MiB.
const WINDOW: u64 = 16 * MIB;
/// Headers, mappings, offers, hellos.
const CHANGE: u64 = MIB;

/// A source with content that nobody has seen, and an appliance.
struct Scene {
    lab: Lab,
    rng: Rng,
    source: PathBuf,
    appliance: Appliance,
}

impl Scene {
    fn new(size: u64) -> Scene {
        let lab = Lab::new();
        let mut rng = Rng::new(seed());
        let source = lab.file("source.raw");
        image::random(&source, size, &mut rng);
        let appliance = Appliance::start(&lab);
        Scene { lab, rng, source, appliance }
    }

    /// A run through the relay that tries again often and soon.
    fn through(&self, proxy: &Proxy, more: &[&str]) -> Run {
        self.direct(more).env("UNDERSTUDY_APPLIANCE", proxy.address())
    }

    /// The same without a relay; the appliance may still be busy with an initiator that was killed.
    fn direct(&self, more: &[&str]) -> Run {
        let mut arguments = Appliance::replicate_args(&self.source, "v");
        arguments.extend(more.iter().map(Into::into));
        let run = self.appliance.initiator(arguments);
        run.env("UNDERSTUDY_RETRIES", "5000").env("UNDERSTUDY_RETRY_DELAY", "1")
    }

    /// Another initiator, with a state directory of its own, replicates another source to the volume.
    fn another_replicates(&mut self) {
        let other = self.lab.file("other.raw");
        image::random(&other, 8 * MIB, &mut self.rng);
        let run = self.appliance.initiator(Appliance::replicate_args(&other, "v"));
        let run = run.env("UNDERSTUDY_STATE_DIR", self.lab.file("another state"));
        run.env("UNDERSTUDY_RETRIES", "5000").env("UNDERSTUDY_RETRY_DELAY", "1").run().expect_code(0);
    }

    /// Removes the volume, once the appliance is done with the initiator that was killed.
    fn settle_and_remove(&self) {
        self.remove("v");
    }

    /// `understudyd remove`, beside the running daemon, once nobody uses what is removed.
    fn remove(&self, name: &str) {
        let pool = self.appliance.pool();
        wait_until(&format!("{name} can be removed"), || {
            let run = Run::ours(UNDERSTUDYD).args(args!["remove", "--pool", pool, name, "--force"]).run();
            if run.code == Some(0) { Ok(()) } else { Err(run.to_string()) }
        });
    }

    /// A run whose line is held after so many bytes, and which is killed there.
    fn killed_after(&self, limit: u64, more: &[&str]) {
        let proxy = Proxy::hold_after(self.appliance.address(), limit);
        self.through(&proxy, more).start().wait_held(&proxy).kill();
    }

    /// The point is the source, byte by byte, for a client that is not ours, and the pool is sound.
    #[track_caller]
    fn assert_sound(mut self, point: u64) {
        self.appliance.assert_export(&self.lab, &format!("v@{point}"), &self.source);
        self.appliance.stop();
        self.appliance.assert_pool_sound();
    }
}

/// The events of this kind.
fn told(outcome: &Outcome, kind: &str) -> Vec<Value> {
    outcome.events().into_iter().filter(|event| event["event"] == kind).collect()
}

/// The run went on with the stream that was cut, from this block at the earliest.
#[track_caller]
fn assert_resumed(outcome: &Outcome, from: u64) {
    let summary = outcome.summary();
    assert!(summary.count("resumes") > 0, "the stream went on: {outcome}");
    assert!(summary.count("resumed_from") >= from, "it went on from block {from} or later: {outcome}");
}

/// The run dropped the stream that was cut, for a reason with this in it.
#[track_caller]
fn assert_dropped(outcome: &Outcome, reason: &str) {
    let dropped = told(outcome, "dropped");
    let reasons: Vec<&str> = dropped.iter().map(|event| text(event, "reason")).collect();
    assert!(reasons.iter().any(|found| found.contains(reason)), "dropped because {reason:?}: {outcome}");
    assert_eq!(outcome.summary().count("resumes"), 0, "another stream began: {outcome}");
}

#[test]
fn a_line_that_breaks_anywhere_costs_at_most_a_window() {
    let size = 96 * MIB;
    let scene = Scene::new(size);
    let breaks = [70_000, MIB + 7, 20 * MIB, 50 * MIB + 1, 50 * MIB + 2, 90 * MIB];
    let proxy = Proxy::break_after(scene.appliance.address(), &breaks);
    let outcome = scene.through(&proxy, &[]).run().expect_code(0);
    assert_eq!(told(&outcome, "retry").len(), breaks.len(), "one try for each break: {outcome}");
    assert_resumed(&outcome, 60 * MIB / 65536);
    let again = proxy.passed() - size;
    assert!(again <= breaks.len() as u64 * WINDOW + CHANGE, "{again} bytes more than the source has: {outcome}");
    let counted = outcome.summary().count("bytes_sent");
    // What was on its way when a line broke was sent, and never passed.
    let lost = breaks.len() as u64 * WINDOW;
    assert!(counted >= size && counted <= proxy.passed() + lost, "all connections are counted: {outcome}");
    let summary = outcome.summary();
    assert_eq!(summary.count("blocks_sent") + summary.count("blocks_deduplicated"), size / 65536, "{outcome}");
    scene.assert_sound(1);
}

#[test]
fn each_single_break_costs_at_most_a_window() {
    let mut scene = Scene::new(40 * MIB);
    let size = 40 * MIB;
    for (index, at) in [300_000, 17 * MIB, 39 * MIB].into_iter().enumerate() {
        image::scribble(&scene.source, 0, size, &mut scene.rng);
        let proxy = Proxy::break_after(scene.appliance.address(), &[at]);
        let outcome = scene.through(&proxy, &[]).run().expect_code(0);
        let again = proxy.passed() - size;
        assert!(again <= WINDOW + CHANGE, "broken after {at}, {again} bytes were sent again: {outcome}");
        scene.appliance.assert_export(&scene.lab, &format!("v@{}", index + 1), &scene.source);
    }
    scene.assert_sound(3);
}

#[test]
fn a_line_that_breaks_around_the_commit_makes_one_point() {
    let mut scene = Scene::new(8 * MIB);
    let whole = {
        let proxy = Proxy::open(scene.appliance.address());
        scene.through(&proxy, &["--compress", "none"]).run().expect_code(0);
        image::scribble(&scene.source, 0, 8 * MIB, &mut scene.rng);
        let proxy = Proxy::open(scene.appliance.address());
        scene.through(&proxy, &["--compress", "none"]).run().expect_code(0);
        proxy.passed()
    };
    for (index, missing) in [200, 100, 1, 0].into_iter().enumerate() {
        image::scribble(&scene.source, 0, 8 * MIB, &mut scene.rng);
        let proxy = Proxy::break_after(scene.appliance.address(), &[whole - missing]);
        let outcome = scene.through(&proxy, &["--compress", "none"]).run().expect_code(0);
        let point = index as u64 + 3;
        assert_eq!(outcome.summary().count("point"), point, "{missing} bytes before the end: {outcome}");
        assert_eq!(scene.appliance.point_numbers("v").len() as u64, point, "no point twice: {outcome}");
        scene.appliance.assert_export(&scene.lab, &format!("v@{point}"), &scene.source);
    }
    scene.assert_sound(6);
}

#[test]
fn kill_nine_of_the_daemon_in_a_stream_is_gone_on_from() {
    let mut scene = Scene::new(160 * MIB);
    let proxy = Proxy::hold_after(scene.appliance.address(), 150 * MIB);
    let run = scene.through(&proxy, &[]).start().wait_held(&proxy);
    scene.appliance.kill();
    proxy.break_now();
    proxy.release();
    let run = run.wait_line(r#""event":"retry""#);
    scene.appliance.restart();
    let outcome = run.finish().expect_code(0);
    // How far it came is recorded each 64 MiB at the latest.
    assert_resumed(&outcome, 64 * MIB / 65536);
    let again = proxy.passed() - 160 * MIB;
    assert!(again <= 2 * WINDOW + CHANGE, "what the segments have is not sent again: {again} bytes were: {outcome}");
    scene.assert_sound(1);
}

#[test]
fn sigterm_of_the_daemon_in_a_stream_is_gone_on_from() {
    let mut scene = Scene::new(40 * MIB);
    let proxy = Proxy::hold_after(scene.appliance.address(), 30 * MIB);
    let run = scene.through(&proxy, &[]).start().wait_held(&proxy);
    scene.appliance.stop();
    proxy.break_now();
    proxy.release();
    let run = run.wait_line(r#""event":"retry""#);
    scene.appliance.restart();
    let outcome = run.finish().expect_code(0);
    assert_resumed(&outcome, 10 * MIB / 65536);
    scene.assert_sound(1);
}

#[test]
fn kill_nine_of_the_initiator_is_gone_on_from_by_the_next_run() {
    let scene = Scene::new(40 * MIB);
    scene.killed_after(30 * MIB, &[]);
    let proxy = Proxy::open(scene.appliance.address());
    let outcome = scene.through(&proxy, &[]).run().expect_code(0);
    assert_resumed(&outcome, 10 * MIB / 65536);
    assert_eq!(told(&outcome, "check").len(), 1, "what is durable is read again: {outcome}");
    assert_eq!(outcome.summary().count("bytes_read"), 40 * MIB, "and the rest once: {outcome}");
    assert!(proxy.passed() <= 10 * MIB + WINDOW + CHANGE, "{} bytes were sent: {outcome}", proxy.passed());
    let again = scene.direct(&[]).run().expect_code(0);
    assert_eq!(again.summary().count("blocks_changed"), 0, "the map of a resumed stream is whole: {again}");
    scene.assert_sound(2);
}

#[test]
fn space_that_is_given_back_in_between_is_not_that_of_the_stream() {
    let scene = Scene::new(40 * MIB);
    scene.killed_after(30 * MIB, &[]);
    let collect = Run::ours(UNDERSTUDYD).args(args!["collect", "--pool", scene.appliance.pool()]);
    collect.run().expect_code(0);
    let outcome = scene.direct(&[]).run().expect_code(0);
    assert_resumed(&outcome, 10 * MIB / 65536);
    scene.assert_sound(1);
}

#[test]
fn an_increment_goes_on_too() {
    let mut scene = Scene::new(64 * MIB);
    scene.direct(&[]).run().expect_code(0);
    image::scribble(&scene.source, 16 * MIB, 40 * MIB, &mut scene.rng);
    scene.killed_after(30 * MIB, &[]);
    let outcome = scene.direct(&[]).run().expect_code(0);
    assert_resumed(&outcome, 24 * MIB / 65536);
    assert_eq!(outcome.summary().expect_kind("incremental").count("blocks_changed"), 40 * MIB / 65536);
    scene.assert_sound(2);
}

#[test]
fn a_source_that_grew_between_the_runs_is_replicated_anew() {
    let scene = Scene::new(24 * MIB);
    scene.killed_after(16 * MIB, &[]);
    image::resize(&scene.source, 25 * MIB);
    let outcome = scene.direct(&[]).run().expect_code(0);
    assert_dropped(&outcome, "bytes now, it had");
    scene.assert_sound(1);
}

#[test]
fn a_source_that_changed_before_the_cut_between_the_runs_is_replicated_anew() {
    let mut scene = Scene::new(24 * MIB);
    scene.killed_after(20 * MIB, &[]);
    image::scribble(&scene.source, 0, 4096, &mut scene.rng);
    let proxy = Proxy::open(scene.appliance.address());
    let outcome = scene.through(&proxy, &[]).run().expect_code(0);
    assert_dropped(&outcome, "the source changed before block");
    assert!(proxy.passed() < 24 * MIB, "what is stored is not sent again: {} bytes were: {outcome}", proxy.passed());
    scene.assert_sound(1);
}

#[test]
fn a_source_that_changes_behind_the_cut_is_read_as_it_is() {
    let mut scene = Scene::new(24 * MIB);
    scene.killed_after(16 * MIB, &[]);
    image::scribble(&scene.source, 23 * MIB, MIB, &mut scene.rng);
    let outcome = scene.direct(&[]).run().expect_code(0);
    assert_resumed(&outcome, 1);
    scene.assert_sound(1);
}

#[test]
fn a_source_that_changes_while_the_line_is_broken_is_never_mixed() {
    let mut scene = Scene::new(24 * MIB);
    let proxy = Proxy::hold_after(scene.appliance.address(), 16 * MIB);
    let run = scene.through(&proxy, &[]).start().wait_held(&proxy);
    image::scribble(&scene.source, 0, 4096, &mut scene.rng);
    proxy.break_now();
    proxy.release();
    // That the file was written to is a warning, as in any run.
    let outcome = run.finish().expect_code(3);
    assert_dropped(&outcome, "the source changed before block");
    scene.assert_sound(1);
}

/// Nobody can ask a device whether it was written to.
#[test]
fn a_device_is_read_again_after_each_break() {
    if !have_root("a loop device") {
        return;
    }
    let scene = Scene::new(40 * MIB);
    let device = Loop::new(&scene.source);
    let proxy = Proxy::break_after(scene.appliance.address(), &[20 * MIB, 30 * MIB]);
    let run = scene.appliance.initiator(Appliance::replicate_args(device.path(), "v"));
    let run = run.env("UNDERSTUDY_APPLIANCE", proxy.address()).env("UNDERSTUDY_RETRIES", "1000");
    let outcome = run.env("UNDERSTUDY_RETRY_DELAY", "1").run().expect_code(0);
    assert_eq!(told(&outcome, "check").len(), 2, "once for each break: {outcome}");
    assert_eq!(told(&outcome, "resume").len(), 2, "{outcome}");
    assert!(proxy.passed() <= 40 * MIB + 2 * WINDOW + CHANGE, "{} bytes were sent: {outcome}", proxy.passed());
    scene.assert_sound(1);
}

#[test]
fn another_stream_in_between_is_respected() {
    let mut scene = Scene::new(24 * MIB);
    scene.killed_after(16 * MIB, &[]);
    scene.another_replicates();
    let outcome = scene.direct(&[]).run().expect_code(0);
    assert_dropped(&outcome, "the volume at the appliance is another one now");
    image::scribble(&scene.source, 0, 24 * MIB, &mut scene.rng);
    scene.killed_after(16 * MIB, &[]);
    scene.another_replicates();
    let outcome = scene.direct(&[]).run().expect_code(0);
    assert_dropped(&outcome, "its base is not the newest point any more, which is 3");
    scene.assert_sound(4);
}

/// A resume token of a deleted point blocked replication for ever.
#[test]
fn incident_syncoid_304_a_stream_on_a_point_that_is_gone_is_dropped_and_not_fatal() {
    let mut scene = Scene::new(24 * MIB);
    scene.direct(&[]).run().expect_code(0);
    image::scribble(&scene.source, 0, 24 * MIB, &mut scene.rng);
    scene.killed_after(16 * MIB, &[]);
    scene.another_replicates();
    scene.remove("v@1");
    let outcome = scene.direct(&[]).run().expect_code(0);
    assert_dropped(&outcome, "its base is not the newest point any more, which is 2");
    scene.assert_sound(3);
}

#[test]
fn incident_syncoid_304_a_stream_into_a_volume_that_is_gone_is_dropped_and_not_fatal() {
    let mut scene = Scene::new(24 * MIB);
    scene.direct(&[]).run().expect_code(0);
    image::scribble(&scene.source, 0, 24 * MIB, &mut scene.rng);
    scene.killed_after(16 * MIB, &[]);
    scene.settle_and_remove();
    let outcome = scene.direct(&[]).run().expect_code(0);
    assert_dropped(&outcome, "its base is gone: the volume has no points");
    scene.appliance.assert_export(&scene.lab, "v@1", &scene.source);
}

#[test]
fn a_damaged_memory_of_a_stream_is_dropped_and_not_fatal() {
    let scene = Scene::new(8 * MIB);
    scene.killed_after(4 * MIB, &[]);
    let path = stream_file(scene.appliance.state());
    let mut bytes = std::fs::read(&path).expect("the stream is remembered");
    bytes[60] ^= 1;
    std::fs::write(&path, bytes).expect("a file in the lab");
    let outcome = scene.direct(&[]).run().expect_code(0);
    assert_dropped(&outcome, "CRC-32 mismatch");
    assert!(!path.exists(), "a stream that is stored is forgotten");
    scene.assert_sound(1);
}

/// The one file of an unfinished stream.
fn stream_file(state: &Path) -> PathBuf {
    let pools = std::fs::read_dir(state).expect("the state directory").flatten();
    let mut files = pools.map(|pool| pool.path().join("v.stream"));
    files.find(|file| file.exists()).expect("a file of an unfinished stream")
}

#[test]
fn tries_are_counted_and_the_next_run_goes_on() {
    let mut scene = Scene::new(24 * MIB);
    let proxy = Proxy::hold_after(scene.appliance.address(), 16 * MIB);
    let run = scene.through(&proxy, &["--retries", "3"]).start().wait_held(&proxy);
    scene.appliance.stop();
    proxy.break_now();
    let outcome = run.finish().expect_refusal().says("gave up after 3 tries");
    let tries: Vec<u64> = told(&outcome, "retry").iter().map(|event| count(event, "try")).collect();
    assert_eq!(tries, [1, 2, 3], "{outcome}");
    scene.appliance.restart();
    let outcome = scene.direct(&[]).run().expect_code(0);
    assert_resumed(&outcome, 1);
    scene.assert_sound(1);
}

#[test]
fn a_full_that_was_asked_for_goes_on_as_such_only() {
    let mut scene = Scene::new(24 * MIB);
    scene.direct(&[]).run().expect_code(0);
    for (more, dropped) in [(&["--full"][..], None), (&[], Some("it is a full"))] {
        image::scribble(&scene.source, 0, 24 * MIB, &mut scene.rng);
        scene.killed_after(16 * MIB, &["--full"]);
        let outcome = scene.direct(more).run().expect_code(0);
        match dropped {
            None => assert_resumed(&outcome, 1),
            Some(reason) => assert_dropped(&outcome, reason),
        }
    }
    scene.assert_sound(3);
}

/// The initiator is back before the appliance knows that the old connection is dead.
#[test]
fn a_connection_that_only_the_appliance_believes_in_is_no_obstacle() {
    let scene = Scene::new(24 * MIB);
    // The relay stays: the appliance's end of the first connection is open until the test is over.
    let proxy = Proxy::hold_after(scene.appliance.address(), 16 * MIB);
    let held: Running = scene.through(&proxy, &[]).start().wait_held(&proxy);
    held.kill();
    let outcome = scene.direct(&[]).run().expect_code(0);
    assert_resumed(&outcome, 1);
    scene.assert_sound(1);
}

#[test]
fn people_are_told_the_same() {
    let scene = Scene::new(24 * MIB);
    let proxy = Proxy::break_after(scene.appliance.address(), &[16 * MIB]);
    let run = scene.appliance.initiator(args!["replicate", &scene.source, "--volume", "v"]);
    let run = run.env("UNDERSTUDY_APPLIANCE", proxy.address()).env("UNDERSTUDY_RETRIES", "7");
    let outcome = run.env("UNDERSTUDY_RETRY_DELAY", "1").run().expect_code(0);
    let outcome =
        outcome.says("try 1 of 7").says("the interrupted stream goes on from block").says("resumed from block");
    assert_eq!(outcome.stderr, "", "nothing of this is a warning: {outcome}");
    scene.assert_sound(1);
}
