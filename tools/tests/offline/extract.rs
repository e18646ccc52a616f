//! `pool extract` gives what the point was, whatever is left of the pool, and says exactly what is missing.

use crate::build::{BLOCK, Pages, Scene, Segment, block, block_size, noise};
use clap::Parser;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use understudy_format::map::{Builder, Map};
use understudy_format::segment::Kind;
use understudy_format::{Digest, Geometry};
use understudy_tools::args::{Cli, Command, PoolCommand};
use understudy_tools::outcome::Outcome;
use understudy_tools::pool;

/// Runs `pool extract` with these arguments; how it ended and what it said.
pub fn extract(pool: &Path, point: &str, out: &Path, more: &[&str]) -> anyhow::Result<(Outcome, String)> {
    let head = ["understudy-tools", "pool", "extract", pool.to_str().unwrap(), point, out.to_str().unwrap()];
    let cli = Cli::parse_from(head.iter().chain(more));
    let Command::Pool(PoolCommand::Extract(args)) = cli.command else { panic!("another command") };
    let mut said = Vec::new();
    let outcome = pool::extract::extract(&args, &mut said)?;
    Ok((outcome, String::from_utf8(said).unwrap()))
}

/// 600 blocks; block 7 is different noise in each of two points, 20 to 24 and the last are noise, 300 to 399 are zero.
fn scene() -> (Scene, [Vec<Vec<u8>>; 2]) {
    let mut scene = Scene::new();
    let mut blocks: Vec<Vec<u8>> = (1..=600).map(block).collect();
    (20..25).for_each(|at| blocks[at] = noise(at as u64, BLOCK));
    blocks[300..400].fill(vec![0; BLOCK]);
    blocks[599] = noise(599, BLOCK);
    let versions = [1, 2].map(|version| {
        blocks[7] = noise(1000 + version, BLOCK);
        scene.commit(&blocks);
        blocks.clone()
    });
    (scene, versions)
}

struct Bench {
    scene: Scene,
    versions: [Vec<Vec<u8>>; 2],
    outside: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let (scene, versions) = scene();
        scene.segment.write(scene.path());
        Self { scene, versions, outside: tempfile::tempdir().unwrap() }
    }

    fn out(&self) -> std::path::PathBuf {
        self.outside.path().join("out")
    }

    /// Extracts afresh.
    fn extract(&self, point: &str) -> (Outcome, String) {
        let _ = fs::remove_file(self.out());
        extract(self.scene.path(), point, &self.out(), &[]).unwrap()
    }

    /// Everything is right but these blocks, which are zeros.
    #[track_caller]
    fn assert_is(&self, version: usize, missing: &[usize]) {
        let mut expected = self.versions[version - 1].clone();
        missing.iter().for_each(|at| expected[*at].fill(0));
        assert!(fs::read(self.out()).unwrap() == expected.concat(), "the output is @{version} without {missing:?}");
    }

    /// Writes the segment with these bytes of it flipped.
    fn flip(&mut self, places: &[usize]) {
        places.iter().for_each(|at| self.scene.segment.bytes[*at] ^= 1);
        self.scene.segment.write(self.scene.path());
    }
}

fn missing(said: &str) -> Vec<&str> {
    said.lines().filter(|line| line.starts_with("missing: ")).collect()
}

#[test]
fn every_point_comes_out_sealed_or_not_and_zeros_are_holes() {
    let mut bench = Bench::new();
    for seal in [false, true] {
        if seal {
            bench.scene.segment.seal();
            bench.scene.segment.write(bench.scene.path());
        }
        for (point, version) in [("v@1", 1), ("v@2", 2), ("v", 2), ("v@2001-01-01", 2)] {
            let (outcome, said) = bench.extract(point);
            assert_eq!(outcome, Outcome::Done, "{said}");
            assert!(said.contains(&format!("v@{version} is in ")) && said.contains("the root are right"), "{said}");
            bench.assert_is(version, &[]);
            let meta = fs::metadata(bench.out()).unwrap();
            assert!(meta.blocks() * 512 <= 500 * BLOCK as u64 + 65536, "{} sectors for 500 blocks", meta.blocks());
        }
    }
}

#[test]
fn damaged_blocks_are_told_one_by_one_with_their_place() {
    for seal in [false, true] {
        let mut bench = Bench::new();
        let [a, b] = [20, 599].map(|at| bench.scene.find(&bench.versions[1][at]));
        if seal {
            bench.scene.segment.seal();
        }
        bench.flip(&[a + 5, b + 5]);
        let (outcome, said) = bench.extract("v@2");
        assert_eq!(outcome, Outcome::Warnings);
        let crc = "record: CRC-32 mismatch";
        let expected = [(20, 81920, a - 64), (599, 2453504, b - 64)].map(|(at, offset, place)| {
            format!("missing: v@2: block {at} (offset {offset}, 4096 bytes): damaged in segment 1 at {place}: {crc}")
        });
        let missing = missing(&said);
        assert_eq!(missing.len(), 2, "{said}");
        assert!(missing.iter().zip(&expected).all(|(line, start)| line.starts_with(start)), "{missing:#?}");
        assert!(said.contains("without 2 blocks in 2 ranges (8.2 kB), zeros there"), "{said}");
        bench.assert_is(2, &[20, 599]);
    }
}

