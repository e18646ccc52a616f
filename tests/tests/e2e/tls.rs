//! NBD through TLS, with certificates by `certtool`: who is let in, who is not, and what nobody gets past it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use understudy_tests::certificates::{Authority, End};
use understudy_tests::image::{self, MIB};
use understudy_tests::{Appliance, Lab, Outcome, Rng, Run, UNDERSTUDYD, args, compare, seed, tool};

/// A daemon with a volume `v` and the file that it is, under these terms.
fn scene(lab: &Lab, tls: &str, certificates: &Path) -> (Appliance, PathBuf) {
    let more = args!["--nbd-tls", tls, "--nbd-tls-certificates", certificates];
    let appliance = Appliance::start_with(lab, &lab.file("pool"), more);
    let source = lab.file("source.raw");
    image::mixed(&source, 4 * MIB, &mut Rng::new(seed()));
    appliance.replicate(&source, "v");
    (appliance, source)
}

/// The certificate of a server that asks clients for nothing: without the authority's beside it.
fn alone(dir: PathBuf) -> PathBuf {
    std::fs::remove_file(dir.join("ca-cert.pem")).expect("the authority's certificate");
    dir
}

fn nbdinfo(uri: &str) -> Outcome {
    Run::peer("nbdinfo").args(args!["--size", uri]).run()
}

/// What qemu is told to read an export through TLS.
fn qemu_img(appliance: &Appliance, command: &str, certificates: &Path) -> Run {
    let (host, port) = appliance.nbd_address().rsplit_once(':').expect("HOST:PORT");
    let credentials = format!("tls-creds-x509,id=tls0,endpoint=client,dir={}", certificates.display());
    let image = format!("driver=nbd,host={host},port={port},export=v,tls-creds=tls0");
    Run::peer("qemu-img").args(args![command, "--object", credentials, "--image-opts", image])
}

#[test]
fn clients_that_trust_the_authority_read_through_tls() {
    let lab = Lab::new();
    let authority = Authority::new(&lab, "authority");
    let trust = authority.trust("client");
    for tls in ["on", "require"] {
        let lab = Lab::new();
        let (appliance, source) = scene(&lab, tls, &alone(authority.identity(End::Server, tls)));
        let outcome = tool("nbdinfo", args!["--json", appliance.tls_uri("v", &trust)]);
        assert_eq!(outcome.json()["TLS"], true, "{outcome}");
        let copy = lab.file("copy.raw");
        tool("nbdcopy", args![appliance.tls_uri("v", &trust), &copy]);
        compare::assert_same(&copy, &source, "nbdcopy over four encrypted connections");
        qemu_img(&appliance, "info", &trust).run().expect_code(0);
    }
}

#[test]
fn a_client_in_the_clear_is_served_where_tls_is_optional_and_told_where_it_is_not() {
    let lab = Lab::new();
    let certificates = alone(Authority::new(&lab, "authority").identity(End::Server, "server"));
    let (optional, source) = scene(&lab, "on", &certificates);
    optional.assert_export(&lab, "v", &source);
    drop(optional);
    let lab = Lab::new();
    let (required, _) = scene(&lab, "require", &certificates);
    for uri in [required.uri("v"), required.unix_uri("v")] {
        assert_ne!(nbdinfo(&uri).code, Some(0), "nothing is told in the clear");
        let outcome = Run::peer("qemu-img").args(args!["info", &uri]).run().expect_code(1);
        outcome.says("this server requires TLS");
    }
}

#[test]
fn with_the_certificate_of_an_authority_clients_must_show_one_that_it_signed() {
    let lab = Lab::new();
    let (authority, stranger) = (Authority::new(&lab, "authority"), Authority::new(&lab, "stranger"));
    let (appliance, _) = scene(&lab, "require", &authority.identity(End::Server, "server"));
    let spectator = authority.identity(End::Client, "spectator");
    nbdinfo(&appliance.tls_uri("v", &spectator)).expect_code(0);
    qemu_img(&appliance, "info", &spectator).run().expect_code(0);
    let forged = stranger.identity(End::Client, "forged");
    std::fs::copy(spectator.join("ca-cert.pem"), forged.join("ca-cert.pem")).expect("trusting the right server");
    for (dir, why) in [
        (authority.trust("nobody"), "no certificate"),
        (forged, "one of another authority"),
        (authority.expired(End::Client, "expired"), "one that is expired"),
        (authority.identity(End::Server, "server as client"), "one of a server only"),
    ] {
        assert_ne!(nbdinfo(&appliance.tls_uri("v", &dir)).code, Some(0), "{why} lets nobody in");
    }
    nbdinfo(&appliance.tls_uri("v", &spectator)).expect_code(0);
}

