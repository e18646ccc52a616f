//! The daemon's end: each connection is one request, carried out on a thread of its own.

use super::{Address, REQUEST_MAX, SOCKET};
use crate::args::{Cli, Command};
use crate::daemon::Daemon;
use crate::error::{Error, Result, at};
use crate::jobs;
use crate::pool::Pool;
use crate::upkeep::Told;
use clap::Parser;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Lines that wait for the client.
const QUEUE: usize = 64;

/// The socket, open for requests.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    address: Address,
}

impl Listener {
    /// Opens the socket; one that is left over from a daemon that was killed is in nobody's use, for the pool is ours.
    pub fn bind(pool: &Pool) -> Result<Self> {
        let address = Address::of(pool.dir())?;
        let shown = pool.dir().join(SOCKET);
        let _ = std::fs::remove_file(&address.path);
        let listener = UnixListener::bind(&address.path).map_err(at(&shown))?;
        std::fs::set_permissions(&address.path, std::fs::Permissions::from_mode(0o600)).map_err(at(&shown))?;
        Ok(Self { listener, address })
    }

    /// Carries out requests until `stopped`; those that are under way are stopped then.
    pub async fn serve(self, daemon: Arc<Daemon>, stopped: impl Future<Output = ()>) {
        let mut stopped = std::pin::pin!(stopped);
        let closing = Arc::new(tokio::sync::Notify::new());
        let mut requests = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = &mut stopped => break,
                Some(_) = requests.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let (daemon, closing) = (daemon.clone(), closing.clone());
                        requests.spawn(async move { answer(stream, daemon, &closing).await });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a request for upkeep could not be accepted");
                        tokio::task::yield_now().await;
                    }
                },
            }
        }
        let _ = std::fs::remove_file(&self.address.path);
        while !requests.is_empty() {
            closing.notify_waiters();
            let _ = tokio::time::timeout(std::time::Duration::from_millis(100), requests.join_next()).await;
        }
    }
}

/// Carries out the one request of a connection.
async fn answer(stream: UnixStream, daemon: Arc<Daemon>, closing: &tokio::sync::Notify) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read.take(REQUEST_MAX));
    let mut line = String::new();
    if read.read_line(&mut line).await.is_err() {
        return;
    }
    let (tell, mut told) = mpsc::channel::<Value>(QUEUE);
    let stop = Arc::new(AtomicBool::new(false));
    let own = stop.clone();
    let work = tokio::task::spawn_blocking(move || carry_out(&line, &daemon, &own, &tell));
    let (mut rest, mut listening) = ([0; 16], true);
    loop {
        tokio::select! {
            biased;
            () = closing.notified() => stop.store(true, Ordering::SeqCst),
            message = told.recv() => match message {
                Some(message) => {
                    listening = listening && pass(&mut write, &message, closing).await;
                    stop.fetch_or(!listening, Ordering::SeqCst);
                }
                None => break,
            },
            // The client has nothing more to say: when this ends, it has left.
            _ = read.read(&mut rest), if !stop.load(Ordering::SeqCst) => stop.store(true, Ordering::SeqCst),
        }
    }
    let _ = work.await;
}

/// Sends a line; whether it was taken. A client that does not read must not keep the daemon from ending.
async fn pass(write: &mut OwnedWriteHalf, message: &Value, closing: &tokio::sync::Notify) -> bool {
    let line = format!("{message}\n");
    tokio::select! {
        biased;
        () = closing.notified() => false,
        written = write.write_all(line.as_bytes()) => written.is_ok(),
    }
}

fn carry_out(line: &str, daemon: &Daemon, stop: &AtomicBool, tell: &mpsc::Sender<Value>) {
    // Nobody may listen any more: then the stop flag is set.
    let send = |message: Value| drop(tell.blocking_send(message));
    let mut told = |told: Told| send(json!({"text": told.text, "event": told.event}));
    let result = match parse(line) {
        Ok(Command::Upkeep(args)) => daemon.check(&args).and_then(|()| daemon.upkeep(&args, stop, &mut told)),
        Ok(Command::Jobs(args)) => jobs::commands::run(daemon, &args, stop, &mut told),
        Ok(_) => Err(refused("it is not for a running daemon")),
        Err(error) => Err(error),
    };
    match result {
        Ok(outcome) => send(json!({"done": outcome.code()})),
        Err(error) => send(json!({"error": error.to_string()})),
    }
}

fn refused(reason: impl std::fmt::Display) -> Error {
    Error::Refused(format!("the request is not understood: {reason}"))
}

fn parse(line: &str) -> Result<Command> {
    let words: Vec<String> = serde_json::from_str(line).map_err(refused)?;
    let words = ["understudyd".to_owned()].into_iter().chain(words);
    Ok(Cli::try_parse_from(words).map_err(refused)?.command)
}
