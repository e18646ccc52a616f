//! What each end of a session refuses, one misuse a test, with the exact error.

use crate::reader::{Sink, read_stream};
use crate::samples::{encoded, uuid};
use crate::streams::{Pages, Replica, Volume, begin, data, entries, stream};
use understudy_format::chunk::{ChunkHead, Entry};
use understudy_format::error::{FormatError, Result};
use understudy_format::geometry::BlockId;
use understudy_format::session::{Cursor, Prepared, Receiver, Sender, WINDOW_MAX, pack};
use understudy_format::stream::{Commit, Totals};
use understudy_format::wire::Message;
use understudy_format::{BlockSize, Digest};

/// 100 blocks, all different from zero, the tail of 512 bytes.
fn volume() -> Volume {
    Volume::new(&[1, 3, 5, 7].repeat(25), 1)
}

/// The chunk of one block.
fn one(volume: &Volume, sequence: u64) -> ChunkHead {
    let begin = begin(volume, None);
    ChunkHead {
        volume: begin.volume,
        stream: begin.stream,
        sequence,
        geometry: begin.geometry,
        first_block: BlockId(sequence),
        entries: entries(volume, None, sequence, sequence + 1),
        payload_length: 0,
        payload_crc: 0,
    }
}

fn receiver(volume: &Volume) -> Receiver {
    Receiver::new(begin(volume, None))
}

fn take(receiver: &mut Receiver, head: ChunkHead) -> Result<()> {
    let volume = volume();
    receiver.chunk(&pack(head, true, |block| volume.block(block))?)
}

fn offer(receiver: &mut Receiver, head: &ChunkHead) -> Result<Vec<bool>> {
    receiver.offer(head, |_| Ok::<_, FormatError>(false))
}

fn chunk_error(reason: &str) -> Result<()> {
    Err(FormatError::invalid("chunk", reason))
}

fn turn_error(found: u64, next: u64) -> Result<Vec<bool>> {
    let reason = format!("of chunk {found} is out of turn (chunk {next} is next)");
    Err(FormatError::invalid("offer", reason))
}

#[test]
fn a_sequence_number_left_out_is_refused() {
    let head = ChunkHead { sequence: 1, ..one(&volume(), 0) };
    assert_eq!(take(&mut receiver(&volume()), head), chunk_error("sequence number 1, 0 expected"));
}

#[test]
fn a_chunk_that_comes_twice_is_refused() {
    let mut receiver = receiver(&volume());
    take(&mut receiver, one(&volume(), 0)).unwrap();
    assert_eq!(take(&mut receiver, one(&volume(), 0)), chunk_error("sequence number 0, 1 expected"));
}

#[test]
fn a_gap_between_chunks_is_refused() {
    let head = ChunkHead { first_block: BlockId(1), ..one(&volume(), 0) };
    assert_eq!(take(&mut receiver(&volume()), head), chunk_error("starts at block 1, block 0 expected"));
}

#[test]
fn a_chunk_of_another_stream_is_refused() {
    let head = ChunkHead { stream: uuid(3), ..one(&volume(), 0) };
    let reason = format!("of stream {}, not of stream {}", uuid(3), uuid(2));
    assert_eq!(take(&mut receiver(&volume()), head), chunk_error(&reason));
}

#[test]
fn a_chunk_of_another_geometry_is_refused() {
    let other = Volume::new(&[1; 100], 2);
    let error = chunk_error("of another volume or block size than its stream");
    assert_eq!(take(&mut receiver(&volume()), one(&other, 0)), error);
}

#[test]
fn unchanged_blocks_without_a_base_are_refused() {
    let head = ChunkHead { entries: vec![Entry::Unchanged { count: 1 }], ..one(&volume(), 0) };
    let error = chunk_error("block 0 is unchanged, but the base has no such block");
    assert_eq!(take(&mut receiver(&volume()), head), error);
}

/// A receiver that has taken all of 100 blocks but the tail, which is said to be as in `base`.
fn unchanged_tail(base: &Volume) -> Result<()> {
    let new = volume();
    let begin = begin(&new, Some(base));
    let mut receiver = Receiver::new(begin);
    receiver
        .chunk(&pack(ChunkHead { entries: entries(&new, None, 0, 99), ..one(&new, 0) }, true, |b| new.block(b))?)?;
    let tail = ChunkHead { first_block: BlockId(99), entries: vec![Entry::Unchanged { count: 1 }], ..one(&new, 1) };
    take(&mut receiver, tail)
}

#[test]
fn an_unchanged_tail_of_another_length_is_refused() {
    let error = chunk_error("block 99 is unchanged, but the base has no such block");
    assert_eq!(unchanged_tail(&Volume::new(&[7; 100], 2)), error);
    assert_eq!(unchanged_tail(&Volume::new(&[7; 200], 1)), error);
    assert_eq!(unchanged_tail(&Volume::new(&[7; 99], 8)), error);
    assert_eq!(unchanged_tail(&Volume::new(&[7; 100], 1)), Ok(()));
}

