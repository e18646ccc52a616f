//! `understudy status`: the screen, the answer as it is, and the line for monitoring with its own exit codes.

use serde_json::{Value, json};
use understudy_tests::image::{self, MIB};
use understudy_tests::wait::wait_until;
use understudy_tests::{Appliance, Lab, Mount, Outcome, Rng, Run, UNDERSTUDY, args, have_root, seed, tool};

fn status(appliance: &Appliance, more: &[&str]) -> Outcome {
    let socket = appliance.pool().join("control");
    let words = more.iter().map(|word| word.into());
    Run::ours(UNDERSTUDY).args(args!["status", "--socket", socket]).args(words).run()
}

#[test]
fn what_is_well_and_what_is_not_is_told_to_people_programs_and_nagios() {
    if !have_root("a filesystem with room") {
        return;
    }
    let lab = Lab::new();
    let disk = Mount::tmpfs(&lab.file("disk"), 1024 * MIB);
    let config =
        lab.write("appliance.yaml", "version: 1\njobs:\n  bad: {run: scrub --volume nowhere, schedule: yearly}\n");
    let mut appliance = Appliance::start_with(&lab, &disk.path().join("pool"), args!["--config", config]);
    let source = lab.file("disk.raw");
    image::random(&source, MIB, &mut Rng::new(seed()));
    appliance.replicate(&source, "disk");
    appliance.settle("disk");
    let all: Value = status(&appliance, &["--json"]).expect_code(0).json();
    assert_eq!(
        (&all["volumes"][0]["name"], &all["warnings"], &all["jobs"][0]["job"]),
        (&json!("disk"), &json!([]), &json!("bad"))
    );
    status(&appliance, &[]).expect_code(0).says("all is well").says("VOLUME").says("disk");
    let line = status(&appliance, &["--check"])
        .expect_code(0)
        .says("UNDERSTUDY OK - 1 volumes, all is well | 'lag_disk'=")
        .out();
    assert_eq!(line.lines().count(), 1, "{line}");
    // Room that gets scarce is a warning, or critical.
    let ballast = disk.path().join("ballast");
    tool("fallocate", args!["--length", "900M", &ballast]);
    status(&appliance, &["--check"]).expect_code(1).says("UNDERSTUDY WARNING - pool space: ").says(" free of 1.1 GB");
    tool("fallocate", args!["--length", "990M", &ballast]);
    status(&appliance, &["--check"]).expect_code(2).says("UNDERSTUDY CRITICAL - pool space: ");
    std::fs::remove_file(ballast).expect("the ballast can be removed");
    // A job that fails is critical.
    appliance.upkeep(&["run", "bad"]).expect_code(1);
    wait_until("the failure is known", || {
        let all: Value = status(&appliance, &["--json"]).expect_code(0).json();
        if all["warnings"][0]["about"] == "job" { Ok(()) } else { Err(all.to_string()) }
    });
    status(&appliance, &["--check"])
        .expect_code(2)
        .says("UNDERSTUDY CRITICAL - job bad: failed: there is no volume nowhere");
    status(&appliance, &[]).expect_code(0).says("critical: job bad: failed");
    // Who learns nothing says so.
    appliance.stop();
    status(&appliance, &["--check"]).expect_code(3).says("UNDERSTUDY UNKNOWN - ").says("cannot connect");
    status(&appliance, &[]).expect_code(1);
    drop(appliance);
    disk.unmount();
}
