//! Who may do what: every request of a session, of the HTTP API and of an NBD client is asked here before it is carried out.
//!
//! What is allowed follows from the [`Register`] of the pool alone, which this owns: it is changed on the disk first and in
//! memory then, and who waits for a change is told. Invariants: what a client may not see, it is told of as it is told of what does not exist; a
//! volume belongs to the client that created it, also while its first point is not there yet, and to no other; who is local may do everything.

pub mod audit;
mod authority;
pub mod commands;
pub mod enrol;
mod files;
mod gate;

use crate::error::{Error, Result};
use crate::locks::{lock, read, write};
use crate::pool::Pool;
use audit::Audit;
use authority::Authority;
use files::Files;
pub use gate::Admission;
use gate::Doors;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, RwLock};
use tokio::sync::watch;
use understudy_format::Digest;
use understudy_format::access::Client;
pub use understudy_format::access::register::Register;
pub use understudy_format::access::{ClientName, Right};
use understudy_format::point::{Point, VolumeName};

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
    /// Of every act that matters here.
    pub audit: Audit,
    /// Made when it is needed first.
    authority: Mutex<Option<Authority>>,
    /// By which other programs reach the appliance.
    names: Mutex<Vec<String>>,
    /// What a handshake needs; none before there are any.
    doors: RwLock<Option<Arc<Doors>>>,
    /// Whether no client takes anything away, whatever is said of it.
    append_only: bool,
}

impl Access {
    /// What the pool says; with `append_only` no client takes anything away, whatever is said of it.
    pub fn open(pool: Arc<Pool>, append_only: bool) -> Result<Self> {
        let files = Files::of(&pool);
        Ok(Self {
            register: RwLock::new(files.register()?),
            audit: Audit::of(pool.disk().clone(), files.dir()),
            pool,
            files,
            changing: Mutex::default(),
            changes: watch::Sender::new(0),
            authority: Mutex::default(),
            names: Mutex::default(),
            doors: RwLock::default(),
            append_only,
        })
    }

    /// Fails unless `peer` has this right to a volume; without a volume, to the pool as a whole.
    pub fn may(&self, peer: &Peer, right: Right, volume: Option<&VolumeName>) -> Result<()> {
        let Peer::Client(name) = peer else { return Ok(()) };
        if self.allows(peer, right, volume) {
            return Ok(());
        }
        let error = denied(name, right, volume);
        self.audit.deny(peer, &error.to_string());
        Err(error)
    }

    /// Whether `peer` has this right; nothing is refused by that, so nothing is recorded.
    pub fn allows(&self, peer: &Peer, right: Right, volume: Option<&VolumeName>) -> bool {
        match peer {
            Peer::Local => true,
            Peer::Client(name) => self.holds(name, right, volume),
        }
    }

    /// Whether `peer` may learn what the pool has of blocks, whosever they are: who may read all of it.
    pub fn learns(&self, peer: &Peer) -> bool {
        self.allows(peer, Right::Read, None)
    }

    /// A point as `peer` may see it: what it added to the pool tells what the pool had.
    pub fn shown(&self, peer: &Peer, point: Point) -> Point {
        match self.learns(peer) {
            true => point,
            false => Point { stored_bytes: 0, new_bytes: 0, ..point },
        }
    }

    fn holds(&self, name: &ClientName, right: Right, volume: Option<&VolumeName>) -> bool {
        let withheld = self.append_only && right == Right::Administer;
        read(&self.register).clients.get(name).is_some_and(|client| !withheld && client.holds(right, volume))
    }

    /// The client that is known by a certificate.
    pub fn by_certificate(&self, certificate: &Digest) -> Option<ClientName> {
        read(&self.register).by_certificate(certificate).map(|client| client.name.clone())
    }

    /// Returns when no client is known by a certificate any more.
    pub async fn until_unknown(&self, certificate: &Digest) {
        // The sender is ours.
        let _ = self.changes().wait_for(|_| self.by_certificate(certificate).is_none()).await;
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
        let only_adds = |client: &Client| self.append_only || client.append_only;
        if !read(&self.register).clients.get(name).is_some_and(only_adds) {
            return Ok(());
        }
        let error = Error::Denied(format!("client {name} only adds (append-only): nothing is taken away for it"));
        self.audit.deny(peer, &error.to_string());
        Err(error)
    }

