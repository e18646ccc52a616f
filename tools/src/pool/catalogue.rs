//! Volumes and points as the segments record them: what the log says in the end, and what contradicts itself.
//!
//! Invariants: of several records about the same thing the last one in log order (segment, then offset) counts, in
//! whatever order the segments were read; a removal takes what was recorded before it, never what came after.

use super::report::Damage;
use super::segment::Found;
use std::collections::{BTreeMap, BTreeSet};
use understudy_format::catalogue::{ProtectionRecord, RemovalRecord, Settings};
use understudy_format::error::Result;
use understudy_format::point::{Point, Volume, VolumeName};
use understudy_format::segment::Kind;
use understudy_format::session::Progress;
use uuid::Uuid;

/// A point that is there.
#[derive(Debug, Clone)]
pub struct Held {
    /// As recorded.
    pub point: Point,
    /// Whether retention may not remove it.
    pub is_protected: bool,
    /// Whether its map or blocks are damaged; whoever walks the map says so.
    pub is_troubled: bool,
}

/// A volume with its points, ascending.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The volume.
    pub volume: Volume,
    /// Ascending.
    pub points: Vec<Held>,
    /// What is set for it.
    pub settings: Settings,
}

impl Entry {
    /// A volume whose own record is lost, from its points, of which there is at least one.
    pub fn of_orphans(name: VolumeName, points: Vec<Point>) -> Self {
        let Point { volume: uuid, map, created_ns, .. } = points[0];
        let volume = Volume { uuid, name, block_size: map.geometry.block_size(), created_ns };
        let held = |point| Held { point, is_protected: false, is_troubled: false };
        Self { volume, points: points.into_iter().map(held).collect(), settings: Settings::default() }
    }

    /// The newest point.
    pub fn newest(&self) -> Option<&Point> {
        self.points.last().map(|held| &held.point)
    }
}

/// What the log says in the end.
#[derive(Debug, Default)]
pub struct Contents {
    /// By name.
    pub entries: Vec<Entry>,
    /// Points whose volume no segment has, ascending.
    pub orphans: Vec<Point>,
    /// Streams that were cut and may go on.
    pub progress: Vec<Progress>,
    /// What was removed: the volume, and the point or 0 for the volume itself.
    pub removed: BTreeSet<(Uuid, u64)>,
    /// Broken promises.
    pub damages: Vec<Damage>,
    /// What is worth knowing and no damage.
    pub notes: Vec<String>,
    /// Records that count, and their bytes in segments.
    pub live: (u64, u64),
}

/// A record of the catalogue.
#[derive(Debug)]
enum Record {
    Volume(Volume),
    Point(Box<Point>),
    Removal(RemovalRecord),
    Protection(ProtectionRecord),
    Settings(Uuid, Settings),
    Progress(Box<Progress>),
}

impl Record {
    /// `None` for records of other kinds.
    fn decode(kind: Option<Kind>, content: &[u8]) -> Result<Option<Self>> {
        Ok(Some(match kind {
            Some(Kind::Volume) => Self::Volume(Volume::decode(content)?),
            Some(Kind::Point) => Self::Point(Box::new(Point::decode(content)?)),
            Some(Kind::Removal) => Self::Removal(RemovalRecord::decode(content)?),
            Some(Kind::Protection) => Self::Protection(ProtectionRecord::decode(content)?),
            Some(Kind::Settings) => Settings::decode(content).map(|(uuid, settings)| Self::Settings(uuid, settings))?,
            Some(Kind::Progress) => Self::Progress(Box::new(Progress::decode(content)?)),
            _ => return Ok(None),
        }))
    }
}

/// Where a record is, and how many bytes it takes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Seat {
    segment: u64,
    offset: u64,
    bytes: u64,
}

/// All records of the catalogue; see the module documentation.
#[derive(Debug, Default)]
pub struct Catalogue {
    records: Vec<(Seat, Record)>,
}

