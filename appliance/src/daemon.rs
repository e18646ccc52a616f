//! What the parts of a running daemon share: the pool, its secondaries, the configuration in force and the jobs.
//!
//! Invariants: the configuration is replaced as a whole, by one that is right, or not at all; what it wants of volumes is in force before
//! a job runs, and `set` does not change what it governs.

use crate::access::Access;
use crate::agents::Agents;
use crate::args::{self, Serve};
use crate::clock;
use crate::config::{self, Config, Fixed, Wanted};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::jobs::driver::{self, Jobs};
use crate::jobs::history;
use crate::jobs::scheduler::{Scheduler, time};
use crate::journals::Journals;
use crate::journals::window::Window;
use crate::locks::{lock, read, write};
use crate::metrics::counters::Counters;
use crate::overlay::Overlays;
use crate::pool::{NewVolumes, Pool, VolumeEntry};
use crate::retention::policy::Policy;
use crate::secondary::Secondaries;
use crate::upkeep::{FOLDED, Outcome, Told, Upkeep, show_mode};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};
use understudy_config::log::Logs;
use understudy_format::catalogue::SecondaryMode;
use understudy_format::point::VolumeName;

/// The configuration in force.
pub type InForce = Arc<RwLock<Arc<Config>>>;

/// Where NBD is served.
#[derive(Debug, Clone)]
pub struct NbdPlace {
    /// `HOST:PORT`; empty when it is not.
    pub address: String,
    /// Whether it is through TLS.
    pub encrypted: bool,
}

impl NbdPlace {
    /// Where an export is.
    pub fn uri(&self, export: &str) -> String {
        let scheme = if self.encrypted { "nbds" } else { "nbd" };
        format!("{scheme}://{}/{export}", self.address)
    }
}

/// See the module documentation.
#[derive(Debug)]
pub struct Daemon {
    /// The pool.
    pub pool: Arc<Pool>,
    /// Its secondaries.
    pub secondaries: Arc<Secondaries>,
    /// Who may do what.
    pub access: Arc<Access>,
    /// Its scratch overlays.
    pub overlays: Arc<Overlays>,
    /// What taps write down.
    pub journals: Arc<Journals>,
    /// Where NBD is served.
    pub nbd: NbdPlace,
    /// What happens.
    pub events: Events,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// Of times without an offset.
    pub zone: TimeZone,
    /// The jobs.
    pub jobs: Jobs,
    /// The agents.
    pub agents: Arc<Agents>,
    config: InForce,
    /// Volumes whose secondary cannot be what this configuration wants: said once, and not tried again and again.
    refused: Mutex<BTreeSet<VolumeName>>,
}

/// What is set for volumes that come to be: by the configuration, or else with this secondary.
pub fn new_volumes(config: &InForce, secondary: SecondaryMode) -> NewVolumes {
    let config = config.clone();
    NewVolumes::by(move |name| read(&config).volumes.of(name).new_settings(secondary.clone()))
}

impl Daemon {
    /// On an open pool, with the jobs of the configuration.
    pub fn new(
        pool: Arc<Pool>,
        secondaries: Arc<Secondaries>,
        overlays: Arc<Overlays>,
        access: Arc<Access>,
        nbd: NbdPlace,
        zone: TimeZone,
        config: InForce,
    ) -> Result<Self> {
        let now = time(clock::now_ns());
        let known = history::load(&pool)?;
        let had_jobs = !known.is_empty();
        let mut scheduler = Scheduler::new(pool.uuid().as_bytes().to_vec(), known, now);
        let in_force = read(&config).clone();
        scheduler.configure(&in_force.jobs, in_force.job_limits, now);
        let (events, jobs, agents) = (Events::default(), Jobs::new(scheduler), Arc::default());
        let (counters, refused) = (Arc::default(), Mutex::default());
        let journals = Arc::new(Journals::open(&pool)?);
        let daemon = Self {
            pool,
            secondaries,
            access,
            overlays,
            journals,
            nbd,
            events,
            counters,
            zone,
            jobs,
            agents,
            config,
            refused,
        };
        if had_jobs || !in_force.jobs.is_empty() {
            driver::record(&daemon);
        }
        Ok(daemon)
    }

    /// Reads the configuration again; one that is wrong changes nothing.
    pub fn reload(&self, file: Option<&Path>, flags: &Serve, fixed: &Fixed, logs: &Logs) {
        let Some(file) = file else {
            tracing::warn!("the daemon was started without --config: there is nothing to read again");
            return;
        };
        let new = config::read_in(file, Some(&fixed.zone))
            .map_err(Error::from)
            .and_then(|new| Ok((Fixed::of(flags, &new.fixed)?, new)));
        match new {
            Ok((new_fixed, new)) => {
                for key in fixed.changed(&new_fixed) {
                    tracing::warn!(
                        key,
                        "was changed in the configuration: that takes a restart; what was is still in force"
                    );
                }
                self.replace(new, logs);
                tracing::info!(file = %file.display(), "the configuration was read again and is in force");
            }
            Err(error) => tracing::error!(%error, "the configuration is wrong: what was in force still is"),
        }
    }

