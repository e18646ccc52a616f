//! Round trips of arbitrary values: what is encoded decodes to the same value, whatever it holds.

use crate::decoders::{decode, round_trip, split_frame};
use crate::samples::{encoded, record};
use bytes::Bytes;
use proptest::prelude::*;
use understudy_format::agent::{
    Announcement, Assignment, LocalName, Offer, Progress, Replicate, Report, VolumeFigures, VolumeReport, Work,
};
use understudy_format::chunk::{Chunk, ChunkHead, Entry};
use understudy_format::codec::Codec;
use understudy_format::error::ErrorKind;
use understudy_format::geometry::BlockId;
use understudy_format::group::{Group, MEMBERS_MAX, MEMBERS_MIN};
use understudy_format::journal::Position;
use understudy_format::map::{Map, Page, span};
use understudy_format::mapfile::{MapFileId, Shape};
use understudy_format::point::{Label, Point, Volume, VolumeName};
use understudy_format::segment::{
    ALIGNMENT, FooterEntry, Kind, RECORD_ALIGNMENT, RecordHeader, SegmentHeader, Trailer, decode_footer, encode_footer,
    pad_header,
};
use understudy_format::select::{PointName, Selector};
use understudy_format::session::{Cursor, pack};
use understudy_format::stream::{Base, Begin, Commit, Totals};
use understudy_format::wire::{
    BlockRange, Control, Failover, Message, Moment, OverlayInfo, OverlayStatus, Tap, VolumeInfo, VolumeStatus,
};
use understudy_format::{BlockSize, Digest, Geometry};
use uuid::Uuid;

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<[u8; 16]>().prop_map(Uuid::from_bytes)
}

fn position() -> impl Strategy<Value = Position> {
    (1u128.., any::<u64>()).prop_map(|(journal, sequence)| Position { journal: Uuid::from_u128(journal), sequence })
}

fn digest() -> impl Strategy<Value = Digest> {
    prop_oneof![9 => any::<[u8; 32]>().prop_map(Digest), 1 => Just(Digest::ZERO)]
}

fn geometry() -> impl Strategy<Value = Geometry> {
    let size = prop_oneof![1u64..1 << 20, 1u64..=1 << 53];
    (size, 12u32..=20).prop_map(|(sectors, shift)| Geometry::from_wire(sectors * 512, 1 << shift).unwrap())
}

fn name() -> impl Strategy<Value = VolumeName> {
    "[A-Za-z0-9][A-Za-z0-9._-]{0,127}".prop_map(|text| text.parse().unwrap())
}

fn label() -> impl Strategy<Value = Label> {
    "[A-Za-z][A-Za-z0-9._-]{0,127}"
        .prop_filter("reserved", |text| text != "latest" && text != "now")
        .prop_map(|t| t.parse().unwrap())
}

fn map() -> impl Strategy<Value = Map> {
    (geometry(), digest()).prop_map(|(geometry, top)| Map { geometry, top })
}

prop_compose! {
    fn volume()(uuid in uuid(), name in name(), shift in 12u32..=20, created_ns: i64) -> Volume {
        Volume { uuid, name, block_size: BlockSize::new(1 << shift).unwrap(), created_ns }
    }
}

prop_compose! {
    fn point()(
        volume in uuid(), number in 1u64.., base in prop::option::of(1u64..), created_ns: i64, map in map(),
        stream in uuid(), counts: [u64; 3], label in prop::option::of(label()), position in prop::option::of(position()),
    ) -> Point {
        let [changed_blocks, stored_bytes, new_bytes] = counts;
        Point { volume, number, base, created_ns, map, stream, changed_blocks, stored_bytes, new_bytes, label, position }
    }
}

prop_compose! {
    fn info()(volume in volume(), n: [u64; 4], mode: u8, newest_root in digest(), settled_root in digest()) -> VolumeInfo {
        let [points, newest, size, behind_blocks] = n;
        let (reserved, reserved_tail) = ([0; 7], [0; 8]);
        let status = VolumeStatus {
            points, newest, size, newest_root, secondary_mode: mode, reserved, settled_root, behind_blocks, reserved_tail,
        };
        VolumeInfo { volume, status }
    }
}

