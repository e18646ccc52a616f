//! A stream over a connection: a task reads its messages, a thread ingests them, the session writes the answers.
//!
//! Invariants: at most [`QUEUE`] messages wait for the thread; whatever ends the stream before its commit
//! (the client, the pool, a deadline) leaves no point, and unless it was the stream itself, a record of how far it came; the
//! commit is acknowledged only when it is durable; of a stream that comes twice the later connection has it.

use super::running::Turn;
use super::{Reader, Session, Shared, Writer, announced};
use crate::clock;
use crate::error::{Error, Result};
use crate::ingest::{Ingest, Resumed};
use std::sync::Arc;
use tokio::sync::mpsc;
use understudy_format::point::{Label, VolumeName};
use understudy_format::stream::Begin;
use understudy_format::wire::Message;
use understudy_net::NetError;

/// Messages that wait for the ingesting thread: chunks of 4 MiB, mostly.
const QUEUE: usize = 4;
/// Offers that an initiator may have in flight.
const WINDOW: u32 = 16;

/// Takes a stream that was announced.
pub(super) async fn receive(session: &mut Session, name: VolumeName, label: Option<Label>) -> Result<(), NetError> {
    let begin = match session.reader.expect("Begin").await? {
        Message::Begin(begin) => begin,
        other => return Err(NetError::Unexpected { expected: "Begin", found: other.name() }),
    };
    let (shared, peer) = (session.shared.clone(), session.peer.clone());
    // Held until the thread is done: whoever comes with the same stream waits for that.
    let mut turn = shared.running.take_over(begin.stream).await;
    let (messages, inbox) = mpsc::channel(QUEUE);
    let (outbox, mut answers) = mpsc::channel(QUEUE + WINDOW as usize);
    let shared = shared.clone();
    let thread = tokio::task::spawn_blocking(move || {
        shared.access.claim(&peer, &name)?;
        ingest(&shared, name, label, begin, inbox, &outbox)
    });
    let answered = relay(&mut session.reader, &mut session.writer, messages, &mut answers, &mut turn).await;
    // Whoever waits for an answer to be taken is let go.
    drop(answers);
    let ingested = thread.await.map_err(|e| std::io::Error::other(e.to_string()))?;
    answered?;
    ingested.map_err(|error| NetError::Remote { kind: error.kind(), text: error.to_string() })
}

/// Passes messages in and answers out until the stream is over on either side.
///
/// The answers end with the thread. Reading ends earlier, with the commit; when it does not, the stream failed, and
/// what is still coming is of no use. When this returns the thread gets no more messages, so it ends as well.
async fn relay(
    reader: &mut Reader,
    writer: &mut Writer,
    messages: mpsc::Sender<Message>,
    answers: &mut mpsc::Receiver<Message>,
    turn: &mut Turn,
) -> Result<(), NetError> {
    let answer = async {
        while let Some(message) = answers.recv().await {
            writer.send(&message).await?;
        }
        Ok(())
    };
    let (mut answer, mut forward) = (std::pin::pin!(answer), std::pin::pin!(forward(reader, messages)));
    tokio::select! {
        answered = &mut answer => answered,
        () = turn.over() => Err(NetError::Closed("the same stream goes on over another connection")),
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

fn ingest(
    shared: &Arc<Shared>,
    name: VolumeName,
    label: Option<Label>,
    begin: Begin,
    mut inbox: mpsc::Receiver<Message>,
    outbox: &mpsc::Sender<Message>,
) -> Result<()> {
    let mut ingest = match Ingest::resume(shared.pool.clone(), announced(name, label), begin)? {
        Resumed::Goes(ingest) => ingest,
        Resumed::Stored(point) => {
            answer(outbox, Message::Stored(*point));
            return Ok(());
        }
    };
    let (cursor, again) = (ingest.cursor(), ingest.again()?);
    answer(outbox, Message::Accept { window: WINDOW, cursor, again });
    while let Some(message) = inbox.blocking_recv() {
        if let Message::Commit(commit) = message {
            return finish(shared, *ingest, &commit, outbox);
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

fn finish(
    shared: &Shared,
    ingest: Ingest,
    commit: &understudy_format::stream::Commit,
    outbox: &mpsc::Sender<Message>,
) -> Result<()> {
    let point = ingest.commit(commit)?;
    let (volume, _) = shared.pool.point(&point.volume, point.number).ok_or(Error::Closing)?;
    tracing::info!(volume = %volume.name, point = point.number, root = %point.map.root().short(), "committed");
    let kicked = shared.secondaries.kick(&volume);
    if let Err(error) = kicked {
        tracing::error!(volume = %volume.name, %error, "the secondary cannot be brought up to date");
    }
    answer(outbox, Message::Stored(point));
    Ok(())
}
