//! The stream is the interface: the same bytes through a pipe or a file give the same point, and a stream with
//! anything wrong in it gives none.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::frames::{forge, frame, frames, reseal};
use understudy_tests::image::{self, MIB};
use understudy_tests::{
    Appliance, Lab, Outcome, Rng, Run, TOOLS, UNDERSTUDY, UNDERSTUDYD, args, binary, pool_check, seed,
};

/// A frame that a reader which does not know it passes over (format/SPEC.md).
const MAY_SKIP: u32 = 1;
/// Where the root stands in the body of a commit record (format/SPEC.md).
const COMMIT_ROOT: std::ops::Range<usize> = 56..88;

fn emit(source: &Path, more: Vec<OsString>, stream: &Path) -> Outcome {
    let run = Run::ours(UNDERSTUDY).args(args!["emit", source]).args(more).args(args!["-o", stream]);
    run.run().expect_code(0)
}

fn ingest(pool: &Path, volume: &str, stream: &Path) -> Outcome {
    Run::ours(UNDERSTUDYD).args(args!["ingest", "--pool", pool, "--volume", volume]).stdin(stream).run()
}

/// The root out of the summary `NAME@N root HEX ...`.
#[track_caller]
fn root_of(outcome: &Outcome, point: &str) -> String {
    let line = outcome.out();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert!(words.len() >= 3 && words[0] == point && words[1] == "root", "expected `{point} root HEX`: {outcome}");
    words[2].to_string()
}

#[test]
fn a_stream_through_a_pipe_equals_the_online_result() {
    let lab = Lab::new();
    let mut rng = Rng::new(seed());
    let source = lab.file("source.raw");
    image::mixed(&source, 32 * MIB + 1024, &mut rng);
    let mut online = Appliance::start(&lab);
    let root = online.replicate(&source, "v").text("root").to_string();
    online.stop();

    let offline = Lab::new();
    let pool = offline.file("pool");
    let script = r#"set -o pipefail; "$1" emit "$2" -o - | "$3" ingest --pool "$4" --volume v --label piped"#;
    let (ours, daemon) = (binary(UNDERSTUDY), binary(UNDERSTUDYD));
    let piped = Run::peer("bash").args(args!["-c", script, "bash", ours, &source, daemon, &pool]).run().expect_code(0);
    assert_eq!(root_of(&piped, "v@1"), root, "the piped stream gives the root of the online run: {piped}");

    let appliance = Appliance::start(&offline);
    appliance.assert_secondary("v", &source);
    appliance.assert_export(&offline, "v@piped", &source);
}

#[test]
fn incremental_streams_follow_a_saved_map_and_a_point() {
    let lab = Lab::new();
    let mut rng = Rng::new(seed());
    let (source, stream, pool) = (lab.file("source.raw"), lab.file("a.stream"), lab.file("pool"));
    image::random(&source, 16 * MIB, &mut rng);
    emit(&source, args!["--save-map", lab.file("map 1")], &stream);
    ingest(&pool, "v", &stream).expect_code(0);

    image::scribble(&source, 3 * MIB, 70_000, &mut rng);
    let second = lab.file("b.stream");
    emit(&source, args!["--base", lab.file("map 1"), "--save-map", lab.file("map 2")], &second);
    let size = std::fs::metadata(&second).expect("the stream").len();
    assert!(size < MIB, "an incremental stream carries what changed, not {size} bytes");
    root_of(&ingest(&pool, "v", &second).expect_code(0), "v@2");
    let kept = image::keep(&source, &lab.file("kept 2"));

    let mut appliance = Appliance::start(&lab);
    appliance.assert_export(&lab, "v@2", &kept);
    image::scribble(&source, 9 * MIB, 70_000, &mut rng);
    let third = lab.file("c.stream");
    let arguments = args!["emit", &source, "--base", "v@2", "-o", &third];
    appliance.understudy(arguments).expect_code(0);
    appliance.stop();
    root_of(&ingest(&pool, "v", &third).expect_code(0), "v@3");
    appliance.restart();
    appliance.assert_secondary("v", &source);
    appliance.assert_export(&lab, "v@2", &kept);
    // The initiator never saw these points, and still goes on from them.
    image::scribble(&source, MIB, 512, &mut rng);
    appliance.replicate(&source, "v").expect_kind("incremental").expect_count("point", 4..=4);
    appliance.assert_secondary("v", &source);
}

