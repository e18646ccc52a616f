//! What `understudy replicate` says: as JSON events and as lines for people.
//!
//! Invariant: both say the same, in the same order.

use super::bitmap::Belief;
use crate::args::Replicate;
use crate::plan::{Kind, Plan};
use crate::report::Report;
use crate::retry::{Tries, Try};
use crate::scan::Met;
use crate::text;
use serde_json::json;
use understudy_format::BlockId;
use understudy_format::point::Point;
use understudy_format::session::Cursor;
use understudy_format::stream::{Begin, Commit};
use understudy_format::wire::BlockRange;

/// What was stored, and what it took.
#[derive(Debug)]
pub(super) struct Stored {
    pub point: Point,
    pub commit: Commit,
    pub met: Met,
    /// Over all connections of this run.
    pub bytes_sent: u64,
    /// The blocks from which the stream went on after it was cut.
    pub resumes: Vec<u64>,
    pub belief: Belief,
}

pub(super) fn base_of(plan: &Plan) -> Option<&Point> {
    match &plan.kind {
        Kind::Full => None,
        Kind::Incremental(base, _) => Some(base),
    }
}

fn kind(plan: &Plan) -> &'static str {
    if base_of(plan).is_some() { "incremental" } else { "full" }
}

pub(super) fn start(args: &Replicate, plan: &Plan, report: &mut Report) {
    let (base, geometry) = (base_of(plan).map(|base| base.number), &plan.geometry);
    let event = json!({
        "event": "start", "volume": args.volume.as_str(), "kind": kind(plan), "reason": plan.reason, "base": base,
        "size": geometry.volume_size(), "block_size": geometry.block_size().bytes(),
    });
    let what = base.map_or("full".into(), |base| format!("incremental on point {base}"));
    let size = text::bytes(geometry.volume_size());
    let line = format!(
        "{} -> {} at {}: {what} ({}); {size} in blocks of {}",
        args.source,
        args.volume,
        args.appliance.address,
        plan.reason,
        geometry.block_size()
    );
    report.tell(event, &line);
}

/// The appliance lost blocks of the base.
pub(super) fn again(ranges: &[BlockRange], report: &mut Report) {
    let blocks: u64 = ranges.iter().map(|range| range.count).sum();
    let event = json!({"event": "again", "blocks": blocks, "first": ranges[0].first});
    let line =
        format!("{blocks} blocks that the appliance has lost are offered again, the first is {}", ranges[0].first);
    report.tell(event, &line);
}

/// Whether a dirty bitmap is believed, and which; or why not.
pub(super) fn bitmap(judged: &Result<String, String>, report: &mut Report) {
    let (used, name, reason) = (judged.is_ok(), judged.as_ref().ok(), judged.as_ref().err());
    let event = json!({"event": "bitmap", "used": used, "bitmap": name, "reason": reason});
    let line = match judged {
        Ok(name) => format!("bitmap {name}: only what it has dirty is read, and a sample of the rest"),
        Err(reason) => format!("everything is read and compared, whatever the bitmap says: {reason}"),
    };
    report.tell(event, &line);
}

/// The connection was lost, another one is tried.
pub(super) fn retry(next: &Try, tries: &Tries, error: &anyhow::Error, report: &mut Report) {
    let (seconds, reason) = (next.delay.as_secs_f64(), text::one_line(error));
    let event = json!({"event": "retry", "try": next.number, "of": tries.max(), "seconds": seconds, "reason": &reason});
    report.tell(event, &format!("{reason}; try {} of {} in {seconds} s", next.number, tries.max()));
}

/// The stream goes on.
pub(super) fn resume(begin: &Begin, cursor: &Cursor, report: &mut Report) {
    let (block, blocks) = (cursor.next_block.0, begin.geometry.block_count());
    let bytes = begin.geometry.byte_range(BlockId(0), block).end;
    let event = json!({"event": "resume", "block": block, "bytes": bytes, "stream": begin.stream.to_string()});
    let size = text::bytes(bytes);
    report.tell(event, &format!("the interrupted stream goes on from block {block} of {blocks}: {size} are durable"));
}

/// The appliance has nothing of the stream.
pub(super) fn nothing_durable(report: &mut Report) {
    let event = json!({"event": "resume", "block": 0, "bytes": 0});
    report.tell(event, "the interrupted stream goes on from its start: the appliance recorded nothing of it");
}

/// What is durable is held against the source.
pub(super) fn check(begin: &Begin, cursor: &Cursor, report: &mut Report) {
    let bytes = begin.geometry.byte_range(BlockId(0), cursor.next_block.0).end;
    let event = json!({"event": "check", "blocks": cursor.next_block.0, "bytes": bytes});
    let size = text::bytes(bytes);
    report.tell(event, &format!("reading the {size} before the cut again: the source may have changed since"));
    report.begin("checking", bytes);
}

/// The interrupted stream is of no use.
pub(super) fn dropped(reason: &str, report: &mut Report) {
    let event = json!({"event": "dropped", "reason": reason});
    let line =
        format!("the interrupted stream is dropped: {reason}; another one begins, what is stored is not sent again");
    report.tell(event, &line);
}

pub(super) fn summary(args: &Replicate, plan: &Plan, stored: &Stored, report: &mut Report) {
    let Stored { point, commit, met, bytes_sent, resumes, belief } = stored;
    let totals = &commit.totals;
    let changed = totals.data + totals.reference + if base_of(plan).is_some() { totals.zero } else { 0 };
    let seconds = report.elapsed().as_secs_f64();
    let (size, root) = (plan.geometry.volume_size(), commit.root.to_string());
    let ratio = (size as f64 / (*bytes_sent).max(1) as f64 * 100.0).round() / 100.0;
    let event = json!({
        "event": "summary", "volume": args.volume.as_str(), "point": point.number, "kind": kind(plan),
        "reason": plan.reason, "blocks_total": plan.geometry.block_count(), "blocks_read": met.read,
        "blocks_zero": met.zero, "blocks_changed": changed, "blocks_sent": totals.data,
        "blocks_deduplicated": totals.reference, "bytes_read": met.bytes_read, "bytes_sent": bytes_sent,
        "ratio": ratio, "seconds": (seconds * 1000.0).round() / 1000.0, "root": root,
        "resumes": resumes.len(), "resumed_from": resumes.last(), "bitmap_used": belief.believed,
        "bitmap_lies": belief.lies, "blocks_clean": met.clean, "blocks_sampled": met.sampled,
    });
    let rate = text::bytes((size as f64 / seconds.max(0.001)) as u64);
    let resumed = resumes.last().map_or(String::new(), |block| format!(", resumed from block {block}"));
    let clean = match belief.believed {
        Some(true) => format!("clean:  {} blocks not read, but for {} of them\n", met.clean, met.sampled),
        _ => String::new(),
    };
    let line = format!(
        "{}@{} is stored ({}{resumed}) after {seconds:.1} s, {rate}/s\n\
         blocks: {} in all, {} read, {} zero, {changed} changed, {} sent, {} deduplicated\n\
         bytes:  {} read, {} sent, 1/{ratio} of the volume\n{clean}\
         root:   {root}",
        args.volume,
        point.number,
        kind(plan),
        plan.geometry.block_count(),
        met.read,
        met.zero,
        totals.data,
        totals.reference,
        text::bytes(met.bytes_read),
        text::bytes(*bytes_sent),
    );
    report.tell(event, &line);
}
