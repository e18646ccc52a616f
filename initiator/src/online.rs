//! Driving a stream over a connection: one task reads, one writes, and one loop owns the [`Engine`].
//!
//! Invariants: only the loop decides; the queue towards the connection is short and the buffers
//! are counted, so a slow appliance slows reading down and fills nothing; what the appliance says (a failure
//! above all) is heard at any time, also while the connection takes nothing.

use crate::connection::Appliance;
use crate::engine::{Counts, Engine};
use crate::report::Report;
use crate::scan::{Event, Job, Workers};
use crate::source::Source;
use crate::text;
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use understudy_format::ErrorKind;
use understudy_format::point::Point;
use understudy_format::stream::Commit;
use understudy_format::wire::Message;
use understudy_net::NetError;
use understudy_net::framed::{MessageReader, MessageWriter};

/// Messages handed to the writing task and not yet taken by the connection.
const QUEUE: usize = 4;
/// While this many messages wait, scanned cuts are left waiting, too.
const OUTBOX_ENOUGH: usize = 32;
/// How long telling why a stream ends may take.
const FAREWELL_MAX: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(250);
/// Runs of blocks that need not travel are told at least so often: a sign of life towards the appliance.
const LET_GO_TICKS: u32 = 40;

/// How far a connection brought a stream.
#[derive(Debug)]
pub struct Sent {
    /// The point, as the appliance recorded it.
    pub stored: Result<Point>,
    /// What was committed, if it came so far.
    pub commit: Option<Commit>,
    /// What was done.
    pub counts: Counts,
    /// Bytes sent, all messages of the session included.
    pub bytes_sent: u64,
}

/// Sends a stream whose begin was accepted, and waits until its point is durable.
///
/// `sent_before` are the bytes that other connections took for the same run. `before_commit` begins when everything was read and sent, and the
/// commit waits for its end. When the run `gives_up` for what failed, the appliance is told why: others may wait for the point.
pub async fn send(
    appliance: Appliance,
    engine: Engine<'_>,
    job: Job,
    sent_before: u64,
    before_commit: impl Future<Output = Result<()>>,
    gives_up: impl Fn(&anyhow::Error) -> bool,
    report: &mut Report,
) -> Sent {
    let source = job.source.clone();
    let (tell, events) = mpsc::unbounded_channel();
    let workers = Workers::start(job, move |event| {
        // Nobody listens once the run has failed; the workers are being stopped then.
        let _ = tell.send(event);
    });
    let (outbox, link) = (VecDeque::new(), Link::start(appliance));
    let mut driver = Driver { engine, workers, events, outbox, link, sent_before, commit: None };
    let stored = driver.whole(&*source, before_commit, report).await;
    let Driver { engine, link, commit, .. } = driver;
    let (counts, bytes_sent) = (*engine.counts(), link.sent.load(Relaxed));
    if let Err(error) = stored.as_ref()
        && gives_up(error)
    {
        link.say_why(error).await;
    }
    Sent { stored, commit, counts, bytes_sent }
}

/// What happened next.
enum Step {
    Heard(Option<Result<Message>>),
    Sent,
    Lost,
    Worked(Option<Event>),
    Tick,
}

struct Driver<'a> {
    engine: Engine<'a>,
    workers: Workers,
    events: mpsc::UnboundedReceiver<Event>,
    outbox: VecDeque<Message>,
    link: Link,
    sent_before: u64,
    commit: Option<Commit>,
}

impl Driver<'_> {
    async fn whole(
        &mut self,
        source: &dyn Source,
        before_commit: impl Future<Output = Result<()>>,
        report: &mut Report,
    ) -> Result<Point> {
        self.run(report).await?;
        source.doubt()?.inspect(|doubt| report.warn(doubt));
        tokio::select! {
            held = before_commit => held?,
            // Nothing is expected of the appliance meanwhile: it tells why it does not go on.
            message = self.link.incoming.recv() => {
                let message = message.unwrap_or_else(|| Err(self.link.ended()))?;
                return Err(self.link.unexpected("nothing", &message));
            }
        }
        self.commit(report).await
    }

    async fn run(&mut self, report: &mut Report) -> Result<()> {
        let mut tick = tokio::time::interval(TICK);
        let mut ticks = 0;
        while !(self.engine.is_done() && self.outbox.is_empty()) {
            let step = tokio::select! {
                biased;
                message = self.link.incoming.recv() => Step::Heard(message),
                room = self.link.outgoing.reserve(), if !self.outbox.is_empty() => match room {
                    Ok(room) => {
                        room.send(self.outbox.pop_front().expect("it is not empty"));
                        Step::Sent
                    }
                    Err(_) => Step::Lost,
                },
                event = self.events.recv(), if self.outbox.len() < OUTBOX_ENOUGH => Step::Worked(event),
                _ = tick.tick() => Step::Tick,
            };
            match step {
                Step::Heard(message) => self.heard(message)?,
                Step::Sent => continue,
                Step::Lost => return Err(self.link.failure().await),
                Step::Worked(event) => self.worked(event)?,
                Step::Tick => {
                    ticks += 1;
                    if ticks % LET_GO_TICKS == 0 {
                        self.engine.let_go();
                    }
                    self.report(report);
                }
            }
            self.pump()?;
        }
        Ok(())
    }

    /// Takes a worker's event, and with it all that wait already.
    fn worked(&mut self, event: Option<Event>) -> Result<()> {
        let mut next = event;
        while let Some(event) = next {
            match event {
                Event::Scanned(number, scanned) => self.engine.scanned(number, scanned)?,
                Event::Packed(chunk) => self.engine.packed(chunk),
                Event::Failed(e) => return Err(e),
            }
            next = self.events.try_recv().ok();
        }
        Ok(())
    }

    fn heard(&mut self, message: Option<Result<Message>>) -> Result<()> {
        match message.unwrap_or_else(|| Err(self.link.ended()))? {
            Message::Need { sequence, wanted } => self.engine.need(sequence, &wanted),
            other => Err(self.link.unexpected("Need", &other)),
        }
    }

    fn pump(&mut self) -> Result<()> {
        let output = self.engine.pump(self.link.waiting.load(Relaxed))?;
        output.jobs.into_iter().for_each(|job| self.workers.pack(job));
        for message in output.messages {
            self.link.count_waiting(&message);
            self.outbox.push_back(message);
        }
        Ok(())
    }

    fn report(&self, report: &mut Report) {
        report.progress(self.engine.bytes_done(), self.sent_before + self.link.sent.load(Relaxed));
    }

    async fn commit(&mut self, report: &mut Report) -> Result<Point> {
        let Self { engine, link, .. } = self;
        let commit = engine.commit()?;
        self.commit = Some(commit);
        if link.outgoing.send(Message::Commit(commit)).await.is_err() {
            return Err(link.failure().await);
        }
        let point = link.stored(report).await?;
        // Over what was read goes the journal, if there is one.
        if point.position.is_none() && point.map.root() != commit.root {
            bail!(
                "appliance {}: stored point {} with root {}, root {} was sent: do not use that point",
                link.address,
                point.number,
                point.map.root(),
                commit.root
            );
        }
        Ok(point)
    }
}

