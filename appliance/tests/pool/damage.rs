//! Damage at rest: reported with its place, never handed out, never deduplicated against.

use crate::model::*;
use std::os::unix::fs::FileExt;
use understudy_format::ErrorKind;

/// Flips one bit of a block's stored bytes (blocks are incompressible, so they stand there verbatim).
pub fn damage(lab: &Lab, content: &[u8]) {
    for path in lab.segments() {
        let bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(64).position(|window| window == &content[100..164]) {
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.write_at(&[bytes[at] ^ 1], at as u64).unwrap();
        }
    }
}

/// Longhorn #1385, #7070: a corrupt stored block poisoned every later backup.
#[test]
fn longhorn_1385_a_damaged_block_is_reported_and_sent_again() {
    let lab = Lab::new();
    let bytes = volume(&[1, 2, 3]);
    replicate(&lab.open(), None, &bytes, 1).unwrap();
    damage(&lab, &block(2));
    let pool = lab.open();
    let error = read(&pool, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().starts_with("volume v, point 1, block 1 (byte offset 4096): damaged block"), "{error}");
    let (mut sender, mut ingest) = start(&pool, "v", None, &bytes, 2).unwrap();
    assert_eq!(feed(&mut sender, &mut ingest, None, &bytes, 9).unwrap(), 1, "only the damaged block is wanted");
    ingest.commit(&sender.commit(map(&bytes).root()).unwrap()).unwrap();
    assert!(read(&pool, 1).unwrap() == bytes && read(&pool, 2).unwrap() == bytes, "both points are whole again");
    drop(pool);
    assert!(read(&lab.open(), 1).unwrap() == bytes);
}

#[test]
fn a_flipped_bit_anywhere_in_a_segment_is_never_handed_out() {
    let lab = Lab::new();
    let bytes = volume(&[1, 2, 0, 3]);
    replicate(&lab.open(), None, &bytes, 1).unwrap();
    let path = lab.segments().pop().unwrap();
    let whole = std::fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(211) {
        let mut bad = whole.clone();
        bad[at] ^= 0x10;
        std::fs::write(&path, &bad).unwrap();
        let pool = lab.open();
        assert_eq!(numbers(&pool), [1], "flipped at {at}");
        if let Ok(read) = read(&pool, 1) {
            assert!(read == bytes, "flipped at {at}");
        }
        drop(pool);
        std::fs::write(&path, &whole).unwrap();
        std::fs::remove_dir_all(lab.dir.path().join("index")).unwrap();
        drop(lab.open());
    }
}
