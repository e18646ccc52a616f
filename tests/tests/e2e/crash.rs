//! What was acknowledged survives `kill -9`; what was not is absent; nothing in between exists. A relay holds each
//! stream after an exact number of bytes, so "in the middle" is the same middle in every run. `make soak` repeats this
//! module with other seeds.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use understudy_tests::image::{self, MIB};
use understudy_tests::{Appliance, Lab, Proxy, Rng, Run, Summary, UNDERSTUDY, args, seed};

const SIZE: u64 = 24 * MIB;
const CHANGED: u64 = 8 * MIB;

/// A volume, its points as they were, and the appliance that has them.
struct Scene {
    lab: Lab,
    rng: Rng,
    source: PathBuf,
    kept: Vec<PathBuf>,
}

impl Scene {
    fn new() -> (Scene, Appliance) {
        let lab = Lab::new();
        let mut rng = Rng::new(seed());
        let source = lab.file("source.raw");
        image::mixed(&source, SIZE, &mut rng);
        let appliance = Appliance::start(&lab);
        appliance.replicate(&source, "v");
        let kept = vec![image::keep(&source, &lab.file("kept 1"))];
        (Scene { lab, rng, source, kept }, appliance)
    }

    /// The same region as always, with content that nobody has seen.
    fn change(&mut self) {
        image::scribble(&self.source, 4 * MIB, CHANGED, &mut self.rng);
    }

    fn keep(&mut self) {
        let copy = self.lab.file(&format!("kept {}", self.kept.len() + 1));
        self.kept.push(image::keep(&self.source, &copy));
    }

