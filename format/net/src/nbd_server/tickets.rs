//! What a connection may have in flight: so many requests, so many bytes.
//!
//! Invariant: a ticket lives from the arrival of its request until its reply is in the socket.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use understudy_format::nbd::{Command, EXTENTS_MAX, Session};

/// What a reply without content is counted as.
pub(super) const SMALL_REPLY: usize = 4 << 10;
/// What an extent takes at most in a reply, and before it is one.
const EXTENT_LEN: usize = 16;

/// A request's share of what its connection may have in flight; returned by being dropped.
pub(super) struct Ticket {
    _request: Option<OwnedSemaphorePermit>,
    _bytes: Option<OwnedSemaphorePermit>,
}

/// The shares of one connection.
pub(super) struct Tickets {
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    requests_max: u32,
    bytes_max: u32,
}

impl Tickets {
    pub(super) fn new(requests: u32, bytes: u32) -> Self {
        let (requests_max, bytes_max) = (requests.max(1), bytes.max(1));
        let requests = Arc::new(Semaphore::new(requests_max as usize));
        let bytes = Arc::new(Semaphore::new(bytes_max as usize));
        Self { requests, bytes, requests_max, bytes_max }
    }

    pub(super) async fn take(&self, cost: usize) -> Ticket {
        let cost = u32::try_from(cost).unwrap_or(u32::MAX).min(self.bytes_max);
        // The semaphores are never closed, so both permits are always there.
        let request = Arc::clone(&self.requests).acquire_owned().await.ok();
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(cost).await.ok();
        Ticket { _request: request, _bytes: bytes }
    }

    pub(super) async fn all_back(&self) {
        let _all = self.requests.acquire_many(self.requests_max).await;
    }
}

/// What requests of a session are counted as, in bytes of memory until the reply is sent.
pub(super) fn cost(session: &Session, command: &Command) -> usize {
    match command {
        Command::Read { span, .. } => SMALL_REPLY + span.length as usize,
        Command::Write { data, .. } => SMALL_REPLY + data.len(),
        Command::BlockStatus { .. } => SMALL_REPLY + session.contexts.len() * EXTENTS_MAX * EXTENT_LEN,
        _ => SMALL_REPLY,
    }
}