#[test]
fn a_certificate_that_was_taken_back_lets_nobody_in() {
    let lab = Lab::new();
    let authority = Authority::new(&lab, "authority");
    let (server, gone) = (authority.identity(End::Server, "server"), authority.identity(End::Client, "gone"));
    std::fs::copy(authority.revoke(End::Client, &gone), server.join("ca-crl.pem")).expect("the list beside the others");
    let (appliance, _) = scene(&lab, "on", &server);
    nbdinfo(&appliance.tls_uri("v", &authority.identity(End::Client, "still here"))).expect_code(0);
    assert_ne!(nbdinfo(&appliance.tls_uri("v", &gone)).code, Some(0), "it was revoked");
}

#[test]
fn clients_refuse_a_server_that_they_cannot_trust() {
    let lab = Lab::new();
    let (authority, stranger) = (Authority::new(&lab, "authority"), Authority::new(&lab, "stranger"));
    let (wrong, expired) = (stranger.trust("wrong"), alone(authority.expired(End::Server, "server")));
    let (appliance, _) = scene(&lab, "require", &expired);
    for trust in [wrong, authority.trust("right")] {
        assert_ne!(nbdinfo(&appliance.tls_uri("v", &trust)).code, Some(0), "it is expired, or of another authority");
    }
}

/// Greeted, past the client's flags, with a limit to every wait.
fn haggling(appliance: &Appliance) -> TcpStream {
    let mut socket = TcpStream::connect(appliance.nbd_address()).expect("the NBD port");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    socket.read_exact(&mut [0; 18]).expect("a greeting");
    socket.write_all(&[0, 0, 0, 3]).expect("flags");
    socket
}

fn option(number: u8) -> Vec<u8> {
    [&b"IHAVEOPT"[..], &[0, 0, 0, number], &[0; 4]].concat()
}

#[test]
fn bytes_from_before_the_encryption_never_pass_for_encrypted() {
    let lab = Lab::new();
    let (appliance, _) = scene(&lab, "on", &alone(Authority::new(&lab, "authority").identity(End::Server, "server")));
    let mut socket = haggling(&appliance);
    // In one piece: whoever is between the two could have put the second there.
    socket.write_all(&[option(5), option(3)].concat()).expect("STARTTLS and LIST");
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    assert_eq!(answer, b"", "neither is acknowledged");
}

#[test]
fn nonsense_instead_of_tls_ends_the_connection_alone() {
    let lab = Lab::new();
    let authority = Authority::new(&lab, "authority");
    let (appliance, _) = scene(&lab, "on", &alone(authority.identity(End::Server, "server")));
    let mut socket = haggling(&appliance);
    socket.write_all(&option(5)).expect("STARTTLS");
    socket.read_exact(&mut [0; 20]).expect("an acknowledgement");
    socket.write_all(&option(3)).expect("LIST in the clear");
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    assert!(!answer.windows(2).any(|pair| pair == [0x03, 0xe8]), "LIST is not answered in the clear: {answer:?}");
    nbdinfo(&appliance.tls_uri("v", &authority.trust("client"))).expect_code(0);
}

#[test]
fn a_daemon_without_the_certificates_that_it_was_told_does_not_start() {
    let lab = Lab::new();
    let start = |more| {
        let common = args!["serve", "--pool", lab.file("pool"), "--listen", "127.0.0.1:0", "--nbd", "127.0.0.1:0"];
        Run::ours(UNDERSTUDYD).args(common).args(more).run()
    };
    start(args!["--nbd-tls", "require"]).expect_code(1).says("--nbd-tls-certificates");
    let refused = start(args!["--nbd-tls", "on", "--nbd-tls-certificates", lab.dir("empty")]).expect_refusal();
    refused.says("server-cert.pem").says("expected a certificate");
    assert!(!lab.file("pool").exists(), "nothing was begun");
}
