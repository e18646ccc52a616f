//! A stream over a connection: a task reads its messages, a thread ingests them, the session writes the answers.
//!
//! Invariants: at most [`QUEUE`] messages wait for the thread; whatever ends the stream before its commit
//! (the client, the pool, a deadline) leaves no point, and unless it was the stream itself, a record of how far it came; the
//! commit is acknowledged only when it is durable; of a stream that comes twice the later connection has it. What a stream in a group
//! goes through besides is [`super::held`].

use super::groups::{Outcome, Seat};
use super::running::Turn;
use super::{Reader, Session, Shared, Writer, announced, held};
use crate::clock;
use crate::error::{Error, Result};
use crate::ingest::{Ingest, Over, Ready, Resumed};
use crate::journals::Journals;
use std::sync::Arc;
use tokio::sync::mpsc;
use understudy_format::group::Group;
use understudy_format::journal::Position;
use understudy_format::point::{Label, Point, VolumeName};
use understudy_format::stream::Commit;
use understudy_format::wire::Message;
use understudy_net::NetError;

/// Messages that wait for the ingesting thread: chunks of 4 MiB, mostly.
const QUEUE: usize = 4;
/// Offers that an initiator may have in flight.
const WINDOW: u32 = 16;

/// What is said of a stream before it begins.
pub(super) struct Pushed {
    /// The volume.
    pub name: VolumeName,
    /// For its point.
    pub label: Option<Label>,
    /// The streams that it commits with.
    pub group: Option<Group>,
    /// The journal that is laid over it.
    pub over: Option<Position>,
}

/// Whether a stream may come into its volume: a tap lets none pass but its own.
#[derive(Debug, Clone)]
struct Admission {
    journals: Arc<Journals>,
    name: VolumeName,
    over: Option<Position>,
}

impl Admission {
    fn check(&self) -> Result<()> {
        self.journals.admit(&self.name, self.over.as_ref())
    }
}

/// Takes a stream that was announced.
pub(super) async fn receive(session: &mut Session, pushed: Pushed) -> Result<(), NetError> {
    let Pushed { name, label, group, over } = pushed;
    let begin = match session.reader.expect("Begin").await? {
        Message::Begin(begin) => begin,
        other => return Err(NetError::Unexpected { expected: "Begin", found: other.name() }),
    };
    let (shared, peer) = (session.shared.clone(), session.peer.clone());
    // Held until the thread is done: whoever comes with the same stream waits for that.
    let mut turn = shared.running.take_over(begin.stream).await;
    let journals = shared.journals.clone();
    let laid = over.map(|position| Over { journals: journals.clone(), position });
    let (pool, announced) = (shared.pool.clone(), announced(name.clone(), label, shared.access.learns(&peer), laid));
    let (access, volume, own) = (shared.access.clone(), name.clone(), peer.clone());
    let admission = Admission { journals, name: name.clone(), over };
    let admitted = admission.clone();
    let resume = move || {
        access.claim(&peer, &volume)?;
        admitted.check()?;
        Ingest::resume(pool, announced, begin)
    };
    let ingest = match on_thread(resume).await? {
        Resumed::Goes(ingest) => ingest,
        Resumed::Stored(point) => return session.stored(*point).await,
    };
    let seat = group.map(|group| shared.groups.come(&own, group, &name)).transpose().map_err(remote)?.map(Arc::new);
    let point = stream(session, *ingest, seat.clone(), admission, &mut turn).await;
    match (seat, point) {
        (Some(seat), Ok(point)) => held::wait(session, &seat, point, &mut turn).await,
        (None, Ok(point)) => session.stored(point).await,
        (seat, Err(error)) => {
            seat.iter().for_each(|seat| held::gave_up(seat, &error));
            Err(error)
        }
    }
}

/// Brings a stream in; its point is committed when this returns or, with a seat in a group, held.
async fn stream(
    session: &mut Session,
    ingest: Ingest,
    seat: Option<Arc<Seat>>,
    admission: Admission,
    turn: &mut Turn,
) -> Result<Point, NetError> {
    let (messages, inbox) = mpsc::channel(QUEUE);
    let (outbox, mut answers) = mpsc::channel(QUEUE + WINDOW as usize);
    let (shared, own) = (session.shared.clone(), seat.clone());
    let thread =
        tokio::task::spawn_blocking(move || take_in(&shared, ingest, own.as_deref(), &admission, inbox, &outbox));
    let relay = relay(forward(&mut session.reader, messages), &mut session.writer, &mut answers);
    let answered = tokio::select! {
        answered = relay => answered,
        () = turn.over() => Err(NetError::Closed("the same stream goes on over another connection")),
        error = held::failed(seat.as_deref()) => Err(remote(error)),
    };
    // Whoever waits for an answer to be taken is let go.
    drop(answers);
    let point = thread.await.map_err(|e| std::io::Error::other(e.to_string()))?;
    answered?;
    point.map_err(remote)
}

