//! The handshake against bytes as clients send them.

use bytes::{Bytes, BytesMut};

use super::*;

/// A handshake past the client's flags, with structured replies if asked for.
fn begun(structured: bool) -> Handshake {
    let mut out = BytesMut::new();
    let mut handshake = Handshake::greeting(TlsPolicy::Off, &mut out);
    let mut input = buffer("00000003");
    if structured {
        OptionRequest::StructuredReply.encode(&mut input);
    }
    assert_eq!(handshake.advance(&mut input, &mut out), Ok(Step::Receive));
    handshake
}

/// Feeds one option and returns the step and the replies' bytes.
pub(super) fn feed(handshake: &mut Handshake, input: &str) -> (Result<Step, WireError>, Vec<u8>) {
    let mut out = BytesMut::new();
    let step = handshake.advance(&mut buffer(input), &mut out);
    (step, out.to_vec())
}

/// Encodes `request`, answers its question with the advert, and returns session and replies.
pub(super) fn ask(handshake: &mut Handshake, request: &OptionRequest) -> (Option<Session>, Vec<OptionReply>) {
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    request.encode(&mut input);
    match handshake.advance(&mut input, &mut out).unwrap() {
        Step::Open(..) => {}
        step => panic!("{step:?}"),
    }
    let session = handshake.answer_open(Ok(advert()), &mut out).unwrap();
    (session, replies(&out))
}

fn replies(mut bytes: &[u8]) -> Vec<OptionReply> {
    let mut replies = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<OPTION_REPLY_HEAD_LEN>() {
        let head = OptionReplyHead::decode(head).unwrap();
        let (data, rest) = rest.split_at(head.length as usize);
        replies.push(OptionReply::decode(head.kind, data).unwrap());
        bytes = rest;
    }
    replies
}

pub(super) fn error_reply(bytes: &[u8]) -> Refusal {
    match replies(bytes).as_slice() {
        [OptionReply::Error(refusal)] => refusal.clone(),
        other => panic!("{other:?}"),
    }
}

pub(super) fn go(name: &str, wants: &[u16]) -> OptionRequest {
    OptionRequest::Go(InfoRequest { name: name.to_owned(), wants: wants.to_vec() })
}

pub(super) fn query(export: &str, queries: &[&str]) -> MetaQuery {
    let queries = queries.iter().map(|&query| query.to_owned()).collect();
    MetaQuery { export: export.to_owned(), queries }
}

#[test]
fn the_greeting_is_fixed_newstyle_without_zeroes() {
    let mut out = BytesMut::new();
    let _ = Handshake::greeting(TlsPolicy::Off, &mut out);
    assert_eq!(out.to_vec(), hex("4e42444d41474943 49484156454f5054 0003"));
    let bytes = out.first_chunk().unwrap();
    assert_eq!(Greeting::decode(bytes), Ok(Greeting { flags: HandshakeFlags::KNOWN }));
}

#[test]
fn an_oldstyle_greeting_is_named_as_such() {
    let bytes: [u8; 18] = hex("4e42444d41474943 00420281861253 00 0003")[..18].try_into().unwrap();
    let error = WireError::BadMagic { what: "newstyle greeting", found: 0x0042_0281_8612_5300 };
    assert_eq!(Greeting::decode(&bytes), Err(error));
}

#[test]
fn client_flags_that_were_not_offered_end_the_connection() {
    let mut handshake = Handshake::greeting(TlsPolicy::Off, &mut BytesMut::new());
    let (step, _) = feed(&mut handshake, "00000007");
    assert_eq!(step, Err(WireError::UnknownClientFlags { found: 7 }));
}

#[test]
fn a_wrong_option_magic_ends_the_connection() {
    let (step, _) = feed(&mut begun(false), "49484156454f5055 00000003 00000000");
    let error = WireError::BadMagic { what: "option", found: 0x4948_4156_454f_5055 };
    assert_eq!(step, Err(error));
}

#[test]
fn an_option_of_65537_bytes_is_refused_with_text_and_ends_the_connection() {
    let (step, out) = feed(&mut begun(false), "49484156454f5054 00000007 00010001");
    let error = WireError::TooLong { what: "option", length: 65_537, limit: 65_536 };
    assert_eq!(step, Err(error.clone()));
    assert_eq!(error_reply(&out), Refusal::new(OptionError::TooBig, error.to_string()));
}

#[test]
fn half_an_option_waits_for_the_rest() {
    let mut handshake = begun(false);
    let (mut input, mut out) = (buffer("49484156454f5054 00000003 000000"), BytesMut::new());
    assert_eq!(handshake.advance(&mut input, &mut out), Ok(Step::Receive));
    input.extend_from_slice(&[0]);
    assert_eq!(handshake.advance(&mut input, &mut out), Ok(Step::List));
}

