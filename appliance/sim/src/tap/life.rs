//! A random life of a primary and its appliance, from a seed: writes, flushes, connections that are cut, an appliance that is away until the
//! journal is full, disks that fail, fill up and lose power on either side, folds, removals and moments, all at once.
//!
//! Invariants: everything follows from the seed; an error is accepted only when something was broken on purpose that explains it; a
//! promise that is broken ends the life with its seed and what was done last. At the end all is well again, and so must be the
//! volume's newest moment.

mod appliance;
mod checks;
mod course;
mod host;
mod quiet;
mod session;

pub use course::{Place, Step, course, operations};

use super::content::Content;
use super::line::Line;
use super::past::Past;
use super::primary::Primary;
use super::resync::Resync;
use crate::disk::SimDisk;
use crate::machine::Machine;
use crate::model::{Checked, Wrong};
use crate::rng::Rng;
use crate::session::uuid;
use crate::world::Failure;
use understudy_appliance::error::Error;
use understudy_appliance::moments::Opened;
use understudy_format::journal::Position;
use understudy_format::point::VolumeName;
use understudy_format::{BlockSize, Geometry};
use understudy_initiator::tap::core::Clock;
use uuid::Uuid;

/// Bytes of the volume: two extents and a bit, whose map has more than one page.
const VOLUME_SIZE: u64 = (9 << 20) + 1536;
/// Bytes of a block.
const BLOCK: u32 = 16 << 10;
/// Things that happen in one life, unless somebody asks for another number.
pub const ACTIONS: u64 = 500;

/// What a life did, to show that it did anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Changes of the volume.
    pub writes: u64,
    /// Flushes that were acknowledged.
    pub flushes: u64,
    /// Journals that began.
    pub journals: u64,
    /// Streams that became points.
    pub resyncs: u64,
    /// Folds that made points.
    pub folds: u64,
    /// Moments that were opened and compared.
    pub moments: u64,
    /// Ends of either side without notice.
    pub crashes: u64,
    /// Operations of all disks.
    pub operations: u64,
}

impl Stats {
    /// Adds those of another life.
    pub fn add(&mut self, other: &Self) {
        self.writes += other.writes;
        self.flushes += other.flushes;
        self.journals += other.journals;
        self.resyncs += other.resyncs;
        self.folds += other.folds;
        self.moments += other.moments;
        self.crashes += other.crashes;
        self.operations += other.operations;
    }
}

/// What is broken on purpose for a whole life, to see that it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Breach {
    /// Nothing.
    #[default]
    None,
    /// Syncs of the tap's active extents do nothing.
    LyingExtents,
    /// Syncs of the tap's journal do nothing; that shows only once extents were cleared which it had the writes to.
    LyingJournal,
    /// Syncs of the appliance's journals do nothing.
    LyingAppliance,
    /// The appliance says that entries are durable before they are.
    HastyAppliance,
}

/// Runs the life that follows from `seed`.
pub fn run(seed: u64, actions: u64, breach: Breach) -> Result<Stats, Failure> {
    let mut life = Life::new(seed, breach);
    match life.live(actions) {
        Ok(()) => Ok(life.stats),
        Err(wrong) => Err(Failure { seed, wrong, trace: life.trace, test: "tap::random" }),
    }
}

/// A moment that somebody looks at.
struct Held {
    opened: Opened,
    position: Position,
}

struct Life {
    rng: Rng,
    breach: Breach,
    ids: u64,
    site: Machine,
    primary: Primary,
    past: Past,
    name: VolumeName,
    line: Option<Line>,
    resync: Option<Resync>,
    held: Vec<Held>,
    /// The mark of a flush that waits for the appliance.
    asked: Option<Position>,
    /// The newest mark whose flush returned because the appliance had it: never less than that is there again.
    promised: Option<Position>,
    /// So many actions the appliance cannot be reached.
    away: u64,
    is_limited: bool,
    /// Nothing is broken by chance.
    is_calm: bool,
    stats: Stats,
    trace: Vec<String>,
}

impl Life {
    fn new(seed: u64, breach: Breach) -> Self {
        let journal_max = *Rng::new(seed).pick(&[256 << 10, 1 << 20, 64 << 20]);
        Self::with(seed, breach, journal_max)
    }

    fn with(seed: u64, breach: Breach, journal_max: u64) -> Self {
        let geometry = Geometry::new(VOLUME_SIZE, BlockSize::new(BLOCK).expect("a power of two"));
        let geometry = geometry.expect("whole sectors");
        let (site, primary) = (Machine::any(seed), Primary::new(seed, geometry, journal_max));
        match breach {
            Breach::LyingExtents => primary.state.lie(|path| path.ends_with("active")),
            Breach::LyingJournal => primary.state.lie(|path| path.extension().is_some_and(|end| end == "journal")),
            Breach::LyingAppliance => site.disk().lie(|path| path.extension().is_some_and(|end| end == "journal")),
            Breach::None | Breach::HastyAppliance => {}
        }
        Self {
            rng: Rng::new(seed),
            breach,
            ids: 0,
            site,
            primary,
            past: Past::new(Content::zeroes(geometry)),
            name: "volume".parse().expect("a name"),
            line: None,
            resync: None,
            held: Vec::new(),
            asked: None,
            promised: None,
            away: 0,
            is_limited: false,
            is_calm: false,
            stats: Stats::default(),
            trace: Vec::new(),
        }
    }

