//! One value for every layout and message, with fixed content: what the golden vectors hold.
//!
//! Invariant: nothing here is random or depends on a clock, and no sample is ever changed once its
//! vector was released; a new meaning gets a new sample.

use crate::samples_journal::folded;
use crate::streams::Pages;
use bytes::Bytes;
use std::fmt::Debug;
use understudy_format::access::register::{Register, RegisterHeader, Ticket};
use understudy_format::access::{Client, Known, Right};
use understudy_format::agent::{VolumeFigures, VolumeReport};
use understudy_format::bitmap::{Bitmap, BitmapRecord, SeenBitmap};
use understudy_format::catalogue::{ProtectionRecord, RemovalRecord, SecondaryMode, Settings, SettingsRecord};
use understudy_format::chunk::{Chunk, ChunkHead, ChunkHeader, Entry, MappingEntry};
use understudy_format::codec::{Codec, encode_into};
use understudy_format::error::ErrorKind;
use understudy_format::follow::{self, FollowState};
use understudy_format::frame::FrameHeader;
use understudy_format::geometry::BlockId;
use understudy_format::group::Group;
use understudy_format::history::{Ended, HistoryHeader, JobHistory, JobRecord, Run, Why, encode as encode_history};
use understudy_format::journal::Position;
use understudy_format::layout::{Layout, Row};
use understudy_format::map::{Builder, Map, Page, Partial, top_level};
use understudy_format::mapfile::{MapFileHeader, MapFileId, Shape};
use understudy_format::overlay::{Header, OverlayHeader, OwnedPage, OwnedSlot};
use understudy_format::point::{Point, PointRecord, Volume, VolumeRecord, encode_points};
use understudy_format::pool::PoolRecord;
use understudy_format::secondary::{Place, SecondaryState, Settled, State};
use understudy_format::segment::{
    FooterEntry, Kind, NewRecord, RecordHeader, SegmentHeader, Trailer, encode_footer, pad_header,
};
use understudy_format::session::progress::ProgressRecord;
use understudy_format::session::unfinished::UnfinishedStream;
use understudy_format::session::{Cursor, Progress, Unfinished, pack};
use understudy_format::stream::{Base, Begin, BeginRecord, Commit, CommitRecord, Totals};
use understudy_format::wire::access::Identity;
use understudy_format::wire::{BlockRange, Control, Message, OverlayInfo, OverlayStatus, VolumeInfo, VolumeStatus};
use understudy_format::{BlockSize, Digest, Geometry};
use uuid::Uuid;

/// A structure inside a sample's bytes: its name and its table.
pub type Part = (&'static str, &'static [Row]);

/// A golden vector: a name, the decoder, its bytes and the value they stand for.
pub struct Sample {
    pub name: String,
    pub decoder: &'static str,
    pub with: u64,
    pub bytes: Vec<u8>,
    pub value: String,
    pub parts: Vec<Part>,
}

pub fn sample(name: &str, decoder: &'static str, value: &impl Debug, bytes: Vec<u8>, parts: &[Part]) -> Sample {
    Sample { name: name.into(), decoder, with: 0, bytes, value: format!("{value:?}"), parts: parts.to_vec() }
}

pub fn part<L: Layout>() -> Part {
    (L::NAME, L::ROWS)
}

pub fn uuid(number: u8) -> Uuid {
    Uuid::from_bytes([number; 16])
}

/// 12 blocks of 4 KiB and a tail of 512 bytes.
pub fn geometry() -> Geometry {
    Geometry::from_wire(12 * 4096 + 512, 4096).unwrap()
}

/// The content of block 0 (compressible) and of block 12 (the tail, which is not).
pub fn content(block: BlockId) -> &'static [u8] {
    const TAIL: [u8; 512] = {
        let (mut bytes, mut at, mut state) = ([0; 512], 0, 0x2026_1121u32);
        while at < 512 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bytes[at] = (state >> 24) as u8;
            at += 1;
        }
        bytes
    };
    if block.0 == 12 { &TAIL } else { &[0x55; 4096] }
}

