//! Sources that hold something elsewhere while they are read: it is given back, however reading ends.
//!
//! Invariant: a signal that ends the program ends it after that was given back, and as it ends any program.

use super::Source;
use crate::report::{Lines, Report};
use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use std::sync::Arc;

/// Has a source released when somebody ends the program.
pub fn release_on_signal(source: Arc<dyn Source>) -> Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).context("signals cannot be waited for")?;
    let wait = move || {
        for signal in &mut signals {
            Report::new(false, Lines::Error).warn(&format!("interrupted: the image of {} is released", source.name()));
            warn_unless(&*source, source.release(false));
            let _ = emulate_default_handler(signal);
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).context("a thread cannot be started")?;
    Ok(())
}

/// Releases a source that was read, whatever came of it: what is left there is a warning.
pub fn released<T>(source: &dyn Source, outcome: Result<T>) -> Result<T> {
    warn_unless(source, source.release(false));
    outcome
}

fn warn_unless(source: &dyn Source, released: Result<()>) {
    if let Err(error) = released {
        let line = format!("{}: what it holds could not be released, the next run does so: {error:#}", source.name());
        Report::new(false, Lines::Error).warn(&line);
    }
}
