//! Moments over a session: which there are, and opening one, which the session holds until it ends.
//!
//! Invariants: who may not read a volume learns nothing of its moments, and has none made; a session holds [`HELD_MAX`] of them at most, so
//! that nobody keeps a pool from giving space back by asking for all of them.

use super::{Session, Shared};
use crate::access::{Peer, Right};
use crate::error::{Error, Result};
use crate::moments::{self, Opened};
use understudy_format::point::VolumeName;
use understudy_format::wire::{Message, Tap};
use understudy_net::NetError;

/// Most moments that one session has open.
const HELD_MAX: usize = 64;

/// Opens the newest point or moment at or before a time.
pub(super) async fn open(session: &mut Session, name: VolumeName, at_ns: i64) -> Result<(), NetError> {
    let (shared, peer, held) = (session.shared.clone(), session.peer.clone(), session.held.len());
    let opening = tokio::task::spawn_blocking(move || opened(&shared, &peer, &name, at_ns, held));
    let opened = opening.await.map_err(|error| std::io::Error::other(error.to_string()))?;
    let answer = opened.map(|(answer, opened)| {
        session.held.extend(opened.map(|opened| opened.hold));
        answer
    });
    session.reply(answer).await
}

fn opened(
    shared: &Shared,
    peer: &Peer,
    name: &VolumeName,
    at_ns: i64,
    held: usize,
) -> Result<(Message, Option<Opened>)> {
    if shared.pool.volume(name).filter(|_| shared.access.sees(peer, name)).is_none() {
        return Ok((Message::Points { volume: None, points: Vec::new(), protected: Vec::new() }, None));
    }
    shared.access.may(peer, Right::Read, Some(name))?;
    if held >= HELD_MAX {
        return Err(Error::Refused(format!("this session has {HELD_MAX} moments open already; begin another one")));
    }
    let opened = moments::open(&shared.pool, &shared.journals, name, at_ns)?;
    let volume = Some(shared.info(&*shared.pool.known(name)?)?);
    let points = opened.iter().map(|opened| shared.access.shown(peer, opened.point.clone())).collect();
    Ok((Message::Points { volume, points, protected: Vec::new() }, opened))
}

/// The newest moments between two times.
pub(super) fn list(shared: &Shared, peer: &Peer, name: &VolumeName, span: (i64, i64), newest: u32) -> Result<Message> {
    if shared.pool.volume(name).filter(|_| shared.access.sees(peer, name)).is_none() {
        return Ok(Tap::Moments(Vec::new()).into());
    }
    shared.access.may(peer, Right::Read, Some(name))?;
    Ok(Tap::Moments(moments::list(&shared.pool, &shared.journals, name, span, newest)?).into())
}
