//! One connection of an initiator: its requests, one after another.
//!
//! Invariants: sockets are read and written by tasks, the pool by plain threads, joined by bounded
//! queues, so a client that is fast or silent costs a fixed amount of memory; a failed request is answered with
//! what to do; a failed stream ends the connection, after the reason was sent; whether the peer may is asked for each request, and what it may not see is
//! not there.

pub mod enrol;
mod failover;
mod follow;
mod gathering;
mod groups;
mod held;
mod moments;
mod read;
mod running;
mod stream;

pub use groups::Groups;
pub use running::Running;

use crate::access::{Access, ClientName, Peer};
use crate::agents::{self, Agents, Arrival};
use crate::clock;
use crate::error::{Error, Result};
use crate::ingest::{Announced, Over};
use crate::journals::Journals;
use crate::metrics::counters::Counters;
use crate::overlay::Overlays;
use crate::overlay::asked::Asked;
use crate::pool::live::Lease;
use crate::pool::{Pool, VolumeEntry};
use crate::secondary::Secondaries;
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use std::time::Duration;
use understudy_format::map::{FANOUT, LEVEL_MAX, Lookup, PAGE_SIZE, span};
use understudy_format::point::{Label, Point, Volume, VolumeName};
use understudy_format::wire::access::PublicKey;
use understudy_format::wire::{Control, Message, POINTS_MAX, SESSION_VERSION, Tap, VolumeInfo, VolumeStatus};
use understudy_format::{Digest, ErrorKind, FormatError};
use understudy_net::NetError;
use understudy_net::framed::{Incoming, MessageReader, MessageWriter, Outgoing};
use uuid::Uuid;

/// How long a client may take to say hello.
const HELLO_MAX: Duration = Duration::from_secs(10);
/// How long a client may be silent, or take nothing of what is sent to it.
const IDLE_MAX: Duration = Duration::from_secs(600);
/// How long a client may take to read the reason of a failure before the connection is cut.
const LINGER: Duration = Duration::from_secs(10);

/// What all sessions share.
#[derive(Debug)]
pub struct Shared {
    /// The pool.
    pub pool: Arc<Pool>,
    /// Its secondaries.
    pub secondaries: Arc<Secondaries>,
    /// Its scratch overlays.
    pub overlays: Arc<Overlays>,
    /// What taps write down.
    pub journals: Arc<Journals>,
    /// Who may do what.
    pub access: Arc<Access>,
    /// Where NBD is served (`HOST:PORT`), for the welcome; empty when it is not.
    pub nbd: String,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// The streams that come in.
    pub running: Running,
    /// The agents.
    pub agents: Arc<Agents>,
    /// Those that commit together.
    pub groups: Arc<Groups>,
}

type Reader = MessageReader<Incoming>;
type Writer = MessageWriter<Outgoing>;

/// What a client is told of the program.
const SOFTWARE: &str = concat!("understudyd ", env!("CARGO_PKG_VERSION"));

/// Who is at the other end.
#[derive(Debug)]
pub struct Guest {
    /// Who it is.
    pub peer: Peer,
    /// The certificate that it has shown.
    pub certificate: Option<Digest>,
}

/// Serves one connection of `guest` until it leaves or an error ends it.
pub async fn serve(shared: Arc<Shared>, from: Incoming, to: Outgoing, guest: Guest) -> Result<(), NetError> {
    let _counted = shared.counters.session();
    let (reader, writer) = (MessageReader::new(from, HELLO_MAX), MessageWriter::new(to, IDLE_MAX));
    let Guest { peer, certificate } = guest;
    let mut session = Session { shared, peer, certificate, read: None, held: Vec::new(), reader, writer };
    let result = session.run().await;
    if let Err(error) = &result {
        fail(&mut session.writer, error.kind(), error.to_string()).await;
    }
    linger(session.reader, session.writer).await;
    result
}

struct Session {
    shared: Arc<Shared>,
    peer: Peer,
    certificate: Option<Digest>,
    /// The point that was read last.
    read: Option<(Uuid, u64)>,
    /// The points and moments that it asked for by a time.
    held: Vec<Lease>,
    reader: Reader,
    writer: Writer,
}

