//! A client of a session: what it asks, and what it is told, message by message.

use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use understudy_appliance::access::{Access, Peer};
use understudy_appliance::journals::Journals;
use understudy_appliance::overlay::Overlays;
use understudy_appliance::pool::Pool;
use understudy_appliance::secondary::Secondaries;
use understudy_appliance::session::{self, Guest, Running, Shared};
use understudy_format::wire::{Message, SESSION_VERSION};
use understudy_net::NetError;
use understudy_net::framed::{Incoming, MessageReader, MessageWriter, Outgoing};

/// What the sessions of a pool share.
pub fn shared(pool: &Arc<Pool>, journals: &Arc<Journals>) -> Arc<Shared> {
    Arc::new(Shared {
        pool: pool.clone(),
        secondaries: Arc::new(Secondaries::new(pool.clone())),
        overlays: Arc::new(Overlays::new(pool.clone())),
        journals: journals.clone(),
        access: Arc::new(Access::open(pool.clone(), false).unwrap()),
        nbd: String::new(),
        counters: Arc::default(),
        running: Running::default(),
        agents: Arc::default(),
        groups: Arc::default(),
    })
}

/// The other end of a session, welcomed.
pub struct Client {
    pub reader: MessageReader<Incoming>,
    pub writer: MessageWriter<Outgoing>,
    pub session: JoinHandle<Result<(), NetError>>,
}

impl Client {
    pub async fn new(shared: &Arc<Shared>) -> Self {
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

    pub async fn ask(&mut self, message: Message) -> Message {
        self.writer.send(&message).await.unwrap();
        self.reader.next().await.unwrap().expect("an answer")
    }

    /// A session that ended for a reason that it told.
    pub async fn ended(mut self) {
        assert!(self.reader.next().await.unwrap().is_none());
        drop((self.reader, self.writer));
        self.session.await.unwrap().unwrap_err();
    }
}
