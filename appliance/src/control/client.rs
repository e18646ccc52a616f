//! The command's end: asks the daemon, or does it itself when there is none.

use super::Address;
use crate::args::{Jobs, Upkeep as Args};
use crate::clock;
use crate::error::{Error, Result, at};
use crate::overlay::Overlays;
use crate::secondary::Secondaries;
use crate::upkeep::{Outcome, Told, Upkeep};
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use understudy_format::catalogue::Settings;

/// Does what is asked, by the daemon or here; `words` are the arguments of the command line.
pub fn run(args: &Args, words: Vec<String>) -> Result<Outcome> {
    let place = args.place();
    check_pool(&place.pool)?;
    let print = |told: &Told| print(told, place.json);
    match connect(&place.pool)? {
        Some(_) if matches!(args, Args::Reindex(_)) => {
            Err(Error::Busy("a daemon has the pool open; stop it first, then rebuild the index".into()))
        }
        Some(daemon) => ask(daemon, &place.pool, words, print),
        None => act(args, print),
    }
}

/// Asks the daemon about its jobs; there are none without it.
pub fn ask_jobs(args: &Jobs, words: Vec<String>) -> Result<Outcome> {
    let place = args.place();
    check_pool(&place.pool)?;
    let daemon = connect(&place.pool)?.ok_or_else(|| {
        let pool = place.pool.display();
        Error::refused(format!(
            "no daemon has {pool} open, and jobs are the daemon's: start `understudyd serve --config FILE`"
        ))
    })?;
    ask(daemon, &place.pool, words, |told| print(told, place.json))
}

fn check_pool(pool: &Path) -> Result<()> {
    match pool.join("pool").exists() {
        true => Ok(()),
        false => Err(Error::refused(format!("{} is no pool; name the directory of one", pool.display()))),
    }
}

/// Prints what happened; a closed output is no reason to stop half way.
pub fn print(told: &Told, json: bool) {
    let line = if json { told.event.to_string() } else { told.text.clone() };
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The daemon that has the pool open, if there is one.
fn connect(pool: &Path) -> Result<Option<UnixStream>> {
    match UnixStream::connect(&Address::of(pool)?.path) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => Err(at(&pool.join(super::SOCKET))(error)),
    }
}

fn ask(mut daemon: UnixStream, pool: &Path, words: Vec<String>, print: impl Fn(&Told)) -> Result<Outcome> {
    let path = pool.join(super::SOCKET);
    writeln!(daemon, "{}", Value::from(words)).map_err(at(&path))?;
    for line in BufReader::new(daemon).lines() {
        let line = line.map_err(at(&path))?;
        let message: Value =
            serde_json::from_str(&line).map_err(|e| Error::Broken(format!("the daemon's answer: {e}")))?;
        if let Some(error) = message["error"].as_str() {
            return Err(Error::Refused(error.to_owned()));
        }
        if let Some(outcome) = message["done"].as_u64().and_then(Outcome::from_code) {
            return Ok(outcome);
        }
        let text = message["text"].as_str().unwrap_or_default().to_owned();
        print(&Told { text, event: message.get("event").cloned().unwrap_or_else(|| json!({})) });
    }
    Err(Error::Broken("the daemon ended before it was done; run the command again".into()))
}

fn act(args: &Args, print: impl Fn(&Told)) -> Result<Outcome> {
    let dir = &args.place().pool;
    let pool = match args {
        Args::Reindex(_) => crate::reindex_pool(dir)?,
        _ => crate::open_pool(dir, Settings::default().into())?,
    };
    let pool = Arc::new(pool);
    let secondaries = Arc::new(Secondaries::new(pool.clone()));
    // Their points are in use.
    let _overlays = Overlays::new(pool.clone());
    let stop = AtomicBool::new(false);
    let mut upkeep = Upkeep {
        pool: &pool,
        secondaries: &secondaries,
        stop: &stop,
        zone: TimeZone::system(),
        now_ns: clock::now_ns(),
        tell: &mut |told| print(&told),
    };
    let outcome = upkeep.run(args);
    secondaries.stop();
    outcome
}