fn data(block: u64) -> Entry {
    let content = content(BlockId(block));
    let block_length = content.len() as u32;
    let digest = Digest::of_block(content);
    Entry::Data { digest, codec: Codec::Stored, payload_offset: 0, payload_length: 0, block_length }
}

/// A chunk with an entry of every kind.
pub fn head() -> ChunkHead {
    let reference = Entry::Reference { digest: Digest::of_block(b"known"), block_length: 4096 };
    ChunkHead {
        volume: uuid(1),
        stream: uuid(2),
        sequence: 3,
        geometry: geometry(),
        first_block: BlockId(2),
        entries: vec![data(2), Entry::Zero { count: 4 }, reference, Entry::Unchanged { count: 4 }, data(12)],
        payload_length: 0,
        payload_crc: 0,
    }
}

pub fn chunk() -> Chunk {
    pack(head(), true, content).unwrap()
}

pub fn begin() -> Begin {
    let base = Some(Base { root: Digest::of_block(b"base"), size: 11 * 4096 });
    Begin { volume: uuid(1), stream: uuid(2), geometry: geometry(), base, created_ns: 1_795_255_200_000_000_000 }
}

pub fn commit() -> Commit {
    let totals = Totals { chunks: 4, data: 3, zero: 4, unchanged: 5, reference: 1 };
    Commit { stream: uuid(2), totals, root: Digest::of_block(b"root") }
}

pub fn volume() -> Volume {
    let block_size = BlockSize::new(4096).unwrap();
    Volume { uuid: uuid(1), name: "db-0.data_1".parse().unwrap(), block_size, created_ns: 1_795_255_200_000_000_001 }
}

pub fn point() -> Point {
    Point {
        volume: uuid(1),
        number: 7,
        base: Some(6),
        created_ns: -1,
        map: Map { geometry: geometry(), top: page().digest() },
        stream: uuid(2),
        changed_blocks: 8,
        stored_bytes: 900,
        new_bytes: 4608,
        label: Some("before-upgrade".parse().unwrap()),
        position: None,
    }
}

fn first_point() -> Point {
    Point { number: 1, base: None, label: None, map: Map::zero(geometry()), ..point() }
}

/// Slots 0 and 255 hold digests.
pub fn page() -> Page {
    let mut page = Page::zero();
    page.set(0, Digest::of_block(b"first"));
    page.set(255, Digest::of_block(b"last"));
    page
}

pub fn info() -> VolumeInfo {
    let status = VolumeStatus {
        points: 7,
        newest: 7,
        size: geometry().volume_size(),
        newest_root: point().map.root(),
        secondary_mode: 1,
        reserved: [0; 7],
        settled_root: first_point().map.root(),
        behind_blocks: 3,
        reserved_tail: [0; 8],
    };
    VolumeInfo { volume: volume(), status }
}

fn overlay_info() -> OverlayInfo {
    let status = OverlayStatus {
        volume: uuid(1),
        point: 7,
        volume_size: geometry().volume_size(),
        owned_bytes: 8192,
        created_ns: 1_795_255_200_000_000_002,
        connections: 2,
        damaged: 0,
        reserved: [0; 11],
    };
    OverlayInfo { name: volume().name, status }
}

/// Of a volume that is written to at the appliance.
fn promoted() -> follow::State {
    let acknowledged = Some(Position { journal: uuid(8), sequence: 9000 });
    let role = follow::Role::Promoted { point: 12 };
    follow::State { volume: uuid(1), generation: 3, role, since_ns: 1_795_255_200_250_000_000, acknowledged }
}

/// The same volume, on its way back to its primary.
fn returning() -> follow::State {
    follow::State { generation: 4, role: follow::Role::Returning { from: 12, to: 13 }, ..promoted() }
}

