//! Telling what there is after the index was rebuilt (which opening the pool did): one line a volume.

use super::{Outcome, Upkeep};
use crate::error::Result;
use serde_json::json;
use understudy_format::Digest;

impl Upkeep<'_> {
    pub(super) fn reindex(&mut self) -> Result<Outcome> {
        for entry in self.pool.volumes() {
            let (name, points) = (entry.volume.name.as_str(), entry.points.len());
            let newest = entry.newest().map_or(0, |point| point.number);
            let root = entry.newest().map_or(Digest::ZERO, |point| point.map.root());
            let protected: Vec<_> = entry.protected.iter().collect();
            let json = json!({
                "event": "volume", "volume": name, "points": points, "newest": newest,
                "root": root.to_string(), "protected": protected,
            });
            self.tell(format!("{name} {points} {newest} {root}"), json);
        }
        Ok(Outcome::Done)
    }
}
