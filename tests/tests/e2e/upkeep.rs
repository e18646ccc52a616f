//! What is done to a pool from the command line, beside a daemon and without one: it tells what it does and why, does
//! what it told and nothing else, and what it did is still so after every crash.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use understudy_tests::compare::{self, fingerprint};
use understudy_tests::image::{self, MIB};
use understudy_tests::wait::wait_until;
use understudy_tests::{
    Appliance, Lab, Mount, NbdFuse, Outcome, Proxy, Rng, Run, Running, Signal, UNDERSTUDYD, args, count, have_root,
    seed, text, tool,
};

/// A daemon on a pool with some volumes, and a copy of what each was at each of its points.
struct Scene {
    appliance: Appliance,
    rng: Rng,
    /// What the pool is on, if it is on a filesystem of its own; unmounted after the daemon ended.
    mount: Option<Mount>,
    lab: Lab,
}

impl Scene {
    fn new(volumes: &[(&str, u64)]) -> Scene {
        let lab = Lab::new();
        let pool = lab.file("pool");
        Scene::on(lab, &pool, volumes)
    }

    fn on(lab: Lab, pool: &Path, volumes: &[(&str, u64)]) -> Scene {
        let appliance = Appliance::start_on(&lab, pool);
        let mut scene = Scene { appliance, rng: Rng::new(seed()), mount: None, lab };
        for (volume, points) in volumes {
            image::random(&scene.source(volume), MIB, &mut scene.rng);
            (1..=*points).for_each(|day| scene.add(volume, day));
        }
        scene
    }

    fn source(&self, volume: &str) -> PathBuf {
        self.lab.file(&format!("{volume}.raw"))
    }

    /// The next point of a volume: this number, and the label `day-NUMBER`.
    fn add(&mut self, volume: &str, number: u64) {
        let source = self.source(volume);
        image::scribble(&source, self.rng.below(MIB / 2), MIB / 4, &mut self.rng);
        let run = self.appliance.replicate_with(&source, volume, &["--label", &format!("day-{number}")]);
        run.expect_count("point", number..=number);
        image::keep(&source, &self.lab.file(&format!("{volume}@{number}")));
        // A secondary that is on its way keeps the points that it comes from and goes to.
        self.appliance.settle(volume);
    }

    /// Exactly these points exist, and each is what its volume was.
    #[track_caller]
    fn assert_points(&self, volume: &str, numbers: &[u64]) {
        assert_eq!(self.appliance.point_numbers(volume), numbers, "the points of {volume}");
        for number in numbers {
            let name = format!("{volume}@{number}");
            self.appliance.assert_export(&self.lab, &name, &self.lab.file(&name));
        }
    }

    /// The pool is sound at rest, and opens again, also without its index.
    #[track_caller]
    fn assert_sound(&mut self) {
        self.appliance.stop();
        self.appliance.assert_pool_sound();
        self.appliance.lose_index();
        self.appliance.restart();
    }

    fn segments(&self) -> Vec<String> {
        fingerprint(&self.appliance.pool().join("segments"))
    }
}

/// What keeps the point that the secondary settled on, whatever else does: whether it has settled is a matter of time.
const SETTLED: &str = "; in use: the secondary";

/// What became of each point, from the lines of `prune`: `("v@1 \"day-1\"", "keep: newest")`.
fn verdicts(outcome: &Outcome) -> Vec<(String, String)> {
    let split = |line: &str| {
        let parts: Vec<&str> = line.split("  ").collect();
        let [point, time, verdict] = parts[..] else { panic!("not `POINT  TIME  VERDICT`: {line}") };
        assert!(time.len() == 20 && time.ends_with('Z'), "a time in UTC: {line}");
        (point.to_string(), verdict.replace(SETTLED, ""))
    };
    outcome.out().lines().filter(|line| line.contains('@')).map(split).collect()
}

/// The numbers of the points that the JSON of `prune` says are kept, and are not.
#[track_caller]
fn kept_and_gone(outcome: &Outcome, volume: &str) -> (Vec<u64>, Vec<u64>) {
    let events = outcome.events();
    let points = events.iter().filter(|event| event["event"] == "point" && event["volume"] == volume);
    let (kept, gone): (Vec<&Value>, Vec<&Value>) = points.partition(|point| point["keep"] == true);
    let numbers = |points: Vec<&Value>| points.into_iter().map(|point| count(point, "point")).collect::<Vec<u64>>();
    (numbers(kept), numbers(gone))
}