prop_compose! {
    fn overlay()(volume in uuid(), name in name(), n: [u64; 3], created_ns: i64, connections: u32, damaged: u8) -> OverlayInfo {
        let ([point, volume_size, owned_bytes], reserved) = (n, [0; 11]);
        let status = OverlayStatus {
            volume, point, volume_size, owned_bytes, created_ns, connections, damaged, reserved,
        };
        OverlayInfo { name, status }
    }
}

prop_compose! {
    fn begin()(
        volume in uuid(), stream in uuid(), geometry in geometry(), sectors in 1u64..1 << 50,
        root: [u8; 32], full: bool, created_ns: i64,
    ) -> Begin {
        let root = Digest(root);
        let base = Some(Base { root, size: sectors * 512 }).filter(|base| !full && !base.root.is_zero());
        Begin { volume, stream, geometry, base, created_ns }
    }
}

prop_compose! {
    fn commit()(stream in uuid(), n: [u64; 5], root in digest()) -> Commit {
        let [chunks, data, zero, unchanged, reference] = n;
        Commit { stream, totals: Totals { chunks, data, zero, unchanged, reference }, root }
    }
}

/// What a chunk says of its next block or blocks: kind, length of a run, content.
type Step = (u8, u64, u8);

fn content(byte: u8, geometry: &Geometry, block: BlockId) -> Vec<u8> {
    vec![byte.max(1); geometry.block_len(block) as usize]
}

fn entry((kind, run, byte): Step, geometry: &Geometry, block: BlockId) -> Entry {
    let digest = Digest::of_block(&content(byte, geometry, block));
    let block_length = geometry.block_len(block);
    let count = run.min(geometry.block_count() - block.0);
    match kind {
        0 => Entry::Data { digest, codec: Codec::Stored, payload_offset: 0, payload_length: 0, block_length },
        1 => Entry::Zero { count },
        2 => Entry::Unchanged { count },
        _ => Entry::Reference { digest, block_length },
    }
}

/// An offer with any mapping, which may end with the volume, and what its data blocks are filled with.
fn offer() -> impl Strategy<Value = (ChunkHead, Vec<u8>)> {
    let geometry = (1u64..1 << 20, 12u32..14).prop_map(|(n, shift)| Geometry::from_wire(n * 512, 1 << shift).unwrap());
    let steps = prop::collection::vec((0u8..4, prop_oneof![1u64..9, 1u64..1 << 40], any::<u8>()), 1..24);
    (geometry, uuid(), uuid(), any::<u64>(), any::<prop::sample::Index>(), steps).prop_map(
        |(geometry, volume, stream, sequence, first, steps)| {
            let first_block = BlockId(first.index(geometry.block_count() as usize) as u64);
            let (mut next, mut entries, mut bytes) = (first_block.0, Vec::new(), Vec::new());
            for step in steps {
                if next < geometry.block_count() {
                    entries.push(entry(step, &geometry, BlockId(next)));
                    bytes.push(step.2);
                    next += entries.last().unwrap().count();
                }
            }
            let (payload_length, payload_crc) = (0, 0);
            let head =
                ChunkHead { volume, stream, sequence, geometry, first_block, entries, payload_length, payload_crc };
            (head, bytes)
        },
    )
}

fn chunk() -> impl Strategy<Value = Chunk> {
    (offer(), any::<bool>()).prop_map(|((head, bytes), compress)| {
        let geometry = head.geometry;
        let contents: std::collections::HashMap<BlockId, Vec<u8>> =
            head.blocks().zip(bytes).map(|((block, _), byte)| (block, content(byte, &geometry, block))).collect();
        pack(head, compress, |block| &contents[&block]).unwrap()
    })
}

fn ranges() -> impl Strategy<Value = Vec<BlockRange>> {
    prop::collection::vec((0u64..1 << 40, 1u64..1 << 40), 0..20).prop_map(|steps| {
        let mut end = 0;
        let range = |(gap, count)| {
            let first = end + gap;
            end = first + count;
            BlockRange { first, count }
        };
        steps.into_iter().map(range).collect()
    })
}

fn kind() -> impl Strategy<Value = ErrorKind> {
    (1u8..=7).prop_map(|number| ErrorKind::from_wire(number).unwrap())
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,300}"
}