/// The two tasks of the connection, as seen from the loop; dropping it closes the connection.
struct Link {
    address: String,
    incoming: mpsc::Receiver<Result<Message>>,
    outgoing: mpsc::Sender<Message>,
    waiting: Arc<AtomicUsize>,
    sent: Arc<AtomicU64>,
    tasks: JoinSet<()>,
}

impl Link {
    fn start(appliance: Appliance) -> Self {
        let Appliance { address, mut reader, mut writer, .. } = appliance;
        let (heard, incoming) = mpsc::channel(2 * understudy_format::session::WINDOW_MAX as usize);
        let (outgoing, mut queue) = mpsc::channel(QUEUE);
        let (waiting, sent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        let name = address.clone();
        tasks.spawn(async move { read(&mut reader, &heard, &name).await });
        let counters = (waiting.clone(), sent.clone());
        tasks.spawn(async move { write(&mut writer, &mut queue, &counters.0, &counters.1).await });
        Self { address, incoming, outgoing, waiting, sent, tasks }
    }

    fn count_waiting(&self, message: &Message) {
        if matches!(message, Message::Chunk(_)) {
            self.waiting.fetch_add(1, Relaxed);
        }
    }

    /// The answer to the commit; in a group it comes when all members are ready.
    async fn stored(&mut self, report: &mut Report) -> Result<Point> {
        let mut told = String::new();
        loop {
            let message = self.incoming.recv().await.unwrap_or_else(|| Err(self.ended()))?;
            report.end();
            match message {
                Message::Stored(point) => return Ok(point),
                Message::Waiting { ready, members, lacking } if lacking != told => {
                    let event = json!({"event": "waiting", "ready": ready, "members": members, "lacking": lacking});
                    report.tell(event, &format!("{ready} of {members} members of the group are ready: {lacking}"));
                    told = lacking;
                }
                Message::Waiting { .. } => {}
                other => return Err(self.unexpected("Stored", &other)),
            }
        }
    }

    /// Tells the appliance why the stream ends, and waits until it has heard that, but not for long.
    async fn say_why(self, error: &anyhow::Error) {
        let Self { outgoing, mut incoming, mut tasks, .. } = self;
        let said = async {
            let fail = Message::Fail { kind: ErrorKind::Closed, text: text::one_line(error) };
            let _ = outgoing.send(fail).await;
            drop(outgoing);
            while incoming.recv().await.is_some() {}
            while tasks.join_next().await.is_some() {}
        };
        // When nobody listens any more, the end of the connection says enough.
        let _ = tokio::time::timeout(FAREWELL_MAX, said).await;
    }

    /// The connection takes nothing more: what the appliance said last is the reason.
    async fn failure(&mut self) -> anyhow::Error {
        while let Some(message) = self.incoming.recv().await {
            if let Err(e) = message {
                return e;
            }
        }
        self.ended()
    }

    fn ended(&self) -> anyhow::Error {
        let error = NetError::Closed("while the stream was sent; nothing was committed");
        anyhow::Error::new(error).context(format!("appliance {}", self.address))
    }

    fn unexpected(&self, expected: &'static str, found: &Message) -> anyhow::Error {
        let error = NetError::Unexpected { expected, found: found.name() };
        anyhow::Error::new(error).context(format!("appliance {}", self.address))
    }
}

type Reader = MessageReader<understudy_net::framed::Incoming>;
type Writer = MessageWriter<understudy_net::framed::Outgoing>;

async fn read(from: &mut Reader, heard: &mpsc::Sender<Result<Message>>, address: &str) {
    loop {
        let message = from.expect("an answer to the stream").await;
        let message = message.with_context(|| format!("appliance {address}"));
        let last = message.is_err();
        if heard.send(message).await.is_err() || last {
            return;
        }
    }
}

/// Writes until the connection fails: then the queue closes, and what the appliance said tells why.
async fn write(to: &mut Writer, queue: &mut mpsc::Receiver<Message>, waiting: &AtomicUsize, sent: &AtomicU64) {
    while let Some(message) = queue.recv().await {
        if to.send(&message).await.is_err() {
            return;
        }
        if matches!(message, Message::Chunk(_)) {
            waiting.fetch_sub(1, Relaxed);
        }
        sent.store(to.bytes_sent(), Relaxed);
    }
}