    /// Fails unless `peer` may add a point to a volume. One that does not exist yet is the client's own from now on, and nobody else's.
    pub fn claim(&self, peer: &Peer, volume: &VolumeName) -> Result<()> {
        let claimed = match peer {
            Peer::Local => return self.disown(volume),
            Peer::Client(name) if self.adds(name, volume) => return Ok(()),
            Peer::Client(name) => self.change(|register| self.own(register, name, volume)),
        };
        match &claimed {
            Ok(()) => self.audit.record("create", peer, &format!("volume {volume} is its own"))?,
            Err(error) => self.audit.deny(peer, &error.to_string()),
        }
        claimed
    }

    fn exists(&self, volume: &VolumeName) -> bool {
        self.pool.volume(volume).is_some()
    }

    fn owner(&self, volume: &VolumeName) -> Option<ClientName> {
        read(&self.register).owner(volume).cloned()
    }

    /// Whether a client adds to a volume without more ado: it holds the right to one that exists, or that is its own.
    fn adds(&self, name: &ClientName, volume: &VolumeName) -> bool {
        let is_settled = self.exists(volume) || self.owner(volume).as_ref() == Some(name);
        is_settled && self.holds(name, Right::Replicate, Some(volume))
    }

    /// Makes a volume that nobody has a client's own.
    fn own(&self, register: &mut Register, name: &ClientName, volume: &VolumeName) -> Result<()> {
        let (exists, is_owned) = (self.exists(volume), register.owner(volume).is_some());
        let client = register.clients.get_mut(name).ok_or_else(|| denied(name, Right::Replicate, Some(volume)))?;
        let is_granted = client.holds(Right::Replicate, Some(volume));
        match (exists || is_owned, is_granted || client.may_create()) {
            (false, true) => {
                client.owned.insert(volume.clone());
                Ok(())
            }
            (true, _) if is_granted && !exists => Err(taken(name, volume)),
            _ => Err(denied(name, Right::Replicate, Some(volume))),
        }
    }

    /// Ends what a client has of a volume that does not exist: who is local takes the name.
    fn disown(&self, volume: &VolumeName) -> Result<()> {
        let owner = self.owner(volume).filter(|_| !self.exists(volume));
        let Some(owner) = owner else { return Ok(()) };
        self.audit.record("disown", &Peer::Local, &format!("volume {volume} is no longer of client {owner}"))?;
        self.change(|register| {
            register.clients.values_mut().for_each(|client| client.owned.retain(|owned| owned != volume));
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

    /// Records that `who` did something, from a task, which must not wait for a disk; fails when it cannot be recorded.
    pub async fn record(self: &Arc<Self>, act: &'static str, who: impl fmt::Display, what: String) -> Result<()> {
        let (access, who) = (self.clone(), who.to_string());
        let recorded = tokio::task::spawn_blocking(move || access.audit.record(act, &who, &what)).await;
        recorded.map_err(|_| Error::Closing)?
    }

    /// Records that somebody at an address was refused, from a task.
    pub async fn refuse(self: &Arc<Self>, from: SocketAddr, what: &'static str) {
        let access = self.clone();
        // A panic was told by the thread.
        let _ = tokio::task::spawn_blocking(move || access.audit.refuse(&from, what)).await;
    }

    /// Records that a client was denied something, from a task.
    pub async fn deny(self: &Arc<Self>, peer: Peer, what: String) {
        let access = self.clone();
        let _ = tokio::task::spawn_blocking(move || access.audit.deny(&peer, &what)).await;
    }

    /// Does something with the pool's authority, which is made now if there is none.
    fn with_authority<T>(&self, act: impl FnOnce(&Authority) -> Result<T>) -> Result<T> {
        let mut authority = lock(&self.authority);
        let authority = match &mut *authority {
            Some(authority) => authority,
            none => none.insert(self.files.authority()?),
        };
        act(authority)
    }

    /// Replaces the pool's authority, durably.
    fn replace_authority(&self, by: impl FnOnce(Authority) -> Result<Authority>) -> Result<()> {
        let mut authority = lock(&self.authority);
        let next = by(authority.take().map_or_else(|| self.files.authority(), Ok)?)?;
        self.files.save_authority(&next)?;
        *authority = Some(next);
        Ok(())
    }

    /// The clients, as they are now.
    pub fn clients(&self) -> Vec<Client> {
        read(&self.register).clients.values().cloned().collect()
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
    Error::Denied(format!(
        "client {client} has no right to {right} {of}; who administers the appliance can give it: \
         `understudyd grant {client} --role {right} {option}`"
    ))
}

fn taken(client: &ClientName, volume: &VolumeName) -> Error {
    Error::Refused(format!(
        "volume {volume} is of another client than {client}, and has no points yet; take another name, or have who administers the \
         appliance replicate to it on the appliance's own host first"
    ))
}

#[cfg(test)]
mod tests;
