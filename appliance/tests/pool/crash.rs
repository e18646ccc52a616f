//! What a killed daemon leaves: unsynced tails of any length, and files that were only just created.

use crate::model::*;
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;

/// A pool with two points in one segment.
struct TwoPoints {
    lab: Lab,
    one: Vec<u8>,
    two: Vec<u8>,
    path: PathBuf,
    /// Length of the segment after the first point.
    before: u64,
    /// The segment after the second.
    whole: Vec<u8>,
}

fn two_points() -> TwoPoints {
    let (one, two) = (volume(&[1, 2, 3]), volume(&[1, 9, 3, 10]));
    let lab = Lab::new();
    replicate(&lab.open(), None, &one, 1).unwrap();
    let path = lab.segments().pop().unwrap();
    let before = std::fs::metadata(&path).unwrap().len();
    replicate(&lab.open(), Some(&one), &two, 2).unwrap();
    let whole = std::fs::read(&path).unwrap();
    TwoPoints { lab, one, two, path, before, whole }
}

/// The length of the newest segment after a first point, then the files after a second one that was
/// cut at any byte: reopening must give the first point alone or both, and go on.
#[test]
fn a_segment_cut_at_any_byte_keeps_all_earlier_points() {
    let TwoPoints { lab, one, two, path, before, whole } = two_points();
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

/// Torn pages: 512 bytes read as zeros. In the page of the point record the point is absent; in front of it, which a
/// crash cannot do because that was durable before, it is damage: reported, and never taken for content.
#[test]
fn a_torn_tail_is_never_taken_for_a_record() {
    let TwoPoints { lab, one, two, path, before, whole } = two_points();
    for at in (before..whole.len() as u64).step_by(512) {
        std::fs::remove_dir_all(lab.dir.path().join("index")).unwrap();
        let mut file = OpenOptions::new().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(&[0; 512]).unwrap();
        drop(file);
        let pool = lab.open();
        assert!(read(&pool, 1).unwrap() == one, "torn at {at}");
        match numbers(&pool)[..] {
            [1] => {}
            [1, 2] => match read(&pool, 2) {
                Ok(bytes) => assert!(bytes == two, "torn at {at}"),
                Err(error) => assert_eq!(error.kind(), understudy_format::ErrorKind::Corrupt, "torn at {at}: {error}"),
            },
            ref other => panic!("torn at {at}: points {other:?}"),
        }
        if at == whole.len() as u64 - 4096 {
            assert_eq!(numbers(&pool), [1], "the point record is torn");
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

/// A segment that has a header and no aligned end of a record yet must not be written on without its header.
#[test]
fn a_segment_without_any_durable_record_is_never_written_on() {
    let lab = Lab::new();
    let (one, two) = (volume(&[1, 2, 3]), volume(&[1, 9, 3, 10]));
    replicate(&lab.open(), None, &one, 1).unwrap();
    let first = lab.segments().pop().unwrap();
    let whole = std::fs::read(&first).unwrap();
    std::fs::write(&first, &whole[..64 + 4096 + 64]).unwrap();
    std::fs::remove_dir_all(lab.dir.path().join("index")).unwrap();
    let pool = lab.open();
    assert!(numbers(&pool).is_empty());
    replicate(&pool, None, &two, 2).unwrap();
    drop(pool);
    std::fs::remove_dir_all(lab.dir.path().join("index")).unwrap();
    assert!(read(&lab.open(), 1).unwrap() == two, "the segments alone are the pool");
    for path in lab.segments() {
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.is_empty() || bytes.starts_with(b"USEG"), "{}", path.display());
    }
}

/// The newest segment was sealed, and of the writes before its last sync one was lost: its footer lists what is not there.
fn sealed_with_a_hole() -> (Lab, Vec<u8>, Vec<u8>) {
    let lab = Lab::new();
    let (one, two) = (volume(&[1, 2, 3]), volume(&(1..400).collect::<Vec<_>>()));
    replicate(&lab.open(), None, &one, 1).unwrap();
    let before = std::fs::metadata(lab.segments().pop().unwrap()).unwrap().len();
    replicate(&lab.open(), Some(&one), &two, 2).unwrap();
    let paths = lab.segments();
    assert!(paths.len() > 1, "the first segment was sealed");
    let mut sealed = std::fs::read(&paths[0]).unwrap();
    sealed[before as usize + 40_000..before as usize + 80_000].fill(0);
    std::fs::write(&paths[0], &sealed).unwrap();
    paths[1..].iter().for_each(|path| std::fs::remove_file(path).unwrap());
    lab.lose_index();
    (lab, one, two)
}

#[test]
fn the_footer_of_the_newest_segment_is_not_believed() {
    let (lab, one, two) = sealed_with_a_hole();
    let pool = lab.open();
    assert_eq!(numbers(&pool), [1]);
    assert!(read(&pool, 1).unwrap() == one);
    replicate(&pool, Some(&one), &two, 3).unwrap();
    assert!(read(&pool, 2).unwrap() == two, "nothing was deduplicated against what was lost");
}

/// Another segment follows, which usually proves that the footer before it was synced.
#[test]
fn nor_is_it_believed_once_it_is_not_the_newest() {
    let (lab, one, two) = sealed_with_a_hole();
    replicate_to(&lab.open(), "w", None, &volume(&[9000]), 3).unwrap();
    lab.lose_index();
    let pool = lab.open();
    replicate(&pool, Some(&one), &two, 4).unwrap();
    assert!(read(&pool, 2).unwrap() == two, "nothing was deduplicated against what was lost");
}

/// One damaged header costs what it describes, not the acknowledged points behind it.
#[test]
fn points_behind_damage_are_found_without_the_index() {
    let lab = Lab::new();
    let versions = [volume(&[1, 2, 3]), volume(&[1, 9, 3]), volume(&[7, 9, 3])];
    let mut old = None;
    let mut lengths = Vec::new();
    for (at, new) in versions.iter().enumerate() {
        replicate(&lab.open(), old, new, at as u128 + 1).unwrap();
        lengths.push(std::fs::metadata(lab.segments().pop().unwrap()).unwrap().len() as usize);
        old = Some(&new[..]);
    }
    let path = lab.segments().pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[lengths[0] + 8] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    std::fs::remove_dir_all(lab.dir.path().join("index")).unwrap();
    let pool = lab.open();
    assert!(numbers(&pool).contains(&3), "{:?}", numbers(&pool));
    assert!(read(&pool, 1).unwrap() == versions[0]);
    assert_eq!(std::fs::metadata(&path).unwrap().len() as usize, lengths[2], "nothing was cut off");
    replicate(&pool, None, &versions[2], 9).unwrap();
    assert!(read(&pool, 3).unwrap() == versions[2], "what the damage took was sent again");
}
