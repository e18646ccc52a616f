//! Continuous replication: what is written through a tap is at the appliance, whatever happens to tap, network and appliance meanwhile,
//! and no more is read than has to be.

use std::path::PathBuf;

use serde_json::Value;
use understudy_tests::image::{self, Filesystem, MIB, WITNESS};
use understudy_tests::wait::wait_until;
use understudy_tests::{Appliance, Lab, NbdFuse, Proxy, Rng, Run, Tap, args, count, have_root, seed};

/// Accidents in a run of `make test`; `UNDERSTUDY_TEST_ROUNDS` says how many in others.
const ROUNDS: u64 = 4;
/// Of the journal, where it is to be full soon.
const SMALL: &str = "16M";

fn rounds() -> u64 {
    std::env::var("UNDERSTUDY_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS)
}

fn volume(lab: &Lab, size: u64) -> PathBuf {
    let volume = lab.file("primary.raw");
    image::mixed(&volume, size, &mut Rng::new(seed()));
    volume
}

/// Random writes and flushes over the first bytes of the volume, each block once and 16 MiB a second, and all of them read again and checked.
fn fio(tap: &Tap, megabytes: u32) -> Run {
    let job = args![
        "--name=t",
        "--thread",
        "--ioengine=nbd",
        format!("--uri={}", tap.uri()),
        "--rw=randwrite",
        "--bs=4k",
        "--iodepth=16",
        "--fsync=256",
        format!("--size={megabytes}m"),
        "--rate=,16m",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--verify_state_save=0",
        format!("--randseed={}", seed() % 1_000_000),
    ];
    Run::peer("fio").args(job)
}

/// Waits until what was written so far can be made a point that is the volume; nobody writes meanwhile.
#[track_caller]
fn assert_follows(appliance: &Appliance, tap: &Tap) {
    wait_until("the newest point is the volume", || {
        let folded = appliance.upkeep(&["fold", "v"]);
        if folded.code != Some(0) {
            return Err(folded.to_string());
        }
        let compared = appliance.understudy(args!["verify", tap.volume(), "v"]);
        if compared.code == Some(0) { Ok(()) } else { Err(compared.to_string()) }
    });
}

/// The streams that it told of since it was started last.
fn streams(tap: &Tap) -> Vec<Value> {
    tap.events_since_start().into_iter().filter(|event| event["event"] == "stream").collect()
}

#[test]
fn what_is_written_is_at_the_appliance() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let mut tap = Tap::start(&lab, &volume(&lab, 64 * MIB), appliance.address(), &[]);
    tap.wait_phase("following");
    assert_eq!(streams(&tap)[0]["kind"], "full");
    tap.io(&["write -P 0x11 64k 1M", "write -z 8M 1M", "discard 16M 2M", "write -P 0x22 1000k 8k", "flush"]);
    assert_follows(&appliance, &tap);
    appliance.assert_secondary("v", tap.volume());
    tap.stop();
}

#[test]
fn a_baseline_under_writes_is_one_moment() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let volume = volume(&lab, 256 * MIB);
    let mut tap = Tap::start(&lab, &volume, appliance.address(), &[]);
    let writing = fio(&tap, 64).start();
    tap.wait_phase("following");
    assert!(!writing.has_ended(), "the baseline was made while fio wrote");
    writing.finish().expect_code(0);
    assert_follows(&appliance, &tap);
    tap.stop();
}

#[test]
fn a_filesystem_in_use_is_consistent_at_every_point() {
    if !have_root("a kernel filesystem on the tap") {
        return;
    }
    let (lab, mut rng) = (Lab::new(), Rng::new(seed()));
    let volume = lab.file("primary.raw");
    Filesystem::Ext4.make(&volume, lab.path(), &mut rng);
    let appliance = Appliance::start(&lab);
    let mut tap = Tap::start(&lab, &volume, appliance.address(), &[]);
    let fuse = NbdFuse::writable(&tap.uri(), &lab.dir("fuse"));
    let mount = Filesystem::Ext4.mount(&fuse.disk(), &lab.dir("mount"));
    let mut days = 0;
    wait_until("the baseline is stored, while files change", || {
        days += 1;
        std::fs::write(mount.path().join(format!("new {}", days % 50)), rng.bytes(200_000)).expect("a new file");
        image::patch(&mount.path().join(WITNESS), rng.below(2_900_000), &rng.bytes(5_000));
        match tap.phase().as_deref() {
            Some("following") => Ok(()),
            other => Err(format!("the tap is {other:?}")),
        }
    });
    check_point(&lab, &appliance, "v@1");
    image::patch(&mount.path().join(WITNESS), 1000, &rng.bytes(5_000));
    appliance.upkeep(&["fold", "v"]).expect_code(0);
    check_point(&lab, &appliance, "v");
    mount.unmount();
    drop(fuse);
    assert_follows(&appliance, &tap);
    tap.stop();
}