#[test]
fn a_stream_can_be_inspected() {
    let scene = Scene::new();
    let inspected = Run::ours(TOOLS).args(args!["stream", "inspect", &scene.stream]).run().expect_code(0);
    inspected.says("begin").says("chunk").says("commit");
}

/// A pool with one point of volume `v`, and a good incremental stream on top of it which each test spoils.
struct Scene {
    lab: Lab,
    pool: PathBuf,
    kept: PathBuf,
    stream: PathBuf,
    good: Vec<u8>,
}

impl Scene {
    fn new() -> Scene {
        let lab = Lab::new();
        let mut rng = Rng::new(seed());
        let (source, pool, first) = (lab.file("source.raw"), lab.file("pool"), lab.file("first.stream"));
        image::mixed(&source, 4 * MIB, &mut rng);
        emit(&source, args!["--save-map", lab.file("map")], &first);
        ingest(&pool, "v", &first).expect_code(0);
        let kept = image::keep(&source, &lab.file("kept"));
        image::scribble(&source, MIB, 200_000, &mut rng);
        image::patch(&source, 2 * MIB, &vec![b'x'; 300_000]);
        let stream = lab.file("second.stream");
        emit(&source, args!["--base", lab.file("map")], &stream);
        let good = std::fs::read(&stream).expect("the stream");
        Scene { lab, pool, kept, stream, good }
    }

    /// This stream must be refused.
    #[track_caller]
    fn refuse(&self, what: &str, bytes: &[u8]) -> Outcome {
        let spoilt = self.lab.write("spoilt.stream", bytes);
        let outcome = ingest(&self.pool, "v", &spoilt);
        assert_eq!(outcome.code, Some(1), "{what} must be refused: {outcome}");
        outcome.expect_refusal()
    }

    /// After all that, the pool has its one point, readable, and takes the good stream.
    #[track_caller]
    fn assert_unharmed(&self) {
        pool_check(&self.pool).expect_code(0);
        let mut appliance = Appliance::start(&self.lab);
        assert_eq!(appliance.point_numbers("v"), [1], "refused streams leave no point");
        appliance.assert_export(&self.lab, "v@1", &self.kept);
        appliance.stop();
        ingest(&self.pool, "v", &self.stream).expect_code(0);
        appliance.restart();
        appliance.assert_secondary("v", &self.lab.file("source.raw"));
        appliance.assert_export(&self.lab, "v@1", &self.kept);
        appliance.stop();
        appliance.assert_pool_sound();
    }
}

#[test]
fn a_bit_flipped_anywhere_in_a_stream_is_refused() {
    let scene = Scene::new();
    let mut rng = Rng::new(seed());
    let length = scene.good.len() as u64;
    let ends = (0..16).chain(length - 16..length);
    let sample: Vec<u64> = ends.chain((0..40).map(|_| rng.below(length))).collect();
    for at in sample {
        let mut bytes = scene.good.clone();
        let index = usize::try_from(at).expect("a small stream");
        bytes[index] ^= 1 << rng.below(8);
        scene.refuse(&format!("a stream of {length} bytes with a bit flipped in byte {at}"), &bytes);
    }
    scene.assert_unharmed();
}

#[test]
fn a_stream_truncated_at_any_byte_is_refused() {
    let scene = Scene::new();
    let mut rng = Rng::new(seed());
    let length = scene.good.len();
    let sampled = (0..40).map(|_| usize::try_from(rng.below(length as u64)).expect("a small stream"));
    let mut sample: Vec<usize> = [0, 1, 7, 8, 9, length - 1, length - 2, length - 4, length - 8].into();
    sample.extend(sampled);
    sample.extend(frames(&scene.good).iter().flat_map(|frame| [frame.start, frame.body.start]));
    for at in sample {
        scene.refuse(&format!("a stream of {length} bytes cut after {at}"), &scene.good[..at]);
    }
    scene.assert_unharmed();
}

