//! One value for every layout of a journal, and for every message of a tap's session and about moments.
//!
//! Invariant: as for the other samples, none is ever changed once its vector was released.

use crate::samples::{Sample, geometry, part, point, sample, uuid, volume};
use bytes::Bytes;
use understudy_format::Digest;
use understudy_format::codec::{Codec, encode_into};
use understudy_format::journal::{Change, Entry, EntryHeader, FileHeader, JournalHeader, Order, Position};
use understudy_format::point::{MOMENT, Point};
use understudy_format::tap::{Phase, TapRecord, TapState};
use understudy_format::wire::{Failover, Message, Moment, Tap};
use uuid::Uuid;

/// What was written by the last entry of [`entries`].
pub const WRITTEN: &[u8; 5] = b"curta";

/// In the journal of these samples.
pub fn position() -> Position {
    Position { journal: uuid(8), sequence: 6 }
}

/// What a tap's journal was folded into.
pub fn folded() -> Point {
    Point { number: 8, base: Some(7), label: None, position: Some(position()), ..point() }
}

/// Its first entry is the fifth of the journal.
pub fn header() -> FileHeader {
    let (volume_size, created_ns) = (geometry().volume_size(), 1_795_255_200_000_000_000);
    FileHeader { journal: uuid(8), volume_size, first: 5, created_ns }
}

/// One entry of every kind, the write last; each entry, and the bytes that it has.
pub fn entries() -> Vec<(Entry, &'static [u8])> {
    let mut order = Order::new(header().volume_size, header().first, header().created_ns);
    let end = header().volume_size;
    let mut entry = |after_ns: i64, change, payload: &'static [u8]| {
        (order.make(1_795_255_200_000_000_000 + after_ns, change, payload), payload)
    };
    vec![
        entry(1, Change::Zero { offset: 4095, length: 8194 }, &[]),
        entry(250_000_000, Change::Mark, &[]),
        entry(250_000_001, Change::Trim { offset: 0, length: end }, &[]),
        entry(250_000_000, Change::Write { offset: end - 5, length: 5 }, WRITTEN),
    ]
}

fn run() -> Vec<u8> {
    entries().iter().flat_map(|(entry, payload)| [&entry.encode(), *payload].concat()).collect()
}

/// Of a tap that follows and was closed, and of one that never saw its appliance.
fn states() -> [TapState; 2] {
    let state = TapState {
        phase: Phase::Following,
        closed: Some(Digest::of_record(b"untouched")),
        volume: uuid(1),
        generation: 3,
        journal: uuid(8),
        last: 8,
        last_ns: 1_795_255_200_250_000_001,
        durable: 6,
        base: Some(position()),
        geometry: geometry(),
        reason: String::new(),
    };
    let reason = "nothing of this volume is known here".to_owned();
    let (volume, journal) = (Uuid::nil(), Uuid::nil());
    let fresh = TapState { phase: Phase::Dirty, closed: None, volume, journal, base: None, reason, ..state.clone() };
    [state, TapState { generation: 0, last: 0, last_ns: 0, durable: 0, ..fresh }]
}

/// A file of a journal, the same entries as they travel, and a point that they were folded into.
pub fn good() -> Vec<Sample> {
    let parts = [part::<EntryHeader>(); 4];
    let file_parts = [&[part::<JournalHeader>()][..], &parts].concat();
    let [state, fresh] = states();
    let (file, none) = ([header().encode(), run()].concat(), Vec::<(Entry, &[u8])>::new());
    vec![
        sample("journal", "journal", &(header(), entries()), file, &file_parts),
        sample("tap", "tap", &state, state.encode(), &[part::<TapRecord>()]),
        sample("tap-fresh", "tap", &fresh, fresh.encode(), &[part::<TapRecord>()]),
        sample("journal-fresh", "journal", &(header(), none), header().encode(), &file_parts[..1]),
        Sample { with: header().first, ..sample("entries", "entries", &entries(), run(), &parts) },
    ]
}

/// Every message of a tap, and about moments, by the name of its vector.
pub fn messages() -> Vec<(&'static str, Message)> {
    let name = || volume().name;
    let mut lz4 = Vec::new();
    assert_eq!(encode_into(&run(), &mut lz4), Codec::Lz4);
    let following = |position| Tap::Following { volume: uuid(1), generation: 3, durable: 4, newest: 8, position };
    let entries =
        |codec, bytes: Vec<u8>| Tap::Entries { first: 5, length: run().len() as u32, codec, bytes: bytes.into() };
    let taps = vec![
        ("follow", Tap::Follow { name: name(), journal: uuid(8), geometry: geometry(), generation: 3 }),
        ("following", following(Some(position()))),
        ("following-no-position", following(None)),
        ("entries", entries(Codec::Lz4, lz4)),
        ("entries-stored", entries(Codec::Stored, run())),
        ("entries-none", Tap::Entries { first: 9, length: 0, codec: Codec::Stored, bytes: Bytes::new() }),
        ("durable", Tap::Durable { through: 8 }),
        ("list-moments", Tap::ListMoments { name: name(), from_ns: -1, to_ns: i64::MAX, newest: 100 }),
        ("moments", Tap::Moments(vec![moment(6, 0), moment(9, 1)])),
        ("moments-none", Tap::Moments(vec![])),
        ("open-moment", Tap::OpenMoment { name: name(), at_ns: moment(6, 0).time_ns }),
    ];
    let opened = Point { number: MOMENT | 1, ..folded() };
    let opened = Message::Points { volume: Some(crate::samples::info()), points: vec![opened], protected: vec![] };
    let over = Message::Push { name: name(), label: None, group: None, over: Some(position()) };
    let taps = taps.into_iter().map(|(name, tap)| (name, tap.into()));
    taps.chain([("push-over", over), ("stored-folded", Message::Stored(folded())), ("points-moment", opened)]).collect()
}

fn moment(sequence: u64, seconds: i64) -> Moment {
    Moment { time_ns: 1_795_255_200_250_000_000 + seconds * 1_000_000_000, sequence, point: 7 }
}

/// Every message about which side is written to, by the name of its vector.
pub fn failover_messages() -> Vec<(&'static str, Message)> {
    let name = || volume().name;
    let all = vec![
        ("promote", Failover::Promote { name: name(), force: true }),
        ("promoted", Failover::Promoted { volume: uuid(1), point: 7, generation: 4, at_ns: moment(6, 0).time_ns }),
        ("failback", Failover::Failback { name: name() }),
        ("failing-back", Failover::FailingBack { volume: uuid(1), from: 7, to: 8, generation: 5, durable: 9 }),
        ("failed-back", Failover::FailedBack { name: name(), point: 8 }),
        ("demote", Failover::Demote { name: name() }),
    ];
    all.into_iter().map(|(name, failover)| (name, failover.into())).collect()
}
