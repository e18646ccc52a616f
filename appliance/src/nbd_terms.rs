//! On what terms points are exported over NBD: encrypted or not, to how many at once.
//!
//! Invariant: nothing is served in the clear because a certificate is absent or damaged: then the daemon does not start.

use crate::error::{Error, Result};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use understudy_net::nbd_server::{Encryption, Limits};
use understudy_net::tls;

/// Arguments of `serve` about NBD clients.
#[derive(Debug, Args)]
pub struct NbdTerms {
    /// Whether NBD clients may (on) or must (require) use TLS, on the port and on the socket.
    #[arg(long, value_name = "off|on|require", default_value = "off", requires_ifs = [("on", "nbd_tls_certificates"), ("require", "nbd_tls_certificates")])]
    pub nbd_tls: NbdTls,
    /// Where server-cert.pem and server-key.pem are; with a ca-cert.pem beside them every client must show a certificate that
    /// this authority signed (and that is not in ca-crl.pem, if that is there).
    #[arg(long, value_name = "DIR")]
    pub nbd_tls_certificates: Option<PathBuf>,
    /// NBD connections at once.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().connections)]
    pub nbd_connections: usize,
    /// NBD connections at once that use one point.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().connections_per_export)]
    pub nbd_connections_per_export: usize,
}

/// Whether NBD clients use TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NbdTls {
    /// Not served.
    Off,
    /// When they want to.
    On,
    /// Always.
    Require,
}

impl NbdTerms {
    /// To how many at once.
    pub fn limits(&self) -> Limits {
        let (connections, connections_per_export) = (self.nbd_connections, self.nbd_connections_per_export);
        Limits { connections, connections_per_export, ..Limits::default() }
    }

    /// Encrypted or not, with the certificates as they are now.
    pub fn encryption(&self) -> Result<Encryption> {
        let config = || {
            let dir = self.nbd_tls_certificates.clone().unwrap_or_default();
            tls::server(&dir).map_err(|error| Error::refused(format!("--nbd-tls-certificates: {error}")))
        };
        Ok(match self.nbd_tls {
            NbdTls::Off => Encryption::Off,
            NbdTls::On => Encryption::On(config()?),
            NbdTls::Require => Encryption::Require(config()?),
        })
    }
}
