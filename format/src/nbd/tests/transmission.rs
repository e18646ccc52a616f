//! Requests and replies: golden bytes, and one misuse in each test.

use bytes::{Bytes, BytesMut};

use super::*;

fn session(flags: TransmissionFlags) -> Session {
    let geometry = Geometry { flags, ..Geometry::read_only(1 << 20) };
    let advert = Advert { geometry, ..advert() };
    let contexts = vec![MetaContext { id: 1, name: BASE_ALLOCATION.to_owned() }];
    Session::new("vol".to_owned(), &advert, Form::Structured, false, contexts)
}

fn read_only() -> Session {
    session(Geometry::read_only(0).flags)
}

/// What a session makes of a head followed by `payload`.
fn receive(session: &Session, head: RequestHead, payload: &[u8]) -> Result<Incoming, WireError> {
    let mut input = BytesMut::new();
    head.encode(session.form, &mut input);
    input.extend_from_slice(payload);
    Receiver::default().next(session, &mut input)
}

fn head(kind: u16, offset: u64, length: u64) -> RequestHead {
    RequestHead { kind, offset, length, ..RequestHead::disconnect(7) }
}

/// Asserts that the request is refused, and how.
#[track_caller]
fn refused(session: &Session, head: RequestHead, errno: Errno, text: &str) {
    let payload = if head.kind == 1 { vec![0; head.length as usize] } else { Vec::new() };
    let failure = Failure::new(errno, text);
    let expected = Incoming::Refused { tag: head.tag(), failure };
    assert_eq!(receive(session, head, &payload), Ok(expected));
}

#[test]
fn a_read_is_decoded_from_its_golden_bytes() {
    let mut input = buffer("25609513 0004 0000 0102030405060708 0000000000001000 00000200");
    let incoming = Receiver::default().next(&read_only(), &mut input);
    let span = Span { offset: 4096, length: 512 };
    let command = Command::Read { span, whole: true };
    let request = Request { cookie: 0x0102_0304_0506_0708, command };
    assert_eq!(incoming, Ok(Incoming::Request(request)));
}

#[test]
fn a_write_is_decoded_once_its_payload_is_whole() {
    let (session, mut receiver) = (session(writable()), Receiver::default());
    let mut input = buffer("25609513 0001 0001 0000000000000007 0000000000000010 00000003 61");
    assert_eq!(receiver.next(&session, &mut input), Ok(Incoming::Receive(2)));
    input.extend_from_slice(b"bc");
    let command = Command::Write { offset: 16, data: Bytes::from_static(b"abc"), fua: true };
    let request = Incoming::Request(Request { cookie: 7, command });
    assert_eq!(receiver.next(&session, &mut input), Ok(request));
    assert_eq!(receiver.next(&session, &mut input), Ok(Incoming::Receive(28)));
}

#[test]
fn a_wrong_request_magic_ends_the_connection() {
    let mut input = buffer("25609514 0000 0000 0000000000000000 0000000000000000 00000000");
    let error = WireError::BadMagic { what: "request", found: 0x2560_9514 };
    assert_eq!(Receiver::default().next(&read_only(), &mut input), Err(error));
}

#[test]
fn a_disconnect_ends_the_session() {
    assert_eq!(receive(&read_only(), head(2, 0, 0), b""), Ok(Incoming::Disconnect));
}

#[test]
fn an_unknown_command_is_invalid() {
    refused(&read_only(), head(99, 0, 0), Errno::Invalid, "unknown command 99");
}

#[test]
fn a_read_past_the_end_is_invalid() {
    let text = "offset 1048575 length 2 is outside the export of 1048576 bytes";
    refused(&read_only(), head(0, (1 << 20) - 1, 2), Errno::Invalid, text);
}

#[test]
fn a_range_that_overflows_is_invalid() {
    let text = "offset 18446744073709551615 length 2 is outside the export of 1048576 bytes";
    refused(&read_only(), head(0, u64::MAX, 2), Errno::Invalid, text);
}

#[test]
fn a_write_past_the_end_is_out_of_space() {
    let text = "offset 1048576 length 1 is outside the export of 1048576 bytes";
    refused(&session(writable()), head(1, 1 << 20, 1), Errno::NoSpace, text);
}

#[test]
fn a_write_of_zeroes_past_the_end_is_out_of_space() {
    let text = "offset 1048576 length 1 is outside the export of 1048576 bytes";
    refused(&session(writable()), head(6, 1 << 20, 1), Errno::NoSpace, text);
}

#[test]
fn a_write_to_a_read_only_export_is_drained_and_not_permitted() {
    let (session, mut receiver) = (read_only(), Receiver::default());
    let mut input = BytesMut::new();
    head(1, 0, 100).encode(Form::Structured, &mut input);
    input.extend_from_slice(&[0; 60]);
    assert_eq!(receiver.next(&session, &mut input), Ok(Incoming::Receive(1)));
    input.extend_from_slice(&[0; 40]);
    head(2, 0, 0).encode(Form::Structured, &mut input);
    let failure = Failure::new(Errno::Perm, "write on a read-only export");
    let refused = Incoming::Refused { tag: Tag { cookie: 7, offset: 0 }, failure };
    assert_eq!(receiver.next(&session, &mut input), Ok(refused));
    assert_eq!(receiver.next(&session, &mut input), Ok(Incoming::Disconnect));
}

