//! Clients that no library would write: raw sockets, one misuse each.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use understudy_format::nbd::{
    CommandFlags, DRAIN_LEN_MAX, Errno, InfoRequest, OptionError, OptionHead, OptionReply, OptionRequest,
    REQUEST_LEN_MAX, RequestHead,
};
use understudy_net::nbd_server::Limits;

use super::client::Client;
use super::fixture::{Fixture, byte_at};

/// The server still serves others.
#[track_caller]
fn assert_served(fixture: &Fixture) {
    let mut client = Client::using(fixture, "pattern");
    client.read(1, 5, 1);
    assert_eq!(client.reply(), (1, None));
    assert_eq!(client.receive(1), [byte_at(5)]);
}

#[test]
fn unknown_client_flags_close_the_connection() {
    let fixture = Fixture::start();
    let mut client = Client::greeted(&fixture);
    client.send(&[0, 0, 1, 3]);
    client.expect_end();
    assert_served(&fixture);
}

#[test]
fn a_bad_option_magic_closes_the_connection() {
    let fixture = Fixture::start();
    let mut client = Client::haggling(&fixture);
    client.send(b"GET / HTTP/1.1\r\n");
    client.expect_end();
    assert_served(&fixture);
}

#[test]
fn an_oversize_option_is_told_so_and_closed() {
    let fixture = Fixture::start();
    let mut client = Client::haggling(&fixture);
    let mut head = Vec::new();
    OptionHead { option: 3, length: 65_537 }.encode(&mut head);
    client.send(&head);
    let OptionReply::Error(refusal) = client.option_reply() else { panic!("no error") };
    assert_eq!(refusal.error, OptionError::TooBig);
    assert_eq!(refusal.text, "option: length 65537 is above the limit of 65536");
    client.expect_end();
}

#[test]
fn an_unknown_option_is_unsupported_and_the_handshake_goes_on() {
    let fixture = Fixture::start();
    let mut client = Client::haggling(&fixture);
    client.option(&OptionRequest::Unknown { option: 99, data: Bytes::from_static(b"x") });
    let OptionReply::Error(refusal) = client.option_reply() else { panic!("no error") };
    assert_eq!(refusal.error, OptionError::Unsupported);
    client.option(&OptionRequest::StructuredReply);
    assert_eq!(client.option_reply(), OptionReply::Ack);
}

#[test]
fn half_an_option_and_a_close_hurts_nobody() {
    let fixture = Fixture::start();
    let mut client = Client::haggling(&fixture);
    client.send(b"IHAVEOPT\0\0");
    drop(client);
    assert_served(&fixture);
}

#[test]
fn abort_is_acknowledged() {
    let fixture = Fixture::start();
    let mut client = Client::haggling(&fixture);
    client.option(&OptionRequest::Abort);
    assert_eq!(client.option_reply(), OptionReply::Ack);
    client.expect_end();
}

#[test]
fn an_unknown_export_name_closes_the_connection() {
    let fixture = Fixture::start();
    let mut client = Client::haggling(&fixture);
    client.option(&OptionRequest::ExportName { name: "nosuch".to_owned() });
    client.expect_end();
}

#[test]
fn a_slow_handshake_is_cut() {
    let limits = Limits { handshake: Duration::from_millis(20), ..Limits::default() };
    let fixture = Fixture::with_limits(limits);
    Client::haggling(&fixture).expect_end();
}

#[test]
fn a_connection_too_many_is_closed_at_once() {
    let fixture = Fixture::with_limits(Limits { connections: 1, ..Limits::default() });
    let first = Client::using(&fixture, "pattern");
    Client::on(TcpStream::connect(fixture.tcp).unwrap()).expect_end();
    drop(first);
}

#[test]
fn a_connection_too_many_for_an_export_is_told_so_and_may_use_another() {
    let fixture = Fixture::with_limits(Limits { connections_per_export: 1, ..Limits::default() });
    let first = Client::using(&fixture, "pattern");
    let mut second = Client::haggling(&fixture);
    let info = |name: &str| InfoRequest { name: name.to_owned(), wants: Vec::new() };
    second.option(&OptionRequest::Info(info("pattern")));
    assert!(matches!(second.option_reply(), OptionReply::Info(_)), "asking needs no seat");
    assert_eq!(second.option_reply(), OptionReply::Ack);
    // Its other name is no way around.
    second.option(&OptionRequest::Go(info("")));
    let OptionReply::Error(refusal) = second.option_reply() else { panic!("no error") };
    assert_eq!(refusal.error, OptionError::Policy);
    assert!(refusal.text.starts_with("pattern has 1 connections already"), "{}", refusal.text);
    let mut legacy = Client::haggling(&fixture);
    legacy.option(&OptionRequest::ExportName { name: "pattern".to_owned() });
    legacy.expect_end();
    second.option(&OptionRequest::Go(info("writable")));
    assert!(matches!(second.option_reply(), OptionReply::Info(_)));
    drop(first);
    let is_free = || {
        let mut third = Client::haggling(&fixture);
        third.option(&OptionRequest::Go(info("pattern")));
        matches!(third.option_reply(), OptionReply::Info(_))
    };
    while !is_free() {}
}