impl Catalogue {
    /// Takes a record; what is wrong with it.
    pub fn insert(&mut self, segment: u64, found: &Found) -> Option<Damage> {
        let content = found.content.as_deref()?;
        match Record::decode(found.kind(), content) {
            Ok(Some(record)) => self.push(Seat { segment, offset: found.entry.offset, bytes: found.bytes() }, record),
            Ok(None) => {}
            Err(error) => {
                return Some(Damage::in_segment("record", segment, found.entry.offset, &error.to_string()));
            }
        }
        None
    }

    /// Progress is told often and is large, and only the last one of a volume matters.
    fn push(&mut self, seat: Seat, record: Record) {
        let Record::Progress(new) = &record else { return self.records.push((seat, record)) };
        let uuid = new.volume.uuid;
        let is_its = |record: &Record| matches!(record, Record::Progress(old) if old.volume.uuid == uuid);
        match self.records.iter_mut().find(|(_, record)| is_its(record)) {
            Some(held) if held.0 < seat => *held = (seat, record),
            Some(_) => {}
            None => self.records.push((seat, record)),
        }
    }

    /// What the log says in the end.
    pub fn contents(mut self) -> Contents {
        self.records.sort_unstable_by_key(|(seat, _)| *seat);
        let mut fold = Fold::default();
        self.records.into_iter().for_each(|(seat, record)| fold.record(seat, record));
        fold.contents()
    }
}

/// What the log says up to some record.
#[derive(Default)]
struct Fold {
    volumes: BTreeMap<Uuid, (Seat, Volume)>,
    points: BTreeMap<(Uuid, u64), (Seat, Point)>,
    protections: BTreeMap<(Uuid, u64), (Seat, bool)>,
    settings: BTreeMap<Uuid, (Seat, Settings)>,
    progress: BTreeMap<Uuid, (Seat, Progress)>,
    removals: BTreeMap<(Uuid, u64), Seat>,
    damages: Vec<Damage>,
}

impl Fold {
    fn record(&mut self, seat: Seat, record: Record) {
        match record {
            Record::Volume(volume) => drop(self.volumes.insert(volume.uuid, (seat, volume))),
            Record::Point(point) => self.point(seat, *point),
            Record::Removal(removal) => self.remove(seat, removal.volume, removal.point),
            Record::Protection(record) => {
                self.protections.insert((record.volume, record.point), (seat, record.protected == 1));
            }
            Record::Settings(volume, settings) => drop(self.settings.insert(volume, (seat, settings))),
            Record::Progress(progress) => drop(self.progress.insert(progress.volume.uuid, (seat, *progress))),
        }
    }

    fn point(&mut self, seat: Seat, point: Point) {
        let key = (point.volume, point.number);
        if self.progress.get(&point.volume).is_some_and(|(_, progress)| progress.begin.stream == point.stream) {
            self.progress.remove(&point.volume);
        }
        let content = (point.map, point.stream);
        let before = self.points.insert(key, (seat, point));
        if before.is_some_and(|(_, before)| (before.map, before.stream) != content) {
            let reason = format!("point {} of volume {} is recorded twice, and differently", key.1, key.0);
            self.damages.push(Damage::in_segment("record", seat.segment, seat.offset, &reason));
        }
    }

    fn remove(&mut self, seat: Seat, volume: Uuid, point: u64) {
        self.removals.insert((volume, point), seat);
        if point != 0 {
            self.points.remove(&(volume, point));
            self.protections.remove(&(volume, point));
            return;
        }
        self.volumes.remove(&volume);
        self.settings.remove(&volume);
        self.progress.remove(&volume);
        self.points.retain(|(of, _), _| *of != volume);
        self.protections.retain(|(of, _), _| *of != volume);
    }

