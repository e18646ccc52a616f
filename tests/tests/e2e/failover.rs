//! Failing over and back: what was written on either side is there, what the other side wrote meanwhile is not, and no more is read than has to be.

use std::path::{Path, PathBuf};

use understudy_tests::image::{self, MIB};
use understudy_tests::wait::wait_until;
use understudy_tests::{Appliance, Lab, Outcome, Proxy, Rng, Run, Summary, Tap, args, count, seed};

const SIZE: u64 = 64 * MIB;

/// A tap that followed and was killed with its host, and the volume that it served.
fn orphaned(lab: &Lab) -> (Appliance, Tap) {
    let volume = lab.file("primary.raw");
    image::mixed(&volume, SIZE, &mut Rng::new(seed()));
    let appliance = Appliance::start(lab);
    let mut tap = Tap::start(lab, &volume, appliance.address(), &[]);
    tap.wait_phase("following");
    tap.io(&["write -P 0x11 1M 200k", "flush"]);
    assert_follows(&appliance, &tap);
    tap.kill();
    (appliance, tap)
}

/// Waits until the newest point is the volume, which nobody writes to.
#[track_caller]
fn assert_follows(appliance: &Appliance, tap: &Tap) {
    wait_until("the newest point is the volume", || {
        appliance.upkeep(&["fold", "v"]);
        let compared = appliance.understudy(args!["verify", tap.volume(), "v"]);
        if compared.code == Some(0) { Ok(()) } else { Err(compared.to_string()) }
    });
}

fn promote(appliance: &Appliance, more: &[&str]) -> Outcome {
    let mut arguments = args!["promote", "v", "--json"];
    arguments.extend(more.iter().map(std::ffi::OsString::from));
    appliance.understudy(arguments)
}

fn failback(lab: &Lab, appliance: &Appliance, volume: &Path, more: &[&str]) -> Run {
    let mut arguments = args!["failback", "v", volume, "--json", "--state", lab.file("tap state")];
    arguments.extend(more.iter().map(std::ffi::OsString::from));
    appliance.initiator(arguments)
}

/// Writes to the volume where it is promoted.
fn write(uri: &str, commands: &[&str]) {
    let commands = commands.iter().flat_map(|command| args!["-c", *command]);
    let outcome = Run::peer("qemu-io").args(args!["-f", "raw"]).args(commands).args(args![uri]).run().expect_code(0);
    assert!(!outcome.all().contains("failed"), "{outcome}");
}

fn export(promoted: &Outcome) -> String {
    promoted.json()["export"].as_str().expect("an export").to_owned()
}

/// A copy of the volume with what was written at the appliance.
fn expected(lab: &Lab, volume: &Path) -> PathBuf {
    let expected = image::keep(volume, &lab.file("expected.raw"));
    image::patch(&expected, 20 * MIB, &vec![0x22; 300 << 10]);
    image::patch(&expected, 40 * MIB, &vec![0; 100 << 10]);
    expected
}

const HERE: [&str; 3] = ["write -P 0x22 20M 300k", "write -z 40M 100k", "flush"];

