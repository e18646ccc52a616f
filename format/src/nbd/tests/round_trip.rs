//! What one end encodes the other decodes to the same value, and no bytes make a decoder panic.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn everything() -> Session {
    let geometry = Geometry { size: EXPORT_SIZE_MAX, flags: writable(), blocks: BlockSizes::default() };
    let contexts = vec![MetaContext { id: 1, name: BASE_ALLOCATION.to_owned() }];
    Session::new("vol".to_owned(), &Advert { geometry, ..advert() }, true, false, contexts)
}

fn span() -> impl Strategy<Value = Span> {
    (0..EXPORT_SIZE_MAX / 2, 1..=REQUEST_LEN_MAX).prop_map(|(offset, length)| Span { offset, length })
}

fn command() -> impl Strategy<Value = Command> {
    let data = vec(any::<u8>(), 0..600).prop_map(Bytes::from);
    prop_oneof![
        (span(), any::<bool>()).prop_map(|(span, whole)| Command::Read { span, whole }),
        (span(), data, any::<bool>()).prop_map(|(span, data, fua)| Command::Write { offset: span.offset, data, fua }),
        Just(Command::Flush),
        (span(), any::<bool>()).prop_map(|(span, fua)| Command::Trim { span, fua }),
        span().prop_map(|span| Command::Cache { span }),
        (span(), any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(span, fua, no_hole, fast)| { Command::WriteZeroes { span, fua, no_hole, fast } }),
        (span(), any::<bool>()).prop_map(|(span, one)| Command::BlockStatus { span, one }),
    ]
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
fn decode_one(bytes: &[u8]) -> (ReplyHead, Chunk) {
    let (head, taken) = ReplyHead::decode(bytes).unwrap().unwrap();
    let ReplyHead::Chunk { kind, length, .. } = head else { panic!("{head:?}") };
    assert_eq!(bytes.len(), taken + length as usize);
    (head, Chunk::decode(kind, Bytes::copy_from_slice(&bytes[taken..])).unwrap())
}

proptest! {
    #[test]
    fn a_request_arrives_as_it_was_sent(cookie: u64, command in command()) {
        let (request, mut input) = (Request { cookie, command }, BytesMut::new());
        request.encode(&mut input);
        let incoming = Receiver::default().next(&everything(), &mut input);
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
    fn content_arrives_as_it_was_sent(cookie: u64, offset: u64, data in vec(any::<u8>(), 1..99)) {
        let replies = Replies { structured: true };
        let mut bytes = vec![0; replies.data_head_len()];
        replies.put_data_head(&mut bytes, cookie, offset, data.len() as u32);
        bytes.extend_from_slice(&data);
        prop_assert_eq!(decode_one(&bytes).1, Chunk::Data { offset, data: data.into() });
    }

    #[test]
    fn a_failure_arrives_as_it_was_sent(cookie: u64, text in ".{0,40}", at: Option<u64>) {
        let failure = Failure { errno: Errno::NoSpace, text, at };
        let mut bytes = Vec::new();
        Replies { structured: true }.failed(&mut bytes, cookie, &failure);
        prop_assert_eq!(decode_one(&bytes).1, Chunk::Failed(failure));
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
    fn no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..200), kind: u16) {
        let shared = Bytes::from(bytes.clone());
        let _ = ReplyHead::decode(&bytes);
        let _ = Chunk::decode(kind, shared.clone());
        let _ = Chunk::decode(kind % 6, shared.clone());
        let _ = OptionRequest::decode(u32::from(kind) % 12, &shared);
        let _ = OptionReply::decode(u32::from(kind) % 6, &bytes);
        let _ = Receiver::default().next(&everything(), &mut BytesMut::from(&bytes[..]));
    }

    #[test]
    fn requests_do_not_depend_on_how_the_bytes_are_cut(
        commands in vec(command(), 1..6), cut in 1usize..50,
    ) {
        let (mut sent, mut bytes) = (Vec::new(), Vec::new());
        for (cookie, command) in (0..).zip(commands) {
            let request = Request { cookie, command };
            request.encode(&mut bytes);
            sent.push(Incoming::Request(request));
        }
        let (session, mut receiver) = (everything(), Receiver::default());
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
