//! Our client against our server, and against scripted servers that answer in any order, wrongly, late or never.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{JoinHandle, spawn};

use understudy_format::nbd::fit;
use understudy_net::nbd_client::{Address, Client, ClientError, Server};

use super::fixture::{Fixture, RUN, SIZE, byte_at, extents_of};

fn tcp(fixture: &Fixture) -> Server {
    Server { address: Address::Tcp { host: "127.0.0.1".into(), port: fixture.tcp.port() }, tls: None }
}

fn unix(fixture: &Fixture) -> Server {
    Server { address: Address::Unix(fixture.dir.path().join("s")), tls: None }
}

fn contexts(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[track_caller]
fn assert_read(client: &Client, offset: u64, length: usize) {
    let mut found = vec![0xaa; length];
    client.read_at(offset, &mut found).unwrap();
    let first = found.iter().zip(offset..).position(|(found, offset)| *found != byte_at(offset));
    assert_eq!(first, None, "{length} bytes at {offset}");
}

/// Many threads on few connections: what comes for one of them while another receives is not lost.
#[test]
fn threads_share_connections() {
    let fixture = Fixture::start();
    for (server, most) in [(tcp(&fixture), 1), (unix(&fixture), 1), (tcp(&fixture), 4), (unix(&fixture), 3)] {
        let client = Client::connect(&server, "pattern", &[], most).unwrap();
        assert_eq!((client.connections(), client.session().size), (most, SIZE));
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let client = &client;
                scope.spawn(move || {
                    for step in 0..20u64 {
                        let mixed = (thread * 1000 + step).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
                        let offset = mixed % (SIZE - 1);
                        let length = (mixed >> 12) % (3 << 20);
                        assert_read(client, offset, length.min(SIZE - offset) as usize);
                    }
                });
            }
        });
    }
}

#[test]
fn extents_are_told_in_each_context() {
    let fixture = Fixture::start();
    let wanted = contexts(&["base:allocation", "x-test:none"]);
    let client = Client::connect(&tcp(&fixture), "pattern", &wanted, 1).unwrap();
    assert_eq!(client.session().contexts.len(), 1);
    let told = client.block_status(RUN, 10 * RUN).unwrap();
    assert_eq!(told[0].extents, fit(extents_of(RUN, 11 * RUN), 10 * RUN, false));
}

#[test]
fn a_failure_is_told_in_the_servers_words_and_ends_nothing() {
    let fixture = Fixture::start();
    let client = Client::connect(&tcp(&fixture), "broken", &[], 2).unwrap();
    for _ in 0..4 {
        let error = client.read_at(0, &mut [0; 512]).unwrap_err();
        assert_eq!(error.to_string(), "the server said: block 0 of point p1 is damaged (at offset 0) (EIO)");
    }
    let error = Client::connect(&tcp(&fixture), "nobody", &[], 1).unwrap_err().to_string();
    assert_eq!(error, "GO was refused (UnknownExport): no volume is named \"nobody\"");
}

#[test]
fn block_sizes_are_kept_and_nobody_notices() {
    let fixture = Fixture::start();
    let client = Client::connect(&tcp(&fixture), "writable", &[], 1).unwrap();
    assert_eq!(client.session().alignment, 512);
    for (offset, length) in [(0, 512), (1, 1), (511, 2), (1000, 100_000), ((1 << 20) - 1, 1)] {
        let mut found = vec![7; length];
        client.read_at(offset, &mut found).unwrap();
        assert!(found.iter().all(|byte| *byte == 0), "{length} bytes at {offset}");
    }
}

/// A server that knows no options: 1 MiB, simple replies; `serve` gets the connection behind the handshake.
fn scripted(flags: u16, serve: impl FnOnce(TcpStream) + Send + 'static) -> (Server, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"NBDMAGICIHAVEOPT\0\0").unwrap();
        let mut asked = [0; 4 + 16 + 1];
        stream.read_exact(&mut asked).unwrap();
        assert_eq!(&asked[4..12], b"IHAVEOPT");
        stream.write_all(&(1u64 << 20).to_be_bytes()).unwrap();
        stream.write_all(&flags.to_be_bytes()).unwrap();
        stream.write_all(&[0; 124]).unwrap();
        serve(stream);
        // Who connects later is not answered, and not refused either.
        drop(listener);
    });
    (Server { address: Address::Tcp { host: "127.0.0.1".into(), port }, tls: None }, thread)
}

