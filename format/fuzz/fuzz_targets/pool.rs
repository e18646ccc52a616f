//! Fuzzes the file that makes a directory a pool; see the crate's library for what is asserted.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| understudy_fuzz::decoder("pool", data));
