//! Journals: what taps write down of their primaries, kept until it is in points and older than anybody wants to go back.
//!
//! The way of an entry: a session hands it to the [`Follower`] of its volume, which checks it, appends it and makes it durable; from then
//! on it is one of the [`Changes`] that a fold lays over a point, and when it is a mark, a moment. Everything stands in `journals/NAME/`
//! of the pool's directory: the files of each journal ([`file`]), and what is remembered of the primary (`state`, see
//! [`understudy_format::follow`]).
//!
//! Invariants: a volume has one follower at a time, and one journal that grows: the newest; what is acknowledged is durable, without a gap
//! from the first file that is kept; a file is removed whole, never the last one of the newest journal, and who reads it reads on;
//! a directory is looked at by its own [`shelf::Shelf`] alone. Nothing is known here of points, but which journals they come from.

mod changes;
mod file;
mod follower;
mod marks;
mod role;
mod scan;
mod shelf;
pub mod window;

pub use changes::{Changes, ENTRIES_MAX};
pub use follower::Follower;
pub use role::Switch;

use crate::error::{Error, Result, at};
use crate::locks::lock;
use crate::pool::Pool;
use shelf::{Run, Shelf};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use understudy_format::journal::Position;
use understudy_format::point::VolumeName;
use uuid::Uuid;

/// A flush of the primary: a moment that can be gone back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Its number in its journal.
    pub sequence: u64,
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    pub time_ns: i64,
}

/// Of the journals of one volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// The volume.
    pub name: VolumeName,
    /// Bytes of all files.
    pub bytes: u64,
    /// Whether a tap is there.
    pub is_followed: bool,
    /// Up to when the journal is known to be complete here, nanoseconds since 1970-01-01T00:00:00Z.
    pub complete_ns: i64,
}

type Shelves = BTreeMap<VolumeName, Arc<Mutex<Shelf>>>;

/// All journals of a pool.
#[derive(Debug)]
pub struct Journals {
    pool: Arc<Pool>,
    shelves: Mutex<Shelves>,
}

impl Journals {
    /// The journals of a pool: what was never acknowledged is cut off, and what was and is lost is told.
    pub fn open(pool: &Arc<Pool>) -> Result<Self> {
        let own = Self { pool: pool.clone(), shelves: Mutex::default() };
        let root = own.root();
        // Without the directory nobody ever followed a volume.
        let names = match pool.disk().list(&root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            listed => listed.map_err(at(&root))?,
        };
        for name in names {
            match name.parse() {
                Ok(name) => own.find(&name)?,
                Err(_) => tracing::error!(name, dir = %root.display(), "is no name of a volume, and left alone"),
            }
        }
        Ok(own)
    }

    fn root(&self) -> PathBuf {
        self.pool.dir().join("journals")
    }

    fn find(&self, name: &VolumeName) -> Result<()> {
        let dir = self.root().join(name.as_str());
        let shelf = Shelf::open(self.pool.disk().clone(), dir.clone()).unwrap_or_else(|error| {
            tracing::error!(volume = %name, %error, "its journals cannot be opened, and it cannot be followed");
            Shelf { damage: Some(error.to_string()), ..Shelf::new(self.pool.disk().clone(), dir) }
        });
        if !shelf.state.volume.is_nil() && !self.is_there(name, &shelf.state.volume) {
            tracing::warn!(volume = %name, "its journals are removed, as the volume was");
            let mut shelf = shelf;
            return shelf.remove();
        }
        lock(&self.shelves).insert(name.clone(), Arc::new(Mutex::new(shelf)));
        Ok(())
    }

    fn is_there(&self, name: &VolumeName, volume: &Uuid) -> bool {
        self.pool.volume(name).is_some_and(|entry| entry.volume.uuid == *volume)
    }

    fn shelf(&self, name: &VolumeName) -> Option<Arc<Mutex<Shelf>>> {
        lock(&self.shelves).get(name).cloned()
    }

