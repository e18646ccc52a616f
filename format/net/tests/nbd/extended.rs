//! Extended headers: qemu, which asks for them first, and raw sockets for what qemu does not do.

use bytes::Bytes;
use understudy_format::nbd::{
    Chunk, Command, CommandFlags, Errno, Form, InfoRequest, MetaQuery, OptionReply, OptionRequest, RequestHead, Span,
    fit,
};

use super::client::Client;
use super::fixture::{Fixture, SIZE, byte_at, extents_of, run};

const ALLOCATION: &str = "base:allocation";

#[test]
fn qemu_agrees_on_extended_headers_and_maps_with_them() {
    let fixture = Fixture::start();
    let args = ["-T", "nbd_*", "map", "--output=json", "-f", "raw", &fixture.tcp_uri("pattern")];
    let output = run("qemu-img", &args);
    let trace = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{trace}");
    assert!(trace.contains("option reply 11 (extended headers), type 1 (ack)"), "{trace}");
    assert!(!trace.contains("structured reply"), "it asks for nothing less: {trace}");
    assert!(trace.contains("type = 6 (block status (64-bit))"), "{trace}");
}

#[test]
fn a_reply_repeats_the_offset_of_its_request() {
    let fixture = Fixture::start();
    let (mut client, _) = Client::extended(&fixture, "pattern", &[]);
    client.read(1, 5, 1);
    let data = Bytes::from(vec![byte_at(5)]);
    assert_eq!(client.chunk(), (1, 5, Chunk::Data { offset: 5, data }));
    client.read(2, 65_536, 512);
    assert_eq!(client.chunk(), (2, 65_536, Chunk::Hole { offset: 65_536, length: 512 }));
    client.read(3, SIZE, 1);
    let (cookie, offset, chunk) = client.chunk();
    assert_eq!((cookie, offset), (3, SIZE));
    assert!(matches!(chunk, Chunk::Failed(failure) if failure.errno == Errno::Invalid));
}

#[test]
fn a_failure_is_located_within_what_was_asked_for() {
    let fixture = Fixture::start();
    let (mut client, _) = Client::extended(&fixture, "broken", &[]);
    client.read(1, 1024, 512);
    let Chunk::Failed(failure) = client.chunk().2 else { panic!("it is damaged") };
    assert_eq!(failure.at, Some(1024), "the block begins before");
}

#[test]
fn one_block_status_covers_the_whole_export_in_the_contexts_that_were_chosen() {
    let fixture = Fixture::start();
    let (mut client, contexts) = Client::extended(&fixture, "pattern", &[ALLOCATION, "x-test:odd"]);
    let span = Span { offset: 0, length: SIZE };
    client.request(1, Command::BlockStatus { span, one: false, only: Some(vec![contexts[0]]) });
    let Chunk::Status(status) = client.chunk().2 else { panic!("no status") };
    assert_eq!((status.context, status.extents), (contexts[0], fit(extents_of(0, SIZE), SIZE, false)));
    client.request(2, Command::BlockStatus { span, one: true, only: None });
    let both = [client.chunk(), client.chunk()].map(|(cookie, _, chunk)| match chunk {
        Chunk::Status(status) => (cookie, status.context),
        other => panic!("{other:?}"),
    });
    assert_eq!(both, [(2, contexts[0]), (2, contexts[1])]);
}

#[test]
fn the_export_at_which_contexts_were_selected_is_entered_whatever_else_was_asked() {
    let fixture = Fixture::start();
    let mut client = Client::haggling(&fixture);
    let info = |name: &str| OptionRequest::Info(InfoRequest { name: name.to_owned(), wants: Vec::new() });
    let queries = vec![ALLOCATION.to_owned()];
    let selection = OptionRequest::SetMetaContext(MetaQuery { export: "numbered".to_owned(), queries });
    for option in [OptionRequest::ExtendedHeaders, selection, info("pattern"), info("numbered"), info("pattern")] {
        client.option(&option);
        while client.option_reply() != OptionReply::Ack {}
    }
    client.go("numbered", Form::Extended);
    client.read(1, 0, 1);
    let data = Bytes::from(vec![1]);
    assert_eq!(client.chunk(), (1, 0, Chunk::Data { offset: 0, data }), "it was not opened again");
}

#[test]
fn a_choice_of_unknown_contexts_is_refused_and_the_next_request_served() {
    let fixture = Fixture::start();
    let (mut client, _) = Client::extended(&fixture, "pattern", &[ALLOCATION]);
    let span = Span { offset: 0, length: SIZE };
    client.request(1, Command::BlockStatus { span, one: false, only: Some(vec![77]) });
    assert!(matches!(client.chunk().2, Chunk::Failed(failure) if failure.errno == Errno::Invalid));
    client.read(2, 5, 1);
    assert_eq!(client.chunk().0, 2);
}

#[test]
fn a_payload_that_nobody_asked_for_is_drained() {
    let fixture = Fixture::start();
    let (mut client, _) = Client::extended(&fixture, "pattern", &[]);
    let flags = CommandFlags::PAYLOAD_LEN;
    client.request_head(RequestHead { flags, kind: 0, length: 1 << 20, ..RequestHead::disconnect(1) });
    client.send(&vec![0x21; 1 << 20]);
    assert!(matches!(client.chunk().2, Chunk::Failed(failure) if failure.errno == Errno::Invalid));
    client.read(2, 5, 1);
    assert_eq!(client.chunk().0, 2);
}

#[test]
fn writes_and_zeroes_go_through_extended_headers() {
    let fixture = Fixture::start();
    let (mut client, _) = Client::extended(&fixture, "writable", &[]);
    let data = Bytes::from_static(&[7; 512]);
    client.request(1, Command::Write { offset: 512, data: data.clone(), fua: true });
    assert_eq!(client.chunk(), (1, 512, Chunk::None));
    let span = Span { offset: 0, length: 512 };
    client.request(2, Command::WriteZeroes { span, fua: false, no_hole: true, fast: false });
    assert_eq!(client.chunk(), (2, 0, Chunk::None));
    client.read(3, 512, 512);
    assert_eq!(client.chunk(), (3, 512, Chunk::Data { offset: 512, data }));
}

#[test]
fn a_compact_request_closes_the_connection() {
    let fixture = Fixture::start();
    let (mut client, _) = Client::extended(&fixture, "pattern", &[]);
    client.send(&[0x25, 0x60, 0x95, 0x13]);
    client.send(&[0; 28]);
    client.expect_end();
}