#[test]
fn a_volume_fails_over_and_comes_back_with_what_changed_and_no_more() {
    let lab = Lab::new();
    let (appliance, mut tap) = orphaned(&lab);
    let (volume, expected) = (tap.volume().to_path_buf(), expected(&lab, tap.volume()));
    let promoted = promote(&appliance, &[]).expect_code(0);
    assert_eq!(promoted.json()["generation"], 2);
    let uri = appliance.uri(&export(&promoted));
    appliance.assert_export(&lab, &export(&promoted), &volume);
    write(&uri, &HERE);
    assert_eq!(promote(&appliance, &[]).expect_code(0).json()["export"], promoted.json()["export"], "the same again");
    // The primary is back, serves its volume, and is not followed.
    tap.restart();
    tap.wait("it says why it is not followed", |tap| {
        tap.events_since_start().iter().any(|event| event.to_string().contains("was promoted here from point"))
    });
    tap.io(&["write -P 0x33 50M 64k", "flush"]);
    let refused = failback(&lab, &appliance, &volume, &[]).run().expect_code(1);
    assert!(refused.all().contains("another tap uses it"), "{refused}");
    tap.kill();
    let replicated = appliance.understudy(args!["replicate", &volume, "--volume", "v"]).expect_code(1);
    assert!(replicated.all().contains("understudy failback v VOLUME-PATH"), "{replicated}");
    let done = failback(&lab, &appliance, &volume, &["--verify"]).run().expect_code(0);
    assert_summary(&done.summary());
    assert_eq!(std::fs::read(&volume).unwrap(), std::fs::read(&expected).unwrap());
    failback(&lab, &appliance, &volume, &[]).run().expect_code(0);
    tap.restart();
    tap.wait_phase("following");
    let streams = tap.events_since_start().into_iter().filter(|event| event["event"] == "stream");
    assert!(streams.map(|event| count(&event, "bytes")).sum::<u64>() <= MIB, "nothing has to be read");
    tap.io(&["write -P 0x44 2M 64k", "flush"]);
    assert_follows(&appliance, &tap);
    tap.stop();
}

/// What is read is what the tap was writing to, what is brought is what differs.
#[track_caller]
fn assert_summary(summary: &Summary) {
    let (written, zeroed) = (summary.count("blocks_written"), summary.count("blocks_zeroed"));
    assert!(summary.count("bytes_read") <= 48 * MIB, "{} bytes", summary.count("bytes_read"));
    assert!((1..=20).contains(&(written + zeroed)), "{written} written, {zeroed} made zero");
}

#[test]
fn a_tap_that_is_there_is_put_off_by_force_alone() {
    let lab = Lab::new();
    let (appliance, mut tap) = orphaned(&lab);
    tap.restart();
    tap.wait_phase("following");
    let refused = promote(&appliance, &[]).expect_code(1);
    assert!(refused.all().contains("is followed by the tap of"), "{refused}");
    promote(&appliance, &["--force"]).expect_code(0);
    tap.wait("it says why it is not followed", |tap| {
        tap.events_since_start().iter().any(|event| event.to_string().contains("was promoted here from point"))
    });
    appliance.understudy(args!["demote", "v"]).expect_code(2);
    appliance.understudy(args!["demote", "v", "--discard"]).expect_code(0);
    tap.wait_phase("following");
    tap.stop();
}

#[test]
fn a_failback_that_is_killed_is_made_up_for() {
    let lab = Lab::new();
    let (appliance, tap) = orphaned(&lab);
    let (volume, expected) = (tap.volume().to_path_buf(), expected(&lab, tap.volume()));
    let promoted = promote(&appliance, &[]).expect_code(0);
    write(&appliance.uri(&export(&promoted)), &HERE);
    for bytes in [100, 300, 500, 700, 1000, 1500] {
        let proxy = Proxy::hold_after(appliance.address(), bytes);
        let mut running = failback(&lab, &appliance, &volume, &["--to", proxy.address()]).start();
        match running.is_held(&proxy) {
            true => running.kill(),
            false => running.finish().expect_code(0),
        };
    }
    failback(&lab, &appliance, &volume, &["--verify"]).run().expect_code(0);
    assert_eq!(std::fs::read(&volume).unwrap(), std::fs::read(&expected).unwrap());
}

#[test]
fn another_host_becomes_the_primary() {
    let lab = Lab::new();
    let (appliance, tap) = orphaned(&lab);
    let expected = expected(&lab, tap.volume());
    let promoted = promote(&appliance, &[]).expect_code(0);
    write(&appliance.uri(&export(&promoted)), &HERE);
    let new = lab.file("new.raw");
    let run = args!["failback", "v", &new, "--json", "--state", lab.file("another state")];
    let done = appliance.initiator(run).run().expect_code(0);
    assert!(done.all().contains("nothing is known here"), "{done}");
    assert_eq!(std::fs::read(&new).unwrap(), std::fs::read(&expected).unwrap());
}