    /// Follows a volume: the journal that came before, if it is another one, is closed. Durable when this returns.
    pub fn follow(
        self: &Arc<Self>,
        name: &VolumeName,
        journal: Uuid,
        volume_size: u64,
        by: String,
        now_ns: i64,
    ) -> Result<Follower> {
        let mut shelves = lock(&self.shelves);
        let shelf = self.shelf_in(&mut shelves, name);
        let mut own = lock(&shelf);
        // Nobody removes it any more.
        drop(shelves);
        own.check_role(name)?;
        own.check_free(name, &by)?;
        let entry = self.pool.volume(name);
        let volume = entry.as_ref().map_or(Uuid::nil(), |entry| entry.volume.uuid);
        let is_used = |uuid: &Uuid| {
            let points = entry.iter().flat_map(|entry| &entry.points);
            points.filter_map(|point| point.position).any(|position| position.journal == *uuid)
        };
        own.begin(journal, volume_size, volume, is_used)?;
        let newest = own.newest(&journal).expect("just begun");
        let complete_ns = if newest.durable() == 0 { now_ns } else { newest.order.time_ns() };
        own.follower = Some(shelf::FollowedBy { by, complete_ns });
        let newest = own.newest(&journal).expect("just begun");
        let follower = Follower::new(self.pool.clone(), shelf.clone(), name.clone(), newest);
        drop(own);
        Ok(follower)
    }

    fn shelf_in(&self, shelves: &mut Shelves, name: &VolumeName) -> Arc<Mutex<Shelf>> {
        let new = || Arc::new(Mutex::new(Shelf::new(self.pool.disk().clone(), self.root().join(name.as_str()))));
        shelves.entry(name.clone()).or_insert_with(new).clone()
    }

    /// The journal that is followed at present, and by whom.
    pub fn followed_by(&self, name: &VolumeName) -> Option<(Uuid, String)> {
        let shelf = self.shelf(name)?;
        let shelf = lock(&shelf);
        Some((shelf.journals.last()?.uuid, shelf.follower.as_ref()?.by.clone()))
    }

    /// Fails when a stream into a volume, over this position if any, would come between a tap and its volume.
    pub fn admit(&self, name: &VolumeName, over: Option<&Position>) -> Result<()> {
        self.shelf(name).map_or(Ok(()), |shelf| lock(&shelf).check_role(name))?;
        match (self.followed_by(name), over) {
            (Some((journal, _)), Some(over)) if over.journal == journal => Ok(()),
            (None, None) => Ok(()),
            (None, Some(_)) => Err(Error::refused(format!(
                "volume {name} is not followed at present, so there is no journal for this stream to be laid under"
            ))),
            (Some((_, by)), _) => Err(Error::Refused(format!(
                "volume {name} is followed by the tap of {by}, which alone writes to it; stop that tap first"
            ))),
        }
    }

    /// The number up to which a journal is durable; 0 for none.
    pub fn durable(&self, name: &VolumeName, journal: &Uuid) -> u64 {
        let Some(shelf) = self.shelf(name) else { return 0 };
        lock(&shelf).journal(journal).map_or(0, |journal| journal.durable())
    }

    /// The generation of a volume: which primary is the right one.
    pub fn generation(&self, name: &VolumeName) -> u64 {
        self.shelf(name).map_or(1, |shelf| lock(&shelf).state.generation)
    }

    /// Fails when a primary of this generation (0: it was never told one) must not be followed.
    pub fn check_primary(&self, name: &VolumeName, generation: u64) -> Result<()> {
        let state = self.state(name);
        self.shelf(name).map_or(Ok(()), |shelf| lock(&shelf).check_role(name))?;
        match generation == 0 || generation == state.generation {
            true => Ok(()),
            false => Err(Error::refused(format!(
                "this primary has generation {generation} of volume {name}, and the appliance has generation {}: one \
                 of them was written to while the other was the primary, so following would mix two versions; \
                 keep the one that is right and begin the other anew from it",
                state.generation
            ))),
        }
    }