#[test]
fn a_dry_run_tells_each_point_with_the_reason_and_changes_nothing() {
    let mut scene = Scene::new(&[("v", 4), ("w", 2)]);
    scene.appliance.upkeep(&["protect", "v@1"]).expect_code(0);
    for daemon in [true, false] {
        let (appliance, before) = (&scene.appliance, scene.segments());
        let told = appliance.upkeep(&["prune", "--keep-last", "2", "--dry-run"]).expect_code(0);
        let expected = [
            ("v@1 \"day-1\"", "keep: protected"),
            ("v@2 \"day-2\"", "would remove: no rule keeps it"),
            ("v@3 \"day-3\"", "keep: last (2 of 2)"),
            ("v@4 \"day-4\"", "keep: newest; last (1 of 2)"),
            ("w@1 \"day-1\"", "keep: last (2 of 2)"),
            ("w@2 \"day-2\"", "keep: newest; last (1 of 2)"),
        ];
        let told = told.says("v: 3 points kept, 1 would be removed (dry run), by keep-last=2\n");
        assert_eq!(verdicts(&told), expected.map(|(point, why)| (point.to_string(), why.to_string())), "{told}");
        let json = appliance.upkeep(&["prune", "--keep-last", "2", "--dry-run", "--json"]).expect_code(0);
        assert_eq!(kept_and_gone(&json, "v"), (vec![1, 3, 4], vec![2]), "{json}");
        let last = json.events().pop().expect("an event");
        assert_eq!((text(&last, "event"), count(&last, "kept"), count(&last, "removed")), ("pruned", 2, 0), "{json}");
        appliance.upkeep(&["collect", "--dry-run", "--dead-max", "0"]).expect_code(0);
        appliance.upkeep(&["set", "v"]).expect_code(0).says("keep-all");
        if daemon {
            assert_eq!(scene.segments(), before, "nothing was changed");
            scene.assert_points("v", &[1, 2, 3, 4]);
            scene.appliance.stop();
        }
    }
    scene.appliance.assert_pool_sound();
    scene.appliance.restart();
    scene.assert_points("v", &[1, 2, 3, 4]);
}

#[test]
fn pruning_follows_its_arguments_or_what_is_set_for_each_volume() {
    let mut scene = Scene::new(&[("v", 5), ("w", 3), ("x", 2)]);
    let appliance = &scene.appliance;
    let nothing = appliance.upkeep(&["prune"]).expect_code(0).says("v: 5 points kept, 0 removed, by keep-all");
    nothing.says("the policy keeps everything");
    let set = appliance.upkeep(&["set", "v", "--keep-last", "3"]).expect_code(0);
    set.says("v: secondary native, retention keep-last=3");
    appliance.upkeep(&["set", "w", "--keep-yearly", "1"]).expect_code(0).says("retention keep-yearly=1");

    // One volume by its arguments, which are not set thereby.
    let one = appliance.upkeep(&["prune", "v", "--keep-last", "4", "--json"]).expect_code(0);
    assert_eq!(kept_and_gone(&one, "v"), (vec![2, 3, 4, 5], vec![1]), "{one}");
    assert_eq!(one.events().len(), 6, "the others were not looked at: {one}");
    // All by what is set for each.
    let all = appliance.upkeep(&["prune", "--json"]).expect_code(0);
    assert_eq!(kept_and_gone(&all, "v"), (vec![3, 4, 5], vec![2]), "{all}");
    assert_eq!(kept_and_gone(&all, "w").0.last(), Some(&3), "{all}");
    assert_eq!(kept_and_gone(&all, "x"), (vec![1, 2], vec![]), "{all}");
    let w = kept_and_gone(&all, "w").0;
    // Two by their arguments, in one go with the collection.
    let two = appliance.upkeep(&["prune", "v", "x", "--keep-last", "1", "--collect", "--json"]).expect_code(0);
    assert_eq!(kept_and_gone(&two, "v"), (vec![5], vec![3, 4]), "{two}");
    assert_eq!(kept_and_gone(&two, "x"), (vec![2], vec![1]), "{two}");
    let collected = two.events().pop().expect("an event");
    assert_eq!(collected["event"], "collected", "{two}");
    assert!(count(&collected, "freed_bytes") > MIB, "{two}");
    for _ in 0..2 {
        scene.assert_points("v", &[5]);
        scene.assert_points("w", &w);
        scene.assert_points("x", &[2]);
        scene.assert_sound();
    }
    scene.add("v", 6);
    scene.assert_points("v", &[5, 6]);
}

