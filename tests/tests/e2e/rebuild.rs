//! The segments alone are the pool: with the index and the file `pool` gone, `pool rebuild` has the same volumes, points,
//! roots, protections and settings come back, and touches nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use understudy_tests::image::{self, MIB};
use understudy_tests::{Appliance, Lab, Outcome, Rng, Run, TOOLS, UNDERSTUDYD, args, compare, pool_check, seed, tool};

fn rebuild(pool: &Path, more: &[&str]) -> Outcome {
    let more = more.iter().map(std::ffi::OsString::from);
    Run::ours(TOOLS).args(args!["pool", "rebuild", pool].into_iter().chain(more)).run()
}

fn upkeep(pool: &Path, verb: &str, more: &[&str]) -> Outcome {
    let more = more.iter().map(std::ffi::OsString::from);
    Run::ours(UNDERSTUDYD).args(args![verb, "--pool", pool].into_iter().chain(more)).run()
}

/// An appliance whose pool has seen everything: points that were removed, pruned, protected, and collected.
struct Lived {
    appliance: Appliance,
    /// What the points `alpha@5` and `beta@2` are.
    kept: [PathBuf; 2],
}

impl Lived {
    fn new(lab: &Lab) -> Lived {
        let (mut rng, mut appliance) = (Rng::new(seed()), Appliance::start(lab));
        let mut kept = Vec::new();
        for (name, days) in [("alpha", 5), ("beta", 2), ("gone", 1)] {
            let source = lab.file(&format!("{name}.raw"));
            image::mixed(&source, 8 * MIB, &mut rng);
            for day in 1..=days {
                image::scribble(&source, day * MIB, 300_000, &mut rng);
                appliance.replicate_with(&source, name, &["--label", &format!("day-{day}")]);
            }
            appliance.settle(name);
            kept.push(source);
        }
        let pool = appliance.pool().to_path_buf();
        let run = |verb: &str, more: &[&str]| drop(upkeep(&pool, verb, more).expect_code(0));
        run("protect", &["alpha@1", "alpha@4", "beta@1"]);
        run("unprotect", &["beta@1"]);
        run("remove", &["alpha@2"]);
        run("remove", &["gone", "--force"]);
        run("set", &["alpha", "--keep-last", "2", "--keep-within", "3h"]);
        run("collect", &["--dead-max", "0"]);
        run("protect", &["beta@2"]);
        run("remove", &["alpha@3"]);
        appliance.stop();
        // Whatever the removal of a volume leaves of its secondary is not what is tested here.
        let _ = fs::remove_dir_all(appliance.pool().join("volumes/gone"));
        kept.truncate(2);
        Lived { appliance, kept: kept.try_into().expect("two volumes") }
    }

    fn pool(&self) -> &Path {
        self.appliance.pool()
    }

    /// Everything that the appliance tells of its volumes and points; it is started and stopped for that.
    fn told(&mut self) -> Vec<Value> {
        self.appliance.restart();
        let mut told = Vec::new();
        for volume in ["alpha", "beta"] {
            told.push(self.appliance.find_volume(volume).expect("the volume"));
            self.appliance.settle(volume);
            told.extend(self.appliance.points(volume));
            told.extend(upkeep(self.pool(), "set", &[volume, "--json"]).expect_code(0).events());
        }
        assert!(self.appliance.find_volume("gone").is_none(), "what was removed stays away");
        let prune = upkeep(self.pool(), "prune", &["--dry-run", "--keep-last", "1", "--json"]).expect_code(0);
        told.extend(prune.events());
        self.appliance.stop();
        told
    }

    /// The points as they were are still there, byte for byte.
    fn assert_contents(&self, lab: &Lab) {
        for (point, expected) in ["alpha@5", "beta@2"].iter().zip(&self.kept) {
            let out = lab.file(&format!("{point}.raw"));
            let _ = fs::remove_file(&out);
            Run::ours(TOOLS).args(args!["pool", "extract", self.pool(), point, &out]).run().expect_code(0);
            compare::assert_same(&out, expected, &format!("{point} is what it was"));
        }
    }
}