    /// Bytes and whereabouts of all journals.
    pub fn figures(&self) -> Vec<Figures> {
        let shelves = lock(&self.shelves).clone();
        let figures = |(name, shelf): (VolumeName, Arc<Mutex<Shelf>>)| {
            let shelf = lock(&shelf);
            let follower = shelf.follower.as_ref();
            let complete_ns = follower.map_or(0, |follower| follower.complete_ns);
            Figures { name, bytes: shelf.bytes(), is_followed: follower.is_some(), complete_ns }
        };
        shelves.into_iter().map(figures).collect()
    }

    /// Removes files of a volume whose entries are all in points, and older than `keep_from_ns`; what a newer journal has
    /// closed is removed by its age alone. Returns the bytes that this gives back.
    pub fn trim(&self, name: &VolumeName, folded: Position, keep_from_ns: i64) -> Result<u64> {
        let Some(shelf) = self.shelf(name) else { return Ok(0) };
        let gone = lock(&shelf).take_old(folded, keep_from_ns);
        let disk = self.pool.disk();
        let mut bytes = 0;
        for file in &gone {
            disk.remove(&file.path).map_err(at(&file.path))?;
            bytes += file.bytes.load(std::sync::atomic::Ordering::Relaxed);
        }
        Ok(bytes)
    }

    /// Removes all journals of a volume, which is not followed.
    pub fn remove(&self, name: &VolumeName) -> Result<()> {
        let mut shelves = lock(&self.shelves);
        let Some(shelf) = shelves.get(name).cloned() else { return Ok(()) };
        let mut own = lock(&shelf);
        own.check_alone(name)?;
        own.remove()?;
        shelves.remove(name);
        Ok(())
    }

    /// Fails when a volume is followed.
    pub fn check_removable(&self, name: &VolumeName) -> Result<()> {
        self.shelf(name).map_or(Ok(()), |shelf| lock(&shelf).check_alone(name))
    }

    /// The files of a journal, oldest first; none when it is not there.
    fn runs(&self, name: &VolumeName, journal: &Uuid) -> Vec<Run> {
        let Some(shelf) = self.shelf(name) else { return Vec::new() };
        lock(&shelf).journal(journal).map_or(Vec::new(), |journal| journal.runs())
    }

    /// The number of the oldest entry of a journal that is kept.
    pub fn first(&self, name: &VolumeName, journal: &Uuid) -> Option<u64> {
        self.runs(name, journal).first().map(|run| run.file.header.first)
    }

    /// Bytes of the files of a journal that have anything after a position.
    pub fn bytes_after(&self, name: &VolumeName, after: &Position) -> u64 {
        let after_it = |run: &Run| run.last > after.sequence;
        let runs = self.runs(name, &after.journal).into_iter().filter(after_it);
        runs.map(|run| run.file.bytes.load(std::sync::atomic::Ordering::Relaxed)).sum()
    }

    /// Whether a journal does not grow any more, because a newer one has begun.
    pub fn is_closed(&self, name: &VolumeName, journal: &Uuid) -> bool {
        let Some(shelf) = self.shelf(name) else { return true };
        lock(&shelf).newest(journal).is_none()
    }

    /// All changes after one entry, up to another one, or fewer: [`Changes::through`] says how far they go.
    pub fn changes(self: &Arc<Self>, name: &VolumeName, journal: &Uuid, after: u64, through: u64) -> Result<Changes> {
        let durable = self.durable(name, journal);
        if !(after..=durable).contains(&through) {
            return Err(Error::refused(format!(
                "entries {after} to {through} of journal {journal} of volume {name}: it is durable up to {durable}"
            )));
        }
        Changes::read(&**self.pool.disk(), &self.runs(name, journal), after, through)
    }
}
