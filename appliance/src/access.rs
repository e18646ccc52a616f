//! Who may do what: every request of a session, of the HTTP API and of an NBD client is asked here before it is carried out.
//!
//! What is allowed follows from the [`Register`] of the pool alone, which this owns: it is changed on the disk first and in
//! memory then, and who waits for a change is told. Invariants: what a client may not see, it is told of as it is told of what does not exist; a
//! volume belongs to the client that created it, also while its first point is not there yet, and to no other; who is local may do everything.

mod files;

use crate::error::{Error, Result};
use crate::locks::{lock, read, write};
use crate::pool::Pool;
use files::Files;
use std::fmt;
use std::sync::{Arc, Mutex, RwLock};
use tokio::sync::watch;
use understudy_format::access::Client;
pub use understudy_format::access::register::Register;
pub use understudy_format::access::{ClientName, Right};
use understudy_format::point::VolumeName;

/// Who asks for something.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Who could write to the pool's directory anyway, or comes over loopback while there is no access control: everything is allowed.
    Local,
    /// Who has shown a certificate of this client.
    Client(ClientName),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Client(name) => write!(f, "client {name}"),
        }
    }
}

/// See the module documentation.
#[derive(Debug)]
pub struct Access {
    pool: Arc<Pool>,
    files: Files,
    /// Held while the register is changed.
    changing: Mutex<()>,
    register: RwLock<Register>,
    /// Counts the changes.
    changes: watch::Sender<u64>,
}

impl Access {
    /// What the pool says.
    pub fn open(pool: Arc<Pool>) -> Result<Self> {
        let files = Files::of(&pool);
        let register = RwLock::new(files.register()?);
        Ok(Self { pool, files, changing: Mutex::default(), register, changes: watch::Sender::new(0) })
    }

    /// Fails unless `peer` has this right to a volume; without a volume, to the pool as a whole.
    pub fn may(&self, peer: &Peer, right: Right, volume: Option<&VolumeName>) -> Result<()> {
        let Peer::Client(name) = peer else { return Ok(()) };
        let register = read(&self.register);
        match register.clients.get(name) {
            Some(client) if client.holds(right, volume) => Ok(()),
            _ => Err(denied(name, right, volume)),
        }
    }

    /// Whether a volume exists as far as `peer` is concerned: it has some right to it.
    pub fn sees(&self, peer: &Peer, volume: &VolumeName) -> bool {
        let Peer::Client(name) = peer else { return true };
        let register = read(&self.register);
        let sees = |client: &Client| client.rights(Some(volume)).iter().next().is_some();
        register.clients.get(name).is_some_and(sees)
    }

    /// Fails unless `peer` may take away what is kept over a session or the API, with the right that this takes besides.
    pub fn may_destroy(&self, peer: &Peer) -> Result<()> {
        let Peer::Client(name) = peer else { return Ok(()) };
        match read(&self.register).clients.get(name) {
            Some(client) if client.append_only => {
                Err(Error::refused(format!("client {name} only adds (append-only): nothing is taken away for it")))
            }
            _ => Ok(()),
        }
    }

    /// Fails unless `peer` may add a point to a volume. One that does not exist yet is the client's own from now on.
    pub fn claim(&self, peer: &Peer, volume: &VolumeName) -> Result<()> {
        let Peer::Client(name) = peer else { return Ok(()) };
        if self.may(peer, Right::Replicate, Some(volume)).is_ok() {
            return Ok(());
        }
        self.change(|register| {
            let free = self.pool.volume(volume).is_none() && register.owner(volume).is_none();
            let client = register.clients.get_mut(name).filter(|client| free && client.may_create());
            let client = client.ok_or_else(|| denied(name, Right::Replicate, Some(volume)))?;
            client.owned.insert(volume.clone());
            Ok(())
        })
    }

    /// Changes the register: durable when this returns, or not changed at all.
    pub fn change<T>(&self, change: impl FnOnce(&mut Register) -> Result<T>) -> Result<T> {
        let _changing = lock(&self.changing);
        let mut register = read(&self.register).clone();
        let changed = change(&mut register)?;
        self.files.save_register(&register)?;
        *write(&self.register) = register;
        self.changes.send_modify(|changes| *changes += 1);
        Ok(changed)
    }

    /// Tells of every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

fn denied(client: &ClientName, right: Right, volume: Option<&VolumeName>) -> Error {
    let (of, option) = match volume {
        Some(volume) => (format!("volume {volume}"), format!("--volume {volume}")),
        None => ("the pool as a whole".to_owned(), "--volume '*'".to_owned()),
    };
    Error::Refused(format!(
        "client {client} has no right to {right} {of}; who administers the appliance can give it: \
         `understudyd grant {client} --role {right} {option}`"
    ))
}

#[cfg(test)]
mod tests;
