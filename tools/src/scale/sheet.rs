//! Results as tables in Markdown, or as JSON, one object a row.
//!
//! Invariant: a row is told when it was measured, so that what was measured before a failure is not lost.

use crate::text::{binary, bytes, say};
use serde_json::{Map, Value, json};

/// A value of a table.
#[derive(Debug, Clone)]
pub enum Cell {
    /// Text.
    Text(String),
    /// A time, seconds.
    Seconds(f64),
    /// An amount of data, bytes.
    Bytes(u64),
    /// Memory, bytes.
    Memory(u64),
    /// A number of things.
    Count(u64),
    /// Things a second.
    Rate(f64),
    /// Nothing.
    None,
}

impl Cell {
    fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Seconds(seconds) if *seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
            Self::Seconds(seconds) => format!("{seconds:.1} s"),
            Self::Bytes(count) => bytes(*count),
            Self::Memory(count) => binary(count.next_multiple_of(1 << 20)),
            Self::Count(count) => grouped(*count),
            Self::Rate(rate) => format!("{}/s", grouped(*rate as u64)),
            Self::None => String::new(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Seconds(number) | Self::Rate(number) => json!(number),
            Self::Bytes(count) | Self::Memory(count) | Self::Count(count) => json!(count),
            Self::None => Value::Null,
        }
    }
}

/// `1234567` becomes `1,234,567`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let comma = |at: usize| at > 0 && (digits.len() - at).is_multiple_of(3);
    digits.char_indices().flat_map(|(at, digit)| comma(at).then_some(',').into_iter().chain([digit])).collect()
}

/// A column: its name in JSON, and its heading.
pub type Column = (&'static str, &'static str);

/// What most parts measure.
pub const MEASURED: &[Column] = &[
    ("what", "what"),
    ("seconds", "time"),
    ("count", "of"),
    ("rate", "rate"),
    ("understudyd_peak_bytes", "understudyd, memory"),
    ("understudy_peak_bytes", "understudy, memory"),
    ("note", ""),
];

/// A table that is told row by row.
#[derive(Debug)]
pub struct Sheet {
    part: &'static str,
    columns: &'static [Column],
    json: bool,
}

impl Sheet {
    /// Begins a table.
    pub fn new(part: &'static str, title: &str, columns: &'static [Column], json: bool) -> Self {
        if !json {
            let headings: Vec<&str> = columns.iter().map(|(_, heading)| *heading).collect();
            say(&format!("\n{title}\n\n| {} |\n|{}", headings.join(" | "), "---|".repeat(columns.len())));
        }
        Self { part, columns, json }
    }

    /// Tells a row: a value for each column.
    pub fn row(&self, cells: &[Cell]) {
        if self.json {
            let named = self.columns.iter().zip(cells).map(|((name, _), cell)| ((*name).to_owned(), cell.json()));
            let event = [("event".to_owned(), json!("scale")), ("part".to_owned(), json!(self.part))];
            return say(&Value::Object(event.into_iter().chain(named).collect::<Map<_, _>>()).to_string());
        }
        let cells: Vec<String> = cells.iter().map(Cell::shown).collect();
        say(&format!("| {} |", cells.join(" | ")));
    }

    /// Tells a row of [`MEASURED`].
    pub fn measured(&self, what: &str, measured: Measured) {
        let Measured { seconds, count, understudyd, understudy, note } = measured;
        let (rate, count) = match count {
            Some(count) => (Cell::Rate(count as f64 / seconds), Cell::Count(count)),
            None => (Cell::None, Cell::None),
        };
        let memory = |peak: u64| if peak == 0 { Cell::None } else { Cell::Memory(peak) };
        let (what, note) = (Cell::Text(what.into()), Cell::Text(note));
        self.row(&[what, Cell::Seconds(seconds), count, rate, memory(understudyd), memory(understudy), note]);
    }
}

/// A row of [`MEASURED`].
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// How long.
    pub seconds: f64,
    /// How many things in that time.
    pub count: Option<u64>,
    /// The most memory of `understudyd`, bytes; 0 when it is not told.
    pub understudyd: u64,
    /// The most memory of `understudy`, bytes; 0 when it is not told.
    pub understudy: u64,
    /// What else there is to say.
    pub note: String,
}

/// The middle one of some times, and a note that has the longest.
pub fn median(mut seconds: Vec<f64>) -> Measured {
    seconds.sort_by(f64::total_cmp);
    let longest = Cell::Seconds(seconds.last().copied().unwrap_or(0.0)).shown();
    let note = format!("median of {}, longest {longest}", seconds.len());
    Measured { seconds: seconds.get(seconds.len() / 2).copied().unwrap_or(0.0), note, ..Measured::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let shown = [0, 999, 1000, 20_000_000].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "20,000,000"]);
    }

    #[test]
    fn the_median_is_the_middle_one() {
        let Measured { seconds, note, .. } = median(vec![3.0, 0.001, 0.002]);
        assert_eq!((seconds, note.as_str()), (0.002, "median of 3, longest 3.0 s"));
    }
}
