//! What a command says with `--json`, a line at a time: how far it is, what happened, and the figures of its report.
//!
//! Invariant: a line that is not understood is something for people and never a failure; the command's exit code alone decides.

use serde_json::Value;
use understudy_format::agent::{VolumeFigures, VolumeReport};
use understudy_format::point::VolumeName;

/// What was heard of a command so far.
#[derive(Debug)]
pub struct Heard {
    volume: VolumeName,
    figures: VolumeFigures,
    block_size: u64,
    full_reason: String,
    /// Bytes that are done, and in all.
    pub progress: (u64, u64),
    last: String,
}

impl Heard {
    /// Nothing yet.
    pub fn new(volume: VolumeName) -> Self {
        let figures = VolumeFigures::ZERO;
        Self { volume, figures, block_size: 0, full_reason: String::new(), progress: (0, 0), last: String::new() }
    }

    /// Takes a line; what is to be told of it. Empty: numbers alone.
    pub fn line(&mut self, line: &str) -> String {
        let event: Value = serde_json::from_str(line).unwrap_or(Value::Null);
        match event["event"].as_str() {
            Some("progress") => {
                self.progress = (number(&event, "bytes_done"), number(&event, "bytes_total"));
                String::new()
            }
            Some("start") => self.start(&event),
            Some("summary") => self.summary(&event),
            Some("warning") => self.note(format!("warning: {}", word(&event, "text"))),
            Some(other) => self.note(format!("{other}: {}", word(&event, "reason")).trim_end_matches(": ").to_owned()),
            None => self.note(line.trim().to_owned()),
        }
    }

    /// The report of the volume, for the exit code of its command and what that wrote at its end.
    pub fn report(mut self, code: u8, text: String) -> VolumeReport {
        self.figures.code = code;
        let text = if text.is_empty() { self.last } else { text };
        VolumeReport { volume: self.volume, figures: self.figures, full_reason: self.full_reason, text }
    }

    fn start(&mut self, event: &Value) -> String {
        self.block_size = number(event, "block_size");
        self.figures.point = number(event, "point");
        self.progress = (0, number(event, "size"));
        let (kind, reason) = (word(event, "kind"), word(event, "reason"));
        if kind == "full" {
            self.full_reason = reason.clone();
        }
        if kind.is_empty() { "begun".into() } else { format!("{kind} ({reason})") }
    }

    fn summary(&mut self, event: &Value) -> String {
        let blocks = |key| number(event, key).saturating_mul(self.block_size);
        let seconds = event["seconds"].as_f64().unwrap_or_default();
        self.figures = VolumeFigures {
            point: number(event, "point"),
            read_bytes: number(event, "bytes_read"),
            changed_bytes: blocks("blocks_changed").max(blocks("blocks_written")),
            sent_bytes: blocks("blocks_sent"),
            deduplicated_bytes: blocks("blocks_deduplicated"),
            wire_bytes: number(event, "bytes_sent").max(number(event, "bytes_received")),
            duration_ms: (seconds * 1000.0) as u64,
            ..self.figures
        };
        self.progress.0 = self.progress.1;
        self.last = format!("{}@{}", self.volume, self.figures.point);
        String::new()
    }

    fn note(&mut self, text: String) -> String {
        self.last.clone_from(&text);
        text
    }
}

fn number(event: &Value, key: &str) -> u64 {
    event[key].as_u64().unwrap_or_default()
}

fn word(event: &Value, key: &str) -> String {
    event[key].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_summary() {
        let mut heard = Heard::new("mail".parse().unwrap());
        let start =
            r#"{"event":"start","kind":"full","reason":"first point of this volume","size":131072,"block_size":65536}"#;
        assert_eq!(heard.line(start), "full (first point of this volume)");
        assert_eq!(heard.line(r#"{"event":"progress","bytes_done":65536,"bytes_total":131072,"bytes_sent":9}"#), "");
        assert_eq!(heard.progress, (65536, 131072));
        assert_eq!(heard.line(r#"{"event":"retry","try":1,"reason":"connection lost"}"#), "retry: connection lost");
        assert_eq!(heard.line(r#"{"event":"warning","text":"it grew"}"#), "warning: it grew");
        let summary = r#"{"event":"summary","point":3,"blocks_changed":2,"blocks_sent":1,"blocks_deduplicated":1,"bytes_read":131072,"bytes_sent":70000,"seconds":1.5}"#;
        heard.line(summary);
        let report = heard.report(3, String::new());
        let figures = report.figures;
        assert_eq!((figures.point, figures.code, figures.duration_ms, figures.wire_bytes), (3, 3, 1500, 70_000));
        assert_eq!((figures.changed_bytes, figures.sent_bytes, figures.deduplicated_bytes), (131_072, 65_536, 65_536));
        assert_eq!((report.full_reason.as_str(), report.text.as_str()), ("first point of this volume", "mail@3"));
    }

    #[test]
    fn what_is_not_understood_is_for_people() {
        let mut heard = Heard::new("mail".parse().unwrap());
        assert_eq!(heard.line("not identical: 3 of 9 blocks differ"), "not identical: 3 of 9 blocks differ");
        assert_eq!(heard.line("{\"event\":\"dropped\"}"), "dropped");
        heard.line("not identical: 3 of 9 blocks differ");
        assert_eq!(heard.report(4, String::new()).text, "not identical: 3 of 9 blocks differ");
    }
}
