//! Streams that are cut: at whatever message, however often, with or without the loss of what was not recorded, the
//! replica is the volume in the end, and both ends agree on where they go on.

use crate::reader::Sink;
use crate::sessions::{sizes, successor, travel, volume};
use crate::streams::{Pages, Replica, Volume, begin, block_of, prepared_from};
use proptest::prelude::*;
use std::collections::{HashMap, VecDeque};
use understudy_format::chunk::{Chunk, ChunkHead};
use understudy_format::error::FormatError;
use understudy_format::session::{Cursor, Prepared, Progress, Receiver, Sender, pack};
use understudy_format::stream::Totals;
use understudy_format::wire::Message;
use understudy_format::{BlockId, Digest};

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The sender offers the next chunk.
    Offer,
    /// The receiver answers an offer.
    Answer,
    /// The sender sends a chunk whose need is known.
    Send,
    /// The receiver takes a chunk.
    Receive,
    /// The receiver records how far it came.
    Record,
    /// The connection ends: what was on the way is lost, the receiver records how far it came.
    Cut,
    /// The receiver loses its power: what it did not record is lost as well.
    Crash,
}

/// All turns that bring a stream forward.
const FORWARD: [Turn; 4] = [Turn::Offer, Turn::Answer, Turn::Send, Turn::Receive];

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        8 => prop::sample::select(FORWARD.to_vec()),
        1 => prop::sample::select(vec![Turn::Record, Turn::Cut, Turn::Crash]),
    ];
    prop::collection::vec(turn, 0..120)
}

/// Both ends, and what is on the way between them.
struct Line<'a> {
    new: &'a Volume,
    base: Option<&'a Volume>,
    window: u32,
    sizes: &'a [u64],
    sender: Sender<BlockId>,
    left: VecDeque<Prepared<BlockId>>,
    offers: VecDeque<ChunkHead>,
    chunks: VecDeque<Chunk>,
    replica: Replica,
    recorded: (Progress, HashMap<Digest, Vec<u8>>),
}

impl<'a> Line<'a> {
    fn open(new: &'a Volume, base: Option<&'a Volume>, window: u32, sizes: &'a [u64]) -> Self {
        let begin = begin(new, base);
        let mut replica = Replica::new(base);
        let blocks = [1, 2].map(block_of).map(|block| (Digest::of_block(&block), block));
        replica.known.extend(blocks);
        replica.begin(&begin).unwrap();
        let recorded = (replica.progress(), replica.known.clone());
        let left = VecDeque::from(prepared_from(0, new, base, sizes));
        let (offers, chunks) = (VecDeque::new(), VecDeque::new());
        let sender = Sender::online(begin, window);
        Self { new, base, window, sizes, sender, left, offers, chunks, replica, recorded }
    }

    fn turn(&mut self, turn: Turn) {
        match turn {
            Turn::Offer if self.sender.has_room() => {
                let offer = self.left.pop_front().and_then(|next| self.sender.offer(next));
                self.offers.extend(offer);
            }
            Turn::Offer => {}
            Turn::Answer => self.answer(),
            Turn::Send => {
                let ready = self.sender.take_ready().unwrap();
                self.chunks.extend(ready.map(|ready| pack(ready.head, true, |block| self.new.block(block)).unwrap()));
            }
            Turn::Receive => {
                if let Some(chunk) = self.chunks.pop_front() {
                    self.replica.chunk(&chunk).unwrap();
                }
            }
            Turn::Record => self.recorded = (self.replica.progress(), self.replica.known.clone()),
            Turn::Cut => {
                self.turn(Turn::Record);
                self.reconnect();
            }
            Turn::Crash => {
                self.replica.known = self.recorded.1.clone();
                self.reconnect();
            }
        }
    }

    fn answer(&mut self) {
        let Some(head) = self.offers.pop_front() else { return };
        let known = &self.replica.known;
        let has = |digest: &Digest| Ok::<_, FormatError>(known.contains_key(digest));
        let wanted = self.replica.receiver.as_mut().unwrap().offer(&head, has).unwrap();
        self.sender.need(head.sequence, &wanted).unwrap();
    }

