//! The journals of a pool at rest: whether each is one unbroken run of whole entries, as long as was acknowledged.
//!
//! Invariants: nothing is written; a file is in memory as a whole, and it is the only one; what follows the last whole entry of a journal was never
//! acknowledged, unless the state says otherwise.

use super::report::Damage;
use crate::text::bytes;
use anyhow::{Context, ensure};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use understudy_format::follow::{Role, State};
use understudy_format::journal::{FileHeader, JournalHeader, Order, Position, entries};
use understudy_format::layout::Layout;
use uuid::Uuid;

/// What there is to say of all journals: notes, and damages.
pub fn look(dir: &Path) -> anyhow::Result<(Vec<String>, Vec<Damage>)> {
    let dir = dir.join("journals");
    let (mut notes, mut damages) = (Vec::new(), Vec::new());
    for name in names(&dir)? {
        match judge(&dir.join(&name)) {
            Ok(told) => notes.extend(told.into_iter().map(|note| format!("journals of {name}: {note}"))),
            Err(reason) => damages.push(Damage::new("journal", format!("journals of {name}: {reason:#}"))),
        }
    }
    Ok((notes, damages))
}

fn names(dir: &Path) -> anyhow::Result<Vec<String>> {
    let found = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        found => found.with_context(|| format!("cannot read {}", dir.display()))?,
    };
    let mut names = found
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<Vec<_>>>()
        .with_context(|| format!("cannot read {}", dir.display()))?;
    names.sort();
    Ok(names)
}

/// The journals of one volume.
fn judge(dir: &Path) -> anyhow::Result<Vec<String>> {
    let state = match std::fs::read(dir.join("state")) {
        Err(error) if error.kind() == ErrorKind::NotFound => State::default(),
        state => State::decode(&state?).context("state")?,
    };
    let mut notes = Vec::new();
    if let Role::Promoted { point } = state.role {
        notes.push(format!("promoted from point {point} on, generation {}", state.generation));
    }
    let mut journals: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for name in names(dir)?.iter().filter(|name| name.ends_with(".journal")) {
        let journal = name.split('-').next().unwrap_or(name).to_owned();
        journals.entry(journal).or_default().push(dir.join(name));
    }
    for (journal, files) in &journals {
        let acknowledged = state.acknowledged.filter(|at| at.journal.simple().to_string() == *journal);
        notes.push(run(files, acknowledged)?);
    }
    match state.acknowledged.filter(|at| at.sequence > 0 && !journals.contains_key(&at.journal.simple().to_string())) {
        Some(at) => anyhow::bail!(
            "{} entries of journal {} were acknowledged, and no file of it is here",
            at.sequence,
            at.journal
        ),
        None => Ok(notes),
    }
}

/// The files of one journal, which follow each other.
fn run(files: &[PathBuf], acknowledged: Option<Position>) -> anyhow::Result<String> {
    let (mut first, mut order, mut journal, mut all, mut torn) = (0, None::<Order>, Uuid::nil(), 0, 0);
    for (at, path) in files.iter().enumerate() {
        let file = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let is_last = at + 1 == files.len();
        let header = match FileHeader::decode(&file) {
            Err(_) if is_last && order.is_some_and(|order| order.next() > acknowledged.map_or(0, |at| at.sequence)) => {
                torn += file.len() as u64;
                break;
            }
            header => header.with_context(|| path.display().to_string())?,
        };
        if let Some(order) = order {
            ensure!(
                order.next() >= header.first,
                "{}: begins with entry {}, and the file before ends before entry {}",
                path.display(),
                header.first,
                order.next()
            );
        } else {
            (first, journal) = (header.first, header.journal);
        }
        let (after, end) = walk(&file, &header);
        (order, all) = (Some(after), all + file.len() as u64);
        torn = if is_last { file.len() as u64 - end } else { 0 };
    }
    let last = order.map_or(0, |order| order.next() - 1);
    let wanted = acknowledged.map_or(0, |at| at.sequence);
    ensure!(last >= wanted, "journal {journal} ends after entry {last}, and entry {wanted} was acknowledged");
    let tail =
        if torn > 0 { format!("; {} behind its end were never acknowledged", bytes(torn)) } else { String::new() };
    Ok(format!("journal {journal}: entries {first} to {last}, {}{tail}", bytes(all)))
}

/// What follows the whole entries of a file, and where those end.
fn walk(file: &[u8], header: &FileHeader) -> (Order, u64) {
    let body = &file[JournalHeader::SIZE..];
    let mut order = Order::new(header.volume_size, header.first, header.created_ns);
    let mut end = 0;
    for (entry, payload) in entries(body, order).map_while(Result::ok) {
        // It was taken once already.
        let _ = order.take(&entry);
        end = payload.end;
    }
    (order, (JournalHeader::SIZE + end) as u64)
}
