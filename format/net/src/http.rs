//! Asking the appliance's API: HTTP/1.1 over any connection, a unix socket, TCP or TLS.
//!
//! Invariants: one request at a time on a connection; an answer takes no more memory than [`ANSWER_MAX`], and one that streams is taken
//! event by event ([`events`]) as it comes; a peer that says nothing for [`SILENT_MAX`] is given up; a connection that is dropped is closed,
//! which is how what was asked for is stopped. What is in a body is the caller's business.

mod events;
#[cfg(test)]
mod tests;

pub use events::{EVENT_MAX, ServerEvent};

use bytes::Bytes;
use events::Lines;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::collections::VecDeque;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Most bytes of an answer that is taken as a whole.
pub const ANSWER_MAX: usize = 64 << 20;
/// How long nothing may come while something is expected; the appliance says more often that it is still there.
pub const SILENT_MAX: Duration = Duration::from_secs(60);
/// What a stream of events is called.
pub const EVENT_STREAM: &str = "text/event-stream";

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The connection failed, or what came is no HTTP.
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    /// The request cannot be made.
    #[error("no HTTP request: {0}")]
    Request(#[from] hyper::http::Error),
    /// The answer is too long.
    #[error("the answer has more than {max} bytes")]
    TooLong {
        /// How much is taken.
        max: usize,
    },
    /// The peer says nothing.
    #[error("nothing was answered for {} s", SILENT_MAX.as_secs())]
    Silent,
}

/// The result of asking.
pub type Result<T, E = HttpError> = std::result::Result<T, E>;

/// A connection on which requests are made, one after another.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    /// What moves the bytes; it ends with this.
    _driver: JoinSet<()>,
}

/// An answer whose body is still to be taken.
#[derive(Debug)]
pub struct Answer {
    /// How it went.
    pub status: StatusCode,
    body: Incoming,
}

impl Connection {
    /// Makes requests of `host` over a connection that is open.
    pub async fn new(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, host: &str) -> Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await?;
        let mut driver = JoinSet::new();
        // Whoever makes the request hears of its failure.
        driver.spawn(async move { drop(connection.await) });
        Ok(Self { sender, host: host.to_owned(), _driver: driver })
    }

    /// Asks for what is at `path`.
    pub async fn get(&mut self, path: &str) -> Result<Answer> {
        self.request(Method::GET, path, "application/json", None).await
    }

    /// Asks for the events at `path`.
    pub async fn subscribe(&mut self, path: &str) -> Result<Answer> {
        self.request(Method::GET, path, EVENT_STREAM, None).await
    }

    /// Has something done, told event by event; `json` is what to do it with.
    pub async fn post(&mut self, path: &str, json: String) -> Result<Answer> {
        self.request(Method::POST, path, EVENT_STREAM, Some(json)).await
    }

    async fn request(&mut self, method: Method, path: &str, accept: &str, json: Option<String>) -> Result<Answer> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, &self.host).header(ACCEPT, accept);
        if json.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::from(json.unwrap_or_default()))?;
        self.sender.ready().await?;
        let response: Response<Incoming> = heard(self.sender.send_request(request)).await??;
        let (head, body) = response.into_parts();
        Ok(Answer { status: head.status, body })
    }
}

impl Answer {
    /// All of it.
    pub async fn bytes(mut self) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(piece) = next(&mut self.body).await? {
            if all.len() + piece.len() > ANSWER_MAX {
                return Err(HttpError::TooLong { max: ANSWER_MAX });
            }
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    /// Its events, one by one.
    pub fn events(self) -> Events {
        Events { body: self.body, lines: Lines::default(), ready: VecDeque::new() }
    }
}

/// The events of an answer.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    lines: Lines,
    ready: VecDeque<ServerEvent>,
}

impl Events {
    /// The next one; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<ServerEvent>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let Some(piece) = next(&mut self.body).await? else { return Ok(None) };
            self.ready.extend(self.lines.take(&piece)?);
        }
    }
}

/// The next bytes of a body.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>> {
    while let Some(frame) = heard(body.frame()).await? {
        if let Ok(piece) = frame?.into_data() {
            return Ok(Some(piece));
        }
    }
    Ok(None)
}

async fn heard<T>(something: impl Future<Output = T>) -> Result<T> {
    timeout(SILENT_MAX, something).await.map_err(|_| HttpError::Silent)
}