/// The point is a filesystem that was cut off: its journal is replayed, and then it is whole.
#[track_caller]
fn check_point(lab: &Lab, appliance: &Appliance, point: &str) {
    let copy = lab.file("copy.img");
    let _ = std::fs::remove_file(&copy);
    appliance.understudy(args!["restore", point, &copy]).expect_code(0);
    // It says 1 when it replayed the journal.
    Run::peer("e2fsck").args(args!["-f", "-p", &copy]).run().expect_codes(&[0, 1]);
    Run::peer("e2fsck").args(args!["-f", "-n", &copy]).run().expect_code(0);
}

#[test]
fn after_a_clean_end_nothing_is_read() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let mut tap = Tap::start(&lab, &volume(&lab, 64 * MIB), appliance.address(), &[]);
    tap.wait_phase("following");
    for byte in 1..4 {
        tap.io(&[&format!("write -P {byte} {byte}M 300k")]);
        tap.stop();
        tap.restart();
        tap.wait_phase("following");
        assert_eq!(streams(&tap), Vec::<Value>::new(), "nothing is read: {:?}", tap.events_since_start());
    }
    assert_follows(&appliance, &tap);
}

#[test]
fn who_wrote_past_the_tap_is_noticed() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let mut tap = Tap::start(&lab, &volume(&lab, 64 * MIB), appliance.address(), &[]);
    tap.wait_phase("following");
    tap.stop();
    image::patch(tap.volume(), 5 * MIB, b"written past the tap");
    tap.restart();
    tap.wait_phase("following");
    let streams = streams(&tap);
    assert!(streams[0]["reason"].as_str().is_some_and(|why| why.contains("written to")), "{streams:?}");
    assert_eq!(count(&streams[0], "bytes"), 64 * MIB, "everything is compared");
    assert_follows(&appliance, &tap);
}

#[test]
fn a_tap_that_is_killed_reads_what_is_uncertain_and_no_more() {
    let (lab, mut rng) = (Lab::new(), Rng::new(seed()));
    let appliance = Appliance::start(&lab);
    let mut tap = Tap::start(&lab, &volume(&lab, 256 * MIB), appliance.address(), &[]);
    tap.wait_phase("following");
    for _ in 0..rounds() {
        let writing = fio(&tap, 16).start();
        let enough = rng.below(1000);
        let before = tap.written();
        wait_until("some of it is written", || match tap.written() - before {
            written if written > enough << 12 => Ok(()),
            written => Err(format!("{written} bytes")),
        });
        tap.kill();
        // What it makes of a server that is gone is its own affair.
        writing.kill();
        tap.restart();
        tap.wait_phase("following");
        for stream in streams(&tap) {
            assert_eq!(stream["kind"], "incremental", "{stream}");
            // With the extents that were made ready to be written to: 32 MiB ahead of the last one.
            assert!(count(&stream, "bytes") <= 52 * MIB, "only what was written lately is read: {stream}");
        }
        assert_follows(&appliance, &tap);
    }
}

#[test]
fn an_appliance_that_is_killed_is_caught_up_with_from_the_journal() {
    let lab = Lab::new();
    let mut appliance = Appliance::start(&lab);
    let mut tap = Tap::start(&lab, &volume(&lab, 64 * MIB), appliance.address(), &[]);
    tap.wait_phase("following");
    for byte in 1..=rounds() {
        let writing = fio(&tap, 32).start();
        appliance.kill();
        writing.finish().expect_code(0);
        tap.io(&[&format!("write -P {byte} 40M 2M"), "flush"]);
        appliance.restart();
        assert_follows(&appliance, &tap);
    }
    assert_eq!(streams(&tap).len(), 1, "nothing but the baseline was read: {:?}", tap.events());
}

