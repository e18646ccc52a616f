//! Dirty bitmaps that are crafted: whatever they say, and whatever fails, the point is the disk.

use super::disk::{Disk, Served, State};
use super::{World, random};
use proptest::prelude::*;
use serde_json::Value;
use std::ops::Range;

const BLOCK: usize = 4096;

struct Scene {
    world: World,
    served: Served,
}

impl Scene {
    fn new(content: Vec<u8>) -> Self {
        Self { world: World::new(), served: Served::start(&Disk::new(content)) }
    }

    fn disk(&self) -> &Disk {
        &self.served.disk
    }

    /// Replicates with the bitmap, checks that the point is the disk, and returns all events.
    #[track_caller]
    fn replicate(&self, code: i32, options: &str) -> Vec<Value> {
        let uri = self.served.uri();
        let options = format!("--block-size 4K --retries 50 --retry-delay 1 --bitmap b0 --json{options}");
        let (out, _) = self.world.expect(code, &format!("replicate {uri} --volume v {options}"));
        let events: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let point = events.last().unwrap()["point"].as_u64().unwrap();
        let content = self.disk().with(|state| state.content.clone());
        assert!(self.world.fake.content("v", point) == content, "the point is not the disk: {out}");
        events
    }

    #[track_caller]
    fn count(events: &[Value], key: &str) -> u64 {
        events.last().unwrap()[key].as_u64().unwrap()
    }

    /// Why the bitmap was not used; empty when it was.
    fn reason(events: &[Value]) -> String {
        let told = events.iter().rfind(|event| event["event"] == "bitmap").unwrap();
        assert_eq!(told["used"] == true, told["reason"].is_null());
        told["reason"].as_str().unwrap_or_default().to_owned()
    }
}

#[test]
fn parts_of_blocks_make_blocks_dirty_and_clean_ones_are_as_they_were() {
    let scene = Scene::new(random(1, 1000 * BLOCK));
    scene.replicate(0, "");
    // Across the border of two blocks, and the end of one.
    scene.disk().with(|state| {
        let flipped =
            |state: &State, range: Range<usize>| state.content[range].iter().map(|byte| !byte).collect::<Vec<_>>();
        let (across, last) =
            (flipped(state, 10 * BLOCK - 1..10 * BLOCK + 1), flipped(state, 501 * BLOCK - 1..501 * BLOCK));
        state.write(10 * BLOCK - 1, &across);
        state.write(501 * BLOCK - 1, &last);
        state.mark(999 * BLOCK, 1);
        state.told_at_once = 7;
    });
    let events = scene.replicate(0, "");
    assert_eq!(Scene::reason(&events), "");
    assert_eq!((Scene::count(&events, "blocks_changed"), Scene::count(&events, "blocks_clean")), (3, 996));
    assert_eq!((Scene::count(&events, "blocks_read"), Scene::count(&events, "blocks_sampled")), (4 + 128, 128));
}

#[test]
fn a_block_status_that_fails_means_that_everything_is_compared() {
    for blind_from in [0, 500 * BLOCK as u64] {
        let scene = Scene::new(random(1, 1000 * BLOCK));
        scene.replicate(0, "");
        scene.disk().with(|state| {
            state.told_at_once = 100;
            state.blind_from = Some(blind_from);
            // Were the bitmap believed where it can be read, this would be missed.
            state.write(3 * BLOCK, b"z");
            state.write(700 * BLOCK, b"z");
        });
        let events = scene.replicate(0, "");
        let reason = Scene::reason(&events);
        assert_eq!(reason, "bitmap b0 cannot be read: the server said: the bitmap was eaten (EIO)");
        assert_eq!((Scene::count(&events, "blocks_changed"), Scene::count(&events, "blocks_read")), (2, 1000));
        assert_eq!(Scene::count(&events, "bitmap_lies"), 0);
        // The point was read while the bitmap was there: the next one may use it.
        scene.disk().with(|state| state.blind_from = None);
        assert_eq!(Scene::reason(&scene.replicate(0, "")), "");
    }
}