fn overlay() -> Header {
    Header {
        pool: uuid(9),
        volume: uuid(1),
        point: 7,
        volume_size: geometry().volume_size(),
        root: point().map.root(),
        created_ns: 1_795_255_200_000_000_002,
    }
}

/// Owns its first granule, its ninth and its last.
fn owned() -> OwnedPage {
    let mut page = OwnedPage::default();
    page.sequence = 3;
    [0, 8, 32_447].into_iter().for_each(|at| assert!(page.insert(at)));
    page
}

pub fn map_file() -> MapFileId {
    MapFileId { pool: uuid(9), volume: uuid(1), point: 7, geometry: geometry(), root: point().map.root() }
}

pub fn footer() -> Vec<FooterEntry> {
    let entry = |kind: Kind, offset| FooterEntry {
        digest: Digest::of_block(b"first"),
        offset,
        content_length: 4096,
        stored_length: 30,
        kind: kind as u8,
        codec: Codec::Lz4 as u8,
        reserved: [0; 6],
    };
    vec![entry(Kind::Block, 64), entry(Kind::Page, 4096)]
}

fn group() -> Group {
    Group { uuid: uuid(3), members: 64 }
}

/// What a group of two commits.
fn points() -> Vec<Point> {
    vec![point(), Point { volume: uuid(4), ..first_point() }]
}

/// Every message, by the name of its vector.
pub fn messages() -> Vec<(&'static str, Message)> {
    [
        session_messages(),
        crate::samples_agent::messages(),
        crate::samples_journal::messages(),
        crate::samples_journal::failover_messages(),
    ]
    .concat()
}

fn session_messages() -> Vec<(&'static str, Message)> {
    let name = || volume().name;
    let range = |first, count| BlockRange { first, count };
    let software = || "understudy 0.1.0".to_owned();
    vec![
        ("hello", Message::Hello { version: 1, software: software() }),
        ("welcome", Message::Welcome { version: 1, pool: uuid(9), software: software(), nbd: "[::1]:10809".into() }),
        ("fail", Message::Fail { kind: ErrorKind::Full, text: "no space left: größer".into() }),
        ("list-volumes", Message::ListVolumes),
        ("volumes", Message::Volumes(vec![info()])),
        ("volumes-none", Message::Volumes(vec![])),
        ("list-points", Message::ListPoints { name: name(), newest: 10 }),
        ("points", Message::Points { volume: Some(info()), points: vec![first_point(), point()], protected: vec![6] }),
        ("points-no-volume", Message::Points { volume: None, points: vec![], protected: vec![] }),
        ("get-pages", Message::GetPages { volume: uuid(1), point: 7, level: 0, indexes: vec![0, 3] }),
        ("pages", Message::Pages(Bytes::copy_from_slice(page().bytes()))),
        ("read", Message::Read { volume: uuid(1), point: 7, ranges: vec![range(0, 2), range(12, 1)] }),
        ("read-end", Message::ReadEnd),
        ("push", Message::Push { name: name(), label: point().label, group: None, over: None }),
        ("push-no-label", Message::Push { name: name(), label: None, group: None, over: None }),
        ("push-group", Message::Push { name: name(), label: None, group: Some(group()), over: None }),
        ("begin-incremental", Message::Begin(begin())),
        ("begin-full", Message::Begin(Begin { base: None, volume: Uuid::nil(), ..begin() })),
        ("accept", Message::Accept { window: 16, cursor: Cursor::START, again: vec![] }),
        (
            "accept-again",
            Message::Accept { window: 16, cursor: Cursor::START, again: vec![BlockRange { first: 3, count: 2 }] },
        ),
        ("accept-resumed", Message::Accept { window: 16, cursor: cursor(), again: vec![] }),
        ("offer", Message::Offer(head())),
        ("need", Message::Need { sequence: 3, wanted: vec![true, false] }),
        ("chunk", Message::Chunk(chunk())),
        ("commit", Message::Commit(commit())),
        (
            "waiting",
            Message::Waiting { ready: 1, members: 3, lacking: "logs is on its way; 1 did not come yet".into() },
        ),
        ("stored", Message::Stored(point())),
        ("list-overlays", Message::ListOverlays),
        ("overlays", Message::Overlays(vec![overlay_info()])),
        ("keep", Message::Keep { volume: uuid(1), point: 7, name: name(), label: point().label }),
        ("keep-no-label", Message::Keep { volume: uuid(1), point: 7, name: name(), label: None }),
        ("enrol", Message::Enrol { secret: [7; 16], key: [4; 65] }),
        ("renew", Message::Renew { key: [4; 65] }),
        ("identity", Message::Identity(identity())),
        ("discard", Message::Discard { volume: uuid(1), point: 7, force: true }),
    ]
}