    fn live(&mut self, actions: u64) -> Checked {
        self.boot_site()?;
        self.boot_tap()?;
        for _ in 0..actions {
            self.primary.clock.advance(1 + self.rng.below(900_000_000));
            self.away = self.away.saturating_sub(1);
            self.act()?;
            self.recover()?;
        }
        self.settle_down()
    }

    /// Whatever lost its power has it again.
    fn recover(&mut self) -> Checked {
        if self.primary.is_off() {
            self.end_tap(true)?;
        }
        if self.site.disk().is_off() {
            self.end_site(true)?;
        }
        Ok(())
    }

    fn act(&mut self) -> Checked {
        match self.rng.below(1000) {
            0..300 => self.change_volume(),
            300..370 => self.flush(),
            370..375 => self.read_volume(),
            375..425 => self.connect(),
            425..860 => self.talk(),
            860..866 => self.cut_line(),
            866..868 => {
                self.away = self.rng.below(120);
                self.cut_line()
            }
            868..910 => self.fold(),
            910..940 => self.look(),
            940..950 => self.look_at_held(),
            950..955 => self.remove_points(),
            955..961 => self.trim(),
            961..966 => self.collect(),
            966..971 => self.settle(),
            971..974 => self.end_site(false),
            974..977 => self.end_site(true),
            977..980 => self.end_tap(false),
            980..983 => self.end_tap(true),
            983..984 => self.end_both(),
            984..988 => self.restart_tap(),
            988..991 => self.restart_site(),
            991..998 => self.arm(),
            _ => self.limit(),
        }
    }

    /// Something will go wrong with one of the disks, soon.
    fn arm(&mut self) -> Checked {
        let (what, disk) = match self.rng.below(7) {
            0 => ("volume", self.primary.volume.clone()),
            1..4 => ("state", self.primary.state.clone()),
            _ => ("appliance", self.site.disk().clone()),
        };
        let most = if self.rng.chance(50) { 6 } else { 40 };
        let at = disk.operations() + 1 + self.rng.below(most);
        match self.rng.below(3) {
            0 => disk.cut_at(at),
            1 => disk.fail_at(at, crate::disk::fault::Errno::Io),
            _ => disk.fail_at(at, crate::disk::fault::Errno::NoSpace),
        }
        self.note(format!("the disk of the {what} fails at operation {at}: {disk:?}"));
        Ok(())
    }

    /// The appliance's disk becomes nearly full, or has room again; the disk of the tap's state is full for a moment.
    fn limit(&mut self) -> Checked {
        let more = self.rng.below(256 << 10);
        if self.rng.chance(40) {
            let limit = self.primary.state.space() + more;
            self.note(format!("space of the tap's state: {limit}"));
            self.primary.state.set_limit(Some(limit));
            return Ok(());
        }
        self.is_limited = !self.is_limited;
        let reserve = if self.rng.chance(50) { 256 << 20 } else { 0 };
        let limit = self.is_limited.then(|| self.site.disk().space() + reserve + more);
        self.note(format!("space of the appliance: {limit:?}"));
        self.site.disk().set_limit(limit);
        Ok(())
    }

    fn note(&mut self, line: impl Into<String>) {
        let count = |disk: &SimDisk| disk.operations();
        let (volume, state) = (count(&self.primary.volume), count(&self.primary.state));
        let site = count(self.site.disk());
        self.trace.push(format!("[{volume}/{state}/{site}] {}", line.into()));
    }

    fn now_ns(&self) -> i64 {
        self.primary.clock.now_ns()
    }

    fn id(&mut self) -> Uuid {
        self.ids += 1;
        uuid(self.ids)
    }

    /// Whether something was broken that explains an error of the appliance.
    fn is_excused(&self) -> bool {
        let disk = self.site.disk();
        disk.is_off() || disk.failed() || self.is_limited
    }

    /// An error of the appliance is accepted when something was broken that explains it.
    fn excuse(&mut self, what: &str, error: &Error) -> Checked {
        self.note(format!("{what}: {error}"));
        let disk = self.site.disk();
        match self.is_excused() {
            true if disk.is_off() || self.is_limited && !disk.failed() || self.rng.chance(50) => Ok(()),
            true => self.end_site(false),
            false => Err(Wrong(format!("{what} failed without a reason: {error}"))),
        }
    }
}
