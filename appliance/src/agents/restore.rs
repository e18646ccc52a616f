//! Restoring through an agent: one of its targets becomes equal to a point.
//!
//! Invariant: the appliance names a target; what it stands for, and whether it may be written, is decided at the agent.

use crate::args::RestoreBy;
use crate::daemon::Daemon;
use crate::error::{Error, Result};
use crate::upkeep::{self, Outcome, Told};
use serde_json::json;
use std::sync::atomic::AtomicBool;
use understudy_format::agent::Work;

/// Has it done, and waits for the end of it.
pub fn run(daemon: &Daemon, args: &RestoreBy, stop: &AtomicBool, tell: &mut dyn FnMut(Told)) -> Result<Outcome> {
    let (entry, point) = upkeep::point(&daemon.pool, &args.point, &daemon.zone)?;
    let volume = entry.volume.name.clone();
    let work = Work::Restore { volume: volume.clone(), point, target: args.target.clone() };
    let report = daemon.agents.carry_out(&args.agent, work, stop, tell)?;
    let outcome = match report.code {
        0 => Outcome::Done,
        3 => Outcome::Warnings,
        4 => Outcome::Different,
        _ => return Err(Error::Refused(report.text)),
    };
    let event = json!({
        "event": "restored", "volume": volume.as_str(), "point": point, "agent": args.agent.as_str(),
        "target": args.target.as_str(), "code": report.code,
    });
    tell(Told { text: format!("{volume}@{point} is on {} of {}: {}", args.target, args.agent, report.text), event });
    Ok(outcome)
}
