//! `GET /v1/status`: the whole on one screen, and what somebody should look after.
//!
//! Invariant: a warning is of level `warning` (look after it soon) or `critical` (what was promised is not kept), and names what it is about.

use super::agents::agent_json;
use super::context::Context;
use super::problem::Problem;
use super::volumes::volume_json;
use crate::access::Right;
use crate::clock;
use crate::error::Result;
use crate::failover;
use crate::jobs::scheduler::{Lag, lag, nanoseconds, time};
use crate::pool::{Figures, VolumeEntry};
use axum::Json;
use axum::extract::State;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;
use understudy_format::follow::Role;
use understudy_format::history::JobHistory;
use understudy_format::text;

/// Below this part of the disk free, soon nothing can be stored; ...
const FREE_WARNING: f64 = 0.15;
/// ... and below this, the reserve is near.
const FREE_CRITICAL: f64 = 0.05;

/// As far as whoever asks may see it: jobs, agents and the pool are for who may read all of it.
pub(super) async fn answer(State(context): State<Context>) -> Result<Json<Value>, Problem> {
    context.ask(|context| Ok(Json(status(context)?))).await
}

fn status(context: &Context) -> Result<Value> {
    let (daemon, now) = (&context.daemon, clock::now_ns());
    let all = daemon.pool.volumes();
    let volumes: Vec<_> = all.into_iter().filter(|entry| context.sees(&entry.volume.name)).collect();
    let mut warnings = Warnings::default();
    let mut status = json!({
        "time": text::time(now), "version": env!("CARGO_PKG_VERSION"), "pool": daemon.pool.uuid().to_string(),
        "nbd": daemon.nbd.address,
        "volumes": volumes.iter().map(|entry| volume(context, entry, now, &mut warnings)).collect::<Result<Value>>()?,
    });
    if context.has_all(Right::Read) {
        whole(context, &mut status, &mut warnings)?;
    }
    status["warnings"] = warnings.0.into();
    Ok(status)
}

/// What is about no volume in particular.
fn whole(context: &Context, status: &mut Value, warnings: &mut Warnings) -> Result<()> {
    let daemon = &context.daemon;
    let (figures, disk) = (daemon.pool.figures()?, crate::disk_size(daemon.pool.dir()));
    warnings.space(&figures, disk);
    status["space"] = json!({
        "disk_bytes": disk, "free_bytes": figures.free_bytes, "used_bytes": figures.used_bytes,
        "reclaimable_bytes": daemon.counters.reclaimable(),
    });
    status["damaged_records"] = figures.damaged_records.into();
    status["sessions"] = daemon.counters.sessions().into();
    status["nbd_clients"] = daemon.pool.uses(crate::export::USE).into();
    let agents = daemon.agents.list();
    for agent in agents.iter().filter(|agent| !agent.connected) {
        let since = text::time(agent.since_ns);
        warnings.add("warning", "agent", agent.name.as_str(), format!("not connected since {since}"));
    }
    status["agents"] = agents.iter().map(agent_json).collect();
    let at = time(clock::now_ns());
    status["jobs"] = daemon.jobs.look(|scheduler| {
        let next = |job: &str| scheduler.next(job, at).next().map(|due| text::time(nanoseconds(due.starts)));
        let jobs = scheduler.jobs();
        jobs.map(|(job, history)| {
            warnings.job(history);
            warnings.no_point(lag(job, history, &|volume| daemon.newest_point(volume)), job.rpo, at);
            json!({
                "job": job.name, "run": job.task.to_string(), "next": next(&job.name),
                "running": scheduler.running(&job.name).is_some(),
                "last": history.runs.last().map(|run| text::time(run.started_ns)),
                "last_success": (history.record.success_ns != 0).then(|| text::time(history.record.success_ns)),
                "volumes": job.volumes().iter().map(|volume| Value::from(volume.as_str())).collect::<Value>(),
            })
        })
        .collect()
    });
    Ok(())
}

/// A volume with its lag, what it may be, and when it is replicated next.
fn volume(context: &Context, entry: &Arc<VolumeEntry>, now: i64, warnings: &mut Warnings) -> Result<Value> {
    let mut told = volume_json(context, entry)?;
    let name = &entry.volume.name;
    let lag = entry.newest().map(|point| now.saturating_sub(point.created_ns) / 1_000_000_000);
    let (target, next) = context.daemon.jobs.look(|scheduler| {
        let of = || scheduler.jobs().filter(|(job, _)| job.replicates(name));
        let target = of().filter_map(|(job, _)| job.rpo).min().map(|rpo| rpo.as_secs());
        (target, of().filter_map(|(job, _)| scheduler.next(&job.name, time(now)).next()).map(|due| due.starts).min())
    });
    told["lag_seconds"] = lag.into();
    told["rpo_seconds"] = target.into();
    told["next"] = next.map(|at| text::time(nanoseconds(at))).into();
    let state = context.daemon.journals.state(name);
    told["generation"] = state.generation.into();
    told["promoted"] = (state.role != Role::Following).into();
    if let Some(text) = failover::describe(&state) {
        warnings.add("warning", "volume", name.as_str(), text);
    }
    if let Some((lag, target)) = lag.zip(target).filter(|(lag, target)| lag > target) {
        warnings.add("critical", "volume", name.as_str(), format!("fell behind: {lag} s old, {target} s allowed"));
    }
    Ok(told)
}

#[derive(Debug, Default)]
struct Warnings(Vec<Value>);

impl Warnings {
    fn add(&mut self, level: &str, about: &str, name: &str, text: String) {
        self.0.push(json!({"level": level, "about": about, "name": name, "text": text}));
    }

    fn space(&mut self, figures: &Figures, disk: u64) {
        let free = figures.free_bytes as f64 / disk.max(1) as f64;
        let text = format!("{} free of {}", text::bytes(figures.free_bytes), text::bytes(disk));
        match free {
            free if free < FREE_CRITICAL => self.add("critical", "pool", "space", text),
            free if free < FREE_WARNING => self.add("warning", "pool", "space", text),
            _ => {}
        }
        if figures.damaged_records > 0 {
            let text =
                format!("{} blocks or map pages are damaged; `understudyd scrub` tells more", figures.damaged_records);
            self.add("critical", "pool", "damage", text);
        }
    }

    /// A volume that has points tells itself how old they are.
    fn no_point(&mut self, lag: Option<Lag>, rpo: Option<SignedDuration>, now: Timestamp) {
        let since = |lag: &Lag| now.duration_since(lag.since);
        let behind = lag.zip(rpo).filter(|(lag, rpo)| !lag.has_point && since(lag) > *rpo);
        if let Some((lag, rpo)) = behind {
            let text = format!("has no point for {} s, {} s allowed", since(&lag).as_secs(), rpo.as_secs());
            self.add("critical", "volume", lag.volume.as_str(), text);
        }
    }

    fn job(&mut self, history: &JobHistory) {
        let ended = history.runs.iter().rev().find_map(|run| Some((run, run.ended?.1)));
        if let Some((run, ended)) = ended.filter(|(_, ended)| !ended.is_good()) {
            let how = crate::jobs::commands::how(ended);
            let last = run.detail.lines().next_back().unwrap_or_default();
            self.add("critical", "job", &history.name, format!("{how}: {last}"));
        }
    }
}
