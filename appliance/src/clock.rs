//! The only place that asks for the time or for randomness; everything else gets them passed in.

use uuid::Uuid;

/// Nanoseconds since 1970-01-01T00:00:00Z.
#[expect(clippy::disallowed_methods, reason = "the one sanctioned caller")]
pub fn now_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// A new random name.
#[expect(clippy::disallowed_methods, reason = "the one sanctioned caller")]
pub fn random_uuid() -> Uuid {
    Uuid::new_v4()
}
