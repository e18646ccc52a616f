//! TLS for sessions and for NBD: certificates in a directory, named as qemu and nbdkit name them, made into what rustls takes.
//!
//! | file | server | client |
//! |---|---|---|
//! | `ca-cert.pem` | when it is there, every client must show a certificate that it signed | must be there: the server's certificate must be signed by it and name the host |
//! | `ca-crl.pem` | with `ca-cert.pem`: certificates that it takes back are refused | the same |
//! | `server-cert.pem`, `server-key.pem` | must be there: the certificate with what leads from it to the authority, and its key | |
//! | `client-cert.pem`, `client-key.pem` | | when they are there, the certificate that a server is shown |
//!
//! Invariants: nothing of a peer is believed but what one of these files vouches for, the system's authorities
//! least of all; a file that is there and cannot be read is an error; expired certificates are refused; for NBD there is TLS 1.3 and 1.2, for anything else
//! 1.3 alone, and no early data.

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// The ALPN identifier of sessions.
pub const SESSION_PROTOCOL: &[u8] = b"understudy/1";
/// The ALPN identifier of HTTP.
pub const HTTP_PROTOCOL: &[u8] = b"http/1.1";
/// The name that every appliance's certificate has for its own clients, wherever it is reached: its authority vouches for nobody else.
pub const APPLIANCE: &str = "understudy-appliance";

const CA: &str = "ca-cert.pem";
const CRL: &str = "ca-crl.pem";

mod pin;

pub use pin::pinned_client;

/// Why certificates cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: {source}; expected {what}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A file has something else in it.
    #[error("{}: expected {what} in PEM form: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// What was found.
        reason: String,
    },
    /// The files do not go together.
    #[error("the certificates in {} cannot be used: {reason}", dir.display())]
    Unusable {
        /// The directory.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
}

type Result<T, E = TlsError> = std::result::Result<T, E>;