impl Session {
    async fn run(&mut self) -> Result<(), NetError> {
        let software = match self.reader.next().await? {
            Some(Message::Hello { version, software }) => {
                self.welcome(version, &software).await?;
                software
            }
            Some(other) => return Err(NetError::Unexpected { expected: "Hello", found: other.name() }),
            None => return Ok(()),
        };
        self.reader.set_idle_max(IDLE_MAX);
        while let Some(message) = self.reader.next().await? {
            match message {
                Message::Control(Control::Announce { name, silence_ms, announcement }) => {
                    self.shared.check_name(&self.peer, &name).await?;
                    let arrival = Arrival { name, software, silence_ms, announcement };
                    return agents::session::serve(&self.shared.agents, arrival, &mut self.reader, &mut self.writer)
                        .await;
                }
                Message::Push { name, label, group, over } => {
                    let pushed = stream::Pushed { name, label, group, over };
                    stream::receive(self, pushed).await?;
                }
                Message::Tap(Tap::OpenMoment { name, at_ns }) => moments::open(self, name, at_ns).await?,
                Message::Tap(Tap::Follow { name, journal, geometry, generation }) => {
                    return follow::serve(self, follow::Asked { name, journal, geometry, generation }).await;
                }
                Message::Failover(asked) => failover::carry_out(self, asked).await?,
                Message::Read { volume, point, ranges } => read::send(self, volume, point, ranges).await?,
                Message::Renew { key } => {
                    let certificate = self.certificate;
                    self.ask(move |shared, peer| shared.renew(peer, certificate.as_ref(), &key)).await?;
                }
                request => self.ask(|shared, peer| shared.answer(peer, request)).await?,
            }
        }
        Ok(())
    }

    async fn welcome(&mut self, version: u16, software: &str) -> Result<(), NetError> {
        tracing::debug!(version, software, "hello");
        let version = check_version(version)?;
        let (pool, nbd) = (self.shared.pool.uuid(), self.shared.nbd.clone());
        self.writer.send(&Message::Welcome { version, pool, software: SOFTWARE.to_owned(), nbd }).await
    }

    /// Has an answer made on a thread that may wait for disks, and sends it.
    async fn ask(
        &mut self,
        answer: impl FnOnce(&Shared, &Peer) -> Result<Message> + Send + 'static,
    ) -> Result<(), NetError> {
        let (shared, peer) = (self.shared.clone(), self.peer.clone());
        let answer = tokio::task::spawn_blocking(move || answer(&shared, &peer));
        let answer = answer.await.map_err(|e| std::io::Error::other(e.to_string()))?;
        self.reply(answer).await
    }

    /// Tells that a point is durable.
    async fn stored(&mut self, point: Point) -> Result<(), NetError> {
        let shown = self.shared.access.shown(&self.peer, point);
        self.writer.send(&Message::Stored(shown)).await
    }

    /// Sends an answer, or why there is none; the session goes on.
    async fn reply(&mut self, answer: Result<Message>) -> Result<(), NetError> {
        match answer {
            Ok(message) => self.writer.send(&message).await,
            Err(error) => self.writer.send(&Message::Fail { kind: error.kind(), text: error.to_string() }).await,
        }
    }
}

fn check_version(found: u16) -> Result<u16, NetError> {
    match found == SESSION_VERSION {
        true => Ok(found),
        false => Err(FormatError::Version { what: "session", supported: SESSION_VERSION, found }.into()),
    }
}

async fn fail(writer: &mut Writer, kind: ErrorKind, text: String) {
    // The connection may be what failed: then there is nobody to tell.
    let _ = writer.send(&Message::Fail { kind, text }).await;
}

/// Lets the client read what was sent: closing with unread input would throw it away (RFC 1122, 4.2.2.13).
async fn linger(mut reader: Reader, writer: Writer) {
    let end = async {
        let _ = writer.close().await;
        while let Ok(Some(_)) = reader.next().await {}
    };
    let _ = tokio::time::timeout(LINGER, end).await;
}

impl Shared {
    /// Fails when a client passes for another one.
    async fn check_name(&self, peer: &Peer, announced: &ClientName) -> Result<(), NetError> {
        match peer {
            Peer::Client(own) if own != announced => {
                let text =
                    format!("client {own} announces itself as {announced}: an agent has the name of its certificate");
                self.access.deny(peer.clone(), text.clone()).await;
                Err(NetError::Remote { kind: ErrorKind::Refused, text })
            }
            _ => Ok(()),
        }
    }

