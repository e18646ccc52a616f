//! The daemon: one pool, a listener for initiators, listeners for NBD, jobs, until SIGTERM or SIGINT.
//!
//! Invariants: every port is bound before the first line is printed and before a secondary is touched, so a busy
//! port changes nothing; `ready` is printed when everything can be used; on shutdown nothing new is accepted,
//! NBD drains, overlays are flushed, streams end without a point, secondaries stop between two writes. SIGHUP touches no connection.

use crate::access::{Access, Admission};
use crate::args::{NewSecondary, Serve};
use crate::config::{self, Config, Fixed};
use crate::control;
use crate::daemon::{self, Daemon, InForce, NbdPlace};
use crate::error::{Error, Result, at};
use crate::export::PoolCatalog;
use crate::fold;
use crate::front::Front;
use crate::jobs::driver;
use crate::overlay::Overlays;
use crate::pool::Pool;
use crate::secondary::Secondaries;
use crate::session::{Running, Shared};
use crate::systemd;
use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use understudy_config::log::{self, Logs};
use understudy_net::nbd_server::{self, Encryption, Listener};
use understudy_net::tls::{HTTP_PROTOCOL, SESSION_PROTOCOL};

/// How often another key and certificate are made.
const RENEW_EVERY: Duration = Duration::from_secs(24 * 3600);

struct Listeners {
    sessions: TcpListener,
    nbd: Vec<Listener>,
    nbd_address: Option<SocketAddr>,
}

/// Serves the pool until a signal ends it.
pub fn run(args: &Serve) -> Result<()> {
    let config = args.config.as_deref().map_or(Ok(Config::default()), config::read)?;
    let fixed = Fixed::of(args, &config.fixed)?;
    let logs = log::init(fixed.log_format, config.log_level.as_deref());
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(at(&fixed.pool))?;
    runtime.block_on(serve(args, config, &fixed, &logs))
}

