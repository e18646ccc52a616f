//! What a tap says: as JSON events and as lines for people.
//!
//! Invariant: both say the same, in the same order.

use super::core::{Phase, Standing};
use super::snapshot::DirtySnapshot;
use crate::args::Tap;
use crate::plan::{Kind, Plan};
use crate::report::Report;
use crate::scan::Met;
use crate::text::{self, bytes};
use serde_json::json;
use std::time::Duration;
use understudy_format::BlockId;
use understudy_format::point::Point;
use understudy_format::session::Cursor;
use understudy_format::stream::Begin;

/// The phase, as it is told.
fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Dirty => "dirty",
        Phase::CatchingUp => "catching-up",
        Phase::Following => "following",
    }
}

/// The volume is served.
pub(super) fn ready(args: &Tap, size: u64, uri: &str, report: &mut Report) {
    let path = args.path.display().to_string();
    let event = json!({"event": "ready", "path": path, "size": size, "volume": args.volume.as_str(), "uri": uri});
    let (volume, appliance) = (&args.volume, &args.appliance.address);
    report.tell(event, &format!("{path} ({}) -> {volume} at {appliance}\nnbd {uri}\nready", bytes(size)));
}

/// Where the tap stands, when that is another than before.
pub(super) fn standing(standing: &Standing, report: &mut Report) {
    let Standing { phase, reason, dirty_bytes, last, durable, .. } = standing;
    let reason = reason.as_ref().map(ToString::to_string);
    let event = json!({
        "event": "standing", "phase": name(*phase), "reason": reason, "dirty_bytes": dirty_bytes,
        "entries": last, "durable": durable,
    });
    let why = reason.map_or(String::new(), |reason| format!(": {reason}"));
    let line = match phase {
        Phase::Dirty => format!("dirty: {} may differ from what the appliance has{why}", bytes(*dirty_bytes)),
        Phase::CatchingUp => {
            format!("catching up: {} are compared and sent beside the journal{why}", bytes(*dirty_bytes))
        }
        Phase::Following => "following: the appliance has everything, or the journal here has it".to_owned(),
    };
    report.tell(event, &line);
}

/// There is a session with the appliance.
pub(super) fn connected(address: &str, standing: &Standing, report: &mut Report) {
    let Standing { last, durable, .. } = standing;
    let event = json!({"event": "connected", "appliance": address, "entries": last, "durable": durable});
    let behind = match last - durable {
        0 => String::new(),
        behind => format!("; it lacks {behind} entries of the journal"),
    };
    report.tell(event, &format!("the appliance {address} follows{behind}"));
}

/// There is none, or none any more.
pub(super) fn not_connected(reason: &str, again: Duration, report: &mut Report) {
    let event = json!({"event": "not-connected", "reason": reason, "seconds": rounded(again)});
    report.tell(event, &format!("the appliance does not follow, and is tried again as long as it takes: {reason}"));
}

/// A stream begins.
pub(super) fn stream(plan: &Plan, snapshot: &DirtySnapshot, standing: &Standing, report: &mut Report) {
    let base = match &plan.kind {
        Kind::Full => None,
        Kind::Incremental(base, _) => Some(base.number),
    };
    let reason = standing.reason.as_ref().map_or(plan.reason.clone(), ToString::to_string);
    let (kind, compared) = match base {
        None => ("full", plan.geometry.volume_size()),
        Some(_) => ("incremental", snapshot.bytes()),
    };
    let event = json!({"event": "stream", "kind": kind, "base": base, "bytes": compared, "reason": reason});
    let what = base.map_or("baseline".to_owned(), |base| format!("resynchronisation against point {base}"));
    let (compared, all) = (bytes(compared), bytes(plan.geometry.volume_size()));
    report.tell(event, &format!("{what}: {compared} of {all} are read: {reason}"));
}

/// The connection of the stream was lost, or none came to be.
pub(super) fn stream_failed(error: &anyhow::Error, again: Duration, report: &mut Report) {
    let (reason, seconds) = (text::one_line(error), rounded(again));
    let event = json!({"event": "retry", "reason": &reason, "seconds": seconds});
    report.tell(event, &format!("what is stale does not travel: {reason}; next try in {seconds} s"));
}

/// The stream goes on over another connection.
pub(super) fn resumed(begin: &Begin, cursor: &Cursor, report: &mut Report) {
    let block = cursor.next_block.0;
    let done = begin.geometry.byte_range(BlockId(0), block).end;
    let event = json!({"event": "resume", "block": block, "bytes": done});
    report.tell(event, &format!("the interrupted stream goes on from block {block}"));
}

/// What was stale is a point now.
pub(super) fn stored(point: &Point, met: &Met, bytes_sent: u64, took: Duration, report: &mut Report) {
    let seconds = rounded(took);
    let event = json!({
        "event": "stored", "point": point.number, "bytes_read": met.bytes_read, "bytes_sent": bytes_sent, "seconds": seconds,
    });
    let (read, sent) = (bytes(met.bytes_read), bytes(bytes_sent));
    let line = format!("point {} is stored after {seconds} s: {read} read, {sent} sent", point.number);
    report.tell(event, &line);
}

/// How far the appliance is behind.
pub(super) fn behind(standing: &Standing, lag: Duration, achieved: Duration, report: &mut Report) {
    let (entries, lag, achieved) = (standing.last - standing.durable, rounded(lag), rounded(achieved));
    let event = json!({
        "event": "behind", "phase": name(standing.phase), "entries": entries, "lag_seconds": lag, "rpo_seconds": achieved,
    });
    let line = format!(
        "behind: {entries} entries, the oldest {lag} s old; since the last line no entry took longer than {achieved} s to be durable there"
    );
    report.tell(event, &line);
}

fn rounded(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}
