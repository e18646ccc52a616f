//! Numbers, times and tables for people. Pure functions.

use understudy_format::Digest;
pub use understudy_format::text::{bytes, exact_time, time};

/// What failed and why, outermost first; a cause that its effect has told already is left out.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !line.ends_with(&cause) {
            line = if line.is_empty() { cause } else { format!("{line}: {cause}") };
        }
    }
    line.replace('\n', " ")
}

/// The first digits of a digest, or a dash for none.
pub fn digest(digest: &Digest) -> String {
    if digest.is_zero() { "-".into() } else { digest.short() }
}

/// A table with a head, columns aligned: to the right where the head starts with `>`.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let right: Vec<bool> = head.iter().map(|head| head.starts_with('>')).collect();
    let head: Vec<&str> = head.iter().map(|head| head.trim_start_matches('>')).collect();
    let widths: Vec<usize> = (0..head.len())
        .map(|at| rows.iter().map(|row| row[at].chars().count()).chain([head[at].len()]).max().unwrap_or(0))
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.zip(widths.iter().zip(&right)).map(|(cell, (width, right))| match right {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut head.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let error = anyhow::anyhow!("reset").context("connection: reset").context("appliance a");
        assert_eq!(one_line(&error), "appliance a: connection: reset");
    }

    #[test]
    fn bytes_have_decimal_units() {
        let table = [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (4 << 30, "4.3 GB")];
        for (count, text) in table {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn tables_are_aligned() {
        let rows = [vec!["a".into(), "5".into()], vec!["long".into(), "123".into()]];
        assert_eq!(table(&["NAME", ">POINTS"], &rows), "NAME  POINTS\na          5\nlong     123");
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(time(1_795_255_200_123_456_789), "2026-11-21T10:00:00Z");
        assert_eq!(exact_time(1_795_255_200_123_456_789), "2026-11-21T10:00:00.123456789Z");
    }
}
