//! Fuzzes the client's side of NBD: option replies, reply heads and chunks of any bytes decode or fail, and never panic.

#![no_main]

use bytes::Bytes;
use understudy_format::nbd::{Chunk, Form, Greeting, OptionReply, OptionReplyHead, ReplyHead};

const FORMS: [Form; 3] = [Form::Simple, Form::Structured, Form::Extended];

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
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
