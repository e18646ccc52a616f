//! Samples with one thing wrong each, and the exact error that it must give.
//!
//! Invariant: where a checksum lies before the thing that is wrong, it is made right again, so the error is
//! that of the thing and not of the checksum.

mod journal;

use crate::decoders::reseal;
use crate::samples::{content, good, page, point};
use understudy_format::error::FormatError;
use understudy_format::error::FormatError::{Crc, LeftOver, Magic, Range, Truncated, Version};
use understudy_format::geometry::BlockId;
use understudy_format::layout::{Field, put_text};
use understudy_format::{Digest, map};

/// A golden vector of bytes that must be refused.
pub struct Bad {
    pub name: String,
    pub decoder: &'static str,
    pub with: u64,
    pub bytes: Vec<u8>,
    pub error: FormatError,
}

/// Spoils a good sample, makes its checksums right again, and expects `error`.
fn sealed(of: &str, why: &str, change: impl FnOnce(&mut Vec<u8>), error: FormatError) -> Bad {
    let mut bad = raw(of, why, change, error);
    reseal(bad.decoder, &mut bad.bytes);
    bad
}

/// Spoils a good sample, checksums included, and expects `error`.
fn raw(of: &str, why: &str, change: impl FnOnce(&mut Vec<u8>), error: FormatError) -> Bad {
    let sample = good().into_iter().find(|sample| sample.name == of).expect("a good sample of this name");
    let mut bytes = sample.bytes;
    change(&mut bytes);
    Bad { name: format!("{of}~{why}"), decoder: sample.decoder, with: sample.with, bytes, error }
}

/// Flips a bit, and expects the checksum over `covered` that is stored at `at` to notice.
fn flipped(of: &str, why: &str, bit_of: usize, what: &'static str, at: usize, covered: std::ops::Range<usize>) -> Bad {
    let mut bad = raw(of, why, |bytes| bytes[bit_of] ^= 1, FormatError::invalid("", ""));
    let stored = u32::get(&bad.bytes[at..at + 4]);
    bad.error = Crc { what, stored, computed: crc32fast::hash(&bad.bytes[covered]) };
    bad
}

fn set<const N: usize>(at: usize, new: [u8; N]) -> impl FnOnce(&mut Vec<u8>) {
    move |bytes| bytes[at..at + N].copy_from_slice(&new)
}

fn cut(length: usize) -> impl FnOnce(&mut Vec<u8>) {
    move |bytes| bytes.truncate(length)
}

fn add(count: usize) -> impl FnOnce(&mut Vec<u8>) {
    move |bytes| bytes.resize(bytes.len() + count, 0)
}

fn range(what: &'static str, field: &'static str, found: u64, min: u64, max: u64) -> FormatError {
    Range { what, field, found, min, max }
}

fn magic(what: &'static str, expected: &str, found: &str) -> FormatError {
    Magic { what, expected: expected.into(), found: found.into() }
}

fn version(what: &'static str) -> FormatError {
    Version { what, supported: 1, found: 2 }
}

fn invalid(what: &'static str, reason: &str) -> FormatError {
    FormatError::invalid(what, reason)
}

fn truncated(what: &'static str, needed: u64, found: u64) -> FormatError {
    Truncated { what, needed, found }
}

fn streams() -> Vec<Bad> {
    let contradiction = || invalid("begin record", "kind and base contradict each other");
    vec![
        raw("begin", "short", cut(111), range("begin record", "length", 111, 112, 112)),
        raw("begin", "long", add(1), range("begin record", "length", 113, 112, 112)),
        raw("begin", "version", set(0, [2]), version("stream")),
        flipped("begin", "crc", 90, "begin record", 108, 0..108),
        sealed("begin", "full-with-base", set(2, [1]), contradiction()),
        sealed("begin", "kind-3", set(2, [3]), contradiction()),
        sealed("begin", "base-without-root", set(56, [0; 32]), contradiction()),
        sealed("begin", "block-size", set(4, [1, 16]), invalid("block size", "4097 is not a power of two")),
        sealed("begin", "block-size-2M", set(4, [0, 0, 32]), range("block size", "bytes", 2 << 20, 4096, 1 << 20)),
        sealed(
            "begin",
            "volume-empty",
            set(40, [0; 8]),
            invalid("volume", "its size is 0 bytes: there is nothing to replicate"),
        ),
        sealed(
            "begin",
            "volume-too-large",
            set(47, [0x80]),
            range("volume", "size", 0x8000_0000_0000_C200, 512, 1 << 62),
        ),
        raw("commit", "short", cut(0), range("commit record", "length", 0, 104, 104)),
        flipped("commit", "crc", 100, "commit record", 100, 0..100),
    ]
}

