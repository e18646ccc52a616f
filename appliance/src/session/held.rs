//! A stream in a group: waiting, with its commit held, until the group is settled.
//!
//! Invariants: a member that only lost its connection leaves its seat and may come again, one that failed fails the group; whoever waits is told
//! again and again that it is worth waiting; no thread waits, only the connection.

use super::gathering::HELD_MAX;
use super::groups::Seat;
use super::running::Turn;
use super::stream::remote;
use super::{IDLE_MAX, Reader, Session, Writer};
use crate::error::Error;
use std::time::Duration;
use understudy_format::point::Point;
use understudy_format::wire::Message;
use understudy_net::NetError;

/// How often a member that waits is told so.
const TELL_EVERY: Duration = Duration::from_secs(15);

/// Waits until the group is settled, and tells the client what became of its point.
pub(super) async fn wait(session: &mut Session, seat: &Seat, point: Point, turn: &mut Turn) -> Result<(), NetError> {
    // The client has nothing to say any more; the group does not wait for ever.
    session.reader.set_idle_max(HELD_MAX * 2);
    let settled = until_settled(&mut session.reader, &mut session.writer, seat, turn).await;
    session.reader.set_idle_max(IDLE_MAX);
    settled?;
    session.stored(point).await
}

async fn until_settled(reader: &mut Reader, writer: &mut Writer, seat: &Seat, turn: &mut Turn) -> Result<(), NetError> {
    let mut said = std::pin::pin!(reader.expect("the end of the group"));
    let mut settled = std::pin::pin!(seat.settled());
    let mut tell = tokio::time::interval(TELL_EVERY);
    loop {
        tokio::select! {
            biased;
            settled = &mut settled => return settled.map_err(remote),
            () = turn.over() => return Err(NetError::Closed("the same stream goes on over another connection")),
            said = &mut said => {
                let error = said.map_or_else(|error| error, unexpected);
                gave_up(seat, &error);
                return Err(error);
            }
            _ = tell.tick() => writer.send(&seat.waiting()).await?,
        }
    }
}

fn unexpected(found: Message) -> NetError {
    NetError::Unexpected { expected: "nothing, while the group gathers", found: found.name() }
}

/// Returns when the group of a stream has failed; never without one.
pub(super) async fn failed(seat: Option<&Seat>) -> Error {
    if let Some(seat) = seat
        && let Err(error) = seat.settled().await
    {
        return error;
    }
    std::future::pending().await
}

/// A member ended before the group was settled: whoever said why, or was told, does not come again.
pub(super) fn gave_up(seat: &Seat, error: &NetError) {
    if let NetError::Remote { text, .. } = error {
        seat.fail(text);
    }
}
