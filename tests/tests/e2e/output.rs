//! What programs and people read: JSON lines with the documented fields, and text that says the same.

use understudy_tests::image::{self, MIB};
use understudy_tests::{Appliance, Lab, Rng, args, compare, count, seed, text};

const COUNTS: [&str; 9] = [
    "point",
    "blocks_total",
    "blocks_read",
    "blocks_zero",
    "blocks_changed",
    "blocks_sent",
    "blocks_deduplicated",
    "bytes_read",
    "bytes_sent",
];

fn scene(lab: &Lab) -> Appliance {
    let appliance = Appliance::start(lab);
    image::mixed(&lab.file("source.raw"), 24 * MIB, &mut Rng::new(seed()));
    appliance
}

#[test]
fn a_run_in_json_begins_with_start_ends_with_summary_and_adds_up() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    let outcome = appliance.try_replicate(&lab.file("source.raw"), "v", &[]).expect_code(0);
    let events = outcome.events();
    assert_eq!(events[0]["event"], "start", "{outcome}");
    assert_eq!(events[0]["kind"], "full", "{outcome}");
    assert!(events[0]["base"].is_null(), "a full has no base: {outcome}");
    assert!(!text(&events[0], "reason").is_empty(), "{outcome}");
    let mut before = 0;
    for event in events.iter().filter(|event| event["event"] == "progress") {
        let (done, total) = (count(event, "bytes_done"), count(event, "bytes_total"));
        count(event, "bytes_sent");
        assert!(before <= done && done <= total, "progress goes forward, up to its end: {outcome}");
        before = done;
    }
    let summary = outcome.summary();
    for key in COUNTS {
        summary.count(key);
    }
    assert_eq!(summary.text("volume"), "v");
    assert_eq!(summary.text("root").len(), 64, "{outcome}");
    assert_eq!(summary.count("blocks_total"), 384, "{outcome}");
    assert_eq!(summary.count("blocks_zero"), 128, "a third is holes: {outcome}");
    let moved = summary.count("blocks_sent") + summary.count("blocks_deduplicated");
    assert_eq!(moved, 256, "what is not zero was sent or was there already: {outcome}");
    let last = events.last().expect("events");
    assert!(last["ratio"].is_number() && last["seconds"].is_number(), "{outcome}");

    let second = appliance.try_replicate(&lab.file("source.raw"), "v", &[]).expect_code(0);
    assert_eq!(count(&second.events()[0], "base"), 1, "an increment names its base: {second}");
}

#[test]
fn volumes_and_points_show_the_documented_fields() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    let source = lab.file("source.raw");
    let root = appliance.replicate_with(&source, "v", &["--label", "opening"]).text("root").to_string();
    appliance.settle("v");
    let volume = appliance.find_volume("v").expect("the volume is listed");
    assert_eq!(text(&volume, "newest_root"), root, "{volume}");
    assert_eq!(count(&volume, "size"), compare::size(&source), "{volume}");
    assert_eq!(count(&volume, "block_size"), 65536, "{volume}");
    assert_eq!((count(&volume, "points"), count(&volume, "newest")), (1, 1), "{volume}");
    assert_eq!(text(&volume, "uuid").len(), 36, "{volume}");
    assert_eq!(text(&volume["secondary"], "mode"), "native", "{volume}");
    assert_eq!(text(&volume["secondary"], "settled_root"), root, "{volume}");
    assert_eq!(count(&volume["secondary"], "behind_blocks"), 0, "{volume}");
    let points = appliance.points("v");
    let point = &points[0];
    assert_eq!((text(point, "root"), text(point, "label")), (root.as_str(), "opening"), "{point}");
    assert!(point["base"].is_null(), "a full has no base: {point}");
    assert!((256..=384).contains(&count(point, "changed_blocks")), "two thirds are data: {point}");
    assert!(count(point, "stored_bytes") > 8 * MIB, "a third is incompressible: {point}");
    let time = text(point, "time");
    assert!(time.len() >= 20 && time.contains('T') && time.ends_with('Z'), "RFC 3339: {point}");
}

#[test]
fn plain_text_says_the_same() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    let source = lab.file("source.raw");
    let run = appliance.understudy(args!["replicate", &source, "--volume", "v", "--label", "opening"]).expect_code(0);
    let root = appliance.points("v")[0]["root"].as_str().expect("a root").to_string();
    let run = run.says("full").says("v@1").says(&root[..12]);
    assert!(!run.all().contains('\u{1b}'), "no escape codes where there is no terminal: {run}");
    appliance.understudy(args!["volumes"]).expect_code(0).says("v").says("native");
    appliance.understudy(args!["points", "v"]).expect_code(0).says("opening").says("full");
}

#[test]
fn an_appliance_without_volumes_has_an_empty_list() {
    let lab = Lab::new();
    let appliance = Appliance::start(&lab);
    let outcome = appliance.understudy(args!["volumes", "--json"]).expect_code(0);
    assert_eq!(outcome.json().as_array().map(Vec::len), Some(0), "{outcome}");
    appliance.understudy(args!["volumes"]).expect_code(0);
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    appliance.replicate(&lab.file("source.raw"), "v");
    let words = appliance.initiator(args!["volumes", "--json"]).words();
    let script = r#""$@" | true"#;
    let outcome = understudy_tests::Run::peer("bash").args(args!["-c", script, "bash"]).args(words).run();
    assert!(!outcome.stderr.contains("panicked"), "{outcome}");
}
