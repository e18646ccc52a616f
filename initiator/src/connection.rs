//! A session with an appliance: connecting, the hello, and requests that have one answer.
//!
//! Invariants: one request is under way at a time; an answer of the wrong kind or another version
//! is an error that says what was expected; a dead peer is noticed (keep-alive), a busy one is waited
//! for. The stream itself is driven by [`crate::replicate`].

use crate::args::ApplianceArguments;
use crate::identity::Identity;
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;
use tokio::net::TcpStream;
use understudy_format::point::{Point, Volume, VolumeName};
use understudy_format::select::PointName;
use understudy_format::wire::{Message, Moment, SESSION_VERSION, Tap, VolumeInfo};
use understudy_net::NetError;
use understudy_net::framed::{Incoming, MessageReader, MessageWriter, Outgoing};
use understudy_net::http;
use understudy_net::tls::{HTTP_PROTOCOL, SESSION_PROTOCOL};
use uuid::Uuid;

const CONNECT_MAX: Duration = Duration::from_secs(10);
const ANSWER_MAX: Duration = Duration::from_secs(120);
/// While a stream runs the appliance may have nothing to say for hours; keep-alive notices when it is gone.
const SILENCE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// A volume as the appliance lists it.
#[derive(Debug)]
pub struct Listing {
    /// The volume.
    pub volume: Volume,
    /// Its newest points, ascending: as many as were asked for.
    pub points: Vec<Point>,
    /// The numbers of the points that retention may not remove.
    pub protected: Vec<u64>,
}

/// A session; see the module documentation.
#[derive(Debug)]
pub struct Appliance {
    /// `HOST:PORT`, as the user gave it.
    pub address: String,
    /// The pool behind it.
    pub pool: Uuid,
    /// Where it serves NBD; empty when it does not.
    pub nbd: String,
    /// Where the certificates for it are, also for NBD; empty without TLS.
    pub certificates: PathBuf,
    /// The reading half.
    pub reader: MessageReader<Incoming>,
    /// The writing half.
    pub writer: MessageWriter<Outgoing>,
}

impl Appliance {
    /// Connects as who this host is to the appliance, exchanges hellos, and takes over another certificate when it is time.
    pub async fn connect(arguments: &ApplianceArguments) -> Result<Self> {
        let address = &arguments.address;
        let Some(identity) = Identity::find(&arguments.identity())? else {
            let (from, to) = plainly(arguments).await?.into_split();
            return Self::greet(address, Box::new(from), Box::new(to)).await;
        };
        let (stream, is_due) = identity.encrypt(open(address).await?, address, SESSION_PROTOCOL).await?;
        let (from, to) = tokio::io::split(stream);
        let mut appliance = Self::greet(address, Box::new(from), Box::new(to)).await?;
        appliance.certificates = identity.directory().to_owned();
        if is_due {
            identity.renew(&mut appliance).await?;
        }
        Ok(appliance)
    }

    /// Exchanges hellos over a connection.
    pub async fn greet(address: &str, from: Incoming, to: Outgoing) -> Result<Self> {
        let (reader, writer) = (MessageReader::new(from, SILENCE_MAX), MessageWriter::new(to, SILENCE_MAX));
        let mut appliance = Self {
            address: address.to_owned(),
            pool: Uuid::nil(),
            nbd: String::new(),
            certificates: PathBuf::new(),
            reader,
            writer,
        };
        let software = concat!("understudy ", env!("CARGO_PKG_VERSION")).to_owned();
        match appliance.ask(&Message::Hello { version: SESSION_VERSION, software }, "Welcome").await? {
            Message::Welcome { version: SESSION_VERSION, pool, nbd, .. } => {
                (appliance.pool, appliance.nbd) = (pool, nbd);
                Ok(appliance)
            }
            Message::Welcome { version, software, .. } => bail!(
                "appliance {address} ({software}) speaks session version {version}, this program {SESSION_VERSION}: \
                 use the same version on both sides"
            ),
            other => Err(appliance.unexpected("Welcome", &other)),
        }
    }

    /// From now on at most so many bytes a second go through the session, in each direction.
    pub fn limited(mut self, rate: Option<u64>) -> Self {
        self.reader.set_limit(rate);
        self.writer.set_limit(rate);
        self
    }

    /// All volumes.
    pub async fn volumes(&mut self) -> Result<Vec<VolumeInfo>> {
        match self.ask(&Message::ListVolumes, "Volumes").await? {
            Message::Volumes(volumes) => Ok(volumes),
            other => Err(self.unexpected("Volumes", &other)),
        }
    }

    /// A volume, when it exists, and its newest points in ascending order.
    pub async fn points(&mut self, name: &VolumeName, newest: u32) -> Result<Option<Listing>> {
        self.listing(Message::ListPoints { name: name.clone(), newest }).await
    }

    async fn listing(&mut self, request: Message) -> Result<Option<Listing>> {
        match self.ask(&request, "Points").await? {
            Message::Points { volume, points, protected } => {
                Ok(volume.map(|info| Listing { volume: info.volume, points, protected }))
            }
            other => Err(self.unexpected("Points", &other)),
        }
    }

