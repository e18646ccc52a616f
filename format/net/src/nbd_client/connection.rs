//! One connection, shared by threads: each sends its requests, then whoever needs an answer receives.
//!
//! There is no receiving thread. The lock of the receiving half is the right to receive: its holder takes parts of replies
//! until its own are whole, its own content straight into its buffers, the others' into [`Waiting`], where they are found
//! by those who come next. So requests of all threads are on their way while one of them receives, and a thread that is alone on
//! its connection copies nothing. Invariants: a cookie is known from before its request is sent until its reply is whole, and
//! a reply to any other is an error; what is kept for others is bounded by what they asked for; once the
//! connection failed, every call says why.

use super::exchange::{Body, Exchange, Part};
use super::inbox::Inbox;
use super::socket::{Outgoing, Socket};
use super::tls::begin as begin_tls;
use super::{ClientError, SILENCE_MAX, Server};
use bytes::BytesMut;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;
use understudy_format::nbd::{
    Chunk, ClientHandshake, ClientStep, Form, ReplyHead, Request, RequestHead, Session, Span, WireError, Wish,
};

/// Bytes that a reply may take beside its content: heads of parts, texts of errors.
const REPLY_ROOM: u64 = 64 << 10;
/// The same for a block status, all contexts together: a million extents in each of two.
const STATUS_ROOM: u64 = 32 << 20;
/// What a part costs beside its payload.
const PART: u64 = 32;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Connection {
    form: Form,
    outbox: Mutex<Outbox>,
    waiting: Mutex<BTreeMap<u64, Waiting>>,
    inbox: Mutex<Inbox>,
    failed: OnceLock<String>,
}

struct Outbox {
    to: Outgoing,
    next_cookie: u64,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Outbox({} requests)", self.next_cookie)
    }
}

/// A request whose reply is not whole.
#[derive(Debug)]
struct Waiting {
    span: Span,
    is_read: bool,
    /// Bytes that may still come.
    room: u64,
    /// Whether the last part came.
    over: bool,
    /// What another thread received of the reply.
    parts: Vec<Part>,
}

impl Waiting {
    fn of(exchange: &Exchange<'_>) -> Self {
        let (span, is_read) = (exchange.span, exchange.is_read());
        let room = if is_read { span.length + REPLY_ROOM } else { STATUS_ROOM };
        Self { span, is_read, room, over: false, parts: Vec::new() }
    }
}

impl Connection {
    /// Connects and shakes hands, without waiting for any silence longer than `patience`.
    pub fn open(server: &Server, wish: Wish, patience: Duration) -> Result<(Session, Self), ClientError> {
        let socket = Socket::connect(&server.address, patience)?;
        let (mut inbox, mut to) = (Inbox::new(socket.incoming()?), socket.outgoing()?);
        let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
        let mut handshake = ClientHandshake::new(wish);
        let session = loop {
            let step = handshake.advance(&mut input, &mut out);
            to.write_all(&out.split())?;
            match (step?, &server.tls) {
                (ClientStep::Enter(session), _) => break session,
                (ClientStep::Encrypt, Some(files)) => {
                    let (incoming, outgoing) = begin_tls(files, &server.address, &socket)?;
                    (inbox, to) = (Inbox::new(incoming), outgoing);
                }
                _ => inbox.receive(&mut input).map_err(during_handshake)?,
            }
        };
        inbox.give_back(&input);
        socket.wait_at_most(SILENCE_MAX)?;
        let (outbox, waiting) = (Mutex::new(Outbox { to, next_cookie: 0 }), Mutex::default());
        let failed = OnceLock::new();
        Ok((session.clone(), Self { form: session.form, outbox, waiting, inbox: Mutex::new(inbox), failed }))
    }

