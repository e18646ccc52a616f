//! The moments of a volume: times that can be attached, between points too.

use super::context::Context;
use super::input::{InPath, InQuery};
use super::problem::Problem;
use crate::access::Right;
use crate::moments;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use understudy_format::select::Selector;
use understudy_format::text::exact_time;
use understudy_format::wire::Moment;

/// How many are told, unless it is asked for more.
const NEWEST: u32 = 100;

/// Which moments are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Span {
    from: Option<String>,
    to: Option<String>,
    newest: Option<u32>,
}

/// `GET /v1/volumes/{volume}/moments`.
pub(super) async fn list(
    State(context): State<Context>,
    InPath(volume): InPath<String>,
    InQuery(Span { from, to, newest }): InQuery<Span>,
) -> Result<Json<Value>, Problem> {
    context
        .ask(move |context| {
            let entry = context.volume(&volume)?;
            let name = &entry.volume.name;
            context.may(Right::Read, Some(name))?;
            let time = |text: Option<String>, otherwise: i64| text.map_or(Ok(otherwise), |text| time(context, &text));
            let from_ns = time(from, i64::MIN)?;
            let to_ns = time(to, i64::MAX)?;
            let (pool, journals) = (&context.daemon.pool, &context.daemon.journals);
            let all = moments::list(pool, journals, name, (from_ns, to_ns), newest.unwrap_or(NEWEST))?;
            Ok(Json(all.iter().map(moment_json).collect()))
        })
        .await
}

fn time(context: &Context, text: &str) -> Result<i64, Problem> {
    match Selector::parse(text, &context.daemon.zone) {
        Ok(Selector::AtOrBefore(ns, _)) => Ok(ns),
        _ => Err(Problem::misunderstood(format!("{text:?} is no time; expected one such as 2026-11-21T10:00"))),
    }
}

fn moment_json(moment: &Moment) -> Value {
    let Moment { time_ns, sequence, point } = moment;
    json!({"time": exact_time(*time_ns), "entry": sequence, "after_point": point})
}