fn chunk_headers() -> Vec<Bad> {
    let (entries, end) = (5 * 64 + 128, invalid("chunk", "covers blocks past the end of the volume"));
    let mut header_crc = raw("chunk", "header-crc", |bytes| bytes[41] ^= 1, end.clone());
    let own = [&header_crc.bytes[..124], &header_crc.bytes[128..entries]].concat();
    let stored = u32::get(&header_crc.bytes[124..128]);
    header_crc.error = Crc { what: "chunk header and mapping", stored, computed: crc32fast::hash(&own) };
    let length = good().into_iter().find(|sample| sample.name == "chunk").unwrap().bytes.len();
    let payload = (length - entries) as u64;
    vec![
        raw("chunk", "short", cut(127), truncated("ChunkHeader", 128, 127)),
        raw("chunk", "magic", set(0, *b"uchk"), magic("chunk", "UCHK", "uchk")),
        raw("chunk", "version", set(4, [2]), version("chunk")),
        raw("chunk", "header-length", set(6, [97]), range("chunk", "header length", 97, 128, 128)),
        raw("chunk", "no-entries", set(76, [0; 4]), range("chunk", "entry count", 0, 1, 65536)),
        raw("chunk", "entries", set(76, [1, 0, 1]), range("chunk", "entry count", 65537, 1, 65536)),
        raw(
            "chunk",
            "payload-length",
            set(80, [1, 0, 0, 1]),
            range("chunk", "payload length", (16 << 20) + 1, 0, 16 << 20),
        ),
        raw("chunk", "mapping-cut", cut(entries - 1), truncated("chunk mapping", 448, 447)),
        header_crc,
        sealed("chunk", "reserved", set(88, [1]), range("chunk", "reserved", 1, 0, 0)),
        sealed("chunk", "past-end", set(48, [3]), end.clone()),
        sealed("chunk", "past-end-overflow", set(48, [0xFF; 8]), end),
        raw("chunk", "payload-cut", cut(length - 1), range("chunk", "payload length", payload - 1, payload, payload)),
        raw("chunk", "left-over", add(1), range("chunk", "payload length", payload + 1, payload, payload)),
        flipped("chunk", "payload-crc", entries, "chunk payload", 84, entries..length),
    ]
}

/// Entry `index` of the mapping starts here.
const fn entry(index: usize) -> usize {
    128 + 64 * index
}

