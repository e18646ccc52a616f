//! How far the appliance is behind while a tap is written to as fast as it lets its client write, and until it has everything.
//!
//! Invariant: what is told is what the appliance knows of itself: the age of what it would lose of the volume at that moment.

use super::super::contestant::PoolRun;
use super::super::plot::Plot;
use super::super::table::Results;
use crate::clock::{Stopwatch, pause};
use serde_json::json;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The name of the measurement.
pub const NAME: &str = "tap, lag under sustained load";
/// How long its client writes, seconds.
pub const SECONDS: u32 = 60;
/// What the lag should never be more than, seconds.
const WANTED: f64 = 2.0;
/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(100);
/// The figure.
const METRIC: &str = "understudy_journal_lag_seconds{volume=\"tapped\"}";

/// Seconds since the begin, and the lag at that time, in seconds.
pub type Samples = Vec<(f64, f64)>;

/// Runs `load`, and looks at the lag meanwhile.
pub fn during<T>(pool: &PoolRun<'_>, load: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<(T, Samples)>
where
    T: Send,
{
    let (done, watch) = (AtomicBool::new(false), Stopwatch::start());
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| {
            let loaded = load();
            done.store(true, Ordering::SeqCst);
            loaded
        });
        let mut samples = Samples::new();
        while !done.load(Ordering::SeqCst) {
            if let Some(lag) = pool.metric(METRIC)? {
                samples.push((watch.seconds(), lag));
            }
            pause(EVERY);
        }
        let loaded = loading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((loaded, samples))
    })
}

/// Tells what was found, and plots it into a directory, if there is one.
pub fn tell(samples: &Samples, plots: Option<&Path>, results: &mut Results) -> anyhow::Result<()> {
    let mut lags: Vec<f64> = samples.iter().map(|(_, lag)| *lag).collect();
    lags.sort_by(f64::total_cmp);
    let (Some(median), Some(most)) = (lags.get(lags.len() / 2), lags.last()) else {
        anyhow::bail!("the appliance told no lag");
    };
    results.note(
        format!("{NAME}: {median:.2} s in the middle, {most:.2} s at most, of {} looks", lags.len()),
        json!({"event": "lag", "median_seconds": median, "max_seconds": most, "samples": samples}),
    );
    results.reach(format!("{NAME}: at most {WANTED} s"), *most, *most <= WANTED);
    let Some(dir) = plots else { return Ok(()) };
    let lines = vec![("lag", samples.clone())];
    let plot =
        Plot { title: "Tap under random 4 KiB writes, 32 at a time", across: "seconds", up: "lag, seconds", lines };
    plot.write(&dir.join("tap-lag.svg"))
}
