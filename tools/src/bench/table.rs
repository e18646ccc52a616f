//! Results: medians, ratios, and what was to be reached.

use super::contestant::{BUFFERED_DD, CONTESTANTS, UNCHANGED, UNDERSTUDY};
use super::{exports, reads, taps};
use crate::process::Taken;
use crate::text::{binary, say};
use serde_json::{Value, json};
use std::fmt;

/// The most memory that a process of ours should have, bytes.
const PEAK_MAX: u64 = 256 << 20;
/// A full, to the fastest peer.
const FASTEST_MAX: f64 = 1.5;
/// A full, to buffered dd.
const BUFFERED_MAX: f64 = 0.6;
/// An incremental with nothing changed, bytes per second.
const UNCHANGED_MIN: f64 = 2e9;

/// One run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Whose.
    pub name: &'static str,
    /// How long, seconds.
    pub seconds: f64,
    /// The most memory of the command, bytes.
    pub peak: u64,
    /// The most memory of the server behind it, bytes; 0 when there is none.
    pub server_peak: u64,
}

impl Run {
    /// A run without a server.
    pub fn new(name: &'static str, taken: Taken) -> Self {
        Self { name, seconds: taken.seconds, peak: taken.peak, server_peak: 0 }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:.2} s, peak {}", self.name.trim(), self.seconds, binary(self.peak))?;
        if self.server_peak > 0 {
            write!(f, ", its server {}", binary(self.server_peak))?;
        }
        Ok(())
    }
}

/// All runs of one contestant.
struct Line {
    name: &'static str,
    /// Ascending.
    seconds: Vec<f64>,
    peak: u64,
    server_peak: u64,
}

impl Line {
    fn median(&self) -> f64 {
        let (half, count) = (self.seconds.len() / 2, self.seconds.len());
        match count % 2 {
            1 => self.seconds[half],
            _ => f64::midpoint(self.seconds[half - 1], self.seconds[half]),
        }
    }

    /// A peer that copies the whole volume.
    fn is_peer(&self) -> bool {
        self.name != UNDERSTUDY && CONTESTANTS.iter().any(|contestant| contestant.name == self.name)
    }

    fn is_full(&self) -> bool {
        self.is_peer() || self.name == UNDERSTUDY || self.name.starts_with(' ')
    }

    fn is_ours(&self) -> bool {
        !self.is_peer() && self.name != exports::NBDCOPY && !self.name.starts_with("nbdkit")
    }
}

/// See the module documentation.
pub struct Results {
    size: u64,
    json: bool,
    lines: Vec<Line>,
    notes: Vec<(String, Value)>,
    reached: Vec<Target>,
}

/// Something that was to be reached.
#[derive(Debug, Clone)]
struct Target {
    text: String,
    found: f64,
    is_reached: bool,
}

impl Results {
    /// No results yet, of a volume of `size` bytes.
    pub fn new(size: u64, json: bool) -> Self {
        Self { size, json, lines: Vec::new(), notes: Vec::new(), reached: Vec::new() }
    }

