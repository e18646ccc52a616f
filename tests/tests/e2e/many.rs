//! Several volumes, several streams, several readers, at once.

use std::path::PathBuf;
use std::thread;

use understudy_tests::image::{self, MIB};
use understudy_tests::{Appliance, Lab, Rng, args, seed};

#[test]
fn several_streams_at_once_do_not_touch_each_other() {
    let lab = Lab::new();
    let mut rng = Rng::new(seed());
    let mut appliance = Appliance::start(&lab);
    let sources: Vec<PathBuf> = (0..4).map(|n| lab.file(&format!("source {n}.raw"))).collect();
    // Half of each volume is the same in all of them: streams meet at the same digests.
    let shared = rng.bytes(8 << 20);
    for source in &sources {
        image::random(source, 16 * MIB, &mut rng);
        image::patch(source, 4 * MIB, &shared);
    }
    for round in 1..=2 {
        thread::scope(|scope| {
            for (n, source) in sources.iter().enumerate() {
                let appliance = &appliance;
                scope.spawn(move || appliance.replicate(source, &format!("v{n}")).expect_count("point", round..=round));
            }
        });
        for (n, source) in sources.iter().enumerate() {
            appliance.assert_secondary(&format!("v{n}"), source);
            appliance.assert_export(&lab, &format!("v{n}"), source);
            image::scribble(source, 6 * MIB, 3 * MIB, &mut rng);
        }
    }
    appliance.stop();
    appliance.assert_pool_sound();
}

#[test]
fn two_streams_into_one_volume_leave_a_straight_history() {
    let lab = Lab::new();
    let mut rng = Rng::new(seed());
    let appliance = Appliance::start(&lab);
    let source = lab.file("source.raw");
    image::random(&source, 16 * MIB, &mut rng);
    appliance.replicate(&source, "v");
    image::scribble(&source, 0, 8 * MIB, &mut rng);
    let outcomes: Vec<_> = thread::scope(|scope| {
        let start = |n: u32| {
            let (appliance, source) = (&appliance, &source);
            let state = lab.file(&format!("state {n}")).display().to_string();
            scope.spawn(move || appliance.try_replicate(source, "v", &["--state-dir", &state]))
        };
        let runs: Vec<_> = (0..3).map(start).collect();
        runs.into_iter().map(|run| run.join().expect("a run")).collect()
    });
    let (done, failed): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(|outcome| outcome.code == Some(0));
    assert!(!done.is_empty(), "at least one of them gets through: {failed:?}");
    for outcome in failed {
        outcome.expect_refusal().says_any(&["in progress", "in use", "busy", "another", "newer"]);
    }
    assert_eq!(appliance.point_numbers("v").len(), 1 + done.len(), "a point for each acknowledged run, and no other");
    appliance.assert_secondary("v", &source);
}

#[test]
fn readers_and_restores_beside_a_stream_see_their_point() {
    let lab = Lab::new();
    let mut rng = Rng::new(seed());
    let appliance = Appliance::start(&lab);
    let source = lab.file("source.raw");
    image::random(&source, 24 * MIB, &mut rng);
    appliance.replicate(&source, "v");
    let kept = image::keep(&source, &lab.file("kept 1"));
    image::scribble(&source, 0, 24 * MIB, &mut rng);
    thread::scope(|scope| {
        scope.spawn(|| appliance.replicate(&source, "v"));
        scope.spawn(|| appliance.assert_export(&lab, "v@1", &kept));
        scope.spawn(|| {
            let target = lab.file("restored.raw");
            appliance.understudy(args!["restore", "v@1", &target]).expect_code(0);
            understudy_tests::compare::assert_same(&target, &kept, "a restore beside a stream");
        });
    });
    appliance.assert_secondary("v", &source);
}