#[test]
fn a_time_zone_is_known_by_its_name() {
    let scene = Scene::new(&[("v", 1)]);
    for zone in ["Europe/Berlin", "America/New_York", "UTC"] {
        scene.appliance.upkeep(&["prune", "--keep-daily", "1", "--time-zone", zone, "--dry-run"]).expect_code(0);
    }
    let unknown = scene.appliance.upkeep(&["prune", "--keep-daily", "1", "--time-zone", "Mars/Olympus"]);
    unknown.expect_refusal().says("Mars/Olympus").says("Europe/Berlin");
}

#[test]
fn protected_points_and_the_newest_stay() {
    let mut scene = Scene::new(&[("v", 6)]);
    let appliance = &scene.appliance;
    let time = format!("v@{}", text(&appliance.points("v")[2], "time"));
    let done = appliance.upkeep(&["protect", "v@1", "v@day-2", &time, "--json"]).expect_code(0);
    let points: Vec<u64> = done.events().iter().map(|event| count(event, "point")).collect();
    assert_eq!(points, [1, 2, 3], "by number, label and time: {done}");
    appliance.upkeep(&["unprotect", "v@day-2"]).expect_code(0).says("v@2 is not protected");
    appliance.upkeep(&["protect", "v"]).expect_code(0).says("v@6 is protected");
    appliance.upkeep(&["unprotect", "v@latest"]).expect_code(0).says("v@6");

    appliance.upkeep(&["remove", "v@1"]).expect_refusal().says("v@1 is protected").says("--force");
    for newest in ["v@6", "v@latest", "v@day-6"] {
        appliance.upkeep(&["remove", newest]).expect_refusal().says("v@6").says("newest");
        appliance.upkeep(&["remove", newest, "--force"]).expect_refusal().says("newest");
    }
    appliance.upkeep(&["prune", "--keep-last", "1", "--json"]).expect_code(0);
    scene.assert_points("v", &[1, 3, 6]);
    scene.assert_sound();
    scene.assert_points("v", &[1, 3, 6]);
    scene.appliance.upkeep(&["prune", "--keep-last", "1"]).expect_code(0);
    scene.assert_points("v", &[1, 3, 6]);
    scene.appliance.upkeep(&["remove", "v@day-1", "--force"]).expect_code(0).says("v@1 is removed");
    scene.appliance.upkeep(&["unprotect", "v@3"]).expect_code(0);
    scene.appliance.upkeep(&["prune", "--keep-last", "1", "--collect"]).expect_code(0);
    scene.assert_points("v", &[6]);
    scene.appliance.upkeep(&["remove", "v@6"]).expect_refusal().says("newest");
    scene.assert_sound();
    scene.assert_points("v", &[6]);
}

#[test]
fn a_volume_goes_with_force_only_and_its_name_is_free_again() {
    let mut scene = Scene::new(&[("v", 3), ("w", 1)]);
    scene.appliance.upkeep(&["set", "v", "--keep-last", "2"]).expect_code(0);
    scene.appliance.upkeep(&["protect", "v@1"]).expect_code(0);
    scene.appliance.upkeep(&["remove", "v"]).expect_refusal().says("all of its 3 points").says("--force");
    scene.assert_points("v", &[1, 2, 3]);
    scene.appliance.upkeep(&["remove", "v", "--force"]).expect_code(0).says("v is removed with 3 points");
    assert!(scene.appliance.find_volume("v").is_none());
    assert!(!scene.appliance.secondary("v").exists(), "the native image is gone as well");
    let gone = Run::peer("nbdinfo").args(args![scene.appliance.uri("v@3")]).run();
    assert_ne!(gone.code, Some(0), "nothing is exported any more: {gone}");
    scene.appliance.upkeep(&["remove", "v", "--force"]).expect_refusal().says("there is no volume v");

    // What the initiator remembers of the old volume is of no use for the new one.
    image::random(&scene.source("v"), MIB, &mut scene.rng);
    scene.add("v", 1);
    let points = scene.appliance.points("v");
    assert_eq!(text(&points[0], "kind"), "full", "{points:?}");
    scene.appliance.upkeep(&["set", "v"]).expect_code(0).says("keep-all");
    for _ in 0..2 {
        scene.assert_points("v", &[1]);
        scene.appliance.assert_secondary("v", &scene.source("v"));
        scene.assert_points("w", &[1]);
        scene.appliance.upkeep(&["collect", "--dead-max", "0"]).expect_code(0);
        scene.assert_sound();
    }
    // The newest point of the new volume is not protected, as the old one's first was.
    scene.add("v", 2);
    scene.appliance.upkeep(&["prune", "v", "--keep-last", "1"]).expect_code(0);
    scene.assert_points("v", &[2]);
}

