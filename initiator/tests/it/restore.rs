//! Restore and verify.

use super::*;

fn replicated() -> (World, Vec<u8>) {
    let world = World::new();
    sparse(&world.path("source"), 600 * BLOCK + 512, &[0, 1, 2, 300, 301, 600]);
    world.replicate(" --block-size 4K");
    let content = std::fs::read(world.path("source")).unwrap();
    (world, content)
}

fn equal(world: &World, name: &str, content: &[u8]) {
    assert!(std::fs::read(world.path(name)).unwrap() == content, "the target is not the point");
}

#[test]
fn a_missing_file_is_created() {
    let (world, content) = replicated();
    let (out, _) = world.expect(0, "restore v new --json");
    let summary: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!((summary["blocks_written"].as_u64(), summary["blocks_zeroed"].as_u64()), (Some(6), Some(0)));
    equal(&world, "new", &content);
    world.expect(0, "verify new v@1");
}

/// Benji: a sparse restore onto a dirty target left old bytes.
#[test]
fn benji_a_dirty_target_keeps_no_old_bytes() {
    let (world, content) = replicated();
    std::fs::write(world.path("dirty"), random(9, content.len())).unwrap();
    let (out, _) = world.expect(0, "restore v@latest dirty --json");
    let summary: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!((summary["blocks_written"].as_u64(), summary["blocks_zeroed"].as_u64()), (Some(6), Some(595)));
    equal(&world, "dirty", &content);
}

#[test]
fn only_what_differs_is_written() {
    let (world, content) = replicated();
    std::fs::write(world.path("near"), &content).unwrap();
    patch(&world.path("near"), 301 * BLOCK, &[1]);
    patch(&world.path("near"), 400 * BLOCK, &[1]);
    let (out, _) = world.expect(0, "restore v near --json");
    assert!(out.contains("\"blocks_written\":1,\"blocks_zeroed\":1"), "{out}");
    equal(&world, "near", &content);
    let (out, _) = world.expect(0, "restore v near");
    assert!(out.contains("0 of 601 blocks written, 0 made zero"), "{out}");
}

#[test]
fn other_sizes_need_force() {
    let (world, content) = replicated();
    for size in [content.len() + BLOCK, content.len() - BLOCK] {
        std::fs::write(world.path("other"), random(9, size)).unwrap();
        let (_, err) = world.expect(1, "restore v other");
        assert!(err.contains("--force") && err.contains("nothing was written"), "{err}");
        assert!(std::fs::read(world.path("other")).unwrap() == random(9, size));
        world.expect(0, "restore v other --force");
        equal(&world, "other", &content);
    }
}

#[test]
fn older_points_come_back() {
    let (world, content) = replicated();
    std::fs::write(world.path("source"), random(5, 700 * BLOCK)).unwrap();
    world.replicate("");
    world.expect(0, "restore v@1 old");
    equal(&world, "old", &content);
    world.expect(0, "restore v@2 new");
    equal(&world, "new", &random(5, 700 * BLOCK));
    let (_, err) = world.expect(1, "restore v@3 none");
    assert!(err.starts_with("error: v@3: volume v has 2 points"), "{err}");
    assert!(!world.path("none").exists());
}

/// Longhorn #12830: a restore reported success though a worker crashed.
#[test]
fn longhorn_12830_a_failure_inside_is_a_failure() {
    let (world, _) = replicated();
    world.fake.store().lie = true;
    let (_, err) = world.expect(1, "restore v bad");
    assert!(err.starts_with("error: target bad is INCOMPLETE") && err.contains(": expected digest "), "{err}");
}

#[test]
fn verify_names_the_first_difference() {
    let (world, content) = replicated();
    let (out, _) = world.expect(0, "verify source v");
    assert!(out.starts_with("identical: source and v@1"), "{out}");
    patch(&world.path("source"), 301 * BLOCK + 5, &[content[301 * BLOCK + 5] ^ 1]);
    patch(&world.path("source"), 550 * BLOCK, &[1]);
    patch(&world.path("source"), 2 * BLOCK, &[0; BLOCK]);
    let (out, _) = world.expect(4, "verify source v@1");
    assert!(out.contains("3 of 601 blocks differ, the first is block 2 at offset 8192"), "{out}");
    resize(&world.path("source"), BLOCK);
    let (out, _) = world.expect(4, "verify source v@1");
    assert_eq!(out, "not identical: the sizes differ: source has 4096 bytes, v@1 has 2458112\n");
}
