//! Giving space back, and telling how much.

use super::{Outcome, Upkeep};
use crate::args;
use crate::error::Result;
use crate::pool::collect::{Collected, Options};
use serde_json::json;
use understudy_format::text::bytes;

impl Upkeep<'_> {
    pub(super) fn collect(&mut self, args: &args::Collect) -> Result<Outcome> {
        self.reclaim(Options { dead_max: f64::from(args.dead_max) / 100.0, dry_run: args.dry_run })
    }

    /// Collects, and tells what came of it.
    pub(super) fn reclaim(&mut self, options: Options) -> Result<Outcome> {
        let collected = self.pool.collect(options, self.stop)?;
        let Collected { segments, live_records, live_bytes, missing, removed_segments, .. } = collected;
        let freed = collected.removed_bytes.saturating_sub(collected.copied_bytes);
        let json = json!({
            "event": "collected", "segments": segments, "bytes": collected.bytes, "live_records": live_records,
            "live_bytes": live_bytes, "missing": missing, "removed_segments": removed_segments,
            "removed_bytes": collected.removed_bytes, "copied_bytes": collected.copied_bytes, "freed_bytes": freed,
            "left_alone": collected.left_alone, "dry_run": options.dry_run,
        });
        let dead = collected.bytes.saturating_sub(live_bytes);
        let mut text = format!(
            "{segments} segments of {}: {} in {live_records} records are needed, {} are not",
            bytes(collected.bytes),
            bytes(live_bytes),
            bytes(dead)
        );
        if !options.dry_run {
            text += &format!(
                "\n{removed_segments} segments removed, {} copied out of them, {} given back",
                bytes(collected.copied_bytes),
                bytes(freed)
            );
        }
        self.tell(text, json);
        self.tell_doubts(&collected)
    }

    fn tell_doubts(&mut self, collected: &Collected) -> Result<Outcome> {
        let Collected { missing, left_alone, .. } = *collected;
        if left_alone > 0 {
            let text = format!("{left_alone} segments are damaged and were left alone; `understudyd scrub` tells more");
            self.tell(text, json!({"event": "warning", "left_alone": left_alone}));
        }
        if missing > 0 {
            let text =
                format!("{missing} blocks or map pages that points need are lost; `understudyd scrub` tells more");
            self.tell(text, json!({"event": "warning", "missing": missing}));
        }
        Ok(if left_alone + missing > 0 { Outcome::Warnings } else { Outcome::Done })
    }
}