async fn serve(args: &Serve, config: Config, fixed: &Fixed, logs: &Logs) -> Result<()> {
    let mut signals = Signals::new()?;
    let foreign = fixed.nbd_is_foreign().then(|| fixed.nbd_terms.encryption()).transpose()?;
    check_reach(fixed, foreign.as_ref())?;
    let config: InForce = Arc::new(RwLock::new(Arc::new(config)));
    let secondary = args.secondary.unwrap_or(NewSecondary::Native).settings().secondary;
    let pool = Arc::new(crate::open_pool(&fixed.pool, daemon::new_volumes(&config, secondary))?);
    let listeners = bind(fixed).await?;
    let control = control::server::Listener::bind(&pool)?;
    let secondaries = Arc::new(Secondaries::new(pool.clone()));
    let overlays = Arc::new(Overlays::new(pool.clone()));
    let access = Arc::new(Access::open(pool.clone(), fixed.append_only)?);
    let doors = Doors::open(fixed, &access, &listeners, foreign)?;
    let address = listeners.nbd_address.map_or(String::new(), |address| address.to_string());
    let nbd = NbdPlace { address, encrypted: !matches!(doors.nbd, Encryption::Off) };
    let (zone, open) = (fixed.zone.clone(), overlays.clone());
    let daemon = Arc::new(Daemon::new(pool.clone(), secondaries.clone(), open, access, nbd, zone, config)?);
    announce(fixed, &pool, &listeners)?;
    secondaries.kick_all();
    let (stop, stopped) = watch::channel(false);
    let mut tasks = start(&daemon, fixed, listeners, doors, control, &stopped);
    systemd::ready();
    while signals.next_is_to_read_again().await {
        systemd::reloading();
        tokio::task::block_in_place(|| daemon.reload(args.config.as_deref(), args, fixed, logs));
        systemd::ready();
    }
    tracing::info!("shutting down");
    systemd::stopping();
    stop.send_replace(true);
    daemon.agents.close();
    while tasks.join_next().await.is_some() {}
    let stopping = tokio::task::spawn_blocking(move || {
        overlays.flush_all();
        secondaries.stop();
    });
    let _ = stopping.await;
    if let Some(path) = &fixed.nbd_socket {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// On what terms connections are taken.
struct Doors {
    /// All sessions and HTTP through this; `None` without access control.
    sessions: Option<TlsAcceptor>,
    nbd: Encryption,
    /// Whether who comes by NBD shows a certificate of ours.
    nbd_is_ours: bool,
}

impl Doors {
    /// With the certificates of the pool's own authority, but for NBD, where `foreign` ones may come first.
    fn open(fixed: &Fixed, access: &Arc<Access>, listeners: &Listeners, foreign: Option<Encryption>) -> Result<Self> {
        let nbd_is_ours = foreign.is_none();
        if !fixed.tls {
            return Ok(Self { sessions: None, nbd: foreign.unwrap_or_default(), nbd_is_ours });
        }
        access.open_doors(names(fixed, listeners))?;
        let sessions = access.tls(Admission::Anybody, &[SESSION_PROTOCOL, HTTP_PROTOCOL])?;
        let own = access.tls(Admission::Clients, &[])?;
        let nbd = foreign.unwrap_or_else(|| fixed.nbd_terms.controlled(own));
        Ok(Self { sessions: Some(sessions.into()), nbd, nbd_is_ours })
    }
}

/// Refuses to be reached from other hosts by whoever wants to.
fn check_reach(fixed: &Fixed, foreign: Option<&Encryption>) -> Result<()> {
    let refused = |key: &str, value: &str, what_to_do: &str| {
        Err(Error::refused(format!(
            "{key} {value} can be reached from other hosts, and nobody would have to say who he is: {what_to_do}, or listen on 127.0.0.1"
        )))
    };
    if !fixed.tls && !resolve(&fixed.listen)?.ip().is_loopback() {
        return refused("listen", &fixed.listen, "add `tls: on` to the configuration (or --tls on) and enrol clients");
    }
    let is_open = !resolve(&fixed.nbd)?.ip().is_loopback();
    if fixed.tls || is_open {
        fixed.nbd_terms.check_authority()?;
    }
    match foreign {
        Some(Encryption::Off | Encryption::On(_)) if is_open => {
            refused("nbd", &fixed.nbd, "add `tls: on`, or `nbd-tls: require` with certificates of your own")
        }
        _ => Ok(()),
    }
}

/// By which other programs may reach this host: for them the name in a certificate must be the one that they connect to.
fn names(fixed: &Fixed, listeners: &Listeners) -> Vec<String> {
    let here = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let host = rustix::system::uname().nodename().to_str().ok().filter(|name| !name.is_empty()).map(str::to_owned);
    let bound = [listeners.sessions.local_addr().ok(), listeners.nbd_address];
    let bound = bound.into_iter().flatten().map(|address| address.ip()).filter(|ip| !ip.is_unspecified());
    let all = here.into_iter().chain(host).chain(bound.map(|ip| ip.to_string())).chain(fixed.tls_names.iter().cloned());
    all.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Makes another key and certificate every day.
async fn renew(access: Arc<Access>, stopped: impl Future<Output = ()>) {
    let mut stopped = std::pin::pin!(stopped);
    while tokio::time::timeout(RENEW_EVERY, &mut stopped).await.is_err() {
        if let Err(error) = tokio::task::block_in_place(|| access.renew_doors()) {
            tracing::error!(%error, "the certificate of the appliance could not be renewed; it is tried again tomorrow");
        }
    }
}

/// Starts all that runs until `stopped`.
fn start(
    daemon: &Arc<Daemon>,
    fixed: &Fixed,
    listeners: Listeners,
    doors: Doors,
    control: control::server::Listener,
    stopped: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let (pool, secondaries, overlays) = (daemon.pool.clone(), daemon.secondaries.clone(), daemon.overlays.clone());
    let catalog = PoolCatalog::new(daemon.clone(), overlays.clone(), doors.nbd_is_ours);
    let (access, nbd, agents) = (daemon.access.clone(), daemon.nbd.address.clone(), daemon.agents.clone());
    let (counters, running, groups) = (daemon.counters.clone(), Running::default(), Arc::default());
    let journals = daemon.journals.clone();
    let shared =
        Arc::new(Shared { pool, secondaries, overlays, journals, access, nbd, counters, running, agents, groups });
    let mut tasks = JoinSet::new();
    let (limits, ended) = (fixed.nbd_terms.limits(), until(stopped.clone()));
    tasks.spawn(async move {
        if let Err(error) = nbd_server::serve(listeners.nbd, Arc::new(catalog), limits, doors.nbd, ended).await {
            tracing::error!(%error, "the NBD server ended");
        }
    });
    tasks.spawn(control.serve(daemon.clone(), stopped.clone()));
    tasks.spawn(driver::drive(daemon.clone(), until(stopped.clone())));
    tasks.spawn(fold::driver::drive(daemon.clone(), until(stopped.clone())));
    if doors.sessions.is_some() {
        tasks.spawn(renew(daemon.access.clone(), until(stopped.clone())));
    }
    tasks.spawn(systemd::watch(daemon.clone(), until(stopped.clone())));
    let front = Front::new(daemon.clone(), shared, doors.sessions, fixed.sessions, stopped.clone());
    tasks.spawn(front.serve(listeners.sessions));
    tasks
}

/// What the daemon is told from outside.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hangup: on(SignalKind::hangup())?,
        })
    }

    /// Waits; whether the configuration is to be read again, rather than an end to be made.
    async fn next_is_to_read_again(&mut self) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => false,
            _ = self.interrupt.recv() => false,
            _ = self.hangup.recv() => true,
        }
    }
}