#[test]
fn a_trim_of_a_read_only_export_is_not_permitted() {
    refused(&read_only(), head(4, 0, 512), Errno::Perm, "trim on a read-only export");
}

#[test]
fn a_write_too_long_to_drain_ends_the_connection() {
    let (length, limit) = (u64::from(DRAIN_LEN_MAX) + 1, DRAIN_LEN_MAX.into());
    let error = WireError::TooLong { what: "payload of a request", length, limit };
    let found = receive(&session(writable()), head(1, 0, u64::from(DRAIN_LEN_MAX) + 1), b"");
    assert_eq!(found, Err(error));
}

#[test]
fn a_read_above_the_maximum_is_invalid() {
    let text = "length 33554433 is above the limit of 33554432";
    refused(&read_only(), head(0, 0, u64::from(REQUEST_LEN_MAX) + 1), Errno::Invalid, text);
}

#[test]
fn an_unfragmented_read_above_the_maximum_overflows() {
    let head = RequestHead { flags: CommandFlags::DF, ..head(0, 0, u64::from(REQUEST_LEN_MAX) + 1) };
    let text = "length 33554433 is above the limit of 33554432";
    refused(&read_only(), head, Errno::Overflow, text);
}

#[test]
fn a_flush_with_a_range_is_invalid() {
    let text = "a flush has no range, not offset 0 length 512";
    refused(&session(writable()), head(3, 0, 512), Errno::Invalid, text);
}

#[test]
fn a_flush_that_was_not_offered_is_invalid() {
    refused(&read_only(), head(3, 0, 0), Errno::Invalid, "flush was not offered");
}

#[test]
fn fua_that_was_not_offered_is_invalid() {
    let head = RequestHead { flags: CommandFlags::FUA, ..head(0, 0, 1) };
    refused(&read_only(), head, Errno::Invalid, "flags 0x1 are not allowed with a read");
}

#[test]
fn fua_is_accepted_with_any_command_once_offered() {
    let head = RequestHead { flags: CommandFlags::FUA, ..head(0, 0, 1) };
    let command = Command::Read { span: Span { offset: 0, length: 1 }, whole: false };
    let request = Incoming::Request(Request { cookie: 7, command });
    assert_eq!(receive(&session(writable()), head, b""), Ok(request));
}

#[test]
fn a_flag_of_another_command_is_invalid() {
    let head = RequestHead { flags: CommandFlags::REQ_ONE, ..head(0, 0, 1) };
    refused(&read_only(), head, Errno::Invalid, "flags 0x8 are not allowed with a read");
}

#[test]
fn a_block_status_without_contexts_is_invalid() {
    let session = Session { contexts: Vec::new(), ..read_only() };
    let text = "block status without a selected metadata context";
    refused(&session, head(7, 0, 512), Errno::Invalid, text);
}

#[test]
fn a_block_status_of_nothing_is_invalid() {
    let text = "block status of an empty range";
    refused(&read_only(), head(7, 0, 0), Errno::Invalid, text);
}

#[test]
fn an_unaligned_read_is_invalid_for_a_client_that_asked_for_block_sizes() {
    let session = Session { alignment: 512, ..read_only() };
    let text = "offset 1 length 512 is not aligned to the block size of 512";
    refused(&session, head(0, 1, 512), Errno::Invalid, text);
}

#[test]
fn an_empty_read_at_the_end_is_a_request() {
    let span = Span { offset: 1 << 20, length: 0 };
    let request = Request { cookie: 7, command: Command::Read { span, whole: false } };
    assert_eq!(receive(&read_only(), head(0, 1 << 20, 0), b""), Ok(Incoming::Request(request)));
}

const TAG: Tag = Tag { cookie: 7, offset: 512 };

