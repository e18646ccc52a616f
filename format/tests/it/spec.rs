//! SPEC.md against the code: layouts, tags, kinds, maximums and domains are the same in both.
//!
//! Invariants: every structure and every maximum that stands in `src` (NBD apart, which has a
//! specification of its own) has its row in SPEC.md, and the other way round.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use understudy_format::access::register::{CertificateRecord, ClientRecord, RegisterHeader, TicketRecord};
use understudy_format::access::{self, register};
use understudy_format::agent::VolumeFigures;
use understudy_format::bitmap::{self, BitmapRecord};
use understudy_format::catalogue::{ProtectionRecord, RemovalRecord, SettingsRecord};
use understudy_format::chunk::{ChunkHead, ChunkHeader, Entry, MappingEntry};
use understudy_format::codec::Codec;
use understudy_format::error::ErrorKind;
use understudy_format::follow::{self, FollowState};
use understudy_format::frame::FrameHeader;
use understudy_format::history::{HistoryHeader, JobRecord, RunRecord};
use understudy_format::journal::{EntryHeader, JournalHeader};
use understudy_format::layout::{Layout, Row};
use understudy_format::mapfile::MapFileHeader;
use understudy_format::overlay::{OverlayHeader, OwnedSlot};
use understudy_format::point::{PointRecord, VolumeRecord};
use understudy_format::pool::PoolRecord;
use understudy_format::secondary::SecondaryState;
use understudy_format::segment::{FooterEntry, Kind, RecordHeader, SegmentHeader, Trailer};
use understudy_format::session::cursor::CursorRecord;
use understudy_format::session::progress::ProgressRecord;
use understudy_format::session::unfinished::{self, UnfinishedStream};
use understudy_format::stream::{BeginRecord, CommitRecord};
use understudy_format::tap::TapRecord;
use understudy_format::wire::{OverlayStatus, VolumeStatus};
use understudy_format::{
    Digest, agent, catalogue, chunk, frame, geometry, group, history, journal, map, mapfile, overlay, point, pool,
    secondary, segment, session, stream, tap, wire,
};

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn spec() -> String {
    read("SPEC.md")
}

/// The text between a heading that contains `heading` and the next heading.
fn section<'a>(spec: &'a str, heading: &str) -> &'a str {
    let is_heading = |line: &str| line.starts_with('#');
    let mut start = None;
    let mut at = 0;
    for line in spec.split_inclusive('\n') {
        match start {
            None if is_heading(line) && line.trim_end().ends_with(heading) => start = Some(at + line.len()),
            Some(start) if is_heading(line) => return &spec[start..at],
            _ => {}
        }
        at += line.len();
    }
    &spec[start.unwrap_or_else(|| panic!("SPEC.md has no heading {heading:?}"))..]
}

/// The rows of the table whose header row starts with `columns`, without back-ticks.
fn table(text: &str, columns: &str) -> Vec<Vec<String>> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with(columns));
    assert!(lines.next().is_some(), "SPEC.md has no table {columns:?}");
    let cells = |line: &str| line.trim_matches('|').split('|').map(|c| c.trim().replace('`', "")).collect();
    lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect()
}

/// Every layout that SPEC.md describes.
fn layouts() -> Vec<(&'static str, usize, &'static [Row])> {
    macro_rules! all {
        ($($t:ty),* $(,)?) => { vec![$((<$t>::NAME, <$t>::SIZE, <$t>::ROWS)),*] };
    }
    all![
        FrameHeader,
        ChunkHeader,
        MappingEntry,
        BeginRecord,
        CommitRecord,
        MapFileHeader,
        SegmentHeader,
        RecordHeader,
        FooterEntry,
        Trailer,
        VolumeRecord,
        PointRecord,
        VolumeStatus,
        PoolRecord,
        SecondaryState,
        FollowState,
        OverlayHeader,
        OwnedSlot,
        OverlayStatus,
        RemovalRecord,
        ProtectionRecord,
        SettingsRecord,
        RegisterHeader,
        ClientRecord,
        CertificateRecord,
        TicketRecord,
        HistoryHeader,
        JobRecord,
        RunRecord,
        ProgressRecord,
        CursorRecord,
        UnfinishedStream,
        BitmapRecord,
        VolumeFigures,
        JournalHeader,
        EntryHeader,
        TapRecord,
    ]
}

/// The sources of the formats that SPEC.md describes.
fn sources() -> Vec<(PathBuf, String)> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            match path.is_dir() {
                _ if name.starts_with("nbd") => {}
                true => folders.push(path),
                false => found.push((path.clone(), std::fs::read_to_string(path).unwrap())),
            }
        }
    }
    found
}

