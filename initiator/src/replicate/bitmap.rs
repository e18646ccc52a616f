//! What a run does about the source's dirty bitmap: believe it, stop believing it, and remember it with the point.
//!
//! Invariants: nothing of a stream in which a bitmap was believed is committed once it is not; a point is remembered with a bitmap
//! only when that was there before reading began and was not found to lie; without one the memory of an older point goes.

use super::{Run, tell};
use crate::base::Base;
use crate::clock;
use crate::plan::Plan;
use crate::sample::Sample;
use crate::source::{Changes, Mistrust};
use crate::text;
use crate::trust::{judge, judge_size};
use std::sync::{Arc, Mutex};
use understudy_format::bitmap::SeenBitmap;
use understudy_format::point::Point;

/// What became of the bitmap so far.
#[derive(Debug, Default)]
pub(super) struct Belief {
    /// Whether it is believed; `None` where none was asked for.
    pub believed: Option<bool>,
    /// Why it is not, whatever was known before.
    pub mistrust: Option<String>,
    /// How often it was found to lie.
    pub lies: u64,
}

impl Run<'_> {
    /// Has the bitmap believed against the base, or tells why everything is compared.
    pub(super) fn believe(&mut self, plan: &Plan, base: Option<&mut Base>) {
        let judged = match (self.belief.mistrust.clone(), self.source.bitmap()) {
            (_, None) => return,
            (Some(reason), _) | (None, Some(Err(reason))) => Err(reason),
            (None, Some(Ok(changes))) => self.judge(&changes, plan).map(|()| changes.bitmap.name),
        };
        tell::bitmap(&judged, &mut self.report);
        self.belief.believed = Some(judged.is_ok());
        if let (Ok(_), Some(base)) = (judged, base) {
            let seed = self.args.sample_seed.unwrap_or_else(|| clock::random_id().as_u64_pair().0);
            base.believed = Some(Arc::new(Mutex::new(Sample::new(plan.geometry.block_size(), seed))));
        }
    }

    fn judge(&self, Changes { bitmap, since_base }: &Changes, plan: &Plan) -> Result<(), String> {
        let (base, size) = (tell::base_of(plan), plan.geometry.volume_size());
        if *since_base {
            return judge_size(base, size).map(drop);
        }
        let seen = self.state.seen_bitmap().map_err(|error| text::one_line(&error));
        judge(bitmap, seen, self.pool, base, size)
    }

    /// The bitmap is not believed any more: the next connection begins a stream that compares everything.
    pub(super) fn stop_believing(&mut self, mistrust: &Mistrust) {
        let reason = mistrust.to_string();
        if let Mistrust::Lie(_) = mistrust {
            self.belief.lies += 1;
            self.report.warn(&format!("the bitmap lies: {reason}; everything is compared"));
        }
        self.flight = None;
        self.state.forget();
        tell::dropped(&reason, &mut self.report);
        self.belief.mistrust = Some(reason);
    }

    /// Remembers, with the point that was just stored, which bitmap was recording when it was read.
    pub(super) fn remember_bitmap(&mut self, point: &Point) {
        let changes = self.source.bitmap().and_then(Result::ok);
        let changes = changes.filter(|changes| self.belief.lies == 0 && !changes.since_base);
        let seen = changes.map(|changes| SeenBitmap {
            pool: self.pool,
            volume: point.volume,
            point: point.number,
            root: point.map.root(),
            bitmap: changes.bitmap,
        });
        if let Err(e) = self.state.see_bitmap(seen.as_ref()) {
            let line = format!("point {} is stored, but its bitmap is not remembered: {e:#}", point.number);
            self.report.warn(&line);
        }
    }
}

/// Why the run failed, when that is a bitmap that cannot be believed.
pub(super) fn mistrust(error: &anyhow::Error) -> Option<&Mistrust> {
    error.chain().find_map(|cause| cause.downcast_ref())
}