fn group() -> impl Strategy<Value = Group> {
    (any::<u128>(), MEMBERS_MIN..=MEMBERS_MAX)
        .prop_map(|(uuid, members)| Group { uuid: Uuid::from_u128(uuid.max(1)), members })
}

fn requests() -> impl Strategy<Value = Message> {
    prop_oneof![
        (any::<u16>(), text()).prop_map(|(version, software)| Message::Hello { version, software }),
        Just(Message::ListVolumes),
        (name(), any::<u32>()).prop_map(|(name, newest)| Message::ListPoints { name, newest }),
        (uuid(), any::<u64>(), 0u8..=7, prop::collection::vec(any::<u64>(), 0..1024))
            .prop_map(|(volume, point, level, indexes)| Message::GetPages { volume, point, level, indexes }),
        (uuid(), any::<u64>(), ranges()).prop_map(|(volume, point, ranges)| Message::Read { volume, point, ranges }),
        (name(), prop::option::of(label()), prop::option::of(group()), prop::option::of(position()))
            .prop_map(|(name, label, group, over)| Message::Push { name, label, group, over }),
        begin().prop_map(Message::Begin),
        offer().prop_map(|(head, _)| Message::Offer(head)),
        chunk().prop_map(Message::Chunk),
        commit().prop_map(Message::Commit),
        Just(Message::ListOverlays),
        (uuid(), any::<u64>(), name(), prop::option::of(label()))
            .prop_map(|(volume, point, name, label)| Message::Keep { volume, point, name, label }),
        (uuid(), any::<u64>(), any::<bool>()).prop_map(|(volume, point, force)| Message::Discard {
            volume,
            point,
            force
        }),
    ]
}

fn cursor() -> impl Strategy<Value = Cursor> {
    let resumed = (1u64..1 << 40, 0u64..1 << 40, any::<[u8; 31]>()).prop_map(|(data, zero, root)| {
        let totals = Totals { chunks: data, data, zero, ..Totals::default() };
        let root = Digest([&[1], &root[..]].concat().try_into().unwrap());
        Cursor { next_block: BlockId(totals.blocks()), totals, root }
    });
    prop_oneof![Just(Cursor::START), resumed]
}

fn answers() -> impl Strategy<Value = Message> {
    prop_oneof![
        (any::<u16>(), uuid(), text(), text()).prop_map(|(version, pool, software, nbd)| Message::Welcome {
            version,
            pool,
            software,
            nbd
        }),
        (kind(), text()).prop_map(|(kind, text)| Message::Fail { kind, text }),
        prop::collection::vec(info(), 0..20).prop_map(Message::Volumes),
        (prop::option::of(info()), prop::collection::vec(point(), 0..20))
            .prop_map(|(volume, points)| Message::Points { volume, points, protected: vec![] }),
        (0usize..4, any::<u8>()).prop_map(|(pages, byte)| Message::Pages(Bytes::from(vec![byte; pages * 8192]))),
        Just(Message::ReadEnd),
        (any::<u32>(), cursor()).prop_map(|(window, cursor)| Message::Accept { window, cursor, again: vec![] }),
        (any::<u64>(), prop::collection::vec(any::<bool>(), 0..2000))
            .prop_map(|(sequence, wanted)| Message::Need { sequence, wanted }),
        (0u16..=64, 0u16..=64, text()).prop_map(|(a, b, lacking)| Message::Waiting {
            ready: a.min(b),
            members: a.max(b),
            lacking
        }),
        point().prop_map(Message::Stored),
        prop::collection::vec(overlay(), 0..20).prop_map(Message::Overlays),
    ]
}

fn local() -> impl Strategy<Value = LocalName> {
    name().prop_map(|name| name.as_str().parse().unwrap())
}

prop_compose! {
    fn replicate()(
        volumes in prop::collection::vec(name(), 1..9), group: bool, full in prop::option::of("\\PC{1,99}"),
        label in prop::option::of(label()), bytes_per_second: u64, bracket in prop::option::of(local()),
    ) -> Work {
        Work::Replicate(Replicate { volumes, group, full, label, bytes_per_second, bracket })
    }
}

