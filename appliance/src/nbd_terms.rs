//! On what terms points are exported over NBD: encrypted or not, to how many at once.
//!
//! Invariant: nothing is served in the clear because a certificate is absent or damaged: then the daemon does not start.

use crate::error::{Error, Result};
use clap::{Args, ValueEnum};
use rustls::ServerConfig;
use std::path::PathBuf;
use std::sync::Arc;
use understudy_net::nbd_server::{Encryption, Limits};
use understudy_net::tls;

/// What `serve` or the configuration says about NBD clients.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct NbdTerms {
    /// Whether NBD clients may (on) or must (require) use TLS, on the port and on the socket [default: off].
    #[arg(long, value_name = "off|on|require")]
    pub nbd_tls: Option<NbdTls>,
    /// Where server-cert.pem and server-key.pem are; with a ca-cert.pem beside them every client must show a certificate that
    /// this authority signed (and that is not in ca-crl.pem, if that is there).
    #[arg(long, value_name = "DIR")]
    pub nbd_tls_certificates: Option<PathBuf>,
    /// NBD connections at once [default: 100].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub nbd_connections: Option<u32>,
    /// NBD connections at once that use one point [default: 50].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub nbd_connections_per_export: Option<u32>,
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
    /// What is said here, and what `others` say where nothing is.
    pub fn or(&self, others: &Self) -> Self {
        Self {
            nbd_tls: self.nbd_tls.or(others.nbd_tls),
            nbd_tls_certificates: self.nbd_tls_certificates.clone().or_else(|| others.nbd_tls_certificates.clone()),
            nbd_connections: self.nbd_connections.or(others.nbd_connections),
            nbd_connections_per_export: self.nbd_connections_per_export.or(others.nbd_connections_per_export),
        }
    }

    /// To how many at once.
    pub fn limits(&self) -> Limits {
        let usual = Limits::default();
        let said = |limit: Option<u32>, usual| limit.map_or(usual, |limit| limit as usize);
        Limits {
            connections: said(self.nbd_connections, usual.connections),
            connections_per_export: said(self.nbd_connections_per_export, usual.connections_per_export),
            ..usual
        }
    }

    /// The same with the certificates of access control: all clients show theirs, unless it is said that they need not.
    pub fn controlled(&self, own: Arc<ServerConfig>) -> Encryption {
        match self.nbd_tls {
            Some(NbdTls::On) => Encryption::On(own),
            _ => Encryption::Require(own),
        }
    }

    /// Whether certificates of others are named, and who shows none is served all the same.
    pub fn lets_in_the_clear(&self) -> bool {
        self.nbd_tls_certificates.is_some() && self.nbd_tls != Some(NbdTls::Require)
    }

    /// Fails when certificates of others are named, and no authority of the clients with them: then anybody would be served.
    pub fn check_authority(&self) -> Result<()> {
        let Some(dir) = &self.nbd_tls_certificates else { return Ok(()) };
        let path = dir.join("ca-cert.pem");
        path.exists().then_some(()).ok_or_else(|| {
            Error::refused(format!(
                "nbd-tls-certificates: {} is not there, so whoever comes would be served: put the authority there that signs the clients' \
                 certificates, or leave the directory out",
                path.display()
            ))
        })
    }

    /// Encrypted or not, with the certificates as they are now.
    pub fn encryption(&self) -> Result<Encryption> {
        let terms = self.nbd_tls.unwrap_or(NbdTls::Off);
        let config = || {
            let lacking =
                || Error::refused("TLS for NBD clients needs --nbd-tls-certificates DIR, with server-cert.pem in it");
            let dir = self.nbd_tls_certificates.as_ref().ok_or_else(lacking)?;
            tls::server(dir).map_err(|error| Error::refused(format!("--nbd-tls-certificates: {error}")))
        };
        Ok(match terms {
            NbdTls::Off => Encryption::Off,
            NbdTls::On => Encryption::On(config()?),
            NbdTls::Require => Encryption::Require(config()?),
        })
    }
}
