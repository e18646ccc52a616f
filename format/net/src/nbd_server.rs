//! The NBD server: sockets, tasks and threads around the protocol of [`understudy_format::nbd`].
//!
//! The way of a request: a connection's task, on one of a few threads that have nothing else, receives bytes and takes a ticket for the request
//! (so many requests, so many bytes per connection); a worker thread calls the export and frames the
//! reply in the buffer that it read into, or the task itself does, if the export has it in memory; the connection's task sends what
//! is finished, in the order of completion, and the ticket is given back once the reply is in the socket.
//!
//! Invariants:
//! - A client that does not read its replies holds at most its tickets and one partial message:
//!   [`Limits::bytes_in_flight`] and twice the longest request. Nothing else is queued.
//! - A connection beyond [`Limits::connections`] is closed at once; it does not hang. One beyond
//!   [`Limits::connections_per_export`] is told so.
//! - Once the shutdown signal came, no request starts: those that arrive get `ESHUTDOWN`, those in
//!   flight are finished, then the connection is closed.
//! - A client that closes without a disconnect request is normal.
//!
//! Must not: wait for a disk on a task, or look into an export.

mod answer;
mod connection;
mod link;
mod listener;
mod reactors;
mod reception;
mod seats;
mod shelf;
mod tickets;
mod worker;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};
use understudy_format::nbd::TlsPolicy;

use crate::export::Catalog;
pub use listener::Listener;
use listener::Socket;
use reactors::Reactors;
use seats::Seats;
use shelf::Shelf;
use worker::Workers;

/// What clients may take of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections that use one export at once.
    pub connections_per_export: usize,
    /// Requests of one connection between arrival and the end of the reply.
    pub requests_in_flight: u32,
    /// Bytes of content of those requests; a larger request travels alone.
    pub bytes_in_flight: u32,
    /// Threads that call exports.
    pub workers: usize,
    /// Time from connect to the transmission phase.
    pub handshake: Duration,
    /// Time from the shutdown signal until connections are cut.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 100,
            connections_per_export: 50,
            requests_in_flight: 128,
            bytes_in_flight: 16 << 20,
            workers: 8,
            handshake: Duration::from_secs(10),
            drain: Duration::from_secs(30),
        }
    }
}

/// Whether connections are encrypted, with which certificates ([`crate::tls::server`]).
#[derive(Clone, Debug, Default)]
pub enum Encryption {
    /// They are not.
    #[default]
    Off,
    /// When a client asks for it.
    On(Arc<ServerConfig>),
    /// All of them: nothing is served otherwise.
    Require(Arc<ServerConfig>),
}

impl Encryption {
    fn policy(&self) -> TlsPolicy {
        match self {
            Self::Off => TlsPolicy::Off,
            Self::On(_) => TlsPolicy::On,
            Self::Require(_) => TlsPolicy::Require,
        }
    }

    fn acceptor(&self) -> Option<TlsAcceptor> {
        match self {
            Self::Off => None,
            Self::On(config) | Self::Require(config) => Some(Arc::clone(config).into()),
        }
    }
}

/// What the connections of one server share.
struct Server {
    catalog: Arc<dyn Catalog>,
    limits: Limits,
    encryption: Encryption,
    seats: Seats,
    workers: Workers,
    shelf: Arc<Shelf>,
    draining: watch::Receiver<bool>,
}

/// Serves `catalog` on all `listeners` until `shutdown` completes and every connection is drained.
///
/// # Errors
/// Its threads cannot be started. Nothing that a client does, and no failed accept, ends the server.
pub async fn serve(
    listeners: Vec<Listener>,
    catalog: Arc<dyn Catalog>,
    limits: Limits,
    encryption: Encryption,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let (drain, draining) = watch::channel(false);
    let (workers, shelf, seats) =
        (Workers::start(limits.workers)?, Arc::default(), Seats::new(limits.connections_per_export));
    let server = Arc::new(Server { catalog, limits, encryption, seats, workers, shelf, draining });
    let (mut reactors, mut connections, mut shutdown) = (Reactors::start()?, JoinSet::new(), pin!(shutdown));
    let (accepting, mut accepted) = accept_all(listeners);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            Some(socket) = accepted.recv() => admit(socket, &server, &mut connections, &mut reactors),
        }
    }
    drain.send_replace(true);
    drop(accepting);
    finish(connections, limits.drain).await;
    Ok(())
}

/// Accepts on all listeners, each in a task of its own, until those are dropped.
fn accept_all(listeners: Vec<Listener>) -> (JoinSet<()>, mpsc::Receiver<Socket>) {
    let (sockets, accepted) = mpsc::channel(1);
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept(listener, sockets.clone()));
    }
    (accepting, accepted)
}

async fn accept(mut listener: Listener, sockets: mpsc::Sender<Socket>) {
    loop {
        match listener.accept().await {
            Ok(socket) => drop(sockets.send(socket).await),
            Err(error) => {
                warn!(%error, "accept failed");
                // Out of descriptors: the socket stays readable, so going on at once would spin.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn admit(socket: Socket, server: &Arc<Server>, connections: &mut JoinSet<()>, reactors: &mut Reactors) {
    let peer = socket.peer();
    if connections.len() >= server.limits.connections {
        warn!(peer, "connection refused: too many are open");
        return;
    }
    debug!(peer, "connected");
    match socket.detach() {
        Ok(socket) => drop(connections.spawn_on(connection::run(socket, Arc::clone(server)), reactors.next())),
        Err(error) => warn!(%error, "connection dropped"),
    }
}

async fn finish(mut connections: JoinSet<()>, limit: Duration) {
    info!(connections = connections.len(), "draining");
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limit, drained).await.is_err() {
        warn!(connections = connections.len(), "cut after the drain time");
        connections.shutdown().await;
    }
}