/// Every file below with its MD5 and time of change.
fn fingerprint(dir: &Path) -> String {
    let listing = tool("find", args![dir, "-printf", "%p %y %s %T@\n"]).out();
    let sums = tool("find", args![dir, "-type", "f", "-exec", "md5sum", "{}", "+"]).out();
    let mut lines: Vec<&str> = listing.lines().chain(sums.lines()).collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[test]
fn with_index_and_pool_file_gone_everything_comes_back() {
    let lab = Lab::new();
    let mut lived = Lived::new(&lab);
    let before = lived.told();
    pool_check(lived.pool()).expect_code(0).says("3 protected");
    let uuid = fs::read(lived.pool().join("pool")).expect("the pool file");
    fs::remove_dir_all(lived.pool().join("index")).expect("an index can be lost");
    fs::remove_file(lived.pool().join("pool")).expect("a file can be lost");
    // Looking changes nothing, and tells the same as rebuilding.
    let untouched = fingerprint(lived.pool());
    let dry = rebuild(lived.pool(), &["--dry-run", "--json"]).expect_code(0).events();
    assert_eq!(fingerprint(lived.pool()), untouched, "a dry run leaves no trace");
    let segments = fingerprint(&lived.pool().join("segments"));
    let volumes = fingerprint(&lived.pool().join("volumes"));
    let rebuilt = rebuild(lived.pool(), &["--json"]).expect_code(0).says("2 volumes, 5 points, 3 of them protected");
    let of = |events: &[Value]| events.iter().filter(|event| event["event"] == "volume").cloned().collect::<Vec<_>>();
    assert_eq!(of(&rebuilt.events()), of(&dry));
    assert_eq!(fingerprint(&lived.pool().join("segments")), segments, "no segment is touched");
    assert_eq!(fingerprint(&lived.pool().join("volumes")), volumes, "no secondary is touched");
    let again = fs::read(lived.pool().join("pool")).expect("the pool file is back");
    assert_eq!(again[8..24], uuid[8..24], "the pool has its name back");
    assert_eq!(lived.told(), before, "everything is told as before");
    pool_check(lived.pool()).expect_code(0);
    lived.assert_contents(&lab);
}

#[test]
fn a_damaged_pool_file_is_written_again_and_a_good_one_is_left_alone() {
    let lab = Lab::new();
    let mut lived = Lived::new(&lab);
    let file = lived.pool().join("pool");
    let good = fingerprint(&file);
    rebuild(lived.pool(), &[]).expect_code(0).says("its file is right").says("identical");
    assert_eq!(fingerprint(&file), good);
    image::patch(&file, 10, b"?");
    let before = fs::read(&file).expect("the pool file");
    rebuild(lived.pool(), &["--dry-run"]).expect_code(0).says("its file is damaged");
    assert_eq!(fs::read(&file).expect("the pool file"), before);
    rebuild(lived.pool(), &[]).expect_code(0).says("as the oldest record");
    lived.appliance.restart();
    lived.appliance.stop();
}

#[test]
fn a_pool_in_use_is_not_rebuilt() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let source = lab.file("source.raw");
    image::hole(&source, MIB);
    appliance.replicate(&source, "v");
    rebuild(appliance.pool(), &[]).expect_refusal().says("in use").says("--dry-run");
    rebuild(appliance.pool(), &["--dry-run"]).expect_code(0);
    assert_eq!(appliance.point_numbers("v"), [1], "the daemon goes on");
}

#[test]
fn a_point_is_extracted_while_its_segments_are_collected() {
    let lab = Lab::new();
    let (mut rng, appliance) = (Rng::new(seed()), Appliance::start(&lab));
    let source = lab.file("source.raw");
    image::random(&source, 48 * MIB, &mut rng);
    for round in 0..6 {
        image::scribble(&source, round * 7 * MIB, 7 * MIB, &mut rng);
        appliance.replicate(&source, "v");
        // A point that the secondary is still on its way from is in use, and is not removed.
        appliance.settle("v");
        if round > 0 {
            upkeep(appliance.pool(), "remove", &[&format!("v@{round}")]).expect_code(0);
        }
        let out = lab.file("out.raw");
        let _ = fs::remove_file(&out);
        let extract = Run::ours(TOOLS).args(args!["pool", "extract", appliance.pool(), "v", &out]);
        let mut extracting = extract.command().stdout(Stdio::null()).spawn().expect("the extraction starts");
        upkeep(appliance.pool(), "collect", &["--dead-max", "0"]).expect_code(0);
        let ended = extracting.wait().expect("the extraction ends");
        assert_eq!(ended.code(), Some(0), "round {round}: {}", extract.line());
        compare::assert_same(&out, &source, &format!("round {round}: the point is what it was"));
    }
}