/// The layouts whose table in `spec` is not that of the code.
fn wrong_layouts(spec: &str) -> Vec<&'static str> {
    let is_wrong = |(name, size, rows): &(&str, usize, &[Row])| {
        let text = section(spec, &format!("`{name}`, {size} bytes"));
        let found = table(text, "| offset | size | field | meaning |").into_iter().map(|row| row[..3].to_vec());
        let expected = rows.iter().map(|r| vec![r.offset.to_string(), r.size.to_string(), r.name.to_owned()]);
        !found.eq(expected)
    };
    layouts().into_iter().filter(is_wrong).map(|(name, ..)| name).collect()
}

#[test]
fn every_layout_is_the_table_under_its_name() {
    assert_eq!(wrong_layouts(&spec()), Vec::<&str>::new());
}

/// The canary: whichever row of whichever layout is changed or lost, it is noticed.
#[test]
fn a_changed_row_is_noticed() {
    let spec = spec();
    let lines: Vec<&str> = spec.lines().collect();
    let (mut heading, mut tried) = ("", 0);
    for (at, line) in lines.iter().enumerate() {
        heading = line.strip_prefix('#').unwrap_or(heading);
        let cells: Vec<&str> = line.split(" | ").collect();
        let (true, [offset, size, field, _]) = (heading.starts_with("## `") && line.contains("| `"), &cells[..]) else {
            continue;
        };
        tried += 1;
        for row in ["", &format!("{offset}0 | {size} | {field} | x |"), &format!("{offset} | {size}1 | {field} | x |")]
        {
            let changed = [&lines[..at], &[row], &lines[at + 1..]].concat().join("\n");
            assert_eq!(wrong_layouts(&changed).len(), 1, "{line}");
        }
    }
    assert_eq!(tried, layouts().iter().map(|(.., rows)| rows.len()).sum::<usize>());
}

#[test]
fn no_layout_is_left_out() {
    let names = |text: &str| -> Vec<String> {
        let lines = text.lines().skip_while(|line| line.trim() == "//!");
        let declared = lines.filter_map(|line| line.trim().strip_prefix("pub struct ")?.strip_suffix(" {"));
        declared.filter_map(|name| Some(name.split_once(", ")?.0.to_owned())).filter(|n| !n.contains('$')).collect()
    };
    let in_code: BTreeSet<String> = sources().iter().flat_map(|(_, text)| names(text)).collect();
    let in_test: BTreeSet<String> = layouts().iter().map(|(name, ..)| (*name).to_owned()).collect();
    let spec = spec();
    let headings = spec.lines().filter_map(|line| line.strip_prefix("### `")?.split_once('`'));
    let in_spec: BTreeSet<String> = headings.map(|(name, _)| name.to_owned()).collect();
    assert_eq!(in_code, in_spec);
    assert_eq!(in_test, in_spec);
}

#[test]
fn tags_are_those_of_the_code_in_the_same_order() {
    let rows = table(&spec(), "| tag | message | direction | body |");
    let found: Vec<(String, String)> = rows.iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let expected = wire::tags().map(|(tag, name)| (tag.escape_ascii().to_string(), name.to_owned()));
    assert_eq!(found, expected.collect::<Vec<_>>());
    assert!(rows.iter().all(|row| ["C → A", "A → C", "both"].contains(&row[2].as_str()) && !row[3].is_empty()));
}

/// Numbers and names of a table, and what the code calls the number.
fn check_numbers(columns: &str, name: impl Fn(u8) -> Option<String>) {
    let found = table(&spec(), columns).into_iter().map(|row| (row[0].parse().unwrap(), row[1].clone()));
    let expected = (0..=255).filter_map(|number| Some((number, name(number)?)));
    assert_eq!(found.collect::<Vec<(u8, String)>>(), expected.collect::<Vec<_>>());
}

#[test]
fn codecs_kinds_and_failures_are_those_of_the_code() {
    check_numbers("| number | codec |", |number| Some(format!("{:?}", Codec::from_wire(number).ok()?)));
    check_numbers("| kind | name | content |", |number| Some(format!("{:?}", Kind::from_wire(number)?)));
    check_numbers("| kind of failure | name |", |number| Some(format!("{:?}", ErrorKind::from_wire(number).ok()?)));
}

#[test]
fn kinds_of_mapping_entries_are_those_of_the_code() {
    let bytes = crate::samples::head().encode();
    let (head, _) = ChunkHead::decode(&bytes).unwrap();
    let kinds = bytes[ChunkHeader::SIZE..].chunks(MappingEntry::SIZE).map(|entry| entry[16]);
    let name = |entry: &Entry| format!("{entry:?}").split(' ').next().unwrap().to_owned();
    let in_code: BTreeSet<(u8, String)> = kinds.zip(head.entries.iter().map(name)).collect();
    let rows = table(&spec(), "| kind | name | meaning |");
    let in_spec = rows.into_iter().map(|row| (row[0].parse().unwrap(), row[1].clone()));
    assert_eq!(in_spec.collect::<BTreeSet<(u8, String)>>(), in_code);
}

