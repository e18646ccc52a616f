//! The session in which the journal travels, held for ever: connected again after whatever ended it.
//!
//! Entries leave in order, gathered for the delay or until there are enough, and are forgotten here when the appliance says that they are durable; empty
//! ones are a sign of life. Invariants: what is said of the appliance's journal is published only while the session is there, as of what it
//! answered last; whatever the appliance refuses is tried again, for the volume goes on and its appliance has to follow; nothing that happens
//! here fails a write.

use super::core::{Batch, Core, Decision, Seen, Standing};
use super::lag::Lag;
use super::reason::Reason;
use super::tell;
use super::terms::Terms;
use super::{blocking, lock};
use crate::clock::{self, Stopwatch};
use crate::connection::Appliance;
use crate::report::Report;
use crate::retry;
use crate::text;
use anyhow::{Result, bail};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;
use understudy_format::ErrorKind;
use understudy_format::codec::{Codec, encode};
use understudy_format::journal::Position;
use understudy_format::wire::{Message, Tap};
use understudy_net::NetError;
use understudy_net::framed::{Incoming, MessageReader, MessageWriter, Outgoing};
use uuid::Uuid;

/// Entries of one message, before they are compressed: of the longest that there may be, half.
const ENOUGH: usize = 4 << 20;
/// A message goes to the appliance at least so often: it says as of when nothing would be lost.
const SIGN: Duration = Duration::from_secs(1);
/// How long it may take to hear why the appliance takes nothing more.
const FAREWELL_MAX: Duration = Duration::from_secs(1);
/// Without an answer for this long the session counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// How long the appliance may take to make a point of what it has, before everything is compared instead.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// What is published of the session: up to where the appliance has the journal; `None` while there is no session.
pub type Followed = watch::Receiver<Option<Position>>;

/// See the module documentation.
pub struct Shipper {
    core: Arc<Core>,
    terms: Arc<Terms>,
    report: Report,
    lag: Arc<Mutex<Lag>>,
    followed: watch::Sender<Option<Position>>,
    /// What the next journal is called: the same for every session until one begins it.
    next: Uuid,
    /// Since when the appliance has been waited for to make a point of what it has.
    waiting: Option<Stopwatch>,
    /// Why there is no session, as told last.
    told: Option<String>,
}

/// How a session ended that did not fail.
enum Ended {
    /// The journal was given up: another session begins another one.
    Again,
}

impl Shipper {
    /// Ships what `core` has.
    pub fn new(core: Arc<Core>, terms: Arc<Terms>, lag: Arc<Mutex<Lag>>) -> Self {
        let report = Report::endless(terms.json);
        let (followed, next) = (watch::Sender::new(None), clock::random_id());
        Self { core, terms, report, lag, followed, next, waiting: None, told: None }
    }

    /// What becomes known of the appliance's journal.
    pub fn followed(&self) -> Followed {
        self.followed.subscribe()
    }

    /// Holds sessions, for ever.
    pub async fn hold(mut self) {
        let mut tries = 0;
        loop {
            let ended = self.session(&mut tries).await;
            self.followed.send_replace(None);
            if let Err(error) = ended {
                let delay = retry::endless(tries, clock::random_number(), self.terms.reconnect);
                tries += 1;
                self.tell_why(&error, delay);
                tokio::time::sleep(delay).await;
            }
        }
    }

    /// The same reason is told once.
    fn tell_why(&mut self, error: &anyhow::Error, again: Duration) {
        let reason = text::one_line(error);
        if self.told.as_ref() != Some(&reason) {
            tell::not_connected(&reason, again, &mut self.report);
            self.told = Some(reason);
        }
    }

    async fn session(&mut self, tries: &mut u32) -> Result<Ended> {
        let mut appliance = Appliance::connect(&self.terms.appliance).await?;
        let standing = self.core.standing();
        let asked = standing.journal.unwrap_or(self.next);
        let following =
            follow(&mut appliance, &self.terms, &standing, Position { journal: asked, sequence: 0 }).await?;
        let Some(from) = self.agree(asked, &standing, following).await? else { return Ok(Ended::Again) };
        *tries = 0;
        self.told = None;
        self.lag().begin();
        tell::connected(&appliance.address, &self.core.standing(), &mut self.report);
        self.publish(from);
        self.ship(appliance, from).await
    }

