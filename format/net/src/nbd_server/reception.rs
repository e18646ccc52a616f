//! The handshake of one connection: asks the catalog what the protocol wants to know.
//!
//! Invariants: what was opened before TLS is not what is entered after it; the export that is entered is the one at which the
//! client selected its contexts, so that it holds them, whatever it asked about in between.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::task::spawn_blocking;
use tokio_rustls::TlsAcceptor;
use understudy_format::nbd::{Advert, Handshake, OptionError, Purpose, Refusal, Session, Step};

use super::Server;
use super::connection::Ended;
use super::link::Link;
use super::seats::Seat;
use crate::export::{Export, Visitor};

/// What a client said last.
pub(super) enum Said {
    /// That it wants to use an export.
    Enter(Entered),
    /// That it wants to go on through TLS.
    Encrypt(TlsAcceptor),
    /// That it leaves.
    Close,
}

/// All that the transmission phase needs.
pub(super) struct Entered {
    pub(super) session: Session,
    pub(super) export: Arc<dyn Export>,
    pub(super) visitor: Visitor,
    pub(super) seat: Seat,
}

type Opened = (Advert, Arc<dyn Export>);

/// An export, and the name that it was opened by.
type Kept = Option<(String, Arc<dyn Export>)>;

pub(super) struct Reception<'a> {
    server: &'a Server,
    handshake: Handshake,
    visitor: Visitor,
    out: BytesMut,
    /// That at which the client selected contexts: it holds them.
    selected: Kept,
    /// What was opened last for anything else: who asks about it and then enters it gets what was told.
    last: Kept,
}

impl<'a> Reception<'a> {
    pub(super) fn new(server: &'a Server) -> Self {
        let mut out = BytesMut::new();
        let handshake = Handshake::greeting(server.encryption.policy(), &mut out);
        Self { server, handshake, visitor: Visitor::Unknown, out, selected: None, last: None }
    }

    /// From now on it is this one who asks.
    pub(super) fn set_visitor(&mut self, visitor: Visitor) {
        self.visitor = visitor;
    }

    /// Answers until the client has said what becomes of the connection.
    pub(super) async fn listen<S>(&mut self, link: &mut Link<S>) -> Result<Said, Ended>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            let step = self.handshake.advance(&mut link.input, &mut self.out);
            self.send(link).await?;
            match step? {
                Step::Receive if link.receive(0).await? => {}
                Step::Receive | Step::Close => return Ok(Said::Close),
                Step::StartTls => {
                    (self.selected, self.last) = (None, None);
                    return Ok(self.server.encryption.acceptor().map_or(Said::Close, Said::Encrypt));
                }
                Step::List => {
                    let (catalog, visitor) = (Arc::clone(&self.server.catalog), self.visitor.clone());
                    let exports = spawn_blocking(move || catalog.list(&visitor)).await.unwrap_or_default();
                    self.handshake.answer_list(&exports, &mut self.out);
                }
                Step::Open(name, purpose) => {
                    if let Some(entered) = self.open(name, purpose).await? {
                        self.send(link).await?;
                        return Ok(Said::Enter(entered));
                    }
                }
            }
        }
    }

    async fn send<S: AsyncWrite + Unpin>(&mut self, link: &mut Link<S>) -> Result<(), Ended> {
        link.stream.write_all_buf(&mut self.out).await?;
        Ok(link.stream.flush().await?)
    }

    /// Opens an export and answers with what came of it.
    async fn open(&mut self, name: String, purpose: Purpose) -> Result<Option<Entered>, Ended> {
        let enters = purpose == Purpose::Enter;
        let opened = self.opened(name, purpose).await;
        let seated = opened.and_then(|(advert, export)| {
            let seat = enters.then(|| self.server.seats.take(&advert.name)).transpose()?;
            Ok((advert, export, seat))
        });
        let advert = seated.as_ref().map(|(advert, ..)| advert.clone()).map_err(Clone::clone);
        let session = self.handshake.answer_open(advert, &mut self.out)?;
        Ok(match (session, seated) {
            (Some(session), Ok((_, export, Some(seat)))) => {
                Some(Entered { session, export, visitor: self.visitor.clone(), seat })
            }
            _ => None,
        })
    }

    /// The export of this name, which may be one that is kept, and what is told of it.
    async fn opened(&mut self, name: String, purpose: Purpose) -> Result<Opened, Refusal> {
        let selects = matches!(purpose, Purpose::Select(_));
        let known = self.known(&name);
        // What is open beside it is let go of first.
        self.last = None;
        if selects {
            self.selected = None;
        }
        let (catalog, wanted, visitor) = (Arc::clone(&self.server.catalog), name.clone(), self.visitor.clone());
        let opening = spawn_blocking(move || {
            let export = known.map_or_else(|| catalog.open(&wanted, &visitor), Ok)?;
            Ok((advert(&*export, purpose), export))
        });
        let opened: Result<Opened, Refusal> = opening.await.map_err(|_| internal_error())?;
        let (advert, export) = opened?;
        let kept = if selects { &mut self.selected } else { &mut self.last };
        *kept = Some((name, Arc::clone(&export)));
        Ok((advert, export))
    }

    fn known(&self, name: &str) -> Option<Arc<dyn Export>> {
        let mut kept = self.selected.iter().chain(&self.last);
        kept.find(|(known, _)| known == name).map(|(_, export)| Arc::clone(export))
    }
}

fn internal_error() -> Refusal {
    Refusal::new(OptionError::Policy, "internal error of the server")
}

fn advert(export: &dyn Export, purpose: Purpose) -> Advert {
    let (name, description, geometry) = (export.name(), export.describe(), export.geometry());
    Advert { name, description, geometry, contexts: contexts(export, purpose) }
}

/// The contexts that matter for this purpose, each once.
fn contexts(export: &dyn Export, purpose: Purpose) -> Vec<String> {
    let (mut found, more) = match purpose {
        Purpose::Describe | Purpose::Enter => return Vec::new(),
        Purpose::List(queries) => {
            let shown = export.contexts();
            let hidden = queries.into_iter().filter(|name| !shown.contains(name) && export.knows(name)).collect();
            (shown, hidden)
        }
        Purpose::Select(names) => (Vec::new(), names.into_iter().filter(|name| export.hold(name)).collect::<Vec<_>>()),
    };
    for name in more {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}
