//! Extended headers: golden bytes, what only they can say, and one misuse in each test.

use bytes::{Bytes, BytesMut};

use super::*;

/// 8 GiB with two contexts selected.
fn session(flags: TransmissionFlags) -> Session {
    let geometry = Geometry { flags, ..Geometry::read_only(8 << 30) };
    let contexts = [1, 2].map(|id| MetaContext { id, name: format!("x-test:{id}") }).to_vec();
    Session::new("vol".to_owned(), &Advert { geometry, ..advert() }, Form::Extended, false, contexts)
}

fn read_only() -> Session {
    session(Geometry::read_only(0).flags)
}

#[track_caller]
fn received(session: &Session, bytes: &str, command: Command) {
    let incoming = Receiver::default().next(session, &mut buffer(bytes));
    assert_eq!(incoming, Ok(Incoming::Request(Request { cookie: 7, command })));
}

/// Asserts that the request is refused, how, and that all of it was taken.
#[track_caller]
fn refused(session: &Session, bytes: &str, errno: Errno, text: &str) {
    let (mut receiver, mut input) = (Receiver::default(), buffer(bytes));
    let offset = u64::from_be_bytes(input[16..24].try_into().unwrap());
    RequestHead::disconnect(8).encode(Form::Extended, &mut input);
    let (tag, failure) = (Tag { cookie: 7, offset }, Failure::new(errno, text));
    assert_eq!(receiver.next(session, &mut input), Ok(Incoming::Refused { tag, failure }));
    assert_eq!(receiver.next(session, &mut input), Ok(Incoming::Disconnect));
}

#[test]
fn requests_are_decoded_from_their_golden_bytes() {
    let span = Span { offset: 4096, length: 512 };
    let read = "21e41c71 0004 0000 0000000000000007 0000000000001000 0000000000000200";
    received(&read_only(), read, Command::Read { span, whole: true });
    let write = "21e41c71 0021 0001 0000000000000007 0000000000001000 0000000000000003 616263";
    let command = Command::Write { offset: 4096, data: Bytes::from_static(b"abc"), fua: true };
    received(&session(writable()), write, command);
    let nothing = "21e41c71 0020 0001 0000000000000007 0000000000001000 0000000000000000";
    received(&session(writable()), nothing, Command::Write { offset: 4096, data: Bytes::new(), fua: false });
}

#[test]
fn ranges_without_content_may_be_longer_than_32_bits() {
    let span = Span { offset: 4096, length: (8 << 30) - 4096 };
    let range = "0000000000000007 0000000000001000 00000001fffff000";
    received(&session(writable()), &format!("21e41c71 0000 0004 {range}"), Command::Trim { span, fua: false });
    let status = Command::BlockStatus { span, one: false, only: None };
    received(&read_only(), &format!("21e41c71 0000 0007 {range}"), status);
}

#[test]
fn a_block_status_may_choose_its_contexts() {
    let span = Span { offset: 4096, length: 5 << 30 };
    let bytes = "21e41c71 0028 0007 0000000000000007 0000000000001000 000000000000000c
        0000000140000000 00000002";
    received(&read_only(), bytes, Command::BlockStatus { span, one: true, only: Some(vec![2]) });
}

#[test]
fn a_request_that_waits_for_its_payload_says_how_much_it_lacks() {
    let (session, mut receiver) = (session(writable()), Receiver::default());
    let mut input = buffer("21e41c71 0020 0001 0000000000000007 0000000000001000 00000000");
    assert_eq!(receiver.next(&session, &mut input), Ok(Incoming::Receive(4)));
    input.extend_from_slice(&hex("00000003 61"));
    assert_eq!(receiver.next(&session, &mut input), Ok(Incoming::Receive(2)));
}

#[test]
fn compact_requests_end_the_connection() {
    let mut input = buffer("25609513 0000 0000 0000000000000007 0000000000000000 00000200 00000000");
    let error = WireError::BadMagic { what: "request", found: 0x2560_9513 };
    assert_eq!(Receiver::default().next(&read_only(), &mut input), Err(error));
}

#[test]
fn a_length_that_overflows_is_invalid() {
    let text = "offset 4096 length 18446744073709551615 is outside the export of 8589934592 bytes";
    let bytes = "21e41c71 0000 0007 0000000000000007 0000000000001000 ffffffffffffffff";
    refused(&read_only(), bytes, Errno::Invalid, text);
}