    /// The point that a name means; where it asks for a time, that or a moment, which is there as long as this session.
    pub async fn find(&mut self, name: &PointName) -> Result<Point> {
        let at_ns = name.selector.at_or_before();
        let volume = &name.volume;
        let listing = match at_ns {
            Some(at_ns) => self.listing(Tap::OpenMoment { name: volume.clone(), at_ns }.into()).await?,
            None => self.points(volume, u32::MAX).await?,
        };
        let Some(Listing { points, .. }) = listing else {
            bail!("volume {volume}: the appliance {} has no such volume (see `understudy volumes`)", self.address)
        };
        match (name.selector.find(&points), at_ns) {
            (Some(point), _) => Ok(point.clone()),
            (None, Some(_)) => {
                bail!("{name}: nothing of volume {volume} is that old (see `understudy points {volume}`)")
            }
            (None, None) => bail!(
                "{name}: volume {volume} has {} points and none of them is that (see `understudy points {volume}`)",
                points.len(),
            ),
        }
    }

    /// What another session has found: of a moment, that it is still the same.
    pub async fn find_again(&mut self, volume: &VolumeName, found: &Point) -> Result<Point> {
        if !found.is_moment() {
            return Ok(found.clone());
        }
        let name = PointName::of(volume, found);
        let again = self.find(&name).await?;
        let (expected, root) = (found.map.root(), again.map.root());
        ensure!(expected == root, "{name}: had root {expected} and has {root} now; do it again");
        Ok(again)
    }

    /// The newest moments of a volume within a span of time, ascending.
    pub async fn moments(&mut self, name: &VolumeName, from_ns: i64, to_ns: i64, newest: u32) -> Result<Vec<Moment>> {
        let request = Tap::ListMoments { name: name.clone(), from_ns, to_ns, newest }.into();
        match self.ask(&request, "Moments").await? {
            Message::Tap(Tap::Moments(moments)) => Ok(moments),
            other => Err(self.unexpected("Moments", &other)),
        }
    }

    /// Pages of a point's map, one after another.
    pub async fn pages(&mut self, point: &Point, level: u8, indexes: Vec<u64>) -> Result<Bytes> {
        let request = Message::GetPages { volume: point.volume, point: point.number, level, indexes };
        match self.ask(&request, "Pages").await? {
            Message::Pages(pages) => Ok(pages),
            other => Err(self.unexpected("Pages", &other)),
        }
    }

    /// Sends a request and waits for its answer.
    pub async fn ask(&mut self, request: &Message, expected: &'static str) -> Result<Message> {
        let answer = async {
            self.send(request).await?;
            self.next(expected).await
        };
        let seconds = ANSWER_MAX.as_secs();
        let answer = tokio::time::timeout(ANSWER_MAX, answer).await;
        answer.with_context(|| format!("appliance {}: no {expected} came within {seconds} s", self.address))?
    }

    /// Sends a message.
    pub async fn send(&mut self, message: &Message) -> Result<()> {
        let sent = self.writer.send(message).await;
        sent.with_context(|| format!("appliance {}", self.address))
    }

    /// The next message, where one must come.
    pub async fn next(&mut self, expected: &'static str) -> Result<Message> {
        let message = self.reader.expect(expected).await;
        message.with_context(|| format!("appliance {}", self.address))
    }

    /// The error for a message that has no place here.
    pub fn unexpected(&self, expected: &'static str, found: &Message) -> anyhow::Error {
        let error = NetError::Unexpected { expected, found: found.name() };
        anyhow::Error::new(error).context(format!("appliance {}", self.address))
    }
}

/// Connects to the API of an appliance, as who this host is to it.
pub async fn api(arguments: &ApplianceArguments) -> Result<http::Connection> {
    let address = &arguments.address;
    Ok(match Identity::find(&arguments.identity())? {
        Some(identity) => {
            let (stream, _) = identity.encrypt(open(address).await?, address, HTTP_PROTOCOL).await?;
            http::Connection::new(stream, address).await?
        }
        None => http::Connection::new(plainly(arguments).await?, address).await?,
    })
}

/// A connection that is not encrypted: to this host, or where that was asked for.
async fn plainly(arguments: &ApplianceArguments) -> Result<TcpStream> {
    let address = &arguments.address;
    let stream = open(address).await?;
    ensure!(
        arguments.plain || stream.peer_addr()?.ip().to_canonical().is_loopback(),
        "appliance {address}: this host is no client of it, and beyond this host nothing is sent that is not encrypted: become one \
         (`understudy login {address} --token TOKEN`), name its identity (--identity DIR), or say --plain"
    );
    Ok(stream)
}

/// Why there is no connection at all.
#[derive(Debug, Error)]
#[error("appliance {address}: {reason}")]
pub struct Unreachable {
    address: String,
    reason: String,
}

/// Connects to an appliance; the error says what to do.
pub async fn open(address: &str) -> Result<TcpStream> {
    let connected = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(address)).await;
    let reason = match connected {
        Ok(Ok(stream)) => return set_up(stream),
        Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => "connection refused; nothing listens there: \
             start `understudyd serve`, or name another appliance with --to HOST:PORT"
            .to_owned(),
        Ok(Err(e)) => format!("cannot connect: {e}"),
        Err(_) => {
            let seconds = CONNECT_MAX.as_secs();
            format!("no answer within {seconds} s; check the address, the network and its firewalls")
        }
    };
    Err(Unreachable { address: address.to_owned(), reason }.into())
}

fn set_up(stream: TcpStream) -> Result<TcpStream> {
    stream.set_nodelay(true)?;
    let keepalive =
        socket2::TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10));
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}
