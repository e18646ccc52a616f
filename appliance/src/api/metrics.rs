//! `GET /metrics`: for Prometheus.

use super::context::Context;
use super::problem::Problem;
use crate::access::Right;
use crate::metrics::{TEXT, scrape as scraped};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hyper::header::CONTENT_TYPE;

/// All that is measured: of all volumes, so for who may read all of them.
pub(super) async fn scrape(State(context): State<Context>) -> Result<Response, Problem> {
    context
        .ask(|context| {
            context.may(Right::Read, None)?;
            let text = scraped(&context.daemon)?;
            Ok(([(CONTENT_TYPE, TEXT)], text).into_response())
        })
        .await
}