#[test]
fn a_read_above_32_bits_is_invalid() {
    let text = "length 4294967296 is above the limit of 33554432";
    let bytes = "21e41c71 0000 0000 0000000000000007 0000000000001000 0000000100000000";
    refused(&read_only(), bytes, Errno::Invalid, text);
}

/// The protocol demands the flag; qemu 10.0 leaves it out, and its server accepts that.
#[test]
fn a_write_has_a_payload_whether_it_says_so_or_not() {
    let bytes = "21e41c71 0000 0001 0000000000000007 0000000000001000 0000000000000003 616263";
    let command = Command::Write { offset: 4096, data: Bytes::from_static(b"abc"), fua: false };
    received(&session(writable()), bytes, command);
    refused(&read_only(), bytes, Errno::Perm, "write on a read-only export");
}

#[test]
fn a_payload_that_no_command_takes_is_skipped_and_invalid() {
    let bytes = "21e41c71 0020 0000 0000000000000007 0000000000001000 0000000000000003 616263";
    refused(&read_only(), bytes, Errno::Invalid, "flags 0x20 are not allowed with a read");
    let bytes = "21e41c71 0020 0063 0000000000000007 0000000000001000 0000000000000003 616263";
    refused(&read_only(), bytes, Errno::Invalid, "unknown command 99");
}

#[test]
fn a_payload_too_long_to_skip_ends_the_connection() {
    let (length, limit) = (u64::from(DRAIN_LEN_MAX) + 1, DRAIN_LEN_MAX.into());
    let error = WireError::TooLong { what: "payload of a request", length, limit };
    for kind in [0, 1, 7] {
        let flags = CommandFlags::PAYLOAD_LEN;
        let mut input = BytesMut::new();
        RequestHead { flags, kind, length, ..RequestHead::disconnect(7) }.encode(Form::Extended, &mut input);
        let found = Receiver::default().next(&session(writable()), &mut input);
        assert_eq!(found, Err(error.clone()), "command {kind}");
    }
}

/// A block status whose payload is `length` and then `contexts`.
fn choosing(length: &str, contexts: &str) -> String {
    let count = 8 + hex(contexts).len();
    format!("21e41c71 0020 0007 0000000000000007 0000000000001000 {count:016x} {length} {contexts}")
}

#[test]
fn a_choice_of_contexts_that_makes_no_sense_is_skipped_and_invalid() {
    let session = read_only();
    let page = "0000000000001000";
    let text = "a payload of 8 bytes does not name 1 to 2 of the selected contexts";
    refused(&session, &choosing(page, ""), Errno::Invalid, text);
    let text = "a payload of 13 bytes does not name 1 to 2 of the selected contexts";
    refused(&session, &choosing(page, "00000001 00"), Errno::Invalid, text);
    let text = "a payload of 20 bytes does not name 1 to 2 of the selected contexts";
    refused(&session, &choosing(page, "00000001 00000002 00000001"), Errno::Invalid, text);
    let text = "block status in context 3, which was not selected";
    refused(&session, &choosing(page, "00000003"), Errno::Invalid, text);
    refused(&session, &choosing(page, "00000001 00000001"), Errno::Invalid, "block status in context 1 twice");
    let text = "block status of an empty range";
    refused(&session, &choosing("0000000000000000", "00000001"), Errno::Invalid, text);
    let text = "offset 4096 length 8589934592 is outside the export of 8589934592 bytes";
    refused(&session, &choosing("0000000200000000", "00000001"), Errno::Invalid, text);
}

#[test]
fn a_choice_of_contexts_without_contexts_is_skipped_and_invalid() {
    let session = Session { contexts: Vec::new(), flags: Geometry::read_only(0).flags, ..read_only() };
    let text = "flags 0x20 are not allowed with a block status";
    refused(&session, &choosing("0000000000001000", "00000001"), Errno::Invalid, text);
}

const TAG: Tag = Tag { cookie: 7, offset: 512 };