#[test]
fn a_bad_request_magic_closes_the_connection() {
    let fixture = Fixture::start();
    let mut client = Client::using(&fixture, "pattern");
    client.send(&[0; 28]);
    client.expect_end();
    assert_served(&fixture);
}

#[test]
fn an_unknown_command_is_invalid_and_the_next_one_served() {
    let fixture = Fixture::start();
    let mut client = Client::using(&fixture, "pattern");
    client.head(99, 1, 0);
    assert_eq!(client.reply(), (1, Some(Errno::Invalid)));
    client.read(2, 5, 1);
    assert_eq!(client.reply(), (2, None));
}

#[test]
fn an_unknown_flag_is_invalid() {
    let fixture = Fixture::start();
    let mut client = Client::using(&fixture, "pattern");
    let flags = CommandFlags(1 << 14);
    client.request_head(RequestHead { flags, kind: 0, length: 1, ..RequestHead::disconnect(1) });
    assert_eq!(client.reply(), (1, Some(Errno::Invalid)));
}

#[test]
fn an_oversize_read_is_invalid() {
    let fixture = Fixture::start();
    let mut client = Client::using(&fixture, "pattern");
    client.read(1, 0, REQUEST_LEN_MAX + 1);
    assert_eq!(client.reply(), (1, Some(Errno::Invalid)));
}

#[test]
fn an_oversize_write_closes_the_connection() {
    let fixture = Fixture::start();
    let mut client = Client::using(&fixture, "writable");
    client.head(1, 1, DRAIN_LEN_MAX + 1);
    client.expect_end();
    assert_served(&fixture);
}

#[test]
fn a_refused_write_is_drained_to_the_last_byte() {
    let fixture = Fixture::start();
    let mut client = Client::using(&fixture, "pattern");
    client.head(1, 1, REQUEST_LEN_MAX + 1);
    client.send(&vec![0x25; REQUEST_LEN_MAX as usize + 1]);
    assert_eq!(client.reply(), (1, Some(Errno::Perm)));
    client.read(2, 5, 1);
    assert_eq!(client.reply(), (2, None));
}

#[test]
fn half_a_request_and_a_close_hurts_nobody() {
    let fixture = Fixture::start();
    let mut client = Client::using(&fixture, "writable");
    client.head(1, 1, 4096);
    client.send(&[0; 100]);
    drop(client);
    assert_served(&fixture);
}

#[test]
fn a_disconnect_ends_after_what_is_in_flight() {
    let fixture = Fixture::start();
    let mut client = Client::using(&fixture, "gate");
    client.read(1, 0, 4);
    client.head(2, 0, 0);
    fixture.entered.recv().unwrap();
    fixture.pass.send(()).unwrap();
    assert_eq!(client.reply(), (1, None));
    assert_eq!(client.receive(4), [9; 4]);
    client.expect_end();
}

#[test]
fn what_comes_after_a_disconnect_is_not_answered() {
    let fixture = Fixture::start();
    let mut client = Client::using(&fixture, "pattern");
    client.head(2, 0, 0);
    // It may be closed already.
    let _ = client.0.write_all(&[0x25; 28]);
    client.expect_end();
    assert_served(&fixture);
}

#[test]
fn a_client_that_does_not_receive_keeps_nobody_else_waiting() {
    let fixture = Fixture::with_limits(Limits { workers: 1, ..Limits::default() });
    let mut stalled = Client::using(&fixture, "pattern");
    (0..64).for_each(|cookie| stalled.read(cookie, 0, 1 << 20));
    assert_served(&fixture);
    for _ in 0..64 {
        assert_eq!(stalled.reply().1, None);
        stalled.receive(1 << 20);
    }
}

#[test]
fn a_name_above_the_limit_is_too_big_and_the_handshake_goes_on() {
    let fixture = Fixture::start();
    let mut client = Client::haggling(&fixture);
    client.option(&OptionRequest::Info(InfoRequest { name: "v".repeat(4096), wants: Vec::new() }));
    let OptionReply::Error(unknown) = client.option_reply() else { panic!("no error") };
    assert_eq!(unknown.error, OptionError::UnknownExport);
    // Longer than anything that is encoded here: the head, the length of the name, the name, no wishes.
    let mut bytes = Vec::new();
    OptionHead { option: 6, length: 4 + 4097 + 2 }.encode(&mut bytes);
    bytes.extend([&4097u32.to_be_bytes()[..], &[b'v'; 4097], &[0; 2]].concat());
    client.send(&bytes);
    let OptionReply::Error(refusal) = client.option_reply() else { panic!("no error") };
    assert_eq!(refusal.error, OptionError::TooBig);
    client.option(&OptionRequest::Abort);
    assert_eq!(client.option_reply(), OptionReply::Ack);
}

