//! Fuzzes the server's side of NBD: any bytes from a client through handshake and transmission never panic, never make
//! the machine ask for more than a request takes, and never loop without taking input.

#![no_main]

use bytes::BytesMut;
use understudy_format::nbd::{Advert, ExportName, Geometry, Handshake, Incoming, Receiver, Session, Step, TlsPolicy};

fn advert() -> Advert {
    let contexts = vec!["base:allocation".to_owned()];
    Advert { name: "v@1".into(), description: "a point".into(), geometry: Geometry::read_only(1 << 20), contexts }
}

fn enter(input: &mut BytesMut, out: &mut BytesMut) -> Option<Session> {
    let mut handshake = Handshake::greeting(TlsPolicy::On, out);
    loop {
        match handshake.advance(input, out).ok()? {
            Step::StartTls => assert!(input.is_empty(), "nothing passes for encrypted"),
            Step::Receive | Step::Close => return None,
            Step::List => handshake.answer_list(&[ExportName { name: "v".into(), description: String::new() }], out),
            Step::Open(..) => {
                if let Some(session) = handshake.answer_open(Ok(advert()), out).ok()? {
                    return Some(session);
                }
            }
        }
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (mut input, mut out) = (BytesMut::from(data), BytesMut::new());
    let Some(session) = enter(&mut input, &mut out) else { return };
    let mut receiver = Receiver::default();
    loop {
        match receiver.next(&session, &mut input) {
            Ok(Incoming::Request(_) | Incoming::Refused { .. }) => {}
            Ok(Incoming::Receive(more)) => return assert!(more > 0 && more <= 64 << 20),
            Ok(Incoming::Disconnect) | Err(_) => return,
        }
    }
});
