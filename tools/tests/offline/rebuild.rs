//! `pool rebuild` says what is in the segments, and refuses before anything is deleted.

use crate::build::{BLOCK, POOL, Scene, block};
use clap::Parser;
use std::fs;
use std::path::Path;
use understudy_format::pool::PoolRecord;
use understudy_format::segment::SegmentHeader;
use understudy_tools::args::{Cli, Command, PoolCommand};
use understudy_tools::outcome::Outcome;
use uuid::Uuid;

/// Runs `pool rebuild` with these arguments; how it ended and what it said.
pub fn rebuild(pool: &Path, more: &[&str]) -> anyhow::Result<(Outcome, String)> {
    let head = ["understudy-tools", "pool", "rebuild", pool.to_str().unwrap()];
    let cli = Cli::parse_from(head.iter().chain(more));
    let Command::Pool(PoolCommand::Rebuild(args)) = cli.command else { panic!("another command") };
    let mut said = Vec::new();
    let outcome = understudy_tools::pool::rebuild::run(&args, &mut said)?;
    Ok((outcome, String::from_utf8(said).unwrap()))
}

fn scene() -> Scene {
    let mut scene = Scene::new();
    (1..=3).for_each(|point| drop(scene.commit(&[block(point), block(9)])));
    scene.protect(1, true);
    scene.remove(2);
    scene.next_segment(5);
    scene.segment.write(scene.path());
    scene
}

#[test]
fn a_dry_run_tells_volumes_points_roots_and_protections() {
    let scene = scene();
    let (outcome, said) = rebuild(scene.path(), &["--dry-run"]).unwrap();
    let root = &scene.points[2].map.root().to_string()[..12];
    let expected = format!(
        "pool {POOL}: its file is right\n  VOLUME  POINTS  PROTECTED  NEWEST  TIME                  ROOT\n  \
         v            2          1       3  1970-01-01T00:00:00Z  {root}\nnothing was touched\n"
    );
    assert_eq!((outcome, said), (Outcome::Done, expected));
    let (_, said) = rebuild(scene.path(), &["--dry-run", "--json"]).unwrap();
    let volume: serde_json::Value = said.lines().nth(1).map(serde_json::from_str).unwrap().unwrap();
    assert_eq!(volume["points"][0]["protected"], true);
    assert_eq!(volume["points"][1]["root"], scene.points[2].map.root().to_string());
    assert_eq!(volume["points"][1]["size"], 2 * BLOCK);
}

#[test]
fn a_lost_and_a_damaged_pool_file_are_told() {
    let scene = scene();
    let path = scene.path().join("pool");
    let say = || rebuild(scene.path(), &["--dry-run"]).unwrap().1;
    fs::write(&path, "UPOL").unwrap();
    let said = say();
    assert!(said.starts_with(&format!("pool {POOL}: its file is damaged (pool file: length is 4, ")), "{said}");
    fs::remove_file(&path).unwrap();
    let said = say();
    let expected = "its file is lost; anew from the headers of the segments, created 1970-01-01T00:00:00Z";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn what_cannot_be_one_pool_is_refused() {
    let scene = scene();
    let refused = || rebuild(scene.path(), &["--dry-run"]).unwrap_err().to_string();
    let path = scene.path().join("pool");
    fs::write(&path, PoolRecord::new(Uuid::from_u128(99), 1).encode()).unwrap();
    assert!(refused().contains("remove the file if it is the wrong one"), "{}", refused());
    fs::remove_file(&path).unwrap();
    let stranger = scene.path().join("segments/0000000000000009.seg");
    fs::write(&stranger, SegmentHeader::new(Uuid::from_u128(98), 9).encode()).unwrap();
    assert!(refused().contains("belong to several pools"), "{}", refused());
    fs::remove_dir_all(scene.path().join("segments")).unwrap();
    assert!(refused().contains("is not a pool"), "{}", refused());
}

#[test]
fn segments_of_another_pool_are_passed_over_when_the_file_says_which_one_it_is() {
    let scene = scene();
    let stranger = scene.path().join("segments/0000000000000009.seg");
    fs::write(&stranger, SegmentHeader::new(Uuid::from_u128(98), 9).encode()).unwrap();
    let (outcome, said) = rebuild(scene.path(), &["--dry-run"]).unwrap();
    assert_eq!(outcome, Outcome::Done);
    assert!(said.starts_with("warning: segment 9 belongs to the pool "), "{said}");
}
