//! Events in pieces of any length, and requests of a server that is a few bytes.

use super::events::Lines;
use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

const HEAD_END: &str = "\r\n\r\n";

fn event(name: &str, data: &str) -> ServerEvent {
    ServerEvent { name: name.into(), data: data.into() }
}

#[test]
fn events_are_the_same_however_they_come() {
    let text =
        ": still there\nevent: told\ndata: {\"a\":1}\nid: 7\n\ndata: one\r\ndata:two\r\n\r\nevent: cut\ndata: off\n";
    let expected = [event("told", "{\"a\":1}"), event("message", "one\ntwo")];
    for length in 1..text.len() {
        let mut lines = Lines::default();
        let pieces = text.as_bytes().chunks(length);
        let events: Vec<_> = pieces.flat_map(|piece| lines.take(piece).unwrap()).collect();
        assert_eq!(events, expected, "in pieces of {length}");
    }
}

#[test]
fn an_event_without_end_is_refused() {
    let mut lines = Lines::default();
    assert!(lines.take(b"data: ").unwrap().is_empty());
    let error = lines.take(&vec![b'x'; EVENT_MAX]).unwrap_err();
    assert_eq!(error.to_string(), "the answer has more than 4194304 bytes");
}

/// Reads a request up to its `end`, and answers with these bytes.
async fn serve(mut io: DuplexStream, end: &'static str, answer: &'static str) -> String {
    let mut request = Vec::new();
    while !request.ends_with(end.as_bytes()) {
        request.push(io.read_u8().await.expect("a request"));
    }
    io.write_all(answer.as_bytes()).await.expect("the answer is taken");
    String::from_utf8(request).expect("text")
}

#[tokio::test]
async fn a_request_and_its_answer() {
    let (ours, theirs) = duplex(1024);
    let server = tokio::spawn(serve(theirs, HEAD_END, "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}"));
    let mut connection = Connection::new(ours, "pool").await.unwrap();
    let answer = connection.get("/v1/volumes").await.unwrap();
    assert_eq!(answer.status, 404);
    assert_eq!(answer.bytes().await.unwrap(), b"{}");
    let request = server.await.unwrap();
    assert!(request.starts_with("GET /v1/volumes HTTP/1.1\r\nhost: pool\r\naccept: application/json\r\n"), "{request}");
}

#[tokio::test]
async fn what_was_posted_is_told_event_by_event() {
    let (ours, theirs) = duplex(1024);
    let answer = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nevent: told\ndata: 1\n\ndata: 2\n\n";
    let server = tokio::spawn(serve(theirs, "{}", answer));
    let mut connection = Connection::new(ours, "pool").await.unwrap();
    let mut events = connection.post("/v1/commands/collect", "{}".into()).await.unwrap().events();
    assert_eq!(events.next().await.unwrap(), Some(event("told", "1")));
    assert_eq!(events.next().await.unwrap(), Some(event("message", "2")));
    assert_eq!(events.next().await.unwrap(), None);
    let request = server.await.unwrap();
    assert!(request.contains("\r\ncontent-type: application/json\r\n") && request.ends_with("{}"), "{request}");
}

#[tokio::test]
async fn a_server_that_leaves_is_an_error() {
    let (ours, theirs) = duplex(1024);
    let server = tokio::spawn(serve(theirs, HEAD_END, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"));
    let mut connection = Connection::new(ours, "pool").await.unwrap();
    let answer = connection.get("/").await.unwrap();
    assert!(answer.bytes().await.unwrap_err().to_string().starts_with("HTTP: "));
    server.await.unwrap();
}
