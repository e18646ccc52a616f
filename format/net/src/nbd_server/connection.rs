//! One connection: handshake, then requests in and replies out on one task.
//!
//! Invariants: at most one handshake time passes before transmission; a request is received only when
//! the one before it has its ticket; the socket is closed once the last ticket is back. Generic over
//! the two halves of a byte stream, so that TLS fits below it. Must not call an export: workers do.

use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::spawn_blocking;
use tracing::debug;
use understudy_format::nbd::{
    Advert, Command, EXTENTS_MAX, Errno, Failure, Handshake, Incoming, OptionError, Receiver, Refusal, Request,
    Session, Step, Tag, WireError,
};

use super::Server;
use super::answer::Answerer;
use super::shelf::Buffer;
use crate::export::{Catalog, Export};

/// Room for small requests that arrive together.
const INPUT_ROOM: usize = 64 << 10;
/// Replies sent with one system call.
const BATCH_MAX: usize = 64;
/// What a reply without content is counted as.
const SMALL_REPLY: usize = 4 << 10;
/// What an extent takes at most in a reply, and before it is one.
const EXTENT_LEN: usize = 16;

/// Why a connection ended before its time. Logged, then forgotten.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Socket(#[from] io::Error),
    #[error("the handshake took too long")]
    Slow,
}

/// Serves one connection to its end.
pub(super) async fn run<R, W>(reader: R, writer: W, peer: String, server: Arc<Server>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let input = BytesMut::with_capacity(INPUT_ROOM);
    match serve(Link { reader, input }, writer, server).await {
        Ok(()) => debug!(peer, "closed"),
        Err(error) => debug!(peer, %error, "closed"),
    }
}

async fn serve<R, W>(mut link: Link<R>, mut writer: W, server: Arc<Server>) -> Result<(), Ended>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut draining = server.draining.clone();
    let entered = tokio::select! {
        biased;
        _ = draining.wait_for(|draining| *draining) => return Ok(()),
        entered = tokio::time::timeout(
            server.limits.handshake,
            shake_hands(&mut link, &mut writer, &server.catalog),
        ) => entered.map_err(|_| Ended::Slow)??,
    };
    match entered {
        Some((session, export)) => transmit(link, writer, server, session, export).await,
        None => Ok(()),
    }
}

/// The receiving half with what was received and not yet understood.
struct Link<R> {
    reader: R,
    input: BytesMut,
}

impl<R: AsyncRead + Unpin> Link<R> {
    /// Receives something, with room for `wanted` bytes; `false` at the end of the stream.
    async fn receive(&mut self, wanted: usize) -> io::Result<bool> {
        self.input.reserve(wanted.max(INPUT_ROOM));
        match self.reader.read_buf(&mut self.input).await {
            Ok(received) => Ok(received > 0),
            // How clients that leave in a hurry look.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error),
        }
    }
}

type Opened = (Advert, Arc<dyn Export>);

async fn shake_hands<R, W>(
    link: &mut Link<R>,
    writer: &mut W,
    catalog: &Arc<dyn Catalog>,
) -> Result<Option<(Session, Arc<dyn Export>)>, Ended>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut out = BytesMut::new();
    let mut handshake = Handshake::greeting(&mut out);
    let mut last: Option<(String, Opened)> = None;
    loop {
        let step = handshake.advance(&mut link.input, &mut out);
        writer.write_all_buf(&mut out).await?;
        match step? {
            Step::Receive if link.receive(0).await? => {}
            Step::Receive | Step::Close => return Ok(None),
            Step::List => {
                let catalog = Arc::clone(catalog);
                let exports = spawn_blocking(move || catalog.list()).await.unwrap_or_default();
                handshake.answer_list(&exports, &mut out);
            }
            Step::Open(name) => {
                let opened = open(catalog, name, &mut last).await;
                let advert = opened.as_ref().map(|(advert, _)| advert.clone());
                let entered = handshake.answer_open(advert.map_err(Clone::clone), &mut out)?;
                if let (Some(session), Ok((_, export))) = (entered, opened) {
                    writer.write_all_buf(&mut out).await?;
                    return Ok(Some((session, export)));
                }
            }
        }
    }
}

/// Opens `name`, unless it is the one that was opened `last`.
async fn open(
    catalog: &Arc<dyn Catalog>,
    name: String,
    last: &mut Option<(String, Opened)>,
) -> Result<Opened, Refusal> {
    match last {
        Some((known, opened)) if *known == name => Ok(opened.clone()),
        _ => {
            let (catalog, wanted) = (Arc::clone(catalog), name.clone());
            let opened = spawn_blocking(move || open_blocking(&*catalog, &wanted)).await;
            let opened = opened.map_err(|_| internal_error())??;
            *last = Some((name, opened.clone()));
            Ok(opened)
        }
    }
}

fn internal_error() -> Refusal {
    Refusal::new(OptionError::Policy, "internal error of the server")
}

fn open_blocking(catalog: &dyn Catalog, name: &str) -> Result<Opened, Refusal> {
    let export = catalog.open(name)?;
    let advert = Advert {
        name: export.name(),
        description: export.describe(),
        geometry: export.geometry(),
        contexts: export.contexts(),
    };
    Ok((advert, export))
}

/// A request's share of what its connection may have in flight; returned by being dropped.
struct Ticket {
    _request: Option<OwnedSemaphorePermit>,
    _bytes: Option<OwnedSemaphorePermit>,
}

