//! Full and incremental points, the local map, and what can go wrong on the way.

use super::*;

const K4: &str = " --block-size 4K";

#[test]
fn a_full_then_increments_of_nothing_one_block_zeros_growth_and_shrinking() {
    let world = World::new();
    let source = world.path("source");
    std::fs::write(&source, random(1, 300 * BLOCK + 512)).unwrap();
    let (start, summary) = world.replicate(K4);
    assert_eq!((start["kind"].as_str(), start["reason"].as_str()), (Some("full"), Some("first point of this volume")));
    assert_eq!((summary["blocks_total"].as_u64(), summary["blocks_sent"].as_u64()), (Some(301), Some(301)));

    let (start, summary) = world.replicate("");
    assert_eq!((start["kind"].as_str(), start["base"].as_u64()), (Some("incremental"), Some(1)));
    assert_eq!((summary["blocks_changed"].as_u64(), summary["blocks_read"].as_u64()), (Some(0), Some(301)));
    assert!(summary["bytes_sent"].as_u64().unwrap() < 2000, "{summary}");

    patch(&source, 7 * BLOCK + 4095, &[0x55]);
    patch(&source, 300 * BLOCK + 511, &[0x55]);
    let (_, summary) = world.replicate("");
    assert_eq!((summary["blocks_changed"].as_u64(), summary["blocks_sent"].as_u64()), (Some(2), Some(2)));

    patch(&source, 9 * BLOCK, &[0; BLOCK]);
    let (_, summary) = world.replicate("");
    assert_eq!((summary["blocks_changed"].as_u64(), summary["blocks_sent"].as_u64()), (Some(1), Some(0)));

    resize(&source, 70_000 * BLOCK);
    patch(&source, 69_999 * BLOCK, &random(5, BLOCK));
    let (start, summary) = world.replicate("");
    assert_eq!(start["kind"], "incremental");
    assert_eq!(summary["blocks_sent"].as_u64(), Some(2), "the tail that became whole, and the new last block");

    resize(&source, 100 * BLOCK + 1024);
    let (_, summary) = world.replicate("");
    assert_eq!(summary["blocks_total"].as_u64(), Some(101));
    assert_eq!(summary["blocks_sent"].as_u64(), Some(1), "the new tail");
    assert_eq!(world.fake.store().pages_served, 0, "the local map was always the base");
}

#[test]
fn holes_are_not_read_zeros_not_sent_and_copies_sent_once() {
    let world = World::new();
    sparse(&world.path("source"), 5000 * BLOCK, &[3, 2000, 4999]);
    patch(&world.path("source"), 2001 * BLOCK, &random(3, BLOCK));
    patch(&world.path("source"), 2002 * BLOCK, &[0; BLOCK]);
    let (_, summary) = world.replicate(K4);
    assert_eq!(summary["blocks_read"].as_u64(), Some(5));
    assert_eq!((summary["blocks_zero"].as_u64(), summary["blocks_sent"].as_u64()), (Some(4996), Some(3)));
    assert_eq!(summary["blocks_deduplicated"].as_u64(), Some(1), "block 2001 is a copy of block 3");
    let (_, summary) = world.replicate(" --full");
    assert_eq!((summary["reason"].as_str(), summary["blocks_sent"].as_u64()), (Some("asked for with --full"), Some(0)));
    let (_, summary) = world.replicate("");
    assert_eq!(summary["blocks_changed"].as_u64(), Some(0));
}

#[test]
fn a_terabyte_of_nothing_costs_a_few_entries() {
    let world = World::new();
    sparse(&world.path("source"), 1 << 40, &[]);
    patch(&world.path("source"), 1 << 39, &[1; BLOCK]);
    for kind in ["full", "incremental"] {
        let (out, _) = world.expect(0, "replicate source --volume v --json");
        let summary: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
        assert_eq!((summary["kind"].as_str(), summary["blocks_read"].as_u64()), (Some(kind), Some(1)));
        assert!(summary["bytes_sent"].as_u64().unwrap() < 70_000, "{summary}");
    }
}

#[test]
fn every_compression_brings_the_same_bytes() {
    for compress in ["lz4", "none", "auto"] {
        let world = World::new();
        let half: Vec<u8> =
            (0..3000).flat_map(|block| [random(block, BLOCK / 2), vec![7; BLOCK / 2]].concat()).collect();
        std::fs::write(world.path("source"), half).unwrap();
        let (_, summary) = world.replicate(&format!("{K4} --compress {compress}"));
        let sent = summary["bytes_sent"].as_u64().unwrap();
        match compress {
            "lz4" => assert!(sent < 3000 * 2500, "{sent}"),
            _ => assert!(sent > 3000 * 2000, "{sent}"),
        }
        // Scattered changes are gathered out of many pieces.
        (0..3000)
            .step_by(7)
            .for_each(|block| patch(&world.path("source"), block * BLOCK, &random(block as u64 + 9999, 64)));
        let (_, summary) = world.replicate(&format!(" --compress {compress}"));
        assert_eq!(summary["blocks_sent"].as_u64(), Some(429));
    }
}

#[test]
fn a_lost_map_is_fetched_and_never_a_silent_full() {
    let world = World::new();
    std::fs::write(world.path("source"), random(1, 600 * BLOCK)).unwrap();
    world.replicate(K4);
    std::fs::remove_file(world.map_path()).unwrap();
    let (start, summary) = world.replicate("");
    assert!(start["reason"].as_str().unwrap().contains("its map is fetched: there is no digest map"), "{start}");
    assert_eq!((summary["kind"].as_str(), summary["blocks_changed"].as_u64()), (Some("incremental"), Some(0)));
    assert_eq!(world.fake.store().pages_served, 4, "one page of level 1, three of level 0");
}