fn on(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|e| Error::Broken(format!("signals: {e}")))
}

/// Returns when the daemon is to end.
pub(crate) async fn until(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn bind(fixed: &Fixed) -> Result<Listeners> {
    let busy = |what: &str, address: &str, error: std::io::Error| {
        Error::Refused(format!(
            "cannot listen on {address} for {what}: {error}; stop what uses it or name another address"
        ))
    };
    let address = resolve(&fixed.listen)?;
    let sessions = TcpListener::bind(address).await.map_err(|e| busy("initiators", &fixed.listen, e))?;
    let tcp = Listener::bind_tcp(resolve(&fixed.nbd)?).await.map_err(|e| busy("NBD", &fixed.nbd, e))?;
    let nbd_address = tcp.tcp_address();
    let mut nbd = vec![tcp];
    if let Some(path) = &fixed.nbd_socket {
        nbd.push(Listener::bind_unix(path).map_err(|e| busy("NBD", &path.display().to_string(), e))?);
    }
    Ok(Listeners { sessions, nbd, nbd_address })
}

fn resolve(address: &str) -> Result<SocketAddr> {
    let refused = |reason: String| Error::Refused(format!("{address:?} is no address: {reason}; expected HOST:PORT"));
    let mut found = address.to_socket_addrs().map_err(|e| refused(e.to_string()))?;
    found.next().ok_or_else(|| refused("no such host".into()))
}

fn announce(fixed: &Fixed, pool: &Pool, listeners: &Listeners) -> Result<()> {
    let mut lines = vec![format!("pool {} {}", fixed.pool.display(), pool.uuid())];
    let sessions = listeners.sessions.local_addr().map_err(at(&fixed.pool))?;
    lines.push(format!("listening {sessions}"));
    lines.extend(listeners.nbd_address.map(|address| format!("nbd {address}")));
    lines.extend(fixed.nbd_socket.as_ref().map(|path| format!("nbd unix:{}", path.display())));
    lines.push("ready\n".into());
    let mut out = std::io::stdout().lock();
    // Whoever started the daemon may have closed its output: no reason not to serve.
    let _ = out.write_all(lines.join("\n").as_bytes()).and_then(|()| out.flush());
    Ok(())
}
