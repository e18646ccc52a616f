//! Collections of damaged pools: what cannot be told is not removed.

use crate::model::*;
use std::sync::Arc;
use understudy_appliance::pool::store::memory::MemoryStores;
use understudy_format::layout::Layout;
use understudy_format::map::Builder;
use understudy_format::segment::{Kind, RecordHeader};
use understudy_format::{Digest, ErrorKind};

/// Where the records of a digest start in a segment.
fn places(bytes: &[u8], digest: Digest) -> Vec<usize> {
    let is_it = |start: &usize| {
        RecordHeader::decode(&bytes[*start..], *start as u64).is_ok_and(|header| header.digest == digest)
    };
    (0..bytes.len()).step_by(64).filter(is_it).collect()
}

/// Flips a bit in the records of a digest, `at` bytes from their headers.
pub fn damage(lab: &Lab, digest: Digest, at: usize) {
    let mut found = 0;
    for path in lab.segments() {
        let mut bytes = std::fs::read(&path).unwrap();
        for start in places(&bytes, digest) {
            bytes[start + at] ^= 1;
            found += 1;
        }
        std::fs::write(&path, &bytes).unwrap();
    }
    assert!(found > 0, "there is a record of {digest}");
}

fn with_dead_segment(lab: &Lab) -> (Arc<understudy_appliance::pool::Pool>, Vec<u8>) {
    let pool = lab.open();
    let (large, small) = (volume(&(1..50).collect::<Vec<_>>()), volume(&[1, 2, 3]));
    replicate(&pool, None, &large, 1).unwrap();
    replicate(&pool, None, &small, 2).unwrap();
    remove(&pool, "v", [1]).unwrap();
    (pool, small)
}

#[test]
fn a_damaged_block_keeps_its_segment_until_it_is_sent_again() {
    let lab = Lab::quick();
    let (pool, small) = with_dead_segment(&lab);
    let before = lab.bytes();
    damage(&lab, Digest::of_block(&block(2)), RecordHeader::SIZE + 9);
    for _ in 0..2 {
        let collected = collect(&pool);
        assert_eq!((collected.left_alone, collected.removed_segments), (1, 0));
    }
    assert!(lab.bytes() >= before);
    let error = read(&pool, 2).unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("block 1 (byte offset 4096)"), "{error}");
    assert_eq!(collect(&pool).left_alone, 1, "also when the damage is known");
    replicate(&pool, None, &small, 3).unwrap();
    let collected = collect(&pool);
    assert_eq!((collected.left_alone, collected.removed_segments > 0), (0, true));
    assert!(lab.bytes() < before / 2, "{} bytes", lab.bytes());
    assert!(read(&pool, 2).unwrap() == small && read(&pool, 3).unwrap() == small);
    drop(pool);
    lab.lose_index();
    assert!(read(&lab.open(), 2).unwrap() == small);
}

/// With the index, where its record is known and damaged, and without, where nothing is known of it.
#[test]
fn a_damaged_or_lost_page_ends_the_collection() {
    for lose_index in [false, true] {
        let lab = Lab::quick();
        let (pool, small) = with_dead_segment(&lab);
        drop(pool);
        damage(&lab, map(&small).top, if lose_index { 8 } else { RecordHeader::SIZE + 9 });
        if lose_index {
            lab.lose_index();
        }
        let pool = lab.open();
        let count = lab.segments().len();
        let error = pool.collect(Default::default(), &Default::default()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("what v@2 needs cannot be told") && text.contains("remove that point"), "{error}");
        assert_eq!((error.kind(), lab.segments().len()), (ErrorKind::Refused, count));
        replicate(&pool, None, &small, 3).unwrap();
        assert!(read(&pool, 2).unwrap() == small, "nothing was removed");
        assert_eq!(collect(&pool).missing, 0);
    }
}

/// The index knows what cannot be read of the catalogue: it is recorded once more.
#[test]
fn a_damaged_record_of_the_catalogue_is_not_lost_with_its_segment() {
    let lab = Lab::quick();
    let (pool, small) = with_dead_segment(&lab);
    // What is left of the segment, and sealed.
    (0..2).for_each(|_| assert_eq!(collect(&pool).left_alone, 0));
    let volume_record = pool.volume(&"v".parse().unwrap()).unwrap().volume.encode();
    replicate_to(&pool, "w", None, &volume(&(100..150).collect::<Vec<_>>()), 9).unwrap();
    remove(&pool, "w", [1]).unwrap();
    replicate(&pool, Some(&small), &volume(&[7]), 4).unwrap();
    remove(&pool, "v", [2]).unwrap();
    damage(&lab, Kind::Volume.digest(&volume_record), RecordHeader::SIZE + 1);
    let collected = collect(&pool);
    assert_eq!((collected.left_alone, collected.removed_segments), (0, 2));
    drop(pool);
    lab.lose_index();
    assert!(read(&lab.open(), 3).unwrap() == volume(&[7]));
}

