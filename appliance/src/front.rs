//! The front door: a connection comes in, shakes hands, says who it is and what it speaks, and is handed to whoever serves that.
//!
//! With TLS the handshake tells the protocol (ALPN) and the client (its certificate); without it, which there is over loopback only, whoever
//! comes is local and the first bytes tell the protocol.
//!
//! Invariants: until it is known who comes, a connection has [`HANDSHAKE_MAX`], and there are so many of them at once and no more, from one
//! address and in all; nobody is served anything before that, but for a host with a token, which is served that: it counts among those who are
//! not known until it leaves, within [`STRANGER_MAX`]; a connection ends when its client is revoked.

mod handshakes;

use crate::access::{Access, Peer};
use crate::api;
use crate::daemon::Daemon;
use crate::serve::until;
use crate::session::{self, Shared};
use handshakes::{Handshakes, Place};
use rustls::ServerConnection;
use rustls::pki_types::CertificateDer;
use std::io::{self, Cursor};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use understudy_format::wire::Message;
use understudy_format::{Digest, ErrorKind};
use understudy_net::NetError;
use understudy_net::framed::{Incoming, MessageWriter, Outgoing};
use understudy_net::tls::{HTTP_PROTOCOL, SESSION_PROTOCOL};

/// How long nothing is accepted after that failed: it mostly means that there are no file descriptors left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// How long a connection may take until it is known who comes.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How long a connection may last that shows no certificate.
const STRANGER_MAX: Duration = HANDSHAKE_MAX.saturating_mul(3);
/// With what a session begins that is not encrypted.
const HELLO: [u8; 4] = *b"HELO";

/// Who has come, and what is spoken.
struct Guest {
    from: Incoming,
    to: Outgoing,
    /// The certificate that was shown.
    certificate: Option<Digest>,
    protocol: Protocol,
}

enum Protocol {
    Session,
    Http,
}

/// See the module documentation.
pub struct Front {
    daemon: Arc<Daemon>,
    shared: Arc<Shared>,
    access: Arc<Access>,
    tls: Option<TlsAcceptor>,
    handshakes: Handshakes,
    /// Connections of those who are known.
    seats: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").field("encrypted", &self.tls.is_some()).finish_non_exhaustive()
    }
}

impl Front {
    /// Serves so many connections at once; all of them through TLS, if there is that.
    pub fn new(
        daemon: Arc<Daemon>,
        shared: Arc<Shared>,
        tls: Option<TlsAcceptor>,
        connections: usize,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let (handshakes, seats) = (Handshakes::new(tls.is_some()), Arc::new(Semaphore::new(connections)));
        Self { access: daemon.access.clone(), daemon, shared, tls, handshakes, seats, stopped }
    }

