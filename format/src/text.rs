//! Numbers and times for people, the same in every program. Pure functions.

/// A number of bytes, with a decimal unit.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A time in nanoseconds since 1970 as RFC 3339 in UTC, to the second.
pub fn time(ns: i64) -> String {
    timestamp(ns).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A time in nanoseconds since 1970 as RFC 3339 in UTC, with as many digits as it has, and one at least: what it stands for is no whole second.
pub fn exact_time(ns: i64) -> String {
    match ns.rem_euclid(1_000_000_000) {
        0 => timestamp(ns).strftime("%Y-%m-%dT%H:%M:%S.0Z").to_string(),
        _ => timestamp(ns).to_string(),
    }
}

fn timestamp(ns: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_nanosecond(ns.into()).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

/// What people write for a number of bytes: `50M`, `1G`, `4096`; the units K, M, G and T are powers of 1024.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let refused = || format!("{text:?}: expected a number of bytes such as 4096, 50M or 1G (units K, M, G, T)");
    let shift = match text.as_bytes().last() {
        Some(b'K') => 10,
        Some(b'M') => 20,
        Some(b'G') => 30,
        Some(b'T') => 40,
        _ => 0,
    };
    let digits = if shift == 0 { text } else { &text[..text.len() - 1] };
    let number: u64 = digits.parse().map_err(|_| refused())?;
    number.checked_mul(1 << shift).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_decimal_units() {
        let texts = [0, 999, 1000, 1_500_000, 999_950, u64::MAX].map(bytes);
        assert_eq!(texts, ["0 B", "999 B", "1.0 kB", "1.5 MB", "1.0 MB", "18.4 EB"]);
    }

    #[test]
    fn bytes_are_read_with_binary_units() {
        assert_eq!(["4096", "50M", "1G", "3K"].map(parse_bytes), [Ok(4096), Ok(50 << 20), Ok(1 << 30), Ok(3 << 10)]);
        for wrong in ["", "M", "1.5G", "-1", "1k", "99999999999T"] {
            assert!(parse_bytes(wrong).unwrap_err().contains("expected a number of bytes"), "{wrong}");
        }
    }

    #[test]
    fn times_are_to_the_second() {
        assert_eq!(time(1_763_719_200_999_999_999), "2025-11-21T10:00:00Z");
    }

    #[test]
    fn exact_times_have_the_digits_that_they_need_and_one_at_least() {
        let times = [999_999_999, 250_000_000, 0].map(|ns| exact_time(1_763_719_200_000_000_000 + ns));
        let expected = ["2025-11-21T10:00:00.999999999Z", "2025-11-21T10:00:00.25Z", "2025-11-21T10:00:00.0Z"];
        assert_eq!(times, expected);
    }
}
