//! The session of a tap, message by message.

use super::open;
use super::tape::*;
use crate::client::{self, Client};
use crate::model::*;
use bytes::Bytes;
use std::sync::Arc;
use understudy_appliance::pool::Pool;
use understudy_appliance::session::Shared;
use understudy_format::codec::{Codec, encode_into};
use understudy_format::journal::Change;
use understudy_format::stream::{Commit, Totals};
use understudy_format::wire::{Message, Tap};
use understudy_format::{BlockSize, ErrorKind, Geometry};

fn shared(pool: &Arc<Pool>) -> Arc<Shared> {
    client::shared(pool, &open(pool))
}

impl Client {
    async fn follow(&mut self, tape: &Tape, generation: u64) -> Message {
        let geometry = Geometry::new(tape.size, BlockSize::new(BLOCK as u32).unwrap()).unwrap();
        self.ask(Tap::Follow { name: name(), journal: tape.journal, geometry, generation }.into()).await
    }

    async fn entries(&mut self, first: u64, entries: &[u8]) -> Message {
        let mut bytes = Vec::new();
        let codec = encode_into(entries, &mut bytes);
        self.ask(Tap::Entries { first, length: entries.len() as u32, codec, bytes: bytes.into() }.into()).await
    }
}

fn durable(through: u64) -> Message {
    Tap::Durable { through }.into()
}

#[track_caller]
fn fails(message: Message, expected_kind: ErrorKind, expected: &str) {
    let Message::Fail { kind, text } = message else { panic!("{message:?}") };
    assert!(kind == expected_kind && text.contains(expected), "{kind:?}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_answered_in_order_once_they_are_durable() {
    let (lab, mut tape) = (Lab::quick(), Tape::new(1));
    let pool = lab.open();
    let shared = shared(&pool);
    let mut tap = Client::new(&shared).await;
    let Message::Tap(Tap::Following { volume, generation: 1, durable: 0, newest: 0, position: None }) =
        tap.follow(&tape, 0).await
    else {
        panic!("it is a new volume")
    };
    assert!(volume.is_nil());
    assert_eq!(tap.entries(1, &tape.write(0, 9000).mark().take()).await, durable(2));
    assert_eq!(tap.entries(3, &tape.add(Change::Zero { offset: 5, length: 9 }).take()).await, durable(3));
    let none = Tap::Entries { first: 4, length: 0, codec: Codec::Stored, bytes: Bytes::new() };
    assert_eq!(tap.ask(none.into()).await, durable(3));
    let [figures] = &shared.journals.figures()[..] else { panic!("one volume") };
    assert!(figures.is_followed && figures.complete_ns > 3000 && figures.bytes > 9000, "{figures:?}");
    tape.check(&shared.journals, 0, 3);
    fails(tap.entries(5, &tape.mark().take()).await, ErrorKind::Refused, "the next one is 4");
    tap.ended().await;
    assert!(shared.journals.followed_by(&name()).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_again_goes_on_where_the_older_connection_was() {
    let (lab, mut tape) = (Lab::quick(), Tape::new(1));
    let pool = lab.open();
    let shared = shared(&pool);
    let mut older = Client::new(&shared).await;
    older.follow(&tape, 0).await;
    assert_eq!(older.entries(1, &tape.write(0, 9000).mark().take()).await, durable(2));
    let mut newer = Client::new(&shared).await;
    let Message::Tap(Tap::Following { durable: 2, .. }) = newer.follow(&tape, 1).await else { panic!("it goes on") };
    fails(older.reader.next().await.unwrap().unwrap(), ErrorKind::Closed, "over another connection");
    older.ended().await;
    assert_eq!(newer.entries(3, &tape.mark().take()).await, durable(3));
    let mut other = Client::new(&shared).await;
    fails(other.follow(&Tape::new(2), 0).await, ErrorKind::Retry, "with another journal");
    other.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_primary_and_no_other_stream_comes_in_beside_a_tap() {
    let (lab, mut tape) = (Lab::quick(), Tape::new(1));
    let pool = lab.open();
    let shared = shared(&pool);
    let bytes = volume(&[1, 2, 3]);
    replicate(&pool, None, &bytes, 1).unwrap();
    let mut tap = Client::new(&shared).await;
    fails(tap.follow(&tape, 9).await, ErrorKind::Refused, "this primary has generation 9");
    tap.ended().await;
    let mut stream = Client::new(&shared).await;
    let push = Message::Push { name: name(), label: None, group: None, over: None };
    stream.writer.send(&push).await.unwrap();
    assert!(matches!(stream.ask(Message::Begin(begin(None, &bytes, 2))).await, Message::Accept { .. }));
    let mut tap = Client::new(&shared).await;
    let Message::Tap(Tap::Following { newest: 1, .. }) = tap.follow(&tape, 1).await else { panic!("it is followed") };
    assert_eq!(tap.entries(1, &tape.mark().take()).await, durable(1));
    let commit = Commit { stream: begin(None, &bytes, 2).stream, totals: Totals::default(), root: map(&bytes).root() };
    fails(stream.ask(Message::Commit(commit)).await, ErrorKind::Refused, "followed by the tap of local");
    stream.ended().await;
    let mut stream = Client::new(&shared).await;
    stream.writer.send(&push).await.unwrap();
    let answer = stream.ask(Message::Begin(begin(None, &bytes, 3))).await;
    fails(answer, ErrorKind::Refused, "followed by the tap of local");
    stream.ended().await;
    assert_eq!(numbers(&pool), [1]);
}
