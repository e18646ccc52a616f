//! The secondaries of a pool: what each says that it is, and whether it is that.
//!
//! A secondary can always be made again, so one that is missing or being applied is no damage; one that says it is a
//! point and is not, is. One on a device is no part of the pool and not looked at. Invariant: while a daemon runs
//! ([`Look::live`]) a finding counts only if the state file is the same afterwards.

use super::catalogue::Entry;
use super::image::{Difference, compare};
use super::known::{GoodPages, Known, PageReader};
use super::report::Damage;
use anyhow::Context;
use std::collections::BTreeSet;
use std::path::Path;
use understudy_format::BlockId;
use understudy_format::catalogue::SecondaryMode;
use understudy_format::point::Point;
use understudy_format::secondary::{Place, Settled, State};
use uuid::Uuid;

/// What is needed to look at secondaries.
#[derive(Debug)]
pub struct Look<'a> {
    /// The pool's directory.
    pub dir: &'a Path,
    /// Whether a daemon may be running.
    pub live: bool,
    /// What the segments hold.
    pub known: &'a Known,
    /// Reads pages.
    pub reader: &'a mut PageReader,
    /// Points that were removed.
    pub removed: &'a BTreeSet<(Uuid, u64)>,
}

/// What a secondary is.
#[derive(Debug)]
pub struct Seen {
    /// For people.
    pub text: String,
    /// Whether it is a point, and not on the way to one.
    pub is_settled: bool,
    /// When it is not what it says.
    pub damage: Option<Damage>,
}

impl Seen {
    fn unsettled(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_settled: false, damage: None }
    }
}

