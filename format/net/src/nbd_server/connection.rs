//! One connection: handshake, then requests in and replies out on one task.
//!
//! Invariants: at most one handshake time passes before transmission, the handshake of TLS included; a request is received only
//! when the one before it has its ticket; the socket is closed once the last ticket is back. Generic over the byte
//! stream, so that TLS is one more of them. Must not have an export wait for a disk: workers do.

use std::io::{self, IoSlice};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;
use tracing::debug;
use understudy_format::nbd::{Errno, Failure, Incoming, Receiver, Request, Tag, WireError};

use super::Server;
use super::answer::Answerer;
use super::link::Link;
use super::listener::{Detached, Socket};
use super::reception::{Entered, Reception, Said};
use super::shelf::Buffer;
use super::tickets::{SMALL_REPLY, Ticket, Tickets, cost};
use crate::export::Visitor;

/// Replies sent with one system call.
const BATCH_MAX: usize = 64;

/// Why a connection ended before its time. Logged, then forgotten.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Socket(#[from] io::Error),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("the handshake took too long")]
    Slow,
    #[error("the client may not use the export any more")]
    NotAnyMore,
}

/// Serves one connection to its end.
pub(super) async fn run(socket: Detached, server: Arc<Server>) {
    let socket = match socket.attach() {
        Ok(socket) => socket,
        Err(error) => return debug!(%error, "dropped"),
    };
    let peer = socket.peer().to_owned();
    let ended = match socket {
        Socket::Tcp(stream, _) => serve(stream, server).await,
        Socket::Unix(stream) => serve(stream, server).await,
    };
    match ended {
        Ok(()) => debug!(peer, "closed"),
        Err(error) => debug!(peer, %error, "closed"),
    }
}

/// How a connection came into the transmission phase, if it did.
enum Way<S> {
    Plain(Link<S>, Entered),
    Encrypted(Link<Box<TlsStream<S>>>, Entered),
    Closed,
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, server: Arc<Server>) -> Result<(), Ended> {
    let mut draining = server.draining.clone();
    let way = tokio::select! {
        biased;
        _ = draining.wait_for(|draining| *draining) => return Ok(()),
        way = tokio::time::timeout(server.limits.handshake, shake_hands(Link::new(stream), &server)) => {
            way.map_err(|_| Ended::Slow)??
        }
    };
    match way {
        Way::Plain(link, entered) => transmit(link, entered, server).await,
        Way::Encrypted(link, entered) => transmit(link, entered, server).await,
        Way::Closed => Ok(()),
    }
}

async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(mut link: Link<S>, server: &Server) -> Result<Way<S>, Ended> {
    let mut reception = Reception::new(server);
    Ok(match reception.listen(&mut link).await? {
        Said::Enter(entered) => Way::Plain(link, entered),
        Said::Close => Way::Closed,
        Said::Encrypt(acceptor) => {
            let stream = acceptor.accept(link.into_empty()).await.map_err(Ended::Tls)?;
            reception.set_visitor(visitor(&stream));
            let mut link = Link::new(Box::new(stream));
            match reception.listen(&mut link).await? {
                Said::Enter(entered) => Way::Encrypted(link, entered),
                Said::Close | Said::Encrypt(_) => Way::Closed,
            }
        }
    })
}

/// Whom the handshake of TLS made sure of.
fn visitor<S>(stream: &TlsStream<S>) -> Visitor {
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    shown.map_or(Visitor::Unknown, |certificate| Visitor::Certified(certificate.as_ref().into()))
}

async fn transmit<S>(link: Link<S>, entered: Entered, server: Arc<Server>) -> Result<(), Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (replies, finished) = unbounded_channel();
    let Entered { session, export, visitor, seat: _seat } = entered;
    let ended = Arc::clone(&server.catalog).ended(export.name(), visitor);
    let answerer = Answerer { session, export, shelf: Arc::clone(&server.shelf) };
    let tickets = Tickets::new(server.limits.requests_in_flight, server.limits.bytes_in_flight);
    let draining = server.draining.clone();
    let flow = Arc::new(Flow { answerer, replies });
    let (reader, writer) = split(link.stream);
    let link = Link { stream: reader, input: link.input };
    let requests = Requests { link, server, flow, tickets, draining };
    let served = async { tokio::join!(requests.receive_all(), send_all(writer, finished)) };
    tokio::select! {
        biased;
        () = ended => Err(Ended::NotAnyMore),
        (received, sent) = served => received.and(sent.map_err(Ended::Socket)),
    }
}

/// A finished reply.
struct Answer {
    reply: Buffer,
    _ticket: Ticket,
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
        if let Some(reply) = self.flow.answerer.answer_now(&request) {
            return self.flow.send(reply, ticket);
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
        // What TLS holds back.
        writer.flush().await?;
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
