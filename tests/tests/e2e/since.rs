//! Differences of two points as dirty bitmaps (`qemu:dirty-bitmap:since-POINT`), pulled by tools that are not ours.

use std::path::Path;

use understudy_tests::image::{self, MIB};
use understudy_tests::wait::wait_until;
use understudy_tests::{Appliance, Lab, Outcome, Rng, Run, args, compare, count, seed, tool};

const BLOCK: usize = 65536;
/// Debian's libnbd tools need Debian's Python.
const SYSTEM_PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

fn context(point: u64) -> String {
    format!("qemu:dirty-bitmap:since-{point}")
}

/// Replicates what the source is now, and keeps it as `kept POINT`.
fn act(lab: &Lab, appliance: &Appliance, point: u64) {
    appliance.replicate(&lab.file("source.raw"), "v");
    image::keep(&lab.file("source.raw"), &lab.file(&format!("kept {point}")));
}

/// Three points: what changed are bytes here and there, a run that became zero, and a run that was.
fn scene(lab: &Lab) -> Appliance {
    let (appliance, source, mut rng) = (Appliance::start(lab), lab.file("source.raw"), Rng::new(seed()));
    image::mixed(&source, 16 * MIB + 512, &mut rng);
    act(lab, &appliance, 1);
    for at in [0, 5 * MIB + 7, 16 * MIB + 100] {
        image::patch(&source, at, b"another line");
    }
    act(lab, &appliance, 2);
    image::patch(&source, 0, &vec![0; MIB as usize]);
    image::scribble(&source, 9 * MIB, 3 * MIB, &mut rng);
    act(lab, &appliance, 3);
    appliance
}

/// The blocks of one file that differ from another's.
fn differing(one: &Path, other: &Path) -> Vec<bool> {
    let read = |path: &Path| std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (one, other) = (read(one), read(other));
    let block = |of: &[u8], at: usize| of[(at * BLOCK).min(of.len())..((at + 1) * BLOCK).min(of.len())].to_vec();
    (0..one.len().div_ceil(BLOCK)).map(|at| block(&one, at) != block(&other, at)).collect()
}

/// The blocks that are dirty by `nbdinfo --map`.
fn dirty(appliance: &Appliance, export: &str, since: u64) -> Vec<bool> {
    let map = format!("--map={}", context(since));
    let outcome = tool("nbdinfo", args![map, "--json", appliance.uri(export)]);
    let mut blocks = Vec::new();
    for extent in outcome.json().as_array().expect("a list of extents") {
        let end = (count(extent, "offset") + count(extent, "length")).div_ceil(BLOCK as u64);
        blocks.resize(end as usize, extent["type"] == 1);
    }
    blocks
}

#[test]
fn nbdinfo_maps_what_a_comparison_of_the_bytes_finds_in_both_directions() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    for (export, since) in [(2, 1), (3, 1), (3, 2), (1, 3), (2, 3), (1, 2)] {
        let expected = differing(&lab.file(&format!("kept {export}")), &lab.file(&format!("kept {since}")));
        let found = dirty(&appliance, &format!("v@{export}"), since);
        assert_eq!(found, expected, "v@{export} since {since}");
        assert!(found.contains(&true) && found.contains(&false));
    }
}

#[test]
fn a_copy_of_one_point_becomes_another_by_reading_what_is_dirty() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    let script = r#"
h.add_meta_context("base:allocation")
h.add_meta_context(CONTEXT)
h.connect_uri(URI)
runs = []
def note(name, offset, entries, error):
    for length, flags in zip(entries[::2], entries[1::2]):
        if name == CONTEXT:
            runs.append((offset, length, flags))
        offset += length
at, size, read = 0, h.get_size(), 0
while at < size:
    h.block_status(min(size - at, 1 << 30), at, note)
    at = sum(length for _, length, _ in runs)
with open(COPY, "r+b") as copy:
    for offset, length, flags in runs:
        if flags:
            copy.seek(offset)
            copy.write(h.pread(length, offset))
            read += length
assert read < size / 2, read
"#;
    for (from, to) in [(1, 3), (3, 1)] {
        let copy = image::keep(&lab.file(&format!("kept {from}")), &lab.file("copy.raw"));
        let script = script.replace("CONTEXT", &format!("{:?}", context(from)));
        let script = script.replace("URI", &format!("{:?}", appliance.uri(&format!("v@{to}"))));
        let script = script.replace("COPY", &format!("{:?}", copy.display().to_string()));
        Run::peer("nbdsh").env("PATH", SYSTEM_PATH).args(args!["-c", script]).run().expect_code(0);
        compare::assert_same(&copy, &lab.file(&format!("kept {to}")), "only what is dirty was read");
    }
}

#[test]
fn qemu_shows_the_difference_as_a_dirty_bitmap() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    let (host, port) = appliance.nbd_address().rsplit_once(':').expect("HOST:PORT");
    let image = format!("driver=nbd,host={host},port={port},export=v@2,x-dirty-bitmap={}", context(1));
    let outcome = tool("qemu-img", args!["map", "--output=json", "--image-opts", image]);
    // With x-dirty-bitmap, qemu shows what is dirty as not being data.
    let mut found = vec![false; 257];
    for extent in outcome.json().as_array().expect("a list of extents").iter().filter(|extent| extent["data"] == false)
    {
        let (start, length) = (count(extent, "start") as usize, count(extent, "length") as usize);
        found[start / BLOCK..(start + length).div_ceil(BLOCK)].fill(true);
    }
    assert_eq!(found, differing(&lab.file("kept 2"), &lab.file("kept 1")), "{outcome}");
}