fn mappings() -> Vec<Bad> {
    let mapping = |reason: &str| invalid("mapping", reason);
    let length = |found| range("mapping", "block length", found, 4096, 4096);
    let follow = |block| mapping(&format!("block {block}: its payload does not follow the one before"));
    vec![
        sealed("chunk", "gap", set(entry(1), [4]), mapping("block 4: block 3 (before 13) expected here")),
        sealed("chunk", "overlap", set(entry(1), [2]), mapping("block 2: block 3 (before 13) expected here")),
        sealed("chunk", "kind", set(entry(1) + 16, [5]), mapping("block 3: unknown kind 5")),
        sealed("chunk", "data-run", set(entry(0) + 8, [2]), range("mapping", "count", 2, 1, 1)),
        sealed("chunk", "reference-run", set(entry(2) + 8, [0]), range("mapping", "count", 0, 1, 1)),
        sealed("chunk", "empty-run", set(entry(1) + 8, [0]), range("mapping", "count", 0, 1, u64::MAX)),
        sealed("chunk", "block-length", set(entry(0) + 28, [1]), length(4097)),
        sealed("chunk", "tail-length", set(entry(4) + 28, [0, 16]), range("mapping", "block length", 4096, 512, 512)),
        sealed("chunk", "codec", set(entry(0) + 17, [2]), range("codec", "number", 2, 0, 1)),
        sealed("chunk", "zero-digest", set(entry(0) + 32, [0; 32]), mapping("block 2: contradictory entry")),
        sealed("chunk", "run-digest", set(entry(1) + 32, [1]), mapping("block 3: contradictory entry")),
        sealed("chunk", "run-codec", set(entry(1) + 17, [1]), mapping("block 3: contradictory entry")),
        sealed("chunk", "entry-reserved", set(entry(0) + 18, [1]), mapping("block 2: contradictory entry")),
        sealed("chunk", "payload-gap", set(entry(0) + 20, [1]), follow(2)),
        sealed("chunk", "payload-overlap", set(entry(4) + 20, [0; 4]), follow(12)),
        sealed(
            "chunk",
            "run-past-chunk",
            set(entry(3) + 8, [0xFF; 8]),
            mapping("block 8: a run past the end of its chunk"),
        ),
        sealed("chunk", "not-covered", set(56, [10]), mapping("block 12: block 12 (before 12) expected here")),
        sealed(
            "chunk",
            "payload-not-covered",
            |bytes| bytes[80] += 1,
            mapping("block 13: the mapping does not cover its chunk and payload"),
        ),
    ]
}

