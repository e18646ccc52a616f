//! What a run tells while it goes on: a bar on a terminal, plain lines otherwise, or JSON lines.
//!
//! Invariants: JSON goes to standard output only and is one object a line; lines for people come at
//! most every few seconds; telling never fails a run (whoever closed the pipe does not want to know).

use crate::clock::Stopwatch;
use crate::text::bytes;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::time::Duration;

const JSON_EVERY: Duration = Duration::from_millis(500);
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Where lines for people go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// Standard output.
    Output,
    /// Standard error, where standard output carries a stream.
    Error,
}

/// Tells; see the module documentation.
#[derive(Debug)]
pub struct Report {
    style: Style,
    lines: Lines,
    watch: Stopwatch,
    told: Duration,
    total: u64,
    warnings: u64,
    /// Bytes a second that may move.
    limit: Option<u64>,
}

#[derive(Debug)]
enum Style {
    Json,
    Bar(ProgressBar),
    Plain,
}

impl Report {
    /// A report in JSON, or for people.
    pub fn new(json: bool, lines: Lines) -> Self {
        let style = match json {
            true => Style::Json,
            false if std::io::stderr().is_terminal() => Style::Bar(ProgressBar::hidden()),
            false => Style::Plain,
        };
        Self::of(style, lines)
    }

    /// A report of what goes on for ever: there is no bar, and there may be several.
    pub fn endless(json: bool) -> Self {
        Self::of(if json { Style::Json } else { Style::Plain }, Lines::Output)
    }

    fn of(style: Style, lines: Lines) -> Self {
        Self { style, lines, watch: Stopwatch::start(), told: Duration::ZERO, total: 0, warnings: 0, limit: None }
    }

    /// The same, of a run that keeps to a rate, bytes a second.
    pub fn limited(self, limit: Option<u64>) -> Self {
        Self { limit, ..self }
    }

    /// Since the report was made.
    pub fn elapsed(&self) -> Duration {
        self.watch.elapsed()
    }

    /// How many warnings were told.
    pub fn warnings(&self) -> u64 {
        self.warnings
    }

    /// Tells a fact: as `event` in JSON, as `line` to people.
    pub fn tell(&mut self, event: Value, line: &str) {
        match &self.style {
            Style::Json => println_json(&event),
            Style::Bar(bar) => bar.suspend(|| self.print(line)),
            Style::Plain => self.print(line),
        }
    }

    /// Starts counting up to `total` bytes; `what` is being done.
    pub fn begin(&mut self, what: &'static str, total: u64) {
        (self.total, self.told) = (total, self.watch.elapsed());
        if let Style::Bar(bar) = &mut self.style {
            let template = "{msg} {wide_bar} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta} left";
            let style = ProgressStyle::with_template(template).expect("the template is well-formed");
            bar.finish_and_clear();
            let limit = self.limit.map_or(String::new(), |limit| format!(" at {}/s at most", bytes(limit)));
            *bar = ProgressBar::new(total).with_style(style).with_message(format!("{what}{limit}"));
        }
    }

    /// So many bytes are done, so many were sent or received.
    pub fn progress(&mut self, done: u64, moved: u64) {
        let now = self.watch.elapsed();
        let due = |every| now.saturating_sub(self.told) >= every;
        match &self.style {
            Style::Json if due(JSON_EVERY) => {
                println_json(&json!({
                    "event": "progress", "bytes_done": done, "bytes_total": self.total, "bytes_sent": moved,
                    "bandwidth": self.limit,
                }));
                self.told = now;
            }
            Style::Bar(bar) => bar.set_position(done),
            Style::Plain if due(LINE_EVERY) => {
                let percent = done.saturating_mul(100) / self.total.max(1);
                self.print(&format!(
                    "{percent:3} % ({} of {}), {} moved{}, {:.0} s",
                    bytes(done),
                    bytes(self.total),
                    bytes(moved),
                    self.limit.map_or(String::new(), |limit| format!(" at {}/s at most", bytes(limit))),
                    now.as_secs_f64()
                ));
                self.told = now;
            }
            _ => {}
        }
    }

    /// Ends the bar.
    pub fn end(&mut self) {
        if let Style::Bar(bar) = &self.style {
            bar.finish_and_clear();
        }
    }

    /// Tells a warning.
    pub fn warn(&mut self, text: &str) {
        self.warnings += 1;
        match &self.style {
            Style::Json => println_json(&json!({"event": "warning", "text": text})),
            Style::Bar(bar) => bar.suspend(|| print_error(text)),
            Style::Plain => print_error(text),
        }
    }

    fn print(&self, line: &str) {
        let _ = match self.lines {
            Lines::Output => writeln!(std::io::stdout(), "{line}"),
            Lines::Error => writeln!(std::io::stderr(), "{line}"),
        };
    }
}

fn print_error(text: &str) {
    let _ = writeln!(std::io::stderr(), "warning: {text}");
}

fn println_json(event: &Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{event}").and_then(|()| out.flush());
}