#[test]
fn an_unknown_option_is_unsupported_and_the_next_one_is_served() {
    let mut handshake = begun(false);
    let unknown = "49484156454f5054 00001234 00000003 616263";
    let list = "49484156454f5054 00000003 00000000";
    let (step, out) = feed(&mut handshake, &format!("{unknown}{list}"));
    assert_eq!(step, Ok(Step::List));
    let text = "option 4660 (unknown option) is not served";
    assert_eq!(error_reply(&out), Refusal::new(OptionError::Unsupported, text));
}

pub(super) const EXTENDED_HEADERS: &str = "49484156454f5054 0000000b 00000000";
const STRUCTURED_REPLY: &str = "49484156454f5054 00000008 00000000";

#[test]
fn extended_headers_are_agreed_on_before_and_after_structured_replies() {
    for structured in [false, true] {
        let mut handshake = begun(structured);
        let (step, out) = feed(&mut handshake, EXTENDED_HEADERS);
        assert_eq!((step, out), (Ok(Step::Receive), hex("0003e889045565a9 0000000b 00000001 00000000")));
        let set = query("vol", &[BASE_ALLOCATION]);
        let _ = ask(&mut handshake, &OptionRequest::SetMetaContext(set));
        let session = ask(&mut handshake, &go("vol", &[])).0.unwrap();
        assert_eq!((session.form, session.contexts.len()), (Form::Extended, 1));
        // Read-only, several connections, and what belongs to the session: DF, contexts in a payload.
        assert_eq!(session.flags, TransmissionFlags(0x1183));
    }
}

#[test]
fn a_payload_for_block_status_is_offered_with_extended_headers_and_contexts_only() {
    let flags = |extended: bool, contexts: &[&str]| {
        let mut handshake = begun(true);
        if extended {
            let _ = feed(&mut handshake, EXTENDED_HEADERS);
        }
        let _ = ask(&mut handshake, &OptionRequest::SetMetaContext(query("vol", contexts)));
        let (session, replies) = ask(&mut handshake, &go("vol", &[]));
        let flags = session.unwrap().flags;
        assert_eq!(replies[0], OptionReply::Info(Info::Export { size: 1 << 20, flags }));
        flags.contains(TransmissionFlags::BLOCK_STATUS_PAYLOAD)
    };
    assert!(flags(true, &[BASE_ALLOCATION]));
    assert!(!flags(true, &[]) && !flags(true, &["none:such"]) && !flags(false, &[BASE_ALLOCATION]));
}

#[test]
fn there_is_no_way_back_from_extended_headers() {
    let mut handshake = begun(false);
    let _ = feed(&mut handshake, EXTENDED_HEADERS);
    let (step, out) = feed(&mut handshake, STRUCTURED_REPLY);
    assert_eq!((step, error_reply(&out).error), (Ok(Step::Receive), OptionError::ExtendedRequired));
    assert_eq!(ask(&mut handshake, &go("vol", &[])).0.unwrap().form, Form::Extended);
}

#[test]
fn extended_headers_with_data_are_invalid() {
    let (_, out) = feed(&mut begun(false), "49484156454f5054 0000000b 00000001 00");
    let refusal = Refusal::new(OptionError::Invalid, "EXTENDED_HEADERS: 1 bytes too many");
    assert_eq!(error_reply(&out), refusal);
}

#[test]
fn export_name_after_extended_headers_ends_the_connection() {
    let mut handshake = begun(false);
    let _ = feed(&mut handshake, EXTENDED_HEADERS);
    let (step, _) = feed(&mut handshake, "49484156454f5054 00000001 00000003 766f6c");
    assert_eq!(step, Ok(Step::Open("vol".to_owned(), Purpose::Enter)));
    let mut out = BytesMut::new();
    let reason = "EXPORT_NAME has no place after extended headers; use GO".to_owned();
    let error = WireError::ExportRefused { name: "vol".to_owned(), reason };
    assert_eq!((handshake.answer_open(Ok(advert()), &mut out), out.len()), (Err(error), 0));
}

#[test]
fn a_list_names_every_export() {
    let mut handshake = begun(false);
    assert_eq!(feed(&mut handshake, "49484156454f5054 00000003 00000000").0, Ok(Step::List));
    let mut out = BytesMut::new();
    let export = ExportName { name: "v".to_owned(), description: "d".to_owned() };
    handshake.answer_list(&[export], &mut out);
    let server = "0003e889045565a9 00000003 00000002 00000006 00000001 76 64";
    let ack = "0003e889045565a9 00000003 00000001 00000000";
    assert_eq!(out.to_vec(), hex(&format!("{server}{ack}")));
}

#[test]
fn a_list_with_data_is_invalid() {
    let (_, out) = feed(&mut begun(false), "49484156454f5054 00000003 00000001 00");
    let text = "LIST: 1 bytes too many";
    assert_eq!(error_reply(&out), Refusal::new(OptionError::Invalid, text));
}

