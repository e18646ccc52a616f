//! Volumes and points as the segments record them: what the log says in the end, and what contradicts itself.
//!
//! Invariants: of several records about the same thing the last one in log order (segment, then offset) counts, in
//! whatever order the segments were read; a removal and a point record are about the same thing; a record with the points of a
//! group stands for so many point records; a volume is there while it has a point.

use super::report::Damage;
use super::segment::Found;
use std::collections::{BTreeMap, BTreeSet};
use understudy_format::catalogue::{ProtectionRecord, RemovalRecord, Settings};
use understudy_format::error::Result;
use understudy_format::point::{Point, Volume, VolumeName, decode_points};
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
    /// Points that were removed, as far as that is still recorded.
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
    /// What a record says; nothing for records of other kinds.
    fn decode(kind: Option<Kind>, content: &[u8]) -> Result<Vec<Self>> {
        let point = |point| Self::Point(Box::new(point));
        Ok(vec![match kind {
            Some(Kind::Volume) => Self::Volume(Volume::decode(content)?),
            Some(Kind::Point) => point(Point::decode(content)?),
            Some(Kind::Points) => return Ok(decode_points(content)?.into_iter().map(point).collect()),
            Some(Kind::Removal) => Self::Removal(RemovalRecord::decode(content)?),
            Some(Kind::Protection) => Self::Protection(ProtectionRecord::decode(content)?),
            Some(Kind::Settings) => Settings::decode(content).map(|(uuid, settings)| Self::Settings(uuid, settings))?,
            Some(Kind::Progress) => Self::Progress(Box::new(Progress::decode(content)?)),
            _ => return Ok(Vec::new()),
        }])
    }
}

/// Where a record is, and how many bytes it takes there: its share, where it stands for several.
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
            Ok(records) => {
                let seat =
                    Seat { segment, offset: found.entry.offset, bytes: found.bytes() / records.len().max(1) as u64 };
                records.into_iter().for_each(|record| self.push(seat, record));
            }
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

    /// What the log says in the end, of a pool with these segments.
    pub fn contents(mut self, segments: &BTreeSet<u64>) -> Contents {
        self.records.sort_unstable_by_key(|(seat, _)| *seat);
        let mut fold = Fold::default();
        self.records.into_iter().for_each(|(seat, record)| fold.record(seat, record));
        fold.contents(segments)
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
    removals: BTreeMap<(Uuid, u64), (Seat, RemovalRecord)>,
    damages: Vec<Damage>,
}

impl Fold {
    fn record(&mut self, seat: Seat, record: Record) {
        match record {
            Record::Volume(volume) => drop(self.volumes.insert(volume.uuid, (seat, volume))),
            Record::Point(point) => self.point(seat, *point),
            Record::Removal(removal) => {
                self.points.remove(&(removal.volume, removal.point));
                self.removals.insert((removal.volume, removal.point), (seat, removal));
            }
            Record::Protection(record) => {
                self.protections.insert((record.volume, record.point), (seat, record.protected == 1));
            }
            Record::Settings(volume, settings) => drop(self.settings.insert(volume, (seat, settings))),
            Record::Progress(progress) => drop(self.progress.insert(progress.volume.uuid, (seat, *progress))),
        }
    }

    fn point(&mut self, seat: Seat, point: Point) {
        let key = (point.volume, point.number);
        self.removals.remove(&key);
        let content = (point.map, point.stream);
        let before = self.points.insert(key, (seat, point));
        if before.is_some_and(|(_, before)| (before.map, before.stream) != content) {
            let reason = format!("point {} of volume {} is recorded twice, and differently", key.1, key.0);
            self.damages.push(Damage::in_segment("record", seat.segment, seat.offset, &reason));
        }
    }

    fn contents(mut self, segments: &BTreeSet<u64>) -> Contents {
        let mut contents = Contents { removed: self.removals.keys().copied().collect(), ..Contents::default() };
        // A removal is needed while the record of its point may come back from the segment that has it.
        let removals = self.removals.values().filter(|(_, removal)| segments.contains(&removal.segment));
        removals.for_each(|(seat, _)| contents.count(*seat));
        contents.entries = self.entries(&mut contents);
        for (seat, progress) in std::mem::take(&mut self.progress).into_values() {
            let newest = contents.entries.iter().find(|entry| entry.volume.uuid == progress.volume.uuid);
            if is_resumable(&progress, newest.and_then(Entry::newest)) {
                contents.count(seat);
                contents.progress.push(progress);
            }
        }
        contents.orphans = self.points.into_values().map(|(_, point)| point).collect();
        contents.damages.append(&mut self.damages);
        contents.damages.extend(contents.orphans.iter().map(orphan).collect::<Vec<_>>());
        contents.damages.extend(namesakes(&contents.entries));
        contents
    }

    /// The volumes that have points, by name; what is recorded of one is taken out.
    fn entries(&mut self, contents: &mut Contents) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (uuid, (seat, volume)) in std::mem::take(&mut self.volumes) {
            let mut entry = Entry { volume, points: self.held(uuid, contents), settings: Settings::default() };
            let Some(newest) = entry.newest().map(|point| point.number) else { continue };
            contents.count(seat);
            if let Some((seat, settings)) = self.settings.remove(&uuid) {
                contents.count(seat);
                entry.settings = settings;
            }
            let wrong = entry.points.iter().filter_map(|held| contradiction(&entry.volume, &held.point));
            contents.damages.extend(wrong);
            let protections = self.protections.range((uuid, newest + 1)..=(uuid, u64::MAX));
            let lost = protections.filter(|(key, (_, counts))| *counts && !contents.removed.contains(key));
            let note = |number| format!("{}@{number} is protected, and no segment has it", entry.volume.name);
            contents.notes.extend(lost.map(|((_, number), _)| note(number)));
            entries.push(entry);
        }
        entries.sort_by(|a, b| a.volume.name.cmp(&b.volume.name));
        entries
    }

    /// The points of a volume, ascending, taken out.
    fn held(&mut self, uuid: Uuid, contents: &mut Contents) -> Vec<Held> {
        let all = (uuid, 0)..=(uuid, u64::MAX);
        let own = self.points.extract_if(all, |_, _| true);
        let held = own.map(|(key, (seat, point))| {
            contents.count(seat);
            let protection = self.protections.get(&key).filter(|(_, is_protected)| *is_protected);
            protection.iter().for_each(|(seat, _)| contents.count(*seat));
            Held { point, is_protected: protection.is_some(), is_troubled: false }
        });
        held.collect()
    }
}

/// Whether a stream that came so far can go on from there.
fn is_resumable(progress: &Progress, newest: Option<&Point>) -> bool {
    progress.next_block() > 0 && newest.is_none_or(|newest| progress.begin.created_ns > newest.created_ns)
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
