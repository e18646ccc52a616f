//! How lines, numbers and times are written for people, and sizes read from them.

use std::io::Write;
pub use understudy_format::text::time;

/// Prints a line; whoever closed the pipe has seen enough, and that is no failure.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// `1536000` becomes `1.5 MB`: decimal units, as the initiator and disk vendors have them.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    let unit = (1..UNITS.len()).take_while(|unit| count >= 1000u64.pow(*unit as u32)).last().unwrap_or(0);
    let value = count as f64 / 1000f64.powi(unit as i32);
    match unit {
        0 if count == 1 => "1 byte".into(),
        0 => format!("{count} bytes"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

/// Memory and sizes that are chosen in powers of two: `3.5 MiB`.
pub fn binary(count: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = UNITS.iter().find(|(shift, _)| count >> shift > 0);
    let Some((shift, unit)) = unit else { return bytes(count) };
    let value = count as f64 / (1u64 << shift) as f64;
    if value.fract() == 0.0 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") }
}

/// `1 point`, `2 points`.
pub fn plural(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// Reads `1T`, `4G`, `512M` or a number of bytes; whole mebibytes only.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text[digits.len()..].trim_end_matches("iB") {
        "" => Some(0),
        "M" => Some(20),
        "G" => Some(30),
        "T" => Some(40),
        _ => None,
    };
    let size = shift.and_then(|shift| digits.parse::<u64>().ok()?.checked_mul(1 << shift));
    size.filter(|size| *size > 0 && size.is_multiple_of(1 << 20))
        .ok_or_else(|| "expected a size such as 1T, 4G or 512M, a multiple of 1M".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_people_write_them() {
        let written = [0, 1, 999, 1000, 1_536_000, 4 << 30].map(bytes);
        assert_eq!(written, ["0 bytes", "1 byte", "999 bytes", "1.0 kB", "1.5 MB", "4.3 GB"]);
        let written = [1, 1536, 256 << 20, 4 << 30, 64 << 40].map(binary);
        assert_eq!(written, ["1 byte", "1.5 KiB", "256 MiB", "4 GiB", "64 TiB"]);
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let read = ["4G", "512M", "1048576", "1GiB", "64T"].map(parse_size);
        assert_eq!(read, [4 << 30, 512 << 20, 1 << 20, 1 << 30, 64 << 40].map(Ok));
        assert!(["", "4", "4X", "0", "G", "99999999999G"].iter().all(|text| parse_size(text).is_err()));
    }

    #[test]
    fn times_are_in_utc() {
        assert_eq!(time(1_000_000_000_000_000_000), "2001-09-09T01:46:40Z");
    }
}