#[test]
fn a_volume_that_is_written_to_is_not_torn_from_under_the_stream() {
    let mut scene = Scene::new(&[("v", 2), ("w", 1)]);
    image::scribble(&scene.source("v"), 0, MIB, &mut scene.rng);
    for full in [false, true] {
        let proxy = Proxy::hold_after(scene.appliance.address(), MIB / 2);
        let mut words = Appliance::replicate_args(&scene.source("v"), "v");
        words.extend(full.then(|| OsString::from("--full")));
        let run = scene.appliance.initiator(words).env("UNDERSTUDY_APPLIANCE", proxy.address());
        image::scribble(&scene.source("v"), 0, MIB, &mut scene.rng);
        let run = run.start().wait_held(&proxy);
        let removed = scene.appliance.upkeep(&["remove", "v", "--force"]);
        scene.appliance.upkeep(&["collect", "--dead-max", "0"]).expect_code(0);
        proxy.release();
        let outcome = run.finish();
        if !full {
            removed.expect_refusal().says("in use by a stream");
            outcome.expect_code(0);
            scene.appliance.assert_secondary("v", &scene.source("v"));
        } else if outcome.code == Some(0) {
            scene.appliance.assert_export(&scene.lab, "v", &scene.source("v"));
            scene.appliance.assert_secondary("v", &scene.source("v"));
        }
        let points = scene.appliance.point_numbers("v");
        scene.assert_sound();
        assert_eq!(scene.appliance.point_numbers("v"), points, "the same points from the segments alone");
    }
    scene.assert_points("w", &[1]);
    scene.appliance.replicate(&scene.source("v"), "v");
    scene.appliance.assert_secondary("v", &scene.source("v"));
    scene.appliance.assert_export(&scene.lab, "v", &scene.source("v"));
}

#[test]
fn a_point_that_is_attached_stays_until_the_client_left() {
    if !have_root("an attached export") {
        return;
    }
    let mut scene = Scene::new(&[("v", 3)]);
    let disk = NbdFuse::new(&scene.appliance.uri("v@1"), &scene.lab.file("attached"));
    let told = scene.appliance.upkeep(&["prune", "--keep-last", "1", "--collect"]).expect_code(0);
    assert_eq!(verdicts(&told)[0].1, "keep: in use: an export", "{told}");
    assert_eq!(verdicts(&told)[1].1, "removed: no rule keeps it", "{told}");
    scene.appliance.upkeep(&["remove", "v@1"]).expect_refusal().says("v@1 is in use by an export");
    scene.appliance.upkeep(&["remove", "v", "--force"]).expect_refusal().says("v@1 is in use");
    compare::assert_same(&disk.disk(), &scene.lab.file("v@1"), "the attached point, after a collection");
    scene.assert_points("v", &[1, 3]);
    drop(disk);
    wait_until("the point is let go", || {
        let json = scene.appliance.upkeep(&["prune", "--keep-last", "1", "--json"]).expect_code(0);
        let gone = kept_and_gone(&json, "v") == (vec![3], vec![1]);
        if gone { Ok(()) } else { Err(json.to_string()) }
    });
    scene.assert_sound();
    scene.assert_points("v", &[3]);
}

