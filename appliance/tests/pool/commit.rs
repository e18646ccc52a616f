//! Commits: a point is complete or absent, stored once, and there again after reopening.

use crate::model::*;
use understudy_appliance::ingest::{Announced, Ingest};
use understudy_format::chunk::{Chunk, Entry};
use understudy_format::session::{Prepared, Sender};
use understudy_format::{BlockId, Digest, ErrorKind};

#[test]
fn points_are_read_back_after_every_reopening() {
    let lab = Lab::new();
    let versions = [
        volume(&[1, 2, 0, 3]),
        volume(&[1, 2, 0, 4, 5, 0, 0]),
        volume(&[0, 2]),
        [volume(&(1..700).collect::<Vec<_>>()), vec![7; 512]].concat(),
    ];
    let mut old = None;
    for (at, new) in versions.iter().enumerate() {
        let pool = lab.open();
        replicate(&pool, old, new, at as u128 + 1).unwrap();
        assert_eq!(numbers(&pool), (1..=at as u64 + 1).collect::<Vec<_>>());
        old = Some(&new[..]);
    }
    let pool = lab.open();
    for (at, bytes) in versions.iter().enumerate() {
        assert!(read(&pool, at as u64 + 1).unwrap() == *bytes, "point {}", at + 1);
    }
    assert!(lab.segments().len() > 1, "segments were sealed on the way");
}

#[test]
fn a_digest_is_stored_once_and_asked_for_once() {
    let lab = Lab::new();
    let pool = lab.open();
    let bytes = volume(&[5, 5, 5, 6, 5, 6]);
    let (mut sender, mut ingest) = start(&pool, "v", None, &bytes, 1).unwrap();
    assert_eq!(feed(&mut sender, &mut ingest, None, &bytes, 9).unwrap(), 2);
    let point = ingest.commit(&sender.commit(map(&bytes).root()).unwrap()).unwrap();
    assert_eq!(point.new_bytes, 2 * BLOCK as u64);
    let again = replicate(&pool, None, &bytes, 2).unwrap();
    assert_eq!((again.new_bytes, again.stored_bytes), (0, 0), "a second full stores nothing");
}

#[test]
fn the_index_is_a_cache_of_the_segments() {
    let lab = Lab::new();
    let (one, two) = (volume(&(1..600).collect::<Vec<_>>()), volume(&(300..900).collect::<Vec<_>>()));
    replicate(&lab.open(), None, &one, 1).unwrap();
    replicate(&lab.open(), Some(&one), &two, 2).unwrap();
    std::fs::remove_dir_all(lab.dir.path().join("index")).unwrap();
    let pool = lab.open();
    assert_eq!(numbers(&pool), [1, 2]);
    assert!(read(&pool, 1).unwrap() == one && read(&pool, 2).unwrap() == two);
    assert_eq!(replicate(&pool, Some(&two), &two, 3).unwrap().stored_bytes, 0);
}

/// Another file can share what stands at whole disk pages only.
#[test]
fn where_files_share_bytes_blocks_stand_at_whole_disk_pages() {
    let lab = Lab::new();
    let bytes = volume(&(1..700).collect::<Vec<_>>());
    let aligned = || {
        let segments: Vec<_> = lab.segments().iter().map(|path| std::fs::read(path).unwrap()).collect();
        let pages: std::collections::HashSet<_> = segments.iter().flat_map(|bytes| bytes.chunks(BLOCK)).collect();
        bytes.chunks(BLOCK).filter(|block| pages.contains(block)).count()
    };
    replicate(&lab.open(), None, &bytes[..64 * BLOCK], 1).unwrap();
    assert!(aligned() < 64, "it costs space where nothing is shared");
    lab.disk.shares.store(true, std::sync::atomic::Ordering::SeqCst);
    replicate(&lab.open(), None, &bytes[64 * BLOCK..], 2).unwrap();
    assert!(aligned() >= 699 - 64);
    lab.lose_index();
    let pool = lab.open();
    assert!(read(&pool, 2).unwrap() == bytes[64 * BLOCK..]);
    assert!(lab.segments().len() > 4, "segments were sealed on the way");
}

