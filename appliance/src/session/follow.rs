//! A tap's session: its journal comes in, and how far that is durable goes out.
//!
//! Invariants: at most [`QUEUE`] messages wait for the thread that appends; each is answered in order, once it is durable; of a
//! journal that comes twice the later connection has it; a tap that says nothing for [`SILENCE_MAX`] is gone, and its volume free.

use super::stream::{on_thread, relay, remote};
use super::{Reader, Session};
use crate::access::Peer;
use crate::clock;
use crate::error::{Error, Result};
use crate::journals::{Follower, Journals};
use crate::pool::Pool;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use understudy_format::Geometry;
use understudy_format::codec::{Codec, decode_into};
use understudy_format::point::{Point, VolumeName};
use understudy_format::wire::{Message, Tap};
use understudy_net::NetError;
use uuid::Uuid;

/// Messages of entries that wait for the appending thread: 8 MiB each at most.
const QUEUE: usize = 2;
/// How long a tap may be silent: three signs of life.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What a tap asks for.
pub(super) struct Asked {
    /// The volume.
    pub name: VolumeName,
    /// The journal.
    pub journal: Uuid,
    /// Of the volume.
    pub geometry: Geometry,
    /// That the primary has; 0 for none.
    pub generation: u64,
}

/// Follows a tap until it leaves.
pub(super) async fn serve(session: &mut Session, asked: Asked) -> Result<(), NetError> {
    let (shared, peer) = (session.shared.clone(), session.peer.clone());
    // Held until the thread is done: whoever comes with the same journal waits for that.
    let mut turn = shared.running.take_over(asked.journal).await;
    let (follower, following) = on_thread(move || {
        shared.access.claim(&peer, &asked.name)?;
        begin(&shared.pool, &shared.journals, &peer, &asked)
    })
    .await?;
    session.writer.send(&following.into()).await?;
    session.reader.set_idle_max(SILENCE_MAX);
    let (entries, inbox) = mpsc::channel(QUEUE);
    let (outbox, mut answers) = mpsc::channel(QUEUE);
    let thread = tokio::task::spawn_blocking(move || take_in(follower, inbox, &outbox));
    let relay = relay(forward(&mut session.reader, entries), &mut session.writer, &mut answers);
    let answered = tokio::select! {
        answered = relay => answered,
        () = turn.over() => Err(NetError::Closed("the same journal goes on over another connection")),
    };
    drop(answers);
    let taken = thread.await.map_err(|e| std::io::Error::other(e.to_string()))?;
    answered?;
    taken.map_err(remote)
}

fn begin(pool: &Pool, journals: &Arc<Journals>, peer: &Peer, asked: &Asked) -> Result<(Follower, Tap)> {
    let Asked { name, journal, geometry, generation } = asked;
    journals.check_primary(name, *generation)?;
    let entry = pool.volume(name);
    let block_size = geometry.block_size();
    if let Some(known) = entry.as_ref().map(|entry| entry.volume.block_size).filter(|known| *known != block_size) {
        let (known, asked) = (known.bytes(), block_size.bytes());
        return Err(Error::Refused(format!(
            "volume {name} has blocks of {known} bytes, not of {asked}: name that size"
        )));
    }
    let follower = journals.follow(name, *journal, geometry.volume_size(), peer.to_string(), clock::now_ns())?;
    tracing::info!(volume = %name, %journal, by = %peer, durable = follower.durable(), "followed");
    let newest = entry.as_ref().and_then(|entry| entry.newest());
    let following = Tap::Following {
        volume: entry.as_ref().map_or(Uuid::nil(), |entry| entry.volume.uuid),
        generation: journals.generation(name),
        durable: follower.durable(),
        newest: newest.map_or(0, |point: &Point| point.number),
        position: newest.and_then(|point| point.position),
    };
    Ok((follower, following))
}

/// Passes entries to the thread until the tap leaves.
async fn forward(reader: &mut Reader, entries: mpsc::Sender<Tap>) -> Result<(), NetError> {
    while let Some(message) = reader.next().await? {
        let tap = match message {
            Message::Tap(tap @ Tap::Entries { .. }) => tap,
            other => return Err(NetError::Unexpected { expected: "Entries", found: other.name() }),
        };
        // The thread says itself why it ended.
        if entries.send(tap).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Appends what comes; at the end writes down how far that was.
fn take_in(mut follower: Follower, mut inbox: mpsc::Receiver<Tap>, outbox: &mpsc::Sender<Message>) -> Result<()> {
    let mut bytes = Vec::new();
    while let Some(message) = inbox.blocking_recv() {
        let through = take(&mut follower, &message, &mut bytes)?;
        if outbox.blocking_send(Tap::Durable { through }.into()).is_err() {
            break;
        }
    }
    follower.save()
}

fn take(follower: &mut Follower, message: &Tap, bytes: &mut Vec<u8>) -> Result<u64> {
    let Tap::Entries { first, length, codec, bytes: stored } = message else { return Ok(follower.durable()) };
    if *length == 0 {
        follower.complete_as_of(clock::now_ns());
        return Ok(follower.durable());
    }
    if *codec == Codec::Stored {
        return follower.append(*first, stored);
    }
    bytes.resize(*length as usize, 0);
    decode_into(*codec, stored, bytes)?;
    follower.append(*first, bytes)
}
