//! An NBD client: reads an export over one or several connections, from as many threads as like.
//!
//! The rules are the sans-I/O halves' in `understudy_format::nbd`; here are sockets ([`socket`], [`tls`]) and who reads them when
//! ([`connection`]). A call blocks until it is answered; a long read is several requests, all of them on their way at once, and
//! each part of an answer is received where it belongs. Invariants: the server's block sizes are kept (what is asked for beside
//! them is widened here); more than one connection is made only to a server that says it may be, and one that is not
//! answered in time is done without; no silence is waited for without end; memory is what the callers brought, and
//! what came for another caller first, at most what that one asked for.

mod connection;
mod error;
mod exchange;
mod inbox;
mod socket;
mod tls;

pub use error::ClientError;
pub use socket::Address;
pub use tls::TlsFiles;

use connection::Connection;
use exchange::Exchange;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use understudy_format::nbd::{ContextExtents, Session, Span, TransmissionFlags, Wish};

/// Longest silence of a server that owes an answer.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// Longest silence during a handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// The same for a connection that is only there to be faster: some servers accept one and leave it alone.
const ANOTHER_MAX: Duration = Duration::from_secs(3);
/// Bytes of one read on the wire, where the server takes as many.
const REQUEST: usize = 256 << 10;

/// Where an export is.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its address.
    pub address: Address,
    /// How to encrypt; nothing travels before that.
    pub tls: Option<TlsFiles>,
}

/// An open export; see the module documentation.
#[derive(Debug)]
pub struct Client {
    session: Session,
    /// The first has the contexts.
    connections: Vec<Connection>,
    turn: AtomicUsize,
}

impl Client {
    /// Opens `export` with those of `contexts` that the server has, over at most `most` connections.
    pub fn connect(server: &Server, export: &str, contexts: &[String], most: usize) -> Result<Self, ClientError> {
        let wish = |contexts: &[String]| Wish {
            export: export.to_owned(),
            contexts: contexts.to_vec(),
            tls: server.tls.is_some(),
            plain: false,
        };
        let (session, first) = Connection::open(server, wish(contexts), HANDSHAKE_MAX)?;
        let mut connections = vec![first];
        while connections.len() < most && session.flags.contains(TransmissionFlags::CAN_MULTI_CONN) {
            match Connection::open(server, wish(&[]), ANOTHER_MAX) {
                Ok((another, connection)) if is_same(&session, &another) => connections.push(connection),
                // It would only have been faster.
                _ => break,
            }
        }
        Ok(Self { session, connections, turn: AtomicUsize::new(0) })
    }

    /// What was agreed on; the contexts are those of [`Client::block_status`].
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Fills `into` from `offset`, wholly; the range must lie in the export.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), ClientError> {
        let alignment = u64::from(self.session.alignment);
        let end = offset + into.len() as u64;
        if offset.is_multiple_of(alignment) && end.is_multiple_of(alignment) {
            return self.read_aligned(offset, into);
        }
        let start = offset - offset % alignment;
        let mut wide = vec![0; (end.next_multiple_of(alignment) - start) as usize];
        self.read_aligned(start, &mut wide)?;
        into.copy_from_slice(&wide[(offset - start) as usize..][..into.len()]);
        Ok(())
    }

    fn read_aligned(&self, offset: u64, into: &mut [u8]) -> Result<(), ClientError> {
        let length = REQUEST.next_multiple_of(self.session.alignment as usize).min(self.session.length_max as usize);
        let mut exchanges: Vec<Exchange<'_>> = Vec::with_capacity(into.len().div_ceil(length));
        let mut next = offset;
        for into in into.chunks_mut(length) {
            let span = Span { offset: next, length: into.len() as u64 };
            next += span.length;
            exchanges.push(Exchange::read(span, into));
        }
        let turn = self.turn.fetch_add(1, Relaxed) % self.connections.len();
        self.connections[turn].run(&mut exchanges)?;
        exchanges.into_iter().try_for_each(Exchange::content)
    }

    /// The extents from an aligned `offset` on, for each context of the session in its order. They may end before or after
    /// the range that was asked for.
    pub fn block_status(&self, offset: u64, length: u64) -> Result<Vec<ContextExtents>, ClientError> {
        let alignment = u64::from(self.session.alignment);
        let most = self.session.form.length_max() / alignment * alignment;
        let contexts = self.session.contexts.iter().map(|context| context.id);
        let mut exchanges = [Exchange::status(Span { offset, length: length.min(most) }, contexts)];
        self.connections[0].run(&mut exchanges)?;
        let [exchange] = exchanges;
        exchange.extents()
    }
}

/// Whether two sessions are about the same export, as far as a client sees.
fn is_same(one: &Session, other: &Session) -> bool {
    (one.size, one.alignment, one.length_max) == (other.size, other.alignment, other.length_max)
}
