//! The scratch overlays of a pool at rest: whether each can be opened, and is over the point that it says.
//!
//! What was written to an overlay has no digest, so nothing is said about content. Invariants: nothing is written; holes are passed over, so
//! it costs what was written and not what a volume could hold.

use super::catalogue::Entry;
use super::report::Damage;
use crate::text::bytes;
use anyhow::Context;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;
use understudy_format::overlay::{GRANULE, Header, OwnedPage, PAGE_SIZE, SLOT_SIZE};
use uuid::Uuid;

/// What there is to say of all overlays: notes, and damages.
pub fn look(dir: &Path, pool: Uuid, entries: &[Entry]) -> anyhow::Result<(Vec<String>, Vec<Damage>)> {
    let dir = dir.join("overlays");
    let (mut notes, mut damages) = (Vec::new(), Vec::new());
    let found = match std::fs::read_dir(&dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((notes, damages)),
        found => found.with_context(|| format!("cannot read {}", dir.display()))?,
    };
    for overlay in found {
        let name = overlay.with_context(|| format!("cannot read {}", dir.display()))?.file_name();
        let name = name.to_string_lossy();
        match judge(&dir.join(&*name), &name, pool, entries) {
            Ok(note) => notes.push(format!("overlay {name}+w: {note}")),
            Err(reason) => damages.push(Damage::new("overlay", format!("overlay {name}+w: {reason:#}"))),
        }
    }
    notes.sort();
    Ok((notes, damages))
}

fn judge(dir: &Path, name: &str, pool: Uuid, entries: &[Entry]) -> anyhow::Result<String> {
    let header = match std::fs::read(dir.join("header")) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok("was being made or discarded".to_owned()),
        header => Header::decode(&header?)?,
    };
    let point = entries.iter().filter(|entry| entry.volume.uuid == header.volume).find_map(|entry| {
        let held = entry.points.iter().find(|held| held.point.number == header.point)?;
        Some((format!("{}@{}", entry.volume.name, held.point.number), held.point.map))
    });
    let (of, map) = point.context("it is over a point that no segment has")?;
    let is_right = of == name && header.pool == pool && map.root() == header.root;
    anyhow::ensure!(is_right, "it is over another point than {of} is");
    let length = File::open(dir.join("data"))?.metadata()?.len();
    let (size, named) = (header.volume_size, map.geometry.volume_size());
    anyhow::ensure!(length == size && size == named, "its data has {length} bytes, {named} expected");
    let owned = owned(&File::open(dir.join("owned"))?)?;
    Ok(format!("{} written", bytes((owned * GRANULE).min(size))))
}

/// How many granules are owned.
fn owned(file: &File) -> anyhow::Result<u64> {
    let (length, mut next, mut count) = (file.metadata()?.len(), 0, 0);
    while let Some(data) = next_data(file, next, length)? {
        let number = data / PAGE_SIZE;
        let mut slots = vec![0; PAGE_SIZE as usize];
        let there = (length - number * PAGE_SIZE).min(PAGE_SIZE) as usize;
        file.read_exact_at(&mut slots[..there], number * PAGE_SIZE)?;
        let (first, second) = slots.split_at(SLOT_SIZE);
        count += OwnedPage::newest([first, second], number)?.page.count();
        next = (number + 1) * PAGE_SIZE;
    }
    Ok(count)
}

fn next_data(file: &File, from: u64, length: u64) -> io::Result<Option<u64>> {
    match seek(file, SeekFrom::Data(from)) {
        _ if from >= length => Ok(None),
        Ok(data) => Ok(Some(data)),
        Err(Errno::NXIO) => Ok(None),
        // Not every filesystem knows where its holes are.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(from)),
        Err(error) => Err(error.into()),
    }
}
