//! Trust in one authority of which nothing is known but the digest of its certificate: what a token brings.
//!
//! Invariant: beyond finding that certificate in what the server shows, nothing is checked here: the chain, the name, the dates and the
//! signatures are rustls's business as always, with that authority as the only one.

use super::{SESSION_PROTOCOL, provider};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::sync::Arc;
use understudy_format::Digest;

/// For a client without a certificate, that trusts the authority whose certificate has this digest.
pub fn pinned_client(authority: Digest) -> Result<Arc<ClientConfig>, Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Pinned(authority)));
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![SESSION_PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Pinned(Digest);

impl Pinned {
    fn authority(&self, shown: &[CertificateDer<'_>]) -> Result<RootCertStore, Error> {
        let found = shown.iter().find(|certificate| Digest::of_certificate(certificate) == self.0);
        let mut roots = RootCertStore::empty();
        roots.add(found.ok_or(CertificateError::UnknownIssuer)?.clone().into_owned())?;
        Ok(roots)
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(self.authority(others)?), provider());
        let verifier = verifier.build().map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(certificate, others, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
