//! How a stream is shown: aligned lines for people, JSON lines for programs. Decides nothing.

use crate::text::{bytes, plural, time};
use serde_json::{Value, json};
use std::io::Write;
use understudy_format::chunk::{Chunk, ChunkHead, Entry};
use understudy_format::codec::Codec;
use understudy_format::layout::Layout;
use understudy_format::stream::{Begin, Commit, Totals};
use understudy_format::{BlockId, FormatError};

/// Bytes of a frame's header.
const FRAME: u64 = 16;

/// Where the dump goes, and how much of it.
pub struct Show<'a, W> {
    /// The dump.
    pub out: &'a mut W,
    /// JSON lines.
    pub json: bool,
    /// Neither chunks nor mappings.
    pub summary: bool,
}

impl<W: Write> Show<'_, W> {
    /// One line of the dump.
    pub fn line(&mut self, json: Value, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        match self.json {
            true => writeln!(self.out, "{json}")?,
            false => writeln!(self.out, "{}", text())?,
        }
        Ok(())
    }

    /// How the stream begins.
    pub fn begin(&mut self, offset: u64, begin: &Begin) -> anyhow::Result<()> {
        let geometry = begin.geometry;
        let (size, blocks) = (geometry.volume_size(), geometry.block_count());
        let json = json!({
            "event": "begin", "offset": offset, "kind": if begin.base.is_some() { "incremental" } else { "full" },
            "volume": uuid(begin.volume), "stream": begin.stream.to_string(), "volume_size": size,
            "block_size": geometry.block_size().bytes(), "blocks": blocks, "created": time(begin.created_ns),
            "base_root": begin.base.map(|base| base.root.to_string()), "base_size": begin.base.map(|base| base.size),
        });
        self.line(json, || {
            let kind = begin.base.map_or("full".into(), |base| {
                format!("incremental, on a base of {} with root {}", bytes(base.size), base.root)
            });
            let volume = uuid(begin.volume).unwrap_or_else(|| "that no appliance knows yet".into());
            let continued = " ".repeat(22);
            format!(
                "{offset:>12}  begin   {kind}\n\
                 {continued}volume {volume} of {} in {} of {}\n\
                 {continued}stream {}, read at {}",
                bytes(size),
                plural(blocks, "block"),
                geometry.block_size(),
                begin.stream,
                time(begin.created_ns)
            )
        })
    }

    /// A chunk, and its mapping: a line for each block that travels, and for each run.
    pub fn chunk(&mut self, offset: u64, chunk: &Chunk) -> anyhow::Result<()> {
        if self.summary {
            return Ok(());
        }
        let head = &chunk.head;
        let payload = payload_offset(offset, head);
        let totals = totals_of(head);
        let json = json!({
            "event": "chunk", "offset": offset, "sequence": head.sequence, "first_block": head.first_block.0,
            "blocks": head.block_count(), "payload_offset": payload, "payload_length": head.payload_length,
            "payload_crc": format!("{:08x}", head.payload_crc), "totals": totals_json(&totals),
        });
        self.line(json, || {
            let range = range(head.first_block, head.block_count());
            format!(
                "{offset:>12}  chunk   {}: {range}, {} of payload at {payload} (CRC-32 {:08x}): {}",
                head.sequence,
                bytes(head.payload_length.into()),
                head.payload_crc,
                totals_text(&totals)
            )
        })?;
        head.blocks().try_for_each(|(block, entry)| self.entry(payload, block, entry))
    }

    fn entry(&mut self, payload: u64, block: BlockId, entry: &Entry) -> anyhow::Result<()> {
        let mut json = json!({"event": "entry", "block": block.0, "count": entry.count(), "kind": kind(entry)});
        let detail = match *entry {
            Entry::Data { digest, codec, payload_offset, payload_length, block_length } => {
                let at = payload + u64::from(payload_offset);
                let codec = if codec == Codec::Lz4 { "lz4" } else { "stored" };
                json["digest"] = digest.to_string().into();
                json["codec"] = codec.into();
                json["offset"] = at.into();
                json["stored_length"] = payload_length.into();
                json["length"] = block_length.into();
                format!("{digest}  {block_length} bytes, {codec} as {payload_length} at {at}")
            }
            Entry::Reference { digest, block_length } => {
                json["digest"] = digest.to_string().into();
                json["length"] = block_length.into();
                format!("{digest}  {block_length} bytes that the receiver has")
            }
            Entry::Zero { .. } | Entry::Unchanged { .. } => String::new(),
        };
        self.line(json, || {
            let blocks = range(block, entry.count());
            let line = format!("{:>22}{blocks:<24} {:<9} {detail}", "", kind(entry));
            line.trim_end().to_owned()
        })
    }

    /// How the stream ends.
    pub fn commit(&mut self, offset: u64, commit: &Commit) -> anyhow::Result<()> {
        let root = commit.root.to_string();
        let json = json!({"event": "commit", "offset": offset, "stream": commit.stream.to_string(), "root": root,
            "totals": totals_json(&commit.totals)});
        self.line(json, || {
            let totals = &commit.totals;
            let (chunks, blocks) = (plural(totals.chunks, "chunk"), plural(totals.blocks(), "block"));
            format!("{offset:>12}  commit  {chunks}, {blocks}: {}\n{:>22}root {root}", totals_text(totals), "")
        })
    }

    /// Nothing is wrong.
    pub fn sound(&mut self, length: u64) -> anyhow::Result<bool> {
        let json = json!({"event": "end", "offset": length, "sound": true});
        self.line(json, || format!("{length:>12}  end     sound: checksums, digests and the rules of a stream hold"))?;
        Ok(true)
    }

    /// Something is wrong with the frame at `offset`.
    pub fn damage(&mut self, offset: u64, error: &FormatError) -> anyhow::Result<bool> {
        let json = json!({"event": "damage", "offset": offset, "error": error.to_string()});
        let perhaps = if offset == 0 { ", or no stream at all" } else { "" };
        self.line(json, || format!("damaged at offset {offset}{perhaps}: {error}"))?;
        Ok(false)
    }
}

