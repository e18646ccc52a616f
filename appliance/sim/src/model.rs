//! What must be in the pool: volume -> points -> bytes, in plain memory, and the comparison with what is there.
//!
//! Invariants: a point is entered when the appliance acknowledged it, and not before; a stream that was
//! under way when something failed is *in doubt*: its point is there as a whole or not at all, and whichever is found
//! is what must stay; of a group all points or none. The same holds for removing and protecting points.

use crate::image::{Blocks, Image};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use understudy_appliance::pool::{Pool, VolumeEntry};
use understudy_appliance::view::PointView;
use understudy_format::catalogue::Settings;
use understudy_format::point::{Point, Volume as PoolVolume, VolumeName};
use understudy_format::{BlockId, Digest};
use uuid::Uuid;

/// A promise that was broken, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong(pub String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Wrong {}

/// What a check finds.
pub type Checked<T = ()> = Result<T, Wrong>;

/// A point that must be there, or may be.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its number.
    pub number: u64,
    /// The stream that brought it.
    pub stream: Uuid,
    /// Its content.
    pub image: Arc<Image>,
}

impl Kept {
    fn is(&self, point: &Point) -> bool {
        (self.number, self.stream, self.image.root()) == (point.number, point.stream, point.map.root())
    }
}

/// Something that was under way when something failed.
#[derive(Debug, Clone)]
enum Doubt {
    /// A commit.
    Commit(Kept),
    /// The commit of a group.
    Group(Vec<(VolumeName, Kept)>),
    /// The removal of points.
    Removal(BTreeSet<u64>),
    /// The protection of points, or its end.
    Protection(BTreeSet<u64>),
    /// What is set.
    Settings(Settings),
}

#[derive(Debug, Clone, Default)]
struct Volume {
    points: Vec<Kept>,
    protected: BTreeSet<u64>,
    settings: Settings,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Model {
    /// Those that have points.
    volumes: BTreeMap<VolumeName, Volume>,
    doubts: Vec<(VolumeName, Doubt)>,
    /// Groups of which a part was found.
    torn: Vec<Wrong>,
}

impl Model {
    /// The points of a volume, ascending.
    pub fn points(&self, name: &VolumeName) -> &[Kept] {
        self.volumes.get(name).map_or(&[], |volume| &volume.points)
    }

    /// The newest point of a volume.
    pub fn newest(&self, name: &VolumeName) -> Option<&Kept> {
        self.points(name).last()
    }

    /// The number that the next point of a volume gets.
    pub fn next_number(&self, name: &VolumeName) -> u64 {
        self.newest(name).map_or(1, |kept| kept.number + 1)
    }

    /// All volumes.
    pub fn names(&self) -> impl Iterator<Item = &VolumeName> {
        self.volumes.keys()
    }

    /// A point was acknowledged.
    pub fn committed(&mut self, name: &VolumeName, kept: Kept) {
        self.volumes.entry(name.clone()).or_default().points.push(kept);
    }

    /// The removal of points was acknowledged.
    pub fn removed(&mut self, name: &VolumeName, numbers: &BTreeSet<u64>) {
        let Some(volume) = self.volumes.get_mut(name) else { return };
        volume.points.retain(|kept| !numbers.contains(&kept.number));
        volume.protected.retain(|number| !numbers.contains(number));
        if volume.points.is_empty() {
            self.volumes.remove(name);
        }
    }

    /// The protection of points was acknowledged, or the end of it.
    pub fn protected(&mut self, name: &VolumeName, numbers: &BTreeSet<u64>, protected: bool) {
        let Some(volume) = self.volumes.get_mut(name) else { return };
        match protected {
            true => volume.protected.extend(numbers),
            false => volume.protected.retain(|number| !numbers.contains(number)),
        }
    }

    /// What is set for a volume was acknowledged.
    pub fn set(&mut self, name: &VolumeName, settings: Settings) {
        if let Some(volume) = self.volumes.get_mut(name) {
            volume.settings = settings;
        }
    }

    /// A commit failed.
    pub fn doubt_commit(&mut self, name: &VolumeName, kept: Kept) {
        self.doubts.push((name.clone(), Doubt::Commit(kept)));
    }

    /// The commit of a group failed: all of its points are there, or none is.
    pub fn doubt_group(&mut self, members: Vec<(VolumeName, Kept)>) {
        let Some((name, _)) = members.first() else { return };
        self.doubts.push((name.clone(), Doubt::Group(members)));
    }

    /// The removal of points failed.
    pub fn doubt_removal(&mut self, name: &VolumeName, numbers: BTreeSet<u64>) {
        self.doubts.push((name.clone(), Doubt::Removal(numbers)));
    }

    /// The protection of points failed, or the end of it.
    pub fn doubt_protection(&mut self, name: &VolumeName, numbers: BTreeSet<u64>) {
        self.doubts.push((name.clone(), Doubt::Protection(numbers)));
    }

    /// Setting something for a volume failed.
    pub fn doubt_settings(&mut self, name: &VolumeName, settings: Settings) {
        self.doubts.push((name.clone(), Doubt::Settings(settings)));
    }

