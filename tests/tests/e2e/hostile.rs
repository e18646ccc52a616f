//! Hostile peers on every port that listens: whatever they send, nothing is told to them, nothing ends but their connection, nothing leaks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::access::{audit, enrolled, guarded, token};
use crate::frames::forge;
use understudy_tests::certificates::{Authority, End};
use understudy_tests::image::{self, MIB};
use understudy_tests::wait::wait_until;
use understudy_tests::{Appliance, Lab, Outcome, Rng, Run, args, compare, seed, tool};

/// A daemon with a volume `v` and a client that may do everything with it.
struct Scene {
    appliance: Appliance,
    identity: std::path::PathBuf,
    source: std::path::PathBuf,
    files: usize,
}

impl Scene {
    fn new(lab: &Lab) -> Scene {
        let appliance = guarded(lab);
        let identity = enrolled(lab, &appliance, "owner", &[]);
        let source = lab.file("source.raw");
        image::mixed(&source, 2 * MIB, &mut Rng::new(seed()));
        let scene = Scene { appliance, identity, source, files: 0 };
        scene.ours(Appliance::replicate_args(&scene.source, "v")).expect_code(0);
        scene.ours(args!["volumes"]).expect_code(0);
        let files = scene.appliance.open_files();
        Scene { files, ..scene }
    }

    fn ours(&self, arguments: Vec<std::ffi::OsString>) -> Outcome {
        self.appliance.initiator(arguments).env("UNDERSTUDY_IDENTITY", &self.identity).run()
    }

    /// After all of it: the daemon serves who may, has no more open than before, and panicked nowhere.
    fn assert_unharmed(&self, lab: &Lab) {
        self.ours(args!["verify", &self.source, "v"]).expect_code(0);
        let copy = lab.file("copy.raw");
        tool("nbdcopy", args![self.appliance.tls_uri("v", &self.identity), &copy]);
        compare::assert_same(&copy, &self.source, "what is there after an attack");
        wait_until("what hostile peers had open is closed", || {
            let open = self.appliance.open_files();
            // Segments and images that were read since may be open.
            if open <= self.files + 8 { Ok(()) } else { Err(format!("{open} are open, {} were", self.files)) }
        });
        let log = self.appliance.log();
        assert!(!log.contains("panicked"), "{log}");
    }

    fn ports(&self) -> [&str; 2] {
        [self.appliance.address(), self.appliance.nbd_address()]
    }
}

fn connect(address: &str) -> TcpStream {
    let socket = TcpStream::connect(address).expect("a port");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    socket
}