#[test]
fn a_journal_that_is_full_is_given_up_and_what_was_written_is_read() {
    let lab = Lab::new();
    let mut appliance = Appliance::start(&lab);
    let mut tap = Tap::start(&lab, &volume(&lab, 128 * MIB), appliance.address(), &["--journal-max", SMALL]);
    tap.wait_phase("following");
    appliance.stop();
    tap.io(&["write -P 0x41 0 12M", "write -P 0x42 6M 12M", "flush", "write -P 0x43 100M 4M", "flush"]);
    tap.wait_phase("dirty");
    tap.io(&["write -P 0x44 90M 1M", "flush"]);
    appliance.restart();
    tap.wait_phase("following");
    let stream = streams(&tap).pop().expect("a resynchronisation");
    assert_eq!(stream["kind"], "incremental");
    assert!(stream["reason"].as_str().is_some_and(|why| why.contains("limit")), "{stream}");
    let read = count(&stream, "bytes");
    assert!((23 * MIB..40 * MIB).contains(&read), "what was written is read, {read} bytes: {stream}");
    assert_follows(&appliance, &tap);
}

#[test]
fn dirty_blocks_outlive_the_tap() {
    let lab = Lab::new();
    let mut appliance = Appliance::start(&lab);
    let mut tap = Tap::start(&lab, &volume(&lab, 128 * MIB), appliance.address(), &["--journal-max", SMALL]);
    tap.wait_phase("following");
    appliance.stop();
    tap.io(&["write -P 0x41 0 12M", "write -P 0x42 32M 12M", "flush"]);
    tap.wait_phase("dirty");
    tap.kill();
    tap.restart();
    tap.wait_phase("dirty");
    tap.io(&["write -P 0x43 100M 1M", "flush"]);
    tap.stop();
    tap.restart();
    appliance.restart();
    tap.wait_phase("following");
    assert_follows(&appliance, &tap);
}

#[test]
fn a_resynchronisation_goes_on_where_the_line_broke() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let proxy = Proxy::break_after(appliance.address(), &[8 << 20, 20 << 20]);
    let volume = lab.file("primary.raw");
    image::random(&volume, 64 * MIB, &mut Rng::new(seed()));
    let mut tap = Tap::start(&lab, &volume, proxy.address(), &[]);
    tap.io(&["write -P 0x11 1M 1M", "write -P 0x12 60M 1M", "flush"]);
    tap.wait_phase("following");
    assert!(tap.count("resume") > 0, "{:?}", tap.events());
    assert!(proxy.passed() < 110 << 20, "what was durable is not sent again: {} bytes passed", proxy.passed());
    assert_follows(&appliance, &tap);
}

#[test]
fn what_a_flush_acknowledged_is_at_the_appliance() {
    let (lab, mut rng) = (Lab::new(), Rng::new(seed()));
    let appliance = Appliance::start(&lab);
    let mut tap = Tap::start(&lab, &volume(&lab, 64 * MIB), appliance.address(), &["--sync", "flush"]);
    tap.wait_phase("following");
    for round in 1..=4 * rounds() {
        let (at, byte) = (rng.below(1000) * 65536, round % 250 + 1);
        tap.io(&[&format!("write -P {byte} {at} 64k"), "flush"]);
        // The primary is gone, with whatever it had.
        tap.kill();
        let moment = lab.file("moment.raw");
        let _ = std::fs::remove_file(&moment);
        appliance.understudy(args!["restore", "v@now", &moment]).expect_code(0);
        let found = &std::fs::read(&moment).expect("the moment")[at as usize..][..65536];
        assert!(
            found.iter().all(|found| u64::from(*found) == byte),
            "round {round}: what was flushed is at the appliance"
        );
        tap.restart();
        tap.wait_phase("following");
    }
    assert_follows(&appliance, &tap);
}

#[test]
fn a_volume_has_one_tap() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let tap = Tap::start(&lab, &volume(&lab, 4 * MIB), appliance.address(), &[]);
    let state = lab.file("tap state");
    let other = args!["tap", tap.volume(), "--volume", "v", "--serve", "unix:other.sock", "--state", state];
    appliance.understudy(other).expect_refusal().says("another tap");
}

#[test]
fn other_hosts_are_not_served_in_the_clear() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let volume = volume(&lab, 4 * MIB);
    let open = args!["tap", &volume, "--volume", "v", "--serve", "0.0.0.0:0", "--state", lab.file("state of it")];
    appliance.understudy(open).expect_refusal().says("--tls-certificates");
}
