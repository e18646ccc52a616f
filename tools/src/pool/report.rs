//! What a check found, and how it is told: lines for people, JSON lines for programs.
//!
//! Invariant: the verdict follows from the damages alone; notes never make a pool damaged.

use crate::text::{bytes, plural};
use serde::Serialize;
use serde_json::json;
use std::io::{self, Write};

/// Something that breaks a promise of the pool.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The kind of thing: `segment`, `record`, `point`, `block`, `page`, `volume`, `secondary`, `overlay`, `journal`.
    pub what: &'static str,
    /// Everything, for people.
    pub text: String,
    /// The segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<u64>,
    /// Bytes from the start of the segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The name of the volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// The newest point that is hurt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub point: Option<u64>,
    /// The first block of it that is hurt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<u64>,
    /// How many blocks of it are hurt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks: Option<u64>,
    /// Where that block is in the volume, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_offset: Option<u64>,
    /// How many older points are hurt by the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_points: Option<u64>,
    /// Of the block or page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

impl Damage {
    /// Something that is told by its text alone.
    pub fn new(what: &'static str, text: impl Into<String>) -> Self {
        Self { what, text: text.into(), ..Self::default() }
    }

    /// Something in a segment.
    pub fn in_segment(what: &'static str, segment: u64, offset: u64, reason: &str) -> Self {
        let text = format!("segment {segment} at {offset}: {reason}");
        Self { segment: Some(segment), offset: Some(offset), ..Self::new(what, text) }
    }
}

/// What was looked at, in numbers.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Segment files.
    pub segments: u64,
    /// Segments with a trailer.
    pub sealed_segments: u64,
    /// Bytes of all segment files.
    pub bytes: u64,
    /// Records, neither pads nor footers.
    pub records: u64,
    /// Different blocks.
    pub unique_blocks: u64,
    /// Content bytes of them.
    pub unique_bytes: u64,
    /// Different map pages.
    pub unique_pages: u64,
    /// Records that nobody names any more: their space can be had back.
    pub reclaimable: u64,
    /// Bytes of them in segments.
    pub reclaimable_bytes: u64,
    /// Bytes at the end of segments that were never acknowledged.
    pub unacknowledged_bytes: u64,
    /// Volumes.
    pub volumes: u64,
    /// Points.
    pub points: u64,
    /// Points that retention may not remove.
    pub protected: u64,
    /// Removals that are recorded.
    pub removals: u64,
    /// Streams that were cut and may go on.
    pub open_streams: u64,
    /// Content bytes of all points, zeros included.
    pub point_bytes: u64,
    /// Secondaries that are a point.
    pub settled_secondaries: u64,
    /// Secondaries that are becoming one, or are not made yet.
    pub unsettled_secondaries: u64,
}

/// A volume as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolumeLine {
    /// Its name.
    pub name: String,
    /// How many points it has.
    pub points: u64,
    /// The number of the newest.
    pub newest: Option<u64>,
    /// Bytes of the newest.
    pub size: Option<u64>,
    /// What the secondary is.
    pub secondary: String,
}

/// Everything that a check found.
#[derive(Debug, Default, Clone)]
pub struct Report {
    /// The pool.
    pub pool: String,
    /// By name.
    pub volumes: Vec<VolumeLine>,
    /// Broken promises.
    pub damages: Vec<Damage>,
    /// What is worth knowing and no damage.
    pub notes: Vec<String>,
    /// In numbers.
    pub summary: Summary,
}

impl Report {
    /// Whether no promise is broken.
    pub fn is_sound(&self) -> bool {
        self.damages.is_empty()
    }

    /// Tells it.
    pub fn print(&self, json: bool, out: &mut impl Write) -> io::Result<()> {
        if json { self.print_json(out) } else { self.print_text(out) }
    }

    fn print_json(&self, out: &mut impl Write) -> io::Result<()> {
        let tagged = |event: &str, value: serde_json::Result<serde_json::Value>| {
            let mut value = value.map_err(io::Error::other)?;
            value["event"] = event.into();
            Ok::<_, io::Error>(value)
        };
        for volume in &self.volumes {
            writeln!(out, "{}", tagged("volume", serde_json::to_value(volume))?)?;
        }
        for damage in &self.damages {
            writeln!(out, "{}", tagged("damage", serde_json::to_value(damage))?)?;
        }
        for note in &self.notes {
            writeln!(out, "{}", json!({"event": "note", "text": note}))?;
        }
        let mut summary = tagged("summary", serde_json::to_value(&self.summary))?;
        summary["pool"] = self.pool.clone().into();
        summary["damages"] = self.damages.len().into();
        summary["sound"] = self.is_sound().into();
        writeln!(out, "{summary}")
    }

    fn print_text(&self, out: &mut impl Write) -> io::Result<()> {
        for volume in &self.volumes {
            let newest = volume.newest.zip(volume.size);
            let newest = newest.map_or("no point".into(), |(point, size)| format!("newest @{point}, {}", bytes(size)));
            let points = plural(volume.points, "point");
            writeln!(out, "volume {}: {points}, {newest}; secondary {}", volume.name, volume.secondary)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(out, "note: {note}"))?;
        self.damages.iter().try_for_each(|damage| writeln!(out, "damaged: {}", damage.text))?;
        self.print_summary(out)?;
        match self.damages.len() as u64 {
            0 => writeln!(out, "sound: every checksum, digest and root is right, and every point is complete"),
            count => writeln!(out, "DAMAGED: {}", plural(count, "finding")),
        }
    }

    fn print_summary(&self, out: &mut impl Write) -> io::Result<()> {
        let s = &self.summary;
        let (segments, records) = (plural(s.segments, "segment"), plural(s.records, "record"));
        writeln!(out, "{segments} ({} sealed), {}: {records}", s.sealed_segments, bytes(s.bytes))?;
        let (blocks, pages) = (plural(s.unique_blocks, "different block"), plural(s.unique_pages, "map page"));
        let reclaimable = match s.reclaimable {
            0 => "nothing is reclaimable".into(),
            count => format!("{} ({}) reclaimable", plural(count, "record"), bytes(s.reclaimable_bytes)),
        };
        writeln!(out, "{blocks} ({}) and {pages}; {reclaimable}", bytes(s.unique_bytes))?;
        let protected = if s.protected > 0 { format!(", {} protected", s.protected) } else { String::new() };
        let (volumes, points) = (plural(s.volumes, "volume"), plural(s.points, "point"));
        let secondaries = plural(s.settled_secondaries, "settled secondary").replace("secondarys", "secondaries");
        let unsettled = match s.unsettled_secondaries {
            0 => String::new(),
            count => format!(", {count} not settled"),
        };
        writeln!(out, "{volumes}, {points} ({} of content{protected}), {secondaries}{unsettled}", bytes(s.point_bytes))
    }
}
