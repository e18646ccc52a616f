//! A client's handshake with servers of every ability, and the replies it waits for.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const BITMAP: &str = "qemu:dirty-bitmap:p1";

fn wish(contexts: &[&str]) -> Wish {
    let contexts = contexts.iter().map(|&name| name.to_owned()).collect();
    Wish { export: "vol".to_owned(), contexts, tls: false, plain: false }
}

/// What a server answers to an option.
type Answers<'a> = &'a dyn Fn(&OptionRequest) -> Vec<OptionReply>;

fn refusal(error: OptionError) -> Vec<OptionReply> {
    vec![OptionReply::Error(Refusal::new(error, "not here"))]
}

/// A server that knows everything but the options that `lacks`.
fn knows(lacks: &'static [u32]) -> impl Fn(&OptionRequest) -> Vec<OptionReply> {
    move |option| match option {
        option if lacks.contains(&option.number()) => refusal(OptionError::Unsupported),
        OptionRequest::SetMetaContext(query) => {
            let numbered = (5..).zip(query.queries.iter().rev());
            let contexts = numbered.map(|(id, name)| OptionReply::MetaContext(MetaContext { id, name: name.clone() }));
            contexts.chain([OptionReply::Ack]).collect()
        }
        OptionRequest::Go(_) => described(1 << 20, BlockSizes { min: 512, preferred: 4096, max: 1 << 20 }),
        _ => vec![OptionReply::Ack],
    }
}

fn described(size: u64, blocks: BlockSizes) -> Vec<OptionReply> {
    let flags = TransmissionFlags::HAS_FLAGS | TransmissionFlags::READ_ONLY;
    let (export, sizes) = (Info::Export { size, flags }, Info::BlockSize(blocks));
    vec![OptionReply::Info(export), OptionReply::Info(sizes), OptionReply::Ack]
}

/// Shakes hands with a server that answers so; tells the session and the options that were tried.
fn shake(wish: Wish, offered: HandshakeFlags, answers: Answers<'_>) -> (Result<Session, HandshakeError>, Vec<u32>) {
    let (mut input, mut out, mut tried) = (BytesMut::new(), BytesMut::new(), Vec::new());
    Greeting { flags: offered }.encode(&mut input);
    let mut client = ClientHandshake::new(wish);
    let mut greeted = false;
    loop {
        match client.advance(&mut input, &mut out) {
            Err(error) => return (Err(error), tried),
            Ok(ClientStep::Enter(session)) => return (Ok(session), tried),
            Ok(_) => {}
        }
        if !std::mem::replace(&mut greeted, true) {
            let _flags = out.split_to(4);
        }
        let head = OptionHead::decode(out.first_chunk().expect("the client asks for something")).unwrap();
        let data = out.split().split_off(OPTION_HEAD_LEN).freeze();
        let option = OptionRequest::decode(head.option, &data).unwrap();
        tried.push(head.option);
        match option {
            OptionRequest::ExportName { .. } => {
                input.extend_from_slice(&(1u64 << 20).to_be_bytes());
                input.extend_from_slice(&[0, 3]);
                input.extend_from_slice(if offered.contains(HandshakeFlags::NO_ZEROES) { &[] } else { &[0; 124] });
            }
            option => answers(&option).iter().for_each(|reply| reply.encode(head.option, &mut input)),
        }
    }
}

fn fixed() -> HandshakeFlags {
    HandshakeFlags::KNOWN
}

#[track_caller]
fn entered(lacks: &'static [u32], form: Form, options: &[u32]) -> Session {
    let (session, tried) = shake(wish(&[BASE_ALLOCATION, BITMAP]), fixed(), &knows(lacks));
    let session = session.unwrap();
    assert_eq!((session.form, tried.as_slice()), (form, options));
    session
}