#[test]
fn what_is_set_and_what_is_protected_survives_everything() {
    let mut scene = Scene::new(&[("v", 5)]);
    let policy = ["set", "v", "--keep-last", "2", "--keep-within", "3d", "--keep-weekly", "1", "--minimum-age", "36h"];
    scene.appliance.upkeep(&policy).expect_code(0);
    scene.appliance.upkeep(&["protect", "v@1", "v@3"]).expect_code(0);
    scene.appliance.upkeep(&["unprotect", "v@3"]).expect_code(0);
    let shown = |scene: &Scene| {
        let set = scene.appliance.upkeep(&["set", "v", "--json"]).expect_code(0);
        let plan = scene.appliance.upkeep(&["prune", "--dry-run", "--json"]).expect_code(0);
        (set.out() + &plan.out()).replace(SETTLED, "")
    };
    let before = shown(&scene);
    for word in ["keep-last=2 keep-weekly=1 keep-within=3d minimum-age=36h", "protected; younger than"] {
        assert!(before.contains(word), "{word:?} is shown: {before}");
    }
    scene.appliance.kill();
    assert_eq!(shown(&scene), before, "after kill -9, without a daemon");
    scene.appliance.lose_index();
    assert_eq!(shown(&scene), before, "from the segments alone, without a daemon");
    let told = scene.appliance.upkeep(&["reindex"]).expect_code(0);
    assert!(told.out().starts_with("v 5 5 "), "name, points, newest, root: {told}");
    let json = scene.appliance.upkeep(&["reindex", "--json"]).expect_code(0).json();
    assert_eq!(json["protected"], Value::from(vec![1]), "{json}");
    scene.appliance.restart();
    assert_eq!(shown(&scene), before, "after reindex");
    scene.appliance.upkeep(&["reindex"]).expect_refusal().says("daemon");

    // The segment in which they were recorded goes.
    scene.add("v", 6);
    scene.appliance.upkeep(&["set", "v", "--keep-last", "2"]).expect_code(0);
    scene.appliance.upkeep(&["prune", "--collect"]).expect_code(0);
    scene.appliance.upkeep(&["collect", "--dead-max", "0"]).expect_code(0);
    let before = shown(&scene);
    for _ in 0..2 {
        scene.assert_points("v", &[1, 5, 6]);
        assert_eq!(shown(&scene), before, "after prune, collect and the loss of the index");
        scene.assert_sound();
    }
}

/// Command lines that are wrong, what they exit with, and what they say.
const MISTAKES: [(&[&str], i32, &str); 24] = [
    (&["prune", "nobody", "--keep-last", "1"], 1, "there is no volume nobody in this pool; there is: v, w"),
    (&["prune", "v", "nobody", "--keep-last", "1"], 1, "nobody"),
    (&["prune", "--keep-last", "x"], 2, "--keep-last"),
    (&["prune", "--keep-last", "-1"], 2, "-1"),
    (&["prune", "--keep-within", "30m"], 2, "30m"),
    (&["prune", "--keep-minutely", "3"], 2, "--keep-minutely"),
    (&["prune", "a/b"], 2, "a/b"),
    (&["protect"], 2, "NAME@POINT"),
    (&["protect", "v@1", "v@9"], 1, "volume v has no point 9"),
    (&["protect", "nobody@1"], 1, "nobody"),
    (&["protect", "v@2001-01-01"], 1, "2001-01-01"),
    (&["unprotect", "v@2026-13-41"], 1, "2026-13-41"),
    (&["unprotect", "v@"], 1, "expected a number"),
    (&["remove"], 2, "NAME[@POINT]"),
    (&["remove", "v@closing"], 1, "closing"),
    (&["remove", "v@1", "v@2"], 2, "v@2"),
    (&["remove", "nobody", "--force"], 1, "nobody"),
    (&["remove", "../v", "--force"], 1, "../v"),
    (&["set", "nobody"], 1, "nobody"),
    (&["set", "v", "--secondary", "sideways"], 1, "native, none"),
    (&["set", "v", "--keep-last", "4294967296"], 2, "4294967296"),
    (&["collect", "--dead-max", "100"], 2, "100"),
    (&["collect", "v"], 2, "v"),
    (&["reindex", "v"], 2, "v"),
];

#[test]
fn mistakes_are_named_and_change_nothing_with_a_daemon_and_without() {
    let mut scene = Scene::new(&[("v", 2), ("w", 1)]);
    for daemon in [true, false] {
        for (words, code, says) in MISTAKES {
            let outcome = scene.appliance.upkeep(words).expect_code(code).says(says);
            assert!(outcome.stdout.is_empty(), "nothing was done: {outcome}");
            let errors = outcome.stderr.lines().filter(|line| line.starts_with("error: ")).count();
            assert_eq!(errors, 1, "one line says what is wrong: {outcome}");
        }
        let plan = scene.appliance.upkeep(&["prune", "--keep-last", "1", "--dry-run"]).expect_code(0);
        assert!(!plan.out().contains("protected"), "no point of a refused command was protected: {plan}");
        if daemon {
            scene.assert_points("v", &[1, 2]);
            scene.appliance.stop();
        }
    }
    scene.appliance.assert_pool_sound();
    scene.appliance.restart();
    scene.assert_points("v", &[1, 2]);
    Run::ours(UNDERSTUDYD).args(args!["prune", "--keep-last", "1"]).run().expect_code(2).says("--pool");
}