    fn contents(mut self) -> Contents {
        let mut contents = Contents { removed: self.removals.keys().copied().collect(), ..Contents::default() };
        self.removals.values().for_each(|seat| contents.count(*seat));
        contents.entries = self.entries(&mut contents);
        for (key, (_, is_protected)) in &self.protections {
            contents.strange("a protection of point", &format!("{} of volume {}", key.1, key.0), *is_protected);
        }
        for uuid in self.settings.keys() {
            contents.strange("settings of volume", &uuid.to_string(), true);
        }
        for (_, (seat, progress)) in self.progress {
            contents.count(seat);
            contents.progress.push(progress);
        }
        contents.damages.extend(std::mem::take(&mut self.damages));
        contents.orphans = self.points.into_values().map(|(_, point)| point).collect();
        contents.damages.extend(contents.orphans.iter().map(orphan).collect::<Vec<_>>());
        contents.damages.extend(namesakes(&contents.entries));
        contents
    }

    /// The volumes by name; points, protections and settings that belong to one are taken out.
    fn entries(&mut self, contents: &mut Contents) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (uuid, (seat, volume)) in std::mem::take(&mut self.volumes) {
            contents.count(seat);
            let settings = self.settings.remove(&uuid).map(|(seat, settings)| {
                contents.count(seat);
                settings
            });
            let mut entry = Entry { volume, points: Vec::new(), settings: settings.unwrap_or_default() };
            for (key, (seat, point)) in self.points.extract_if((uuid, 0)..=(uuid, u64::MAX), |_, _| true) {
                contents.count(seat);
                contents.damages.extend(contradiction(&entry.volume, &point));
                let protection = self.protections.remove(&key);
                protection.iter().for_each(|(seat, _)| contents.count(*seat));
                let is_protected = protection.is_some_and(|(_, protected)| protected);
                entry.points.push(Held { point, is_protected, is_troubled: false });
            }
            entries.push(entry);
        }
        entries.sort_by(|a, b| a.volume.name.cmp(&b.volume.name));
        entries
    }
}

impl Contents {
    /// All points, also those whose volume no segment has.
    pub fn points(&self) -> impl Iterator<Item = &Point> {
        let held = self.entries.iter().flat_map(|entry| &entry.points).map(|held| &held.point);
        held.chain(&self.orphans)
    }

    fn count(&mut self, seat: Seat) {
        self.live.0 += 1;
        self.live.1 += seat.bytes;
    }

    /// A record about a thing that is not there: its own record may have been removed and collected since.
    fn strange(&mut self, what: &str, which: &str, counts: bool) {
        if counts {
            self.notes.push(format!("{what} {which} is about something that no segment has"));
        }
    }
}

/// A point whose volume no segment has.
fn orphan(point: &Point) -> Damage {
    let text = format!("point {} belongs to volume {}, which no segment has", point.number, point.volume);
    Damage { point: Some(point.number), ..Damage::new("volume", text) }
}

/// Different volumes with the same name.
fn namesakes(entries: &[Entry]) -> impl Iterator<Item = Damage> {
    let pairs = entries.windows(2).filter(|pair| pair[0].volume.name == pair[1].volume.name);
    pairs.map(|pair| {
        let (name, a, b) = (&pair[0].volume.name, pair[0].volume.uuid, pair[1].volume.uuid);
        Damage::new("volume", format!("two volumes are named {name}: {a} and {b}"))
    })
}

fn contradiction(volume: &Volume, point: &Point) -> Option<Damage> {
    let (name, number) = (volume.name.to_string(), point.number);
    let reason = match point.base {
        _ if point.map.geometry.block_size() != volume.block_size => {
            let (own, all) = (point.map.geometry.block_size(), volume.block_size);
            format!("has blocks of {own}, its volume has blocks of {all}")
        }
        Some(base) if base >= number => format!("says that it is based on @{base}"),
        _ => return None,
    };
    let text = format!("{name}@{number} {reason}");
    Some(Damage { volume: Some(name), point: Some(number), ..Damage::new("point", text) })
}