fn identity() -> Identity {
    let (certificate, authorities) = ("-----BEGIN CERTIFICATE-----".to_owned(), String::new());
    Identity { client: "web-1".parse().unwrap(), certificate, authorities, renew_ns: 9 }
}

pub fn encoded(message: &Message) -> Vec<u8> {
    let encoded = message.encode().unwrap();
    [encoded.head, encoded.payload.to_vec()].concat()
}

fn message_sample((name, message): (&str, Message)) -> Sample {
    let mut parts = vec![part::<FrameHeader>()];
    match &message {
        Message::Begin(_) => parts.push(part::<BeginRecord>()),
        Message::Commit(_) => parts.push(part::<CommitRecord>()),
        Message::Stored(_) => parts.push(part::<PointRecord>()),
        Message::Offer(head) | Message::Chunk(Chunk { head, .. }) => {
            parts.push(part::<ChunkHeader>());
            parts.extend(std::iter::repeat_n(part::<MappingEntry>(), head.entries.len()));
        }
        Message::Control(Control::Report(report)) => {
            parts.extend(std::iter::repeat_n(part::<VolumeFigures>(), report.volumes.len()));
        }
        _ => {}
    }
    sample(&format!("message-{name}"), "message", &message, encoded(&message), &parts)
}

/// A record of `kind` at `offset`.
fn removal() -> RemovalRecord {
    RemovalRecord::new(uuid(1), 6, 1_763_719_200_000_000_000, 3)
}

fn protection() -> ProtectionRecord {
    ProtectionRecord::new(uuid(1), 7, true)
}

fn settings() -> Settings {
    let (keep_within, minimum_age) = ("P1M2D".to_owned(), "PT36H".to_owned());
    Settings {
        secondary: SecondaryMode::None,
        keep: [1, 24, 7, 4, 12, 10],
        keep_within,
        minimum_age,
        keep_journal: String::new(),
        fold_every: String::new(),
    }
}

fn settings_sample(name: &str, settings: &Settings) -> Sample {
    let value = (uuid(1), settings.clone());
    sample(name, "settings", &value, settings.encode(uuid(1)), &[part::<SettingsRecord>()])
}

fn progress() -> Progress {
    let mut open = vec![Page::zero(); usize::from(top_level(geometry().block_count()))];
    open[0].set(0, Digest::of_block(content(BlockId(0))));
    Progress {
        volume: volume(),
        label: point().label,
        begin: begin(),
        totals: Totals { chunks: 1, data: 1, ..Totals::default() },
        map: Partial { next: 1, open, top: None },
        recorded_ns: 1_763_719_200_000_000_000,
        stored_bytes: 4160,
        new_bytes: 4096,
    }
}

/// Behind the one chunk of [`progress`].
fn cursor() -> Cursor {
    let Ok(prefix) = Builder::resume(geometry(), None, progress().map).prefix(&mut Pages::default());
    Cursor { next_block: BlockId(1), totals: progress().totals, root: prefix.root() }
}

