//! Folding the journals of volumes into points, now.

use super::{Outcome, Upkeep};
use crate::args;
use crate::clock;
use crate::error::{Error, Result};
use crate::fold::Folder;
use crate::pool::VolumeEntry;
use serde_json::json;
use std::sync::Arc;
use understudy_format::point::{Point, VolumeName};

/// The event that a journal was folded.
pub const FOLDED: &str = "folded";

impl Upkeep<'_> {
    pub(super) fn fold(&mut self, args: &args::Fold) -> Result<Outcome> {
        let has_journal = |entry: &Arc<VolumeEntry>| entry.newest().is_some_and(|newest| newest.position.is_some());
        if args.volumes.is_empty() {
            let all = self.pool.volumes().into_iter().filter(has_journal);
            all.map(|entry| self.fold_volume(&entry.volume.name)).collect::<Result<Vec<_>>>()?;
        }
        for name in &args.volumes {
            if !has_journal(&self.volume(name)?) {
                return Err(Error::refused(format!(
                    "the newest point of {name} was not made with a journal, so there is none to fold over it: `understudy tap` writes one"
                )));
            }
            self.fold_volume(name)?;
        }
        Ok(Outcome::Done)
    }

    /// Folds what the journal of a volume has after its newest point.
    pub(crate) fn fold_volume(&mut self, name: &VolumeName) -> Result<()> {
        let folder = Folder { pool: self.pool, journals: self.journals, name };
        let Some((volume, point)) = folder.fold(clock::random_uuid(), self.now_ns)? else {
            let json = json!({"event": "nothing-to-fold", "volume": name.as_str()});
            self.tell(format!("{name}: nothing was written since its newest point"), json);
            return Ok(());
        };
        self.tell_folded(name, &point);
        self.secondaries.follow(&volume);
        Ok(())
    }

    fn tell_folded(&mut self, name: &VolumeName, point: &Point) {
        let Point { number, changed_blocks, stored_bytes, created_ns, .. } = point;
        let time = understudy_format::text::time(*created_ns);
        let json = json!({
            "event": FOLDED, "volume": name.as_str(), "point": number, "time": time, "root": point.map.root().to_string(),
            "changed_blocks": changed_blocks, "stored_bytes": stored_bytes,
        });
        let text = format!(
            "{name}@{number} is what was written up to {time}: {changed_blocks} blocks changed, {stored_bytes} bytes stored"
        );
        self.tell(text, json);
    }
}