    /// What was on the way is gone; the sender knows what the receiver says and nothing else.
    fn reconnect(&mut self) {
        let cursor = self.replica.resume(&self.recorded.0);
        let accept = Message::Accept { window: self.window, cursor, again: vec![] };
        let Message::Accept { window, cursor, .. } = travel(&accept) else { panic!("another message") };
        let next = cursor.next_block.0;
        assert!(cursor.is_start() || cursor.root == self.new.prefix_root(next), "both mean the same blocks");
        self.sender = Sender::resume(begin(self.new, self.base), window, &cursor);
        self.left = VecDeque::from(prepared_from(next, self.new, self.base, self.sizes));
        (self.offers, self.chunks) = (VecDeque::new(), VecDeque::new());
    }

    fn commit(&mut self) {
        while !(self.left.is_empty() && self.sender.is_idle() && self.chunks.is_empty()) {
            FORWARD.iter().for_each(|turn| self.turn(*turn));
        }
        let commit = self.sender.commit(self.new.map(&mut Pages::default()).root()).unwrap();
        assert_eq!(commit.totals.blocks(), self.new.geometry.block_count());
        self.replica.commit(&commit).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_stream_that_is_cut_anywhere_brings_the_same_point(
        (base, new) in volume().prop_flat_map(successor), full: bool, window in 1u32..6, sizes in sizes(), turns in turns(),
    ) {
        let mut line = Line::open(&new, Some(&base).filter(|_| !full), window, &sizes);
        turns.iter().for_each(|turn| line.turn(*turn));
        line.commit();
        prop_assert_eq!(line.replica.bytes, new.bytes);
    }
}

/// After each single message, every kind of end, three times in one stream.
#[test]
fn every_message_can_be_the_last_one() {
    let (base, new) = (Volume::new(&[1, 2, 0, 3, 3], 1), Volume::new(&[1, 4, 4, 0, 3, 0, 5, 6, 0], 1));
    for end in [Turn::Cut, Turn::Crash] {
        for last in 0..40 {
            let mut line = Line::open(&new, Some(&base), 2, &[2]);
            for _ in 0..3 {
                FORWARD.iter().cycle().take(last).for_each(|turn| line.turn(*turn));
                line.turn(Turn::Record);
                FORWARD.iter().cycle().take(last / 2).for_each(|turn| line.turn(*turn));
                line.turn(end);
            }
            line.commit();
            assert_eq!(line.replica.bytes, new.bytes, "{end:?} after {last}");
        }
    }
}

#[test]
fn what_the_cursor_covers_is_out_of_turn() {
    let new = Volume::new(&[1, 3, 5, 7], 8);
    let totals = Totals { chunks: 2, data: 2, ..Totals::default() };
    let cursor = Cursor { next_block: BlockId(2), totals, root: new.prefix_root(2) };
    let mut sender = Sender::resume(begin(&new, None), 4, &cursor);
    let mut receiver = Receiver::resume(begin(&new, None), totals, BlockId(2));
    let offer = sender.offer(prepared_from(2, &new, None, &[1]).remove(0)).unwrap();
    assert_eq!((offer.sequence, offer.first_block), (2, BlockId(2)));
    let nothing = |_: &Digest| Ok::<_, FormatError>(false);
    let old = ChunkHead { sequence: 1, first_block: BlockId(1), ..offer.clone() };
    let error = FormatError::invalid("offer", "of chunk 1 is out of turn (chunk 2 is next)");
    assert_eq!(receiver.offer(&old, nothing), Err(error));
    assert_eq!(receiver.offer(&offer, nothing), Ok(vec![true]));
    let commit = understudy_format::stream::Commit { stream: begin(&new, None).stream, totals, root: cursor.root };
    let error = FormatError::invalid("commit record", "2 of 4 blocks were sent");
    assert_eq!(receiver.commit(&commit, cursor.root), Err(error), "the cursor's root is no point's");
}
