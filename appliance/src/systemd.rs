//! What systemd is told of the daemon, where it asked for that (`Type=notify`, `WatchdogSec=`).
//!
//! Invariant: a sign of life is given only after timers, worker threads and the locks of pool, agents and jobs were seen to work: a daemon that
//! hangs gives none.

use crate::daemon::Daemon;
use sd_notify::NotifyState;
use std::sync::Arc;

/// Everything can be used.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// The configuration is being read again, until [`ready`] is said.
pub fn reloading() {
    let time = NotifyState::monotonic_usec_now().ok();
    notify(&[NotifyState::Reloading].into_iter().chain(time).collect::<Vec<_>>());
}

/// The end begins.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Gives signs of life, twice within the time that systemd waits, until `stopped`.
pub async fn watch(daemon: Arc<Daemon>, stopped: impl Future<Output = ()>) {
    let mut stopped = std::pin::pin!(stopped);
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else { return };
    let mut beat = tokio::time::interval(limit / 2);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            _ = beat.tick() => {}
        }
        let daemon = daemon.clone();
        let works = tokio::task::spawn_blocking(move || {
            let jobs = daemon.jobs.look(|scheduler| scheduler.jobs().count());
            (daemon.pool.volumes().len(), daemon.agents.list().len(), jobs)
        });
        if let Ok((volumes, agents, jobs)) = works.await {
            let status = format!("{volumes} volumes, {agents} agents, {jobs} jobs");
            notify(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
        }
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be told");
    }
}
