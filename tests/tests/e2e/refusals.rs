//! Misuse and missing things: each is one clear line, a documented exit code, and nothing changed.

use std::net::TcpListener;

use understudy_tests::image::{self, MIB};
use understudy_tests::{Appliance, Lab, Run, TOOLS, UNDERSTUDY, UNDERSTUDYD, args};

fn scene(lab: &Lab) -> Appliance {
    let appliance = Appliance::start(lab);
    let source = lab.file("source.raw");
    image::hole(&source, MIB);
    image::patch(&source, 1000, b"something");
    appliance.replicate_with(&source, "v", &["--label", "opening"]);
    appliance
}

#[test]
fn every_binary_explains_itself() {
    for program in [UNDERSTUDY, UNDERSTUDYD, TOOLS] {
        Run::ours(program).args(args!["--help"]).run().expect_code(0).says("usage");
        Run::ours(program).args(args!["--version"]).run().expect_code(0).says(env!("CARGO_PKG_VERSION"));
        Run::ours(program).run().expect_code(2);
        Run::ours(program).args(args!["--no-such-option"]).run().expect_code(2);
        Run::ours(program).args(args!["no-such-command"]).run().expect_code(2);
    }
}

#[test]
fn an_unknown_volume_is_named() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    appliance.understudy(args!["points", "nobody"]).expect_refusal().says("nobody");
    appliance.understudy(args!["restore", "nobody", lab.file("target")]).expect_refusal().says("nobody");
    appliance.understudy(args!["verify", lab.file("source.raw"), "nobody"]).expect_refusal().says("nobody");
    appliance.understudy(args!["verify", "nobody", "--over-nbd"]).expect_refusal().says("nobody");
    assert!(!lab.file("target").exists(), "a refused restore makes no target");
}

#[test]
fn an_unknown_point_is_named() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    for point in ["v@2", "v@closing", "v@0"] {
        let refused = appliance.understudy(args!["restore", point, lab.file("target")]).expect_refusal();
        refused.says(point.trim_start_matches("v@"));
        assert!(!lab.file("target").exists(), "a refused restore makes no target");
    }
    appliance.understudy(args!["verify", lab.file("source.raw"), "v@2"]).expect_refusal();
}

#[test]
fn a_source_that_is_not_there_is_named() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    appliance.try_replicate(&lab.file("missing.raw"), "w", &[]).expect_refusal().says("missing.raw");
    appliance.try_replicate(lab.path(), "w", &[]).expect_refusal();
    appliance.assert_no_point("w");
}

#[test]
fn an_appliance_that_is_not_there_is_named() {
    let lab = Lab::new();
    let mut appliance = scene(&lab);
    appliance.stop();
    let address = appliance.address().to_string();
    appliance.try_replicate(&lab.file("source.raw"), "v", &[]).expect_refusal().says(&address);
    appliance.understudy(args!["volumes"]).expect_refusal().says(&address);
}

#[test]
fn an_appliance_is_looked_for_on_this_host_when_none_is_given() {
    Run::ours(UNDERSTUDY).args(args!["volumes"]).run().expect_refusal().says("127.0.0.1:7410").says("--to");
}

#[test]
fn volume_names_that_cannot_be_files_or_exports_are_refused() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    for name in ["../outside", "a/b", "", ".", "..", "a@1", "/abs", "a\nb"] {
        let outcome = appliance.try_replicate(&lab.file("source.raw"), name, &[]);
        assert!(matches!(outcome.code, Some(1 | 2)), "the volume name {name:?} must be refused: {outcome}");
    }
    assert!(!appliance.pool().join("outside").exists(), "nothing is created outside of the volumes");
}

#[test]
fn a_second_daemon_on_the_pool_is_refused_and_the_first_unharmed() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    let second = args!["serve", "--pool", appliance.pool(), "--listen", "127.0.0.1:0", "--nbd", "127.0.0.1:0"];
    let refused = Run::ours(UNDERSTUDYD).args(second).limit(30).run().expect_refusal();
    refused.says_any(&["in use", "locked", "another", "already"]);
    appliance.replicate(&lab.file("source.raw"), "v").expect_kind("incremental");
}

#[test]
fn a_busy_port_is_named() {
    let lab = Lab::new();
    let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let busy = holder.local_addr().expect("an address").to_string();
    for (listen, nbd) in [(busy.as_str(), "127.0.0.1:0"), ("127.0.0.1:0", busy.as_str())] {
        let serve = args!["serve", "--pool", lab.file("pool"), "--listen", listen, "--nbd", nbd];
        Run::ours(UNDERSTUDYD).args(serve).limit(30).run().expect_refusal().says(&busy);
    }
}

#[test]
fn a_directory_that_is_no_pool_is_refused_and_left_alone() {
    let lab = Lab::new();
    let dir = lab.dir("documents");
    std::fs::write(dir.join("letter.txt"), "dear reader").expect("a file");
    let serve = args!["serve", "--pool", &dir, "--listen", "127.0.0.1:0", "--nbd", "127.0.0.1:0"];
    Run::ours(UNDERSTUDYD).args(serve).limit(30).run().expect_refusal().says("documents").says("pool");
    let names: Vec<_> =
        std::fs::read_dir(&dir).expect("the directory").map(|e| e.expect("an entry").file_name()).collect();
    assert_eq!(names, ["letter.txt"], "nothing was added");
    let check = Run::ours(TOOLS).args(args!["pool", "check", &dir]).run();
    check.expect_code(1).says("pool");
}

#[test]
fn a_pool_that_cannot_be_made_is_named() {
    let lab = Lab::new();
    let file = lab.write("a file", "not a directory");
    for place in [file.clone(), file.join("pool"), "/proc/understudy/pool".into()] {
        let serve = args!["serve", "--pool", &place, "--listen", "127.0.0.1:0", "--nbd", "127.0.0.1:0"];
        Run::ours(UNDERSTUDYD).args(serve).limit(30).run().expect_refusal().says(&place.display().to_string());
    }
}

#[test]
fn an_empty_directory_becomes_a_pool() {
    let lab = Lab::new();
    let dir = lab.dir("pool");
    let mut appliance = Appliance::start_on(&lab, &dir);
    appliance.stop();
    appliance.assert_pool_sound();
}

#[test]
fn a_label_is_unique_enough_to_select_by() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    for label in ["7", "latest", "a@b", "a/b", "2026-11-21", ""] {
        let outcome = appliance.try_replicate(&lab.file("source.raw"), "v", &["--label", label]);
        assert!(
            matches!(outcome.code, Some(1 | 2)),
            "the label {label:?} reads like another selector and must be refused: {outcome}"
        );
    }
    assert_eq!(appliance.point_numbers("v"), [1]);
}
