//! `stream inspect` shows what is there, and finds whatever bit is wrong.

use crate::build::{BLOCK, Pages, block, block_size, noise};
use bytes::Bytes;
use std::path::PathBuf;
use understudy_format::chunk::{ChunkHead, Entry};
use understudy_format::frame::{FrameHeader, MAY_SKIP};
use understudy_format::map::Builder;
use understudy_format::session::pack;
use understudy_format::stream::{Begin, Commit, Totals};
use understudy_format::wire::Message;
use understudy_format::{BlockId, Digest, Geometry};
use understudy_net::blocking::write_message;
use understudy_tools::args::Inspect;
use understudy_tools::stream::inspect;
use uuid::Uuid;

/// A full stream of one chunk: noise, three zero blocks, and twice the same block.
fn stream(root: impl Fn(Digest) -> Digest) -> Vec<u8> {
    let blocks = [noise(1, BLOCK), vec![0; BLOCK], vec![0; BLOCK], vec![0; BLOCK], block(5), block(5)];
    let geometry = Geometry::new((blocks.len() * BLOCK) as u64, block_size()).unwrap();
    let (mut builder, mut pages) = (Builder::new(geometry, None), Pages::default());
    for block in &blocks {
        let Ok(()) = builder.block(Digest::of_block(block), &mut pages);
    }
    let Ok(map) = builder.finish(&mut pages);
    let data = |at: usize| Entry::Data {
        digest: Digest::of_block(&blocks[at]),
        codec: understudy_format::codec::Codec::Stored,
        payload_offset: 0,
        payload_length: 0,
        block_length: BLOCK as u32,
    };
    let reference = Entry::Reference { digest: Digest::of_block(&blocks[5]), block_length: BLOCK as u32 };
    let (volume, stream) = (Uuid::nil(), Uuid::from_u128(3));
    let head = ChunkHead {
        volume,
        stream,
        sequence: 0,
        geometry,
        first_block: BlockId(0),
        entries: vec![data(0), Entry::Zero { count: 3 }, data(4), reference],
        payload_length: 0,
        payload_crc: 0,
    };
    let chunk = pack(head, true, |block| &blocks[block.0 as usize][..]).unwrap();
    let totals = Totals { chunks: 1, data: 2, zero: 3, unchanged: 0, reference: 1 };
    let begin = Begin { volume, stream, geometry, base: None, created_ns: 0 };
    let commit = Commit { stream, totals, root: root(map.root()) };
    let mut out = Vec::new();
    for message in [Message::Begin(begin), Message::Chunk(chunk), Message::Commit(commit)] {
        write_message(&mut out, &message).unwrap();
    }
    out
}

fn dump(bytes: &[u8], json: bool, summary: bool) -> (bool, String) {
    let mut out = Vec::new();
    let args = Inspect { file: PathBuf::from("-"), summary, json };
    let sound = inspect(bytes, &args, &mut out).unwrap();
    (sound, String::from_utf8(out).unwrap())
}

#[test]
fn a_sound_stream_is_shown_with_offsets_and_runs_on_one_line() {
    let (sound, text) = dump(&stream(|root| root), false, false);
    assert!(sound, "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].trim_start().starts_with("0  begin   full"), "{text}");
    assert!(lines.iter().any(|line| line.trim() == "blocks 1 to 3            zero"), "{text}");
    assert!(text.contains("128  chunk   0: blocks 0 to 5"), "{text}");
    assert!(text.contains("2 data, 3 zero, 1 reference"), "{text}");
    assert!(text.contains("4096 bytes, stored as 4096 at 528"), "{text}");
    let (_, summary) = dump(&stream(|root| root), false, true);
    assert!(summary.lines().count() < 8 && summary.contains("commit"), "{summary}");
}

#[test]
fn every_line_is_json_when_that_is_asked_for() {
    let (_, text) = dump(&stream(|root| root), true, false);
    let events: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let named: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(named, ["begin", "chunk", "entry", "entry", "entry", "entry", "commit", "end"]);
}

#[test]
fn every_flipped_bit_is_found() {
    let good = stream(|root| root);
    // The flags of frames ask for nothing that a reader could miss, but are under the header's checksum.
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        let (sound, text) = dump(&bad, false, true);
        assert!(!sound && text.contains("damaged at offset"), "byte {at}: {text}");
    }
}

#[test]
fn a_stream_cut_anywhere_is_damaged() {
    let good = stream(|root| root);
    for length in (0..good.len()).step_by(13) {
        let (sound, text) = dump(&good[..length], false, true);
        assert!(!sound, "{length}: {text}");
    }
}

#[test]
fn a_wrong_root_under_right_checksums_is_found() {
    let (sound, text) = dump(&stream(|_| Digest([9; 32])), false, true);
    assert!(!sound && text.contains("root: digest mismatch"), "{text}");
}

#[test]
fn what_may_be_skipped_is_shown_and_skipped() {
    let good = stream(|root| root);
    let with = |flags| {
        let header = FrameHeader::encode(*b"XTRA", flags, 3).unwrap();
        Bytes::from([&good[..128], &header[..], b"abc", &good[128..]].concat())
    };
    let (sound, text) = dump(&with(MAY_SKIP), false, false);
    assert!(sound && text.contains("XTRA"), "{text}");
    let (sound, text) = dump(&with(0), false, false);
    assert!(!sound && text.contains("damaged at offset 128"), "{text}");
}
