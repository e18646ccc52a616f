//! What was acknowledged survives `kill -9`; what was not is absent; nothing in between exists. A relay holds each
//! stream after an exact number of bytes, so "in the middle" is the same middle in every run. `make soak` repeats this
//! module with other seeds.

use std::path::{Path, PathBuf};

use understudy_tests::image::{self, MIB};
use understudy_tests::{Appliance, Lab, Proxy, Rng, Running, Summary, seed};

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

    /// A run through the relay, which the test can outlive.
    fn start(&self, appliance: &Appliance, proxy: &Proxy) -> Running {
        start(appliance, proxy, &self.source, "v")
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
    scene.start(appliance, &proxy).finish().expect_code(0);
    scene.keep();
    assert!(proxy.passed() > CHANGED, "{} bytes went through the relay", proxy.passed());
    proxy.passed()
}

#[test]
fn kill_nine_of_the_daemon_anywhere_in_a_stream_leaves_the_acknowledged_points() {
    let (mut scene, mut appliance) = Scene::new();
    let whole = measure(&mut scene, &appliance);
    let somewhere = [1 + scene.rng.below(whole / 2), whole / 2 + scene.rng.below(whole / 3)];
    for limit in [1, 200, whole / 4, somewhere[0], somewhere[1], whole * 9 / 10] {
        scene.change();
        let proxy = Proxy::hold_after(appliance.address(), limit);
        let run = scene.start(&appliance, &proxy).wait_held(&proxy);
        appliance.kill();
        proxy.cut();
        run.finish().expect_refusal();
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
        let mut run = scene.start(&appliance, &proxy);
        run.is_held(&proxy);
        appliance.kill();
        proxy.cut();
        let acknowledged = run.finish().code == Some(0);
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
        let run = appliance.initiator(Appliance::replicate_args(&scene.source, "v")).start();
        let run = run.wait_line(r#""event":"summary""#);
        // The history is durable; the native image is being written, or not begun yet.
        appliance.kill();
        run.finish();
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
        scene.start(&appliance, &proxy).wait_held(&proxy).kill();
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
    let run = scene.start(&appliance, &proxy).wait_held(&proxy);
    proxy.cut();
    run.finish().expect_refusal();
    scene.assert_points(&appliance);
    scene.assert_goes_on(&appliance);
}

#[test]
fn sigterm_in_the_middle_of_a_stream_is_a_clean_shutdown() {
    let (mut scene, mut appliance) = Scene::new();
    scene.change();
    let proxy = Proxy::hold_after(appliance.address(), MIB);
    let run = scene.start(&appliance, &proxy).wait_held(&proxy);
    appliance.stop();
    proxy.cut();
    run.finish().expect_refusal();
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
    let mut runs: Vec<Running> =
        each(&sources).map(|(name, source)| start(&appliance, &proxy, source, &name)).collect();
    let held = runs.iter_mut().any(|run| run.is_held(&proxy));
    assert!(held, "four streams of 8 MiB send 13 MiB");
    appliance.kill();
    proxy.cut();
    let done: Vec<bool> = runs.into_iter().map(Running::finish).map(|outcome| outcome.code == Some(0)).collect();
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

fn start(appliance: &Appliance, proxy: &Proxy, source: &Path, volume: &str) -> Running {
    let run = appliance.initiator(Appliance::replicate_args(source, volume));
    run.env("UNDERSTUDY_APPLIANCE", proxy.address()).start()
}