/// A process may have 1,024 files by default; a pool of 256 GiB has as many segments.
#[test]
fn opening_a_pool_takes_few_files_however_many_segments_there_are() {
    let lab = Lab { segment_size: 32 << 10, ..Lab::new() };
    let bytes = volume(&(1..900).collect::<Vec<_>>());
    replicate(&lab.open(), None, &bytes, 1).unwrap();
    assert!(lab.segments().len() > 100);
    std::fs::remove_dir_all(lab.dir.path().join("index")).unwrap();
    lab.disk.open_most.store(0, std::sync::atomic::Ordering::SeqCst);
    let pool = lab.open();
    let most = lab.disk.open_most.load(std::sync::atomic::Ordering::SeqCst);
    assert!(most <= 4, "{most} files were open at the same time");
    assert!(read(&pool, 1).unwrap() == bytes);
}

#[test]
fn a_stream_that_ends_early_leaves_no_point_and_the_volume_free() {
    let lab = Lab::new();
    let pool = lab.open();
    let bytes = volume(&(1..100).collect::<Vec<_>>());
    let (mut sender, mut ingest) = start(&pool, "v", None, &bytes, 1).unwrap();
    feed(&mut sender, &mut ingest, None, &bytes, 3).unwrap();
    let busy = start(&pool, "v", None, &bytes, 2).err().unwrap();
    assert_eq!(busy.kind(), ErrorKind::Retry, "{busy}");
    drop(ingest);
    assert!(pool.volumes().is_empty());
    replicate(&pool, None, &bytes, 3).unwrap();
    assert_eq!(numbers(&pool), [1]);
}

#[test]
fn a_wrong_root_or_an_unknown_base_commits_nothing() {
    let lab = Lab::new();
    let pool = lab.open();
    let (bytes, other) = (volume(&[1, 2, 3]), volume(&[4, 5, 6]));
    let (mut sender, mut ingest) = start(&pool, "v", None, &bytes, 1).unwrap();
    feed(&mut sender, &mut ingest, None, &bytes, 9).unwrap();
    let error = ingest.commit(&sender.commit(Digest::of_record(b"another")).unwrap()).unwrap_err();
    assert!(error.to_string().contains("root of the stream: digest mismatch"), "{error}");
    let error = start(&pool, "v", Some(&other), &bytes, 2).err().unwrap();
    assert!(error.to_string().contains("no common base"), "{error}");
    assert!(numbers(&pool).is_empty());
}

#[test]
fn a_block_that_is_not_what_its_digest_says_ends_the_stream() {
    let lab = Lab::new();
    let pool = lab.open();
    let bytes = volume(&[1, 2, 3]);
    let (mut sender, mut ingest) = start(&pool, "v", None, &bytes, 1).unwrap();
    let offer = sender.offer(Prepared { entries: data(&bytes), token: () }).unwrap();
    let wanted = ingest.offer(&offer).unwrap();
    sender.need(0, &wanted).unwrap();
    let ready = sender.take_ready().unwrap().unwrap();
    let wrong = volume(&[1, 9, 3]);
    let content = |block: BlockId| wrong.chunks(BLOCK).nth(block.0 as usize).unwrap();
    let chunk = understudy_format::session::pack(ready.head, false, content).unwrap();
    let error = ingest.chunk(&chunk).unwrap_err().to_string();
    assert!(error.contains("volume v, block 1 (byte offset 4096): block: digest mismatch"), "{error}");
}

fn data(bytes: &[u8]) -> Vec<Entry> {
    let entry = |content: &[u8]| Entry::Data {
        digest: Digest::of_block(content),
        codec: understudy_format::codec::Codec::Stored,
        payload_offset: 0,
        payload_length: 0,
        block_length: content.len() as u32,
    };
    bytes.chunks(BLOCK).map(entry).collect()
}

#[test]
fn a_second_opening_of_a_pool_is_refused() {
    let lab = Lab::new();
    let _pool = lab.open();
    let error = understudy_appliance::pool::Pool::open(lab.dir.path(), lab.options()).unwrap_err();
    assert!(error.kind() == ErrorKind::Retry && error.to_string().contains("in use by another"), "{error}");
}

#[test]
fn a_reference_to_a_block_of_another_length_or_to_none_is_refused() {
    let lab = Lab::new();
    let pool = lab.open();
    replicate(&pool, None, &volume(&[1])[..512], 1).unwrap();
    let tail = Digest::of_block(&volume(&[1])[..512]);
    for (digest, reason) in [(tail, "has 512 bytes, 4096 expected"), (Digest::of_record(b"x"), "is not in the pool")] {
        let bytes = volume(&[2]);
        let (mut sender, mut ingest) = start(&pool, "w", None, &bytes, 2).unwrap();
        let entry = Entry::Reference { digest, block_length: BLOCK as u32 };
        sender.offer(Prepared { entries: vec![entry], token: () });
        let head = sender.take_ready().unwrap().unwrap().head;
        let chunk = Chunk { head, payload: bytes::Bytes::new() };
        let error = ingest.chunk(&chunk).unwrap_err().to_string();
        assert!(error.contains("volume w, block 0 (byte offset 0): reference") && error.contains(reason), "{error}");
    }
}

