//! Failing over and back, as a client asks for it: who administers the volume, and as far as it sees it.
//!
//! Invariant: the session of a tap is ended only for a promotion that is forced, by one who may; it is over, and what it brought is durable,
//! before the promotion begins.

use super::{Session, Shared};
use crate::access::{Peer, Right};
use crate::error::{Error, Result};
use crate::failover::Failover;
use understudy_format::point::VolumeName;
use understudy_format::wire::{Failover as Asked, Message};
use understudy_net::NetError;

/// Does what is asked, and answers.
pub(super) async fn carry_out(session: &mut Session, asked: Asked) -> Result<(), NetError> {
    let (shared, peer) = (session.shared.clone(), &session.peer);
    let _turn = match &asked {
        Asked::Promote { name, force: true } if shared.access.allows(peer, Right::Administer, Some(name)) => {
            match shared.journals.followed_by(name) {
                // Held until the role is another one: a tap that comes again is refused then.
                Some((journal, _)) => Some(shared.running.take_over(journal).await),
                None => None,
            }
        }
        _ => None,
    };
    session.ask(move |shared, peer| answer(shared, peer, asked)).await
}

fn answer(shared: &Shared, peer: &Peer, asked: Asked) -> Result<Message> {
    match asked {
        Asked::Promote { name, force } => begin(shared, peer, "promote", &name)?.promote(force),
        Asked::Failback { name } => begin(shared, peer, "failback", &name)?.fail_back(),
        Asked::FailedBack { name, point } => begin(shared, peer, "failed-back", &name)?.failed_back(point),
        Asked::Demote { name } => {
            shared.access.may_destroy(peer)?;
            begin(shared, peer, "demote", &name)?.demote()
        }
        Asked::Promoted { .. } | Asked::FailingBack { .. } => {
            Err(Error::refused(format!("{} is no request", Message::from(asked).name())))
        }
    }
}

/// A volume that the peer administers; that it asks is recorded.
fn begin<'a>(shared: &'a Shared, peer: &Peer, act: &str, name: &'a VolumeName) -> Result<Failover<'a>> {
    let unknown = || Error::refused(format!("there is no volume {name}; `understudy volumes` lists them"));
    shared.pool.volume(name).filter(|_| shared.access.sees(peer, name)).ok_or_else(unknown)?;
    shared.access.may(peer, Right::Administer, Some(name))?;
    shared.access.audit.record(act, peer, &format!("volume {name}"))?;
    let Shared { pool, journals, overlays, secondaries, .. } = shared;
    Ok(Failover { pool, journals, overlays, secondaries, name })
}
