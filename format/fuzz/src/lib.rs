//! What the fuzz targets assert: no bytes make a decoder panic, and what decodes encodes to the same value.
//!
//! Each input is tried twice: as it is, and with its checksums made right, so that what lies behind them
//! is reached. The decoders are those of the crate's own tests; the seeds are its golden vectors.

#[path = "../../tests/it/decoders.rs"]
pub mod decoders;
#[path = "../../tests/it/reader.rs"]
pub mod reader;

use reader::{Nowhere, read_stream, reseal_stream};

/// Tries `data` on the decoder called `kind`; of one that wants to know a number, that is the first eight bytes.
pub fn decoder(kind: &str, data: &[u8]) {
    let (with, bytes) = match data.split_first_chunk::<8>() {
        Some((with, rest)) if decoders::WITH.contains(&kind) => (u64::from_le_bytes(*with), rest),
        _ => (0, data),
    };
    let _ = decoders::round_trip(kind, with, bytes);
    let mut bytes = bytes.to_vec();
    decoders::reseal(kind, &mut bytes);
    let _ = decoders::round_trip(kind, with, &bytes);
}

/// Tries `data` as a whole stream.
pub fn stream(data: &[u8]) {
    let _ = read_stream(data, &mut Nowhere);
    let mut bytes = data.to_vec();
    reseal_stream(&mut bytes);
    let first = read_stream(&bytes, &mut Nowhere);
    assert_eq!(first, read_stream(&bytes, &mut Nowhere));
}
