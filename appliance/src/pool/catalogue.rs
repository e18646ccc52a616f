//! The catalogue in memory: which volumes and points there are, and what is set for them.
//!
//! Invariants: it holds what is durable and nothing else, and holds the same when it is loaded anew; a volume is there once it
//! has a point; the number of a point is never given twice in a volume; readers get what there was at one moment, shared and
//! not copied.

use super::index::Index;
use super::record::Record;
use crate::error::Result;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use understudy_format::catalogue::{RemovalRecord, Settings};
use understudy_format::point::{Point, Volume, VolumeName};
use understudy_format::session::Progress;
use uuid::Uuid;

/// A volume with its points, ascending.
#[derive(Debug, Clone)]
pub struct VolumeEntry {
    /// As recorded.
    pub volume: Volume,
    /// Ascending, never empty.
    pub points: Vec<Point>,
    /// The points that retention may not remove, by number.
    pub protected: BTreeSet<u64>,
    /// What is set.
    pub settings: Settings,
}

impl VolumeEntry {
    /// The newest point.
    pub fn newest(&self) -> Option<&Point> {
        self.points.last()
    }

    /// A point by its number.
    pub fn point(&self, number: u64) -> Option<&Point> {
        let at = self.points.binary_search_by_key(&number, |point| point.number).ok()?;
        Some(&self.points[at])
    }
}

/// The removal of the last point of a volume.
#[derive(Debug, Clone)]
struct Gone {
    name: VolumeName,
    point: u64,
    removed_ns: i64,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Catalogue {
    volumes: BTreeMap<VolumeName, Arc<VolumeEntry>>,
    progress: BTreeMap<VolumeName, Arc<Progress>>,
    /// Volumes all of whose points were removed.
    gone: HashMap<Uuid, Gone>,
}

impl Catalogue {
    /// What the index has.
    pub fn load(index: &Index) -> Result<Self> {
        let mut volumes = HashMap::new();
        let (mut rest, mut removals, mut own) = (Vec::new(), Vec::new(), Self::default());
        for (record, _) in index.catalogue()? {
            match record {
                Record::Volume(volume) => {
                    let (points, protected, settings) = Default::default();
                    volumes.insert(volume.uuid, VolumeEntry { volume, points, protected, settings });
                }
                Record::Removal(removal) => removals.push(removal),
                other => rest.push(other),
            }
        }
        rest.into_iter().for_each(|record| own.load_record(record, &mut volumes));
        for removal in removals {
            if let Some(entry) = volumes.get(&removal.volume).filter(|entry| entry.points.is_empty()) {
                own.is_gone(&entry.volume, removal.point, removal.removed_ns);
            }
        }
        for mut entry in volumes.into_values().filter(|entry| !entry.points.is_empty()) {
            entry.points.sort_unstable_by_key(|point| point.number);
            // What was recorded of a point outlives it until its segment is collected.
            let points = &entry.points;
            entry.protected.retain(|number| points.binary_search_by_key(number, |point| point.number).is_ok());
            own.volumes.insert(entry.volume.name.clone(), Arc::new(entry));
        }
        own.retain_resumable();
        Ok(own)
    }

    fn load_record(&mut self, record: Record, volumes: &mut HashMap<Uuid, VolumeEntry>) {
        let volume = match &record {
            Record::Point(point) => point.volume,
            Record::Protection(record) => record.volume,
            Record::Settings(volume, _) => *volume,
            Record::Progress(progress) => {
                let progress = Arc::new((**progress).clone());
                self.progress.insert(progress.volume.name.clone(), progress);
                return;
            }
            Record::Volume(_) | Record::Removal(_) => return,
        };
        let Some(entry) = volumes.get_mut(&volume) else { return };
        match record {
            Record::Point(point) => entry.points.push(point),
            Record::Settings(_, settings) => entry.settings = settings,
            Record::Protection(record) if record.protected == 1 => entry.protected.extend([record.point]),
            _ => {}
        }
    }

    /// All volumes, by name.
    pub fn volumes(&self) -> Vec<Arc<VolumeEntry>> {
        self.volumes.values().cloned().collect()
    }

    /// A volume by name.
    pub fn volume(&self, name: &VolumeName) -> Option<Arc<VolumeEntry>> {
        self.volumes.get(name).cloned()
    }