#[test]
fn replies_come_in_the_order_of_completion() {
    let fixture = Fixture::start();
    let mut client = Client::using(&fixture, "gate");
    client.read(1, 0, 4);
    fixture.entered.recv().unwrap();
    client.head(99, 2, 0);
    assert_eq!(client.reply(), (2, Some(Errno::Invalid)));
    fixture.pass.send(()).unwrap();
    assert_eq!(client.reply(), (1, None));
}

#[test]
fn what_memory_has_is_answered_while_all_threads_wait_for_disks() {
    let fixture = Fixture::with_limits(Limits { workers: 1, ..Limits::default() });
    let mut client = Client::using(&fixture, "gate");
    client.read(1, 0, 4);
    fixture.entered.recv().unwrap();
    client.read(2, 1024, 4);
    assert_eq!((client.reply(), client.receive(4)), ((2, None), vec![7; 4]));
    client.read(3, 2048, 4);
    assert_eq!((client.reply(), client.receive(4)), ((3, None), vec![0; 4]));
    client.read(4, 4096, 4);
    assert_eq!(client.reply(), (4, Some(Errno::Io)), "a panic");
    client.write(5, 0, &[7; 4], false);
    assert_eq!(client.reply(), (5, None));
    client.write(6, 0, &[8; 4], false);
    assert_eq!(client.reply(), (6, Some(Errno::NoSpace)));
    fixture.pass.send(()).unwrap();
    assert_eq!((client.reply(), client.receive(4)), ((1, None), vec![9; 4]));
    // Neither is one that must be durable, nor one that memory does not take: the other method refuses both.
    client.write(7, 0, &[7; 4], true);
    assert_eq!(client.reply(), (7, Some(Errno::Perm)));
    client.write(8, 1024, &[7; 4], false);
    assert_eq!(client.reply(), (8, Some(Errno::Perm)));
}

#[test]
fn no_more_requests_than_allowed_are_in_flight() {
    let limits = Limits { requests_in_flight: 2, ..Limits::default() };
    let fixture = Fixture::with_limits(limits);
    let mut client = Client::using(&fixture, "gate");
    (0..6).for_each(|cookie| client.read(cookie, 0, 4));
    (0..6).for_each(|_| fixture.pass.send(()).unwrap());
    for _ in 0..6 {
        assert_eq!(client.reply().1, None);
        client.receive(4);
    }
    assert!(fixture.gate.most_inside.load(Ordering::SeqCst) <= 2);
}

/// Holds at any speed of either end: what was read but not received is in flight or in a socket.
#[test]
fn a_client_that_does_not_receive_stops_the_reads() {
    let limits = Limits { bytes_in_flight: 4 << 20, ..Limits::default() };
    let fixture = Fixture::with_limits(limits);
    let mut client = Client::using(&fixture, "gate");
    let (in_flight, in_sockets, count) = (4, 16, 64);
    (0..count).for_each(|_| fixture.pass.send(()).unwrap());
    (0..count).for_each(|cookie| client.read(cookie, 0, 1 << 20));
    let mut entered = fixture.entered.iter().take(in_flight - 1).count();
    for received in 0..count as usize {
        entered += fixture.entered.try_iter().count();
        assert!(entered <= received + in_flight + in_sockets, "{entered} after {received}");
        assert_eq!(client.reply().1, None);
        client.receive(1 << 20);
    }
}

#[test]
fn a_request_larger_than_the_bytes_in_flight_travels_alone() {
    let fixture = Fixture::with_limits(Limits { bytes_in_flight: 4096, ..Limits::default() });
    let mut client = Client::using(&fixture, "pattern");
    client.read(1, 0, 1 << 20);
    assert_eq!(client.reply(), (1, None));
    assert_eq!(client.receive(1 << 20).len(), 1 << 20);
}

#[test]
fn a_shutdown_finishes_what_is_in_flight_and_refuses_the_rest() {
    let mut fixture = Fixture::start();
    let mut client = Client::using(&fixture, "gate");
    client.read(1, 0, 4);
    fixture.entered.recv().unwrap();
    fixture.stop();
    // The listener closes after the connections were told.
    while TcpStream::connect(fixture.tcp).is_ok() {}
    client.read(2, 0, 4);
    assert_eq!(client.reply(), (2, Some(Errno::Shutdown)));
    fixture.pass.send(()).unwrap();
    assert_eq!(client.reply(), (1, None));
    assert_eq!(client.receive(4), [9; 4]);
    client.expect_end();
    fixture.join();
}

#[test]
fn a_shutdown_closes_idle_connections() {
    let mut fixture = Fixture::start();
    let (idle, haggling) = (Client::using(&fixture, "pattern"), Client::haggling(&fixture));
    fixture.stop();
    idle.expect_end();
    haggling.expect_end();
    fixture.join();
}