#[test]
fn the_most_that_a_server_has_is_agreed_on() {
    let session = entered(&[], Form::Extended, &[11, 10, 7]);
    let names: Vec<&str> = session.contexts.iter().map(|context| context.name.as_str()).collect();
    assert_eq!(names, [BITMAP, BASE_ALLOCATION], "in ascending order of their numbers");
    assert_eq!((session.size, session.alignment, session.length_max), (1 << 20, 512, 1 << 20));
    assert_eq!(entered(&[11], Form::Structured, &[11, 8, 10, 7]).contexts.len(), 2);
    assert_eq!(entered(&[11, 10], Form::Structured, &[11, 8, 10, 7]).contexts, []);
    assert_eq!(entered(&[11, 8], Form::Simple, &[11, 8, 7]).contexts, []);
    let bare = entered(&[11, 8, 10, 7], Form::Simple, &[11, 8, 7, 1]);
    assert_eq!((bare.size, bare.alignment, bare.length_max), (1 << 20, 1, REQUEST_LEN_MAX));
    assert!(!bare.is_writable());
}

#[test]
fn a_plain_client_enters_and_asks_for_nothing_else() {
    let plain = Wish { plain: true, ..wish(&[]) };
    let answers = |option: &OptionRequest| {
        assert!(matches!(option, OptionRequest::Go(go) if go.wants.is_empty()), "{option:?}");
        let flags = TransmissionFlags::HAS_FLAGS;
        vec![OptionReply::Info(Info::Export { size: 1 << 20, flags }), OptionReply::Ack]
    };
    let (session, tried) = shake(plain, HandshakeFlags::KNOWN, &answers);
    let session = session.unwrap();
    assert_eq!((session.form, session.size, session.alignment, tried), (Form::Simple, 1 << 20, 1, vec![7]));
}

#[test]
fn who_does_not_promise_to_answer_is_asked_for_the_name_alone() {
    for offered in [HandshakeFlags::default(), HandshakeFlags::NO_ZEROES] {
        let (session, tried) = shake(wish(&[BASE_ALLOCATION]), offered, &knows(&[]));
        assert_eq!((session.unwrap().form, tried.as_slice()), (Form::Simple, &[1][..]));
    }
}

#[test]
fn a_context_that_is_not_granted_is_absent_and_one_that_was_not_asked_for_too() {
    let only = |option: &OptionRequest| match option {
        OptionRequest::SetMetaContext(_) => {
            let granted = ["x-other:context", BASE_ALLOCATION].into_iter().zip(1..);
            let granted = granted.map(|(name, id)| OptionReply::MetaContext(MetaContext { id, name: name.to_owned() }));
            granted.chain([OptionReply::Ack]).collect()
        }
        option => knows(&[])(option),
    };
    let (session, _) = shake(wish(&[BASE_ALLOCATION, BITMAP]), fixed(), &only);
    assert_eq!(session.unwrap().contexts, [MetaContext { id: 2, name: BASE_ALLOCATION.to_owned() }]);
    // What was granted before the server changed its mind is not.
    let none = |option: &OptionRequest| match option {
        OptionRequest::SetMetaContext(_) => [
            vec![OptionReply::MetaContext(MetaContext { id: 1, name: BITMAP.to_owned() })],
            refusal(OptionError::TooBig),
        ]
        .concat(),
        option => knows(&[])(option),
    };
    let (session, _) = shake(wish(&[BITMAP]), fixed(), &none);
    assert_eq!(session.unwrap().contexts, []);
}

#[track_caller]
fn fails(wish: Wish, offered: HandshakeFlags, answers: Answers<'_>, expected: &str) {
    let (session, _) = shake(wish, offered, answers);
    assert_eq!(session.unwrap_err().to_string(), expected);
}

#[test]
fn a_refusal_is_told_in_the_servers_words() {
    let unknown = |option: &OptionRequest| match option {
        OptionRequest::Go(_) => refusal(OptionError::UnknownExport),
        option => knows(&[])(option),
    };
    fails(wish(&[]), fixed(), &unknown, "GO was refused (UnknownExport): not here");
    let tls = |_: &OptionRequest| refusal(OptionError::TlsRequired);
    fails(wish(&[]), fixed(), &tls, "the server wants TLS: not here; name it with nbds:// or nbds+unix://");
    // Without it there is no going back to EXPORT_NAME.
    let extended = |option: &OptionRequest| match option {
        OptionRequest::Go(_) => refusal(OptionError::Unsupported),
        _ => vec![OptionReply::Ack],
    };
    fails(wish(&[]), fixed(), &extended, "GO was refused (Unsupported): not here");
}