#[test]
fn kinds_of_journal_entries_are_those_of_the_code() {
    let kind = |entry: &(journal::Entry, &[u8])| {
        let name = format!("{:?}", entry.0.change).split(' ').next().unwrap().to_owned();
        (entry.0.encode()[0].to_string(), name)
    };
    let in_code: BTreeSet<_> = crate::samples_journal::entries().iter().map(kind).collect();
    let rows = table(&spec(), "| kind of entry | name | meaning |");
    assert_eq!(rows.into_iter().map(|row| (row[0].clone(), row[1].clone())).collect::<BTreeSet<_>>(), in_code);
}

fn maximums() -> BTreeSet<(String, u64)> {
    macro_rules! all {
        ($($module:ident::$name:ident),* $(,)?) => {
            [$((concat!(stringify!($module), "::", stringify!($name)), $module::$name as u64)),*]
        };
    }
    let constants = all![
        geometry::BLOCK_SIZE_MIN,
        geometry::BLOCK_SIZE_MAX,
        geometry::BLOCK_SIZE_DEFAULT,
        geometry::SECTOR,
        geometry::VOLUME_SIZE_MAX,
        frame::BODY_MAX,
        chunk::ENTRIES_MAX,
        chunk::PAYLOAD_MAX,
        map::FANOUT,
        map::PAGE_SIZE,
        map::LEVEL_MAX,
        mapfile::DIGESTS_OFFSET,
        segment::ALIGNMENT,
        segment::RECORD_ALIGNMENT,
        segment::RECORD_MAX,
        segment::SEGMENT_MAX,
        point::NAME_MAX,
        point::LABEL_MAX,
        access::CLIENT_NAME_MAX,
        access::PATTERN_MAX,
        register::CLIENTS_MAX,
        register::GRANTS_MAX,
        register::OWNED_MAX,
        register::CERTIFICATES_MAX,
        register::TICKETS_MAX,
        history::JOBS_MAX,
        history::RUNS_MAX,
        history::JOB_NAME_MAX,
        history::SCHEDULE_MAX,
        history::DETAIL_MAX,
        session::WINDOW_MAX,
        bitmap::EXPORT_MAX,
        bitmap::BITMAP_NAME_MAX,
        catalogue::DEVICE_MAX,
        catalogue::SPAN_MAX,
        group::MEMBERS_MIN,
        group::MEMBERS_MAX,
        wire::TEXT_MAX,
        wire::VOLUMES_MAX,
        wire::POINTS_MAX,
        wire::PAGES_MAX,
        wire::RANGES_MAX,
        wire::NEED_MAX,
        wire::OVERLAYS_MAX,
        wire::ENTRIES_BYTES_MAX,
        wire::MOMENTS_MAX,
        journal::WRITE_MAX,
        tap::REASON_MAX,
        agent::OFFERS_MAX,
        agent::TARGETS_MAX,
        agent::BRACKETS_MAX,
        agent::UNDER_WAY_MAX,
        agent::RUN_VOLUMES_MAX,
        agent::SOURCE_MAX,
        agent::REASON_MAX,
        agent::SILENCE_MS_MIN,
        agent::SILENCE_MS_MAX,
        agent::CODE_MAX,
        overlay::GRANULE,
        overlay::PAGE_GRANULES,
    ];
    let function = ("segment::footer_entries_max", segment::footer_entries_max());
    constants.into_iter().chain([function]).map(|(name, value)| (name.to_owned(), value)).collect()
}

#[test]
fn maximums_are_those_of_the_code() {
    let rows = table(section(&spec(), "Named maximums"), "| name | value | of |");
    let found = rows.into_iter().map(|row| (row[0].clone(), row[1].parse().unwrap()));
    assert_eq!(found.collect::<BTreeSet<(String, u64)>>(), maximums());
}

#[test]
fn no_maximum_is_left_out() {
    let known: BTreeSet<String> = maximums().into_iter().map(|(name, _)| name).collect();
    for (path, text) in sources() {
        let module = path.file_stem().unwrap().to_str().unwrap();
        for name in text.lines().filter_map(|line| line.strip_prefix("pub const ")?.split_once(':')) {
            let listed = name.0.ends_with("_MAX") || name.0.ends_with("_MIN");
            assert!(!listed || known.contains(&format!("{module}::{}", name.0)), "{module}::{} is not listed", name.0);
        }
    }
}

