//! The session of a tap, message by message.

use super::open;
use super::tape::*;
use crate::model::*;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use understudy_appliance::access::{Access, Peer};
use understudy_appliance::overlay::Overlays;
use understudy_appliance::pool::Pool;
use understudy_appliance::secondary::Secondaries;
use understudy_appliance::session::{self, Guest, Running, Shared};
use understudy_format::codec::{Codec, encode_into};
use understudy_format::journal::Change;
use understudy_format::stream::{Commit, Totals};
use understudy_format::wire::{Message, SESSION_VERSION, Tap};
use understudy_format::{BlockSize, ErrorKind, Geometry};
use understudy_net::NetError;
use understudy_net::framed::{Incoming, MessageReader, MessageWriter, Outgoing};

fn shared(pool: &Arc<Pool>) -> Arc<Shared> {
    Arc::new(Shared {
        pool: pool.clone(),
        secondaries: Arc::new(Secondaries::new(pool.clone())),
        overlays: Arc::new(Overlays::new(pool.clone())),
        journals: open(pool),
        access: Arc::new(Access::open(pool.clone(), false).unwrap()),
        nbd: String::new(),
        counters: Arc::default(),
        running: Running::default(),
        agents: Arc::default(),
        groups: Arc::default(),
    })
}

struct Client {
    reader: MessageReader<Incoming>,
    writer: MessageWriter<Outgoing>,
    session: JoinHandle<Result<(), NetError>>,
}

impl Client {
    async fn new(shared: &Arc<Shared>) -> Self {
        let (here, there) = tokio::io::duplex(1 << 16);
        let ((from, to), (their_from, their_to)) = (tokio::io::split(here), tokio::io::split(there));
        let guest = Guest { peer: Peer::Local, certificate: None };
        let session = tokio::spawn(session::serve(shared.clone(), Box::new(their_from), Box::new(their_to), guest));
        let (minute, from, to): (_, Incoming, Outgoing) = (Duration::from_secs(60), Box::new(from), Box::new(to));
        let mut own =
            Self { reader: MessageReader::new(from, minute), writer: MessageWriter::new(to, minute), session };
        let hello = Message::Hello { version: SESSION_VERSION, software: "a test".to_owned() };
        assert!(matches!(own.ask(hello).await, Message::Welcome { .. }));
        own
    }

    async fn ask(&mut self, message: Message) -> Message {
        self.writer.send(&message).await.unwrap();
        self.reader.next().await.unwrap().expect("an answer")
    }

    async fn follow(&mut self, tape: &Tape, generation: u64) -> Message {
        let geometry = Geometry::new(tape.size, BlockSize::new(BLOCK as u32).unwrap()).unwrap();
        self.ask(Tap::Follow { name: name(), journal: tape.journal, geometry, generation }.into()).await
    }

    async fn entries(&mut self, first: u64, entries: &[u8]) -> Message {
        let mut bytes = Vec::new();
        let codec = encode_into(entries, &mut bytes);
        self.ask(Tap::Entries { first, length: entries.len() as u32, codec, bytes: bytes.into() }.into()).await
    }

    /// A session that ended for a reason that it told.
    async fn ended(mut self) {
        assert!(self.reader.next().await.unwrap().is_none());
        drop((self.reader, self.writer));
        self.session.await.unwrap().unwrap_err();
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
