//! `pool check` looks at journals: whether each is one run of whole entries, as long as was acknowledged.

use crate::build::{Scene, block};
use std::fs;
use std::path::PathBuf;
use understudy_format::follow::State;
use understudy_format::journal::{Change, FileHeader, Order, Position};
use uuid::Uuid;

const JOURNAL: Uuid = Uuid::from_u128(7);

/// A pool with a journal of two files: entries 1 to 3, and 4 to 6, of which all were acknowledged.
fn scene() -> (Scene, PathBuf) {
    let mut scene = Scene::new();
    scene.commit(&(0..20).map(block).collect::<Vec<_>>());
    let dir = scene.path().join("journals/v");
    fs::create_dir_all(&dir).unwrap();
    let mut order = Order::new(1 << 20, 1, 0);
    for first in [1, 4] {
        let header = FileHeader { journal: JOURNAL, volume_size: 1 << 20, first, created_ns: 0 };
        let mut file = header.encode();
        for at in 0..3 {
            let entry = order.make(5, Change::Write { offset: at * 100, length: 70 }, &[at as u8; 70]);
            file.extend([&entry.encode()[..], &[at as u8; 70]].concat());
        }
        fs::write(path(&dir, first), file).unwrap();
    }
    acknowledge(&dir, 6);
    (scene, dir)
}

fn path(dir: &std::path::Path, first: u64) -> PathBuf {
    dir.join(format!("{}-{first:016x}.journal", JOURNAL.simple()))
}

fn acknowledge(dir: &std::path::Path, sequence: u64) {
    let acknowledged = Some(Position { journal: JOURNAL, sequence });
    fs::write(dir.join("state"), State { acknowledged, ..State::default() }.encode()).unwrap();
}

#[track_caller]
fn finds(scene: &Scene, expected: &str) {
    let report = scene.check();
    let [damage] = &report.damages[..] else { panic!("one damage: {:#?}", report.damages) };
    assert!(damage.what == "journal" && damage.text.contains(expected), "{expected:?} in {damage:#?}");
}

#[track_caller]
fn notes(scene: &Scene, expected: &str) {
    let report = scene.check();
    assert!(report.damages.is_empty(), "{:#?}", report.damages);
    assert!(report.notes.iter().any(|note| note.contains(expected)), "{expected:?} in {:#?}", report.notes);
}

#[test]
fn a_sound_journal_is_told_with_what_it_has_and_what_was_never_acknowledged() {
    let (scene, dir) = scene();
    notes(&scene, &format!("journals of v: journal {JOURNAL}: entries 1 to 6"));
    let mut file = fs::read(path(&dir, 4)).unwrap();
    file.truncate(file.len() - 1);
    fs::write(path(&dir, 4), &file).unwrap();
    finds(&scene, "ends after entry 5, and entry 6 was acknowledged");
    acknowledge(&dir, 5);
    notes(&scene, "behind its end were never acknowledged");
    fs::write(path(&dir, 4), b"UJNL").unwrap();
    finds(&scene, "00004.journal");
    acknowledge(&dir, 3);
    notes(&scene, "entries 1 to 3");
}

#[test]
fn a_gap_and_a_journal_that_is_gone_are_damage() {
    let (scene, dir) = scene();
    let mut file = fs::read(path(&dir, 1)).unwrap();
    *file.last_mut().unwrap() ^= 1;
    fs::write(path(&dir, 1), file).unwrap();
    finds(&scene, "begins with entry 4, and the file before ends before entry 3");
    fs::remove_file(path(&dir, 1)).unwrap();
    notes(&scene, "entries 4 to 6");
    fs::remove_file(path(&dir, 4)).unwrap();
    finds(&scene, "no file of it is here");
    fs::write(dir.join("state"), b"nothing").unwrap();
    finds(&scene, "follow state");
}
