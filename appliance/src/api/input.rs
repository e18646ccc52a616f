//! What a request says: parts of its path, its query, its body; read strictly, and refused as a [`Problem`].
//!
//! Invariants: a body has at most [`BODY_MAX`] bytes comes within [`BODY_TIME_MAX`], and is taken whoever is to answer; nothing is passed over that is not known.

use super::problem::Problem;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{CONNECTION, CONTENT_TYPE};
use hyper::http::request::Parts;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Most bytes of a body.
const BODY_MAX: usize = 64 << 10;
/// How long a client may take for a body.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// Takes the whole body of a request before anything is answered: bytes that nobody takes would end the connection under the next request.
pub(super) async fn take(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let taken = tokio::time::timeout(BODY_TIME_MAX, axum::body::to_bytes(body, BODY_MAX)).await;
    let late = |_| Problem::body(StatusCode::REQUEST_TIMEOUT, "the body did not come in time");
    let long = |error| {
        let reason = format!("the body has more than {BODY_MAX} bytes, or was cut: {error}");
        Problem::body(StatusCode::PAYLOAD_TOO_LARGE, reason)
    };
    match taken.map_err(late).and_then(|taken| taken.map_err(long)) {
        Ok(body) => next.run(Request::from_parts(parts, body.into())).await,
        Err(problem) => ([(CONNECTION, "close")], problem).into_response(),
    }
}

/// The parts of the path.
pub(super) struct InPath<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::from_request_parts(parts, state).await;
        path.map(|Path(path)| Self(path)).map_err(|rejection| Problem::misunderstood(rejection.body_text()))
    }
}

/// The query.
pub(super) struct InQuery<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for InQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::from_request_parts(parts, state).await;
        query.map(|Query(query)| Self(query)).map_err(|rejection| Problem::misunderstood(rejection.body_text()))
    }
}

/// The body, which is JSON; nothing at all is an empty object.
pub(super) struct InBody<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for InBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let is_json =
            request.headers().get(CONTENT_TYPE).is_none_or(|kind| kind.as_bytes().starts_with(b"application/json"));
        if !is_json {
            let reason = "the body is not application/json";
            return Err(Problem::body(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason));
        }
        // It is here already, as a whole: [`take`].
        let body = axum::body::to_bytes(request.into_body(), BODY_MAX).await;
        let body = body.map_err(|error| Problem::misunderstood(format!("the body: {error}")))?;
        let body = if body.is_empty() { b"{}".as_slice() } else { &body };
        serde_json::from_slice(body).map(Self).map_err(|error| Problem::misunderstood(format!("the body: {error}")))
    }
}
