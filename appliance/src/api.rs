//! The API: what can be asked of the daemon, and done by it, over HTTP.
//!
//! The way of a request: a connection, from the unix socket of [`crate::control`] or from the main port, comes here with whom it is of
//! ([`context`]) -> a route -> what it asks for, read strictly ([`input`]) -> an answer, or a [`problem`]. What changes something is one of
//! [`commands`], told event by event; [`options`] makes an object of the options that people type, and back. What is accepted and answered is
//! said in [`document`], which tests hold against the routes and against what comes.
//!
//! Invariants: no route is without a look at who asks; heads, bodies and waiting for them have limits; pools and disks are waited for on
//! threads of their own; who leaves stops what it asked for, and so does the end of the daemon.

mod agents;
mod commands;
mod context;
mod document;
mod events;
mod input;
mod jobs;
mod metrics;
mod moments;
pub mod options;
mod overlays;
mod problem;
mod status;
mod volumes;

use crate::access::Peer;
use crate::daemon::Daemon;
use axum::Router;
use axum::routing::{MethodRouter, delete, get, post};
pub use commands::{ENDED, FAILED, TOLD};
use context::{Context, Works};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
pub(crate) use problem::{PROBLEM, Problem};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// How long a client may take for the head of a request, also between two of them.
const HEAD_TIME_MAX: Duration = Duration::from_secs(30);
/// Most bytes of a head.
const HEAD_MAX: usize = 32 << 10;
/// How long a client may take to read the end of its answer when the daemon ends.
const GRACE: Duration = Duration::from_secs(2);

/// What can be asked for: the method, the path, and what answers.
type Route = (&'static str, &'static str, MethodRouter<Context>);

fn routes() -> Vec<Route> {
    vec![
        ("get", "/v1/openapi.json", get(document::answer)),
        ("get", "/v1/volumes", get(volumes::list)),
        ("get", "/v1/volumes/{volume}", get(volumes::one)),
        ("get", "/v1/volumes/{volume}/points", get(volumes::points)),
        ("get", "/v1/volumes/{volume}/points/{point}", get(volumes::point)),
        ("get", "/v1/volumes/{volume}/points/{point}/attach", get(volumes::attach)),
        ("get", "/v1/volumes/{volume}/moments", get(moments::list)),
        ("get", "/v1/overlays", get(overlays::list)),
        ("post", "/v1/overlays/{volume}/{point}/keep", post(overlays::keep)),
        ("delete", "/v1/overlays/{volume}/{point}", delete(overlays::discard)),
        ("get", "/v1/jobs", get(jobs::list)),
        ("get", "/v1/jobs/{job}/runs", get(jobs::runs)),
        ("get", "/v1/jobs/{job}/runs/{run}/log", get(jobs::log)),
        ("get", "/v1/next", get(jobs::next)),
        ("get", "/v1/agents", get(agents::list)),
        ("get", "/v1/status", get(status::answer)),
        ("get", "/metrics", get(metrics::scrape)),
        ("get", "/v1/events", get(events::listen)),
        ("post", "/v1/commands/{command}", post(commands::carry_out)),
    ]
}

fn router(context: Context) -> Router {
    let routed = routes().into_iter().fold(Router::new(), |router, (_, path, answers)| router.route(path, answers));
    let routed = routed.fallback(problem::no_such_path).method_not_allowed_fallback(problem::no_such_method);
    routed.layer(axum::middleware::from_fn(input::take)).with_state(context)
}

/// Answers the requests of a connection until it ends, or `stopped`; what it asked for has ended when this returns.
pub async fn serve(
    daemon: Arc<Daemon>,
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    stopped: impl Future<Output = ()>,
) {
    let (works, mut under_way) = Works::new();
    converse(io, router(Context { daemon, peer, works: works.clone() }), &works, stopped).await;
    drop(works);
    under_way.ended().await;
}

async fn converse(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    works: &Works,
    stopped: impl Future<Output = ()>,
) {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX).max_buf_size(HEAD_MAX);
    let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(io), TowerToHyperService::new(router)));
    let served = tokio::select! {
        served = &mut connection => served,
        () = stopped => {
            works.stop();
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(GRACE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of the API ended");
    }
}

#[cfg(test)]
mod tests;