fn seen_bitmap() -> SeenBitmap {
    let bitmap = Bitmap { export: "nbd://host/disk".into(), name: "b0".into() };
    SeenBitmap { pool: uuid(9), volume: uuid(1), point: 3, root: Digest([7; 32]), bitmap }
}

fn unfinished() -> Unfinished {
    Unfinished { pool: uuid(9), begin: begin() }
}

pub fn record(kind: Kind, content: &[u8], offset: u64) -> Vec<u8> {
    let mut stored = Vec::new();
    let codec = encode_into(content, &mut stored);
    let digest = kind.digest(content);
    let new = NewRecord { kind, codec, digest, content_length: content.len() as u32, stored: &stored };
    [new.header(offset).encode(), stored].concat()
}

fn record_sample(name: &str, kind: Kind, codec: Codec, content: &[u8]) -> Sample {
    let value = (kind, codec, kind.digest(content), content.len(), Digest::of_block(content));
    let bytes = record(kind, content, 8192);
    Sample { with: 8192, ..sample(&format!("record-{name}"), "record", &value, bytes, &[part::<RecordHeader>()]) }
}

fn records() -> Vec<Sample> {
    let pad_value = pad_header(8192 + 128, 0).unwrap();
    let pad_value = RecordHeader::decode(&pad_value.encode(), 8320).unwrap();
    let pad = [pad_value.encode(), vec![0; pad_value.stored_length as usize]].concat();
    let pad = sample("record-pad", "record", &pad_value, pad, &[part::<RecordHeader>()]);
    vec![
        record_sample("block-lz4", Kind::Block, Codec::Lz4, content(BlockId(0))),
        record_sample("block-stored", Kind::Block, Codec::Stored, content(BlockId(12))),
        record_sample("page", Kind::Page, Codec::Lz4, page().bytes()),
        record_sample("volume", Kind::Volume, Codec::Lz4, &volume().encode()),
        record_sample("point", Kind::Point, Codec::Lz4, &point().encode()),
        record_sample("points", Kind::Points, Codec::Lz4, &encode_points(&points())),
        record_sample("footer", Kind::Footer, Codec::Lz4, &encode_footer(&footer())),
        Sample { with: 8320, ..pad },
    ]
}

fn volume_run(volume: &str, full: &str, code: u8) -> VolumeReport {
    let figures = VolumeFigures {
        point: 7,
        read_bytes: 1 << 20,
        changed_bytes: 1 << 18,
        sent_bytes: 1 << 17,
        deduplicated_bytes: 1 << 16,
        wire_bytes: 3 << 16,
        duration_ms: 1500,
        code,
        reserved: [0; 7],
    };
    VolumeReport { volume: volume.parse().unwrap(), figures, full_reason: full.to_owned(), text: "point 7".to_owned() }
}

fn history() -> Vec<JobHistory> {
    let run = |why, ended, detail: &str| Run {
        number: 8,
        nominal_ns: 1,
        started_ns: 2,
        why,
        attempt: 1,
        ended,
        full: String::new(),
        detail: detail.to_owned(),
        volumes: Vec::new(),
    };
    let replicated = Run {
        full: "full-every: 30 runs".to_owned(),
        volumes: vec![volume_run("mail", "full-every: 30 runs", 0), volume_run("db", "", 3)],
        ..run(Why::Retried, Some((8, Ended::Warnings)), "mail@7, db@7")
    };
    let runs = vec![
        run(Why::Due, Some((3, Ended::Done)), "nothing is damaged"),
        run(Why::Missed, Some((4, Ended::Warnings)), ""),
        run(Why::Asked, Some((5, Ended::Damage)), ""),
        run(Why::Away, Some((6, Ended::Failed)), ""),
        run(Why::Window, Some((7, Ended::Cut)), ""),
        run(Why::Due, Some((7, Ended::Closed)), ""),
        Run { attempt: 2, ..replicated },
        run(Why::Missed, None, ""),
    ];
    let record = JobRecord {
        done_ns: 9,
        success_ns: 8,
        full_ns: 2,
        failed_told_ns: 4,
        behind_told_ns: 6,
        count: 8,
        since_full: 1,
        ..JobHistory::new("", 1).record
    };
    let job = |name: &str, runs| JobHistory { schedule: "daily".to_owned(), record, runs, ..JobHistory::new(name, 1) };
    vec![job("scrub", runs), job("prune", Vec::new())]
}

