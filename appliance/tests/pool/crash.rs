//! What a killed daemon leaves: unsynced tails of any length, and files that were only just created.

use crate::model::*;
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};

/// The length of the newest segment after a first point, then the files after a second one that was
/// cut at any byte: reopening must give the first point alone or both, and go on.
#[test]
fn a_segment_cut_at_any_byte_keeps_all_earlier_points() {
    let (one, two) = (volume(&[1, 2, 3]), volume(&[1, 9, 3, 10]));
    let lab = Lab::new();
    replicate(&lab.open(), None, &one, 1).unwrap();
    let path = lab.segments().pop().unwrap();
    let before = std::fs::metadata(&path).unwrap().len();
    replicate(&lab.open(), Some(&one), &two, 2).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let after = whole.len() as u64;
    assert!(after > before);
    // Every page and record edge, one byte around them, and some bytes in between.
    let edges = (before..=after).filter(|at| at % 4096 < 2 || at % 4096 == 4095 || at % 1777 == 0 || after - at < 3);
    for length in edges {
        std::fs::remove_dir_all(lab.dir.path().join("index")).unwrap();
        std::fs::write(&path, &whole[..length as usize]).unwrap();
        let pool = lab.open();
        assert!(read(&pool, 1).unwrap() == one, "cut at {length}");
        let expected: &[u64] = if length == after { &[1, 2] } else { &[1] };
        assert_eq!(numbers(&pool), expected, "cut at {length}");
        if length != after {
            replicate(&pool, Some(&one), &two, 3).unwrap();
        }
        drop(pool);
        assert!(read(&lab.open(), 2).unwrap() == two, "cut at {length}, then written on");
        std::fs::write(&path, &whole).unwrap();
    }
}

/// Torn pages: any 512 bytes behind the last sync read as zeros.
#[test]
fn a_torn_tail_is_never_taken_for_a_record() {
    let (one, two) = (volume(&[1, 2, 3]), volume(&[1, 9, 3, 10]));
    let lab = Lab::new();
    replicate(&lab.open(), None, &one, 1).unwrap();
    let path = lab.segments().pop().unwrap();
    let before = std::fs::metadata(&path).unwrap().len();
    replicate(&lab.open(), Some(&one), &two, 2).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for at in (before..whole.len() as u64).step_by(512) {
        std::fs::remove_dir_all(lab.dir.path().join("index")).unwrap();
        let mut file = OpenOptions::new().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(&[0; 512]).unwrap();
        drop(file);
        let pool = lab.open();
        assert!(read(&pool, 1).unwrap() == one, "torn at {at}");
        if numbers(&pool) == [1, 2] {
            assert!(read(&pool, 2).unwrap() == two, "torn at {at}: a point that is there is whole");
        }
        std::fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn an_empty_or_headless_last_segment_is_passed_over() {
    let lab = Lab::new();
    let bytes = volume(&[1, 2, 3]);
    replicate(&lab.open(), None, &bytes, 1).unwrap();
    for content in [&b""[..], &[0; 100], &[0; 4096]] {
        std::fs::write(lab.dir.path().join("segments/00000000000000ff.seg"), content).unwrap();
        let pool = lab.open();
        assert!(read(&pool, 1).unwrap() == bytes);
        replicate(&pool, Some(&bytes), &volume(&[8]), 2).unwrap();
        assert!(read(&pool, 1).unwrap() == bytes);
        drop(pool);
        std::fs::remove_file(lab.dir.path().join("segments/00000000000000ff.seg")).unwrap();
        std::fs::remove_file(lab.dir.path().join("segments/0000000000000100.seg")).unwrap();
        std::fs::remove_dir_all(lab.dir.path().join("index")).unwrap();
    }
}
