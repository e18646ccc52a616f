//! The daemon's end: each connection speaks to the API as somebody who may do everything.

use super::{Address, SOCKET};
use crate::access::Peer;
use crate::api;
use crate::daemon::Daemon;
use crate::error::{Result, at};
use crate::pool::Pool;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Connections at once; whoever comes later waits.
const CONNECTIONS_MAX: usize = 64;

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

    /// Serves connections until `stopped`; what they asked for is stopped then.
    pub async fn serve(self, daemon: Arc<Daemon>, stopped: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(crate::serve::until(stopped.clone()));
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, _)) => {
                        let stopped = crate::serve::until(stopped.clone());
                        connections.spawn(api::serve(daemon.clone(), stream, Peer::Local, stopped));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection to the pool's socket could not be accepted");
                        tokio::task::yield_now().await;
                    }
                },
            }
        }
        let _ = std::fs::remove_file(&self.address.path);
        while connections.join_next().await.is_some() {}
    }
}