    /// A volume by its UUID.
    pub fn volume_by_uuid(&self, uuid: &Uuid) -> Option<Arc<VolumeEntry>> {
        self.volumes.values().find(|entry| entry.volume.uuid == *uuid).cloned()
    }

    /// How far an interrupted stream into a volume came, while it can go on.
    pub fn progress(&self, name: &VolumeName) -> Option<Arc<Progress>> {
        self.progress.get(name).cloned()
    }

    /// All interrupted streams that can go on.
    pub fn all_progress(&self) -> Vec<Arc<Progress>> {
        self.progress.values().cloned().collect()
    }

    /// Takes in what became durable.
    pub fn commit(&mut self, volume: &Volume, point: Point, settings: &Settings) {
        let fresh = || {
            let (points, protected) = Default::default();
            Arc::new(VolumeEntry { volume: volume.clone(), points, protected, settings: settings.clone() })
        };
        Arc::make_mut(self.volumes.entry(volume.name.clone()).or_insert_with(fresh)).points.push(point);
        self.gone.remove(&volume.uuid);
        self.retain_resumable();
    }

    /// Takes in what became durable.
    pub fn save_progress(&mut self, progress: Arc<Progress>) {
        self.progress.insert(progress.volume.name.clone(), progress);
        self.retain_resumable();
    }

    /// Takes in what became durable; a volume without points is gone.
    pub fn remove_points(&mut self, name: &VolumeName, numbers: &BTreeSet<u64>, removed_ns: i64) {
        let Some(shared) = self.volumes.get_mut(name) else { return };
        let entry = Arc::make_mut(shared);
        entry.points.retain(|point| !numbers.contains(&point.number));
        entry.protected.retain(|number| !numbers.contains(number));
        if entry.points.is_empty() {
            let volume = entry.volume.clone();
            self.volumes.remove(name);
            numbers.last().into_iter().for_each(|last| self.is_gone(&volume, *last, removed_ns));
            self.retain_resumable();
        }
    }

    fn is_gone(&mut self, volume: &Volume, point: u64, removed_ns: i64) {
        let gone = Gone { name: volume.name.clone(), point, removed_ns };
        let last = self.gone.entry(volume.uuid).or_insert_with(|| gone.clone());
        if last.point < point {
            *last = gone;
        }
    }

    /// Whether a removal is that of the last point of a volume that is gone: it says which numbers were given.
    pub fn is_last(&self, removal: &RemovalRecord) -> bool {
        self.gone.get(&removal.volume).is_some_and(|gone| gone.point == removal.point)
    }

    /// The number of the next point of a volume.
    pub fn next_number(&self, volume: &Uuid) -> u64 {
        let known = self.volume_by_uuid(volume);
        let newest = known.as_ref().and_then(|entry| entry.newest()).map(|point| point.number);
        newest.or_else(|| self.gone.get(volume).map(|gone| gone.point)).map_or(1, |last| last + 1)
    }

    /// Takes in what became durable.
    pub fn change(&mut self, name: &VolumeName, change: impl FnOnce(&mut VolumeEntry)) {
        if let Some(entry) = self.volumes.get_mut(name) {
            change(Arc::make_mut(entry));
        }
    }

    /// Forgets streams that cannot go on: by the same rule now and when it is loaded anew, since what an interrupted stream
    /// brought is kept just as long as it stands here.
    fn retain_resumable(&mut self) {
        let Self { volumes, progress, gone } = self;
        let removed =
            |name: &VolumeName| gone.values().filter(|gone| gone.name == *name).map(|gone| gone.removed_ns).max();
        progress.retain(|name, progress| {
            let later = removed(name).is_none_or(|removed_ns| progress.recorded_ns > removed_ns);
            later && is_resumable(progress, volumes.get(name).map(|entry| &**entry))
        });
    }
}

/// Whether a stream that came so far can go on: it came anywhere, and its source was read after the newest point was.
fn is_resumable(progress: &Progress, known: Option<&VolumeEntry>) -> bool {
    let newer = |point: &Point| progress.begin.created_ns > point.created_ns && progress.begin.stream != point.stream;
    let same_volume = known.is_none_or(|entry| entry.volume.uuid == progress.volume.uuid);
    progress.next_block() > 0 && same_volume && known.and_then(VolumeEntry::newest).is_none_or(newer)
}