fn messages() -> Vec<Bad> {
    let sample = |name: &str| good().into_iter().find(|sample| sample.name == name).unwrap().bytes;
    let stored = sample("message-stored").len() as u64 - 16;
    let name = "expected 1 to 128 of letters, digits, '.', '_', '-', starting with a letter or digit";
    let client = "expected 1 to 64 of letters, digits, '.', '_', '-', starting with a letter or digit";
    let label = "expected 1 to 128 of letters, digits, '.', '_', '-', starting with a letter, and neither \"latest\" nor \"now\"";
    vec![
        flipped("message-hello", "frame-crc", 5, "frame header", 12, 0..12),
        raw("message-stored", "cut", |b| b.truncate(b.len() - 1), truncated("frame body", stored, stored - 1)),
        raw("message-stored", "frame-left-over", add(1), LeftOver { what: "frame", count: 1 }),
        sealed("message-hello", "tag", set(0, *b"HOLA"), invalid("frame", "expected a known message, found \"HOLA\"")),
        sealed("message-read-end", "left-over", add(2), LeftOver { what: "ReadEnd", count: 2 }),
        sealed("message-hello", "text-cut", set(18, [17]), truncated("Hello", 17, 16)),
        sealed("message-hello", "text-long", set(18, [1, 16]), range("Hello", "software", 4097, 0, 4096)),
        sealed("message-hello", "utf8", set(20, [0xFF]), invalid("Hello", "software is not UTF-8")),
        flipped("message-hello", "crc", 20, "Hello", 36, 16..36),
        sealed("message-fail", "kind-0", set(16, [0]), range("failure", "kind", 0, 1, 7)),
        sealed("message-fail", "kind-8", set(16, [8]), range("failure", "kind", 8, 1, 7)),
        sealed("message-need", "bool", set(28, [2]), range("Need", "wanted", 2, 0, 1)),
        sealed("message-need", "many", set(24, [1, 0, 1]), range("Need", "entries", 65537, 0, 65536)),
        sealed("message-accept", "blocks", set(20, [1]), range("Accept", "blocks before the cursor", 0, 1, 1)),
        sealed("message-accept-resumed", "chunks", set(28, [2]), range("Accept", "chunks before the cursor", 2, 1, 1)),
        sealed(
            "message-accept-resumed",
            "no-chunk",
            set(28, [0]),
            range("Accept", "chunks before the cursor", 0, 1, 1),
        ),
        sealed(
            "message-accept-resumed",
            "no-root",
            set(68, [0; 32]),
            invalid("Accept", "cursor and root contradict each other"),
        ),
        sealed("message-overlays", "many", set(16, [1, 0, 1]), range("Overlays", "overlays", 65537, 0, 65536)),
        sealed("message-discard", "bool", set(40, [2]), range("Discard", "force", 2, 0, 1)),
        sealed(
            "message-announce",
            "client",
            set(18, *b"-"),
            invalid("client name", &format!("\"-ost-1.example\": {client}")),
        ),
        sealed("message-announce", "silence", set(32, [99, 0, 0, 0]), range("Announce", "silence", 99, 100, 3_600_000)),
        sealed("message-announce-nothing", "volumes", set(36, [1, 16]), range("Announce", "volumes", 4097, 0, 4096)),
        sealed("message-announce-nothing", "targets", set(40, [1, 16]), range("Announce", "targets", 4097, 0, 4096)),
        sealed("message-announce-nothing", "brackets", set(44, [1, 4]), range("Announce", "brackets", 1025, 0, 1024)),
        sealed("message-announce-nothing", "runs", set(48, [1, 1]), range("Announce", "runs under way", 257, 0, 256)),
        sealed("message-assign-verify", "kind", set(32, [4]), range("Assign", "kind", 4, 1, 3)),
        sealed("message-assign-replicate-plainly", "no-volume", set(33, [0]), range("Assign", "volumes", 0, 1, 256)),
        sealed("message-assign-replicate", "many", set(33, [1, 1]), range("Assign", "volumes", 257, 0, 256)),
        sealed("message-assign-replicate", "group", set(47, [2]), range("Assign", "group", 2, 0, 1)),
        sealed(
            "message-assign-restore",
            "target",
            |b| set(b.len() - 9, *b"../..")(b),
            invalid("name", &format!("\"../..\": {name}")),
        ),
        sealed("message-decline", "kind", set(32, [0]), range("failure", "kind", 0, 1, 7)),
        sealed("message-report", "code", set(32, [5]), range("Report", "code", 5, 0, 4)),
        sealed("message-report", "code-of-a-volume", set(113, [5]), range("Report", "code", 5, 0, 4)),
        sealed("message-report", "many", set(53, [1, 1]), range("Report", "volumes", 257, 0, 256)),
        sealed("message-ping", "left-over", add(3), LeftOver { what: "Ping", count: 3 }),
        sealed("message-volumes", "many", set(16, [1, 0, 1]), range("Volumes", "volumes", 65537, 0, 65536)),
        sealed("message-points", "two-volumes", set(16, [2]), range("Points", "volume", 2, 0, 1)),
        sealed("message-pages", "half", |b| b.truncate(4116), range("Pages", "bytes after the last page", 4096, 0, 0)),
        sealed("message-get-pages", "many", set(41, [1, 4]), range("GetPages", "pages", 1025, 0, 1024)),
        sealed("message-get-pages", "level", set(40, [8]), range("GetPages", "level", 8, 0, 7)),
        sealed("message-read", "many", set(40, [1, 0, 1]), range("Read", "ranges", 65537, 0, 65536)),
        sealed("message-read", "overlap", set(60, [1]), range("Read", "first block", 1, 2, u64::MAX)),
        sealed("message-read", "empty", set(52, [0]), range("Read", "block count", 0, 1, u64::MAX)),
        sealed("message-read", "overflow", set(52, [0xFF; 16]), range("Read", "block count", 1, 1, 0)),
        sealed(
            "message-list-points",
            "name",
            set(18, *b"../"),
            invalid("volume name", &format!("\"../0.data_1\": {name}")),
        ),
        sealed("message-push", "label", set(31, [b'-']), invalid("label", &format!("\"-efore-upgrade\": {label}"))),
        sealed("message-push-group", "one", set(47, [1]), range("Push", "members", 1, 2, 64)),
        sealed("message-push-group", "many", set(47, [65]), range("Push", "members", 65, 2, 64)),
        sealed("message-push-no-label", "members", set(47, [2]), range("Push", "members of no group", 2, 0, 0)),
        sealed("message-waiting", "many", set(18, [65]), range("Waiting", "members", 65, 0, 64)),
        sealed("message-waiting", "more-than-all", set(16, [4]), range("Waiting", "ready members", 4, 0, 3)),
        sealed("message-offer", "left-over", add(3), LeftOver { what: "Offer", count: 3 }),
        sealed(
            "message-offer",
            "payload",
            |b| {
                b[16 + 80] = 9;
                b[16 + entry(4) + 24] = 9;
            },
            range("Offer", "payload length", 9, 0, 0),
        ),
    ]
}

