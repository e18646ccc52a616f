//! A random life of a pool, from a seed: streams, a network that delays, cuts and repeats them, a disk that fails, and
//! an appliance that is killed and started again, all at once; compared with the model all the time.
//!
//! Invariants: everything follows from the seed; an error is accepted only when something was broken on purpose that
//! explains it; a promise that is broken ends the run with its seed and what was done last.

mod group;
mod link;
mod upkeep;

use crate::disk::fault::Errno;
use crate::image::Image;
use crate::initiator::Job;
use crate::machine::Machine;
use crate::model::{Checked, Model, Wrong};
use crate::rng::Rng;
use crate::session::uuid;
use link::{Event, Link};
use std::fmt;
use std::sync::Arc;
use understudy_appliance::error::Error;
use understudy_format::ErrorKind;
use understudy_format::group::Group;
use understudy_format::point::VolumeName;

/// Most blocks of a volume: more than a page of its map holds.
const BLOCKS_MAX: u64 = 300;
/// Things that happen in one life, unless somebody asks for another number.
pub const ACTIONS: u64 = 600;
/// Lines of what was done that a failure shows.
const TRACE_LINES: usize = 60;

/// What a run did, to show that it did anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Points that were acknowledged.
    pub points: u64,
    /// Streams that ended without one.
    pub broken_streams: u64,
    /// Losses of power.
    pub power_losses: u64,
    /// Appliances that were killed.
    pub kills: u64,
    /// Failures of the disk that came.
    pub failures: u64,
    /// Bytes of segments that were given back.
    pub collected_bytes: u64,
    /// Operations of all disks.
    pub operations: u64,
}

impl Stats {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.points += other.points;
        self.broken_streams += other.broken_streams;
        self.power_losses += other.power_losses;
        self.kills += other.kills;
        self.failures += other.failures;
        self.collected_bytes += other.collected_bytes;
        self.operations += other.operations;
    }
}

/// A promise that was broken, with everything that is needed to see it again.
#[derive(Debug)]
pub struct Failure {
    /// Of the run.
    pub seed: u64,
    /// What was broken.
    pub wrong: Wrong,
    /// What was done, oldest first.
    pub trace: Vec<String>,
    /// The test that runs it again.
    pub test: &'static str,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, wrong, trace, test } = self;
        let skipped = trace.len().saturating_sub(TRACE_LINES);
        writeln!(f, "seed {seed}: {wrong}")?;
        writeln!(f, "what was done ({skipped} earlier lines left out):")?;
        trace[skipped..].iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        write!(f, "replay: UNDERSTUDY_SIM_SEED={seed} UNDERSTUDY_SIM_RUNS=1 cargo test -p understudy-sim {test}")
    }
}

/// Runs the life that follows from `seed`, on the computer that `build` makes.
pub fn run(seed: u64, actions: u64, build: impl FnOnce(u64) -> Machine) -> Result<Stats, Failure> {
    let mut world = World::new(seed, build(seed));
    match world.live(actions) {
        Ok(()) => Ok(world.stats),
        Err(wrong) => Err(Failure { seed, wrong, trace: world.trace, test: "world::random" }),
    }
}

struct World {
    rng: Rng,
    machine: Machine,
    model: Model,
    /// What each volume has at its source now, as seeds of its blocks, and the bytes missing from its last one.
    primaries: Vec<(VolumeName, Vec<u64>, u64)>,
    links: Vec<Link>,
    streams: u64,
    is_limited: bool,
    stats: Stats,
    trace: Vec<String>,
}

impl World {
    fn new(seed: u64, machine: Machine) -> Self {
        let mut rng = Rng::new(seed);
        let primary = |name: &str| {
            let blocks = 1 + rng.below(BLOCKS_MAX);
            let unique = rng.below(100);
            let seeds = (0..blocks).map(|_| if rng.chance(unique) { rng.next_u64() } else { rng.below(12) }).collect();
            (name.parse().expect("a name"), seeds, 0)
        };
        let primaries = ["alpha", "beta", "gamma"].map(primary).into();
        Self {
            rng,
            machine,
            model: Model::default(),
            primaries,
            links: Vec::new(),
            streams: 0,
            is_limited: false,
            stats: Stats::default(),
            trace: Vec::new(),
        }
    }

    fn live(&mut self, actions: u64) -> Checked {
        self.boot()?;
        for _ in 0..actions {
            self.act()?;
            if self.machine.disk().is_off() {
                self.lose_power()?;
            }
        }
        self.end()
    }