fn framed(form: Form, frame: impl FnOnce(Replies, &mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    frame(Replies { form }, &mut out);
    out
}

#[test]
fn replies_have_their_golden_bytes() {
    let mut failure = Failure::new(Errno::Io, "bad");
    let simple = framed(Form::Simple, |replies, out| replies.done(out, TAG));
    assert_eq!(simple, hex("67446698 00000000 0000000000000007"));
    let simple = framed(Form::Simple, |replies, out| replies.failed(out, TAG, &failure));
    assert_eq!(simple, hex("67446698 00000005 0000000000000007"));
    let none = framed(Form::Structured, |replies, out| replies.done(out, TAG));
    assert_eq!(none, hex("668e33ef 0001 0000 0000000000000007 00000000"));
    let hole = framed(Form::Structured, |replies, out| assert!(replies.hole(out, TAG, 256)));
    let expected = "668e33ef 0001 0002 0000000000000007 0000000c 0000000000000200 00000100";
    assert_eq!(hole, hex(expected));
    let error = framed(Form::Structured, |replies, out| replies.failed(out, TAG, &failure));
    let expected = "668e33ef 0001 8001 0000000000000007 00000009 00000005 0003 626164";
    assert_eq!(error, hex(expected));
    failure.at = Some(512);
    let error = framed(Form::Structured, |replies, out| replies.failed(out, TAG, &failure));
    let expected = "668e33ef 0001 8002 0000000000000007 00000011 00000005 0003 626164
        0000000000000200";
    assert_eq!(error, hex(expected));
}

#[test]
fn a_failure_has_an_offset_within_the_request_or_none() {
    let told = |at, command: Command| Failure { at, ..Failure::new(Errno::Io, "bad") }.in_reply_to(&command).at;
    let span = Span { offset: 8192, length: 4096 };
    let commands = [
        Command::Read { span, whole: false },
        Command::Trim { span, fua: false },
        Command::BlockStatus { span, one: false, only: None },
        Command::Write { offset: 8192, data: vec![0; 4096].into(), fua: false },
    ];
    for command in commands {
        let told = [None, Some(0), Some(9000), Some(65_536)].map(|at| told(at, command.clone()));
        assert_eq!(told, [None, Some(8192), Some(9000), Some(12_287)], "{command:?}");
    }
    let zeroes = Command::WriteZeroes { span, fua: false, no_hole: false, fast: false };
    for command in [Command::Flush, Command::Cache { span }, zeroes] {
        assert_eq!(told(Some(9000), command), None);
    }
}

#[test]
fn the_head_of_content_has_its_golden_bytes() {
    let mut head = [0; 28];
    Replies { form: Form::Structured }.put_data_head(&mut head, TAG, 4);
    let expected = "668e33ef 0001 0001 0000000000000007 0000000c 0000000000000200";
    assert_eq!(head.to_vec(), hex(expected));
    Replies { form: Form::Simple }.put_data_head(&mut head[..16], TAG, 4);
    assert_eq!(head[..16].to_vec(), hex("67446698 00000000 0000000000000007"));
}

#[test]
fn a_hole_cannot_be_sent_in_a_simple_reply() {
    let bytes = framed(Form::Simple, |replies, out| assert!(!replies.hole(out, TAG, 1)));
    assert_eq!(bytes, b"");
}

#[test]
fn a_status_of_two_contexts_is_done_with_the_second() {
    let extents = vec![Extent::data(512), Extent::hole(512)];
    let contexts = [1, 2].map(|context| ContextExtents { context, extents: extents.clone() });
    let bytes = framed(Form::Structured, |replies, out| replies.status(out, TAG, &contexts));
    let runs = "00000200 00000000 00000200 00000003";
    let first = format!("668e33ef 0000 0005 0000000000000007 00000014 00000001 {runs}");
    let second = format!("668e33ef 0001 0005 0000000000000007 00000014 00000002 {runs}");
    assert_eq!(bytes, hex(&format!("{first}{second}")));
}

#[test]
fn a_wrong_reply_magic_ends_the_connection() {
    let error = WireError::BadMagic { what: "reply", found: 0x1234_5678 };
    assert_eq!(ReplyHead::decode(Form::Structured, &hex("12345678")), Err(error));
}

#[test]
fn a_chunk_above_the_maximum_ends_the_connection() {
    let error = WireError::TooLong { what: "reply chunk", length: u64::from(u32::MAX), limit: CHUNK_LEN_MAX.into() };
    let bytes = hex("668e33ef 0001 0001 0000000000000007 ffffffff");
    assert_eq!(ReplyHead::decode(Form::Structured, &bytes), Err(error));
}

#[track_caller]
fn bad_chunk(kind: u16, payload: &str, error: WireError) {
    assert_eq!(Chunk::decode(Form::Structured, kind, Bytes::from(hex(payload))), Err(error));
}

#[test]
fn chunks_that_do_not_fit_their_type_are_errors() {
    let what = "reply chunk";
    bad_chunk(0, "00", WireError::Trailing { what, extra: 1 });
    bad_chunk(1, "0000000000000000", WireError::Zero { what: "data chunk" });
    bad_chunk(1, "00000000000000", WireError::Truncated { what: "data chunk", need: 8, have: 7 });
    bad_chunk(2, "0000000000000000 00000000", WireError::Zero { what: "hole" });
    bad_chunk(5, "00000001", WireError::Zero { what: "count of extents" });
    bad_chunk(5, "00000001 00000000 00000000", WireError::Zero { what: "extent" });
    bad_chunk(5, "00000001 00000001", WireError::Truncated { what, need: 4, have: 0 });
    bad_chunk(0x8001, "00000000 0000", WireError::Zero { what: "error of a chunk" });
    bad_chunk(0x8001, "00000005 0004 61", WireError::Truncated { what, need: 4, have: 1 });
    bad_chunk(0x0077, "", WireError::UnknownType { what, found: 0x77 });
}

#[test]
fn an_unknown_error_chunk_fails_its_request_alone() {
    let payload = Bytes::from(hex("0000270f 0001 61 ffff"));
    let failure = Failure::new(Errno::Invalid, "a");
    assert_eq!(Chunk::decode(Form::Structured, 0x8077, payload), Ok(Chunk::Failed(failure)));
}