fn register() -> Register {
    let mut web = Client::new("web-1".parse().unwrap(), 5);
    web.append_only = true;
    web.grant(None, [Right::Replicate, Right::Read].into_iter().collect());
    web.grant(Some("db-*".parse().unwrap()), Right::ALL.into_iter().collect());
    web.owned = ["root", "home"].iter().map(|name| name.parse().unwrap()).collect();
    web.certificates = vec![Known { certificate: Digest::of_certificate(b"certificate"), expires_ns: 9 }];
    let gone = Client::new("gone".parse().unwrap(), 6);
    let ticket = Ticket { secret: Digest::of_secret(&[7; 16]), expires_ns: 8, client: gone.name.clone() };
    let clients = [gone, web].map(|client| (client.name.clone(), client)).into();
    Register { clients, tickets: vec![ticket] }
}

fn sealed() -> Vec<Sample> {
    let reread = |bytes: &[u8]| SegmentHeader::decode(bytes).unwrap();
    let segment = SegmentHeader::new(uuid(9), 5).encode();
    let trailer = Trailer::new(5, 8192, 2, 12288).encode();
    let trailer_value = Trailer::decode(&trailer, 12288).unwrap();
    let length = Shape::new(&geometry()).file_length();
    let frame = FrameHeader::encode(*b"CHNK", 1, 5).unwrap();
    let pool = PoolRecord::decode(&PoolRecord::new(uuid(9), 1).encode()).unwrap();
    let point = |point, root: &[u8]| Some(Settled { point, root: Digest::of_block(root) });
    let state =
        State { volume: uuid(1), place: Place::IMAGE, settled: point(6, b"settled"), applying: point(7, b"applying") };
    let fresh = State { settled: None, applying: None, ..state };
    let device = State { place: Place::device("/dev/vdb"), applying: None, ..state };
    vec![
        sample("pool", "pool", &pool, pool.encode(), &[part::<PoolRecord>()]),
        sample("secondary", "secondary", &state, state.encode(), &[part::<SecondaryState>()]),
        sample("secondary-fresh", "secondary", &fresh, fresh.encode(), &[part::<SecondaryState>()]),
        sample("secondary-device", "secondary", &device, device.encode(), &[part::<SecondaryState>()]),
        sample("follow", "follow", &promoted(), promoted().encode(), &[part::<FollowState>()]),
        sample("follow-returning", "follow", &returning(), returning().encode(), &[part::<FollowState>()]),
        sample(
            "follow-fresh",
            "follow",
            &follow::State::default(),
            follow::State::default().encode(),
            &[part::<FollowState>()],
        ),
        sample("overlay", "overlay", &overlay(), overlay().encode(), &[part::<OverlayHeader>()]),
        Sample { with: 2, ..sample("owned", "owned", &owned(), owned().encode(2), &[part::<OwnedSlot>()]) },
        sample("register", "register", &register(), register().encode(), &[part::<RegisterHeader>()]),
        sample("history", "history", &history(), encode_history(&history()), &[part::<HistoryHeader>()]),
        sample("history-none", "history", &Vec::<JobHistory>::new(), encode_history(&[]), &[part::<HistoryHeader>()]),
        sample("frame", "frame", &FrameHeader::decode(&frame).unwrap(), frame.to_vec(), &[part::<FrameHeader>()]),
        sample("segment", "segment", &reread(&segment), segment.clone(), &[part::<SegmentHeader>()]),
        Sample { with: 12288, ..sample("trailer", "trailer", &trailer_value, trailer, &[part::<Trailer>()]) },
        Sample {
            with: length,
            ..sample("mapfile", "mapfile", &map_file(), map_file().encode(), &[part::<MapFileHeader>()])
        },
    ]
}