    /// Answers a request that is one message, from the pool, as far as the peer may see that.
    fn answer(&self, peer: &Peer, request: Message) -> Result<Message> {
        match request {
            Message::ListVolumes => {
                let volumes = self.pool.volumes();
                let seen = volumes.iter().filter(|entry| self.access.sees(peer, &entry.volume.name));
                Ok(Message::Volumes(seen.map(|entry| self.info(entry)).collect::<Result<_>>()?))
            }
            Message::ListPoints { name, newest } => self.points(peer, &name, newest),
            Message::GetPages { volume, point, level, indexes } => self.pages(peer, &volume, point, level, &indexes),
            Message::Tap(Tap::ListMoments { name, from_ns, to_ns, newest }) => {
                moments::list(self, peer, &name, (from_ns, to_ns), newest)
            }
            Message::ListOverlays => Ok(Message::Overlays(self.overlays(peer).list())),
            Message::Discard { volume, point, force } => {
                Ok(Message::Overlays(vec![self.overlays(peer).discard(&volume, point, force)?]))
            }
            Message::Keep { volume, point, name, label } => {
                let (_, point) = self.overlays(peer).keep(&volume, point, name, label)?;
                Ok(Message::Stored(point))
            }
            other => Err(Error::refused(format!("{} is no request", other.name()))),
        }
    }

    fn renew(&self, peer: &Peer, shown: Option<&Digest>, key: &PublicKey) -> Result<Message> {
        match (peer, shown) {
            (Peer::Client(client), Some(shown)) => Ok(Message::Identity(self.access.renew(client, shown, key)?)),
            _ => Err(Error::refused("who is local has no certificate, and needs none")),
        }
    }

    fn overlays<'a>(&'a self, peer: &'a Peer) -> Asked<'a> {
        let Self { overlays, secondaries, journals, access, .. } = self;
        Asked { overlays, secondaries, journals, access, peer }
    }

    fn info(&self, entry: &VolumeEntry) -> Result<VolumeInfo> {
        let newest = entry.points.last();
        let secondary = self.secondaries.status(&entry.volume, newest)?;
        let status = VolumeStatus {
            points: entry.points.len() as u64,
            newest: newest.map_or(0, |point| point.number),
            size: newest.map_or(0, |point| point.map.geometry.volume_size()),
            newest_root: newest.map_or(Digest::ZERO, |point| point.map.root()),
            secondary_mode: entry.settings.secondary.number(),
            reserved: [0; 7],
            settled_root: secondary.settled_root,
            behind_blocks: secondary.behind_blocks,
            reserved_tail: [0; 8],
        };
        Ok(VolumeInfo { volume: entry.volume.clone(), status })
    }

    fn points(&self, peer: &Peer, name: &VolumeName, newest: u32) -> Result<Message> {
        let Some(entry) = self.pool.volume(name).filter(|_| self.access.sees(peer, name)) else {
            return Ok(Message::Points { volume: None, points: Vec::new(), protected: Vec::new() });
        };
        let volume = Some(self.info(&entry)?);
        let skip = entry.points.len().saturating_sub(newest.min(POINTS_MAX) as usize);
        let points: Vec<_> = entry.points[skip..].iter().map(|point| self.access.shown(peer, point.clone())).collect();
        let first = points.first().map_or(0, |point| point.number);
        let protected = entry.protected.range(first..).copied().collect();
        Ok(Message::Points { volume, points, protected })
    }

    fn point(&self, peer: &Peer, volume: &Uuid, point: u64) -> Result<(Volume, Point)> {
        let unknown = || Error::refused(format!("there is no point {point} of volume {volume}"));
        let found = self.pool.point(volume, point);
        found.filter(|(volume, _)| self.access.sees(peer, &volume.name)).ok_or_else(unknown)
    }

    fn pages(&self, peer: &Peer, volume: &Uuid, point: u64, level: u8, indexes: &[u64]) -> Result<Message> {
        let (_, point) = self.point(peer, volume, point)?;
        let top = point.map.top_level();
        if level >= top.min(LEVEL_MAX) {
            return Err(Error::refused(format!("the map has pages of levels 0 to {}, not of {level}", top - 1)));
        }
        let count = point.map.geometry.block_count().div_ceil(span(level)).div_ceil(FANOUT);
        let mut lookup = Lookup::new(point.map);
        let mut bytes = BytesMut::with_capacity(indexes.len() * PAGE_SIZE);
        for index in indexes {
            if *index >= count {
                return Err(Error::refused(format!(
                    "level {level} of the map has {count} pages, there is no page {index}"
                )));
            }
            let digest = lookup.node(level + 1, *index, &mut self.pool.pages(None))?;
            match digest.is_zero() {
                true => bytes.extend_from_slice(&[0; PAGE_SIZE]),
                false => bytes.extend_from_slice(self.pool.page(digest)?.bytes()),
            }
        }
        Ok(Message::Pages(Bytes::from(bytes)))
    }
}

/// The name and time that a new volume gets.
fn announced(name: VolumeName, label: Option<Label>, learns: bool, over: Option<Over>) -> Announced {
    Announced { name, label, new_uuid: clock::random_uuid(), now_ns: clock::now_ns(), learns, over }
}