    /// What is done with what the appliance answered: where its journal ends, or nothing when it is of no use.
    async fn agree(&mut self, asked: Uuid, before: &Standing, following: Following) -> Result<Option<Position>> {
        let Following { seen, volume, generation } = following;
        let core = self.core.clone();
        let position = move |sequence| Some(Position { journal: asked, sequence });
        let deciding = core.clone();
        let decision = self.patience(blocking(move || deciding.decide(&seen)).await??);
        match decision {
            Decision::GoOn => {
                blocking(move || core.remember(volume, generation).map(|()| core.durable(seen.durable))).await??
            }
            // The one that was asked for was given up meanwhile, and none is called that any more.
            Decision::Begin(_) if before.journal.is_some() => return Ok(None),
            Decision::Begin(everything) => {
                let begun = move || {
                    core.remember(volume, generation)?;
                    core.begin_journal(asked, &seen, everything)
                };
                self.next = clock::random_id();
                blocking(begun).await??;
                return Ok(position(0));
            }
            Decision::GiveUp(reason) => {
                blocking(move || core.lost(reason)).await?;
                return Ok(None);
            }
            Decision::Wait(why) => bail!(NetError::Remote { kind: ErrorKind::Retry, text: why }),
        }
        Ok(position(seen.durable))
    }

    /// Waiting has an end: then everything is compared.
    fn patience(&mut self, decision: Decision) -> Decision {
        let Decision::Wait(why) = decision else {
            self.waiting = None;
            return decision;
        };
        match self.waiting.get_or_insert_with(Stopwatch::start).elapsed() < WAIT_MAX {
            true => Decision::Wait(why),
            false => Decision::Begin(Some(Reason::OtherPoint(why))),
        }
    }

    /// Both directions, until one of them ends.
    async fn ship(&self, appliance: Appliance, from: Position) -> Result<Ended> {
        let Appliance { mut reader, mut writer, .. } = appliance;
        reader.set_idle_max(SILENCE_MAX);
        writer.set_idle_max(SILENCE_MAX);
        let mut heard = std::pin::pin!(self.listen(&mut reader, from.journal));
        tokio::select! {
            ended = &mut heard => ended,
            ended = self.speak(&mut writer, from) => match ended {
                // What the appliance said last is the reason why it takes nothing more.
                Err(error) => tokio::time::timeout(FAREWELL_MAX, heard).await.unwrap_or(Err(error)),
                again => again,
            },
        }
    }

    /// Sends what there is after `from`.
    async fn speak(&self, writer: &mut MessageWriter<Outgoing>, from: Position) -> Result<Ended> {
        let mut sent = from.sequence;
        while self.core.standing().journal == Some(from.journal) {
            let core = self.core.clone();
            let taken = blocking(move || take(&core, sent)).await??;
            let is_enough = taken.as_ref().is_some_and(|parcel| parcel.is_enough);
            let entries = match taken {
                Some(Parcel { entries, oldest_ns, through, .. }) => {
                    self.lag().sent(through, oldest_ns);
                    sent = through;
                    entries
                }
                None => Tap::Entries { first: sent + 1, length: 0, codec: Codec::Stored, bytes: bytes::Bytes::new() },
            };
            writer.send(&entries.into()).await?;
            if !is_enough && !self.terms.delay.is_zero() {
                tokio::time::sleep(self.terms.delay).await;
            }
        }
        Ok(Ended::Again)
    }

    /// Hears what is durable.
    async fn listen(&self, reader: &mut MessageReader<Incoming>, journal: Uuid) -> Result<Ended> {
        loop {
            let Message::Tap(Tap::Durable { through }) = reader.expect("Durable").await? else {
                bail!("appliance {}: expected Durable", self.terms.appliance.address)
            };
            let core = self.core.clone();
            blocking(move || core.durable(through)).await?;
            self.lag().durable(through, clock::now_ns());
            self.publish(Position { journal, sequence: through });
        }
    }

    fn publish(&self, position: Position) {
        self.followed.send_replace(Some(position));
    }

    fn lag(&self) -> MutexGuard<'_, Lag> {
        lock(&self.lag)
    }
}

/// What the appliance answers to who asks it to follow.
struct Following {
    seen: Seen,
    volume: Uuid,
    generation: u64,
}

async fn follow(appliance: &mut Appliance, terms: &Terms, standing: &Standing, at: Position) -> Result<Following> {
    let (name, geometry) = (terms.volume.clone(), terms.geometry);
    let ask = Tap::Follow { name, journal: at.journal, geometry, generation: standing.generation };
    match appliance.ask(&ask.into(), "Following").await? {
        Message::Tap(Tap::Following { volume, generation, durable, newest, position }) => {
            Ok(Following { seen: Seen { durable, newest, position }, volume, generation })
        }
        other => Err(appliance.unexpected("Following", &other)),
    }
}

/// Entries that are ready to leave.
struct Parcel {
    entries: Tap,
    oldest_ns: i64,
    through: u64,
    /// There may be more at once.
    is_enough: bool,
}

/// The next entries, waiting for them as long as silence may be.
fn take(core: &Core, after: u64) -> std::io::Result<Option<Parcel>> {
    core.wait_for_entries(after, SIGN);
    let Some(Batch { first, through, oldest_ns, bytes }) = core.pending(after, ENOUGH)? else { return Ok(None) };
    // The longest entry is a quarter of what is enough.
    let (length, is_enough) = (bytes.len() as u32, bytes.len() > ENOUGH / 2);
    let (codec, bytes) = encode(bytes);
    let entries = Tap::Entries { first, length, codec, bytes };
    Ok(Some(Parcel { entries, oldest_ns, through, is_enough }))
}

