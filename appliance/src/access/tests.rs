//! What is asked of a register that is on a disk.

use super::*;
use crate::pool::NewVolumes;
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
        let access = Access::open(pool(dir.path())).unwrap();
        add(&access, "a", None, &[Right::Replicate, Right::Read]);
        add(&access, "b", None, &[Right::Replicate, Right::Read]);
        assert!(!access.sees(&peer("a"), &volume("v")));
        access.claim(&peer("a"), &volume("v")).unwrap();
    }
    let access = Access::open(pool(dir.path())).unwrap();
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
    let access = Access::open(pool(dir.path())).unwrap();
    add(&access, "a", Some("db-*"), &[Right::Replicate]);
    access.claim(&peer("a"), &volume("db-1")).unwrap();
    assert!(access.claim(&peer("a"), &volume("web")).is_err());
    assert!(access.may(&peer("a"), Right::Read, Some(&volume("db-1"))).is_err());
}

#[test]
fn an_unknown_client_may_nothing_and_who_is_local_everything() {
    let dir = tempfile::tempdir().unwrap();
    let access = Access::open(pool(dir.path())).unwrap();
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
    add(&Access::open(pool(dir.path())).unwrap(), "a", None, &[Right::Read]);
    let path = dir.path().join("access/register");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = Access::open(pool(dir.path())).unwrap_err().to_string();
    assert!(error.contains("CRC-32 mismatch") && error.contains("enrol all clients again"), "{error}");
}
