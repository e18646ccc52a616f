//! `GET /v1/events`: what happens in the daemon, as it happens.

use super::commands::{ALIVE, TOLD, told_json};
use super::context::Context;
use crate::access::Right;
use crate::events::Happening;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// What a client that was too slow is told: how many events it `missed`.
const MISSED: &str = "missed";

struct Listening {
    context: Context,
    happenings: Receiver<Arc<Happening>>,
}

/// Sends what happens until the client leaves or the daemon ends.
pub(super) async fn listen(State(context): State<Context>) -> Response {
    let listening = Listening { happenings: context.daemon.events.listen(), context };
    let events = stream::unfold(listening, |mut listening| async {
        let event = listening.next().await?;
        Some((Ok::<_, Infallible>(event), listening))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)).into_response()
}

impl Listening {
    async fn next(&mut self) -> Option<Event> {
        loop {
            let happened = tokio::select! {
                () = self.context.works.stopping() => return None,
                happened = self.happenings.recv() => happened,
            };
            match happened {
                Ok(happening) if self.may_hear(&happening) => return Some(event(&happening)),
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => {
                    return Some(Event::default().event(MISSED).data(json!({"missed": missed}).to_string()));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// What is about a volume is for who sees it, all else for who sees everything.
    fn may_hear(&self, happening: &Happening) -> bool {
        match happening.told.event["volume"].as_str().map(str::parse) {
            Some(Ok(volume)) => self.context.sees(&volume),
            _ => self.context.has_all(Right::Read),
        }
    }
}

fn event(happening: &Happening) -> Event {
    let mut json = told_json(&happening.told);
    json["about"] = happening.about.clone().into();
    Event::default().event(TOLD).data(json.to_string())
}