pub(super) async fn on_thread<T: Send + 'static>(
    step: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T, NetError> {
    let done = tokio::task::spawn_blocking(step).await.map_err(|e| std::io::Error::other(e.to_string()))?;
    done.map_err(remote)
}

pub(super) fn remote(error: Error) -> NetError {
    NetError::Remote { kind: error.kind(), text: error.to_string() }
}

/// Passes messages in, by `forward`, and answers out until it is over on either side.
///
/// The answers end with the thread. Reading ends earlier, with the last message; when it does not, the thread failed, and
/// what is still coming is of no use. When this returns the thread gets no more messages, so it ends as well.
pub(super) async fn relay(
    forward: impl Future<Output = Result<(), NetError>>,
    writer: &mut Writer,
    answers: &mut mpsc::Receiver<Message>,
) -> Result<(), NetError> {
    let answer = async {
        while let Some(message) = answers.recv().await {
            writer.send(&message).await?;
        }
        Ok(())
    };
    let (mut answer, mut forward) = (std::pin::pin!(answer), std::pin::pin!(forward));
    tokio::select! {
        answered = &mut answer => answered,
        read = &mut forward => match read {
            Ok(()) => answer.await,
            Err(error) => Err(error),
        },
    }
}

/// Passes messages to the thread up to the commit.
async fn forward(reader: &mut Reader, messages: mpsc::Sender<Message>) -> Result<(), NetError> {
    loop {
        let message = reader.expect("the rest of the stream").await?;
        let last = matches!(message, Message::Commit(_));
        if messages.send(message).await.is_err() || last {
            return Ok(());
        }
    }
}

fn take_in(
    shared: &Shared,
    mut ingest: Ingest,
    seat: Option<&Seat>,
    admission: &Admission,
    mut inbox: mpsc::Receiver<Message>,
    outbox: &mpsc::Sender<Message>,
) -> Result<Point> {
    let (cursor, again) = (ingest.cursor(), ingest.again()?);
    answer(outbox, Message::Accept { window: WINDOW, cursor, again });
    while let Some(message) = inbox.blocking_recv() {
        if let Message::Commit(commit) = message {
            // A tap may have come meanwhile.
            admission.check()?;
            return finish(shared, ingest, &commit, seat);
        }
        take(&mut ingest, message, outbox).inspect_err(|error| ingest.give_up(error))?;
    }
    ingest.park(clock::now_ns());
    Err(Error::refused("the stream ended without a commit: there is no point of it"))
}

/// Takes a message before the commit.
fn take(ingest: &mut Ingest, message: Message, outbox: &mpsc::Sender<Message>) -> Result<()> {
    match message {
        Message::Offer(head) => {
            let wanted = ingest.offer(&head)?;
            answer(outbox, Message::Need { sequence: head.sequence, wanted });
            Ok(())
        }
        Message::Chunk(chunk) => {
            ingest.chunk(&chunk)?;
            if ingest.is_due() { ingest.record(clock::now_ns()) } else { Ok(()) }
        }
        other => Err(Error::refused(format!("{} has no place in a stream", other.name()))),
    }
}

/// Answers, unless the connection is gone: the messages that came before that still count.
fn answer(outbox: &mpsc::Sender<Message>, message: Message) {
    let _ = outbox.blocking_send(message);
}

fn finish(shared: &Shared, mut ingest: Ingest, commit: &Commit, seat: Option<&Seat>) -> Result<Point> {
    let Some(seat) = seat else {
        let ready = ingest.ready(commit)?;
        commit_all(shared, std::slice::from_ref(&ready))?;
        return Ok(ready.point().clone());
    };
    // If the group comes to nothing, the stream goes on behind all of it.
    ingest.record(clock::now_ns())?;
    let ready = ingest.ready(commit)?;
    let point = ready.point().clone();
    if let Some(all) = seat.hold(ready) {
        let committed = commit_all(shared, &all);
        // Before anybody learns of it: whoever comes again finds its volume free.
        drop(all);
        seat.settle(committed.map_or_else(|error| Outcome::Failed(error.to_string()), |()| Outcome::Committed));
    }
    Ok(point)
}

/// Commits points, all of them or none, and has their secondaries brought up to date.
fn commit_all(shared: &Shared, all: &[Ready]) -> Result<()> {
    Ready::commit(all)?;
    for ready in all {
        let (volume, point) = (ready.volume(), ready.point());
        tracing::info!(volume = %volume.name, point = point.number, root = %point.map.root().short(), "committed");
        shared.counters.committed(&volume.name, point);
        shared.secondaries.follow(volume);
    }
    Ok(())
}