#[test]
fn nothing_is_sent_without_tls_where_it_was_asked_for() {
    let tls = || Wish { tls: true, ..wish(&[]) };
    let (session, tried) = shake(tls(), fixed(), &knows(&[5]));
    let text = session.unwrap_err().to_string();
    assert_eq!(text, "the server does not offer TLS: not here; nothing is sent without it");
    assert_eq!(tried, [5]);
    let (session, tried) = shake(tls(), HandshakeFlags::NO_ZEROES, &knows(&[]));
    assert!(matches!(session, Err(HandshakeError::NoTls(_))) && tried.is_empty());
    // Bytes that somebody slipped in before it began.
    let mut client = ClientHandshake::new(tls());
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    Greeting { flags: fixed() }.encode(&mut input);
    assert_eq!(client.advance(&mut input, &mut out), Ok(ClientStep::Receive));
    OptionReply::Ack.encode(5, &mut input);
    input.extend_from_slice(b"and more");
    let error = client.advance(&mut input, &mut out).unwrap_err().to_string();
    assert_eq!(error, "the server's answer to STARTTLS makes no sense: 8 bytes follow it without TLS");
}

#[test]
fn tls_comes_before_everything_else() {
    let mut client = ClientHandshake::new(Wish { tls: true, ..wish(&[]) });
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    Greeting { flags: fixed() }.encode(&mut input);
    assert_eq!(client.advance(&mut input, &mut out), Ok(ClientStep::Receive));
    assert_eq!(out.split().as_ref(), hex("00000003 49484156454f5054 00000005 00000000"));
    OptionReply::Ack.encode(5, &mut input);
    assert_eq!(client.advance(&mut input, &mut out), Ok(ClientStep::Encrypt));
    assert!(out.is_empty());
    assert_eq!(client.advance(&mut input, &mut out), Ok(ClientStep::Receive));
    assert_eq!(out.as_ref(), hex("49484156454f5054 0000000b 00000000"));
}

#[test]
fn old_style_is_told_from_nonsense() {
    let mut old = buffer("4e42444d41474943 0000420281861253 0000000000100000");
    let error = ClientHandshake::new(wish(&[])).advance(&mut old, &mut BytesMut::new()).unwrap_err();
    assert_eq!(error, HandshakeError::OldStyle);
    let mut http = BytesMut::from(&b"HTTP/1.1 400 Bad Request"[..]);
    let error = ClientHandshake::new(wish(&[])).advance(&mut http, &mut BytesMut::new()).unwrap_err();
    assert_eq!(error.to_string(), "greeting: bad magic 0x485454502f312e31");
}

#[test]
fn answers_that_make_no_sense_are_refused() {
    let nonsense = |replies: Vec<OptionReply>, what: &str| {
        let answers = |option: &OptionRequest| match option {
            OptionRequest::Go(_) => replies.clone(),
            option => knows(&[])(option),
        };
        fails(wish(&[]), fixed(), &answers, &format!("the server's answer to GO makes no sense: {what}"));
    };
    let sizes = |min, max| BlockSizes { min, preferred: 4096, max };
    nonsense(vec![OptionReply::Ack], "it does not tell the size");
    nonsense(described(1 << 20, sizes(3, 4096)), "blocks of 3 to 4096 bytes in an export of 1048576");
    nonsense(described(1 << 20, sizes(0, 4096)), "blocks of 0 to 4096 bytes in an export of 1048576");
    nonsense(described(1 << 20, sizes(1 << 20, 1 << 20)), "blocks of 1048576 to 1048576 bytes in an export of 1048576");
    nonsense(described(1 << 20, sizes(4096, 512)), "blocks of 4096 to 512 bytes in an export of 1048576");
    nonsense(described(1000, sizes(512, 4096)), "blocks of 512 to 4096 bytes in an export of 1000");
    nonsense(described(u64::MAX, sizes(1, 4096)), "a size of 18446744073709551615 bytes");
    let info = OptionReply::Info(Info::Name(String::new()));
    nonsense(vec![info; 2000], "it has more than 1024 parts");
    let listed = OptionReply::Server { name: String::new(), description: String::new() };
    nonsense(vec![listed], "it lists exports");
}

