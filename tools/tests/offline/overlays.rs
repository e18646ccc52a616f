//! `pool check` looks at scratch overlays: what they say they are over, and whether they can be opened.

use crate::build::{POOL, Scene, VOLUME, block};
use std::fs;
use std::path::PathBuf;
use understudy_format::overlay::{Header, OwnedPage};
use understudy_format::point::Point;
use understudy_tools::pool::report::Report;
use uuid::Uuid;

/// A pool whose point 1 has an overlay that owns two granules.
fn scene() -> (Scene, Point, PathBuf) {
    let mut scene = Scene::new();
    let point = scene.commit(&(0..20).map(block).collect::<Vec<_>>());
    let volume_size = point.map.geometry.volume_size();
    let dir = scene.path().join(format!("overlays/{}@1", name(&scene)));
    fs::create_dir_all(&dir).unwrap();
    let header = Header { pool: POOL, volume: VOLUME, point: 1, volume_size, root: point.map.root(), created_ns: 1 };
    fs::write(dir.join("header"), header.encode()).unwrap();
    fs::write(dir.join("data"), vec![0; volume_size as usize]).unwrap();
    let mut page = OwnedPage::default();
    assert!(page.insert(3) && page.insert(9));
    fs::write(dir.join("owned"), page.next(Uuid::nil()).encode(0)).unwrap();
    (scene, point, dir)
}

fn name(scene: &Scene) -> String {
    scene.check().volumes[0].name.clone()
}

#[track_caller]
fn finds(scene: &Scene, expected: &str) {
    let report: Report = scene.check();
    let [damage] = &report.damages[..] else { panic!("one damage: {:#?}", report.damages) };
    assert!(damage.what == "overlay" && damage.text.contains(expected), "{expected:?} in {damage:#?}");
}

#[test]
fn a_sound_overlay_is_told_with_what_was_written() {
    let (scene, _, dir) = scene();
    let report = scene.check();
    assert!(report.damages.is_empty(), "{:#?}", report.damages);
    assert_eq!(report.notes, [format!("overlay {}@1+w: 8.2 kB written", name(&scene))]);
    fs::remove_file(dir.join("header")).unwrap();
    let report = scene.check();
    assert!(report.damages.is_empty() && report.notes[0].contains("was being made or discarded"), "{:?}", report.notes);
}

#[test]
fn what_is_wrong_with_an_overlay_is_damage() {
    let (scene, point, dir) = scene();
    fs::write(dir.join("data"), b"short").unwrap();
    finds(&scene, "its data has 5 bytes, 81920 expected");
    fs::write(dir.join("data"), vec![0; 81920]).unwrap();
    fs::write(dir.join("owned"), vec![7; 8192]).unwrap();
    finds(&scene, "overlay slot");
    fs::write(dir.join("owned"), b"").unwrap();
    let volume_size = point.map.geometry.volume_size();
    let header = Header { pool: POOL, volume: VOLUME, point: 1, volume_size, root: point.map.root(), created_ns: 1 };
    for (wrong, expected) in [
        (Header { point: 5, ..header }, "a point that no segment has"),
        (Header { pool: Uuid::from_u128(1), ..header }, "over another point"),
        (Header { root: understudy_format::Digest([9; 32]), ..header }, "over another point"),
    ] {
        fs::write(dir.join("header"), wrong.encode()).unwrap();
        finds(&scene, expected);
    }
    fs::write(dir.join("header"), b"nothing").unwrap();
    finds(&scene, "overlay header");
}
