//! The tools that only read are read-only: the whole pool has the same bytes, times and names before and after.

use crate::build::{BLOCK, Scene, block, noise};
use crate::extract::extract;
use crate::rebuild::rebuild;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use understudy_format::segment::Kind;

#[test]
fn a_check_leaves_no_trace_in_sound_and_damaged_pools() {
    let mut scene = Scene::new();
    let mut blocks: Vec<Vec<u8>> = (0..300).map(block).collect();
    blocks[1] = noise(1, BLOCK);
    scene.commit(&blocks);
    scene.segment.content(Kind::Block, &noise(2, BLOCK));
    scene.segment.write(scene.path());
    let before = fingerprint(scene.path());
    assert!(before.len() > 8, "{before:?}");
    let report = understudy_tools::pool::check(scene.path(), false).unwrap();
    assert!(report.is_sound() && report.summary.unacknowledged_bytes > 0);
    assert_eq!(fingerprint(scene.path()), before);

    let at = scene.find(&noise(1, BLOCK));
    scene.segment.bytes[at] ^= 1;
    scene.segment.write(scene.path());
    let before = fingerprint(scene.path());
    assert!(!understudy_tools::pool::check(scene.path(), false).unwrap().is_sound());
    assert_eq!(fingerprint(scene.path()), before);
}

#[test]
fn an_extraction_leaves_no_trace_in_sound_and_damaged_pools() {
    let mut scene = Scene::new();
    let blocks: Vec<Vec<u8>> = (0..300).map(|seed| noise(seed, BLOCK)).collect();
    scene.commit(&blocks);
    scene.segment.write(scene.path());
    let outside = tempfile::tempdir().unwrap();
    for damaged in [false, true] {
        if damaged {
            let at = scene.find(&blocks[1]);
            scene.segment.bytes[at] ^= 1;
            scene.segment.write(scene.path());
        }
        let before = fingerprint(scene.path());
        extract(scene.path(), "v", &outside.path().join(format!("damaged {damaged}")), &[]).unwrap();
        assert_eq!(fingerprint(scene.path()), before);
    }
}

#[test]
fn a_dry_run_of_a_rebuild_leaves_no_trace() {
    let mut scene = Scene::new();
    scene.commit(&[block(1)]);
    scene.segment.write(scene.path());
    for lost in ["index", "lock", "pool"] {
        let _ = fs::remove_file(scene.path().join(lost));
        let before = fingerprint(scene.path());
        rebuild(scene.path(), &["--dry-run"]).unwrap();
        assert_eq!(fingerprint(scene.path()), before);
    }
}

/// Every file and directory with the digest of its bytes and its time of change.
fn fingerprint(root: &Path) -> BTreeMap<PathBuf, (Option<String>, SystemTime)> {
    let (mut found, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(path) = open.pop() {
        let meta = fs::metadata(&path).unwrap();
        let digest = meta.is_file().then(|| blake3::hash(&fs::read(&path).unwrap()).to_string());
        if meta.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.insert(path, (digest, meta.modified().unwrap()));
    }
    found
}