/// With nothing needed missing, a segment that does not tell what it has is as good as one that does.
#[test]
fn a_segment_with_a_gap_is_reclaimed() {
    let lab = Lab::quick();
    let (pool, small) = with_dead_segment(&lab);
    let before = lab.bytes();
    drop(pool);
    damage(&lab, Digest::of_block(&block(40)), 8);
    let pool = lab.open();
    let collected = collect(&pool);
    assert_eq!((collected.left_alone, collected.removed_segments), (0, 1), "{collected:?}");
    assert!(lab.bytes() < before / 2, "{} bytes", lab.bytes());
    drop(pool);
    lab.lose_index();
    let pool = lab.open();
    assert!(read(&pool, 2).unwrap() == small);
    assert_eq!((numbers(&pool), pool.next_number(&pool.volumes()[0].volume.uuid)), (vec![2], 3));
}

/// What is missing may stand in the gap.
#[test]
fn a_segment_with_a_gap_stays_while_something_is_missing() {
    let lab = Lab::quick();
    let (pool, small) = with_dead_segment(&lab);
    drop(pool);
    damage(&lab, Digest::of_block(&block(2)), 8);
    lab.lose_index();
    let pool = lab.open();
    let collected = collect(&pool);
    assert_eq!((collected.left_alone, collected.removed_segments, collected.missing), (1, 0, 1), "{collected:?}");
    replicate(&pool, None, &small, 3).unwrap();
    assert_eq!(collect(&pool).left_alone, 0);
    assert!(read(&pool, 2).unwrap() == small);
}

#[test]
fn records_of_a_later_version_keep_their_segment() {
    let lab = Lab::quick();
    let (pool, small) = with_dead_segment(&lab);
    let removed = pool.volume(&"v".parse().unwrap()).unwrap().volume.clone();
    drop(pool);
    let path = lab.segments().pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let digest = Kind::Volume.digest(&removed.encode());
    let start = places(&bytes, digest)[0];
    let mut header = RecordHeader::decode(&bytes[start..], start as u64).unwrap();
    header.kind = 200;
    bytes[start..start + RecordHeader::SIZE].copy_from_slice(&header.encode());
    std::fs::write(&path, &bytes).unwrap();
    let pool = lab.open();
    let collected = collect(&pool);
    assert_eq!((collected.left_alone, collected.removed_segments), (1, 0));
    assert!(read(&pool, 2).unwrap() == small);
    assert!(std::fs::read(&path).unwrap().starts_with(&bytes));
}

/// The index knows the beginning of a segment, in which there is damage now, and not its end: what is replayed of that must
/// not be taken for what is known.
#[test]
fn records_behind_a_gap_are_told_from_those_before_it() {
    let stores = Arc::new(MemoryStores::default());
    let lab = Lab { stores: stores.clone(), segment_size: 1 << 20, ..Lab::quick() };
    let (one, two) = (volume(&(1..40).collect::<Vec<_>>()), volume(&(500..540).collect::<Vec<_>>()));
    let pool = lab.open();
    replicate_to(&pool, "w", None, &volume(&(500..580).collect::<Vec<_>>()), 1).unwrap();
    // Its segment is sealed.
    collect(&pool);
    replicate(&pool, None, &one, 2).unwrap();
    drop(pool);
    let pool = lab.open();
    let guard = pool.begin_stream(&"x".parse().unwrap(), uuid::Uuid::nil()).unwrap();
    let (mut builder, mut pages) = (Builder::new(geometry(&two), None), pool.pages(Some(&guard)));
    two.chunks(BLOCK).for_each(|content| builder.block(Digest::of_block(content), &mut pages).unwrap());
    builder.finish(&mut pages).unwrap();
    // So that the page is durable, in the segment alone.
    pool.protect(&"v".parse().unwrap(), &[1].into(), true).unwrap();
    drop((guard, pool));
    stores.cut(|_| 0);
    damage(&lab, Digest::of_block(&block(1)), 8);
    let pool = lab.open();
    replicate_to(&pool, "x", None, &two, 3).unwrap();
    remove(&pool, "w", [1]).unwrap();
    assert!(collect(&pool).removed_segments > 0);
    lab.also_reopened(pool, |pool| assert!(read_of(pool, "x", 1).unwrap() == two));
}

/// What stood in a segment that somebody removed is sent again.
#[test]
fn a_lost_segment_is_damage() {
    let lab = Lab::quick();
    let bytes = volume(&(1..90).collect::<Vec<_>>());
    replicate(&lab.open(), None, &bytes, 1).unwrap();
    std::fs::remove_file(&lab.segments()[0]).unwrap();
    let pool = lab.open();
    assert_eq!(read(&pool, 1).unwrap_err().kind(), ErrorKind::Corrupt);
    for stream in 2.. {
        replicate(&pool, None, &bytes, stream).unwrap();
        match read(&pool, 1) {
            Ok(read) => return assert!(read == bytes),
            Err(error) => assert!(error.kind() == ErrorKind::Corrupt && stream < 200, "{error}"),
        }
    }
}
