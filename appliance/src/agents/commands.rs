//! What people ask of agents, carried out, and how it is told: as lines and as JSON objects.

use super::args::{OfAgents, ReplicateNow, RestoreNow, VerifyNow};
use super::{AgentInfo, RunInfo};
use crate::daemon::Daemon;
use crate::error::{Error, Result};
use crate::upkeep::{self, Outcome, Told};
use serde_json::{Value, json};
use std::sync::atomic::AtomicBool;
use understudy_format::access::ClientName;
use understudy_format::agent::{Replicate, Report, VolumeReport, Work};
use understudy_format::point::VolumeName;
use understudy_format::text::{bytes, time};

/// Answers.
pub fn run(daemon: &Daemon, what: &OfAgents, stop: &AtomicBool, tell: &mut dyn FnMut(Told)) -> Result<Outcome> {
    let (agent, work) = match what {
        OfAgents::Agents(_) => return Ok(list(daemon, tell)),
        OfAgents::Replicate(args) => (agent(daemon, args.agent.as_ref(), &args.volumes)?, replicate(args)),
        OfAgents::Verify(args) => verify(daemon, args)?,
        OfAgents::Restore(args) => restore(daemon, args)?,
    };
    tell(told_start(&agent, &work));
    let report = daemon.agents.carry_out(&agent, work, stop, tell)?;
    report.volumes.iter().for_each(|volume| tell(told_volume(volume)));
    outcome(&agent, report, tell)
}

fn list(daemon: &Daemon, tell: &mut dyn FnMut(Told)) -> Outcome {
    let agents = daemon.agents.list();
    if agents.is_empty() {
        tell(Told { text: "no agent was here since the daemon was started".into(), event: json!({"event": "none"}) });
    }
    agents.iter().map(told_agent).for_each(tell);
    Outcome::Done
}

fn told_agent(agent: &AgentInfo) -> Told {
    let AgentInfo { name, connected, since_ns, software, announcement, runs } = agent;
    let since = time(*since_ns);
    let state = if *connected { "connected" } else { "not connected" };
    let offered = |names: Vec<String>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let volumes = offered(announcement.volumes.iter().map(|offer| offer.name.to_string()).collect());
    let targets = offered(announcement.targets.iter().map(ToString::to_string).collect());
    let brackets = offered(announcement.brackets.iter().map(ToString::to_string).collect());
    let mut text = format!(
        "{name}: {state} since {since}, {software}\n  volumes   {volumes}\n  targets   {targets}\n  brackets  {brackets}"
    );
    runs.iter().for_each(|run| text += &format!("\n  does      {}", line_of(run)));
    let event = json!({
        "event": "agent", "agent": name.as_str(), "connected": connected, "since": since, "software": software,
        "volumes": announcement.volumes.iter().map(|offer| json!({
            "volume": offer.name.as_str(), "size": offer.size, "source": offer.source,
        })).collect::<Vec<_>>(),
        "targets": announcement.targets.iter().map(|name| name.as_str()).collect::<Vec<_>>(),
        "brackets": announcement.brackets.iter().map(|name| name.as_str()).collect::<Vec<_>>(),
        "runs": runs.iter().map(json_of).collect::<Vec<_>>(),
    });
    Told { text, event }
}

fn line_of(run: &RunInfo) -> String {
    let far = run
        .progress
        .iter()
        .map(|(volume, (done, total))| format!(" ({volume}: {} of {})", bytes(*done), bytes(*total)));
    format!("{}{}", run.work, far.collect::<String>())
}

fn json_of(run: &RunInfo) -> Value {
    let far = run
        .progress
        .iter()
        .map(|(volume, (done, total))| json!({"volume": volume.as_str(), "bytes_done": done, "bytes_total": total}));
    json!({"run": run.run.to_string(), "work": run.work.to_string(), "progress": far.collect::<Vec<_>>()})
}

/// The agent that was named, or the one that offers the volumes.
fn agent(daemon: &Daemon, named: Option<&ClientName>, volumes: &[VolumeName]) -> Result<ClientName> {
    named.map_or_else(|| daemon.agents.offering(volumes), |name| Ok(name.clone()))
}

fn replicate(args: &ReplicateNow) -> Work {
    Work::Replicate(Replicate {
        volumes: args.volumes.clone(),
        group: args.group,
        full: args.full.clone(),
        label: args.label.clone(),
        bytes_per_second: args.bandwidth.unwrap_or(0),
        bracket: args.bracket.clone(),
    })
}

fn verify(daemon: &Daemon, args: &VerifyNow) -> Result<(ClientName, Work)> {
    let (volume, point) = point(daemon, &args.point)?;
    let agent = agent(daemon, args.agent.as_ref(), std::slice::from_ref(&volume))?;
    Ok((agent, Work::Verify { volume, point }))
}

fn restore(daemon: &Daemon, args: &RestoreNow) -> Result<(ClientName, Work)> {
    let (volume, point) = point(daemon, &args.point)?;
    Ok((args.agent.clone(), Work::Restore { volume, point, target: args.target.clone() }))
}

/// The point that is meant now, by its number.
fn point(daemon: &Daemon, text: &str) -> Result<(VolumeName, u64)> {
    let (entry, point) = upkeep::point(&daemon.pool, text, &daemon.zone)?;
    Ok((entry.volume.name.clone(), point))
}

fn told_start(agent: &ClientName, work: &Work) -> Told {
    let text = format!("{agent}: {work}");
    Told { text, event: json!({"event": "start", "agent": agent.as_str(), "work": work.to_string()}) }
}

fn told_volume(volume: &VolumeReport) -> Told {
    let VolumeReport { volume: name, figures, full_reason, text } = volume;
    let full = if full_reason.is_empty() { String::new() } else { format!(", full: {full_reason}") };
    let line = format!(
        "{name}: {text}{full}; {} read, {} changed, {} sent, {:.1} s",
        bytes(figures.read_bytes),
        bytes(figures.changed_bytes),
        bytes(figures.wire_bytes),
        figures.duration_ms as f64 / 1000.0
    );
    let event = json!({
        "event": "volume", "volume": name.as_str(), "point": figures.point, "code": figures.code, "text": text,
        "full_reason": full_reason, "bytes_read": figures.read_bytes, "bytes_changed": figures.changed_bytes,
        "bytes_sent": figures.sent_bytes, "bytes_deduplicated": figures.deduplicated_bytes,
        "bytes_on_wire": figures.wire_bytes, "seconds": figures.duration_ms as f64 / 1000.0,
    });
    Told { text: line, event }
}

/// The exit code of the run is that of the command.
fn outcome(agent: &ClientName, report: Report, tell: &mut dyn FnMut(Told)) -> Result<Outcome> {
    let Some(outcome) = Outcome::from_code(report.code.into()) else {
        return Err(Error::Refused(format!("agent {agent}: {}", report.text)));
    };
    let event = json!({"event": "summary", "agent": agent.as_str(), "code": report.code, "text": report.text});
    tell(Told { text: report.text, event });
    Ok(outcome)
}
