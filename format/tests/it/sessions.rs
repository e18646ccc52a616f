//! Streams through both ends of a session: whatever the receiver has and whenever it answers, the
//! replica is the volume, and no block travels that was not needed.

use crate::decoders::split_frame;
use crate::reader::{Nowhere, Sink, read_stream, reseal_stream};
use crate::samples::encoded;
use crate::streams::{Pages, Replica, Volume, begin, block_of, prepared, stream};
use proptest::prelude::*;
use std::collections::{HashMap, VecDeque};
use understudy_format::Digest;
use understudy_format::chunk::{Chunk, ChunkHead, Entry};
use understudy_format::error::FormatError;
use understudy_format::session::{Sender, pack};
use understudy_format::wire::Message;

/// The message as the other end reads it.
pub fn travel(message: &Message) -> Message {
    let bytes = encoded(message);
    let (header, body, rest) = split_frame(&bytes).unwrap();
    assert_eq!(rest, b"");
    let read = Message::decode(&header, &body).unwrap().expect("a known tag");
    assert_eq!(&read, message);
    read
}

pub fn volume() -> impl Strategy<Value = Volume> {
    (prop::collection::vec(0u8..7, 1..60), 1usize..=8).prop_map(|(contents, tail)| Volume::new(&contents, tail))
}

/// A volume made from another: some blocks changed, then cut or grown.
pub fn successor(base: Volume) -> impl Strategy<Value = (Volume, Volume)> {
    let blocks = base.geometry.block_count() as usize;
    let edits = prop::collection::vec((0..blocks, 0u8..7), 0..6);
    (edits, 1usize..70, 1usize..=8).prop_map(move |(edits, length, tail)| {
        let mut bytes = base.bytes.clone();
        bytes.resize(blocks * 4096, 0);
        edits.iter().for_each(|(at, content)| bytes[at * 4096..][..4096].copy_from_slice(&block_of(*content)));
        bytes.resize((length - 1) * 4096 + tail * 512, 0);
        let geometry = understudy_format::Geometry::from_wire(bytes.len() as u64, 4096).unwrap();
        (base.clone(), Volume { geometry, bytes })
    })
}

/// Both ends and the messages on the way.
struct Session<'a> {
    new: &'a Volume,
    sender: Sender<understudy_format::BlockId>,
    replica: Replica,
    offers: VecDeque<ChunkHead>,
    travelled: HashMap<Digest, u64>,
}

impl<'a> Session<'a> {
    fn open(new: &'a Volume, base: Option<&Volume>, window: u32, had: &[u8]) -> Self {
        let begin = begin(new, base);
        let mut replica = Replica::new(base);
        let blocks = had.iter().filter(|content| **content != 0).map(|content| block_of(*content));
        replica.known.extend(blocks.map(|block| (Digest::of_block(&block), block)));
        let Message::Begin(read) = travel(&Message::Begin(begin)) else { panic!("a begin record") };
        replica.begin(&read).unwrap();
        let sender = Sender::online(begin, window);
        Self { new, sender, replica, offers: VecDeque::new(), travelled: HashMap::new() }
    }

    /// The receiver answers the oldest offer.
    fn answer(&mut self) {
        let Some(head) = self.offers.pop_front() else { return };
        let known = &self.replica.known;
        let has = |digest: &Digest| Ok::<_, FormatError>(known.contains_key(digest));
        let wanted = self.replica.receiver.as_mut().unwrap().offer(&head, has).unwrap();
        let need = travel(&Message::Need { sequence: head.sequence, wanted });
        let Message::Need { sequence, wanted } = need else { panic!("a need") };
        self.sender.need(sequence, &wanted).unwrap();
    }

    /// The sender sends all chunks that it can.
    fn send(&mut self) {
        while let Some(ready) = self.sender.take_ready().unwrap() {
            let chunk = pack(ready.head, true, |block| self.new.block(block)).unwrap();
            let Message::Chunk(chunk) = travel(&Message::Chunk(chunk)) else { panic!("a chunk") };
            self.count(&chunk);
            self.replica.chunk(&chunk).unwrap();
        }
    }

