//! Points that may be written: scratch overlays against clients that are not ours. What was written is there until it is
//! discarded, and the point below never changes.

use serde_json::Value;
use understudy_tests::image::{self, MIB};
use understudy_tests::{Appliance, Lab, Outcome, Rng, Run, TOOLS, args, compare, count, pool_check, seed, tool};

const SYSTEM_PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

/// A volume `v` with two points, the source of the newer one beside it as `source.raw`.
fn scene(lab: &Lab) -> Appliance {
    let appliance = Appliance::start(lab);
    let source = lab.file("source.raw");
    let mut rng = Rng::new(seed());
    image::mixed(&source, 16 * MIB + 512, &mut rng);
    appliance.replicate(&source, "v");
    image::scribble(&source, 3 * MIB, 100_000, &mut rng);
    appliance.replicate(&source, "v");
    appliance
}

fn qemu_io(uri: &str, commands: &[&str]) -> Outcome {
    let commands = commands.iter().flat_map(|command| args!["-c", *command]);
    let outcome = Run::peer("qemu-io").args(args!["-f", "raw"]).args(commands).args(args![uri]).run().expect_code(0);
    assert!(!outcome.all().contains("failed"), "{outcome}");
    outcome
}

fn nbdsh(uri: &str, script: &str) -> Outcome {
    Run::peer("nbdsh").env("PATH", SYSTEM_PATH).args(args!["-u", uri, "-c", script]).run().expect_code(0)
}

fn overlays(appliance: &Appliance) -> Vec<Value> {
    let outcome = appliance.understudy(args!["attach", "overlays", "--json"]).expect_code(0);
    outcome.json().as_array().cloned().unwrap_or_else(|| panic!("not a JSON array: {outcome}"))
}

/// The point is what it was, proven from the appliance's side and from a client's.
fn assert_untouched(lab: &Lab, appliance: &Appliance) {
    appliance.understudy(args!["verify", lab.file("source.raw"), "v@2"]).expect_code(0);
    appliance.assert_export(lab, "v@2", &lab.file("source.raw"));
}

#[test]
fn qemu_io_writes_discards_and_zeroes_and_a_killed_daemon_loses_nothing_of_it() {
    let lab = Lab::new();
    let mut appliance = scene(&lab);
    let uri = appliance.uri("v@2+w");
    qemu_io(
        &uri,
        &[
            "write -P 0xab 1000k 300k",
            "write -P 0x17 5000 700",
            "discard 4M 256k",
            "write -z 6M 100k",
            "write -z -u 8M 64k",
        ],
    );
    let expected = image::keep(&lab.file("source.raw"), &lab.file("expected.raw"));
    let (kib, bytes) = (1024, |byte: u8, count: usize| vec![byte; count]);
    image::patch(&expected, 1000 * kib, &bytes(0xab, 300 << 10));
    image::patch(&expected, 5000, &bytes(0x17, 700));
    image::patch(&expected, 4 * MIB, &bytes(0, 256 << 10));
    image::patch(&expected, 6 * MIB, &bytes(0, 100 << 10));
    image::patch(&expected, 8 * MIB, &bytes(0, 64 << 10));
    appliance.assert_export(&lab, "v@2+w", &expected);
    // Nothing was flushed: only a loss of power takes that.
    appliance.kill();
    appliance.restart();
    appliance.assert_export(&lab, "v@2+w", &expected);
    // Nor does an orderly end.
    qemu_io(&appliance.uri("v@2+w"), &["write -P 0x55 9M 5000"]);
    image::patch(&expected, 9 * MIB, &bytes(0x55, 5000));
    appliance.stop();
    appliance.assert_pool_sound();
    appliance.restart();
    appliance.assert_export(&lab, "v@2+w", &expected);
    assert_untouched(&lab, &appliance);
}

#[test]
fn fio_verifies_what_it_wrote() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    let job = lab.write(
        "job.fio",
        format!(
            // Blocks of nine sectors: most of them are parts of two granules.
            "[scratch]\nioengine=nbd\nuri={}\nrw=randrw\nrwmixread=30\nbs=4608\nsize=16m\niodepth=32\n\
             verify=crc32c\nverify_fatal=1\ndo_verify=1\nverify_state_save=0\nfsync=64\nrandseed={}\n",
            appliance.uri("v@2+w"),
            seed() % 1_000_000
        ),
    );
    Run::peer("fio").args(args!["--minimal", &job]).run().expect_code(0);
    assert_untouched(&lab, &appliance);
}

#[test]
fn an_overlay_says_what_it_can_do_and_is_listed() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    assert!(overlays(&appliance).is_empty());
    let outcome = tool("nbdinfo", args!["--json", appliance.uri("v+w")]);
    let export = &outcome.json()["exports"][0];
    assert_eq!(export["export-name"], "v@2+w", "the newest point at that moment: {outcome}");
    assert_eq!(export["is_read_only"], false, "{outcome}");
    for ability in ["can_flush", "can_fua", "can_trim", "can_zero", "can_fast_zero", "can_multi_conn"] {
        assert_eq!(export[ability], true, "{ability}: {outcome}");
    }
    let listed = tool("nbdinfo", args!["--list", "--json", appliance.uri("")]).out();
    assert!(listed.contains("v@2+w") && !listed.contains("v@1+w"), "{listed}");
    let listed = overlays(&appliance);
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0]["overlay"], &listed[0]["written_bytes"]), (&Value::from("v@2+w"), &Value::from(0)));
}