    /// A run through the relay, as a process that the test can outlive.
    fn start(&self, appliance: &Appliance, proxy: &Proxy) -> Child {
        let run = appliance.initiator(Appliance::replicate_args(&self.source, "v"));
        let mut command = run.command();
        command.env("UNDERSTUDY_APPLIANCE", proxy.address()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("understudy starts")
    }

    /// Every point there is, is what it was, and there is no other.
    #[track_caller]
    fn assert_points(&self, appliance: &Appliance) {
        let expected: Vec<u64> = (1..=self.kept.len() as u64).collect();
        assert_eq!(appliance.point_numbers("v"), expected, "exactly the acknowledged points exist");
        for (index, was) in self.kept.iter().enumerate() {
            appliance.assert_export(&self.lab, &format!("v@{}", index + 1), was);
        }
    }

    /// The next run works and its secondary settles.
    #[track_caller]
    fn assert_goes_on(&mut self, appliance: &Appliance) {
        appliance.replicate(&self.source, "v").expect_kind("incremental");
        appliance.assert_secondary("v", &self.source);
        self.keep();
    }
}

/// How many bytes an uninterrupted increment sends through the relay.
fn measure(scene: &mut Scene, appliance: &Appliance) -> u64 {
    scene.change();
    let proxy = Proxy::open(appliance.address());
    let outcome = scene.start(appliance, &proxy).wait_with_output().expect("the run ends");
    assert!(outcome.status.success(), "a run through a relay: {}", String::from_utf8_lossy(&outcome.stderr));
    scene.keep();
    assert!(proxy.passed() > CHANGED, "{} bytes went through the relay", proxy.passed());
    proxy.passed()
}

#[test]
fn kill_nine_of_the_daemon_anywhere_in_a_stream_leaves_the_acknowledged_points() {
    let (mut scene, mut appliance) = Scene::new();
    let whole = measure(&mut scene, &appliance);
    let somewhere = [scene.rng.below(whole / 2), whole / 2 + scene.rng.below(whole / 3)];
    for limit in [1, 200, whole / 4, somewhere[0], somewhere[1], whole * 9 / 10] {
        scene.change();
        let proxy = Proxy::hold_after(appliance.address(), limit);
        let run = scene.start(&appliance, &proxy);
        assert!(proxy.wait_held(), "the run ended before {limit} of {whole} bytes");
        appliance.kill();
        proxy.cut();
        let outcome = run.wait_with_output().expect("the run ends");
        let stderr = String::from_utf8_lossy(&outcome.stderr);
        assert_eq!(outcome.status.code(), Some(1), "killed after {limit} of {whole} bytes; stderr: {stderr}");
        assert!(stderr.contains("error: "), "the initiator says what happened: {stderr}");
        appliance.assert_pool_sound();
        appliance.restart();
        scene.assert_points(&appliance);
        scene.assert_goes_on(&appliance);
    }
    appliance.stop();
    appliance.assert_pool_sound();
}

#[test]
fn kill_nine_of_the_daemon_around_the_commit_leaves_a_point_whole_or_absent() {
    let (mut scene, mut appliance) = Scene::new();
    let whole = measure(&mut scene, &appliance);
    for missing in [1000, 100, 40, 8, 1, 0] {
        scene.change();
        let proxy = Proxy::hold_after(appliance.address(), whole - missing);
        let run = scene.start(&appliance, &proxy);
        proxy.wait_held();
        appliance.kill();
        proxy.cut();
        let acknowledged = run.wait_with_output().expect("the run ends").status.success();
        appliance.restart();
        let committed = appliance.point_numbers("v").len() > scene.kept.len();
        assert!(committed || !acknowledged, "{missing} bytes before the end: an acknowledged point is there");
        if committed {
            scene.keep();
        }
        scene.assert_points(&appliance);
        scene.assert_goes_on(&appliance);
    }
    appliance.stop();
    appliance.assert_pool_sound();
}

#[test]
fn kill_nine_right_after_the_acknowledgement_loses_nothing_and_the_secondary_settles() {
    let (mut scene, mut appliance) = Scene::new();
    for _ in 0..4 {
        image::scribble(&scene.source, 0, SIZE, &mut scene.rng);
        let run = appliance.initiator(Appliance::replicate_args(&scene.source, "v"));
        let mut child = run.command().stdout(Stdio::piped()).spawn().expect("understudy starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
        let done = lines.into_iter().any(|line| line.contains(r#""event":"summary""#));
        // The history is durable; the native image is being written, or not begun yet.
        appliance.kill();
        child.wait().expect("the run ends");
        assert!(done, "the run came to its summary: {}", run.line());
        scene.keep();
        appliance.restart();
        appliance.assert_secondary("v", &scene.source);
        scene.assert_points(&appliance);
    }
    appliance.stop();
    appliance.assert_pool_sound();
}

#[test]
fn kill_nine_of_the_initiator_leaves_no_point_and_the_next_run_works() {
    let (mut scene, appliance) = Scene::new();
    let whole = measure(&mut scene, &appliance);
    for limit in [1, whole / 3, whole * 9 / 10] {
        scene.change();
        let proxy = Proxy::hold_after(appliance.address(), limit);
        let mut run = scene.start(&appliance, &proxy);
        assert!(proxy.wait_held(), "the run ended before {limit} of {whole} bytes");
        run.kill().expect("the initiator can be killed");
        run.wait().expect("the initiator ends");
        proxy.cut();
        scene.assert_points(&appliance);
        scene.assert_goes_on(&appliance);
    }
}

#[test]
fn a_broken_line_is_an_error_and_no_point() {
    let (mut scene, appliance) = Scene::new();
    scene.change();
    let proxy = Proxy::hold_after(appliance.address(), MIB);
    let run = scene.start(&appliance, &proxy);
    assert!(proxy.wait_held(), "the run ended before a mebibyte was sent");
    proxy.cut();
    let outcome = run.wait_with_output().expect("the run ends");
    assert_eq!(outcome.status.code(), Some(1), "{}", String::from_utf8_lossy(&outcome.stderr));
    scene.assert_points(&appliance);
    scene.assert_goes_on(&appliance);
}

#[test]
fn sigterm_in_the_middle_of_a_stream_is_a_clean_shutdown() {
    let (mut scene, mut appliance) = Scene::new();
    scene.change();
    let proxy = Proxy::hold_after(appliance.address(), MIB);
    let run = scene.start(&appliance, &proxy);
    assert!(proxy.wait_held(), "the run ended before a mebibyte was sent");
    appliance.stop();
    proxy.cut();
    let outcome = run.wait_with_output().expect("the run ends");
    assert_eq!(outcome.status.code(), Some(1), "{}", String::from_utf8_lossy(&outcome.stderr));
    appliance.assert_pool_sound();
    appliance.restart();
    scene.assert_points(&appliance);
    scene.assert_goes_on(&appliance);
}

#[test]
fn kill_nine_under_several_streams_at_once_leaves_every_acknowledged_point() {
    let lab = Lab::new();
    let mut rng = Rng::new(seed());
    let mut appliance = Appliance::start(&lab);
    let sources: Vec<PathBuf> = (0..4).map(|n| lab.file(&format!("source {n}.raw"))).collect();
    for source in &sources {
        image::random(source, 8 * MIB, &mut rng);
    }
    let first: Vec<Summary> = each(&sources).map(|(name, source)| appliance.replicate(source, &name)).collect();
    assert_eq!(first.len(), 4);
    let kept: Vec<PathBuf> =
        each(&sources).map(|(name, source)| image::keep(source, &lab.file(&format!("kept {name}")))).collect();
    for source in &sources {
        image::scribble(source, 0, 8 * MIB, &mut rng);
    }

    let proxy = Proxy::hold_after(appliance.address(), 13 * MIB);
    let run = |(name, source): (String, &PathBuf)| start(&lab, &proxy, source, &name);
    let runs: Vec<Child> = each(&sources).map(run).collect();
    assert!(proxy.wait_held(), "four streams of 8 MiB send 13 MiB");
    appliance.kill();
    proxy.cut();
    let done: Vec<bool> =
        runs.into_iter().map(|run| run.wait_with_output().expect("a run ends").status.success()).collect();
    appliance.restart();
    for (index, (name, source)) in each(&sources).enumerate() {
        appliance.assert_export(&lab, &format!("{name}@1"), &kept[index]);
        let points = appliance.point_numbers(&name).len();
        assert!(points == 2 || !done[index], "{name}: an acknowledged point is there");
        if points == 2 {
            appliance.assert_export(&lab, &format!("{name}@2"), source);
        }
        appliance.replicate(source, &name).expect_kind("incremental");
        appliance.assert_secondary(&name, source);
    }
    appliance.stop();
    appliance.assert_pool_sound();
}

fn each(sources: &[PathBuf]) -> impl Iterator<Item = (String, &PathBuf)> {
    sources.iter().enumerate().map(|(n, source)| (format!("v{n}"), source))
}

fn start(lab: &Lab, proxy: &Proxy, source: &Path, volume: &str) -> Child {
    let more: Vec<OsString> = args!["--to", proxy.address(), "--state-dir", lab.file("state")];
    let run = Run::ours(UNDERSTUDY).args(Appliance::replicate_args(source, volume)).args(more);
    run.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("understudy starts")
}