#[test]
fn a_damaged_header_in_front_of_good_bytes_costs_nothing_when_a_footer_knows_the_place() {
    let mut bench = Bench::new();
    let at = bench.scene.find(&bench.versions[1][20]);
    bench.scene.segment.seal();
    bench.flip(&[at - 30]);
    assert_eq!(bench.extract("v@2").0, Outcome::Done);
    bench.assert_is(2, &[]);
}

#[test]
fn neighbours_that_nothing_is_left_of_are_one_range() {
    let mut bench = Bench::new();
    let places: Vec<usize> = (20..25).map(|at| bench.scene.find(&bench.versions[1][at]) - 64).collect();
    bench.flip(&places);
    let (outcome, said) = bench.extract("v@2");
    assert_eq!(outcome, Outcome::Warnings);
    let expected = "missing: v@2: blocks 20 to 24 (offset 81920, 20480 bytes): in no segment that can be read";
    assert_eq!(missing(&said), [expected]);
    bench.assert_is(2, &[20, 21, 22, 23, 24]);
    let _ = fs::remove_file(bench.out());
    let (_, said) = extract(bench.scene.path(), "v@2", &bench.out(), &["--json"]).unwrap();
    let events: Vec<serde_json::Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let event = events.iter().find(|event| event["event"] == "missing").unwrap();
    assert_eq!((&event["block"], &event["blocks"], &event["offset"]), (&20.into(), &5.into(), &81920.into()));
    assert_eq!(events.last().unwrap()["blocks_missing"], 5);
}

#[test]
fn any_good_copy_will_do() {
    let mut bench = Bench::new();
    let content = bench.versions[1][20].clone();
    let at = bench.scene.find(&content);
    bench.flip(&[at]);
    assert_eq!(bench.extract("v@2").0, Outcome::Warnings);
    bench.scene.next_segment(7);
    let copy = bench.scene.segment.content(Kind::Block, &content) as usize + 64;
    bench.scene.segment.seal();
    bench.scene.segment.write(bench.scene.path());
    assert_eq!(bench.extract("v@2").0, Outcome::Done);
    bench.assert_is(2, &[]);
    bench.flip(&[copy]);
    let (outcome, said) = bench.extract("v@2");
    assert_eq!(outcome, Outcome::Warnings);
    assert!(missing(&said)[0].contains("damaged in segment 7 at 64"), "the newest copy is told: {said}");
}

#[test]
fn an_older_good_copy_will_do_where_the_newest_is_damaged() {
    let mut bench = Bench::new();
    bench.scene.next_segment(7);
    let copy = bench.scene.segment.content(Kind::Block, &bench.versions[1][20]) as usize + 64;
    bench.scene.segment.seal();
    bench.flip(&[copy]);
    assert_eq!(bench.extract("v@2").0, Outcome::Done);
    bench.assert_is(2, &[]);
}

#[test]
fn what_stands_behind_damage_in_a_segment_without_its_end_is_found() {
    let mut bench = Bench::new();
    let (mut blocks, mut points) = (Segment::new(1), Segment::new(2));
    bench.scene.segment.copy_some(&mut blocks, |kind| kind != Kind::Point);
    bench.scene.segment.copy_some(&mut points, |kind| kind == Kind::Point);
    points.write(bench.scene.path());
    blocks.seal();
    // No trailer, and no point record that proves anything: the end of the file is lost.
    blocks.bytes.truncate(blocks.bytes.len() - 8192);
    bench.scene.segment = blocks;
    let at = bench.scene.find(&bench.versions[1][20]) - 64;
    bench.flip(&[at]);
    let (outcome, said) = bench.extract("v@2");
    assert_eq!(outcome, Outcome::Warnings);
    assert_eq!(missing(&said).len(), 1, "{said}");
    bench.assert_is(2, &[20]);
}

/// The digests of the pages below the top, and the top.
fn pages_of(blocks: &[Vec<u8>]) -> (Map, Vec<Digest>) {
    let mut pages = Pages::default();
    let geometry = Geometry::new((blocks.len() * BLOCK) as u64, block_size()).unwrap();
    let mut builder = Builder::new(geometry, None);
    for content in blocks {
        let Ok(()) = builder.block(Digest::of_block(content), &mut pages);
    }
    let Ok(map) = builder.finish(&mut pages);
    let leaves = (0..3).map(|slot| pages.0[&map.top].get(slot)).collect();
    (map, leaves)
}

