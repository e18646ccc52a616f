//! What one end encodes the other decodes to the same value, and no bytes make a decoder panic.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn everything(form: Form) -> Session {
    let geometry = Geometry { size: EXPORT_SIZE_MAX, flags: writable(), blocks: BlockSizes::default() };
    let contexts = [1, 2].map(|id| MetaContext { id, name: format!("x-test:{id}") }).to_vec();
    Session::new("vol".to_owned(), &Advert { geometry, ..advert() }, form, false, contexts)
}

fn form() -> impl Strategy<Value = Form> {
    prop_oneof![Just(Form::Structured), Just(Form::Extended)]
}

fn content() -> impl Strategy<Value = Span> {
    (0..EXPORT_SIZE_MAX / 2, 1..=u64::from(REQUEST_LEN_MAX)).prop_map(|(offset, length)| Span { offset, length })
}

/// A range of what is no content: as long as the form can say.
fn effect(form: Form) -> impl Strategy<Value = Span> + Clone {
    let longest = form.length_max().min(EXPORT_SIZE_MAX / 2);
    (0..EXPORT_SIZE_MAX / 2, 1..=longest).prop_map(|(offset, length)| Span { offset, length })
}

fn filter(form: Form) -> impl Strategy<Value = Option<Vec<u32>>> {
    match form {
        Form::Extended => prop_oneof![Just(None), Just(Some(vec![2])), Just(Some(vec![2, 1]))].boxed(),
        _ => Just(None).boxed(),
    }
}

fn command(form: Form) -> impl Strategy<Value = Command> {
    let data = vec(any::<u8>(), 0..600).prop_map(Bytes::from);
    let span = move || effect(form);
    prop_oneof![
        (content(), any::<bool>()).prop_map(|(span, whole)| Command::Read { span, whole }),
        (any::<u32>(), data, any::<bool>()).prop_map(|(at, data, fua)| Command::Write { offset: at.into(), data, fua }),
        Just(Command::Flush),
        (span(), any::<bool>()).prop_map(|(span, fua)| Command::Trim { span, fua }),
        span().prop_map(|span| Command::Cache { span }),
        (span(), any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(span, fua, no_hole, fast)| { Command::WriteZeroes { span, fua, no_hole, fast } }),
        (span(), any::<bool>(), filter(form)).prop_map(|(span, one, only)| Command::BlockStatus { span, one, only }),
    ]
}

fn commands(count: std::ops::Range<usize>) -> impl Strategy<Value = (Form, Vec<Command>)> {
    form().prop_flat_map(move |form| (Just(form), vec(command(form), count.clone())))
}

fn option() -> impl Strategy<Value = OptionRequest> {
    let info = || (".{0,20}", vec(any::<u16>(), 0..8)).prop_map(|(name, wants)| InfoRequest { name, wants });
    let query = || (".{0,20}", vec(".{0,20}", 0..5)).prop_map(|(export, queries)| MetaQuery { export, queries });
    prop_oneof![
        ".{0,20}".prop_map(|name| OptionRequest::ExportName { name }),
        Just(OptionRequest::Abort),
        Just(OptionRequest::List),
        Just(OptionRequest::StartTls),
        info().prop_map(OptionRequest::Info),
        info().prop_map(OptionRequest::Go),
        Just(OptionRequest::StructuredReply),
        query().prop_map(OptionRequest::ListMetaContext),
        query().prop_map(OptionRequest::SetMetaContext),
        Just(OptionRequest::ExtendedHeaders),
        (100u32.., vec(any::<u8>(), 0..50))
            .prop_map(|(option, data)| OptionRequest::Unknown { option, data: data.into() }),
    ]
}

fn option_reply() -> impl Strategy<Value = OptionReply> {
    prop_oneof![
        Just(OptionReply::Ack),
        (".{0,20}", ".{0,20}").prop_map(|(name, description)| OptionReply::Server { name, description }),
        (any::<u64>(), any::<u16>())
            .prop_map(|(size, flags)| { OptionReply::Info(Info::Export { size, flags: TransmissionFlags(flags) }) }),
        ".{0,20}".prop_map(|text| OptionReply::Info(Info::Name(text))),
        ".{0,20}".prop_map(|text| OptionReply::Info(Info::Description(text))),
        (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(min, preferred, max)| {
            OptionReply::Info(Info::BlockSize(BlockSizes { min, preferred, max }))
        }),
        (any::<u32>(), ".{0,20}").prop_map(|(id, name)| OptionReply::MetaContext(MetaContext { id, name })),
        ".{0,20}".prop_map(|t| OptionReply::Error(Refusal::new(OptionError::Policy, t))),
    ]
}

/// Splits a framed reply into its head and the chunk in it.
fn decode_one(form: Form, bytes: &[u8]) -> (ReplyHead, Chunk) {
    let (head, taken) = ReplyHead::decode(form, bytes).unwrap().unwrap();
    let ReplyHead::Chunk { kind, length, .. } = head else { panic!("{head:?}") };
    assert_eq!(bytes.len(), taken + length as usize);
    (head, Chunk::decode(form, kind, Bytes::copy_from_slice(&bytes[taken..])).unwrap())
}

fn tag() -> impl Strategy<Value = Tag> {
    any::<(u64, u64)>().prop_map(|(cookie, offset)| Tag { cookie, offset })
}

/// The head repeats what its form repeats.
#[track_caller]
fn assert_tagged(form: Form, head: ReplyHead, sent: Tag) {
    let ReplyHead::Chunk { cookie, offset, done, .. } = head else { panic!("{head:?}") };
    let repeated = (form == Form::Extended).then_some(sent.offset);
    assert_eq!((cookie, offset, done), (sent.cookie, repeated, true));
}

