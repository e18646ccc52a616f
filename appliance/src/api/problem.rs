//! What could not be done, as RFC 9457 has it: a status for programs, and a text that says what, where and what to do.

use crate::error::Error;
use axum::response::{IntoResponse, Response};
use hyper::header::CONTENT_TYPE;
use hyper::{Method, StatusCode, Uri};
use serde_json::{Value, json};
use understudy_format::ErrorKind;

/// Of what type a problem is.
pub(crate) const PROBLEM: &str = "application/problem+json";

/// See the module documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    status: StatusCode,
    kind: &'static str,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into() }
    }

    /// The request is not of the form that is said in the document.
    pub(super) fn misunderstood(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "misunderstood", detail)
    }

    /// There is no such thing.
    pub(super) fn unknown(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown", detail)
    }

    /// The body is too long, too slow, or of another type.
    pub(super) fn body(status: StatusCode, detail: impl Into<String>) -> Self {
        Self::new(status, "body", detail)
    }

    /// Nobody who is known asks.
    pub(crate) fn stranger() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "stranger",
            "no certificate of a client was shown: `understudy login` gets one",
        )
    }

    /// The object that is answered.
    pub(crate) fn json(&self) -> Value {
        let Self { status, kind, detail } = self;
        json!({
            "type": format!("urn:understudy:problem:{kind}"), "title": status.canonical_reason(),
            "status": status.as_u16(), "detail": detail,
        })
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (status, kind) = match error.kind() {
            _ if matches!(error, Error::Denied(_)) => (StatusCode::FORBIDDEN, "denied"),
            ErrorKind::Refused => (StatusCode::UNPROCESSABLE_ENTITY, "refused"),
            ErrorKind::Retry => (StatusCode::CONFLICT, "busy"),
            ErrorKind::Full => (StatusCode::INSUFFICIENT_STORAGE, "full"),
            ErrorKind::Closed => (StatusCode::SERVICE_UNAVAILABLE, "closing"),
            ErrorKind::Group => (StatusCode::CONFLICT, "group"),
            ErrorKind::Corrupt => (StatusCode::INTERNAL_SERVER_ERROR, "damaged"),
            ErrorKind::Bug => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
        };
        Self::new(status, kind, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, [(CONTENT_TYPE, PROBLEM)], self.json().to_string()).into_response()
    }
}

/// Nothing is at this path.
pub(super) async fn no_such_path(uri: Uri) -> Problem {
    Problem::unknown(format!("there is nothing at {}; /v1/openapi.json says what there is", uri.path()))
}

/// Something is at this path, but it does not do that.
pub(super) async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{method} is not for {}; /v1/openapi.json says what is", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", detail)
}
