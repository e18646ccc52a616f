//! The daemon: one pool, a listener for initiators, listeners for NBD, until SIGTERM or SIGINT.
//!
//! Invariants: every port is bound before the first line is printed and before a secondary is touched, so a busy
//! port changes nothing; `ready` is printed when everything can be used; on shutdown nothing new is accepted,
//! NBD drains, overlays are flushed, streams end without a point, secondaries stop between two writes.

use crate::args::Serve;
use crate::control;
use crate::error::{Error, Result, at};
use crate::export::PoolCatalog;
use crate::overlay::Overlays;
use crate::pool::Pool;
use crate::secondary::Secondaries;
use crate::session::{self, Shared};
use jiff::tz::TimeZone;
use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use understudy_net::nbd_server::{self, Listener};

/// Initiators that are connected at the same time.
const SESSIONS_MAX: usize = 256;
/// How long nothing is accepted after that failed: it mostly means that there are no file descriptors left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

struct Listeners {
    sessions: TcpListener,
    nbd: Vec<Listener>,
    nbd_address: Option<SocketAddr>,
}

/// Serves the pool until a signal ends it.
pub fn run(args: &Serve) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(at(&args.pool))?;
    runtime.block_on(serve(args))
}

async fn serve(args: &Serve) -> Result<()> {
    let (mut terminate, mut interrupt) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    let (limits, encryption) = (args.nbd_terms.limits(), args.nbd_terms.encryption()?);
    let pool = Arc::new(crate::open_pool(&args.pool, args.secondary.settings())?);
    let listeners = bind(args).await?;
    let control = control::server::Listener::bind(&pool)?;
    announce(args, &pool, &listeners)?;
    let secondaries = Arc::new(Secondaries::new(pool.clone()));
    secondaries.kick_all();
    let overlays = Arc::new(Overlays::new(pool.clone()));
    let (stop, stopped) = watch::channel(false);
    let nbd = listeners.nbd_address.map_or(String::new(), |address| address.to_string());
    let shared = Arc::new(Shared {
        pool: pool.clone(),
        secondaries: secondaries.clone(),
        overlays: overlays.clone(),
        nbd,
        running: session::Running::default(),
    });
    let mut tasks = JoinSet::new();
    let (held, written) = (secondaries.clone(), overlays.clone());
    let catalog = Arc::new(PoolCatalog::new(pool.clone(), held, written, TimeZone::system()));
    let ended = until(stopped.clone());
    tasks.spawn(async move {
        if let Err(error) = nbd_server::serve(listeners.nbd, catalog, limits, encryption, ended).await {
            tracing::error!(%error, "the NBD server ended");
        }
    });
    tasks.spawn(control.serve(pool.clone(), secondaries.clone(), until(stopped.clone())));
    tasks.spawn(accept(listeners.sessions, shared, until(stopped)));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("shutting down");
    stop.send_replace(true);
    while tasks.join_next().await.is_some() {}
    let stopping = tokio::task::spawn_blocking(move || {
        overlays.flush_all();
        secondaries.stop();
    });
    let _ = stopping.await;
    if let Some(path) = &args.nbd_socket {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

fn on(kind: SignalKind) -> Result<tokio::signal::unix::Signal> {
    signal(kind).map_err(|e| Error::Broken(format!("signals: {e}")))
}

async fn until(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Accepts initiators; sessions that run when the daemon stops are cut.
async fn accept(listener: TcpListener, shared: Arc<Shared>, stopped: impl Future<Output = ()>) {
    let mut stopped = std::pin::pin!(stopped);
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = &mut stopped => break,
            Some(_) = sessions.join_next() => {}
            accepted = listener.accept(), if sessions.len() < SESSIONS_MAX => match accepted {
                Ok((stream, peer)) => {
                    let shared = shared.clone();
                    sessions.spawn(async move {
                        if let Err(error) = session::serve(shared, stream).await {
                            tracing::warn!(%peer, %error, "a session failed");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            },
        }
    }
    sessions.shutdown().await;
}

async fn bind(args: &Serve) -> Result<Listeners> {
    let busy = |what: &str, address: &str, error: std::io::Error| {
        Error::Refused(format!(
            "cannot listen on {address} for {what}: {error}; stop what uses it or name another address"
        ))
    };
    let address = resolve(&args.listen)?;
    let sessions = TcpListener::bind(address).await.map_err(|e| busy("initiators", &args.listen, e))?;
    let tcp = Listener::bind_tcp(resolve(&args.nbd)?).await.map_err(|e| busy("NBD", &args.nbd, e))?;
    let nbd_address = tcp.tcp_address();
    let mut nbd = vec![tcp];
    if let Some(path) = &args.nbd_socket {
        nbd.push(bind_unix(path).map_err(|e| busy("NBD", &path.display().to_string(), e))?);
    }
    Ok(Listeners { sessions, nbd, nbd_address })
}

/// A socket that nobody listens on any more is left over from a daemon that was killed.
fn bind_unix(path: &Path) -> std::io::Result<Listener> {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    Listener::bind_unix(path)
}

fn resolve(address: &str) -> Result<SocketAddr> {
    let refused = |reason: String| Error::Refused(format!("{address:?} is no address: {reason}; expected HOST:PORT"));
    let mut found = address.to_socket_addrs().map_err(|e| refused(e.to_string()))?;
    found.next().ok_or_else(|| refused("no such host".into()))
}

fn announce(args: &Serve, pool: &Pool, listeners: &Listeners) -> Result<()> {
    let mut lines = vec![format!("pool {} {}", args.pool.display(), pool.uuid())];
    let sessions = listeners.sessions.local_addr().map_err(at(&args.pool))?;
    lines.push(format!("listening {sessions}"));
    lines.extend(listeners.nbd_address.map(|address| format!("nbd {address}")));
    lines.extend(args.nbd_socket.as_ref().map(|path| format!("nbd unix:{}", path.display())));
    lines.push("ready\n".into());
    let mut out = std::io::stdout().lock();
    // Whoever started the daemon may have closed its output: no reason not to serve.
    let _ = out.write_all(lines.join("\n").as_bytes()).and_then(|()| out.flush());
    Ok(())
}
