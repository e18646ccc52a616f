//! Moments between points: named by their time, listed, restored and compared; there for the session that opened them.

use super::*;
use understudy_format::point::{MOMENT, Point};

/// When the moments were, nanoseconds since 1970-01-01T00:00:00Z.
const FIRST_NS: i64 = 4_102_444_800_250_000_000;
const SECOND_NS: i64 = FIRST_NS + 750_000_000;
/// How they are named.
const FIRST: &str = "v@2100-01-01T00:00:00.25Z";
const SECOND: &str = "v@2100-01-01T00:00:01.0Z";

/// A volume with a point, and two moments after it with the contents that are returned.
fn world() -> (World, [Vec<u8>; 2]) {
    let world = World::new();
    sparse(&world.path("source"), 300 * BLOCK, &[0, 1, 299]);
    world.replicate(" --block-size 4K");
    let contents = [(FIRST_NS, 7), (SECOND_NS, 8)].map(|(time_ns, block)| moment(&world, time_ns, block));
    (world, contents)
}

/// A moment at which the volume has another block than at its point.
fn moment(world: &World, time_ns: i64, block: usize) -> Vec<u8> {
    let (path, other) = (world.path("other"), format!("other-{block}"));
    std::fs::copy(world.path("source"), &path).unwrap();
    patch(&path, block * BLOCK, &random(77, BLOCK));
    world.expect(0, &format!("replicate other --volume {other} --block-size 4K"));
    let base = world.fake.points("v")[0].clone();
    let map = world.fake.points(&other)[0].map;
    let (number, created_ns) = (MOMENT | block as u64, time_ns);
    let point = Point { number, created_ns, map, base: Some(1), ..base };
    world.fake.store().moments.entry("v".to_owned()).or_default().push(point);
    std::fs::read(&path).unwrap()
}

fn is_content(world: &World, target: &str, expected: &[u8]) {
    assert!(std::fs::read(world.path(target)).unwrap() == expected, "{target} is another moment");
}

#[test]
fn a_time_names_the_newest_point_or_moment_at_or_before_it() {
    let (world, [first, second]) = world();
    let source = std::fs::read(world.path("source")).unwrap();
    let named = [
        ("v", &source),
        ("v@latest", &source),
        ("v@2100-01-01T00:00:00.2499Z", &source),
        (FIRST, &first),
        ("v@2100-01-01T00:00:00Z", &first),
        (SECOND, &second),
        ("v@2100-01-01T00:00:01Z", &second),
        ("v@now", &second),
    ];
    for (name, expected) in named {
        world.expect(0, &format!("restore {name} target"));
        is_content(&world, "target", expected);
        world.expect(0, &format!("verify target {name}"));
    }
    let (_, err) = world.expect(1, "restore v@1970-01-01 target");
    assert!(err.contains("nothing of volume v is that old"), "{err}");
    let (_, err) = world.expect(1, "restore w@now target");
    assert!(err.contains("has no such volume"), "{err}");
}

#[test]
fn a_moment_is_told_by_the_time_that_names_it_again() {
    let (world, [first, _]) = world();
    let (out, _) = world.expect(0, "restore v@2100-01-01T00:00:00Z target");
    assert!(out.starts_with(&format!("{FIRST} -> target")), "{out}");
    assert!(out.contains(&format!("target equals {FIRST}")), "{out}");
    let (out, _) = world.expect(0, &format!("restore {FIRST} again --json"));
    let start: Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!((&start["point"], start["time"].as_str()), (&Value::Null, Some("2100-01-01T00:00:00.25Z")));
    is_content(&world, "again", &first);
    let (out, _) = world.expect(4, &format!("verify source {FIRST}"));
    assert!(out.contains(&format!("{FIRST}: 1 of 300 blocks differ, the first is block 7")), "{out}");
}

#[test]
fn moments_are_listed_oldest_first() {
    let (world, _) = world();
    let (out, _) = world.expect(0, "points v --moments");
    let rows: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    let (first, second) = (FIRST.split_once('@').unwrap().1, SECOND.split_once('@').unwrap().1);
    assert_eq!(rows, [["TIME", "AFTER", "ENTRY"], [first, "@1", "7"], [second, "@1", "8"]]);
    let listed = |options: &str| {
        let (out, _) = world.expect(0, &format!("points v --moments --json{options}"));
        let rows: Vec<Value> = serde_json::from_str(&out).unwrap();
        rows.iter().map(|row| row["time"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed(""), [first, second]);
    assert_eq!(listed(" --newest 1"), [second]);
    assert_eq!(listed(" --since 2100-01-01T00:00:01Z"), [second]);
    assert_eq!(listed(" --until 2100-01-01T00:00:00Z"), [first]);
    assert_eq!(listed(" --until 2099-12-31"), Vec::<String>::new());
}

#[test]
fn a_moment_that_became_another_one_is_not_mixed_into_the_target() {
    let (world, _) = world();
    std::fs::copy(world.path("source"), world.path("target")).unwrap();
    world.fake.store().fickle = true;
    let (_, err) = world.expect(1, "restore v@now target");
    assert!(err.contains("v@2100-01-01T00:00:01.0Z: had root"), "{err}");
    is_content(&world, "target", &std::fs::read(world.path("source")).unwrap());
}

#[test]
fn no_stream_has_a_moment_for_its_base() {
    let (world, _) = world();
    let (_, err) = world.expect(1, "emit source --base v@now -o stream");
    assert!(err.contains("v@now: is a moment between points"), "{err}");
    world.expect(0, "emit source --base v@latest -o stream");
}

#[test]
fn nothing_is_written_over_a_moment() {
    let (world, _) = world();
    let (_, err) = world.expect(1, &format!("attach {FIRST} --rw"));
    assert!(err.contains("leave out --rw") && err.contains("understudyd fold v"), "{err}");
}

#[test]
fn points_can_be_listed_in_part() {
    let (world, _) = world();
    patch(&world.path("source"), 0, &[1]);
    world.replicate("");
    let (out, _) = world.expect(0, "points v --newest 1 --json");
    let rows: Vec<Value> = serde_json::from_str(&out).unwrap();
    assert_eq!(rows.iter().map(|row| row["point"].as_u64()).collect::<Vec<_>>(), [Some(2)]);
}