impl Look<'_> {
    /// Looks at the secondary of a volume.
    pub fn at(&mut self, entry: &Entry) -> anyhow::Result<Seen> {
        let seen = self.judge(entry)?;
        let Some(before) = seen.damage.as_ref().filter(|_| self.live).map(|_| self.state_bytes(entry)) else {
            return Ok(seen);
        };
        // The daemon may have been writing: only what it still claims now can be held against it.
        let again = self.judge(entry)?;
        match self.state_bytes(entry)? == before? {
            true => Ok(again),
            false => Ok(Seen::unsettled("not settled: it changed while it was looked at")),
        }
    }

    /// Directories of volumes that no segment has: damage when a point of one was settled there.
    pub fn strangers(&self, entries: &[Entry]) -> anyhow::Result<Vec<Damage>> {
        let dir = self.dir.join("volumes");
        let cannot = || format!("cannot read {}", dir.display());
        let mut damages = Vec::new();
        for found in std::fs::read_dir(&dir).with_context(cannot)? {
            let name = found.with_context(cannot)?.file_name().to_string_lossy().into_owned();
            let is_known = entries.iter().any(|entry| entry.volume.name.as_str() == name);
            let state = std::fs::read(dir.join(&name).join("state")).ok().and_then(|bytes| State::decode(&bytes).ok());
            let settled = state.and_then(|state| Some((state.volume, state.settled?.point)));
            let settled = settled.filter(|settled| !is_known && !self.live && !self.removed.contains(settled));
            let Some((volume, point)) = settled else { continue };
            let text =
                format!("volumes/{name}: a secondary settled on @{point} of volume {volume}, which no segment has");
            damages.push(Damage { volume: Some(name), point: Some(point), ..Damage::new("volume", text) });
        }
        Ok(damages)
    }

    fn judge(&mut self, entry: &Entry) -> anyhow::Result<Seen> {
        match &entry.settings.secondary {
            SecondaryMode::Native => {}
            SecondaryMode::None => return Ok(Seen::unsettled("none, as it is set")),
            SecondaryMode::Device(path) => return Ok(Seen::unsettled(format!("on {path}, which is not looked at"))),
        }
        let Some(bytes) = self.state_bytes(entry)? else {
            return Ok(Seen::unsettled("not made yet"));
        };
        let damaged = |reason: &str| Ok(self.damaged(entry, None, reason));
        match State::decode(&bytes) {
            Err(error) => damaged(&format!("its state file: {error}")),
            Ok(state) if state.volume != entry.volume.uuid => damaged("its state file is that of another volume"),
            Ok(State { place, .. }) if place != Place::IMAGE => {
                Ok(Seen::unsettled("not made yet: what settled is on a device, and is not looked at"))
            }
            Ok(State { applying: Some(Settled { point, .. }), .. }) => {
                Ok(Seen::unsettled(format!("not settled: @{point} is being applied")))
            }
            Ok(State { settled: None, .. }) => Ok(Seen::unsettled("not made yet")),
            Ok(State { settled: Some(settled), .. }) => self.settled(entry, settled),
        }
    }

    fn settled(&mut self, entry: &Entry, settled: Settled) -> anyhow::Result<Seen> {
        let number = settled.point;
        let newest = entry.newest().map_or(0, |newest| newest.number);
        if self.live && number > newest {
            return Ok(Seen::unsettled(format!("not judged: it settled on @{number} while the pool was looked at")));
        }
        let Some(held) = entry.points.iter().find(|held| held.point.number == number) else {
            // A removed point is only known as such until its removal was collected.
            return Ok(match number < newest || self.removed.contains(&(entry.volume.uuid, number)) {
                true => Seen::unsettled(format!("not settled: it is @{number}, which was removed")),
                false => self.damaged(entry, Some(number), &format!("it settled on @{number}, which no segment has")),
            });
        };
        let point = &held.point;
        if point.map.root() != settled.root {
            let reason = format!("it settled on @{number} with the root {}, not {}", settled.root, point.map.root());
            return Ok(self.damaged(entry, Some(number), &reason));
        }
        let path = self.dir.join("volumes").join(entry.volume.name.as_str()).join("secondary.raw");
        if !path.exists() {
            return Ok(self.damaged(
                entry,
                Some(number),
                &format!("it settled on @{number}, and its image is missing"),
            ));
        }
        let pages = GoodPages { known: self.known, reader: self.reader };
        let difference = compare(&path, &point.map, (!held.is_troubled).then_some(pages))?;
        Ok(match difference {
            None => Seen { text: settled_text(entry, point), is_settled: true, damage: None },
            Some(difference) => self.different(entry, point, &difference),
        })
    }

    fn different(&self, entry: &Entry, point: &Point, difference: &Difference) -> Seen {
        let (number, size) = (point.number, point.map.geometry.volume_size());
        let (reason, first) = match difference {
            Difference::Size { found } => (format!("its image has {found} bytes, @{number} has {size}"), None),
            Difference::Content { root, first: Some(first), count } => {
                let offset = point.map.geometry.offset(*first);
                let reason = format!(
                    "its image is not @{number}: {count} blocks differ, the first is block {first} \
                     (offset {offset}); its root is {root}"
                );
                (reason, Some(*first))
            }
            Difference::Content { root, first: None, .. } => {
                (format!("its image is not @{number}: its root is {root}, not {}", point.map.root()), None)
            }
        };
        let mut seen = self.damaged(entry, Some(number), &reason);
        if let (Some(damage), Some(BlockId(block))) = (&mut seen.damage, first) {
            damage.block = Some(block);
            damage.block_offset = Some(point.map.geometry.offset(BlockId(block)));
        }
        seen
    }

    fn damaged(&self, entry: &Entry, point: Option<u64>, reason: &str) -> Seen {
        let name = entry.volume.name.to_string();
        let text = format!("secondary of {name}: {reason}");
        let damage = Damage { volume: Some(name), point, ..Damage::new("secondary", text) };
        Seen { text: "damaged".into(), is_settled: false, damage: Some(damage) }
    }

    fn state_bytes(&self, entry: &Entry) -> anyhow::Result<Option<Vec<u8>>> {
        let path = self.dir.join("volumes").join(entry.volume.name.as_str()).join("state");
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
}

fn settled_text(entry: &Entry, point: &Point) -> String {
    let newest = entry.newest().map_or(0, |newest| newest.number);
    match point.number {
        number if number == newest => format!("is @{number}, byte for byte"),
        number => format!("is @{number}, byte for byte (@{newest} is to be applied)"),
    }
}
