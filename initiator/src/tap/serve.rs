//! The volume as an NBD export: where, and to whom.
//!
//! Invariant: beyond this host nobody is served but through TLS, with a certificate that an authority named here signed.

use crate::args::Place;
use anyhow::{Context, Result, ensure};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use understudy_format::nbd::ExportName;
use understudy_net::export::{Catalog, Export, OpenError, Visitor};
use understudy_net::nbd_server::{Encryption, Listener};
use understudy_net::tls;

/// One export, under the name of the volume and under none.
pub struct Only {
    name: String,
    export: Arc<dyn Export>,
}

impl Only {
    /// This one.
    pub fn new(name: &str, export: Arc<dyn Export>) -> Self {
        Self { name: name.to_owned(), export }
    }
}

impl Catalog for Only {
    fn list(&self, _: &Visitor) -> Vec<ExportName> {
        vec![ExportName { name: self.name.clone(), description: self.export.describe() }]
    }

    fn open(&self, name: &str, _: &Visitor) -> Result<Arc<dyn Export>, OpenError> {
        match name.is_empty() || name == self.name {
            true => Ok(self.export.clone()),
            false => {
                Err(OpenError::Unknown(format!("export {name:?} is not here: expected {:?}, or no name", self.name)))
            }
        }
    }
}

/// Listens, and says as what the export is reached.
pub async fn listen(place: &Place, name: &str, certificates: Option<&Path>) -> Result<(Listener, Encryption, String)> {
    let scheme = if certificates.is_some() { "nbds" } else { "nbd" };
    let (listener, uri) = match place {
        Place::Unix(path) => {
            let listener = Listener::bind_unix(path).with_context(|| cannot(&format!("unix:{}", path.display())))?;
            (listener, format!("{scheme}+unix:///{name}?socket={}", path.display()))
        }
        Place::Tcp(address) => {
            let found = resolve(address)?;
            check_reach(found, address, certificates)?;
            let listener = Listener::bind_tcp(found).await.with_context(|| cannot(address))?;
            let bound = listener.tcp_address().unwrap_or(found);
            (listener, format!("{scheme}://{bound}/{name}"))
        }
    };
    let encryption = certificates.map(|dir| tls::server(dir).map(Encryption::Require)).transpose();
    Ok((listener, encryption.context("--tls-certificates")?.unwrap_or_default(), uri))
}

fn cannot(place: &str) -> String {
    format!("cannot listen on {place} for NBD; stop what uses it, or name another place with --serve")
}

fn resolve(address: &str) -> Result<SocketAddr> {
    let mut found = address.to_socket_addrs().with_context(|| format!("--serve {address}: no such address"))?;
    found.next().with_context(|| format!("--serve {address}: no such host"))
}

/// Who comes from elsewhere must show who he is.
fn check_reach(found: SocketAddr, address: &str, certificates: Option<&Path>) -> Result<()> {
    if found.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let has_authority = certificates.is_some_and(|dir| dir.join("ca-cert.pem").exists());
    ensure!(
        has_authority,
        "--serve {address} can be reached from other hosts, and nobody would have to say who he is: name a directory with \
         --tls-certificates that has server-cert.pem, server-key.pem and the ca-cert.pem that signed the clients' certificates, or \
         serve on unix:PATH or 127.0.0.1"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_hosts_are_let_in_with_an_authority_only() {
        let dir = tempfile::tempdir().unwrap();
        let check = |address: &str, certificates| check_reach(address.parse().unwrap(), address, certificates);
        check("127.0.0.1:1", None).unwrap();
        check("[::ffff:127.0.0.1]:1", None).unwrap();
        for certificates in [None, Some(dir.path())] {
            let text = check("0.0.0.0:1", certificates).unwrap_err().to_string();
            assert!(text.contains("can be reached from other hosts"), "{text}");
        }
        std::fs::write(dir.path().join("ca-cert.pem"), "").unwrap();
        check("192.0.2.1:1", Some(dir.path())).unwrap();
    }
}