#[test]
fn abort_is_acknowledged_and_closes() {
    let (step, out) = feed(&mut begun(false), "49484156454f5054 00000002 00000000");
    assert_eq!(step, Ok(Step::Close));
    assert_eq!(out, hex("0003e889045565a9 00000002 00000001 00000000"));
}

#[test]
fn export_name_answers_with_size_flags_and_no_zeroes() {
    let mut handshake = begun(false);
    let (step, _) = feed(&mut handshake, "49484156454f5054 00000001 00000003 766f6c");
    assert_eq!(step, Ok(Step::Open("vol".to_owned(), Purpose::Enter)));
    let mut out = BytesMut::new();
    let session = handshake.answer_open(Ok(advert()), &mut out).unwrap().unwrap();
    assert_eq!(out.to_vec(), hex("0000000000100000 0103"));
    assert_eq!(session.form, Form::Simple);
}

#[test]
fn a_client_without_flags_gets_the_zeroes_of_export_name() {
    let (mut out, mut ignored) = (BytesMut::new(), BytesMut::new());
    let mut handshake = Handshake::greeting(TlsPolicy::Off, &mut ignored);
    let (step, _) = feed(&mut handshake, "00000000 49484156454f5054 00000001 00000000");
    assert_eq!(step, Ok(Step::Open(String::new(), Purpose::Enter)));
    handshake.answer_open(Ok(advert()), &mut out).unwrap().unwrap();
    assert_eq!(out.len(), 8 + 2 + 124);
    assert!(out[10..].iter().all(|&byte| byte == 0));
}

#[test]
fn a_refused_export_name_ends_the_connection() {
    let mut handshake = begun(false);
    let _ = feed(&mut handshake, "49484156454f5054 00000001 00000001 78");
    let refusal = Refusal::new(OptionError::UnknownExport, "no such export");
    let refused = handshake.answer_open(Err(refusal), &mut BytesMut::new());
    let (name, reason) = ("x".to_owned(), "no such export".to_owned());
    assert_eq!(refused, Err(WireError::ExportRefused { name, reason }));
}

#[test]
fn go_without_wishes_sends_the_export_alone_and_accepts_any_alignment() {
    let mut handshake = begun(false);
    let (step, _) = feed(&mut handshake, "49484156454f5054 00000007 00000009 00000003 766f6c 0000");
    assert_eq!(step, Ok(Step::Open("vol".to_owned(), Purpose::Enter)));
    let (mut out, mut advert) = (BytesMut::new(), advert());
    advert.geometry.blocks.min = 4096;
    let session = handshake.answer_open(Ok(advert), &mut out).unwrap().unwrap();
    let info = "0003e889045565a9 00000007 00000003 0000000c 0000 0000000000100000 0103";
    let ack = "0003e889045565a9 00000007 00000001 00000000";
    assert_eq!(out.to_vec(), hex(&format!("{info}{ack}")));
    assert_eq!(session.alignment, 1);
}

#[test]
fn go_with_all_wishes_sends_name_description_and_block_sizes() {
    let mut handshake = begun(true);
    let (session, replies) = ask(&mut handshake, &go("", &[1, 2, 3, 77]));
    let flags = TransmissionFlags(0x183);
    let expected = [
        OptionReply::Info(Info::Export { size: 1 << 20, flags }),
        OptionReply::Info(Info::Name("vol".to_owned())),
        OptionReply::Info(Info::Description("a volume".to_owned())),
        OptionReply::Info(Info::BlockSize(BlockSizes::default())),
        OptionReply::Ack,
    ];
    assert_eq!(replies, expected);
    assert_eq!(session.unwrap().flags, flags);
}

#[test]
fn a_refused_go_carries_its_text_and_the_handshake_goes_on() {
    let mut handshake = begun(false);
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    go("x", &[]).encode(&mut input);
    assert_eq!(handshake.advance(&mut input, &mut out), Ok(Step::Open("x".to_owned(), Purpose::Enter)));
    let refusal = Refusal::new(OptionError::UnknownExport, "no volume x");
    assert_eq!(handshake.answer_open(Err(refusal.clone()), &mut out), Ok(None));
    assert_eq!(error_reply(&out), refusal);
    assert!(ask(&mut handshake, &go("vol", &[])).0.is_some());
}

#[test]
fn go_with_a_name_longer_than_its_data_is_invalid() {
    let (_, out) = feed(&mut begun(false), "49484156454f5054 00000007 00000006 00000fff 0000");
    let text = "GO: 4095 more bytes expected, 2 left";
    assert_eq!(error_reply(&out), Refusal::new(OptionError::Invalid, text));
}