/// What comes back for these bytes, to the end of the connection.
fn answer(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut socket = connect(address);
    // The daemon may have closed before all of it was taken.
    let _ = socket.write_all(bytes).and_then(|()| socket.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    answer
}

/// `openssl s_client` with this input; what it printed.
fn s_client(lab: &Lab, address: &str, more: Vec<std::ffi::OsString>, input: &[u8]) -> String {
    let file = lab.write("input", input);
    let common = args!["s_client", "-connect", address, "-ign_eof", "-brief"];
    Run::peer("openssl").args(common).args(more).stdin(&file).run().all()
}

fn certificate(dir: &Path, end: &str) -> Vec<std::ffi::OsString> {
    args!["-cert", dir.join(format!("{end}-cert.pem")), "-key", dir.join(format!("{end}-key.pem"))]
}

#[test]
fn bytes_that_are_no_protocol_end_their_own_connection() {
    let lab = Lab::new();
    let scene = Scene::new(&lab);
    let mut rng = Rng::new(seed());
    let noise: Vec<u8> = (0..100_000).map(|_| rng.below(256) as u8).collect();
    let oversize_record = [&[0x16, 3, 1, 0xff, 0xff][..], &[0; 70_000]].concat();
    let oversize_frame = [&b"CHNK"[..], &[0; 4], &u32::MAX.to_le_bytes(), &[0; 4]].concat();
    let hello = forge(b"HELO", 0, &[1, 0, 0, 0]);
    for address in scene.ports() {
        for bytes in
            [&noise[..], &oversize_record, &oversize_frame, &hello, b"GET / HTTP/1.1\r\n\r\n", b"", b"H", &[0; 65_536]]
        {
            let answer = String::from_utf8_lossy(&answer(address, bytes)).into_owned();
            assert!(!answer.contains("\"name\"") && !answer.contains("v@1"), "{answer}");
        }
    }
    let told = String::from_utf8_lossy(&answer(scene.appliance.address(), &hello)).into_owned();
    assert!(told.contains("understudy login"), "a client in the clear is told what to do: {told}");
    scene.assert_unharmed(&lab);
}

#[test]
fn who_says_nothing_or_next_to_nothing_takes_no_place_from_others() {
    let lab = Lab::new();
    let scene = Scene::new(&lab);
    // More than there may be from one address, each with a first byte of a handshake and no second.
    let mut silent: Vec<TcpStream> = (0..200).map(|_| connect(scene.appliance.address())).collect();
    for socket in &mut silent {
        let _ = socket.write_all(&[0x16]);
    }
    wait_until("those that are too many are closed", || {
        let log = scene.appliance.log();
        if log.contains("too many have not said who they are") { Ok(()) } else { Err(log) }
    });
    // From another address there is a place at once.
    let mut other = socket_from([127, 0, 0, 9], scene.appliance.address());
    other.write_all(b"HELO").expect("a connection that is served");
    let mut told = Vec::new();
    other.read_to_end(&mut told).expect("an answer");
    assert!(String::from_utf8_lossy(&told).contains("understudy login"));
    for mut socket in silent {
        // The daemon ends it, by its own limit.
        let _ = socket.read_to_end(&mut Vec::new());
    }
    scene.assert_unharmed(&lab);
}

#[test]
fn who_shows_no_certificate_takes_no_seat_from_those_who_are_known() {
    let lab = Lab::new();
    let config = lab.write("understudyd.yaml", b"version: 1\nlimits: {sessions: 1}\n");
    let appliance = Appliance::start_with(&lab, &lab.file("pool"), args!["--tls", "on", "--config", &config]);
    let web = enrolled(&lab, &appliance, "web", &[]);
    let words = args!["s_client", "-connect", appliance.address(), "-alpn", "understudy/1", "-brief"];
    let mut command = Run::peer("openssl").args(words).command();
    let mut stranger = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("openssl starts");
    let lines = BufReader::new(stranger.stderr.take().expect("a pipe")).lines();
    let established = lines.map_while(Result::ok).any(|line| line.contains("CONNECTION ESTABLISHED"));
    assert!(established, "it stays, and says nothing");
    let volumes = appliance.initiator(args!["volumes"]).env("UNDERSTUDY_IDENTITY", &web).run();
    volumes.expect_code(0);
    assert_eq!(stranger.try_wait().expect("it is ours"), None, "it is there all the while");
    stranger.kill().and_then(|()| stranger.wait()).expect("it ends");
}

fn socket_from(from: [u8; 4], to: &str) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let to: std::net::SocketAddr = to.parse().expect("an address");
    let own = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&own, &std::net::SocketAddr::from((from, 0))).expect("an address of loopback");
    connect(&own, &to).expect("a connection");
    let stream = TcpStream::from(own);
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    stream
}

#[test]
fn who_shows_no_certificate_may_become_a_client_and_nothing_else() {
    let lab = Lab::new();
    let scene = Scene::new(&lab);
    let address = scene.appliance.address();
    let hello = forge(b"HELO", 0, &sealed(&[1, 0, 1, 0, b'x']));
    for (tag, body) in [(b"LVOL", &[][..]), (b"LOVL", &[]), (b"ENRL", &[0; 81]), (b"PUSH", &[1, 0, b'v', 0, 0])] {
        let input = [hello.clone(), forge(tag, 0, &sealed(body))].concat();
        let output = s_client(&lab, address, args!["-alpn", "understudy/1", "-tls1_3", "-quiet"], &input);
        assert!(output.contains("FAIL") && !output.contains("VOLL") && !output.contains("IDTY"), "{output}");
    }
    let output =
        s_client(&lab, address, args!["-alpn", "http/1.1", "-quiet"], b"GET /v1/volumes HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(
        output.contains("401 Unauthorized")
            && output.contains("urn:understudy:problem:stranger")
            && !output.contains("\"v\""),
        "{output}"
    );
    let log = audit(&scene.appliance);
    assert!(log.contains("without a certificate"), "{log}");
    scene.assert_unharmed(&lab);
}