fn assignment() -> impl Strategy<Value = Assignment> {
    let verify = (name(), any::<u64>()).prop_map(|(volume, point)| Work::Verify { volume, point });
    let restore =
        (name(), any::<u64>(), local()).prop_map(|(volume, point, target)| Work::Restore { volume, point, target });
    (uuid(), prop_oneof![replicate(), verify, restore]).prop_map(|(run, work)| Assignment { run, work })
}

fn announcement() -> impl Strategy<Value = Announcement> {
    let offer = (name(), any::<u64>(), text()).prop_map(|(name, size, source)| Offer { name, size, source });
    let names = || prop::collection::vec(local(), 0..9);
    (prop::collection::vec(offer, 0..9), names(), names(), prop::collection::vec(assignment(), 0..9))
        .prop_map(|(volumes, targets, brackets, under_way)| Announcement { volumes, targets, brackets, under_way })
}

prop_compose! {
    fn volume_report()(volume in name(), n: [u64; 7], code in 0u8..=4, full_reason in "\\PC{0,99}", text in text()) -> VolumeReport {
        let [point, read_bytes, changed_bytes, sent_bytes, deduplicated_bytes, wire_bytes, duration_ms] = n;
        let figures = VolumeFigures {
            point, read_bytes, changed_bytes, sent_bytes, deduplicated_bytes, wire_bytes, duration_ms, code,
            reserved: [0; 7],
        };
        VolumeReport { volume, figures, full_reason, text }
    }
}

fn controls() -> impl Strategy<Value = Message> {
    let client = "[A-Za-z0-9._-]{1,64}".prop_filter_map("no name of a client", |text| text.parse().ok());
    let announce = (client, 100u32..=3_600_000, announcement())
        .prop_map(|(name, silence_ms, announcement)| Control::Announce { name, silence_ms, announcement });
    let progress = (uuid(), name(), any::<[u64; 2]>(), text())
        .prop_map(|(run, volume, [done, total], text)| Control::Progress(Progress { run, volume, done, total, text }));
    let report = (uuid(), 0u8..=4, text(), prop::collection::vec(volume_report(), 0..9))
        .prop_map(|(run, code, text, volumes)| Control::Report(Report { run, code, text, volumes }));
    let controls = prop_oneof![
        announce,
        assignment().prop_map(Control::Assign),
        (uuid(), kind(), text()).prop_map(|(run, kind, text)| Control::Decline { run, kind, text }),
        progress,
        report,
        uuid().prop_map(|run| Control::Taken { run }),
        uuid().prop_map(|run| Control::Cancel { run }),
        Just(Control::Ping),
        Just(Control::Pong),
    ];
    controls.prop_map(Message::Control)
}

prop_compose! {
    fn following()(volume in uuid(), n: [u64; 3], position in prop::option::of(position())) -> Tap {
        let [generation, durable, newest] = n;
        Tap::Following { volume, generation, durable, newest, position }
    }
}

fn tap_entries() -> impl Strategy<Value = Tap> {
    (1u64.., prop::collection::vec(any::<u8>(), 0..3000), 0u32..9000).prop_map(|(first, bytes, more)| {
        let (codec, more) = if bytes.is_empty() || more == 0 { (Codec::Stored, 0) } else { (Codec::Lz4, more) };
        Tap::Entries { first, length: bytes.len() as u32 + more, codec, bytes: bytes.into() }
    })
}

fn taps() -> impl Strategy<Value = Message> {
    let moment = any::<(i64, u64, u64)>().prop_map(|(time_ns, sequence, point)| Moment { time_ns, sequence, point });
    let taps = prop_oneof![
        (name(), position(), geometry(), any::<u64>()).prop_map(|(name, position, geometry, generation)| {
            Tap::Follow { name, journal: position.journal, geometry, generation }
        }),
        following(),
        tap_entries(),
        any::<u64>().prop_map(|through| Tap::Durable { through }),
        (name(), any::<[i64; 2]>(), any::<u32>()).prop_map(|(name, [from_ns, to_ns], newest)| Tap::ListMoments {
            name,
            from_ns,
            to_ns,
            newest
        }),
        prop::collection::vec(moment, 0..99).prop_map(Tap::Moments),
        (name(), any::<i64>()).prop_map(|(name, at_ns)| Tap::OpenMoment { name, at_ns }),
    ];
    taps.prop_map(Message::Tap)
}