/// The next request: cookie, offset and length; `None` when the client is gone.
fn request(stream: &mut TcpStream) -> Option<(u64, u64, usize)> {
    let mut head = [0; 28];
    stream.read_exact(&mut head).ok()?;
    let number = |at: usize, length: usize| head[at..at + length].iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
    (number(6, 2) == 0).then(|| (number(8, 8), number(16, 8), number(24, 4) as usize))
}

fn reply(stream: &mut TcpStream, cookie: u64, content: &[u8]) {
    let head = [&[0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0][..], &cookie.to_be_bytes()].concat();
    stream.write_all(&[&head, content].concat()).unwrap();
}

#[test]
fn replies_in_another_order_find_their_place() {
    let (server, thread) = scripted(1, |mut stream| {
        let mut requests: Vec<_> = (0..4).map_while(|_| request(&mut stream)).collect();
        assert_eq!(requests.len(), 4, "all of them are sent before any is answered");
        requests.reverse();
        for (cookie, offset, length) in requests {
            reply(&mut stream, cookie, &vec![(offset >> 18) as u8 + 1; length]);
        }
        assert_eq!(request(&mut stream), None, "the client says that it goes");
    });
    let client = Client::connect(&server, "e", &[], 4).unwrap();
    let mut found = vec![0; 1 << 20];
    client.read_at(0, &mut found).unwrap();
    assert!((0..4).all(|part| found[part << 18..(part + 1) << 18].iter().all(|byte| *byte == part as u8 + 1)));
    drop(client);
    thread.join().unwrap();
}

/// What a read makes of a server that answers it so.
#[track_caller]
fn fails(serve: impl FnOnce(&mut TcpStream, u64) + Send + 'static, expected: &str) {
    let (server, thread) = scripted(1, move |mut stream| {
        let (cookie, ..) = request(&mut stream).unwrap();
        serve(&mut stream, cookie);
    });
    let client = Client::connect(&server, "e", &[], 1).unwrap();
    let error = client.read_at(0, &mut [0; 4096]).unwrap_err();
    assert_eq!(error.to_string(), expected);
    let again = client.read_at(0, &mut [0; 4096]).unwrap_err();
    assert!(matches!(&again, ClientError::Broken(text) if text == expected), "it stays broken: {again}");
    drop(client);
    thread.join().unwrap();
}

#[test]
fn wrong_answers_end_the_connection() {
    let prefix = "the server sent what makes no sense";
    let unknown = format!("{prefix}: a reply to a request that is not under way (cookie 99)");
    fails(|stream, _| reply(stream, 99, &[0; 4096]), &unknown);
    fails(|stream, _| stream.write_all(b"HTTP/1.1").unwrap(), &format!("{prefix}: reply: bad magic 0x48545450"));
    fails(|_, _| {}, "the server closed the connection");
    fails(|stream, cookie| reply(stream, cookie, &[0; 4000]), "the server closed the connection");
    // A reply in chunks was not agreed on.
    let chunk = [0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 0];
    fails(move |stream, _| stream.write_all(&chunk).unwrap(), &format!("{prefix}: reply: bad magic 0x668e33ef"));
}

#[test]
fn another_connection_that_nobody_answers_is_done_without() {
    const CAN_MULTI_CONN: u16 = 1 << 8;
    let (server, thread) = scripted(1 | CAN_MULTI_CONN, |mut stream| {
        let (cookie, _, length) = request(&mut stream).unwrap();
        reply(&mut stream, cookie, &vec![5; length]);
        assert_eq!(request(&mut stream), None);
    });
    let client = Client::connect(&server, "e", &[], 4).unwrap();
    assert_eq!(client.connections(), 1);
    let mut found = [0; 4096];
    client.read_at(0, &mut found).unwrap();
    assert_eq!(found, [5; 4096]);
    drop(client);
    thread.join().unwrap();
}