/// A body with its CRC-32.
fn sealed(body: &[u8]) -> Vec<u8> {
    let mut body = [body, &[0; 4]].concat();
    crate::frames::reseal(&mut body);
    body
}

#[test]
fn older_tls_and_other_protocols_are_refused() {
    let lab = Lab::new();
    let scene = Scene::new(&lab);
    let own = certificate(&scene.identity, "client");
    for more in [args!["-tls1_2", "-alpn", "understudy/1"], args!["-alpn", "h2"], args!["-alpn", "nbd,xmpp"], args![]] {
        let output = s_client(
            &lab,
            scene.appliance.address(),
            [own.clone(), more.clone()].concat(),
            b"GET /v1/volumes HTTP/1.1\r\nHost: x\r\n\r\n",
        );
        assert!(!output.contains("200 OK") && !output.contains("\"name\""), "{more:?}: {output}");
    }
    scene.assert_unharmed(&lab);
}

#[test]
fn certificates_of_others_and_expired_ones_are_refused() {
    let lab = Lab::new();
    let scene = Scene::new(&lab);
    let foreign = Authority::new(&lab, "foreign");
    let strangers = [foreign.identity(End::Client, "stranger"), foreign.expired(End::Client, "expired")];
    for dir in &strangers {
        // What it trusts is right, who vouches for it is not.
        std::fs::copy(scene.identity.join("ca-cert.pem"), dir.join("ca-cert.pem")).expect("the authority");
        let outcome = scene.appliance.initiator(args!["volumes"]).env("UNDERSTUDY_IDENTITY", dir).run();
        outcome.expect_code(1);
        let nbd = Run::peer("nbdinfo").args(args!["--size", scene.appliance.tls_uri("v", dir)]).run();
        assert_ne!(nbd.code, Some(0), "{nbd}");
    }
    scene.assert_unharmed(&lab);
}

#[test]
fn a_host_that_is_not_the_appliance_gets_no_token() {
    let lab = Lab::new();
    let scene = Scene::new(&lab);
    let other = Lab::new();
    let elsewhere = guarded(&other);
    let token = token(&elsewhere, &["web"]);
    let dir = lab.file("nothing");
    let login =
        scene.appliance.understudy(args!["login", scene.appliance.address(), "--token", &token, "--identity", &dir]);
    login.expect_code(1).says("not the one that the token is of");
    assert!(!dir.exists());
    // It was not spent on the wrong one.
    elsewhere.understudy(args!["login", elsewhere.address(), "--token", &token, "--identity", &dir]).expect_code(0);
}

/// Relays one connection, and has all that its client sent in the end.
fn recorder(target: &str) -> (String, std::thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (address, server) = (listener.local_addr().expect("an address").to_string(), connect(target));
    let recording = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let (mut back, mut from) = (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
        std::thread::spawn(move || std::io::copy(&mut from, &mut back));
        let mut sent = Vec::new();
        let mut piece = [0; 4096];
        while let Ok(read @ 1..) = client.read(&mut piece) {
            sent.extend_from_slice(&piece[..read]);
            (&server).write_all(&piece[..read]).expect("the appliance");
        }
        let _ = server.shutdown(Shutdown::Write);
        sent
    });
    (address, recording)
}

#[test]
fn a_handshake_that_was_recorded_is_of_no_use() {
    let lab = Lab::new();
    let scene = Scene::new(&lab);
    let (between, recorded) = recorder(scene.appliance.address());
    scene.ours(args!["volumes", "--to", between]).expect_code(0);
    let sent = recorded.join().expect("a recording");
    assert!(!sent.is_empty());
    let replayed = answer(scene.appliance.address(), &sent);
    assert!(!replayed.windows(4).any(|tag| tag == b"VOLL"), "nothing is told to who replays");
    scene.assert_unharmed(&lab);
}
