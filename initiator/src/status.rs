//! `understudy status`: how the appliance is, on one screen or in one line for monitoring.
//!
//! The way of it: `GET /v1/status` of the appliance -> a screen ([`screen`]), a line with an exit code ([`check`]), or the answer as it
//! is. Invariants: what is worth a warning is decided at the appliance, so everybody is told the same; a check that learns nothing is
//! unknown, never well.

mod check;
mod screen;

use crate::args::Status;
use crate::connection;
use crate::list::print;
use crate::outcome::Outcome;
use crate::text::one_line;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;
use understudy_net::http::Connection;

const PATH: &str = "/v1/status";

/// Shows it.
pub async fn run(args: &Status) -> Result<Outcome> {
    if args.check {
        return checked(ask(args).await);
    }
    loop {
        let status = ask(args).await?;
        let shown = if args.json { status.to_string() } else { screen::of(&status) };
        let Some(seconds) = args.watch else { return print(&shown) };
        // From the top of an empty screen.
        print(&if args.json { shown } else { format!("\x1b[H\x1b[2J{shown}") })?;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

fn checked(status: Result<Value>) -> Result<Outcome> {
    let (code, line) = match status {
        Ok(status) => check::of(&status),
        Err(error) => (check::UNKNOWN, format!("UNDERSTUDY UNKNOWN - {}", one_line(&error))),
    };
    print(&line)?;
    Ok(Outcome::Checked(code))
}

async fn ask(args: &Status) -> Result<Value> {
    let (mut connection, place) = match &args.socket {
        Some(path) => (local(path).await?, path.display().to_string()),
        None => (connection::api(&args.appliance).await?, args.appliance.address.clone()),
    };
    let answer = connection.get(PATH).await.with_context(|| format!("appliance {place}"))?;
    let status = answer.status;
    let bytes = answer.bytes().await.with_context(|| format!("appliance {place}"))?;
    let json: Value = serde_json::from_slice(&bytes).with_context(|| format!("the answer of {place} is no JSON"))?;
    match status.is_success() {
        true => Ok(json),
        false => bail!("appliance {place}: {}", json["detail"].as_str().unwrap_or(status.as_str())),
    }
}

async fn local(path: &Path) -> Result<Connection> {
    let unreachable =
        || format!("{}: cannot connect; expected the socket `control` of a pool that is served", path.display());
    let stream = UnixStream::connect(path).await.with_context(unreachable)?;
    Ok(Connection::new(stream, "pool").await?)
}
