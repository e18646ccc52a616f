//! The files of access control, in the directory `access` of the pool.
//!
//! Invariants: each is replaced as a whole, and nobody but the daemon's user can open it; a damaged one is an error, never taken for an
//! absent one, for that would let everybody in, or nobody.

use super::authority::Authority;
use crate::clock;
use crate::error::{Error, Result, at};
use crate::pool::Pool;
use crate::pool::directory::make_durable;
use crate::pool::disk::{self, Disk};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use understudy_format::access::register::Register;

#[derive(Debug)]
pub(super) struct Files {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl Files {
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The pool's authority, which is made when there is none.
    pub(super) fn authority(&self) -> Result<Authority> {
        if let Some(pem) = self.read("authority.pem")? {
            return Authority::read(&pem);
        }
        let authority = Authority::make(clock::now_ns())?;
        self.save_authority(&authority)?;
        Ok(authority)
    }

    pub(super) fn save_authority(&self, authority: &Authority) -> Result<()> {
        self.save("authority.pem", authority.pem().as_bytes())
    }

    pub(super) fn of(pool: &Pool) -> Self {
        Self { disk: pool.disk().clone(), dir: pool.dir().join("access") }
    }

    pub(super) fn register(&self) -> Result<Register> {
        let Some(bytes) = self.read("register")? else { return Ok(Register::default()) };
        Register::decode(&bytes).map_err(|error| {
            let path = self.dir.join("register");
            Error::Broken(format!(
                "{}: {error}; put it back from a copy, or remove it and enrol all clients again",
                path.display()
            ))
        })
    }

    pub(super) fn save_register(&self, register: &Register) -> Result<()> {
        register.check().map_err(|error| Error::refused(error.to_string()))?;
        self.save("register", &register.encode())
    }

    /// What a file has; `None` when it does not exist.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.dir.join(name);
        disk::read_all(&*self.disk, &path).map_err(at(&path))
    }

    /// Replaces a file: durable when this returns.
    pub(super) fn save(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.dir.join(name);
        make_durable(&*self.disk, &self.dir)
            .and_then(|()| disk::replace_private(&*self.disk, &path, bytes))
            .map_err(at(&path))
    }
}
