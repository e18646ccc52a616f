//! Fuzzes the client's side of NBD: option replies, reply heads and chunks of any bytes decode or fail, and never panic.

#![no_main]

use bytes::{Bytes, BytesMut};
use understudy_format::nbd::{
    Chunk, ClientHandshake, ClientStep, ExpectRead, Form, Greeting, OptionReply, OptionReplyHead, ReplyHead, Span, Wish,
};

const FORMS: [Form; 3] = [Form::Simple, Form::Structured, Form::Extended];

/// A server that says `data`: each step sends something or is the last.
fn shake_hands(data: &[u8], tls: bool) {
    let (mut input, mut out) = (BytesMut::from(data), BytesMut::new());
    let contexts = vec!["base:allocation".to_owned(), "qemu:dirty-bitmap:b0".to_owned()];
    let mut client = ClientHandshake::new(Wish { export: "v".into(), contexts, tls, plain: false });
    while let Ok(ClientStep::Encrypt) = client.advance(&mut input, &mut out) {}
    assert!(out.len() <= 64 << 10);
}

/// Parts wherever `data` says: none is placed twice.
fn place(data: &[u8]) {
    let (mut read, mut placed) = (ExpectRead::new(Span { offset: 64, length: 128 }), [false; 128]);
    for part in data.chunks_exact(2) {
        if let Ok(range) = read.place(part[0].into(), part[1].into()) {
            placed[range].iter_mut().for_each(|byte| assert!(!std::mem::replace(byte, true)));
        }
    }
    assert_eq!(read.finish().is_ok(), placed.iter().all(|byte| *byte));
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    shake_hands(data, false);
    shake_hands(data, true);
    place(data);
    let _ = data.first_chunk().map(Greeting::decode);
    let _ = data.first_chunk().map(OptionReplyHead::decode);
    if let Some((kind, payload)) = data.split_first_chunk::<4>() {
        let kind = u32::from_be_bytes(*kind);
        let _ = OptionReply::decode(kind, payload);
        for form in FORMS {
            let _ = Chunk::decode(form, kind as u16, Bytes::copy_from_slice(payload));
        }
    }
    for form in FORMS {
        if let Ok(Some((_, taken))) = ReplyHead::decode(form, data) {
            assert!(taken <= data.len());
        }
    }
});
