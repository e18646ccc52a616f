//! The pool's own authority: it vouches for the clients and for the appliance, and for nothing else in the world.
//!
//! Its key is in the pool, in a file that only the daemon's user can open; the appliance's own key is never on a disk, a new one is made whenever one
//! is needed. Invariants: what a certificate says is decided here, never by who asks for it; a client's certificate is good for nothing but
//! being that client, and only while the register has its digest.

use crate::clock;
use crate::error::{Error, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::time::Duration;
use understudy_format::Digest;
use understudy_format::access::ClientName;
use understudy_format::wire::access::PublicKey;
use understudy_net::tls::APPLIANCE;

const DAY_NS: i64 = 24 * 3600 * 1_000_000_000;
/// How long the authority's own certificate is good.
const AUTHORITY_NS: i64 = 20 * 365 * DAY_NS;
/// How long a client's certificate is good.
const CLIENT_NS: i64 = 365 * DAY_NS;
/// How long a client uses a certificate before it asks for the next one.
const CLIENT_RENEW_NS: i64 = CLIENT_NS / 3 * 2;
/// How long the appliance's certificate is good: another one is made every day.
const SERVER_NS: i64 = 30 * DAY_NS;
/// How far the clock of a client may be behind.
const SLACK_NS: i64 = DAY_NS;

/// See the module documentation.
pub(super) struct Authority {
    key: KeyPair,
    /// Its own certificate, PEM.
    own: String,
    /// What the former authority left: a certificate of it for this one's key, and its own; PEM.
    former: String,
}

/// A certificate for a client.
pub(super) struct Issued {
    pub(super) pem: String,
    pub(super) digest: Digest,
    pub(super) expires_ns: i64,
    pub(super) renew_ns: i64,
}

/// A certificate of the appliance, with all that leads from it to an authority, and its key.
pub(super) struct ServerIdentity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// A new one.
    pub(super) fn make(now_ns: i64) -> Result<Self> {
        let key = KeyPair::generate().map_err(broken)?;
        let own = authority_params(&key, now_ns).self_signed(&key).map_err(broken)?.pem();
        Ok(Self { key, own, former: String::new() })
    }

    /// A new one, which who trusts this one trusts as well.
    pub(super) fn succeed(&self, now_ns: i64) -> Result<Self> {
        let next = Self::make(now_ns)?;
        let crossed = authority_params(&next.key, now_ns).signed_by(&next.key, &self.issuer()).map_err(broken)?.pem();
        Ok(Self { former: crossed + &self.own, ..next })
    }

    /// The same without what the former one left.
    pub(super) fn alone(self) -> Self {
        Self { former: String::new(), ..self }
    }

    /// From its file.
    pub(super) fn read(pem: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(pem).map_err(broken)?;
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(broken)?;
        let key = KeyPair::try_from(&key).map_err(broken)?;
        let (own, rest) = first_certificate(text).ok_or_else(|| broken("there is no certificate in it"))?;
        let former = rest.find("-----BEGIN CERTIFICATE").map_or("", |at| &rest[at..]);
        Ok(Self { key, own: own.to_owned(), former: former.to_owned() })
    }

    /// What its file has.
    pub(super) fn pem(&self) -> String {
        format!("{}{}{}", self.own, self.key.serialize_pem(), self.former)
    }

    /// The digest of its certificate, for tokens.
    pub(super) fn digest(&self) -> Result<Digest> {
        Ok(Digest::of_certificate(&certificates(&self.own)?[0]))
    }

    /// What a client is to trust, PEM.
    pub(super) fn trusted_pem(&self) -> &str {
        &self.own
    }

    /// Whose clients are trusted: this one's, and those of the former one.
    pub(super) fn trusted(&self) -> Result<Vec<CertificateDer<'static>>> {
        Ok([certificates(&self.own)?, certificates(&self.former)?].concat())
    }

    /// A certificate for a client's key.
    pub(super) fn issue_client(&self, name: &ClientName, key: &PublicKey, now_ns: i64) -> Result<Issued> {
        let mut params = params(name.as_str(), now_ns, CLIENT_NS);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&ClientKey(key), &self.issuer()).map_err(broken)?;
        let (pem, digest) = (certificate.pem(), Digest::of_certificate(certificate.der()));
        Ok(Issued { pem, digest, expires_ns: now_ns + CLIENT_NS, renew_ns: now_ns + CLIENT_RENEW_NS })
    }

    /// A certificate and a key for the appliance, which clients of other programs reach by `names`.
    pub(super) fn issue_server(&self, names: &[String], now_ns: i64) -> Result<ServerIdentity> {
        let key = KeyPair::generate().map_err(broken)?;
        let names: Vec<String> = [APPLIANCE.to_owned()].into_iter().chain(names.iter().cloned()).collect();
        let mut params = params(APPLIANCE, now_ns, SERVER_NS);
        params.subject_alt_names = alternatives(&names)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer()).map_err(broken)?;
        let (crossed, own) = (certificates(&self.former)?.into_iter().next(), certificates(&self.own)?);
        let chain = [certificate.der().clone()].into_iter().chain(crossed).chain(own).collect();
        Ok(ServerIdentity { chain, key: PrivateKeyDer::Pkcs8(key.serialize_der().into()) })
    }

    fn issuer(&self) -> Issuer<'static, &KeyPair> {
        Issuer::new(authority_params(&self.key, 0), &self.key)
    }
}

/// Its name follows from its key, so that no two are taken for one another.
fn authority_params(key: &KeyPair, now_ns: i64) -> CertificateParams {
    let name = format!("Understudy authority {}", Digest::of_record(key.public_key_raw()).short());
    let mut params = params(&name, now_ns, AUTHORITY_NS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn params(name: &str, now_ns: i64, lasts_ns: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(serial());
    let (epoch, since) = (date_time_ymd(1970, 1, 1), |ns: i64| Duration::from_nanos(ns.max(0) as u64));
    params.not_before = epoch + since(now_ns - SLACK_NS);
    params.not_after = epoch + since(now_ns + lasts_ns);
    // What TLS 1.3 needs, and what QEMU looks for besides.
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.use_authority_key_identifier_extension = true;
    params
}

/// 16 random bytes, positive.
fn serial() -> SerialNumber {
    let mut bytes = *clock::random_uuid().as_bytes();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn alternatives(names: &[String]) -> Result<Vec<rcgen::SanType>> {
    let wrong = |error| Error::refused(format!("tls-names: {error}; expected names of hosts and addresses"));
    Ok(CertificateParams::new(names.to_vec()).map_err(wrong)?.subject_alt_names)
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<std::result::Result<_, _>>().map_err(broken)
}

/// The first certificate of a text, and what follows it.
fn first_certificate(text: &str) -> Option<(&str, &str)> {
    const END: &str = "-----END CERTIFICATE-----\n";
    let at = text.find("-----BEGIN CERTIFICATE")?;
    let end = at + text[at..].find(END)? + END.len();
    Some((&text[at..end], &text[end..]))
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::Broken(format!("the pool's authority: {error}"))
}

struct ClientKey<'a>(&'a PublicKey);

impl PublicKeyData for ClientKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}