    fn count(&mut self, chunk: &Chunk) {
        for entry in &chunk.head.entries {
            if let Entry::Data { digest, .. } = entry {
                assert!(!self.replica.known.contains_key(digest), "the receiver has {digest}");
                *self.travelled.entry(*digest).or_default() += 1;
            }
        }
    }

    fn commit(mut self) -> Replica {
        let root = self.new.map(&mut Pages::default()).root();
        let Message::Commit(commit) = travel(&Message::Commit(self.sender.commit(root).unwrap())) else {
            panic!("a commit record")
        };
        self.replica.commit(&commit).unwrap();
        assert!(self.travelled.values().all(|times| *times == 1), "each block travels once");
        self.replica
    }
}

/// Sends `new`; `turns` says at each turn whether the receiver answers before more is offered.
fn replicate(new: &Volume, base: Option<&Volume>, window: u32, had: &[u8], sizes: &[u64], turns: &[bool]) -> Replica {
    let mut session = Session::open(new, base, window, had);
    let mut groups = VecDeque::from(prepared(new, base, sizes));
    let mut turns = turns.iter().cycle();
    while !groups.is_empty() || !session.sender.is_idle() {
        let answers = *turns.next().expect("cycled");
        match session.sender.has_room() && !answers {
            true if !groups.is_empty() => {
                let offer = session.sender.offer(groups.pop_front().expect("not empty"));
                session.offers.extend(offer);
                assert!(session.offers.len() <= window as usize);
            }
            _ => session.answer(),
        }
        session.send();
    }
    session.commit()
}

pub fn sizes() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(1u64..20, 1..6)
}

/// At least one turn of each kind, so that every run ends.
fn turns() -> impl Strategy<Value = Vec<bool>> {
    prop::collection::vec(any::<bool>(), 0..30).prop_map(|turns| [turns, vec![true, false]].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn full_streams_arrive_over_a_session(
        new in volume(), window in 1u32..9, had in prop::collection::vec(0u8..7, 0..4), sizes in sizes(), turns in turns(),
    ) {
        prop_assert_eq!(replicate(&new, None, window, &had, &sizes, &turns).bytes, new.bytes);
    }

    #[test]
    fn incremental_streams_arrive_over_grown_and_shrunk_volumes(
        (base, new) in volume().prop_flat_map(successor), window in 1u32..9,
        had in prop::collection::vec(0u8..7, 0..4), sizes in sizes(), turns in turns(),
    ) {
        let replica = replicate(&new, Some(&base), window, &had, &sizes, &turns);
        prop_assert_eq!(replica.bytes, new.bytes);
    }

    #[test]
    fn offline_streams_arrive((base, new) in volume().prop_flat_map(successor), full: bool, sizes in sizes()) {
        let base = Some(&base).filter(|_| !full);
        let mut replica = Replica::new(base);
        read_stream(&stream(&new, base, &sizes), &mut replica).unwrap();
        prop_assert_eq!(replica.bytes, new.bytes);
    }

    #[test]
    fn a_flipped_bit_is_never_accepted(new in volume(), sizes in sizes(), at: prop::sample::Index, bit in 0u8..8) {
        let mut bytes = stream(&new, None, &sizes);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(read_stream(&bytes, &mut Replica::new(None)).is_err());
    }

    /// Changed bytes behind checksums that were made right again: in order or refused, and no panic.
    #[test]
    fn a_crafted_stream_is_read_or_refused(
        new in volume(), sizes in sizes(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..9),
    ) {
        let mut bytes = stream(&new, None, &sizes);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        reseal_stream(&mut bytes);
        let _ = read_stream(&bytes, &mut Nowhere);
    }

    #[test]
    fn a_truncated_stream_is_never_accepted(new in volume(), sizes in sizes(), at: prop::sample::Index) {
        let bytes = stream(&new, None, &sizes);
        let cut = read_stream(&bytes[..at.index(bytes.len())], &mut Replica::new(None));
        prop_assert!(matches!(cut, Err(FormatError::Truncated { .. })), "{cut:?}");
    }
}