#[test]
fn magics_and_versions_are_those_of_the_code() {
    let spec = spec();
    let check = |layout: &str, field: &str, value: String| {
        let (.., size, _) = layouts().into_iter().find(|(name, ..)| *name == layout).unwrap();
        let text = section(&spec, &format!("`{layout}`, {size} bytes"));
        let rows = table(text, "| offset | size | field | meaning |");
        let row = rows.iter().find(|row| row[2] == field).unwrap();
        assert_eq!(row[3], value, "{layout}.{field}");
    };
    let magic = |magic: [u8; 4]| magic.escape_ascii().to_string();
    check("ChunkHeader", "magic", magic(chunk::CHUNK_MAGIC));
    check("MapFileHeader", "magic", magic(mapfile::MAP_FILE_MAGIC));
    check("SegmentHeader", "magic", magic(segment::SEGMENT_MAGIC));
    check("RecordHeader", "magic", magic(segment::RECORD_MAGIC));
    check("UnfinishedStream", "magic", magic(unfinished::UNFINISHED_MAGIC));
    check("UnfinishedStream", "version", unfinished::UNFINISHED_VERSION.to_string());
    check("BitmapRecord", "magic", magic(bitmap::BITMAP_MAGIC));
    check("BitmapRecord", "version", bitmap::BITMAP_VERSION.to_string());
    check("Trailer", "magic", magic(segment::TRAILER_MAGIC));
    check("PoolRecord", "magic", magic(pool::POOL_MAGIC));
    check("SecondaryState", "magic", magic(secondary::SECONDARY_MAGIC));
    check("FollowState", "magic", magic(follow::FOLLOW_MAGIC));
    check("FollowState", "version", follow::FOLLOW_VERSION.to_string());
    check("OverlayHeader", "magic", magic(overlay::OVERLAY_MAGIC));
    check("OverlayHeader", "version", overlay::OVERLAY_VERSION.to_string());
    check("PoolRecord", "version", pool::POOL_VERSION.to_string());
    check("SecondaryState", "version", secondary::SECONDARY_VERSION.to_string());
    check("RegisterHeader", "magic", magic(register::REGISTER_MAGIC));
    check("RegisterHeader", "version", register::REGISTER_VERSION.to_string());
    check("HistoryHeader", "magic", magic(history::HISTORY_MAGIC));
    check("HistoryHeader", "version", history::HISTORY_VERSION.to_string());
    check("JournalHeader", "magic", magic(journal::JOURNAL_MAGIC));
    check("JournalHeader", "version", journal::JOURNAL_VERSION.to_string());
    check("TapRecord", "magic", magic(tap::TAP_MAGIC));
    check("TapRecord", "version", tap::TAP_VERSION.to_string());
    check("ChunkHeader", "version", chunk::CHUNK_VERSION.to_string());
    check("MapFileHeader", "version", mapfile::MAP_FILE_VERSION.to_string());
    check("SegmentHeader", "version", segment::SEGMENT_VERSION.to_string());
    check("Trailer", "version", segment::SEGMENT_VERSION.to_string());
    check("BeginRecord", "version", stream::STREAM_VERSION.to_string());
    let newest = table(&spec, "| version | date | change |").last().unwrap()[0].clone();
    assert_eq!(newest, wire::SESSION_VERSION.to_string());
}

#[test]
fn digests_are_those_of_the_domains() {
    let rows = table(section(&spec(), "Digests"), "| content | function |");
    let function = |content: &str| rows.iter().find(|row| row[0] == content).unwrap()[1].clone();
    let derived = |content: &str, bytes: &[u8]| {
        let text = function(content);
        let domain = text.strip_prefix("BLAKE3 derive_key with ").unwrap();
        Digest(*blake3::Hasher::new_derive_key(domain).update(bytes).finalize().as_bytes())
    };
    let bytes = [7; 8192];
    assert_eq!(function("block"), "BLAKE3 hash");
    assert_eq!(Digest::of_block(&bytes).0, *blake3::hash(&bytes).as_bytes());
    assert_eq!(Digest::of_page(&bytes), derived("map page", &bytes));
    assert_eq!(Digest::of_record(&bytes), derived("any other record", &bytes));
    assert_eq!(Digest::of_certificate(&bytes), derived("certificate", &bytes));
    assert_eq!(Digest::of_secret(&[7; 16]), derived("token secret", &bytes[..16]));
    let geometry = crate::samples::geometry();
    let top = Digest::of_page(&bytes);
    let preimage = [&geometry.volume_size().to_le_bytes()[..], &4096u32.to_le_bytes(), &top.0].concat();
    assert_eq!(map::root(&geometry, top), derived("root", &preimage));
}