#[test]
fn a_bitmap_that_is_hidden_means_that_everything_is_compared_twice() {
    let scene = Scene::new(random(1, 300 * BLOCK));
    scene.replicate(0, "");
    scene.disk().with(|state| state.hides_bitmap = true);
    let expected = "the server does not offer bitmap b0 of this export";
    assert_eq!(Scene::reason(&scene.replicate(0, "")), expected);
    // It may have been made anew meanwhile.
    scene.disk().with(|state| state.hides_bitmap = false);
    let reason = Scene::reason(&scene.replicate(0, ""));
    assert!(reason.contains("no point was made with it from here"), "{reason}");
    assert_eq!(Scene::reason(&scene.replicate(0, "")), "");
}

#[test]
fn lies_are_found_by_the_sample_or_by_holes_and_nothing_is_lost() {
    // Every tenth block: a sample of 128 misses all of them once in a million runs, and never with this seed.
    let scene = Scene::new(random(1, 1000 * BLOCK));
    scene.replicate(0, "");
    scene.disk().with(|state| {
        (0..1000).step_by(10).for_each(|block| state.write(block * BLOCK, b"lie"));
        state.forget();
        state.write(7 * BLOCK, b"told");
    });
    let events = scene.replicate(3, " --sample-seed 5");
    assert!(Scene::reason(&events).starts_with("it calls block"), "{events:?}");
    assert_eq!((Scene::count(&events, "bitmap_lies"), Scene::count(&events, "blocks_changed")), (1, 101));
    assert_ne!(Scene::reason(&scene.replicate(0, "")), "");
    // One block, which is a hole now.
    scene.disk().with(|state| {
        state.write(77 * BLOCK, &[0; BLOCK]);
        state.forget();
    });
    let events = scene.replicate(3, "");
    let expected = "it calls block 77 at offset 315392 clean, which differs from point 3";
    assert_eq!(Scene::reason(&events), expected);
}

#[test]
fn blocks_that_the_appliance_lost_are_read_though_they_are_clean() {
    let scene = Scene::new(random(1, 1000 * BLOCK));
    scene.replicate(0, "");
    let lost = understudy_format::wire::BlockRange { first: 20, count: 30 };
    scene.world.fake.store().again = vec![lost];
    let events = scene.replicate(0, "");
    assert_eq!(Scene::reason(&events), "");
    assert_eq!((Scene::count(&events, "blocks_changed"), Scene::count(&events, "blocks_read")), (30, 30 + 128));
}

#[test]
fn a_full_and_a_volume_that_grew_are_read_whole() {
    let scene = Scene::new(random(1, 300 * BLOCK));
    scene.replicate(0, "");
    let events = scene.replicate(0, " --full");
    assert_eq!(Scene::reason(&events), "nothing is there to compare with");
    assert_eq!(Scene::reason(&scene.replicate(0, "")), "");
    let reason = |line: &str| scene.world.expect(2, line).1;
    assert!(reason("replicate x --volume v --sample-seed 5").contains("--bitmap"));
    assert!(reason("replicate x --volume v --bitmap=").contains("expected a name"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Whatever is written where, and however the extents are cut: increments by bitmap are the disk.
    #[test]
    fn increments_by_bitmap_are_the_disk(
        seed in any::<u64>(),
        tail in 1usize..8,
        rounds in proptest::collection::vec(
            (proptest::collection::vec((0usize..700, 1usize..20_000, any::<bool>()), 0..6), 1usize..40), 1..4),
    ) {
        let mut content = random(seed, 700 * BLOCK + tail * 512);
        content[100 * BLOCK..400 * BLOCK].fill(0);
        let scene = Scene::new(content);
        scene.replicate(0, "");
        for (writes, told_at_once) in rounds {
            scene.disk().with(|state| {
                state.told_at_once = told_at_once;
                for (block, length, zero) in writes {
                    let start = block * BLOCK + length % 5 * 512;
                    let length = length.min(state.content.len() - start);
                    let bytes = if zero { vec![0; length] } else { random(seed ^ start as u64, length) };
                    state.write(start, &bytes);
                }
            });
            prop_assert_eq!(Scene::reason(&scene.replicate(0, "")), "");
        }
    }
}
