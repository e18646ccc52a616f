//! `pool rebuild`: has everything made again that is not in the segments, and proves that it came out the same.
//!
//! The way: the segments are surveyed; the file `pool` is written again when it is lost or damaged; the index is deleted
//! and `understudyd reindex` makes a new one; the segments are surveyed again, and both surveys and what the new index
//! knows are held against each other. Invariants: no segment and no secondary is touched; nothing is deleted before
//! everything that is needed is known to be there; no daemon runs while the pool is changed. A dry run opens nothing
//! for writing and takes no lock.

mod identity;
mod table;

use super::survey::{Survey, survey};
use crate::args::Rebuild;
use crate::outcome::Outcome;
use crate::process::{line, ours, output};
use anyhow::{Context, Result, bail};
use identity::Identity;
use serde_json::json;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use table::{Row, Table};

/// Runs the command.
pub fn run(args: &Rebuild, out: &mut impl Write) -> Result<Outcome> {
    match args.dry_run {
        true => look(args, out),
        false => rebuild(args, out),
    }
}

/// Tells what is in the segments.
fn look(args: &Rebuild, out: &mut impl Write) -> Result<Outcome> {
    let identity = Identity::of(&args.dir)?;
    let Survey { contents, warnings, .. } = survey(&args.dir, false)?;
    let mut say = Say { json: args.json, out };
    warnings.iter().try_for_each(|warning| say.warn(warning))?;
    say.fact("pool", &format!("pool {}: {}", identity.pool, identity.told(&contents)))?;
    let table = Table::of(&contents);
    say.table(&table)?;
    say.fact("end", "nothing was touched")?;
    Ok(Outcome::Done)
}

fn rebuild(args: &Rebuild, out: &mut impl Write) -> Result<Outcome> {
    let dir = &args.dir;
    let mut command = Command::new(ours("understudyd")?);
    command.args(["reindex", "--json", "--pool"]).arg(dir);
    let identity = Identity::of(dir)?;
    let lock = lock(dir)?;
    let before = survey(dir, false)?;
    let mut say = Say { json: args.json, out };
    before.warnings.iter().try_for_each(|warning| say.warn(warning))?;
    say.fact("pool", &format!("pool {}: {}", identity.pool, identity.told(&before.contents)))?;
    identity.write(dir, &before.contents)?;
    delete_index(dir)?;
    // The daemon takes it now; one that came in between makes the same index.
    drop(lock);
    let said = output(&mut command).with_context(|| {
        format!("the index of {} is deleted and not made anew; whatever opens the pool next makes it", dir.display())
    })?;
    say.fact("index", &format!("index: made anew by `{}`", line(&command)))?;
    let known = Row::read(&String::from_utf8_lossy(&said.stdout))?;
    let (before, after) = (Table::of(&before.contents), Table::of(&survey(dir, false)?.contents));
    say.table(&after)?;
    say.verdict(&before, after.differences(&before, &known))
}

/// The pool's lock, taken as a daemon takes it.
fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "the pool {} is in use by a running understudyd: stop it first, or look with --dry-run",
            dir.display()
        ),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

fn delete_index(dir: &Path) -> Result<()> {
    let path = dir.join("index");
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot delete {}", path.display()))
        }
        _ => sync_dir(dir),
    }
}

fn sync_dir(dir: &Path) -> Result<()> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.with_context(|| format!("cannot make {} durable", dir.display()))
}

/// Tells lines to people, or objects to programs.
struct Say<'a, W> {
    json: bool,
    out: &'a mut W,
}

impl<W: Write> Say<'_, W> {
    fn fact(&mut self, event: &str, text: &str) -> Result<()> {
        match self.json {
            true => writeln!(self.out, "{}", json!({"event": event, "text": text}))?,
            false => writeln!(self.out, "{text}")?,
        }
        Ok(())
    }

    fn warn(&mut self, text: &str) -> Result<()> {
        match self.json {
            true => self.fact("warning", text),
            false => self.fact("warning", &format!("warning: {text}")),
        }
    }

    fn table(&mut self, table: &Table) -> Result<()> {
        match self.json {
            true => table.events().iter().try_for_each(|event| writeln!(self.out, "{event}"))?,
            false => table.lines().iter().try_for_each(|line| writeln!(self.out, "{line}"))?,
        }
        Ok(())
    }

    fn verdict(&mut self, table: &Table, differences: Vec<String>) -> Result<Outcome> {
        differences.iter().try_for_each(|difference| self.fact("difference", &format!("different: {difference}")))?;
        match differences.is_empty() {
            true => self.fact("identical", &format!("identical: the new index has {}", table.sum()))?,
            false => self.fact("different", "NOT IDENTICAL: the new index is not what the segments have")?,
        }
        Ok(if differences.is_empty() { Outcome::Done } else { Outcome::Different })
    }
}
