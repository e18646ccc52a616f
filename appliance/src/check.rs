//! Looking at what was written before it is used: a configuration, a schedule. Nothing is changed, and no pool is needed.

use crate::args::{Calendar, CheckConfig};
use crate::clock;
use crate::config::{self, ConfigError};
use crate::control::client::print;
use crate::error::{Error, Result};
use crate::jobs::scheduler::time;
use crate::schedule::Schedule;
use crate::upkeep::{Outcome, Told};
use jiff::tz::TimeZone;
use serde_json::json;

/// Reads a configuration, and tells what is in it.
pub fn config(args: &CheckConfig) -> Result<Outcome> {
    let config = config::read(&args.file)?;
    for warning in &config.warnings {
        print(&told_warning(warning), args.json);
    }
    let files: Vec<_> = config.files.iter().map(|file| file.display().to_string()).collect();
    let jobs: Vec<_> = config.jobs.iter().map(|job| job.name.as_str()).collect();
    let text = match config.warnings.is_empty() {
        true => format!("{} is right", files.join(", ")),
        false => format!("{} can be used", files.join(", ")),
    };
    let event = json!({"event": "checked", "files": files, "jobs": jobs, "warnings": config.warnings.len()});
    print(&Told { text, event }, args.json);
    Ok(if config.warnings.is_empty() { Outcome::Done } else { Outcome::Warnings })
}

fn told_warning(warning: &ConfigError) -> Told {
    Told { text: format!("warning: {warning}"), event: warning.event() }
}

/// Tells when a schedule comes.
pub fn calendar(args: &Calendar) -> Result<Outcome> {
    let zone = args.time_zone.as_deref().map_or(Ok(TimeZone::system()), TimeZone::get);
    let zone =
        zone.map_err(|error| Error::refused(format!("{error}; expected a name such as Europe/Berlin or UTC")))?;
    let schedule = Schedule::parse(&args.schedule, &zone).map_err(|error| Error::refused(error.to_string()))?;
    let mut after = args.after.unwrap_or_else(|| time(clock::now_ns()));
    for number in 0..args.count {
        let Some(next) = schedule.next(after) else {
            let text = if number == 0 { "never" } else { "no more" };
            print(&Told { text: text.to_owned(), event: json!({"event": "end"}) }, args.json);
            return Ok(Outcome::Done);
        };
        let shown = next.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M:%S%:z");
        print(&Told { text: shown.to_string(), event: json!({"event": "time", "time": next.to_string()}) }, args.json);
        after = next;
    }
    Ok(Outcome::Done)
}