#[cfg(test)]
mod tests {
    use super::super::core::Parts;
    use super::super::files::{FileVolume, StateDirectory, SystemClock};
    use super::*;
    use crate::args::ApplianceArguments;
    use std::path::Path;
    use understudy_format::codec::decode_into;
    use understudy_format::journal::{Order, entries};
    use understudy_format::{BlockSize, Geometry};

    const JOURNAL: Uuid = Uuid::from_u128(7);
    const SIZE: u64 = 1 << 20;

    /// What ships the journal of a tap, in which there are three entries.
    fn shipper(dir: &Path) -> (Arc<Core>, Shipper) {
        std::fs::write(dir.join("volume"), vec![0; SIZE as usize]).unwrap();
        let geometry = Geometry::new(SIZE, BlockSize::default()).unwrap();
        let (volume, directory) =
            (FileVolume::open(&dir.join("volume"), false), StateDirectory::open(&dir.join("state")));
        let (volume, directory) = (Arc::new(volume.unwrap()), Arc::new(directory.unwrap()));
        let (journal_max, clock) = (64 << 20, Arc::new(SystemClock));
        let core = Arc::new(Core::open(Parts { volume, directory, geometry, journal_max, clock }).unwrap());
        core.begin_journal(JOURNAL, &Seen { durable: 0, newest: 0, position: None }, None).unwrap();
        core.write(0, &[7; 5000]).unwrap();
        core.write(4096, &[8; 10]).unwrap();
        core.flush().unwrap();
        let terms = Terms {
            appliance: ApplianceArguments::at("127.0.0.1:1".into(), None),
            volume: "v".parse().unwrap(),
            geometry,
            delay: Duration::from_millis(1),
            reconnect: Duration::from_millis(1),
            bandwidth: None,
            state: dir.join("state"),
            json: false,
        };
        (core.clone(), Shipper::new(core, Arc::new(terms), Arc::default()))
    }

    /// A session over a pipe, and the other end of it.
    fn session() -> (Appliance, MessageReader<Incoming>, MessageWriter<Outgoing>) {
        let (own, other) = tokio::io::duplex(1 << 16);
        let ((from, to), (other_from, other_to)) = (tokio::io::split(own), tokio::io::split(other));
        let reader = |from| MessageReader::new(Box::new(from) as Incoming, SILENCE_MAX);
        let writer = |to| MessageWriter::new(Box::new(to) as Outgoing, SILENCE_MAX);
        let appliance = Appliance {
            address: "h:1".into(),
            pool: Uuid::nil(),
            nbd: String::new(),
            certificates: std::path::PathBuf::new(),
            reader: reader(from),
            writer: writer(to),
        };
        (appliance, reader(other_from), writer(other_to))
    }

    async fn received(reader: &mut MessageReader<Incoming>) -> (u64, Vec<u8>) {
        match reader.expect("Entries").await.unwrap() {
            Message::Tap(Tap::Entries { first, length, codec, bytes }) => {
                let mut decoded = vec![0; length as usize];
                decode_into(codec, &bytes, &mut decoded).unwrap();
                (first, decoded)
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn entries_travel_in_order_and_are_forgotten_once_they_are_durable() {
        let dir = tempfile::tempdir().unwrap();
        let (core, shipper) = shipper(dir.path());
        let (appliance, mut reader, mut writer) = session();
        let mut followed = shipper.followed();
        let talk = async {
            let (first, bytes) = received(&mut reader).await;
            let found: Vec<u64> =
                entries(&bytes, Order::new(SIZE, 1, 0)).map(|entry| entry.unwrap().0.sequence).collect();
            assert_eq!((first, found), (1, vec![1, 2, 3]));
            writer.send(&Tap::Durable { through: 3 }.into()).await.unwrap();
            followed.wait_for(|at| *at == Some(Position { journal: JOURNAL, sequence: 3 })).await.unwrap();
        };
        tokio::select! {
            ended = shipper.ship(appliance, Position { journal: JOURNAL, sequence: 0 }) => panic!("{:?}", ended.err()),
            () = talk => {}
        }
        assert_eq!(core.standing().durable, 3);
    }

    #[tokio::test]
    async fn what_the_appliance_says_last_is_why_the_session_ends() {
        let dir = tempfile::tempdir().unwrap();
        let (_core, shipper) = shipper(dir.path());
        let (appliance, reader, mut writer) = session();
        let fail = Message::Fail { kind: ErrorKind::Full, text: "the pool is full".into() };
        writer.send(&fail).await.unwrap();
        drop((reader, writer));
        let ended = shipper.ship(appliance, Position { journal: JOURNAL, sequence: 0 }).await;
        assert!(ended.err().unwrap().to_string().contains("the pool is full"));
    }
}