fn segments() -> Vec<Bad> {
    let max = 16 << 20;
    let trailer = |field, found, min, max| range("segment trailer", field, found, min, max);
    vec![
        raw("segment", "short", cut(63), truncated("SegmentHeader", 64, 63)),
        raw("segment", "magic", set(0, *b"\0SEG"), magic("segment", "USEG", "\\x00SEG")),
        raw("segment", "version", set(4, [2]), version("segment")),
        sealed("segment", "header-length", set(6, [65]), range("segment header", "length", 65, 64, 64)),
        flipped("segment", "crc", 24, "segment header", 60, 0..60),
        raw("trailer", "magic", set(3, [b'd']), magic("segment trailer", "UEND", "UENd")),
        raw("trailer", "version", set(4, [2]), version("segment trailer")),
        flipped("trailer", "crc", 16, "segment trailer", 60, 0..60),
        sealed("trailer", "file-length", set(32, [1]), trailer("file length", 12289, 12288, 12288)),
        sealed("trailer", "footer-offset", set(16, [63, 0]), trailer("footer offset", 63, 64, 12288)),
        sealed("trailer", "footer-past-end", set(16, [1, 48]), trailer("footer offset", 12289, 64, 12288)),
        sealed("trailer", "entries", set(24, [0xFF; 3]), trailer("footer entries", 0xFF_FFFF, 0, 299_593)),
        raw("footer", "half", cut(100), LeftOver { what: "segment footer", count: 44 }),
        raw("record-block-lz4", "magic", set(0, [0; 4]), magic("record", "UREC", "\\x00\\x00\\x00\\x00")),
        flipped("record-block-lz4", "header-crc", 8, "record header", 60, 0..60),
        sealed("record-block-lz4", "offset", set(16, [1]), range("record", "offset", 8193, 8192, 8192)),
        sealed(
            "record-block-lz4",
            "content-long",
            set(11, [2]),
            range("record", "content length", (2 << 24) + 4096, 0, max),
        ),
        sealed(
            "record-block-lz4",
            "stored-long",
            set(15, [2]),
            range("record", "stored length", (2 << 24) + 27, 0, max),
        ),
        sealed("record-block-lz4", "codec", set(5, [9]), range("codec", "number", 9, 0, 1)),
        sealed("record-block-lz4", "kind", set(4, [77]), invalid("record", "of an unknown kind")),
        raw("record-block-stored", "cut", cut(64 + 511), truncated("record", 512, 511)),
        flipped("record-block-stored", "stored-crc", 64, "record", 56, 64..64 + 512),
        sealed("record-block-stored", "length", set(8, [1]), range("encoded block", "decoded length", 512, 513, 513)),
        record_digest(),
    ]
}

/// The bytes of a record are another block's, and its checksum fits them.
fn record_digest() -> Bad {
    let expected = Digest::of_block(content(BlockId(12)));
    let mut other = content(BlockId(12)).to_vec();
    other[0] ^= 1;
    let error = FormatError::Digest { what: "record", expected, computed: Digest::of_block(&other) };
    sealed("record-block-stored", "digest", |bytes| bytes[64] ^= 1, error)
}

/// Leaves the first of two points.
fn one_point(bytes: &mut Vec<u8>) {
    bytes[0] = 1;
    bytes.truncate(4 + 2 + point().encode().len());
}