    /// Whether nothing ran.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.notes.is_empty()
    }

    /// Takes what is no time, as text and as JSON.
    pub fn note(&mut self, text: String, value: Value) {
        self.notes.push((text, value));
    }

    /// Takes something that was to be reached, and what was found.
    pub fn reach(&mut self, text: String, found: f64, is_reached: bool) {
        self.reached.push(Target { text, found, is_reached });
    }

    /// Takes a run.
    pub fn add(&mut self, run: Run) {
        let Run { name, seconds, peak, server_peak } = run;
        if self.json {
            say(&format!(
                "{}",
                json!({"event": "run", "name": name.trim(), "seconds": seconds, "peak_bytes": peak,
                "server_peak_bytes": server_peak})
            ));
        }
        let at = self.lines.iter().position(|line| line.name == name).unwrap_or_else(|| {
            self.lines.push(Line { name, seconds: Vec::new(), peak: 0, server_peak: 0 });
            self.lines.len() - 1
        });
        let line = &mut self.lines[at];
        line.seconds.push(seconds);
        line.seconds.sort_by(f64::total_cmp);
        (line.peak, line.server_peak) = (line.peak.max(peak), line.server_peak.max(server_peak));
    }

    /// Tells everything.
    pub fn print(&self) {
        if self.json {
            return self.print_json();
        }
        say(&format!(
            "\nA volume of {}, half compressible; medians; everything is durable when it counts.\n",
            binary(self.size)
        ));
        say(&format!(
            "{:<32} {:>8} {:>15} {:>7} {:>9} {:>7} {:>9} {:>11}",
            "", "seconds", "min - max", "GB/s", "x fastest", "x dd", "peak MiB", "server MiB"
        ));
        self.lines.iter().for_each(|line| self.print_line(line));
        say("");
        for target in self.targets() {
            let reached = if target.is_reached { "reached" } else { "NOT reached" };
            say(&format!("{:<66} {:>8.2}   {reached}", target.text, target.found));
        }
        taps::notes(|name| self.median_of(name)).iter().for_each(|note| say(note));
        self.notes.iter().for_each(|(text, _)| say(text));
    }

    fn print_line(&self, line: &Line) {
        let median = line.median();
        let (least, most) = (line.seconds[0], line.seconds[line.seconds.len() - 1]);
        let ratio = |of: Option<f64>| match of.filter(|_| line.is_full()) {
            Some(of) => format!("{:.2}", median / of),
            None => String::new(),
        };
        let mib = |bytes: u64| if bytes == 0 { String::new() } else { format!("{}", bytes.div_ceil(1 << 20)) };
        let columns = format!(
            "{:<32} {median:>8.2} {:>15} {:>7.2} {:>9} {:>7} {:>9} {:>11}",
            line.name,
            format!("{least:.2} - {most:.2}"),
            self.size as f64 / median / 1e9,
            ratio(self.fastest_peer()),
            ratio(self.median_of(BUFFERED_DD)),
            mib(line.peak),
            mib(line.server_peak)
        );
        say(columns.trim_end());
    }

    fn print_json(&self) {
        for line in &self.lines {
            say(&format!(
                "{}",
                json!({"event": "result", "name": line.name.trim(), "seconds_median": line.median(),
                "seconds_min": line.seconds[0], "seconds_max": line.seconds[line.seconds.len() - 1],
                "runs": line.seconds.len(), "peak_bytes": line.peak, "server_peak_bytes": line.server_peak})
            ));
        }
        self.notes.iter().for_each(|(_, value)| say(&value.to_string()));
        for target in self.targets() {
            say(&format!(
                "{}",
                json!({"event": "target", "text": target.text, "found": target.found,
                "reached": target.is_reached})
            ));
        }
    }

    fn median_of(&self, name: &str) -> Option<f64> {
        self.lines.iter().find(|line| line.name == name).map(Line::median)
    }

    fn fastest_peer(&self) -> Option<f64> {
        self.lines.iter().filter(|line| line.is_peer()).map(Line::median).min_by(f64::total_cmp)
    }

    /// As far as what they need was measured.
    fn targets(&self) -> Vec<Target> {
        let mut targets = self.reached.clone();
        let mut add = |text: String, found: f64, is_reached| targets.push(Target { text, found, is_reached });
        let full = self.median_of(UNDERSTUDY);
        if let (Some(full), Some(fastest)) = (full, self.fastest_peer()) {
            let ratio = full / fastest;
            add(format!("full, at most {FASTEST_MAX} x the fastest peer"), ratio, ratio <= FASTEST_MAX);
        }
        if let (Some(full), Some(dd)) = (full, self.median_of(BUFFERED_DD)) {
            let ratio = full / dd;
            add(format!("full, at most {BUFFERED_MAX} x buffered dd"), ratio, ratio <= BUFFERED_MAX);
        }
        if let Some(seconds) = self.median_of(UNCHANGED) {
            let rate = self.size as f64 / seconds;
            add("incremental with nothing changed, at least 2 GB/s".into(), rate / 1e9, rate >= UNCHANGED_MIN);
        }
        let median = |name: &str| self.median_of(name);
        for (text, ratio, wanted) in exports::targets(median).chain(reads::targets(median)).chain(taps::targets(median))
        {
            add(text, ratio, ratio >= wanted);
        }
        let peaks = self.lines.iter().filter(|line| line.is_ours());
        for (who, peak) in [
            ("understudy", peaks.clone().map(own_peak).max()),
            ("understudyd", peaks.map(|line| line.server_peak).max()),
        ] {
            if let Some(peak) = peak {
                let text = format!("most memory of {who}, at most {} (in MiB)", binary(PEAK_MAX));
                add(text, peak as f64 / f64::from(1 << 20), peak <= PEAK_MAX);
            }
        }
        targets
    }
}

/// What the command had; who reads and writes over NBD is somebody else's.
fn own_peak(line: &Line) -> u64 {
    if ["NBD", "tap"].iter().any(|client| line.name.starts_with(client)) { 0 } else { line.peak }
}