#[test]
fn a_stale_map_is_refreshed_where_it_differs() {
    let world = World::new();
    std::fs::write(world.path("source"), random(1, 600 * BLOCK)).unwrap();
    world.replicate(K4);
    let stale = std::fs::read(world.map_path()).unwrap();
    patch(&world.path("source"), 300 * BLOCK, &random(2, BLOCK));
    world.replicate("");
    std::fs::write(world.map_path(), &stale).unwrap();
    patch(&world.path("source"), 0, &random(3, BLOCK));
    let (start, summary) = world.replicate("");
    assert!(start["reason"].as_str().unwrap().contains("is of point 1 and is refreshed"), "{start}");
    assert_eq!(summary["blocks_changed"].as_u64(), Some(1));
    assert_eq!(world.fake.store().pages_served, 2, "one page a level");

    resize(&world.path("source"), 66_000 * BLOCK);
    world.replicate("");
    std::fs::write(world.map_path(), stale).unwrap();
    let (_, summary) = world.replicate("");
    assert_eq!(summary["blocks_changed"].as_u64(), Some(0), "a map of a smaller volume is refreshed, too");
}

#[test]
fn a_damaged_map_is_not_trusted() {
    let world = World::new();
    std::fs::write(world.path("source"), random(1, 10 * BLOCK)).unwrap();
    world.replicate(K4);
    let mut map = std::fs::read(world.map_path()).unwrap();
    map[4096 + 5] ^= 1;
    std::fs::write(world.map_path(), map).unwrap();
    let (out, _) = world.expect(3, "replicate source --volume v --json");
    assert!(out.lines().next().unwrap().contains("digest mismatch"), "{out}");
    assert!(out.contains("\"kind\":\"incremental\"") && out.contains("\"blocks_changed\":0"), "{out}");
}

#[test]
fn a_source_that_was_cut_makes_no_point() {
    let world = World::new();
    std::fs::write(world.path("source"), random(1, 3000 * BLOCK)).unwrap();
    world.replicate("");
    let source = world.path("source");
    world.fake.store().before_accept = Some(Box::new(move || resize(&source, 1000 * BLOCK)));
    let (_, err) = world.expect(1, "replicate source --volume v");
    assert!(err.starts_with("error: source source: ") && err.contains("shrank from 12288000 to 4096000"), "{err}");
    assert_eq!(world.fake.points("v").len(), 1);
}

#[test]
fn a_source_that_was_written_makes_a_point_and_a_warning() {
    let world = World::new();
    std::fs::write(world.path("source"), random(1, 3000 * BLOCK)).unwrap();
    let source = world.path("source");
    world.fake.store().before_accept = Some(Box::new(move || resize(&source, 3001 * BLOCK)));
    let (out, _) = world.expect(3, "replicate source --volume v --json");
    assert!(out.contains("\"event\":\"warning\"") && out.contains("written to while it was read"), "{out}");
    assert_eq!(world.fake.points("v").len(), 1);
}

#[test]
fn a_failure_of_the_appliance_is_what_is_shown() {
    let world = World::new();
    std::fs::write(world.path("source"), random(1, 20_000 * BLOCK)).unwrap();
    world.fake.store().fail_after = Some(2);
    let (_, err) = world.expect(1, "replicate source --volume v");
    assert_eq!(err, format!("error: appliance {}: the disk is on fire\n", world.fake.address));
    assert!(world.fake.points("v").is_empty());
    assert!(!world.map_path().exists());
}

#[test]
fn misuse_is_told() {
    let world = World::new();
    std::fs::write(world.path("source"), random(1, 1000)).unwrap();
    let (_, err) = world.expect(1, "replicate source --volume v");
    assert!(err.contains("not a multiple of 512"), "{err}");
    let (_, err) = world.expect(1, "replicate nothing --volume v");
    assert!(err.starts_with("error: source nothing: cannot be opened"), "{err}");
    let (_, err) = world.expect(1, "replicate source --volume v --to 127.0.0.1:1");
    assert!(err.contains("127.0.0.1:1: connection refused") && err.contains("understudyd serve"), "{err}");
    world.expect(2, "replicate source");
    std::fs::write(world.path("source"), random(1, BLOCK)).unwrap();
    world.replicate(K4);
    let (_, err) = world.expect(1, "replicate source --volume v --block-size 64K");
    assert!(err.contains("volume v has blocks of 4K, 64K was asked for"), "{err}");
}

#[test]
fn volumes_and_points_are_listed() {
    let world = World::new();
    std::fs::write(world.path("source"), random(1, 10 * BLOCK)).unwrap();
    world.replicate(&format!("{K4} --label first"));
    world.replicate("");
    let (out, _) = world.expect(0, "volumes --json");
    let volumes: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((volumes[0]["name"].as_str(), volumes[0]["points"].as_u64()), (Some("v"), Some(2)));
    let (out, _) = world.expect(0, "points v --json");
    let points: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((points[0]["label"].as_str(), points[1]["base"].as_u64()), (Some("first"), Some(1)));
    let (out, _) = world.expect(0, "points v");
    assert!(out.lines().next().unwrap().starts_with("POINT  TIME"), "{out}");
    let (_, err) = world.expect(1, "points w");
    assert!(err.starts_with("error: volume w: the appliance"), "{err}");
}