/// A finished reply.
struct Answer {
    reply: Buffer,
    _ticket: Ticket,
}

/// The shares of one connection.
struct Tickets {
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    requests_max: u32,
    bytes_max: u32,
}

impl Tickets {
    fn new(requests: u32, bytes: u32) -> Self {
        let (requests_max, bytes_max) = (requests.max(1), bytes.max(1));
        let requests = Arc::new(Semaphore::new(requests_max as usize));
        let bytes = Arc::new(Semaphore::new(bytes_max as usize));
        Self { requests, bytes, requests_max, bytes_max }
    }

    async fn take(&self, cost: usize) -> Ticket {
        let cost = u32::try_from(cost).unwrap_or(u32::MAX).min(self.bytes_max);
        // The semaphores are never closed, so both permits are always there.
        let request = Arc::clone(&self.requests).acquire_owned().await.ok();
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(cost).await.ok();
        Ticket { _request: request, _bytes: bytes }
    }

    async fn all_back(&self) {
        let _all = self.requests.acquire_many(self.requests_max).await;
    }
}

/// What requests of a session are counted as, in bytes of memory until the reply is sent.
fn cost(session: &Session, command: &Command) -> usize {
    match command {
        Command::Read { span, .. } => SMALL_REPLY + span.length as usize,
        Command::Write { data, .. } => SMALL_REPLY + data.len(),
        Command::BlockStatus { .. } => SMALL_REPLY + session.contexts.len() * EXTENTS_MAX * EXTENT_LEN,
        _ => SMALL_REPLY,
    }
}

async fn transmit<R, W>(
    link: Link<R>,
    writer: W,
    server: Arc<Server>,
    session: Session,
    export: Arc<dyn Export>,
) -> Result<(), Ended>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (replies, finished) = unbounded_channel();
    let answerer = Answerer { session, export, shelf: Arc::clone(&server.shelf) };
    let tickets = Tickets::new(server.limits.requests_in_flight, server.limits.bytes_in_flight);
    let draining = server.draining.clone();
    let flow = Arc::new(Flow { answerer, replies });
    let requests = Requests { link, server, flow, tickets, draining };
    let (received, sent) = tokio::join!(requests.receive_all(), send_all(writer, finished));
    received.and(sent.map_err(Ended::Socket))
}

/// What a worker needs to answer and to hand the reply over. The sender ends when the last request is
/// answered and no more are received.
struct Flow {
    answerer: Answerer,
    replies: UnboundedSender<Answer>,
}

impl Flow {
    fn answer(&self, request: &Request, ticket: Ticket) {
        self.send(self.answerer.answer(request), ticket);
    }

    fn send(&self, reply: Buffer, ticket: Ticket) {
        // Nobody to send it to: the client is gone.
        let _ = self.replies.send(Answer { reply, _ticket: ticket });
    }
}

/// The receiving side of the transmission phase.
struct Requests<R> {
    link: Link<R>,
    server: Arc<Server>,
    flow: Arc<Flow>,
    tickets: Tickets,
    draining: watch::Receiver<bool>,
}

impl<R: AsyncRead + Unpin> Requests<R> {
    async fn receive_all(mut self) -> Result<(), Ended> {
        let mut receiver = Receiver::default();
        loop {
            let session = &self.flow.answerer.session;
            match receiver.next(session, &mut self.link.input)? {
                Incoming::Receive(wanted) if self.fill(wanted).await? => {}
                Incoming::Receive(_) | Incoming::Disconnect => return Ok(()),
                Incoming::Refused { tag, failure } => self.refuse(tag, &failure).await,
                Incoming::Request(request) => self.start(request).await,
            }
        }
    }

    /// Receives more; `false` once nothing more should be.
    async fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        let drained = async {
            let _ = self.draining.wait_for(|draining| *draining).await;
            self.tickets.all_back().await;
        };
        tokio::select! {
            biased;
            () = drained => Ok(false),
            () = self.flow.replies.closed() => Ok(false),
            received = self.link.receive(wanted) => received,
        }
    }

    async fn refuse(&self, tag: Tag, failure: &Failure) {
        let ticket = self.tickets.take(SMALL_REPLY).await;
        self.flow.send(self.flow.answerer.refuse(tag, failure), ticket);
    }

    async fn start(&self, request: Request) {
        let cost = cost(&self.flow.answerer.session, &request.command);
        let ticket = self.tickets.take(cost).await;
        if *self.draining.borrow() {
            drop(ticket);
            let failure = Failure::new(Errno::Shutdown, "the server is shutting down");
            return self.refuse(request.tag(), &failure).await;
        }
        let flow = Arc::clone(&self.flow);
        self.server.workers.push(Box::new(move || flow.answer(&request, ticket)));
    }
}

/// Sends replies as they are finished, until there can be no more.
async fn send_all<W>(mut writer: W, mut finished: UnboundedReceiver<Answer>) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while finished.recv_many(&mut batch, BATCH_MAX).await > 0 {
        send(&mut writer, &batch).await?;
        batch.clear();
    }
    writer.shutdown().await
}

async fn send<W: AsyncWrite + Unpin>(writer: &mut W, batch: &[Answer]) -> io::Result<()> {
    let mut slices: Vec<_> = batch.iter().map(|answer| IoSlice::new(&answer.reply)).collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        match writer.write_vectored(left).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            sent => IoSlice::advance_slices(&mut left, sent),
        }
    }
    Ok(())
}