fn digests() -> Vec<Sample> {
    let record = volume().encode();
    let geometry = geometry();
    let root = [&geometry.volume_size().to_le_bytes()[..], &4096u32.to_le_bytes(), &page().digest().0].concat();
    let digest = |name: &str, decoder, bytes: &[u8], digest| sample(name, decoder, &digest, bytes.to_vec(), &[]);
    vec![
        digest("digest-block", "digest-block", content(BlockId(12)), Digest::of_block(content(BlockId(12)))),
        digest("digest-block-zero", "digest-block", &[0; 512], Digest::ZERO),
        digest("digest-page", "digest-page", page().bytes(), page().digest()),
        digest("digest-page-zero", "digest-page", Page::zero().bytes(), Digest::ZERO),
        digest("digest-record", "digest-record", &record, Digest::of_record(&record)),
        digest("root", "root", &root, point().map.root()),
    ]
}

/// All golden vectors of bytes that are right.
pub fn good() -> Vec<Sample> {
    let chunk_parts = [&[part::<ChunkHeader>()][..], &[part::<MappingEntry>(); 5]].concat();
    let chunk_bytes = [chunk().head.encode(), chunk().payload.to_vec()].concat();
    let page_bytes = [&page().digest().0[..], page().bytes()].concat();
    let entries = [part::<FooterEntry>(); 2];
    let mut samples = vec![
        sample("begin", "begin", &begin(), begin().encode(), &[part::<BeginRecord>()]),
        sample("commit", "commit", &commit(), commit().encode(), &[part::<CommitRecord>()]),
        sample("chunk", "chunk", &chunk(), chunk_bytes, &chunk_parts),
        sample("volume", "volume", &volume(), volume().encode(), &[part::<VolumeRecord>()]),
        sample("point", "point", &point(), point().encode(), &[part::<PointRecord>()]),
        sample("point-first", "point", &first_point(), first_point().encode(), &[part::<PointRecord>()]),
        sample("point-folded", "point", &folded(), folded().encode(), &[part::<PointRecord>()]),
        sample("points", "points", &points(), encode_points(&points()), &[]),
        sample("removal", "removal", &removal(), removal().encode(), &[part::<RemovalRecord>()]),
        sample("protection", "protection", &protection(), protection().encode(), &[part::<ProtectionRecord>()]),
        settings_sample("settings", &settings()),
        settings_sample(
            "settings-device",
            &Settings { secondary: SecondaryMode::Device("/dev/vg/v".into()), ..settings() },
        ),
        settings_sample(
            "settings-journal",
            &Settings { keep_journal: "PT36H".into(), fold_every: "PT10M".into(), ..settings() },
        ),
        sample(
            "progress",
            "progress",
            &progress(),
            progress().encode(),
            &[part::<ProgressRecord>(), part::<BeginRecord>()],
        ),
        sample("bitmap", "bitmap", &seen_bitmap(), seen_bitmap().encode(), &[part::<BitmapRecord>()]),
        sample("unfinished", "unfinished", &unfinished(), unfinished().encode(), &[part::<UnfinishedStream>()]),
        sample("page", "page", &page(), page_bytes, &[]),
        sample("footer", "footer", &footer(), encode_footer(&footer()), &entries),
    ];
    samples.extend(messages().into_iter().map(message_sample));
    samples.extend(records());
    samples.extend(sealed());
    samples.extend(crate::samples_journal::good());
    samples.extend(digests());
    samples
}
