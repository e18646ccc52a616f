//! The NBD server: sockets, tasks and threads around the protocol of [`understudy_format::nbd`].
//!
//! The way of a request: a connection's task receives bytes and takes a ticket for the request
//! (so many requests, so many bytes per connection); a worker thread calls the export and frames the
//! reply in the buffer that it read into; the connection's task sends what is finished, in the order
//! of completion, and the ticket is given back once the reply is in the socket.
//!
//! Invariants:
//! - A client that does not read its replies holds at most its tickets and one partial message:
//!   [`Limits::bytes_in_flight`] and twice the longest request. Nothing else is queued.
//! - A connection beyond [`Limits::connections`] is closed at once; it does not hang.
//! - Once the shutdown signal came, no request starts: those that arrive get `ESHUTDOWN`, those in
//!   flight are finished, then the connection is closed.
//! - A client that closes without a disconnect request is normal.
//!
//! Must not: touch a disk on a task, or look into an export.

mod answer;
mod connection;
mod listener;
mod shelf;
mod worker;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use crate::export::Catalog;
pub use listener::Listener;
use listener::Socket;
use shelf::Shelf;
use worker::Workers;

/// What clients may take of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
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
            requests_in_flight: 128,
            bytes_in_flight: 16 << 20,
            workers: 8,
            handshake: Duration::from_secs(10),
            drain: Duration::from_secs(30),
        }
    }
}

/// What the connections of one server share.
struct Server {
    catalog: Arc<dyn Catalog>,
    limits: Limits,
    workers: Workers,
    shelf: Arc<Shelf>,
    draining: watch::Receiver<bool>,
}

/// Serves `catalog` on `listener` until `shutdown` completes and every connection is drained.
///
/// # Errors
/// Worker threads cannot be started. Nothing that a client does, and no failed accept, ends the server.
pub async fn serve(
    mut listener: Listener,
    catalog: Arc<dyn Catalog>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let (drain, draining) = watch::channel(false);
    let (workers, shelf) = (Workers::start(limits.workers)?, Arc::default());
    let server = Arc::new(Server { catalog, limits, workers, shelf, draining });
    let (mut connections, mut shutdown) = (JoinSet::new(), pin!(shutdown));
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => admit(accepted, &server, &mut connections).await,
        }
    }
    drain.send_replace(true);
    drop(listener);
    finish(connections, limits.drain).await;
    Ok(())
}

async fn admit(accepted: io::Result<Socket>, server: &Arc<Server>, connections: &mut JoinSet<()>) {
    match accepted {
        Ok(socket) if connections.len() >= server.limits.connections => {
            warn!(peer = socket.peer(), "connection refused: too many are open");
        }
        Ok(socket) => spawn(socket, Arc::clone(server), connections),
        Err(error) => {
            warn!(%error, "accept failed");
            // Out of descriptors: the socket stays readable, so going on at once would spin.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn spawn(socket: Socket, server: Arc<Server>, connections: &mut JoinSet<()>) {
    let peer = socket.peer().to_owned();
    debug!(peer, "connected");
    match socket {
        Socket::Tcp(stream, _) => {
            let (reader, writer) = stream.into_split();
            connections.spawn(connection::run(reader, writer, peer, server));
        }
        Socket::Unix(stream) => {
            let (reader, writer) = stream.into_split();
            connections.spawn(connection::run(reader, writer, peer, server));
        }
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