#[test]
fn a_volume_that_grew_out_of_its_tail_sends_the_old_tail_again() {
    let (base, new) = (Volume::new(&[1, 0], 1), Volume::new(&[1, 0, 0], 8));
    let mut replica = Replica::new(Some(&base));
    let bytes = stream(&new, Some(&base), &[1, 1]);
    read_stream(&bytes, &mut replica).unwrap();
    assert_eq!(replica.bytes, new.bytes);
}

#[test]
fn an_offer_beyond_the_window_is_refused() {
    let (volume, window) = (volume(), u64::from(WINDOW_MAX));
    let mut receiver = receiver(&volume);
    (0..window).for_each(|at| assert!(offer(&mut receiver, &one(&volume, at)).is_ok()));
    assert_eq!(offer(&mut receiver, &one(&volume, window)), turn_error(window, 0));
    take(&mut receiver, one(&volume, 0)).unwrap();
    assert_eq!(offer(&mut receiver, &one(&volume, window)).map(|wanted| wanted.len()), Ok(1));
}

#[test]
fn an_offer_that_comes_twice_or_late_is_refused() {
    let volume = volume();
    let mut receiver = receiver(&volume);
    offer(&mut receiver, &one(&volume, 1)).unwrap();
    assert_eq!(offer(&mut receiver, &one(&volume, 1)), turn_error(1, 0));
    assert_eq!(offer(&mut receiver, &one(&volume, 0)), turn_error(0, 0));
}

#[test]
fn an_offer_of_a_chunk_that_was_taken_is_refused() {
    let volume = volume();
    let mut receiver = receiver(&volume);
    take(&mut receiver, one(&volume, 0)).unwrap();
    assert_eq!(offer(&mut receiver, &one(&volume, 0)), turn_error(0, 1));
}

#[test]
fn an_offer_of_another_stream_is_refused() {
    let head = ChunkHead { stream: uuid(3), ..one(&volume(), 0) };
    assert_eq!(offer(&mut receiver(&volume()), &head), turn_error(0, 0));
}

#[test]
fn a_block_is_asked_for_once_until_it_arrived() {
    let volume = Volume::new(&[1; 100], 8);
    let mut receiver = receiver(&volume);
    let two = ChunkHead { entries: entries(&volume, None, 0, 2), ..one(&volume, 0) };
    assert_eq!(offer(&mut receiver, &two), Ok(vec![true, false]));
    assert_eq!(offer(&mut receiver, &one(&volume, 1)), Ok(vec![false]));
}

#[test]
fn a_block_that_was_asked_for_must_come() {
    let volume = volume();
    let mut receiver = receiver(&volume);
    offer(&mut receiver, &one(&volume, 0)).unwrap();
    let lacking = ChunkHead { entries: vec![Entry::Zero { count: 1 }], ..one(&volume, 0) };
    let digest = Digest::of_block(volume.block(BlockId(0)));
    assert_eq!(take(&mut receiver, lacking), chunk_error(&format!("0 lacks block {digest}, which was asked for")));
}

/// A sender whose chunk 0 of two data blocks is offered.
fn offered() -> Sender<()> {
    let volume = volume();
    let mut sender = Sender::online(begin(&volume, None), 2);
    assert!(sender.offer(Prepared { entries: entries(&volume, None, 0, 2), token: () }).is_some());
    sender
}

fn need_error<T>(reason: &str) -> Result<T> {
    Err(FormatError::invalid("need", reason))
}

#[test]
fn a_need_of_another_length_is_refused() {
    let error = need_error("1 entries for chunk 0, 2 for chunk 0 expected");
    assert_eq!(offered().need(0, &[true]), error);
    assert_eq!(offered().need(0, &[true; 3]), need_error("3 entries for chunk 0, 2 for chunk 0 expected"));
}

#[test]
fn a_need_for_another_chunk_is_refused() {
    assert_eq!(offered().need(1, &[true; 2]), need_error("2 entries for chunk 1, 2 for chunk 0 expected"));
}

#[test]
fn a_need_that_comes_twice_is_refused() {
    let mut sender = offered();
    sender.need(0, &[true, false]).unwrap();
    assert_eq!(sender.need(0, &[true, false]), need_error("for chunk 0, nothing is offered"));
}

#[test]
fn chunks_wait_for_their_need_and_leave_in_order() {
    let mut sender = offered();
    assert_eq!(sender.offer(Prepared { entries: vec![Entry::Zero { count: 98 }], token: () }), None);
    assert!(!sender.has_room());
    assert_eq!(sender.take_ready(), Ok(None));
    sender.need(0, &[false, true]).unwrap();
    assert_eq!(sender.take_ready().unwrap().map(|ready| ready.head.sequence), Some(0));
    assert_eq!(sender.take_ready().unwrap().map(|ready| ready.head.sequence), Some(1));
    assert!(sender.is_idle() && sender.has_room());
}

