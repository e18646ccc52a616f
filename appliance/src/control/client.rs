//! The command's end: asks the daemon, or does it itself when there is none.

use super::Address;
use crate::access::{Access, Peer};
use crate::api::options::{self, Options};
use crate::api::{ENDED, FAILED, TOLD};
use crate::args::{Clients, Place, Upkeep as Args};
use crate::clock;
use crate::error::{Error, Result, at};
use crate::journals::Journals;
use crate::overlay::Overlays;
use crate::secondary::Secondaries;
use crate::upkeep::{Outcome, Told, Upkeep};
use clap::ArgMatches;
use jiff::tz::TimeZone;
use serde_json::Value;
use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use understudy_format::catalogue::Settings;
use understudy_net::http::{Answer, Connection};

/// What is asked of the daemon: a command, and the options that were typed.
#[derive(Debug)]
struct Asked {
    name: String,
    options: Options,
}

/// Does what is asked, by the daemon or here; `typed` is what was read from the command line.
pub fn run(args: &Args, typed: &ArgMatches) -> Result<Outcome> {
    let place = args.place();
    check_pool(&place.pool)?;
    let print = |told: &Told| print(told, place.json);
    match connect(&place.pool)? {
        Some(_) if matches!(args, Args::Reindex(_)) => {
            Err(Error::Busy("a daemon has the pool open; stop it first, then rebuild the index".into()))
        }
        Some(daemon) => ask(daemon, Asked::of(typed), print),
        None => act(args, print),
    }
}

/// Asks the daemon about what there is not without it.
pub fn ask_daemon(place: &Place, theirs: &str, typed: &ArgMatches) -> Result<Outcome> {
    check_pool(&place.pool)?;
    let daemon = connect(&place.pool)?.ok_or_else(|| {
        let pool = place.pool.display();
        Error::refused(format!(
            "no daemon has {pool} open, and {theirs} the daemon's: start `understudyd serve --config FILE`"
        ))
    })?;
    ask(daemon, Asked::of(typed), |told| print(told, place.json))
}

/// Changes or lists who may use the pool, by the daemon or here.
pub fn manage(args: &Clients, typed: &ArgMatches) -> Result<Outcome> {
    let place = args.place();
    check_pool(&place.pool)?;
    let print = |told: &Told| print(told, place.json);
    match connect(&place.pool)? {
        Some(daemon) => ask(daemon, Asked::of(typed), print),
        None => {
            let pool = Arc::new(crate::open_pool(&place.pool, Settings::default().into())?);
            Access::open(pool, false)?.carry_out(args, &Peer::Local, &mut |told| print(&told))
        }
    }
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
    if !line.is_empty() {
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}

/// The daemon that has the pool open, if there is one.
fn connect(pool: &Path) -> Result<Option<UnixStream>> {
    match UnixStream::connect(&Address::of(pool)?.path) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => Err(at(&pool.join(super::SOCKET))(error)),
    }
}

impl Asked {
    fn of(typed: &ArgMatches) -> Self {
        let (name, typed) = typed.subcommand().unwrap_or(("", typed));
        let command = options::commands().into_iter().find(|command| command.get_name() == name);
        let options = command.map(|command| options::typed(&command, typed)).unwrap_or_default();
        Self { name: name.to_owned(), options }
    }
}

fn ask(daemon: UnixStream, asked: Asked, print: impl Fn(&Told)) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cut)?;
    runtime.block_on(async {
        daemon.set_nonblocking(true).map_err(cut)?;
        let daemon = tokio::net::UnixStream::from_std(daemon).map_err(cut)?;
        let mut connection = Connection::new(daemon, "pool").await.map_err(cut)?;
        let path = format!("/v1/commands/{}", asked.name);
        let answer = connection.post(&path, Value::from(asked.options).to_string()).await.map_err(cut)?;
        heard(answer, print).await
    })
}

/// Prints what is told, until it is told how it ended.
async fn heard(answer: Answer, print: impl Fn(&Told)) -> Result<Outcome> {
    if !answer.status.is_success() {
        return Err(problem(&json(&answer.bytes().await.map_err(cut)?)?));
    }
    let mut events = answer.events();
    while let Some(event) = events.next().await.map_err(cut)? {
        let mut data = json(event.data.as_bytes())?;
        match event.name.as_str() {
            TOLD => {
                let text = data["text"].as_str().unwrap_or_default().to_owned();
                print(&Told { text, event: data["event"].take() });
            }
            ENDED => return data["code"].as_u64().and_then(Outcome::from_code).ok_or_else(|| cut("no outcome")),
            FAILED => return Err(problem(&data)),
            _ => {}
        }
    }
    Err(cut("its answer has no end"))
}

fn json(bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).map_err(|error| Error::Refused(format!("the daemon's answer: {error}")))
}

fn problem(problem: &Value) -> Error {
    Error::Refused(problem["detail"].as_str().unwrap_or("the daemon refused, and gave no reason").to_owned())
}

fn cut(reason: impl std::fmt::Display) -> Error {
    Error::Busy(format!("the daemon ended before it was done; run the command again ({reason})"))
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
    let journals = Arc::new(Journals::open(&pool)?);
    let stop = AtomicBool::new(false);
    let mut upkeep = Upkeep {
        pool: &pool,
        secondaries: &secondaries,
        journals: &journals,
        stop: &stop,
        zone: TimeZone::system(),
        now_ns: clock::now_ns(),
        tell: &mut |told| print(&told),
    };
    let outcome = upkeep.run(args);
    secondaries.stop();
    outcome
}