/// `None` for nil: the volume is the appliance's to name.
fn uuid(uuid: uuid::Uuid) -> Option<String> {
    (!uuid.is_nil()).then(|| uuid.to_string())
}

/// Where the payload of the chunk in the frame at `frame` starts.
fn payload_offset(frame: u64, head: &ChunkHead) -> u64 {
    use understudy_format::chunk::{ChunkHeader, MappingEntry};
    frame + FRAME + (ChunkHeader::SIZE + head.entries.len() * MappingEntry::SIZE) as u64
}

fn totals_of(head: &ChunkHead) -> Totals {
    let mut totals = Totals::default();
    totals.add(head);
    totals
}

fn totals_json(totals: &Totals) -> Value {
    let Totals { chunks, data, zero, unchanged, reference } = *totals;
    json!({"chunks": chunks, "data": data, "zero": zero, "unchanged": unchanged, "reference": reference})
}

fn totals_text(totals: &Totals) -> String {
    let named = [
        (totals.data, "data"),
        (totals.zero, "zero"),
        (totals.unchanged, "unchanged"),
        (totals.reference, "reference"),
    ];
    let there: Vec<String> =
        named.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
    there.join(", ")
}

fn kind(entry: &Entry) -> &'static str {
    match entry {
        Entry::Data { .. } => "data",
        Entry::Zero { .. } => "zero",
        Entry::Unchanged { .. } => "unchanged",
        Entry::Reference { .. } => "reference",
    }
}

fn range(first: BlockId, count: u64) -> String {
    match count {
        1 => format!("block {first}"),
        _ => format!("blocks {first} to {}", first.0 + count - 1),
    }
}