#[test]
fn a_lost_inner_page_loses_what_is_beneath_and_a_lost_top_everything() {
    let mut bench = Bench::new();
    let (map, leaves) = pages_of(&bench.versions[1]);
    let whole = bench.scene.segment.bytes.clone();
    let place = |digest: Digest| {
        let header = whole.windows(32).position(|window| window == digest.0).unwrap();
        header - 24 + 64 + 100
    };
    bench.flip(&[place(leaves[2])]);
    let (outcome, said) = bench.extract("v@2");
    assert_eq!(outcome, Outcome::Warnings);
    let [line] = missing(&said)[..] else { panic!("{said}") };
    let expected =
        "missing: v@2: blocks 512 to 599 (offset 2097152, 360448 bytes): their map page is damaged in segment 1";
    assert!(line.starts_with(expected), "{line}");
    bench.assert_is(2, &(512..600).collect::<Vec<_>>());

    bench.flip(&[place(map.top)]);
    fs::remove_file(bench.out()).unwrap();
    let error = extract(bench.scene.path(), "v@2", &bench.out(), &[]).unwrap_err().to_string();
    assert!(error.contains("the top of its map is damaged in segment 1 at "), "{error}");
    assert!(!bench.out().exists(), "nothing is written");
}

#[test]
fn a_lost_pool_file_index_and_lock_are_not_missed() {
    let bench = Bench::new();
    for name in ["pool", "lock"] {
        fs::remove_file(bench.scene.path().join(name)).unwrap();
    }
    assert_eq!(bench.extract("v@1").0, Outcome::Done);
    bench.assert_is(1, &[]);
}

#[test]
fn a_volume_whose_own_record_is_lost_is_known_by_its_secondary() {
    let mut bench = Bench::new();
    bench.flip(&[64 + 70]);
    let (outcome, said) = bench.extract("v@1");
    assert_eq!(outcome, Outcome::Done);
    assert!(said.contains("warning: segment 1 at 64: record: CRC-32 mismatch"), "{said}");
    bench.assert_is(1, &[]);
}

#[test]
fn what_is_not_there_is_refused_with_what_is() {
    let bench = Bench::new();
    let refused = |point: &str| extract(bench.scene.path(), point, &bench.out(), &[]).unwrap_err().to_string();
    assert!(refused("w").ends_with("have no volume w; they have v"), "{}", refused("w"));
    assert!(refused("v@7").ends_with("have no point v@7; of v they have @1, @2"), "{}", refused("v@7"));
    assert!(!bench.out().exists());
}

#[test]
fn an_existing_file_is_overwritten_with_force_only_and_wholly() {
    let bench = Bench::new();
    fs::write(bench.out(), vec![7; 4 << 20]).unwrap();
    let error = extract(bench.scene.path(), "v", &bench.out(), &[]).unwrap_err().to_string();
    assert!(error.contains("exists; with --force"), "{error}");
    assert_eq!(fs::read(bench.out()).unwrap(), vec![7; 4 << 20]);
    extract(bench.scene.path(), "v", &bench.out(), &["--force"]).unwrap();
    bench.assert_is(2, &[]);
}

#[test]
fn nothing_is_written_into_the_pool_whatever_it_is_called() {
    let bench = Bench::new();
    let link = bench.outside.path().join("link");
    std::os::unix::fs::symlink(bench.scene.path().join("volumes/v/secondary.raw"), &link).unwrap();
    for out in [bench.scene.path().join("out"), bench.scene.path().join("segments/../out"), link] {
        let error = extract(bench.scene.path(), "v", &out, &["--force"]).unwrap_err().to_string();
        assert!(error.contains("is inside the pool"), "{error}");
    }
    assert!(fs::read(bench.scene.path().join("volumes/v/secondary.raw")).unwrap() == bench.versions[1].concat());
}

#[test]
fn a_segment_that_is_collected_meanwhile_is_looked_for_again() {
    let mut bench = Bench::new();
    let (dir, content) = (bench.scene.path().to_owned(), bench.versions[1][20].clone());
    let survey = pool::survey::survey(&dir, true).unwrap();
    let point = survey.contents.points().last().unwrap().clone();
    let mut reader = pool::content::Reader::new(&dir, survey.places, survey.changed, point);
    // What collecting does: everything is copied on, then the old segment is unlinked.
    let mut copy = Segment::new(2);
    bench.scene.segment.copy_to(&mut copy);
    let old = std::mem::replace(&mut bench.scene.segment, copy);
    bench.scene.segment.write(&dir);
    fs::remove_file(old.write(&dir)).unwrap();
    let digest = Digest::of_block(&content);
    assert_eq!(reader.block(digest, BLOCK as u32).unwrap().unwrap().bytes, content);
}

#[test]
fn a_point_that_is_removed_and_collected_meanwhile_is_a_failure() {
    let bench = Bench::new();
    let dir = bench.scene.path().to_owned();
    let survey = pool::survey::survey(&dir, true).unwrap();
    let mut reader = pool::content::Reader::new(&dir, survey.places, survey.changed, bench.scene.points[1].clone());
    fs::remove_file(dir.join("segments/0000000000000001.seg")).unwrap();
    let gone = Digest::of_block(&bench.versions[1][599]);
    let error = reader.block(gone, BLOCK as u32).unwrap_err().to_string();
    assert!(error.contains("the point was removed"), "{error}");
}