#[test]
fn contexts_without_structured_replies_are_invalid() {
    let mut input = BytesMut::new();
    OptionRequest::SetMetaContext(query("vol", &[BASE_ALLOCATION])).encode(&mut input);
    let mut out = BytesMut::new();
    assert_eq!(begun(false).advance(&mut input, &mut out), Ok(Step::Receive));
    assert_eq!(error_reply(&out).error, OptionError::Invalid);
}

#[test]
fn a_query_for_a_namespace_lists_what_is_below_it() {
    let list = OptionRequest::ListMetaContext(query("vol", &["qemu:"]));
    let (_, replies) = ask(&mut begun(true), &list);
    let name = "qemu:dirty-bitmap:p1".to_owned();
    assert_eq!(replies, [OptionReply::MetaContext(MetaContext { id: 0, name }), OptionReply::Ack]);
}

#[test]
fn a_namespace_selects_no_context() {
    let set = OptionRequest::SetMetaContext(query("vol", &["base:"]));
    assert_eq!(ask(&mut begun(true), &set).1, [OptionReply::Ack]);
}

#[test]
fn selected_contexts_keep_their_numbers_and_reach_the_session() {
    let mut handshake = begun(true);
    let set = query("vol", &["qemu:dirty-bitmap:p1", "none:such"]);
    let (_, replies) = ask(&mut handshake, &OptionRequest::SetMetaContext(set));
    let context = MetaContext { id: 2, name: "qemu:dirty-bitmap:p1".to_owned() };
    assert_eq!(replies, [OptionReply::MetaContext(context.clone()), OptionReply::Ack]);
    let (session, _) = ask(&mut handshake, &go("vol", &[]));
    assert_eq!(session.unwrap().contexts, [context]);
}

#[test]
fn more_contexts_than_one_client_may_use_are_refused() {
    let names: Vec<String> = (0..=CONTEXTS_MAX).map(|at| format!("x-test:{at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut handshake = begun(true);
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    OptionRequest::SetMetaContext(query("vol", &names)).encode(&mut input);
    assert_eq!(handshake.advance(&mut input, &mut out), Ok(Step::Receive));
    assert_eq!(error_reply(&out).error, OptionError::TooBig);
    let (_, replies) = ask(&mut handshake, &OptionRequest::SetMetaContext(query("vol", &names[1..])));
    assert_eq!(replies, [OptionReply::Ack]);
}

#[test]
fn contexts_selected_for_one_name_do_not_apply_to_another() {
    let mut handshake = begun(true);
    let set = query("vol", &[BASE_ALLOCATION]);
    let _ = ask(&mut handshake, &OptionRequest::SetMetaContext(set));
    let (session, _) = ask(&mut handshake, &go("", &[]));
    assert_eq!(session.unwrap().contexts, []);
}

#[test]
fn a_selection_that_is_refused_takes_the_earlier_one_back() {
    let names: Vec<String> = (0..=CONTEXTS_MAX).map(|at| format!("x-test:{at}")).collect();
    let too_many = query("vol", &names.iter().map(String::as_str).collect::<Vec<_>>());
    for refused in [query("none", &[BASE_ALLOCATION]), too_many] {
        let mut handshake = begun(true);
        let _ = ask(&mut handshake, &OptionRequest::SetMetaContext(query("vol", &[BASE_ALLOCATION])));
        let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
        OptionRequest::SetMetaContext(refused).encode(&mut input);
        if let Step::Open(..) = handshake.advance(&mut input, &mut out).unwrap() {
            let unknown = Refusal::new(OptionError::Policy, "there is none");
            assert_eq!(handshake.answer_open(Err(unknown), &mut out), Ok(None));
        }
        error_reply(&out);
        let (session, _) = ask(&mut handshake, &go("vol", &[]));
        assert_eq!(session.unwrap().contexts, []);
    }
}

#[test]
fn a_count_of_queries_that_lies_is_invalid() {
    let data = Bytes::from(hex("00000000 ffffffff"));
    let error = WireError::Truncated { what: "LIST_META_CONTEXT", need: 4, have: 0 };
    assert_eq!(OptionRequest::decode(9, &data), Err(error));
}

#[test]
fn a_name_that_is_not_utf8_is_invalid() {
    let error = WireError::NotText { what: "EXPORT_NAME" };
    assert_eq!(OptionRequest::decode(1, &Bytes::from_static(b"\xff")), Err(error));
}

#[test]
fn an_option_reply_of_unknown_type_is_an_error_unless_it_is_an_error() {
    let error = WireError::UnknownType { what: "option reply", found: 99 };
    assert_eq!(OptionReply::decode(99, b""), Err(error));
    let refusal = Refusal::new(OptionError::Other(99), "why");
    assert_eq!(OptionReply::decode(99 | 1 << 31, b"why"), Ok(OptionReply::Error(refusal)));
}