fn failovers() -> impl Strategy<Value = Message> {
    let promoted = (uuid(), any::<[u64; 2]>(), any::<i64>());
    let all = prop_oneof![
        (name(), any::<bool>()).prop_map(|(name, force)| Failover::Promote { name, force }),
        promoted.prop_map(|(volume, [point, generation], at_ns)| Failover::Promoted {
            volume,
            point,
            generation,
            at_ns
        }),
        name().prop_map(|name| Failover::Failback { name }),
        (uuid(), any::<[u64; 4]>()).prop_map(|(volume, [from, to, generation, durable])| Failover::FailingBack {
            volume,
            from,
            to,
            generation,
            durable
        }),
        (name(), any::<u64>()).prop_map(|(name, point)| Failover::FailedBack { name, point }),
        name().prop_map(|name| Failover::Demote { name }),
    ];
    all.prop_map(Message::Failover)
}

fn messages() -> impl Strategy<Value = Message> {
    prop_oneof![requests(), answers(), controls(), taps(), failovers()]
}

fn contents() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 1..3000),
        (any::<u8>(), 1usize..70_000).prop_map(|(b, n)| vec![b; n])
    ]
}

proptest! {
    #[test]
    fn messages_come_back(message in messages()) {
        let bytes = encoded(&message);
        let (header, body, rest) = split_frame(&bytes).unwrap();
        prop_assert_eq!(rest, b"");
        prop_assert_eq!(Message::decode(&header, &body).unwrap(), Some(message));
    }

    #[test]
    fn flipped_bits_of_messages_are_errors(message in messages(), at: prop::sample::Index, bit in 0u8..8) {
        let mut bytes = encoded(&message);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(decode("message", 0, &bytes).is_err());
    }

    #[test]
    fn cut_messages_are_errors(message in messages(), at: prop::sample::Index) {
        let bytes = encoded(&message);
        prop_assert!(decode("message", 0, &bytes[..at.index(bytes.len())]).is_err());
    }

    #[test]
    fn volumes_and_points_come_back(volume in volume(), point in point()) {
        prop_assert_eq!(Volume::decode(&volume.encode()), Ok(volume));
        prop_assert_eq!(Point::decode(&point.encode()), Ok(point));
    }

    #[test]
    fn records_come_back(content in contents(), offset: u64, kind in 1u8..=4, at: prop::sample::Index, bit in 0u8..8) {
        let kind = Kind::from_wire(kind).unwrap();
        let mut bytes = record(kind, &content, offset);
        let header = RecordHeader::decode(&bytes, offset).unwrap();
        prop_assert_eq!(header.record_length(), (bytes.len() as u64).next_multiple_of(RECORD_ALIGNMENT));
        prop_assert_eq!(header.content(&bytes[64..]), Ok(content));
        let flipped = at.index(bytes.len());
        bytes[flipped] ^= 1 << bit;
        prop_assert!(decode("record", offset, &bytes).is_err());
    }

    #[test]
    fn pads_fill_to_the_alignment(offset in 0u64..1 << 34, reserve in 0u64..2000) {
        let (offset, reserve) = (offset * RECORD_ALIGNMENT, reserve * RECORD_ALIGNMENT);
        let end = pad_header(offset, reserve).map_or(offset, |header| {
            let read = RecordHeader::decode(&header.encode(), offset).unwrap();
            assert_eq!(read.kind, Kind::Pad as u8);
            offset + read.record_length()
        });
        prop_assert_eq!((end + reserve) % ALIGNMENT, 0);
        prop_assert!(end - offset < ALIGNMENT);
    }

    #[test]
    fn segments_footers_and_trailers_come_back(
        pool in uuid(), segment: u64, length in 64u64.., at: prop::sample::Index,
        entries in prop::collection::vec((digest(), any::<[u32; 2]>(), any::<u64>(), any::<[u8; 2]>()), 0..50),
    ) {
        let header = SegmentHeader::decode(&SegmentHeader::new(pool, segment).encode()).unwrap();
        prop_assert_eq!((header.pool, header.segment), (pool, segment));
        let entries: Vec<FooterEntry> = entries.into_iter().map(|(digest, [content_length, stored_length], offset, [kind, codec])| {
            FooterEntry { digest, offset, content_length, stored_length, kind, codec, reserved: [0; 6] }
        }).collect();
        prop_assert_eq!(decode_footer(&encode_footer(&entries)), Ok(entries));
        let offset = 64 + at.index((length - 63).min(1 << 40) as usize) as u64;
        let trailer = Trailer::decode(&Trailer::new(segment, offset, 9, length).encode(), length).unwrap();
        prop_assert_eq!((trailer.segment, trailer.footer_offset, trailer.file_length), (segment, offset, length));
    }

    #[test]
    fn pages_come_back(digests in prop::collection::vec((0usize..256, digest()), 0..300)) {
        let mut page = Page::zero();
        digests.iter().for_each(|(slot, digest)| page.set(*slot, *digest));
        let read = Page::checked(page.bytes(), page.digest()).unwrap();
        let last: std::collections::HashMap<usize, Digest> = digests.into_iter().collect();
        for slot in 0..256 {
            prop_assert_eq!(read.get(slot), last.get(&slot).copied().unwrap_or(Digest::ZERO));
        }
    }

    #[test]
    fn map_files_come_back(pool in uuid(), volume in uuid(), point: u64, map in map()) {
        let id = MapFileId { pool, volume, point, geometry: map.geometry, root: map.root() };
        let length = Shape::new(&map.geometry).file_length();
        prop_assert_eq!(MapFileId::decode(&id.encode(), length), Ok(id));
        prop_assert!(MapFileId::decode(&id.encode(), length + 1).is_err());
    }

    /// The levels follow each other without gap or overlap, as SPEC.md computes them.
    #[test]
    fn map_files_have_the_shape_of_the_specification(geometry in geometry()) {
        let (shape, blocks) = (Shape::new(&geometry), geometry.block_count());
        let mut at = 4096;
        for level in 0..=shape.top_level() {
            let pages = blocks.div_ceil(span(level)).div_ceil(256);
            prop_assert_eq!(shape.node(level, 0), at..at + 32);
            prop_assert_eq!(shape.page(level, pages - 1).end, at + 8192 * pages as usize);
            at += 8192 * pages as usize;
        }
        prop_assert_eq!(shape.nodes(shape.top_level()), 1);
        prop_assert_eq!(shape.file_length(), at as u64);
    }

    #[test]
    fn point_names_come_back(volume in name(), label in label(), number: u64, minute in 0i64..50_000_000) {
        let time = jiff::Timestamp::from_second(minute * 60).unwrap();
        let selectors = [
            Selector::Latest,
            Selector::Now,
            Selector::Number(number),
            Selector::Label(label),
            Selector::AtOrBefore(minute * 60_000_000_000, time.to_string()),
        ];
        for selector in selectors {
            let name = PointName { volume: volume.clone(), selector };
            prop_assert_eq!(PointName::parse(&name.to_string(), &jiff::tz::TimeZone::UTC), Ok(name));
        }
    }

    /// What is shown of a point or a moment names it again, to the nanosecond.
    #[test]
    fn names_of_points_name_them_again(volume in name(), point in point(), created_ns in 0i64..1 << 61) {
        let point = Point { created_ns, ..point };
        let name = PointName::parse(&PointName::of(&volume, &point).to_string(), &jiff::tz::TimeZone::UTC).unwrap();
        prop_assert_eq!(&name.volume, &volume);
        prop_assert_eq!(name.selector.at_or_before(), point.is_moment().then_some(created_ns));
        prop_assert_eq!(name.selector.find(std::slice::from_ref(&point)), Some(&point));
    }

    #[test]
    fn any_text_is_a_name_or_an_error(text in "\\PC{0,40}|[a-z0-9@:.+TZ\\-]{0,30}") {
        prop_assert!(round_trip("names", 0, text.as_bytes()).is_ok());
    }

    #[test]
    fn any_bytes_are_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300), with: u64) {
        for kind in ["frame", "message", "chunk", "begin", "commit", "segment", "record", "footer", "trailer", "volume", "point", "page", "mapfile", "overlay", "journal", "entries", "tap", "lz4", "names"] {
            let mut bytes = bytes.clone();
            let _ = round_trip(kind, with % 70_000, &bytes);
            crate::decoders::reseal(kind, &mut bytes);
            let _ = round_trip(kind, with % 70_000, &bytes);
        }
    }
}