fn framed(frame: impl FnOnce(Replies, &mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    frame(Replies { form: Form::Extended }, &mut out);
    out
}

#[test]
fn replies_have_their_golden_bytes() {
    let none = framed(|replies, out| replies.done(out, TAG));
    assert_eq!(none, hex("6e8a278c 0001 0000 0000000000000007 0000000000000200 0000000000000000"));
    let hole = framed(|replies, out| assert!(replies.hole(out, TAG, 256)));
    let expected = "6e8a278c 0001 0002 0000000000000007 0000000000000200 000000000000000c
        0000000000000200 00000100";
    assert_eq!(hole, hex(expected));
    let failure = Failure { at: Some(1024), ..Failure::new(Errno::Io, "bad") };
    let error = framed(|replies, out| replies.failed(out, TAG, &failure));
    let expected = "6e8a278c 0001 8002 0000000000000007 0000000000000200 0000000000000011
        00000005 0003 626164 0000000000000400";
    assert_eq!(error, hex(expected));
    let mut head = [0; 40];
    Replies { form: Form::Extended }.put_data_head(&mut head, TAG, 4);
    let expected = "6e8a278c 0001 0001 0000000000000007 0000000000000200 000000000000000c
        0000000000000200";
    assert_eq!(head.to_vec(), hex(expected));
}

#[test]
fn extents_are_wide_and_counted() {
    let contexts = [1, 2].map(|context| {
        let extents = vec![Extent::data(5 << 30), Extent::hole(512)];
        ContextExtents { context, extents }
    });
    let bytes = framed(|replies, out| replies.status(out, TAG, &contexts));
    let tagged = "0000000000000007 0000000000000200 0000000000000028";
    let runs = "0000000140000000 0000000000000000 0000000000000200 0000000000000003";
    let first = format!("6e8a278c 0000 0006 {tagged} 00000001 00000002 {runs}");
    let second = format!("6e8a278c 0001 0006 {tagged} 00000002 00000002 {runs}");
    assert_eq!(bytes, hex(&format!("{first}{second}")));
}

#[test]
fn heads_of_another_form_end_the_connection() {
    let simple = "67446698 00000000 0000000000000007";
    let chunk = "668e33ef 0001 0000 0000000000000007 00000000";
    let extended = "6e8a278c 0001 0000 0000000000000007 0000000000000200 0000000000000000";
    let wrong = |form, bytes: &str, found| {
        assert_eq!(ReplyHead::decode(form, &hex(bytes)), Err(WireError::BadMagic { what: "reply", found }));
    };
    wrong(Form::Extended, simple, 0x6744_6698);
    wrong(Form::Extended, chunk, 0x668e_33ef);
    wrong(Form::Structured, extended, 0x6e8a_278c);
    wrong(Form::Simple, chunk, 0x668e_33ef);
}

#[test]
fn a_head_is_decoded_once_it_is_whole() {
    let bytes = hex("6e8a278c 0001 0006 0000000000000007 0000000000000200 0000000000000018");
    assert_eq!(ReplyHead::decode(Form::Extended, &bytes[..31]), Ok(None));
    let head = ReplyHead::Chunk { cookie: 7, offset: Some(512), done: true, kind: 6, length: 24 };
    assert_eq!(ReplyHead::decode(Form::Extended, &bytes), Ok(Some((head, 32))));
}

#[test]
fn a_chunk_above_the_maximum_ends_the_connection() {
    for length in [u64::from(CHUNK_LEN_MAX) + 1, u64::MAX] {
        let bytes = hex(&format!("6e8a278c 0001 0001 0000000000000007 0000000000000200 {length:016x}"));
        let error = WireError::TooLong { what: "reply chunk", length, limit: CHUNK_LEN_MAX.into() };
        assert_eq!(ReplyHead::decode(Form::Extended, &bytes), Err(error));
    }
}

#[track_caller]
fn bad_chunk(form: Form, kind: u16, payload: &str, error: WireError) {
    assert_eq!(Chunk::decode(form, kind, Bytes::from(hex(payload))), Err(error));
}

#[test]
fn extents_that_do_not_fit_their_type_are_errors() {
    let what = "reply chunk";
    let bad = |payload: &str, error| bad_chunk(Form::Extended, 6, payload, error);
    let extent = "0000000000000200 0000000000000000";
    bad("00000001 00000000", WireError::Zero { what: "count of extents" });
    bad("00000001 00000001 0000000000000000 0000000000000000", WireError::Zero { what: "extent" });
    bad(&format!("00000001 ffffffff {extent}"), WireError::Truncated { what, need: 8, have: 0 });
    bad(&format!("00000001 00000001 {extent} 00"), WireError::Trailing { what, extra: 1 });
    bad("00000001 00000001 0000000000000200 0000000100000000", WireError::WideStatus { found: 1 << 32 });
}

#[test]
fn extents_of_another_form_are_errors() {
    let what = "reply chunk";
    let (narrow, wide) = ("00000001 00000200 00000000", "00000001 00000001 0000000000000200 0000000000000000");
    bad_chunk(Form::Extended, 5, narrow, WireError::UnknownType { what, found: 5 });
    bad_chunk(Form::Structured, 6, wide, WireError::UnknownType { what, found: 6 });
}
