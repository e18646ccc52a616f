//! Tests of the protocol: golden bytes written out by hand, one misuse each, and round trips.

mod client;
mod extended;
mod handshake;
mod round_trip;
mod starttls;
mod transmission;

use bytes::BytesMut;

use super::*;

/// Bytes written as hexadecimal digits; spaces are only for the eye.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn buffer(text: &str) -> BytesMut {
    hex(text).as_slice().into()
}

/// A read-only export of 1 MiB with two contexts, of which the second is not the protocol's own.
fn advert() -> Advert {
    Advert {
        name: "vol".to_owned(),
        description: "a volume".to_owned(),
        geometry: Geometry::read_only(1 << 20),
        contexts: vec![BASE_ALLOCATION.to_owned(), "qemu:dirty-bitmap:p1".to_owned()],
    }
}

/// All that a writable export can offer.
fn writable() -> TransmissionFlags {
    TransmissionFlags::SEND_FLUSH
        | TransmissionFlags::SEND_FUA
        | TransmissionFlags::SEND_TRIM
        | TransmissionFlags::SEND_WRITE_ZEROES
        | TransmissionFlags::SEND_CACHE
        | TransmissionFlags::SEND_FAST_ZERO
}