#[test]
fn a_wrong_magic_is_named() {
    let scene = Scene::new();
    let chunk = frame(&scene.good, b"CHNK");
    let mut bytes = scene.good.clone();
    bytes[chunk.body.start] ^= 0xff;
    scene.refuse("a chunk with a wrong magic", &bytes).says("magic");
    let script = b"#!/bin/sh\necho this is no stream at all, but it is long enough to look like one\n";
    scene.refuse("a text", script).says_any(&["magic", "not an understudy stream"]);
    scene.assert_unharmed();
}

#[test]
fn a_wrong_version_is_named() {
    let scene = Scene::new();
    for (tag, at) in [(b"BEGN", 0), (b"CHNK", 4)] {
        let mut bytes = scene.good.clone();
        bytes[frame(&scene.good, tag).body.start + at] = 0xee;
        scene.refuse("a wrong version", &bytes).says("version");
    }
    scene.assert_unharmed();
}

#[test]
fn a_wrong_root_is_named_though_every_checksum_is_right() {
    let scene = Scene::new();
    let commit = frame(&scene.good, b"CMIT");
    let mut bytes = scene.good.clone();
    let record = &mut bytes[commit.body];
    record[COMMIT_ROOT][7] ^= 1;
    reseal(record);
    scene.refuse("a stream whose root is not that of its blocks", &bytes).says("root");
    scene.assert_unharmed();
}

#[test]
fn an_unknown_record_is_passed_over_when_it_may_be_and_named_otherwise() {
    let scene = Scene::new();
    let commit = frame(&scene.good, b"CMIT").start;
    let with = |flags: u32| {
        let stranger = forge(b"XTRA", flags, b"from a later version");
        [&scene.good[..commit], &stranger, &scene.good[commit..]].concat()
    };
    scene.refuse("a record that must be known", &with(0)).says("XTRA");
    let skippable = scene.lab.write("skippable.stream", with(MAY_SKIP));
    std::fs::copy(&skippable, &scene.stream).expect("a copy");
    scene.assert_unharmed();
}

#[test]
fn chunks_of_one_stream_under_the_commit_of_another_are_refused() {
    let scene = Scene::new();
    let changed = image::keep(&scene.lab.file("source.raw"), &scene.lab.file("changed.raw"));
    image::patch(&changed, MIB, &[0xff; 4096]);
    let other = scene.lab.file("other.stream");
    emit(&changed, args!["--base", scene.lab.file("map")], &other);
    let foreign = std::fs::read(&other).expect("the stream");
    let commit = frame(&scene.good, b"CMIT").start;
    let bytes = [&scene.good[..commit], &foreign[frame(&foreign, b"CMIT").start..]].concat();
    scene.refuse("a commit of another stream", &bytes);
    scene.assert_unharmed();
}

#[test]
fn a_base_that_the_volume_does_not_have_is_named() {
    let scene = Scene::new();
    let elsewhere = ingest(&scene.lab.file("another pool"), "v", &scene.stream);
    elsewhere.expect_refusal().says("base");
    let other_volume = ingest(&scene.pool, "unknown", &scene.stream);
    other_volume.expect_refusal().says("base");
    scene.assert_unharmed();
}

#[test]
fn ingesting_into_a_pool_that_is_in_use_is_refused() {
    let scene = Scene::new();
    let mut appliance = Appliance::start(&scene.lab);
    let refused = ingest(&scene.pool, "v", &scene.stream).expect_refusal();
    refused.says_any(&["in use", "locked", "another", "already"]);
    appliance.stop();
    scene.assert_unharmed();
}

#[test]
fn a_volume_name_that_leaves_the_pool_is_refused() {
    let scene = Scene::new();
    for name in ["../outside", "a/b", "", ".", "..", "a@1", "/abs", "a\nb"] {
        let outcome = ingest(&scene.pool, name, &scene.stream);
        assert!(matches!(outcome.code, Some(1 | 2)), "the volume name {name:?} must be refused: {outcome}");
    }
    assert!(!scene.pool.join("volumes/../outside").exists(), "nothing is created outside of the volumes");
    scene.assert_unharmed();
}
