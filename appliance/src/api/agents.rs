//! `GET /v1/agents`: which agents there are, what they offer, and what each is doing.

use super::context::Context;
use super::problem::Problem;
use crate::access::Right;
use crate::agents::{AgentInfo, RunInfo};
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use understudy_format::text;

/// All that were here: they are the pool's, so for who may read all of it.
pub(super) async fn list(State(context): State<Context>) -> Result<Json<Value>, Problem> {
    context
        .ask(|context| {
            context.may(Right::Read, None)?;
            Ok(Json(context.daemon.agents.list().iter().map(agent_json).collect()))
        })
        .await
}

/// An agent, as programs are told of it.
pub(super) fn agent_json(agent: &AgentInfo) -> Value {
    let AgentInfo { name, connected, since_ns, software, announcement, runs } = agent;
    let volume = |offer: &understudy_format::agent::Offer| json!({"name": offer.name.as_str(), "size": offer.size, "source": offer.source});
    let names = |names: &[understudy_format::agent::LocalName]| -> Value {
        names.iter().map(|name| Value::from(name.as_str())).collect()
    };
    json!({
        "name": name.as_str(), "connected": connected, "since": text::time(*since_ns), "software": software,
        "volumes": announcement.volumes.iter().map(volume).collect::<Value>(),
        "targets": names(&announcement.targets), "brackets": names(&announcement.brackets),
        "runs": runs.iter().map(run_json).collect::<Value>(),
    })
}

fn run_json(run: &RunInfo) -> Value {
    let progress = run
        .progress
        .iter()
        .map(|(volume, (done, total))| json!({"volume": volume.as_str(), "bytes_done": done, "bytes_total": total}));
    json!({"run": run.run.to_string(), "work": run.work.to_string(), "progress": progress.collect::<Value>()})
}
