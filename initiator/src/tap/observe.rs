//! Looks how the tap stands, and tells when that changes and, every minute, how far the appliance is behind.

use super::core::{Core, Phase, Standing};
use super::lag::{Lag, since};
use super::{blocking, lock, tell};
use crate::clock;
use crate::report::Report;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Looks between two lines.
const LINE_EVERY: u32 = 120;
/// Entries that are older have been left behind.
const BEHIND: Duration = Duration::from_secs(2);

/// Observes, for ever.
pub async fn hold(core: Arc<Core>, lag: Arc<Mutex<Lag>>, mut report: Report) {
    let mut told: Option<Phase> = None;
    let mut looks = 0u32;
    let mut tick = tokio::time::interval(LOOK_EVERY);
    loop {
        tick.tick().await;
        let standing = core.standing();
        if told.replace(standing.phase) != Some(standing.phase) {
            tell::standing(&standing, &mut report);
        }
        looks += 1;
        if looks.is_multiple_of(LINE_EVERY) {
            let age = oldest(core.clone(), &standing).await;
            let worst = lock(&lag).take_worst();
            if age.max(worst) > BEHIND || standing.phase == Phase::Dirty {
                tell::behind(&standing, age, worst, &mut report);
            }
        }
    }
}

/// How old the oldest entry is that the appliance lacks.
async fn oldest(core: Arc<Core>, standing: &Standing) -> Duration {
    let durable = standing.durable;
    match blocking(move || core.pending(durable, 1)).await {
        Ok(Ok(Some(batch))) => since(batch.oldest_ns, clock::now_ns()),
        _ => Duration::ZERO,
    }
}