    fn replace(&self, new: Config, logs: &Logs) {
        new.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        logs.set_level(new.log_level.as_deref());
        let new = Arc::new(new);
        *write(&self.config) = new.clone();
        lock(&self.refused).clear();
        self.jobs.configure(&new.jobs, new.job_limits, time(clock::now_ns()));
        driver::record(self);
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        read(&self.config).clone()
    }

    /// The time of the newest point of a volume.
    pub fn newest_point(&self, volume: &VolumeName) -> Option<Timestamp> {
        self.pool.volume(volume)?.newest().map(|point| time(point.created_ns))
    }

    /// Sets what the configuration wants of volumes, where something else is set.
    pub fn govern(&self) {
        let config = self.config();
        for entry in self.pool.volumes() {
            let (volume, wanted) = (&entry.volume.name, config.volumes.of(&entry.volume.name));
            if let Err(error) = self.govern_retention(&entry, wanted) {
                tracing::error!(%volume, %error, "the retention that the configuration wants could not be set");
            }
            if let Err(error) = self.govern_journal(&entry, wanted) {
                tracing::error!(%volume, %error, "what the configuration wants of the journal could not be set");
            }
            if let Err(error) = self.govern_secondary(&entry, wanted) {
                tracing::error!(%volume, %error, "the secondary that the configuration wants cannot be; SIGHUP tries again");
                lock(&self.refused).insert(volume.clone());
            }
        }
    }

    fn govern_retention(&self, entry: &VolumeEntry, wanted: &Wanted) -> Result<()> {
        let is_other = |policy: &Policy| Policy::of(&entry.settings).ok() != Some(*policy);
        let Some(policy) = wanted.retention.filter(is_other) else { return Ok(()) };
        self.pool.set(&entry.volume.name, |settings| policy.store(settings))?;
        tracing::info!(volume = %entry.volume.name, retention = %policy, "set, as the configuration says");
        Ok(())
    }

    fn govern_journal(&self, entry: &VolumeEntry, wanted: &Wanted) -> Result<()> {
        let (name, journal) = (&entry.volume.name, wanted.journal);
        if !journal.is_set(&entry.settings) {
            self.pool.set(name, |settings| journal.store(settings))?;
            tracing::info!(volume = %name, journal = %Window::of(&self.pool.known(name)?.settings)?, "set, as the configuration says");
        }
        Ok(())
    }

    fn govern_secondary(&self, entry: &VolumeEntry, wanted: &Wanted) -> Result<()> {
        let name = &entry.volume.name;
        let is_other =
            |mode: &&SecondaryMode| **mode != entry.settings.secondary && !lock(&self.refused).contains(name);
        let Some(mode) = wanted.secondary.as_ref().filter(is_other) else { return Ok(()) };
        self.secondaries.set_mode(name, mode.clone(), false)?;
        tracing::info!(volume = %name, secondary = show_mode(mode), "set, as the configuration says");
        Ok(())
    }

    /// Carries out what an administrator asked for, or a job.
    pub fn upkeep(&self, what: &args::Upkeep, stop: &AtomicBool, tell: &mut dyn FnMut(Told)) -> Result<Outcome> {
        self.keep_up(stop, tell, |upkeep| upkeep.run(what))
    }

    /// Folds what the journal of a volume has after its newest point.
    pub fn fold(&self, name: &VolumeName) -> Result<()> {
        let tell = &mut |told: Told| {
            if told.event["event"] == FOLDED {
                tracing::info!("{}", told.text);
                self.events.tell("fold", &told);
            }
        };
        self.keep_up(&AtomicBool::new(false), tell, |upkeep| upkeep.fold_volume(name))
    }

    fn keep_up<T>(
        &self,
        stop: &AtomicBool,
        tell: &mut dyn FnMut(Told),
        act: impl FnOnce(&mut Upkeep<'_>) -> Result<T>,
    ) -> Result<T> {
        let Self { pool, secondaries, journals, .. } = self;
        let tell = &mut |told: Told| {
            self.counters.heard(&told.event);
            tell(told);
        };
        let (zone, now_ns) = (self.zone.clone(), clock::now_ns());
        act(&mut Upkeep { pool, secondaries, journals, stop, zone, now_ns, tell })
    }

    /// Refuses to set what the configuration governs: it would be set back.
    pub fn check(&self, what: &args::Upkeep) -> Result<()> {
        let args::Upkeep::Set(set) = what else { return Ok(()) };
        let config = self.config();
        let wanted = config.volumes.of(&set.volume);
        let files: Vec<_> = config.files.iter().map(|file| file.display().to_string()).collect();
        let journal = wanted.journal;
        let governed = match (set.retention.given(), set.secondary.is_some()) {
            (true, _) if wanted.retention.is_some() => "retention",
            (_, true) if wanted.secondary.is_some() => "secondary",
            _ if set.keep_journal.and(journal.keep_journal).is_some() => "keep-journal",
            _ if set.fold_every.and(journal.fold_every).is_some() => "fold-every",
            _ => return Ok(()),
        };
        let (volume, files) = (&set.volume, files.join(", "));
        Err(Error::refused(format!(
            "the {governed} of {volume} is set by the daemon's configuration ({files}): change it there and send the daemon SIGHUP"
        )))
    }
}