fn volumes_and_points() -> Vec<Bad> {
    let name = "\"\": expected 1 to 128 of letters, digits, '.', '_', '-', starting with a letter or digit";
    let expected = point().map.root();
    let digest = |what, expected, computed| FormatError::Digest { what, expected, computed };
    let mut spoiled = page().bytes().to_vec();
    spoiled[8191] ^= 1;
    vec![
        raw("volume", "short", cut(31), truncated("volume record", 32, 31)),
        raw("volume", "left-over", add(1), LeftOver { what: "volume record", count: 1 }),
        raw("volume", "block-size", set(16, [1]), invalid("block size", "4097 is not a power of two")),
        raw("volume", "no-name", |bytes| (bytes.truncate(32), put_text(bytes, "")).1, invalid("volume name", name)),
        raw("point", "left-over", add(1), LeftOver { what: "point record", count: 1 }),
        raw("point", "number-0", set(16, [0]), range("point record", "point", 0, 1, u64::MAX)),
        raw(
            "point",
            "root",
            set(56, [0; 32]),
            digest("point record", expected, map::root(&point().map.geometry, Digest::ZERO)),
        ),
        raw("point", "label-long", set(192, [129]), range("point record", "label", 129, 0, 128)),
        raw("points", "one", one_point, range("points of a group", "points", 1, 2, 64)),
        raw("points", "many", set(0, [65]), range("points of a group", "points", 65, 0, 64)),
        raw("points", "left-over", add(1), LeftOver { what: "points of a group", count: 1 }),
        raw("page", "short", cut(32 + 8191), range("map page", "length", 8191, 8192, 8192)),
        raw(
            "page",
            "digest",
            |bytes| bytes[32 + 8191] ^= 1,
            digest("map page", page().digest(), Digest::of_page(&spoiled)),
        ),
        raw("mapfile", "magic", set(0, [b'V']), magic("digest map", "UMAP", "VMAP")),
        raw("mapfile", "version", set(4, [2]), version("digest map")),
        flipped("mapfile", "crc", 127, "digest map header", 124, 0..124),
        sealed("mapfile", "other-length", set(48, [0, 0, 32]), range("digest map", "file length", 20480, 36864, 36864)),
        sealed("mapfile", "no-root", set(64, [0; 32]), invalid("digest map", "has no root")),
        raw("frame", "short", cut(15), truncated("frame header", 16, 15)),
        sealed("frame", "long-body", set(8, [1, 0, 0, 2]), range("frame", "body length", (32 << 20) + 1, 0, 32 << 20)),
    ]
}

