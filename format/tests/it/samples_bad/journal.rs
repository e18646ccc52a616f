//! Journals, and messages of a tap, with one thing wrong each.

use super::{Bad, add, cut, flipped, invalid, magic, range, raw, sealed, set, truncated, version};
use understudy_format::error::FormatError::{Crc, LeftOver};

/// Where the header of an entry starts in the file of the samples: zeroes, mark, trim, write.
const fn entry(index: usize) -> usize {
    64 + 48 * index
}

/// The bytes that the last entry wrote.
const PAYLOAD: usize = entry(4);

pub fn journals() -> Vec<Bad> {
    let nameless = || invalid("journal header", "of a journal without a name");
    let (max, end) = (4 << 20, 12 * 4096 + 512);
    let older = || invalid("journal entry", "entry 6 is older than the one before");
    let field = |field, found, min, max| range("journal entry", field, found, min, max);
    vec![
        raw("journal-fresh", "short", cut(63), truncated("JournalHeader", 64, 63)),
        raw("journal", "magic", set(0, *b"UMAP"), magic("journal", "UJNL", "UMAP")),
        raw("journal", "version", set(4, [2]), version("journal")),
        flipped("journal", "crc", 24, "journal header", 60, 0..60),
        sealed("journal", "first-0", set(32, [0]), range("journal header", "first", 0, 1, u64::MAX)),
        sealed("journal", "no-name", set(8, [0; 16]), nameless()),
        raw("journal", "entry-cut", cut(entry(1) - 1), truncated("EntryHeader", 48, 47)),
        raw("journal", "payload-cut", cut(PAYLOAD + 4), truncated("journal entry", 53, 52)),
        flipped("journal", "entry-crc", entry(0) + 24, "journal entry", entry(0) + 44, entry(0)..entry(0) + 44),
        flipped("journal", "payload-crc", PAYLOAD, "journal entry's payload", entry(3) + 4, PAYLOAD..PAYLOAD + 5),
        sealed("journal", "kind-0", set(entry(0), [0]), field("kind", 0, 1, 4)),
        sealed("journal", "kind-5", set(entry(0), [5]), field("kind", 5, 1, 4)),
        sealed("journal", "left-out", set(entry(1) + 8, [7]), field("sequence", 7, 6, 6)),
        sealed("journal", "twice", set(entry(1) + 8, [5]), field("sequence", 5, 6, 6)),
        sealed("journal", "number-0", set(entry(0) + 8, [0]), field("sequence", 0, 1, u64::MAX)),
        sealed("journal", "older", set(entry(1) + 16, [0; 8]), older()),
        sealed("journal", "past-the-end", set(entry(0) + 24, [0, 0xC2]), field("end", 0xC200 + 8194, 0, end)),
        sealed("journal", "overflow", set(entry(0) + 24, [0xFF; 8]), field("offset", u64::MAX, 0, u64::MAX - 8194)),
        sealed("journal", "empty-zero", set(entry(0) + 32, [0; 2]), field("length", 0, 1, u64::MAX)),
        sealed("journal", "empty-write", set(entry(3) + 32, [0]), field("length", 0, 1, max)),
        sealed("journal", "long-write", set(entry(3) + 32, [1, 0, 64]), field("length", max + 1, 1, max)),
        sealed("journal", "mark-somewhere", set(entry(1) + 24, [1]), field("offset", 1, 0, 0)),
        sealed("journal", "mark-of-something", set(entry(1) + 32, [1]), field("length", 1, 0, 0)),
        sealed("journal", "mark-with-bytes", set(entry(1) + 4, [1]), no_payload()),
        raw("tap", "magic", set(0, *b"UMAP"), magic("tap state", "UTAP", "UMAP")),
        raw("tap", "version", set(4, [2]), version("tap state")),
        flipped("tap", "crc", 24, "tap state", 162, 0..162),
        sealed("tap", "phase", set(6, [3]), range("tap state", "phase", 3, 0, 2)),
        sealed("tap", "closed", set(7, [2]), range("tap state", "closed", 2, 0, 1)),
        sealed("tap", "durable", set(64, [9]), range("tap state", "durable", 9, 0, 8)),
        sealed("tap", "reason-long", set(160, [1, 4]), range("tap state", "reason", 1025, 0, 1024)),
        sealed("entries", "number", set(8, [6]), field("sequence", 6, 5, 5)),
    ]
}

fn no_payload() -> understudy_format::FormatError {
    Crc { what: "journal entry's payload", stored: 1, computed: 0 }
}

pub fn taps() -> Vec<Bad> {
    let stored = |found, min, max| range("Entries", "stored length", found, min, max);
    let length = 48 * 4 + 5;
    vec![
        sealed("message-follow", "no-name", set(29, [0; 16]), invalid("Follow", "of a journal without a name")),
        sealed("message-follow", "block-size", set(53, [1]), invalid("block size", "4097 is not a power of two")),
        sealed("message-following", "two-positions", set(56, [2]), range("Following", "position", 2, 0, 1)),
        sealed("message-following", "no-name", set(60, [0; 16]), invalid("position", "of a journal without a name")),
        sealed("message-entries-stored", "first-0", set(16, [0]), range("Entries", "first", 0, 1, u64::MAX)),
        sealed(
            "message-entries-stored",
            "long",
            set(24, [1, 0, 128, 0]),
            range("Entries", "length", (8 << 20) + 1, 0, 8 << 20),
        ),
        sealed("message-entries-stored", "codec", set(28, [2]), range("codec", "number", 2, 0, 1)),
        sealed("message-entries-stored", "not-shorter", set(28, [1]), stored(length, 1, length - 1)),
        sealed("message-entries-stored", "shorter", set(29, [0]), stored(0, length, length)),
        sealed("message-entries-none", "of-nothing", set(28, [1]), stored(0, 1, 0)),
        sealed("message-entries-none", "left-over", add(3), LeftOver { what: "Entries", count: 3 }),
        sealed("message-moments", "many", set(16, [1, 0, 1]), range("Moments", "moments", 65537, 0, 65536)),
        sealed("message-push-over", "no-name", set(53, [0; 16]), invalid("position", "of a journal without a name")),
        sealed("message-promote", "force", set(29, [2]), range("Promote", "force", 2, 0, 1)),
        raw("point-folded", "no-name", set(160, [0; 16]), invalid("point record", "a number in no journal")),
    ]
}