#[test]
fn content_is_placed_once_and_wholly() {
    let span = Span { offset: 1000, length: 100 };
    let mut read = ExpectRead::new(span);
    assert_eq!(read.place(1050, 50), Ok(50..100));
    let misplaced = |offset, length| Err(WireError::Misplaced { offset, length });
    for (offset, length) in [(999, 2), (1000, 51), (1099, 2), (1050, 1), (u64::MAX, 1), (1001, u64::MAX), (1000, 0)] {
        assert_eq!(read.place(offset, length), misplaced(offset, length));
    }
    assert_eq!(read.place(1000, 50), Ok(0..50));
    assert_eq!(read.finish(), Ok(Ok(())));
    let mut short = ExpectRead::new(span);
    short.place(1000, 99).unwrap();
    assert_eq!(short.finish(), Err(WireError::Missing { offset: 1000, length: 100, came: 99 }));
    let mut failed = ExpectRead::new(span);
    let failure = Failure::new(Errno::Io, "broken");
    failed.fail(failure.clone());
    failed.fail(Failure::new(Errno::Perm, "and more"));
    assert_eq!(failed.finish(), Ok(Err(failure)), "the first failure is why");
}

#[test]
fn a_context_that_was_asked_for_is_told_once_and_none_is_missing() {
    let span = Span { offset: 0, length: 100 };
    let told = |context| ContextExtents { context, extents: vec![Extent::data(7)] };
    let mut status = ExpectStatus::new(span, [1, 2]);
    status.extents(told(2)).unwrap();
    assert!(status.extents(told(2)).is_err());
    let unasked = WireError::UnknownType { what: "context that was not asked for", found: 3 };
    assert_eq!(status.extents(told(3)), Err(unasked));
    status.extents(told(1)).unwrap();
    assert_eq!(status.finish(), Ok(Ok(vec![told(1), told(2)])));
    let mut short = ExpectStatus::new(span, [1, 2]);
    short.extents(told(1)).unwrap();
    assert_eq!(short.finish(), Err(WireError::Missing { offset: 0, length: 100, came: 0 }));
}

proptest! {
    #[test]
    fn our_two_ends_agree(contexts in vec(prop_oneof![Just(BASE_ALLOCATION), Just(BITMAP), Just("x:none")], 0..3)) {
        let mut unique = contexts.clone();
        unique.dedup();
        let (mut to_client, mut to_server) = (BytesMut::new(), BytesMut::new());
        let mut server = Handshake::greeting(TlsPolicy::Off, &mut to_client);
        let mut client = ClientHandshake::new(wish(&unique));
        let mut agreed = None;
        let session = loop {
            if let ClientStep::Enter(session) = client.advance(&mut to_client, &mut to_server).unwrap() {
                break session;
            }
            while let Step::Open(..) = server.advance(&mut to_server, &mut to_client).unwrap() {
                agreed = server.answer_open(Ok(advert()), &mut to_client).unwrap();
                if agreed.is_some() {
                    break;
                }
            }
        };
        let at_server = agreed.unwrap();
        prop_assert_eq!((session.form, session.size, session.flags), (Form::Extended, 1 << 20, at_server.flags));
        prop_assert_eq!(session.contexts, at_server.contexts);
    }

    /// However a reply is cut and in whatever order its parts come, each byte has its place once.
    #[test]
    fn parts_in_any_order_fill_a_read(cuts in vec(1u64..99, 0..10), order in any::<u64>()) {
        let mut ends: Vec<u64> = cuts.into_iter().chain([100]).collect();
        ends.sort_unstable();
        ends.dedup();
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let mut parts: Vec<_> = starts.zip(ends.iter().copied()).collect();
        parts.sort_by_key(|(start, _)| (start + 1).wrapping_mul(order | 1));
        let mut read = ExpectRead::new(Span { offset: 500, length: 100 });
        for (start, end) in parts {
            prop_assert_eq!(read.place(500 + start, end - start), Ok(start as usize..end as usize));
            prop_assert!(read.place(500 + start, 1).is_err());
        }
        prop_assert_eq!(read.finish(), Ok(Ok(())));
    }

    #[test]
    fn no_bytes_make_a_client_panic(bytes in vec(any::<u8>(), 0..300), tls in any::<bool>()) {
        let mut input = BytesMut::new();
        Greeting { flags: fixed() }.encode(&mut input);
        input.extend_from_slice(&bytes);
        let mut client = ClientHandshake::new(Wish { tls, ..wish(&[BITMAP]) });
        let _ = client.advance(&mut input, &mut BytesMut::new());
    }
}
