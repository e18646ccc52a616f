//! What is large works, and costs what it should: memory that does not follow the size, increments that follow the change.
//!
//! The sizes here are small but for the volume of 64 TiB, which is a hole and costs nothing; `make scale` runs the large ones.

use serde_json::Value;
use understudy_tests::{Lab, Outcome, Run, TOOLS, args, count, text};

/// The most memory that either program may have, bytes.
const MEMORY_MAX: u64 = 256 << 20;

/// Runs a part; every row of it keeps the bound of memory.
fn scale(lab: &Lab, part: &str, size: [&str; 2]) -> Vec<Value> {
    let run = Run::ours(TOOLS).args(args!["scale", "--json", "--dir", lab.path(), "--only", part, size[0], size[1]]);
    let outcome = run.limit(300).run().expect_code(0);
    let rows = outcome.events();
    rows.iter().for_each(|row| keeps_the_bound(row, &outcome));
    rows
}

#[track_caller]
fn keeps_the_bound(row: &Value, outcome: &Outcome) {
    for key in ["understudyd_peak_bytes", "understudy_peak_bytes"] {
        let peak = row[key].as_u64().unwrap_or(0);
        assert!(peak <= MEMORY_MAX, "{key} is {peak}: {row}{outcome}");
    }
}

#[track_caller]
fn has(rows: &[Value], what: &str) {
    assert!(rows.iter().any(|row| text(row, "what") == what), "no row {what:?}: {rows:?}");
}

#[test]
fn many_unique_blocks_are_taken_found_again_and_given_back() {
    let rows = scale(&Lab::new(), "blocks", ["--blocks", "100000"]);
    has(&rows, "start after kill -9 in the middle of a stream");
    has(&rows, "a full into a third volume whose blocks are all there");
    has(&rows, "start of the daemon after that");
}

#[test]
fn many_points_are_made_listed_opened_and_pruned() {
    let rows = scale(&Lab::new(), "points", ["--points", "300"]);
    has(&rows, "open the middle point over NBD, read 4 KiB");
    has(&rows, "collect");
}

#[test]
fn a_volume_of_64_tib_is_replicated_verified_restored_and_exported() {
    let rows = scale(&Lab::new(), "sparse", ["--sparse", "64T"]);
    has(&rows, "incremental, nothing changed");
    let exported = rows.iter().find(|row| text(row, "what").starts_with("open over NBD"));
    assert_eq!(text(exported.expect("it was exported"), "note"), format!("{} bytes exported", 64_u64 << 40));
}

#[test]
fn an_increment_costs_what_changed() {
    let rows = scale(&Lab::new(), "curve", ["--changes", "100"]);
    let changed: Vec<u64> = rows.iter().map(|row| count(row, "changed_blocks")).collect();
    assert_eq!(changed, [1, 10, 100]);
    for row in &rows {
        // A block of which 4 KiB cannot be compressed, and the pages of three levels above it.
        let (changed, each) = (count(row, "changed_blocks"), count(row, "segment_bytes_per_block"));
        assert!(each <= 5000 + 3 * 8400 + 24_576 / changed, "{row}");
    }
}