#[test]
fn all_who_open_an_overlay_share_it() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    let script = r#"
other = nbd.NBD()
other.connect_uri(URI)
h.pwrite(b"x" * 5000, 123)
assert other.pread(5000, 123) == b"x" * 5000, "one sees what the other wrote"
other.flush()
h.zero(4096 * 4, 0, nbd.CMD_FLAG_FAST_ZERO)
assert other.pread(8192, 0) == bytes(8192)
h.pwrite(b"y", 16 * 1024 * 1024 + 511, nbd.CMD_FLAG_FUA)
try:
    h.set_strict_mode(0)
    h.pwrite(b"yy", 16 * 1024 * 1024 + 511)
    raise Exception("a write past the end")
except nbd.Error as error:
    assert error.errno == "ENOSPC", error
"#;
    nbdsh(&appliance.uri("v@1+w"), &script.replace("URI", &format!("{:?}", appliance.unix_uri("v@1+w"))));
}

#[test]
fn a_kept_overlay_is_a_volume_like_any_other() {
    let lab = Lab::new();
    let mut appliance = scene(&lab);
    qemu_io(&appliance.uri("v@2+w"), &["write -P 0x31 777 100k", "write -z 3M 1M", "flush"]);
    let expected = image::keep(&lab.file("source.raw"), &lab.file("expected.raw"));
    image::patch(&expected, 777, &vec![0x31; 100 << 10]);
    image::patch(&expected, 3 * MIB, &vec![0; 1 << 20]);
    let keep = args!["attach", "keep", "v@2", "--as", "branch", "--label", "tried", "--json"];
    let kept = appliance.understudy(keep.clone()).expect_code(0).events().remove(0);
    assert!(count(&kept, "changed_blocks") <= 19, "at the cost of what was written: {kept}");
    assert!(count(&kept, "new_bytes") <= 3 * 65536, "{kept}");
    appliance.understudy(keep).expect_refusal().says("there is a volume branch already");
    appliance.understudy(args!["verify", &expected, "branch@tried"]).expect_code(0);
    appliance.assert_export(&lab, "branch", &expected);
    appliance.assert_secondary("branch", &expected);
    // It goes on like any volume: an increment, and back.
    image::scribble(&expected, 9 * MIB, 70_000, &mut Rng::new(5));
    appliance.replicate(&expected, "branch").expect_kind("incremental").expect_count("blocks_changed", 1..4);
    appliance.understudy(args!["restore", "branch", lab.file("restored.raw")]).expect_code(0);
    compare::assert_same(&lab.file("restored.raw"), &expected, "the kept volume, restored");
    // It needs neither the overlay nor the volume that it came of.
    appliance.understudy(args!["attach", "discard", "v@2", "--force"]).expect_code(0);
    appliance.upkeep(&["remove", "v", "--force"]).expect_code(0);
    appliance.upkeep(&["collect", "--dead-max", "0"]).expect_code(0);
    appliance.assert_export(&lab, "branch@2", &expected);
    appliance.stop();
    appliance.assert_pool_sound();
}

#[test]
fn a_point_with_an_overlay_is_kept_until_that_is_discarded() {
    let lab = Lab::new();
    let mut appliance = scene(&lab);
    qemu_io(&appliance.uri("v@1+w"), &["write -P 0x31 0 8M", "flush"]);
    for running in [true, false] {
        if !running {
            appliance.stop();
        }
        appliance.upkeep(&["prune", "--keep-last", "1"]).expect_code(0).says("keep: in use: a scratch overlay");
        let refused = appliance.upkeep(&["remove", "v@1"]).expect_refusal();
        refused.says("v@1 is in use by a scratch overlay").says("understudy attach discard v@1");
    }
    appliance.restart();
    let taken = compare::disk_usage(&appliance.pool().join("overlays"));
    assert!(taken >= 8 * MIB, "{taken} bytes");
    appliance.understudy(args!["attach", "discard", "v@1"]).expect_refusal().says("--force").says("attach keep v@1");
    appliance.understudy(args!["attach", "discard", "v@1+w", "--force"]).expect_code(0).says("v@1+w is discarded");
    assert!(compare::disk_usage(&appliance.pool().join("overlays")) < MIB, "the space is given back at once");
    appliance.understudy(args!["attach", "discard", "v@1", "--force"]).expect_refusal().says("no scratch overlay");
    appliance.upkeep(&["prune", "--keep-last", "1"]).expect_code(0).says("removed");
    assert_untouched(&lab, &appliance);
}

#[test]
fn collecting_scrubbing_and_rebuilding_leave_overlays_alone() {
    let lab = Lab::new();
    let mut appliance = scene(&lab);
    qemu_io(&appliance.uri("v@1+w"), &["write -P 0x77 1M 1M", "flush"]);
    let seen = lab.file("seen.raw");
    tool("nbdcopy", args![appliance.uri("v@1+w"), &seen]);
    appliance.upkeep(&["collect", "--dead-max", "0"]).expect_code(0);
    appliance.upkeep(&["scrub"]).expect_code(0);
    appliance.assert_export(&lab, "v@1+w", &seen);
    appliance.stop();
    appliance.lose_index();
    std::fs::remove_file(appliance.pool().join("pool")).expect("a file can be lost");
    Run::ours(TOOLS).args(args!["pool", "rebuild", appliance.pool()]).run().expect_code(0);
    pool_check(appliance.pool()).expect_code(0);
    appliance.restart();
    appliance.assert_export(&lab, "v@1+w", &seen);
}
