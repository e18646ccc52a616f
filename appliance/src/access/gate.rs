//! TLS as the register wants it: who is let in, and which certificate of our own is shown.
//!
//! Invariants: both are asked for at each handshake, so what changes counts from then on; no session is resumed, for who resumes
//! one is not asked again; a certificate that the authority vouches for and the register does not have is a revoked one; TLS 1.3 only.

use super::Access;
use super::authority::Authority;
use crate::clock;
use crate::error::{Error, Result};
use crate::locks::{lock, read, write};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use std::sync::Arc;
use understudy_format::Digest;
use understudy_net::tls::provider;

/// What a handshake needs, as it is now.
#[derive(Debug)]
pub(super) struct Doors {
    clients: Arc<dyn ClientCertVerifier>,
    server: Arc<CertifiedKey>,
}

impl Doors {
    fn of(authority: &Authority, names: &[String], now_ns: i64) -> Result<Self> {
        let broken = |error: &dyn std::fmt::Display| Error::Broken(format!("the pool's authority: {error}"));
        let mut roots = RootCertStore::empty();
        for certificate in authority.trusted()? {
            roots.add(certificate).map_err(|e| broken(&e))?;
        }
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let clients = clients.build().map_err(|e| broken(&e))?;
        let identity = authority.issue_server(names, now_ns)?;
        let key = any_supported_type(&identity.key).map_err(|e| broken(&e))?;
        Ok(Self { clients, server: Arc::new(CertifiedKey::new(identity.chain, key)) })
    }
}

/// Who may come in over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Clients, and those who have no certificate yet.
    Anybody,
    /// Clients.
    Clients,
}

impl Access {
    /// From now on there are handshakes, by a key and a certificate that are new; other programs reach the appliance by `names`.
    pub fn open_doors(&self, names: Vec<String>) -> Result<()> {
        *lock(&self.names) = names;
        self.renew_doors()
    }

    /// Another key and certificate of our own, for what the authority is now.
    pub fn renew_doors(&self) -> Result<()> {
        let doors = self.with_authority(|authority| Doors::of(authority, &lock(&self.names), clock::now_ns()))?;
        *write(&self.doors) = Some(Arc::new(doors));
        Ok(())
    }

    /// What a TLS server needs; one whose clients say which of `protocols` they speak, if there are any.
    pub fn tls(self: &Arc<Self>, admission: Admission, protocols: &[&[u8]]) -> Result<Arc<ServerConfig>> {
        let gate = Arc::new(Gate { access: self.clone(), admission });
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
        let builder = builder.map_err(|error| Error::Broken(format!("TLS: {error}")))?;
        let mut config = builder.with_client_cert_verifier(gate.clone()).with_cert_resolver(gate);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    pub(super) fn doors(&self) -> Option<Arc<Doors>> {
        read(&self.doors).clone()
    }
}

/// See the module documentation.
#[derive(Debug)]
struct Gate {
    access: Arc<Access>,
    admission: Admission,
}

impl Gate {
    fn clients(&self) -> std::result::Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
        let closed = || rustls::Error::General("there are no handshakes yet".into());
        self.access.doors().map(|doors| doors.clients.clone()).ok_or_else(closed)
    }
}

impl ResolvesServerCert for Gate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.access.doors().map(|doors| doors.server.clone())
    }
}

impl ClientCertVerifier for Gate {
    fn client_auth_mandatory(&self) -> bool {
        self.admission == Admission::Clients
    }

    /// None: a client has one certificate for us, and shows it.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> std::result::Result<ClientCertVerified, rustls::Error> {
        let verified = self.clients()?.verify_client_cert(certificate, others, now)?;
        match self.access.by_certificate(&Digest::of_certificate(certificate)) {
            Some(_) => Ok(verified),
            None => Err(CertificateError::Revoked.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.clients()?.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.clients()?.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