#[test]
fn without_a_daemon_everything_is_done_all_the_same() {
    let mut scene = Scene::new(&[("v", 5), ("w", 2)]);
    scene.appliance.stop();
    let appliance = &scene.appliance;
    appliance.upkeep(&["protect", "v@day-1"]).expect_code(0).says("v@1 is protected");
    appliance.upkeep(&["set", "v", "--keep-last", "2"]).expect_code(0).says("keep-last=2");
    let pruned = appliance.upkeep(&["prune", "--json"]).expect_code(0);
    assert_eq!(kept_and_gone(&pruned, "v"), (vec![1, 4, 5], vec![2, 3]), "{pruned}");
    appliance.upkeep(&["remove", "v@4"]).expect_code(0).says("v@4 is removed");
    appliance.upkeep(&["remove", "w", "--force"]).expect_code(0).says("w is removed with 2 points");
    let before = compare::disk_usage(&appliance.pool().join("segments"));
    appliance.upkeep(&["collect"]).expect_code(0).says("given back");
    let after = compare::disk_usage(&appliance.pool().join("segments"));
    assert!(after + MIB < before, "{before} bytes before, {after} after");
    appliance.assert_pool_sound();
    appliance.upkeep(&["reindex"]).expect_code(0).says("v 2 5 ");
    appliance.assert_pool_sound();
    scene.appliance.restart();
    scene.assert_points("v", &[1, 5]);
    assert!(scene.appliance.find_volume("w").is_none());
    assert!(!scene.appliance.secondary("w").exists(), "the native image is gone as well");
}

#[test]
fn a_directory_that_is_no_pool_is_refused_and_left_alone() {
    let lab = Lab::new();
    let documents = lab.dir("documents");
    lab.write("documents/letter.txt", "dear reader");
    let empty = lab.dir("empty");
    let file = lab.write("a file", "not a directory");
    let commands: [&[&str]; 7] = [
        &["prune", "--keep-last", "1"],
        &["protect", "v@1"],
        &["unprotect", "v@1"],
        &["remove", "v", "--force"],
        &["set", "v"],
        &["collect"],
        &["reindex"],
    ];
    for place in [&documents, &empty, &file, &lab.file("missing")] {
        for words in commands {
            let rest = words[1..].iter().map(OsString::from);
            let run = Run::ours(UNDERSTUDYD).args(args![words[0], "--pool", place]).args(rest);
            run.run().expect_refusal().says(&place.display().to_string()).says("no pool");
        }
    }
    assert_eq!(fingerprint(lab.path()).len(), 2, "nothing was made: {:?}", fingerprint(lab.path()));
    assert!(!lab.file("missing").exists());
    assert_eq!(fs::read_dir(&empty).expect("the directory").count(), 0, "an empty directory stays empty");
}