    /// Sends requests, all of them at once, and waits until each was answered.
    pub fn run(&self, exchanges: &mut [Exchange<'_>]) -> Result<(), ClientError> {
        let first = self.send(exchanges).inspect_err(|error| self.fail(error))?;
        let mut inbox = self.inbox.lock().expect("no panic while locked");
        while exchanges.iter().any(|exchange| !exchange.done) {
            self.check()?;
            self.take_parts(first, exchanges).inspect_err(|error| self.fail(error))?;
            if exchanges.iter().any(|exchange| !exchange.done) {
                self.receive(&mut inbox, first, exchanges).inspect_err(|error| self.fail(error))?;
            }
        }
        self.waiting().retain(|cookie, _| !(first..first + exchanges.len() as u64).contains(cookie));
        Ok(())
    }

    fn check(&self) -> Result<(), ClientError> {
        self.failed.get().map_or(Ok(()), |text| Err(ClientError::Broken(text.clone())))
    }

    fn fail(&self, error: &ClientError) {
        self.failed.get_or_init(|| error.to_string());
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, Waiting>> {
        self.waiting.lock().expect("no panic while locked")
    }

    /// Sends the requests under cookies that follow each other; returns the first.
    fn send(&self, exchanges: &[Exchange<'_>]) -> Result<u64, ClientError> {
        self.check()?;
        let mut outbox = self.outbox.lock().expect("no panic while locked");
        let first = outbox.next_cookie;
        outbox.next_cookie += exchanges.len() as u64;
        let mut out = BytesMut::new();
        for (cookie, exchange) in (first..).zip(exchanges) {
            self.waiting().insert(cookie, Waiting::of(exchange));
            Request { cookie, command: exchange.command() }.encode(self.form, &mut out);
        }
        outbox.to.write_all(&out)?;
        Ok(first)
    }

    /// Takes what other threads received for this one.
    fn take_parts(&self, first: u64, exchanges: &mut [Exchange<'_>]) -> Result<(), ClientError> {
        for (cookie, exchange) in (first..).zip(exchanges) {
            let parts = self.waiting().get_mut(&cookie).map(|waiting| std::mem::take(&mut waiting.parts));
            parts.into_iter().flatten().try_for_each(|part| exchange.take(self.form, part))?;
        }
        Ok(())
    }

    /// Receives one part, whosever it is.
    fn receive(&self, inbox: &mut Inbox, first: u64, exchanges: &mut [Exchange<'_>]) -> Result<(), ClientError> {
        let head = inbox.head(self.form)?;
        let (cookie, length) = self.admit(&head)?;
        let mut own = cookie.checked_sub(first).and_then(|at| exchanges.get_mut(at as usize));
        let part = match (head, &mut own) {
            (ReplyHead::Simple { error: None, .. }, Some(own)) => {
                own.done = true;
                let offset = own.span.offset;
                return inbox.read_exact(own.place(offset, length.into())?);
            }
            (ReplyHead::Chunk { kind, done, .. }, Some(own)) if Chunk::is_data(kind) && length > Chunk::OFFSET_LEN => {
                own.done = done;
                let offset = inbox.number()?;
                return inbox.read_exact(own.place(offset, (length - Chunk::OFFSET_LEN).into())?);
            }
            (ReplyHead::Simple { error: None, .. }, None) => {
                Part { done: true, body: Body::Content(inbox.bytes(length)?) }
            }
            (ReplyHead::Simple { error: Some(errno), .. }, _) => Part { done: true, body: Body::Failed(errno) },
            (ReplyHead::Chunk { kind, done, .. }, _) => Part { done, body: Body::Chunk(kind, inbox.bytes(length)?) },
        };
        match own {
            Some(own) => own.take(self.form, part)?,
            None => drop(self.waiting().entry(cookie).and_modify(|waiting| waiting.parts.push(part))),
        }
        Ok(())
    }

    /// Whose reply it is and how many bytes follow its head, if they may.
    fn admit(&self, head: &ReplyHead) -> Result<(u64, u32), ClientError> {
        let (ReplyHead::Simple { cookie, .. } | ReplyHead::Chunk { cookie, .. }) = *head;
        let mut waiting = self.waiting();
        let waiting = waiting.get_mut(&cookie).filter(|waiting| !waiting.over);
        let waiting = waiting.ok_or(WireError::UnknownReply { cookie })?;
        waiting.over = !matches!(head, ReplyHead::Chunk { done: false, .. });
        let length = match *head {
            ReplyHead::Simple { error: None, .. } if waiting.is_read => waiting.span.length as u32,
            ReplyHead::Simple { .. } => 0,
            ReplyHead::Chunk { offset: Some(offset), .. } if offset != waiting.span.offset => {
                return Err(WireError::UnknownReply { cookie }.into());
            }
            ReplyHead::Chunk { length, .. } => length,
        };
        let cost = u64::from(length) + PART;
        let too_long = WireError::TooLong { what: "reply", length: cost, limit: waiting.room };
        waiting.room = waiting.room.checked_sub(cost).ok_or(too_long)?;
        Ok((cookie, length))
    }
}

impl Drop for Connection {
    /// Tells the server that nothing more comes; one that is gone does not mind.
    fn drop(&mut self) {
        let outbox = self.outbox.get_mut().expect("no panic while locked");
        let mut out = BytesMut::new();
        RequestHead::disconnect(outbox.next_cookie).encode(self.form, &mut out);
        let _ = outbox.to.write_all(&out).and_then(|()| outbox.to.flush());
    }
}

fn during_handshake(error: ClientError) -> ClientError {
    match error {
        ClientError::Closed(_) => ClientError::Closed(
            " during the handshake (servers that cannot say more do so when there is no such export)",
        ),
        error => error,
    }
}
