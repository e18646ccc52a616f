//! A delay that looks random, so that many appliances with one configuration do not all start at the same moment.
//!
//! It is a pure function of a seed (the pool's UUID), the job and the moment: known in advance, the same after a restart, another one
//! each time.

use jiff::{SignedDuration, Timestamp};
use understudy_format::Digest;

/// How long to wait after `nominal`, whole seconds: from nothing up to, and without, `max`.
pub fn delay(max: SignedDuration, seed: &[u8], job: &str, nominal: Timestamp) -> SignedDuration {
    let Ok(max_s @ 1..) = u64::try_from(max.as_secs()) else { return SignedDuration::ZERO };
    let mut text = seed.to_vec();
    text.extend(nominal.as_nanosecond().to_le_bytes());
    text.extend(job.as_bytes());
    let bytes = Digest::of_record(&text).0;
    let number = bytes[..8].iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    SignedDuration::from_secs((number % max_s) as i64)
}
