//! Offline streams: the same result as online.

use super::*;
use understudy_format::chunk::Entry;
use understudy_format::codec::decode_into;
use understudy_format::stream::Checker;
use understudy_format::wire::Message;
use understudy_net::blocking::FrameFile;

/// Replays a stream over a base; returns the root that its commit record names.
fn replay(stream: &[u8], mut content: Vec<u8>) -> (Vec<u8>, String) {
    let mut messages = FrameFile::new(stream);
    let Message::Begin(begin) = messages.next_message().unwrap().unwrap() else { panic!("no begin") };
    content.resize(begin.geometry.volume_size() as usize, 0xee);
    let mut checker = Checker::new(begin);
    loop {
        match messages.next_message().unwrap().unwrap() {
            Message::Chunk(chunk) => {
                checker.chunk(&chunk.head).unwrap();
                for (block, entry) in chunk.head.blocks() {
                    let range = begin.geometry.byte_range(block, entry.count());
                    let into = &mut content[range.start as usize..range.end as usize];
                    match entry {
                        Entry::Data { .. } => {
                            let (codec, encoded) = chunk.encoded(entry).unwrap();
                            decode_into(codec, &encoded, into).unwrap();
                        }
                        Entry::Zero { .. } => into.fill(0),
                        Entry::Unchanged { .. } => {}
                        Entry::Reference { .. } => panic!("offline streams carry every block"),
                    }
                }
            }
            Message::Commit(commit) => {
                checker.commit(&commit).unwrap();
                assert!(messages.next_message().unwrap().is_none());
                return (content, commit.root.to_string());
            }
            other => panic!("{}", other.name()),
        }
    }
}

#[test]
fn a_stream_is_the_online_result() {
    let world = World::new();
    sparse(&world.path("source"), 3000 * BLOCK + 512, &[0, 1, 5, 2000, 3000]);
    let old = std::fs::read(world.path("source")).unwrap();
    let (_, summary) = world.replicate(" --block-size 4K");
    world.expect(0, "emit source --block-size 4K --save-map map -o stream");
    let (content, root) = replay(&std::fs::read(world.path("stream")).unwrap(), Vec::new());
    assert!(content == old && summary["root"] == root.as_str());

    patch(&world.path("source"), 2000 * BLOCK, &random(8, BLOCK));
    patch(&world.path("source"), 5 * BLOCK, &[0; BLOCK]);
    let from_map = world.run("emit source --base map -o -");
    let from_point = world.run("emit source --base v@1 --compress none -o -");
    let (_, summary) = world.replicate("");
    for stream in [from_map.stdout, from_point.stdout] {
        let (content, root) = replay(&stream, old.clone());
        assert!(content == std::fs::read(world.path("source")).unwrap() && summary["root"] == root.as_str());
        assert!(stream.len() < 3 * BLOCK);
    }
}

#[test]
fn a_stream_appears_whole_or_not_at_all() {
    let world = World::new();
    std::fs::write(world.path("source"), random(1, 1000)).unwrap();
    world.expect(1, "emit source -o stream");
    std::fs::write(world.path("source"), random(1, 512)).unwrap();
    let (_, err) = world.expect(2, "emit source --base nothing -o stream");
    assert!(err.contains("expected a digest map file"), "{err}");
    std::fs::write(world.path("map"), b"junk").unwrap();
    let (_, err) = world.expect(1, "emit source --base map -o stream");
    assert!(err.starts_with("error: base map: digest map: truncated"), "{err}");
    assert!(!world.path("stream").exists());
}