    /// After the pool was opened again: what is there of what was in doubt stays, the rest is over.
    pub fn resolve(&mut self, pool: &Pool) {
        for (name, doubt) in std::mem::take(&mut self.doubts) {
            let entry = pool.volume(&name);
            let entry = entry.as_deref();
            match doubt {
                Doubt::Commit(kept) => {
                    let is_there = entry.is_some_and(|entry| entry.points.iter().any(|point| kept.is(point)));
                    if is_there && !self.has_stream(kept.stream) {
                        self.committed(&name, kept);
                    }
                }
                Doubt::Group(members) => self.resolve_group(pool, members),
                Doubt::Removal(numbers) => {
                    let is_gone = |number: &u64| entry.is_none_or(|entry| entry.point(*number).is_none());
                    self.removed(&name, &numbers.into_iter().filter(is_gone).collect());
                }
                Doubt::Protection(numbers) => {
                    let is_on = |number: &u64| entry.is_some_and(|entry| entry.protected.contains(number));
                    let (on, off) = numbers.into_iter().partition(is_on);
                    self.protected(&name, &on, true);
                    self.protected(&name, &off, false);
                }
                Doubt::Settings(settings) => {
                    if entry.is_some_and(|entry| entry.settings == settings) {
                        self.set(&name, settings);
                    }
                }
            }
        }
    }

    fn resolve_group(&mut self, pool: &Pool, members: Vec<(VolumeName, Kept)>) {
        let is_there = |(name, kept): &(VolumeName, Kept)| {
            pool.volume(name).is_some_and(|entry| entry.points.iter().any(|point| kept.is(point)))
        };
        let count = members.iter().filter(|member| is_there(member)).count();
        if count > 0 && count < members.len() {
            self.torn.push(Wrong(format!("{count} of {} points of a group are there", members.len())));
        }
        for member in members {
            if is_there(&member) && !self.has_stream(member.1.stream) {
                self.committed(&member.0, member.1);
            }
        }
    }

    /// Whether a stream brought a point that must be there.
    pub fn has_stream(&self, stream: Uuid) -> bool {
        self.volumes.values().flat_map(|volume| &volume.points).any(|kept| kept.stream == stream)
    }

    /// Every point is there with its exact bytes, and nothing else is.
    pub fn check(&self, pool: &Arc<Pool>) -> Checked {
        if let Some(torn) = self.torn.first() {
            return Err(torn.clone());
        }
        let found = pool.volumes();
        let names: Vec<_> = found.iter().map(|entry| &entry.volume.name).collect();
        if !names.iter().copied().eq(self.volumes.keys()) {
            let expected: Vec<_> = self.names().map(VolumeName::as_str).collect();
            return Err(Wrong(format!("volumes {expected:?} were acknowledged, {names:?} are there")));
        }
        found.iter().try_for_each(|entry| self.check_volume(pool, entry))
    }

    fn check_volume(&self, pool: &Arc<Pool>, entry: &VolumeEntry) -> Checked {
        let (name, expected) = (&entry.volume.name, self.points(&entry.volume.name));
        let same = expected.len() == entry.points.len() && expected.iter().zip(&entry.points).all(|(a, b)| a.is(b));
        if !same {
            let expected: Vec<_> = expected.iter().map(|kept| (kept.number, kept.stream)).collect();
            let found: Vec<_> = entry.points.iter().map(|point| (point.number, point.stream)).collect();
            return Err(Wrong(format!("volume {name}: points {expected:?} were acknowledged, {found:?} are there")));
        }
        let Some(volume) = self.volumes.get(name) else { return Ok(()) };
        if volume.protected != entry.protected {
            let (expected, found) = (&volume.protected, &entry.protected);
            return Err(Wrong(format!("volume {name}: points {expected:?} were protected, {found:?} are")));
        }
        if volume.settings != entry.settings {
            let (expected, found) = (&volume.settings, &entry.settings);
            return Err(Wrong(format!("volume {name}: {expected:?} was set, {found:?} is")));
        }
        let mut both = expected.iter().zip(&entry.points);
        both.try_for_each(|(kept, point)| check_point(pool, &entry.volume, point, &*kept.image))
    }

    /// The image of a secondary is the newest point, byte for byte.
    pub fn check_secondary(&self, name: &VolumeName, image: Option<&[u8]>) -> Checked {
        let Some(newest) = self.newest(name) else { return Ok(()) };
        match image == Some(newest.image.bytes()) {
            true => Ok(()),
            false => Err(Wrong(format!(
                "the secondary of volume {name} is not point {}: {} bytes, {} expected",
                newest.number,
                image.map_or(0, <[u8]>::len),
                newest.image.bytes().len()
            ))),
        }
    }
}

/// A point has this content, and all of it can be read.
pub fn check_point(pool: &Arc<Pool>, volume: &PoolVolume, point: &Point, content: &impl Blocks) -> Checked {
    match damage(pool, volume, point, content)?.first() {
        None => Ok(()),
        Some(damage) => Err(Wrong(damage.error.to_string())),
    }
}

/// A block that cannot be read.
#[derive(Debug)]
pub struct Damage {
    /// Which.
    pub block: BlockId,
    /// What it should have been.
    pub digest: Digest,
    /// What the pool says.
    pub error: understudy_appliance::error::Error,
}

/// The blocks of a point that cannot be read; one that can be read and is another one than expected is wrong.
pub fn damage(pool: &Arc<Pool>, volume: &PoolVolume, point: &Point, expected: &impl Blocks) -> Checked<Vec<Damage>> {
    let view = PointView::open(pool, volume, point, "the simulation");
    let view = view.map_err(|error| Wrong(format!("a point cannot be opened: {error}")))?;
    let mut lookup = view.lookup();
    let mut damaged = Vec::new();
    for block in (0..view.geometry().block_count()).map(BlockId) {
        let same = match view.block(&mut lookup, block) {
            Ok(Some(content)) => content == expected.block(block),
            Ok(None) => expected.digest(block).is_zero(),
            Err(error) => {
                damaged.push(Damage { block, digest: expected.digest(block), error });
                continue;
            }
        };
        if !same {
            let (name, number) = (&volume.name, point.number);
            return Err(Wrong(format!("volume {name}, point {number}, block {block}: wrong bytes were returned")));
        }
    }
    Ok(damaged)
}