    fn act(&mut self) -> Checked {
        // A full disk is a matter of a few streams, or nothing else would happen.
        if self.is_limited && self.rng.chance(2) {
            self.limit();
        }
        match self.rng.below(1000) {
            0..34 => self.connect(),
            34..40 => self.connect_group(),
            40..915 => return self.exchange(),
            915..920 => self.cut_link(),
            920..950 => return self.settle(),
            950..957 => self.arm_cut(),
            957..960 => return self.lose_power(),
            960..963 => return self.kill(),
            963..970 => self.arm_failure(),
            970..973 if !self.is_limited => self.limit(),
            973..977 => return self.restart(),
            977..982 => return self.remove(),
            982..984 => return self.protect(),
            984..988 => return self.collect(),
            988..990 => return self.set(),
            990..993 => return self.scrub(),
            _ => return self.compare(),
        }
        Ok(())
    }

    fn note(&mut self, line: impl Into<String>) {
        let operations = self.machine.disk().operations();
        self.trace.push(format!("[{operations}] {}", line.into()));
    }

    /// A new stream of a volume, though another one of it may be under way.
    fn connect(&mut self) {
        let at = self.rng.below(self.primaries.len() as u64) as usize;
        self.connect_to(at, None);
    }

    fn connect_to(&mut self, at: usize, group: Option<Group>) {
        self.write_to(at);
        let (name, seeds, missing) = &self.primaries[at];
        let (name, image) = (name.clone(), Image::of(seeds, *missing));
        let points = self.model.points(&name);
        let base = match self.rng.below(8) {
            0 => None,
            1 if !points.is_empty() => Some(self.rng.pick(points).image.clone()),
            _ => points.last().map(|kept| kept.image.clone()),
        };
        self.streams += 1;
        let job = Job { name, stream: uuid(self.streams), base, image, group };
        self.note(format!("stream {} of {}: {:?} from {:?}", self.streams, job.name, job.image, job.base));
        if let Ok(pool) = self.machine.pool() {
            self.links.push(Link::new(job, pool.clone()));
        }
    }

    /// Changes the source of a volume: some blocks, at times its size.
    fn write_to(&mut self, at: usize) {
        let Self { rng, primaries, .. } = self;
        let (_, seeds, missing) = &mut primaries[at];
        if rng.chance(20) {
            seeds.resize(1 + rng.below(BLOCKS_MAX) as usize, 0);
            *missing = 512 * rng.below(8);
        }
        for _ in 0..rng.below(40) {
            let block = rng.below(seeds.len() as u64) as usize;
            seeds[block] = if rng.chance(30) { rng.below(12) } else { rng.next_u64() };
        }
    }

    /// A few messages move on some link.
    fn exchange(&mut self) -> Checked {
        if self.links.is_empty() {
            return Ok(());
        }
        let at = self.rng.below(self.links.len() as u64) as usize;
        for _ in 0..1 + self.rng.below(16) {
            let event = self.links[at].advance(&mut self.rng, &self.model);
            match event {
                Event::Moved => continue,
                Event::Stored(kept) => {
                    let name = self.links[at].name().clone();
                    self.note(format!("{name}@{} stored by stream {}", kept.number, kept.stream));
                    self.stats.points += 1;
                    self.model.committed(&name, kept);
                }
                Event::Held(group) => return self.ready(group),
                Event::Over => drop(self.links.swap_remove(at)),
                Event::Failed(error, doubt) => {
                    let link = self.links.swap_remove(at);
                    let (name, is_doomed) = (link.name().clone(), link.is_doomed);
                    let lacks_base = link.lacks_base(&self.model);
                    link.group().iter().for_each(|group| self.over(group.uuid));
                    // It holds the pool, which may have to be closed now.
                    drop(link);
                    self.stats.broken_streams += 1;
                    self.note(format!("stream of {name} failed: {error}"));
                    if let Some(kept) = doubt {
                        self.model.doubt_commit(&name, kept);
                    }
                    return match error.kind() {
                        ErrorKind::Refused if lacks_base => Ok(()),
                        _ => self.stream_failed(&name, is_doomed, &error),
                    };
                }
            }
            break;
        }
        Ok(())
    }

    fn stream_failed(&mut self, name: &VolumeName, is_doomed: bool, error: &Error) -> Checked {
        match error.kind() {
            ErrorKind::Retry if self.links.iter().any(|other| other.name() == name) => Ok(()),
            ErrorKind::Full if is_doomed => Ok(()),
            _ => self.upkeep_failed(error),
        }
    }

    /// Whether something was broken on purpose.
    fn is_excused(&self) -> bool {
        let disk = self.machine.disk();
        disk.is_off() || disk.failed() || self.is_limited
    }

    fn excuse(&mut self, error: &Error) -> Checked {
        match self.is_excused() {
            true if self.machine.disk().is_off() || self.rng.chance(30) => Ok(()),
            true => self.kill(),
            false => Err(Wrong(format!("failed without a reason: {error}"))),
        }
    }

    fn cut_link(&mut self) {
        if !self.links.is_empty() {
            let at = self.rng.below(self.links.len() as u64) as usize;
            let link = self.links.swap_remove(at);
            self.stats.broken_streams += 1;
            link.group().iter().for_each(|group| self.over(group.uuid));
            self.note(format!("the connection of {} is cut", link.name()));
        }
    }