/// What a server needs of `dir`; see the table at the head of this module.
pub fn server(dir: &Path) -> Result<Arc<ServerConfig>> {
    let (dir, provider) = (Directory(dir), provider());
    let (certificates, key) = dir.identity("server")?;
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().map_err(|e| dir.unusable(e))?;
    let builder = match dir.has(CA) {
        false => builder.with_no_client_auth(),
        true => {
            let verifier = WebPkiClientVerifier::builder_with_provider(dir.authority()?, provider);
            let verifier = verifier.with_crls(dir.revocations()?).build().map_err(|e| dir.unusable(e))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    Ok(Arc::new(builder.with_single_cert(certificates, key).map_err(|e| dir.unusable_identity("server", e))?))
}

/// What an NBD client needs of `dir`; see the table at the head of this module.
pub fn client(dir: &Path) -> Result<Arc<ClientConfig>> {
    Ok(Arc::new(client_of(dir, rustls::DEFAULT_VERSIONS)?))
}

/// What a client of an appliance needs of `dir`, to speak `protocol` ([`SESSION_PROTOCOL`] or [`HTTP_PROTOCOL`]).
pub fn appliance_client(dir: &Path, protocol: &[u8]) -> Result<Arc<ClientConfig>> {
    let mut config = client_of(dir, &[&TLS13])?;
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}

fn client_of(dir: &Path, versions: &[&'static SupportedProtocolVersion]) -> Result<ClientConfig> {
    let (dir, provider) = (Directory(dir), provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(dir.authority()?, provider.clone());
    let verifier = verifier.with_crls(dir.revocations()?).build().map_err(|e| dir.unusable(e))?;
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(versions).map_err(|e| dir.unusable(e))?;
    let builder = builder.with_webpki_verifier(verifier);
    if !dir.has("client-cert.pem") {
        return Ok(builder.with_no_client_auth());
    }
    let (certificates, key) = dir.identity("client")?;
    builder.with_client_auth_cert(certificates, key).map_err(|e| dir.unusable_identity("client", e))
}

/// Whether `dir` has the certificate of every authority in a chain that an appliance showed: its own, then theirs.
pub fn knows_authorities(dir: &Path, chain: &[CertificateDer<'_>]) -> Result<bool> {
    let known: Vec<CertificateDer<'static>> = Directory(dir).all(CA, "the certificate of an authority")?;
    Ok(chain.last().is_none_or(|newest| known.contains(newest)))
}

/// The cryptography of all that is encrypted here.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Where the files are.
struct Directory<'a>(&'a Path);

impl Directory<'_> {
    /// Whether something is there, even what cannot be read: that is an error of who reads it, and never passes for absent.
    fn has(&self, name: &str) -> bool {
        !matches!(self.0.join(name).symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// A certificate with what leads from it to the authority, and its key.
    fn identity(&self, whose: &str) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let certificates = self.all(&format!("{whose}-cert.pem"), "a certificate")?;
        let (name, what) = (format!("{whose}-key.pem"), "a private key");
        let pem = self.read(&name, what)?;
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|e| self.content(&name, what, e))?;
        Ok((certificates, key))
    }

    fn authority(&self) -> Result<Arc<RootCertStore>> {
        let what = "the certificate of an authority";
        let mut roots = RootCertStore::empty();
        for certificate in self.all(CA, what)? {
            roots.add(certificate).map_err(|e| self.content(CA, what, e))?;
        }
        Ok(Arc::new(roots))
    }

    fn revocations(&self) -> Result<Vec<CertificateRevocationListDer<'static>>> {
        if self.has(CRL) { self.all(CRL, "a list of revoked certificates") } else { Ok(Vec::new()) }
    }

    /// Everything of one kind in a file: at least one.
    fn all<T: PemObject>(&self, name: &str, what: &'static str) -> Result<Vec<T>> {
        let pem = self.read(name, what)?;
        let found: Vec<T> =
            T::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|e| self.content(name, what, e))?;
        if found.is_empty() {
            return Err(self.content(name, what, "there is none in it"));
        }
        Ok(found)
    }

    fn read(&self, name: &str, what: &'static str) -> Result<Vec<u8>> {
        let path = self.0.join(name);
        std::fs::read(&path).map_err(|source| TlsError::Read { path, what, source })
    }

    fn content(&self, name: &str, what: &'static str, reason: impl ToString) -> TlsError {
        TlsError::Content { path: self.0.join(name), what, reason: reason.to_string() }
    }

    /// Every second EC key that certtool writes has an octet more than the standard allows.
    fn unusable_identity(&self, whose: &str, reason: impl ToString) -> TlsError {
        let file = format!("{whose}-key.pem");
        let rewrite = format!("openssl pkcs8 -topk8 -nocrypt -in {file} -out NEW");
        self.unusable(format!("{}; if {file} is right, \"{rewrite}\" writes it as it should be", reason.to_string()))
    }

    fn unusable(&self, reason: impl ToString) -> TlsError {
        TlsError::Unusable { dir: self.0.to_owned(), reason: reason.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a directory in which these files are.
    fn problem(files: &[(&str, &str)], of: fn(&Path) -> Option<TlsError>) -> String {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(dir.path().join(name), text).unwrap());
        let text = of(dir.path()).expect("it cannot be used").to_string();
        text.replace(&dir.path().display().to_string(), "DIR")
    }

    #[test]
    fn an_absent_file_is_named_with_what_it_should_be() {
        let text = problem(&[], |dir| server(dir).err());
        assert_eq!(text, "DIR/server-cert.pem: No such file or directory (os error 2); expected a certificate");
        let text = problem(&[], |dir| client(dir).err());
        let expected =
            "DIR/ca-cert.pem: No such file or directory (os error 2); expected the certificate of an authority";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_file_with_something_else_in_it_is_named() {
        let text = problem(&[("server-cert.pem", "nothing")], |dir| server(dir).err());
        assert_eq!(text, "DIR/server-cert.pem: expected a certificate in PEM form: there is none in it");
    }

    #[test]
    fn a_link_that_leads_nowhere_is_not_an_absent_file() {
        let dir = tempfile::tempdir().unwrap();
        let there = |name| Directory(dir.path()).has(name);
        assert!(!there(CA), "nothing is there yet");
        std::os::unix::fs::symlink("gone.pem", dir.path().join(CA)).unwrap();
        assert!(there(CA), "clients would no longer be asked for a certificate");
        std::os::unix::fs::symlink("gone.pem", dir.path().join(CRL)).unwrap();
        let error = Directory(dir.path()).revocations().expect_err("what was taken back would be accepted");
        assert!(matches!(error, TlsError::Read { path, .. } if path.ends_with(CRL)));
    }

    #[test]
    fn what_cannot_be_looked_at_is_not_an_absent_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Directory(file.path()).has(CA), "ENOTDIR says nothing about the file");
    }
}
