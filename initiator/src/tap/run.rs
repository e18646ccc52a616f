//! A tap from its start to its end: opened, served, followed, and closed so that the journal simply goes on.
//!
//! Invariants: the volume is served as soon as it can be, whether the appliance is there or not; the end comes in this order: no request begins any more,
//! those under way are answered, what is left of the journal travels for a moment, everything is durable and the state says so.

use super::core::Core;
use super::lag::Lag;
use super::resync::Resync;
use super::serve::{self, Only};
use super::ship::{Followed, Shipper};
use super::terms::Terms;
use super::{blocking, observe, open, tell};
use crate::args::{Place, Tap};
use crate::outcome::Outcome;
use crate::report::Report;
use anyhow::{Context, Result};
use sd_notify::NotifyState;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use understudy_net::nbd_server::{self, Limits};

/// How long the end waits for the appliance to have the rest of the journal; it is kept here all the same.
const LINGER: Duration = Duration::from_secs(5);
/// Threads that call the volume: flushes that wait for the appliance have one each, and must not keep reads and writes from theirs.
const WORKERS: usize = 32;

/// Runs the command.
pub async fn run(args: &Tap) -> Result<Outcome> {
    let mut ends = Ends::new()?;
    let mut report = Report::endless(args.json);
    let opened = open::open(args).await?;
    let (core, terms) = (opened.core.clone(), Arc::new(Terms::of(args, opened.geometry)));
    let listening = serve::listen(&args.serve, args.volume.as_str(), args.tls_certificates.as_deref()).await?;
    let (listener, encryption, uri) = listening;
    let lag: Arc<Mutex<Lag>> = Arc::default();
    let shipper = Shipper::new(core.clone(), terms.clone(), lag.clone());
    let followed = shipper.followed();
    let resync = Resync::new(core.clone(), terms, opened.volume, followed.clone());
    tell::ready(args, opened.geometry.volume_size(), &uri, &mut report);
    notify(&[NotifyState::Ready]);
    let catalog = Arc::new(Only::new(args.volume.as_str(), opened.export));
    let limits = Limits { workers: WORKERS, ..Limits::default() };
    let serving = async {
        let stopping = async {
            ends.next().await;
            notify(&[NotifyState::Stopping]);
        };
        nbd_server::serve(vec![listener], catalog, limits, encryption, stopping).await?;
        linger(&core, followed).await;
        anyhow::Ok(())
    };
    let following = async { tokio::join!(shipper.hold(), resync.hold(), observe::hold(core.clone(), lag, report)) };
    tokio::select! {
        served = serving => served.context("the volume cannot be served")?,
        _ = following => {}
    }
    if let Place::Unix(path) = &args.serve {
        // Whoever starts next removes what is left.
        let _ = std::fs::remove_file(path);
    }
    let closed = blocking(move || core.close()).await?;
    closed.context("the tap ended, but its state does not say so: the volume is compared when it is started again")?;
    Ok(Outcome::Done)
}

/// Waits until the appliance has the journal, but not for long.
async fn linger(core: &Core, mut followed: Followed) {
    let last = core.last_sequence();
    let is_there = *followed.borrow();
    if is_there.is_some() {
        let covered = followed.wait_for(|at| at.is_none_or(|at| at.sequence >= last));
        let _ = tokio::time::timeout(LINGER, covered).await;
    }
}

/// What ends a tap.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    fn new() -> Result<Self> {
        let on = |kind| signal(kind).context("signals cannot be waited for");
        Ok(Self { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Tells systemd, where there is one that listens.
fn notify(state: &[NotifyState<'_>]) {
    // Without it the tap serves all the same.
    let _ = sd_notify::notify(state);
}