#[test]
fn volumes_that_grew_or_shrank_in_between_differ_where_the_other_has_nothing() {
    let lab = Lab::new();
    let (appliance, source, mut rng) = (Appliance::start(&lab), lab.file("source.raw"), Rng::new(seed()));
    image::random(&source, 2 * MIB + 512, &mut rng);
    act(&lab, &appliance, 1);
    image::resize(&source, 5 * MIB);
    act(&lab, &appliance, 2);
    image::resize(&source, MIB + 1024);
    act(&lab, &appliance, 3);
    for (export, since) in [(2, 1), (1, 2), (3, 1), (1, 3), (2, 3), (3, 2)] {
        let expected = differing(&lab.file(&format!("kept {export}")), &lab.file(&format!("kept {since}")));
        assert_eq!(dirty(&appliance, &format!("v@{export}"), since), expected, "v@{export} since {since}");
    }
}

fn shown(appliance: &Appliance, export: &str) -> Vec<String> {
    let outcome = tool("nbdinfo", args!["--json", appliance.uri(export)]);
    let contexts = outcome.json()["exports"][0]["contexts"].as_array().cloned().unwrap_or_default();
    contexts.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
}

#[test]
fn every_other_point_is_shown_and_no_more_is_offered() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    assert_eq!(shown(&appliance, "v@2"), ["base:allocation", &context(1), &context(3)]);
    let script = r#"
h.set_opt_mode(True)
h.connect_uri(URI)
def names(query):
    found = []
    h.clear_meta_contexts()
    if query:
        h.add_meta_context(query)
    h.opt_list_meta_context(found.append)
    return found
own = ["qemu:dirty-bitmap:since-1", "qemu:dirty-bitmap:since-3"]
assert names("qemu:") == own, names("qemu:")
assert names("qemu:dirty-bitmap:") == own
assert names("qemu:dirty-bitmap:since-3") == own[1:]
assert names("base:") == ["base:allocation"]
for wrong in ["since-2", "since-4", "since-01", "since-+1", "since-", "since-18446744073709551616", "since-1 "]:
    assert names("qemu:dirty-bitmap:" + wrong) == [], wrong
    other = nbd.NBD()
    other.add_meta_context("qemu:dirty-bitmap:" + wrong)
    other.connect_uri(URI)
    assert not other.can_meta_context("qemu:dirty-bitmap:" + wrong), wrong
h.opt_abort()
"#;
    nbdsh(&script.replace("URI", &format!("{:?}", appliance.uri("v@2"))));
}

fn nbdsh(script: &str) -> Outcome {
    Run::peer("nbdsh").env("PATH", SYSTEM_PATH).args(args!["-c", script]).run().expect_code(0)
}

#[test]
fn of_many_points_the_nearest_are_shown_and_any_can_be_selected() {
    let lab = Lab::new();
    let (appliance, source) = (Appliance::start(&lab), lab.file("source.raw"));
    image::hole(&source, MIB);
    for point in 1..=140u8 {
        image::patch(&source, 0, &[point]);
        appliance.replicate(&source, "v");
    }
    let names = shown(&appliance, "v");
    assert_eq!((names.len(), &names[1], &names[128]), (129, &context(139), &context(12)));
    let mut expected = vec![false; 16];
    expected[0] = true;
    assert_eq!(dirty(&appliance, "v", 1), expected);
}

#[test]
fn a_point_stays_while_a_client_asks_what_changed_since() {
    let lab = Lab::new();
    let appliance = scene(&lab);
    let flag = lab.file("done");
    let script = r#"
import os, time
h.add_meta_context(CONTEXT)
h.connect_uri(URI)
print("selected", flush=True)
while not os.path.exists(FLAG):
    time.sleep(0.01)
dirty = []
h.block_status(h.get_size(), 0, lambda name, offset, entries, error: dirty.extend(entries))
assert 1 in dirty[1::2], dirty
"#;
    let script = script.replace("CONTEXT", &format!("{:?}", context(1)));
    let script = script.replace("URI", &format!("{:?}", appliance.uri("v@3")));
    let script = script.replace("FLAG", &format!("{:?}", flag.display().to_string()));
    let client = Run::peer("nbdsh").env("PATH", SYSTEM_PATH).args(args!["-c", script]).start().wait_line("selected");
    appliance.upkeep(&["remove", "v@1"]).expect_code(1).says("in use by an export");
    std::fs::write(&flag, "").expect("a flag");
    client.finish().expect_code(0);
    wait_until("the point can be removed", || {
        let outcome = appliance.upkeep(&["remove", "v@1"]);
        if outcome.code == Some(0) { Ok(()) } else { Err(outcome.to_string()) }
    });
    assert_eq!(shown(&appliance, "v@3"), ["base:allocation", &context(2)]);
}