#[test]
fn a_commit_while_chunks_are_in_flight_is_refused() {
    let error = FormatError::invalid("stream", "chunks are still in flight");
    assert_eq!(offered().commit(Digest::ZERO), Err(error));
}

#[test]
fn a_commit_before_all_blocks_were_sent_is_refused_at_both_ends() {
    let error = Err(FormatError::invalid("commit record", "1 of 100 blocks were sent"));
    let volume = volume();
    let mut sender = Sender::offline(begin(&volume, None));
    sender.offer(Prepared { entries: entries(&volume, None, 0, 1), token: () });
    sender.take_ready().unwrap();
    assert_eq!(sender.commit(Digest::ZERO).map(drop), error);
    let mut receiver = receiver(&volume);
    take(&mut receiver, one(&volume, 0)).unwrap();
    let commit = Commit { stream: uuid(2), totals: *receiver.totals(), root: Digest::ZERO };
    assert_eq!(receiver.commit(&commit, Digest::ZERO), error);
}

/// A receiver that has all blocks, and the commit record that it should take.
fn complete() -> (Receiver, Commit) {
    let volume = volume();
    let mut receiver = receiver(&volume);
    take(&mut receiver, ChunkHead { entries: entries(&volume, None, 0, 100), ..one(&volume, 0) }).unwrap();
    let commit = Commit { stream: uuid(2), totals: *receiver.totals(), root: volume.map(&mut Pages::default()).root() };
    receiver.commit(&commit, commit.root).unwrap();
    (receiver, commit)
}

#[test]
fn totals_that_disagree_are_refused() {
    let (receiver, commit) = complete();
    let totals = Totals { zero: 1, data: 99, ..commit.totals };
    let sent = "Totals { chunks: 1, data: 99, zero: 1, unchanged: 0, reference: 0 }";
    let received = "Totals { chunks: 1, data: 100, zero: 0, unchanged: 0, reference: 0 }";
    let error = FormatError::invalid("commit record", format!("totals sent {sent}, received {received}"));
    assert_eq!(receiver.commit(&Commit { totals, ..commit }, commit.root), Err(error));
}

#[test]
fn a_commit_of_another_stream_is_refused() {
    let (receiver, commit) = complete();
    let reason = format!("of stream {}, not of stream {}", uuid(3), uuid(2));
    let error = FormatError::invalid("commit record", reason);
    assert_eq!(receiver.commit(&Commit { stream: uuid(3), ..commit }, commit.root), Err(error));
}

#[test]
fn another_root_is_refused() {
    let (receiver, commit) = complete();
    let computed = Digest::of_block(b"another");
    let error = FormatError::Digest { what: "root of the stream", expected: commit.root, computed };
    assert_eq!(receiver.commit(&commit, computed), Err(error));
}

#[test]
fn a_content_that_is_not_that_of_its_digest_is_refused() {
    let volume = volume();
    let expected = Digest::of_block(b"something else");
    let head = ChunkHead { entries: vec![data(expected, 4096)], ..one(&volume, 0) };
    let chunk = pack(head, true, |block| volume.block(block)).unwrap();
    let mut replica = Replica::new(None);
    replica.begin(&begin(&volume, None)).unwrap();
    let computed = Digest::of_block(volume.block(BlockId(0)));
    assert_eq!(replica.chunk(&chunk), Err(FormatError::Digest { what: "block", expected, computed }));
}

#[test]
fn a_payload_above_the_maximum_is_refused_by_the_sender() {
    let content = vec![1; 1 << 20];
    let geometry = understudy_format::Geometry::new(17 << 20, BlockSize::new(1 << 20).unwrap()).unwrap();
    let entries = vec![data(Digest::of_block(&content), 1 << 20); 17];
    let head = ChunkHead { geometry, entries, ..one(&volume(), 0) };
    let error = FormatError::Range { what: "chunk", field: "payload length", found: 17 << 20, min: 0, max: 16 << 20 };
    assert_eq!(pack(head, false, |_| &content[..]), Err(error));
}

#[test]
fn messages_of_a_session_are_out_of_place_in_a_stream() {
    let hello = encoded(&Message::Accept { window: 1, cursor: Cursor::START, again: vec![] });
    let error = FormatError::invalid("stream", "Accept is out of place");
    assert_eq!(read_stream(&hello, &mut Replica::new(None)), Err(error));
}

#[test]
fn unknown_frames_are_passed_over_only_when_they_say_so() {
    let volume = volume();
    let skipped = understudy_format::frame::FrameHeader::encode(*b"LATR", 1, 3).unwrap();
    let bytes = [&skipped[..], b"abc", &stream(&volume, None, &[40])].concat();
    let mut replica = Replica::new(None);
    read_stream(&bytes, &mut replica).unwrap();
    assert_eq!(replica.bytes, volume.bytes);
    let unknown = understudy_format::frame::FrameHeader::encode(*b"LATR", 0, 0).unwrap();
    let error = FormatError::invalid("frame", "expected a known message, found \"LATR\"");
    assert_eq!(read_stream(&unknown, &mut Replica::new(None)), Err(error));
}
