//! Jobs, their runs, and what runs next: what the commands of these names tell, as lists.

use super::context::Context;
use super::input::{InPath, InQuery};
use super::options::{self, Options};
use super::problem::Problem;
use crate::access::Right;
use crate::args::Command;
use crate::jobs::commands;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::atomic::AtomicBool;

/// Which runs are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Next {
    job: Option<String>,
    count: Option<u16>,
}

/// `GET /v1/jobs`.
pub(super) async fn list(State(context): State<Context>) -> Result<Json<Value>, Problem> {
    context.ask(|context| told(context, "jobs", json!({}))).await
}

/// `GET /v1/jobs/{job}/runs`.
pub(super) async fn runs(State(context): State<Context>, InPath(job): InPath<String>) -> Result<Json<Value>, Problem> {
    context.ask(move |context| known(context, &job).and_then(|()| told(context, "jobs", json!({"job": job})))).await
}

/// `GET /v1/jobs/{job}/runs/{run}/log`.
pub(super) async fn log(
    State(context): State<Context>,
    InPath((job, run)): InPath<(String, u64)>,
) -> Result<Json<Value>, Problem> {
    context
        .ask(move |context| {
            known(context, &job)?;
            let Json(logs) = told(context, "jobs", json!({"job": job, "log": run}))?;
            Ok(Json(logs[0].clone()))
        })
        .await
}

/// `GET /v1/next`.
pub(super) async fn next(
    State(context): State<Context>,
    InQuery(Next { job, count }): InQuery<Next>,
) -> Result<Json<Value>, Problem> {
    let mut options = json!({"count": count.unwrap_or(10)});
    context
        .ask(move |context| {
            if let Some(job) = job {
                known(context, &job)?;
                options["job"] = job.into();
            }
            told(context, "next", options)
        })
        .await
}

fn known(context: &Context, job: &str) -> Result<(), Problem> {
    context.may(Right::Read, None)?;
    let known = context.daemon.jobs.look(|scheduler| scheduler.jobs().any(|(known, _)| known.name == job));
    known.then_some(()).ok_or_else(|| Problem::unknown(format!("there is no job {job:?}; /v1/jobs has them all")))
}

/// What a command that only looks tells. Jobs are the pool's, whatever volumes they work on.
fn told(context: &Context, name: &str, options: Value) -> Result<Json<Value>, Problem> {
    context.may(Right::Read, None)?;
    let options: Options = options.as_object().cloned().unwrap_or_default();
    let mut events = Vec::new();
    if let Command::Jobs(args) = options::read(name, &options).map_err(Problem::misunderstood)? {
        let mut tell = |told: crate::upkeep::Told| events.push(told.event);
        commands::run(&context.daemon, &args, &AtomicBool::new(false), &mut tell)?;
    }
    events.retain(|event| event["event"] != "none");
    Ok(Json(events.into()))
}
