//! Fuzzes states of taps; see the crate's library for what is asserted.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| understudy_fuzz::decoder("tap", data));
