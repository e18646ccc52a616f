//! What is asked of a register that is on a disk.

use super::*;
use crate::clock;
use crate::pool::NewVolumes;
use rustls::client::danger::ServerCertVerifier;
use std::path::Path;
use understudy_format::access::Rights;
use understudy_format::catalogue::Settings;

fn pool(dir: &Path) -> Arc<Pool> {
    Arc::new(crate::open_pool(dir, NewVolumes::from(Settings::default())).unwrap())
}

fn peer(name: &str) -> Peer {
    Peer::Client(name.parse().unwrap())
}

fn volume(name: &str) -> VolumeName {
    name.parse().unwrap()
}

fn add(access: &Access, name: &str, pattern: Option<&str>, rights: &[Right]) {
    let name: ClientName = name.parse().unwrap();
    let rights: Rights = rights.iter().copied().collect();
    let add = |register: &mut Register| {
        let client = register.clients.entry(name.clone()).or_insert_with(|| Client::new(name.clone(), 0));
        client.grant(pattern.map(|text| text.parse().unwrap()), rights);
        Ok(())
    };
    access.change(add).unwrap();
}

#[test]
fn a_client_owns_what_it_creates_and_keeps_it_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    {
        let access = Access::open(pool(dir.path()), false).unwrap();
        add(&access, "a", None, &[Right::Replicate, Right::Read]);
        add(&access, "b", None, &[Right::Replicate, Right::Read]);
        assert!(!access.sees(&peer("a"), &volume("v")));
        access.claim(&peer("a"), &volume("v")).unwrap();
    }
    let access = Access::open(pool(dir.path()), false).unwrap();
    assert!(access.may(&peer("a"), Right::Read, Some(&volume("v"))).is_ok());
    assert!(!access.sees(&peer("b"), &volume("v")));
    let error = access.claim(&peer("b"), &volume("v")).unwrap_err().to_string();
    assert!(error.starts_with("client b has no right to replicate volume v"), "{error}");
    assert!(error.contains("`understudyd grant b --role replicate --volume v`"), "{error}");
    access.claim(&peer("a"), &volume("v")).unwrap();
}

#[test]
fn a_client_with_a_pattern_creates_what_matches_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let access = Access::open(pool(dir.path()), false).unwrap();
    add(&access, "a", Some("db-*"), &[Right::Replicate]);
    access.claim(&peer("a"), &volume("db-1")).unwrap();
    assert!(access.claim(&peer("a"), &volume("web")).is_err());
    assert!(access.may(&peer("a"), Right::Read, Some(&volume("db-1"))).is_err());
}

#[test]
fn a_name_that_another_client_has_is_taken_before_its_first_point_too() {
    let dir = tempfile::tempdir().unwrap();
    let access = Access::open(pool(dir.path()), false).unwrap();
    add(&access, "bob", None, &[Right::Replicate, Right::Read]);
    add(&access, "dba", Some("db-*"), &[Right::Replicate]);
    access.claim(&peer("bob"), &volume("db-secret")).unwrap();
    let error = access.claim(&peer("dba"), &volume("db-secret")).unwrap_err().to_string();
    assert!(error.contains("is of another client than dba"), "{error}");
    access.claim(&peer("dba"), &volume("db-1")).unwrap();
    assert!(access.claim(&peer("bob"), &volume("db-1")).is_err(), "it belongs to who creates it");
    access.claim(&peer("dba"), &volume("db-1")).unwrap();
}

#[test]
fn who_is_local_takes_a_name_from_a_client_that_brought_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let access = Access::open(pool(dir.path()), false).unwrap();
    add(&access, "bob", None, &[Right::Replicate, Right::Read]);
    access.claim(&peer("bob"), &volume("db-secret")).unwrap();
    access.claim(&Peer::Local, &volume("db-secret")).unwrap();
    assert!(!access.sees(&peer("bob"), &volume("db-secret")));
}

#[test]
fn an_unknown_client_may_nothing_and_who_is_local_everything() {
    let dir = tempfile::tempdir().unwrap();
    let access = Access::open(pool(dir.path()), false).unwrap();
    for right in Right::ALL {
        assert!(access.may(&peer("nobody"), right, Some(&volume("v"))).is_err());
        access.may(&Peer::Local, right, None).unwrap();
    }
    assert!(access.claim(&peer("nobody"), &volume("v")).is_err());
}

#[test]
fn the_register_is_a_secret_file_and_a_damaged_one_is_not_taken_for_none() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    add(&Access::open(pool(dir.path()), false).unwrap(), "a", None, &[Right::Read]);
    let path = dir.path().join("access/register");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = Access::open(pool(dir.path()), false).unwrap_err().to_string();
    assert!(error.contains("CRC-32 mismatch") && error.contains("enrol all clients again"), "{error}");
}