    fn settle(&mut self) -> Checked {
        let at = self.rng.below(self.primaries.len() as u64) as usize;
        let name = self.primaries[at].0.clone();
        self.note(format!("settle {name}"));
        match self.machine.settle(&name) {
            Ok(()) => self.model.check_secondary(&name, self.machine.secondary(&name).as_deref()),
            Err(error) if error.kind() == ErrorKind::Full && self.is_excused() => Ok(()),
            Err(error) => self.excuse(&error),
        }
    }

    fn upkeep_failed(&mut self, error: &Error) -> Checked {
        match error.kind() {
            // A directory whose sync failed is not believed again: that takes a restart.
            ErrorKind::Full if self.is_excused() && error.to_string().starts_with("/pool/segments:") => self.kill(),
            ErrorKind::Full if self.is_excused() => {
                self.links.iter_mut().for_each(|link| link.is_doomed = true);
                self.machine.disk().set_fault(None);
                Ok(())
            }
            _ => self.excuse(error),
        }
    }

    fn soon(&mut self) -> u64 {
        let most = if self.rng.chance(50) { 6 } else { 40 };
        self.machine.disk().operations() + 1 + self.rng.below(most)
    }

    fn arm_cut(&mut self) {
        if !self.machine.disk().failed() {
            let at = self.soon();
            self.note(format!("the power will go off at operation {at}"));
            self.machine.disk().cut_at(at);
        }
    }

    fn arm_failure(&mut self) {
        if !self.machine.disk().failed() {
            let (at, errno) = (self.soon(), *self.rng.pick(&[Errno::Io, Errno::NoSpace]));
            self.note(format!("operation {at} will fail: {errno:?}"));
            self.machine.disk().fail_at(at, errno);
        }
    }

    /// The disk becomes nearly full, or has room again.
    fn limit(&mut self) {
        let disk = self.machine.disk().clone();
        self.is_limited = !self.is_limited;
        let reserve = if self.rng.chance(50) { 256 << 20 } else { 0 };
        let limit = self.is_limited.then(|| disk.space() + reserve + self.rng.below(256 << 10));
        // What was begun while there was no room ends, whatever there is now.
        self.links.iter_mut().for_each(|link| link.is_doomed = true);
        self.note(format!("space of the disk: {limit:?}"));
        disk.set_limit(limit);
    }

    fn lose_power(&mut self) -> Checked {
        self.note("the power goes off");
        self.stats.power_losses += 1;
        self.ended();
        self.machine.lose_power(&mut self.rng);
        self.boot()
    }

    fn kill(&mut self) -> Checked {
        self.note("the appliance is killed");
        self.stats.kills += 1;
        self.ended();
        self.machine.kill(&mut self.rng);
        self.boot()
    }

    /// The appliance ends in order and starts on the same disk.
    fn restart(&mut self) -> Checked {
        self.note("the appliance is restarted");
        self.ended();
        self.machine.stop();
        self.boot()
    }

    fn ended(&mut self) {
        self.links.clear();
        self.stats.operations += self.machine.disk().operations();
        self.stats.failures += u64::from(self.machine.disk().failed());
    }

    /// Starts the appliance, which may be interrupted again, and compares everything.
    fn boot(&mut self) -> Checked {
        if self.rng.chance(20) {
            self.arm_cut();
        }
        if let Err(error) = self.machine.start() {
            self.note(format!("the pool cannot be opened: {error}"));
            if !self.is_excused() {
                return Err(Wrong(format!("the pool cannot be opened: {error}")));
            }
            self.is_limited = false;
            self.machine.disk().set_limit(None);
            self.stats.power_losses += 1;
            self.machine.lose_power(&mut self.rng);
            return self.boot();
        }
        let pool = self.machine.pool().map_err(|error| Wrong(error.to_string()))?.clone();
        self.model.resolve(&pool);
        self.compare()
    }

    fn compare(&mut self) -> Checked {
        let Ok(pool) = self.machine.pool() else { return Ok(()) };
        match self.model.check(pool) {
            Err(_) if self.machine.disk().is_off() => Ok(()),
            checked => checked,
        }
    }

    /// Everything is given back, the power goes off once more, and all must be there.
    fn end(&mut self) -> Checked {
        self.machine.disk().set_limit(None);
        self.machine.disk().set_fault(None);
        self.is_limited = false;
        self.note("the end");
        self.ended();
        self.machine.lose_power(&mut self.rng);
        let pool: Arc<_> = self.machine.start().map_err(|error| Wrong(format!("at the end: {error}")))?.clone();
        self.model.resolve(&pool);
        self.model.check(&pool)?;
        for (name, ..) in &self.primaries {
            self.machine.settle(name).map_err(|error| Wrong(format!("the secondary of {name}: {error}")))?;
            self.model.check_secondary(name, self.machine.secondary(name).as_deref())?;
        }
        Ok(())
    }
}
