//! `--reflink`: starts from the settled secondary, whose bytes the filesystem shares; what differs is shared with the segments
//! where it stands there as it is, and written where it is compressed.
//!
//! Invariants: the secondary is believed only when its state says that it is a point which the segments know with the
//! same root, before and after it was shared; sharing is atomic, so what is in the output afterwards is one version.
//! Every failure here leaves the output as it was.

use super::output::Output;
use crate::pool::catalogue::Entry;
use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use std::fs::File;
use std::path::Path;
use understudy_format::catalogue::SecondaryMode;
use understudy_format::map::Map;
use understudy_format::secondary::{Place, State};

/// What every refusal ends with.
const INSTEAD: &str = "leave out --reflink to have it written instead; nothing was written";

/// Shares the settled secondary of `entry` into `out`; the map of the point that it is.
pub fn share(dir: &Path, entry: &Entry, out: &Output) -> Result<Map> {
    let name = &entry.volume.name;
    if !out.is_file() {
        bail!("{}: only a file can share the bytes of a secondary; {INSTEAD}", out.name());
    }
    if entry.settings.secondary != SecondaryMode::Native {
        bail!("volume {name} has no secondary in the pool to share bytes with; {INSTEAD}");
    }
    let dir = dir.join("volumes").join(name.as_str());
    let before = settled(&dir, entry)?;
    let path = dir.join("secondary.raw");
    let from = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    out.share(&from).map_err(|error| refusal(error, &path, out))?;
    if settled(&dir, entry)? != before {
        bail!("the secondary of {name} changed while it was shared: try again");
    }
    Ok(before)
}

/// The map of the point that a secondary is.
fn settled(dir: &Path, entry: &Entry) -> Result<Map> {
    let name = &entry.volume.name;
    let refuse = |why: &str| anyhow::anyhow!("the secondary of {name} {why}; {INSTEAD}");
    let bytes = std::fs::read(dir.join("state")).map_err(|_| refuse("is not made yet"))?;
    let state = State::decode(&bytes).map_err(|error| refuse(&format!("has a damaged state file ({error})")))?;
    if state.volume != entry.volume.uuid {
        return Err(refuse("has the state file of another volume"));
    }
    let is_settled = state.applying.is_none() && state.place == Place::IMAGE;
    let Some(settled) = state.settled.filter(|_| is_settled) else {
        return Err(refuse("is not settled: run understudyd until it is"));
    };
    let mut maps = entry.points.iter().filter(|held| held.point.number == settled.point).map(|held| held.point.map);
    let map = maps.next().filter(|map| map.root() == settled.root);
    map.ok_or_else(|| refuse(&format!("is @{}, which is no point of it any more", settled.point)))
}

fn refusal(error: Errno, path: &Path, out: &Output) -> anyhow::Error {
    let cannot = [Errno::OPNOTSUPP, Errno::XDEV, Errno::INVAL, Errno::NOTTY, Errno::NOSYS];
    match cannot.contains(&error) {
        true => anyhow::anyhow!(
            "{} cannot share the bytes of {}: both must be on one filesystem that shares extents (XFS, btrfs); {INSTEAD}",
            out.name(),
            path.display()
        ),
        false => anyhow::Error::new(error).context(format!("cannot share {} into {}", path.display(), out.name())),
    }
}