#[test]
fn a_token_is_good_once() {
    let dir = tempfile::tempdir().unwrap();
    let access = Access::open(pool(dir.path()), false).unwrap();
    let granted = enrol::Granted { rights: [Right::Read].into_iter().collect(), volumes: Vec::new() };
    let (name, key) = ("a".parse().unwrap(), public_key());
    let token = access.enroll(&name, &granted, false, i64::MAX).unwrap();
    let identity = access.redeem(&token.secret, &key, "here").unwrap();
    assert_eq!(identity.client, name);
    let again = access.redeem(&token.secret, &key, "here").unwrap_err().to_string();
    assert!(again.contains("was used, has expired"), "{again}");
    let log = |name| std::fs::read_to_string(dir.path().join("access").join(name)).unwrap();
    assert!(log("audit.jsonl").contains("\"act\":\"login\""), "{}", log("audit.jsonl"));
    assert!(log("refused.jsonl").contains("\"act\":\"refused\""), "{}", log("refused.jsonl"));
    assert!(!String::from_utf8_lossy(&std::fs::read(dir.path().join("access/register")).unwrap()).contains("secret"));
}

#[test]
fn a_token_that_expired_is_good_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let access = Access::open(pool(dir.path()), false).unwrap();
    let granted = enrol::Granted { rights: [Right::Read].into_iter().collect(), volumes: Vec::new() };
    let token = access.enroll(&"a".parse().unwrap(), &granted, false, 1).unwrap();
    access.redeem(&token.secret, &public_key(), "here").unwrap_err();
    assert!(access.clients()[0].certificates.is_empty());
}

#[test]
fn who_is_revoked_is_unknown_and_keeps_what_it_owns() {
    let dir = tempfile::tempdir().unwrap();
    let access = Access::open(pool(dir.path()), false).unwrap();
    let granted = enrol::Granted { rights: [Right::Replicate].into_iter().collect(), volumes: Vec::new() };
    let name: ClientName = "a".parse().unwrap();
    let token = access.enroll(&name, &granted, false, i64::MAX).unwrap();
    let second = access.enroll(&name, &granted, false, i64::MAX).unwrap();
    access.redeem(&token.secret, &public_key(), "here").unwrap();
    access.claim(&peer("a"), &volume("v")).unwrap();
    let known = access.clients()[0].certificates[0].certificate;
    assert_eq!(access.by_certificate(&known), Some(name.clone()));
    access.renew(&name, &known, &public_key()).unwrap();
    access.revoke(&name).unwrap();
    assert_eq!(access.by_certificate(&known), None);
    access.renew(&name, &known, &public_key()).unwrap_err();
    access.redeem(&second.secret, &public_key(), "here").unwrap_err();
    let third = access.enroll(&name, &granted, false, i64::MAX).unwrap();
    access.redeem(&third.secret, &public_key(), "here").unwrap();
    assert!(access.may(&peer("a"), Right::Replicate, Some(&volume("v"))).is_ok());
}

#[test]
fn no_client_takes_anything_away_from_an_append_only_pool() {
    let dir = tempfile::tempdir().unwrap();
    let access = Access::open(pool(dir.path()), true).unwrap();
    add(&access, "a", Some("*"), &Right::ALL);
    assert!(access.may(&peer("a"), Right::Administer, Some(&volume("v"))).is_err());
    assert!(access.may(&peer("a"), Right::Replicate, Some(&volume("v"))).is_ok());
    assert!(access.may_destroy(&peer("a")).is_err());
    access.may_destroy(&Peer::Local).unwrap();
}

#[test]
fn who_trusts_the_former_authority_trusts_its_successor() {
    let dir = tempfile::tempdir().unwrap();
    let access = Arc::new(Access::open(pool(dir.path()), false).unwrap());
    access.open_doors(Vec::new()).unwrap();
    let before = access.with_authority(|authority| authority.trusted()).unwrap();
    access.replace_authority(|authority| authority.succeed(clock::now_ns())).unwrap();
    access.renew_doors().unwrap();
    let identity = access.with_authority(|authority| authority.issue_server(&[], clock::now_ns())).unwrap();
    let verify = |anchor: &rustls::pki_types::CertificateDer<'static>| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(anchor.clone()).unwrap();
        let provider = understudy_net::tls::provider();
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let (name, now) = ("understudy-appliance".try_into().unwrap(), rustls::pki_types::UnixTime::now());
        verifier.build().unwrap().verify_server_cert(&identity.chain[0], &identity.chain[1..], &name, &[], now)
    };
    verify(&before[0]).unwrap();
    verify(identity.chain.last().unwrap()).unwrap();
    access.replace_authority(|authority| Ok(authority.alone())).unwrap();
    let identity = access.with_authority(|authority| authority.issue_server(&[], clock::now_ns())).unwrap();
    assert_eq!(identity.chain.len(), 2, "what the former one left is gone");
}

fn public_key() -> [u8; 65] {
    rcgen::KeyPair::generate().unwrap().public_key_raw().try_into().unwrap()
}