fn pools_and_secondaries() -> Vec<Bad> {
    let contradiction = || invalid("secondary state", "point and root contradict each other");
    vec![
        raw("pool", "short", cut(63), range("pool file", "length", 63, 64, 64)),
        raw("pool", "magic", set(0, *b"PUSH"), magic("pool file", "UPOL", "PUSH")),
        raw("pool", "version", set(4, [2]), version("pool file")),
        flipped("pool", "crc", 8, "pool file", 60, 0..60),
        raw("secondary", "long", add(1), range("secondary state", "length", 129, 128, 128)),
        raw("secondary", "magic", set(0, *b"USEG"), magic("secondary state", "USEC", "USEG")),
        raw("secondary", "version", set(4, [2]), version("secondary state")),
        flipped("secondary", "crc", 24, "secondary state", 124, 0..124),
        sealed("secondary", "point-without-root", set(40, [0; 32]), contradiction()),
        sealed("secondary", "root-without-point", set(32, [0; 8]), contradiction()),
        raw("follow", "long", add(1), range("follow state", "length", 97, 96, 96)),
        raw("follow", "magic", set(0, *b"UJNL"), magic("follow state", "UFOL", "UJNL")),
        raw("follow", "version", set(4, [2]), version("follow state")),
        flipped("follow", "crc", 24, "follow state", 92, 0..92),
        sealed("follow", "generation-0", set(24, [0]), range("follow state", "generation", 0, 1, u64::MAX)),
        sealed("follow", "role-2", set(6, [2]), invalid("follow state", "role 2 with points 12 and 0")),
        sealed("follow", "no-point", set(32, [0]), invalid("follow state", "role 1 with points 0 and 0")),
        sealed("follow-returning", "backwards", set(72, [12]), invalid("follow state", "role 2 with points 12 and 12")),
        sealed("follow", "no-journal", set(40, [0; 16]), invalid("follow state", "entries without a journal")),
        raw("overlay", "short", cut(127), range("overlay header", "length", 127, 128, 128)),
        raw("overlay", "magic", set(0, *b"UMAP"), magic("overlay header", "UOVL", "UMAP")),
        raw("overlay", "version", set(4, [2]), version("overlay header")),
        flipped("overlay", "crc", 60, "overlay header", 124, 0..124),
        raw("owned", "long", add(1), range("overlay slot", "length", 4097, 4096, 4096)),
        flipped("owned", "crc", 16, "overlay slot", 4092, 0..4092),
        sealed("owned", "page", set(0, [3]), range("overlay slot", "page", 3, 2, 2)),
        sealed("owned", "sequence-0", set(8, [0]), range("overlay slot", "sequence", 0, 1, u64::MAX - 1)),
        raw("bitmap", "short", cut(79), truncated("BitmapRecord", 80, 79)),
        raw("bitmap", "magic", set(0, *b"UMAP"), magic("bitmap", "UBIT", "UMAP")),
        raw("bitmap", "version", set(4, [2]), version("bitmap")),
        flipped("bitmap", "crc", 30, "bitmap", 101, 0..101),
        sealed("bitmap", "export-long", set(80, [1, 32]), range("bitmap", "export", 8193, 0, 8192)),
        sealed("bitmap", "name-short", set(97, [3]), truncated("bitmap", 3, 2)),
        sealed("bitmap", "left-over", set(97, [1]), LeftOver { what: "bitmap", count: 1 }),
        raw("register", "magic", set(0, *b"UACD"), magic("register of clients", "UACC", "UACD")),
        raw("register", "version", set(4, [2]), version("register of clients")),
        flipped("register", "crc", 30, "register of clients", 201, 0..201),
        sealed(
            "register",
            "too-many-clients",
            set(16, [1, 16]),
            range("register of clients", "clients", 4097, 0, 4096),
        ),
        sealed("register", "append-only-2", set(28, [2]), range("register of clients", "append only", 2, 0, 1)),
        raw("history", "magic", set(0, *b"UJOC"), magic("history of jobs", "UJOB", "UJOC")),
        raw("history", "version", set(4, [1]), Version { what: "history of jobs", supported: 2, found: 1 }),
        flipped("history", "crc", 30, "history of jobs", 796, 0..796),
        sealed("history", "too-many-jobs", set(16, [1, 4]), range("history of jobs", "jobs", 1025, 0, 1024)),
        raw("unfinished", "short", cut(143), range("unfinished stream", "length", 143, 144, 144)),
        raw("unfinished", "magic", set(0, *b"UMAP"), magic("unfinished stream", "UUNF", "UMAP")),
        raw("unfinished", "version", set(4, [2]), version("unfinished stream")),
        flipped("unfinished", "crc", 30, "unfinished stream", 140, 0..140),
        sealed("unfinished", "begin-version", set(24, [2]), version("stream")),
    ]
}

fn catalogue() -> Vec<Bad> {
    let mode = "mode 1 of the secondary with device \"/dev/vg/v\"";
    vec![
        raw("removal", "cut", cut(39), range("removal record", "length", 39, 40, 40)),
        raw("removal", "no-point", set(16, [0]), range("removal record", "point", 0, 1, u64::MAX)),
        raw("protection", "twice", set(24, [2]), range("protection record", "protected", 2, 0, 1)),
        raw("protection", "no-point", set(16, [0]), range("protection record", "point", 0, 1, u64::MAX)),
        raw("settings", "left-over", add(1), LeftOver { what: "settings record", count: 1 }),
        raw("settings-device", "mode-native", set(16, [1]), invalid("settings record", mode)),
        raw("progress", "past-the-end", set(32, [14]), range("progress record", "next block", 14, 0, 13)),
        raw("progress", "cut", cut(300), truncated("progress record", 8192, 11)),
        raw("progress", "too-many-pages", set(285, [8]), range("progress record", "pages", 8, 0, 7)),
        raw("progress", "left-over", add(1), LeftOver { what: "progress record", count: 1 }),
    ]
}

/// All golden vectors of bytes that must be refused.
pub fn bad() -> Vec<Bad> {
    [
        streams(),
        chunk_headers(),
        mappings(),
        messages(),
        segments(),
        volumes_and_points(),
        pools_and_secondaries(),
        catalogue(),
        journal::journals(),
        journal::taps(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