#[test]
fn a_base_of_another_size_is_no_base() {
    let lab = Lab::new();
    let pool = lab.open();
    let bytes = volume(&[1, 2]);
    replicate(&pool, None, &bytes, 1).unwrap();
    let mut begin = begin(Some(&bytes), &volume(&[1, 2, 3]), 2);
    begin.base.as_mut().unwrap().size = 3 * BLOCK as u64;
    let announced = Announced {
        name: "v".parse().unwrap(),
        label: None,
        new_uuid: uuid::Uuid::from_u128(2),
        now_ns: 1,
        learns: true,
        over: None,
    };
    let error = Ingest::begin(pool, announced, begin).unwrap_err();
    assert!(error.to_string().contains("no common base"), "{error}");
}

#[test]
fn two_streams_of_one_volume_uuid_under_two_names_are_refused() {
    let lab = Lab::new();
    let pool = lab.open();
    let uuid = uuid::Uuid::from_u128(5);
    let first = pool.begin_stream(&"a".parse().unwrap(), uuid).unwrap();
    assert_eq!(pool.begin_stream(&"b".parse().unwrap(), uuid).unwrap_err().kind(), ErrorKind::Retry);
    drop(first);
    pool.begin_stream(&"b".parse().unwrap(), uuid).unwrap();
}

/// A first commit that failed after its volume was recorded must not hide the points of the one that succeeded.
#[test]
fn a_volume_whose_first_commit_failed_is_there_after_the_second() {
    for n in 1.. {
        let lab = Lab::new();
        let pool = lab.open();
        let bytes = volume(&[1, 2, 3]);
        lab.disk.fail_at(n, 28);
        let result = replicate(&pool, None, &bytes, 1);
        if !lab.disk.failed() {
            result.unwrap();
            return assert!(n > 3, "{n} writes and syncs were tried");
        }
        result.unwrap_err();
        replicate(&pool, None, &bytes, 2).unwrap();
        drop(pool);
        let pool = lab.open();
        let number = *numbers(&pool).last().expect("the acknowledged point is there");
        assert!(read(&pool, number).unwrap() == bytes, "failure {n}");
    }
}

#[test]
fn who_may_not_learn_what_the_pool_has_brings_every_block_and_refers_to_none() {
    let lab = Lab::new();
    let pool = lab.open();
    let bytes = volume(&[1, 2, 2]);
    replicate(&pool, None, &bytes, 1).unwrap();
    let stranger = || Announced { learns: false, ..announced("other", 2) };
    let start = || Ingest::begin(pool.clone(), stranger(), begin(None, &bytes, 2)).unwrap();
    let mut sender = Sender::online(begin(None, &bytes, 2), 4);
    let offer = sender.offer(Prepared { entries: data(&bytes), token: () }).unwrap();
    assert_eq!(start().offer(&offer).unwrap(), [true, true, true]);

    let reference = |seed| Entry::Reference { digest: Digest::of_block(&block(seed)), block_length: BLOCK as u32 };
    let refused = |seed| {
        let mut sender = Sender::online(begin(None, &bytes, 2), 4);
        sender.offer(Prepared { entries: vec![reference(seed)], token: () });
        let chunk = Chunk { head: sender.take_ready().unwrap().unwrap().head, payload: bytes::Bytes::new() };
        start().chunk(&chunk).unwrap_err().to_string().replace(&Digest::of_block(&block(seed)).to_string(), "X")
    };
    // What is there, and what is not, gets the same answer.
    assert_eq!(refused(1), refused(9));
    assert!(refused(1).contains("not in the pool"), "{}", refused(1));
}

#[test]
fn a_client_whose_clock_is_ahead_makes_no_point_of_the_future() {
    let (lab, bytes) = (Lab::quick(), volume(&[1, 2]));
    let pool = lab.open();
    let begin = begin(None, &bytes, 5);
    let announced = Announced { now_ns: 3, ..announced("v", 5) };
    let (mut sender, mut ingest) = (Sender::online(begin, 4), Ingest::begin(pool, announced, begin).unwrap());
    feed(&mut sender, &mut ingest, None, &bytes, 9).unwrap();
    let point = ingest.commit(&sender.commit(map(&bytes).root()).unwrap()).unwrap();
    assert_eq!(point.created_ns, 3);
}