#[test]
fn a_pool_with_an_odd_name_is_reached_like_any_other() {
    let deep = format!("{}/{}", "deep".repeat(30), "deeper".repeat(20));
    for name in [OsStr::new(&deep), OsStr::from_bytes(b"no \xff text")] {
        let lab = Lab::new();
        let pool = lab.path().join(name);
        fs::create_dir_all(&pool).expect("a directory");
        let mut scene = Scene::on(lab, &pool, &[("v", 2)]);
        let socket = pool.join("control");
        let mode = fs::metadata(&socket).expect("the daemon's socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "nobody else may ask");
        scene.appliance.upkeep(&["protect", "v@1"]).expect_code(0);
        // It was the daemon that did it: nobody else can have the pool open now.
        scene.appliance.upkeep(&["reindex"]).expect_refusal().says("daemon");
        scene.appliance.kill();
        assert!(fs::symlink_metadata(&socket).expect("the socket is left over").file_type().is_socket());
        scene.appliance.upkeep(&["set", "v", "--keep-last", "1"]).expect_code(0);
        scene.appliance.restart();
        scene.appliance.upkeep(&["prune"]).expect_code(0).says("keep: protected");
        scene.assert_points("v", &[1, 2]);
        scene.appliance.stop();
        assert!(!socket.exists(), "a clean shutdown takes its socket with it");
    }
}

#[test]
fn a_client_that_does_not_read_does_not_keep_the_daemon_from_ending() {
    let mut scene = Scene::new(&[("v", 3)]);
    let mut words = vec!["prune", "--keep-last", "1", "--dry-run", "--json"];
    words.extend(["v"; 4000]);
    let mut command = scene.appliance.upkeep_run(&words).command();
    let mut client = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the command starts");
    let mut pipe = BufReader::new(client.stdout.take().expect("a pipe"));
    pipe.read_line(&mut String::new()).expect("the first of many lines");
    scene.appliance.stop();
    client.kill().expect("the client can be killed");
    client.wait().expect("the client ends");
    scene.appliance.restart();
    scene.assert_points("v", &[1, 2, 3]);
}

/// A pool whose filesystem takes no writes for a while: who writes waits, in the middle of what it does.
struct Frozen(PathBuf);

impl Frozen {
    fn new(scene: &Scene) -> Frozen {
        let dir = scene.mount.as_ref().expect("a filesystem of its own").path().to_path_buf();
        tool("fsfreeze", args!["--freeze", &dir]);
        Frozen(dir)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        Run::peer("fsfreeze").args(args!["--unfreeze", &self.0]).run();
    }
}

/// Two collections at once: the one that is refused says so, the other is in the middle of its work.
fn two_collections(appliance: &Appliance) -> Running {
    let start = || Some(appliance.upkeep_run(&["collect", "--dead-max", "0"]).start());
    let mut both = [start(), start()];
    let refused = wait_until("one of two collections is refused", || {
        let ended = |run: &&mut Option<Running>| run.as_ref().is_some_and(Running::has_ended);
        both.iter_mut().find(ended).and_then(Option::take).ok_or("both are running".to_string())
    });
    refused.finish().expect_refusal().says("space is being reclaimed already; try again when that is done");
    both.into_iter().flatten().next().expect("the other one")
}

#[test]
fn a_collection_in_the_middle_can_be_interrupted_killed_and_not_doubled() {
    if !have_root("a filesystem that can be frozen") {
        return;
    }
    let lab = Lab::new();
    let disk = lab.file("disk.img");
    image::hole(&disk, 256 * MIB);
    tool("mke2fs", args!["-q", "-F", "-t", "ext4", &disk]);
    let mount = Mount::new(&disk, &lab.file("disk"), "loop");
    let mut scene = Scene::on(lab, &mount.path().join("pool"), &[("v", 4)]);
    scene.mount = Some(mount);
    scene.appliance.upkeep(&["prune", "--keep-last", "1"]).expect_code(0);

    // Ctrl-C: the daemon stops what nobody waits for, and gives nothing back.
    let frozen = Frozen::new(&scene);
    let run = two_collections(&scene.appliance);
    run.signal(Signal::INT);
    assert_eq!(run.finish().code, None, "ended by the signal");
    drop(frozen);
    let json = wait_until("the collection has stopped", || {
        let outcome = scene.appliance.upkeep(&["collect", "--dry-run", "--json"]);
        if outcome.code == Some(0) { Ok(outcome.json()) } else { Err(outcome.to_string()) }
    });
    assert!(count(&json, "bytes") > count(&json, "live_bytes") + MIB / 2, "nothing was given back yet: {json}");
    scene.assert_points("v", &[4]);

    // kill -9 of the daemon: whoever asked is told.
    let frozen = Frozen::new(&scene);
    let run = two_collections(&scene.appliance);
    scene.appliance.kill_when(|| drop(frozen));
    run.finish().expect_refusal().says("the daemon ended before it was done; run the command again");
    scene.appliance.assert_pool_sound();
    scene.appliance.restart();
    scene.assert_points("v", &[4]);

    // Left alone, it does its work.
    let frozen = Frozen::new(&scene);
    let run = two_collections(&scene.appliance);
    drop(frozen);
    run.finish().expect_code(0).says("given back");
    let json = scene.appliance.upkeep(&["collect", "--dry-run", "--json"]).expect_code(0).json();
    assert!(count(&json, "bytes") < count(&json, "live_bytes") + MIB / 2, "all was given back: {json}");
    scene.assert_sound();
    scene.assert_points("v", &[4]);
}
