//! Volumes and points as the segments record them, held against each other.

use super::report::Damage;
use super::segment::Found;
use std::collections::BTreeMap;
use understudy_format::point::{Point, Volume};
use understudy_format::segment::Kind;
use uuid::Uuid;

/// A volume with its points, ascending; the flag says whether the point's map or blocks are damaged.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The volume.
    pub volume: Volume,
    /// Ascending.
    pub points: Vec<(Point, bool)>,
}

/// All records of volumes and points.
#[derive(Debug, Default)]
pub struct Catalogue {
    volumes: BTreeMap<Uuid, Volume>,
    points: BTreeMap<(Uuid, u64), Point>,
}

impl Catalogue {
    /// Takes a record; what is wrong with it, or with it beside the others.
    pub fn insert(&mut self, segment: u64, found: &Found) -> Option<Damage> {
        let content = found.content.as_deref()?;
        let taken = match found.kind() {
            Some(Kind::Volume) => Volume::decode(content).map_err(|e| e.to_string()).map(|volume| {
                self.volumes.insert(volume.uuid, volume);
            }),
            Some(Kind::Point) => Point::decode(content).map_err(|e| e.to_string()).and_then(|point| self.point(point)),
            _ => Ok(()),
        };
        taken.err().map(|reason| Damage::in_segment("record", segment, found.entry.offset, &reason))
    }

    fn point(&mut self, point: Point) -> Result<(), String> {
        match self.points.insert((point.volume, point.number), point.clone()) {
            Some(other) if other != point => {
                Err(format!("point {} of volume {} is recorded twice, and differently", point.number, point.volume))
            }
            _ => Ok(()),
        }
    }

    /// The volumes by name, and what is wrong between records.
    pub fn entries(self) -> (Vec<Entry>, Vec<Damage>) {
        let mut damages = Vec::new();
        let mut entries: BTreeMap<Uuid, Entry> = BTreeMap::new();
        for (uuid, volume) in self.volumes {
            entries.insert(uuid, Entry { volume, points: Vec::new() });
        }
        for ((uuid, number), point) in self.points {
            match entries.get_mut(&uuid) {
                None => damages.push(Damage {
                    point: Some(number),
                    ..Damage::new("volume", format!("point {number} belongs to volume {uuid}, which no segment has"))
                }),
                Some(entry) => {
                    damages.extend(contradiction(&entry.volume, &point));
                    entry.points.push((point, false));
                }
            }
        }
        let mut entries: Vec<Entry> = entries.into_values().collect();
        entries.sort_by(|a, b| a.volume.name.cmp(&b.volume.name));
        for pair in entries.windows(2).filter(|pair| pair[0].volume.name == pair[1].volume.name) {
            let (name, a, b) = (&pair[0].volume.name, pair[0].volume.uuid, pair[1].volume.uuid);
            damages.push(Damage::new("volume", format!("two volumes are named {name}: {a} and {b}")));
        }
        (entries, damages)
    }
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
