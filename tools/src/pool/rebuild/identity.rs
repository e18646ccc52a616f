//! The file `pool`: whether it is right, and what it must say when it is written again.
//!
//! Invariant: a file that can be read is never replaced; one that contradicts the segments is a refusal, because
//! then somebody has mixed two pools.

use super::sync_dir;
use crate::pool::catalogue::Contents;
use crate::pool::survey::names;
use crate::text::time;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;
use understudy_format::pool::PoolRecord;
use uuid::Uuid;

/// See the module documentation.
#[derive(Debug)]
pub struct Identity {
    /// The name of the pool.
    pub pool: Uuid,
    /// Why the file must be written again; `None` when it is right.
    wrong: Option<String>,
}

impl Identity {
    /// Looks at the file and at the headers of the segments.
    pub fn of(dir: &Path) -> Result<Self> {
        if !dir.join("segments").is_dir() {
            bail!("{} is not a pool: it has no directory `segments`", dir.display());
        }
        let names: Vec<Uuid> = names(dir)?.into_keys().collect();
        let wrong = match std::fs::read(dir.join("pool")) {
            Ok(bytes) => match PoolRecord::decode(&bytes) {
                Ok(record) => return Self::told_by_file(dir, record.pool, &names),
                Err(error) => format!("damaged ({error})"),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => "lost".into(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", dir.join("pool").display())),
        };
        match names[..] {
            [pool] => Ok(Self { pool, wrong: Some(wrong) }),
            [] => bail!("the file `pool` is {wrong}, and no segment of {} has a readable header", dir.display()),
            _ => bail!(
                "the file `pool` is {wrong}, and the segments of {} belong to several pools ({}): move away those that \
                 do not belong here",
                dir.display(),
                names.iter().map(Uuid::to_string).collect::<Vec<_>>().join(", ")
            ),
        }
    }

    fn told_by_file(dir: &Path, pool: Uuid, names: &[Uuid]) -> Result<Self> {
        match names.is_empty() || names.contains(&pool) {
            true => Ok(Self { pool, wrong: None }),
            false => bail!(
                "the file `pool` of {} says {pool}, and its segments say {}: remove the file if it is the wrong one",
                dir.display(),
                names[0]
            ),
        }
    }

    /// For people.
    pub fn told(&self, contents: &Contents) -> String {
        match (&self.wrong, oldest(contents)) {
            (None, _) => "its file is right".into(),
            (Some(wrong), Some(ns)) => {
                let at = time(ns);
                format!("its file is {wrong}; anew from the headers of the segments, created {at} as the oldest record")
            }
            (Some(wrong), None) => {
                format!("its file is {wrong}; anew from the headers of the segments, created at an unknown time")
            }
        }
    }

    /// Writes the file when that must be: beside, synced, renamed.
    pub fn write(&self, dir: &Path, contents: &Contents) -> Result<()> {
        if self.wrong.is_none() {
            return Ok(());
        }
        let record = PoolRecord::new(self.pool, oldest(contents).unwrap_or(0));
        let (new, path) = (dir.join("pool.new"), dir.join("pool"));
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(&record.encode())?;
            file.sync_all()
        });
        written
            .and_then(|()| std::fs::rename(&new, &path))
            .with_context(|| format!("cannot write {}", path.display()))?;
        sync_dir(dir)
    }
}

/// When the oldest thing was made that the segments know.
fn oldest(contents: &Contents) -> Option<i64> {
    let volumes = contents.entries.iter().map(|entry| entry.volume.created_ns);
    volumes.chain(contents.points().map(|point| point.created_ns)).min()
}
