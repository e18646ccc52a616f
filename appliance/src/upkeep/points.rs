//! Protecting and removing points by name.

use super::{Outcome, Upkeep, volume};
use crate::args;
use crate::error::{Error, Result};
use crate::pool::{Pool, VolumeEntry};
use jiff::tz::TimeZone;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use understudy_format::FormatError;
use understudy_format::point::VolumeName;
use understudy_format::select::PointName;

impl Upkeep<'_> {
    pub(super) fn protect(&mut self, args: &args::Points, protected: bool) -> Result<Outcome> {
        let mut wanted: BTreeMap<VolumeName, BTreeSet<u64>> = BTreeMap::new();
        for text in &args.points {
            let (entry, number) = self.point(text)?;
            wanted.entry(entry.volume.name.clone()).or_default().insert(number);
        }
        let (event, text) = if protected { ("protected", "is protected") } else { ("unprotected", "is not protected") };
        for (name, numbers) in wanted {
            self.pool.protect(&name, &numbers, protected)?;
            for number in numbers {
                let json = json!({"event": event, "volume": name.as_str(), "point": number});
                self.tell(format!("{name}@{number} {text}"), json);
            }
        }
        Ok(Outcome::Done)
    }

    pub(super) fn remove(&mut self, args: &args::Remove) -> Result<Outcome> {
        match args.name.contains('@') {
            true => self.remove_point(args),
            false => self.remove_volume(args),
        }
    }

    fn remove_point(&mut self, args: &args::Remove) -> Result<Outcome> {
        let (entry, number) = self.point(&args.name)?;
        let name = &entry.volume.name;
        if entry.newest().is_some_and(|newest| newest.number == number) {
            return Err(Error::refused(format!(
                "{name}@{number} is the newest point of its volume and stays; `remove {name} --force` removes all of it"
            )));
        }
        if entry.protected.contains(&number) && !args.force {
            return Err(Error::refused(format!("{name}@{number} is protected; unprotect it, or add --force")));
        }
        self.pool.remove_points(name, &BTreeSet::from([number]), self.now_ns)?;
        self.tell_removed(name, number);
        Ok(Outcome::Done)
    }

    fn remove_volume(&mut self, args: &args::Remove) -> Result<Outcome> {
        let name: VolumeName = args.name.parse().map_err(|error: FormatError| Error::Refused(error.to_string()))?;
        let entry = self.volume(&name)?;
        let count = entry.points.len();
        if !args.force {
            return Err(Error::refused(format!(
                "this removes volume {name} with all of its {count} points and its secondary; add --force if that is meant"
            )));
        }
        self.journals.check_removable(&name)?;
        let numbers: BTreeSet<u64> = entry.points.iter().map(|point| point.number).collect();
        self.secondaries.remove(&entry.volume, || self.pool.remove_points(&name, &numbers, self.now_ns))?;
        self.journals.remove(&name)?;
        let json = json!({"event": "removed-volume", "volume": name.as_str(), "points": count});
        self.tell(format!("{name} is removed with {count} points; `understudyd collect` gives the space back"), json);
        Ok(Outcome::Done)
    }

    pub(super) fn tell_removed(&mut self, name: &VolumeName, number: u64) {
        let json = json!({"event": "removed", "volume": name.as_str(), "point": number});
        self.tell(format!("{name}@{number} is removed"), json);
    }

    fn point(&self, text: &str) -> Result<(Arc<VolumeEntry>, u64)> {
        point(self.pool, text, &self.zone)
    }
}

/// A point as people name it: its volume and its number.
pub fn point(pool: &Pool, text: &str, zone: &TimeZone) -> Result<(Arc<VolumeEntry>, u64)> {
    let wanted = PointName::parse(text, zone).map_err(|error| Error::Refused(error.to_string()))?;
    let entry = volume(pool, &wanted.volume)?;
    let found = wanted.selector.find(&entry.points).map(|point| point.number);
    let (name, selector) = (&wanted.volume, &wanted.selector);
    let number = found.ok_or_else(|| Error::refused(format!("volume {name} has no point {selector}")))?;
    Ok((entry, number))
}