proptest! {
    #[test]
    fn a_request_arrives_as_it_was_sent(cookie: u64, (form, commands) in commands(1..2)) {
        let (request, mut input) = (Request { cookie, command: commands[0].clone() }, BytesMut::new());
        request.encode(form, &mut input);
        let incoming = Receiver::default().next(&everything(form), &mut input);
        prop_assert_eq!(incoming, Ok(Incoming::Request(request)));
        prop_assert!(input.is_empty());
    }

    #[test]
    fn an_option_arrives_as_it_was_sent(request in option()) {
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        let (head, data) = bytes.split_first_chunk().unwrap();
        let head = OptionHead::decode(head).unwrap();
        prop_assert_eq!(head.length as usize, data.len());
        let decoded = OptionRequest::decode(head.option, &Bytes::copy_from_slice(data));
        prop_assert_eq!(decoded, Ok(request));
    }

    #[test]
    fn an_option_reply_arrives_as_it_was_sent(reply in option_reply()) {
        let mut bytes = Vec::new();
        reply.encode(7, &mut bytes);
        let (head, data) = bytes.split_first_chunk().unwrap();
        let head = OptionReplyHead::decode(head).unwrap();
        prop_assert_eq!((head.option, head.length as usize), (7, data.len()));
        prop_assert_eq!(OptionReply::decode(head.kind, data), Ok(reply));
    }

    #[test]
    fn content_arrives_as_it_was_sent(form in form(), tag in tag(), data in vec(any::<u8>(), 1..99)) {
        let replies = Replies { form };
        let mut bytes = vec![0; replies.data_head_len()];
        replies.put_data_head(&mut bytes, tag, data.len() as u32);
        bytes.extend_from_slice(&data);
        let (head, chunk) = decode_one(form, &bytes);
        assert_tagged(form, head, tag);
        prop_assert_eq!(chunk, Chunk::Data { offset: tag.offset, data: data.into() });
    }

    #[test]
    fn a_failure_arrives_as_it_was_sent(form in form(), tag in tag(), text in ".{0,40}", at: Option<u64>) {
        let failure = Failure { errno: Errno::NoSpace, text, at };
        let mut bytes = Vec::new();
        Replies { form }.failed(&mut bytes, tag, &failure);
        let (head, chunk) = decode_one(form, &bytes);
        assert_tagged(form, head, tag);
        prop_assert_eq!(chunk, Chunk::Failed(failure));
    }

    #[test]
    fn extents_arrive_as_they_were_sent(
        form in form(), tag in tag(), context: u32, runs in vec((1u64..=u64::MAX, any::<u32>()), 1..40),
    ) {
        let longest = form.length_max();
        let extents = runs.into_iter().map(|(length, flags)| Extent { length: length.min(longest), flags }).collect();
        let status = ContextExtents { context, extents };
        let mut bytes = Vec::new();
        Replies { form }.status(&mut bytes, tag, std::slice::from_ref(&status));
        let (head, chunk) = decode_one(form, &bytes);
        assert_tagged(form, head, tag);
        prop_assert_eq!(chunk, Chunk::Status(status));
    }

    #[test]
    fn extents_fit_their_request(
        runs in vec((0u64..2000, 0u32..3), 0..40), length in 1u64..20_000, one: bool,
    ) {
        let runs: Vec<_> =
            runs.into_iter().map(|(length, flags)| Extent { length, flags }).collect();
        let fitted = fit(runs.iter().copied(), length, one);
        let total: u64 = fitted.iter().map(|extent| extent.length).sum();
        let offered: u64 = runs.iter().map(|extent| extent.length).sum();
        prop_assert!(total <= length && (one || total == length.min(offered)));
        prop_assert!(!one || fitted.len() <= 1);
        prop_assert!(fitted.iter().all(|extent| extent.length > 0));
        prop_assert!(fitted.windows(2).all(|pair| pair[0].flags != pair[1].flags));
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(form in form(), mut bytes in vec(any::<u8>(), 0..200), kind: u16) {
        let shared = Bytes::from(bytes.clone());
        let _ = ReplyHead::decode(form, &bytes);
        let _ = Chunk::decode(form, kind, shared.clone());
        let _ = Chunk::decode(form, kind % 7, shared.clone());
        let _ = OptionRequest::decode(u32::from(kind) % 12, &shared);
        let _ = OptionReply::decode(u32::from(kind) % 6, &bytes);
        let magic: u32 = if form == Form::Extended { 0x21e4_1c71 } else { 0x2560_9513 };
        bytes.splice(0..0, magic.to_be_bytes());
        let _ = Receiver::default().next(&everything(form), &mut BytesMut::from(&bytes[..]));
    }

    #[test]
    fn requests_do_not_depend_on_how_the_bytes_are_cut((form, commands) in commands(1..6), cut in 1usize..50) {
        let (mut sent, mut bytes) = (Vec::new(), Vec::new());
        for (cookie, command) in (0..).zip(commands) {
            let request = Request { cookie, command };
            request.encode(form, &mut bytes);
            sent.push(Incoming::Request(request));
        }
        let (session, mut receiver) = (everything(form), Receiver::default());
        let (mut input, mut received) = (BytesMut::new(), Vec::new());
        for piece in bytes.chunks(cut) {
            input.extend_from_slice(piece);
            loop {
                match receiver.next(&session, &mut input).unwrap() {
                    Incoming::Receive(_) => break,
                    incoming => received.push(incoming),
                }
            }
        }
        prop_assert_eq!(received, sent);
    }
}