    /// Accepts until the daemon stops; sessions that are open then are cut, and requests ended.
    pub async fn serve(self, listener: TcpListener) {
        let mut stopped = std::pin::pin!(until(self.stopped.clone()));
        let front = Arc::new(self);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = &mut stopped => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, address)) => match front.handshakes.begin(address.ip()) {
                        Some(place) => drop(connections.spawn(front.clone().receive(stream, address, place))),
                        None => tracing::warn!(%address, "a connection was closed: too many have not said who they are"),
                    },
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                    }
                },
            }
        }
        while connections.join_next().await.is_some() {}
    }

    /// A connection from its first byte to its last.
    async fn receive(self: Arc<Self>, stream: TcpStream, address: SocketAddr, place: Place) {
        let greeted = tokio::select! {
            biased;
            () = until(self.stopped.clone()) => return,
            greeted = tokio::time::timeout(HANDSHAKE_MAX, self.greet(stream)) => greeted,
        };
        let greeted =
            greeted.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long")));
        match greeted {
            Ok(Some(guest)) => self.admit(guest, address, place).await,
            Ok(None) => {}
            Err(error) if self.tls.is_some() => {
                tracing::debug!(%address, %error, "a handshake failed");
                self.access.refuse(address, "a handshake that failed").await;
            }
            Err(error) => tracing::debug!(%address, %error, "a connection ended before it said anything"),
        }
    }

    /// Gives who is known a seat, which others wait for in the place that they have; who is not known keeps his place.
    async fn admit(&self, guest: Guest, address: SocketAddr, place: Place) {
        let Some(peer) = self.peer(&guest) else { return self.attend_stranger(guest, address).await };
        let seat = tokio::select! {
            biased;
            () = until(self.stopped.clone()) => return,
            seat = self.seats.clone().acquire_owned() => seat,
        };
        let Ok(_seat) = seat else { return };
        drop(place);
        self.attend(guest, peer, address).await;
    }

    /// Who a guest is, if that is known.
    fn peer(&self, guest: &Guest) -> Option<Peer> {
        match &guest.certificate {
            Some(certificate) => self.access.by_certificate(certificate).map(Peer::Client),
            None => self.tls.is_none().then_some(Peer::Local),
        }
    }

    /// Finds out who comes; nobody, when nothing was said or nothing can be understood.
    async fn greet(&self, mut stream: TcpStream) -> io::Result<Option<Guest>> {
        stream.set_nodelay(true)?;
        let mut first = [0; HELLO.len()];
        let read = fill(&mut stream, &mut first).await?;
        let (from, to) = stream.into_split();
        let from = Cursor::new(first[..read].to_vec()).chain(from);
        match &self.tls {
            _ if read == 0 => Ok(None),
            Some(_) if first == HELLO => tell_of_tls(to).await.map(|()| None),
            Some(tls) => encrypted(tls, tokio::io::join(from, to)).await.map(Some),
            None => {
                let protocol = if first == HELLO { Protocol::Session } else { Protocol::Http };
                Ok(Some(Guest { from: Box::new(from), to: Box::new(to), certificate: None, protocol }))
            }
        }
    }

    /// Goes on with a session as long as the daemon does.
    async fn until_stopped(&self, session: impl Future<Output = Result<(), NetError>>) -> Result<(), NetError> {
        tokio::select! {
            biased;
            () = until(self.stopped.clone()) => Ok(()),
            served = session => served,
        }
    }

    /// Serves a guest to the end, or until its client is revoked.
    async fn attend(&self, guest: Guest, peer: Peer, address: SocketAddr) {
        let Guest { from, to, certificate, protocol } = guest;
        let lost = async {
            match &certificate {
                Some(certificate) => self.access.until_unknown(certificate).await,
                None => std::future::pending().await,
            }
        };
        let served = async {
            match protocol {
                Protocol::Session => {
                    self.until_stopped(session::serve(
                        self.shared.clone(),
                        from,
                        to,
                        session::Guest { peer, certificate },
                    ))
                    .await
                }
                Protocol::Http => {
                    let (io, stopped) = (tokio::io::join(from, to), until(self.stopped.clone()));
                    api::serve(self.daemon.clone(), io, peer, stopped).await;
                    Ok(())
                }
            }
        };
        tokio::select! {
            biased;
            () = lost => self.tell_end(address).await,
            served = served => tell_failure(served, address),
        }
    }

    async fn tell_end(&self, address: SocketAddr) {
        let what = "a connection: its client was revoked".to_owned();
        if let Err(error) = self.access.record("ended", address, what).await {
            tracing::error!(%error, "the audit log cannot be written");
        }
    }

    /// Serves who shows no certificate of a client: a session may bring a token.
    async fn attend_stranger(&self, Guest { from, to, protocol, .. }: Guest, address: SocketAddr) {
        let served = async {
            match protocol {
                Protocol::Session => session::enrol::serve(self.shared.clone(), from, to, address).await,
                Protocol::Http => {
                    self.access.refuse(address, "a request without a certificate").await;
                    Ok(refuse_http(to).await?)
                }
            }
        };
        let served = tokio::time::timeout(STRANGER_MAX, self.until_stopped(served)).await;
        tell_failure(served.unwrap_or(Err(NetError::Silent { seconds: STRANGER_MAX.as_secs() })), address);
    }
}

fn tell_failure(served: Result<(), NetError>, address: SocketAddr) {
    if let Err(error) = served {
        tracing::warn!(%address, %error, "a session failed");
    }
}

/// Says that nothing is served to who shows no certificate.
async fn refuse_http(mut to: Outgoing) -> io::Result<()> {
    let body = api::Problem::stranger().json().to_string();
    let head = format!(
        "HTTP/1.1 401 Unauthorized\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        api::PROBLEM,
        body.len()
    );
    to.write_all((head + &body).as_bytes()).await?;
    to.shutdown().await
}

/// As many bytes as there are, up to the end of the connection.
async fn fill(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]).await? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// Says to a session that is not encrypted that it must be.
async fn tell_of_tls(to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let text = "this appliance is reached through TLS alone: `understudy login HOST:PORT --token TOKEN` on this host, with a token \
                that `understudyd enroll` prints on the appliance's"
        .to_owned();
    let mut writer = MessageWriter::new(to, HANDSHAKE_MAX);
    let told = writer.send(&Message::Fail { kind: ErrorKind::Refused, text }).await;
    told.map_err(|error| io::Error::other(error.to_string()))
}

async fn encrypted<S>(tls: &TlsAcceptor, stream: S) -> io::Result<Guest>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stream = tls.accept(stream).await?;
    let (certificate, protocol) = introduced(stream.get_ref().1)?;
    let (from, to) = tokio::io::split(stream);
    Ok(Guest { from: Box::new(from), to: Box::new(to), certificate, protocol })
}

fn introduced(tls: &ServerConnection) -> io::Result<(Option<Digest>, Protocol)> {
    let digest = |chain: &[CertificateDer<'_>]| chain.first().map(|certificate| Digest::of_certificate(certificate));
    let protocol = match tls.alpn_protocol() {
        Some(SESSION_PROTOCOL) => Protocol::Session,
        Some(HTTP_PROTOCOL) => Protocol::Http,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "no protocol was named (ALPN)")),
    };
    Ok((tls.peer_certificates().and_then(digest), protocol))
}
