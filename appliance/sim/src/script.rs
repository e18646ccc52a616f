//! A fixed course of events in the life of a pool, step by step, so that it can be interrupted anywhere.
//!
//! Invariants: a step that failed can be taken again; what is acknowledged is entered in the model at once, and what
//! was under way as in doubt; a check compares everything that is there.

use crate::image::Image;
use crate::initiator::{Initiator, Job};
use crate::machine::Machine;
use crate::model::{Checked, Kept, Model, Wrong};
use crate::session::{Session, uuid};
use std::collections::BTreeSet;
use std::sync::Arc;
use understudy_appliance::error::{Error, Result};
use understudy_appliance::ingest::Ready;
use understudy_format::catalogue::Settings;
use understudy_format::group::Group;
use understudy_format::point::VolumeName;

/// Something that is done to a pool.
#[derive(Debug, Clone)]
pub enum Step {
    /// A point is replicated: from the newest one, or in full.
    Replicate {
        /// Which volume.
        name: VolumeName,
        /// What it has then.
        image: Arc<Image>,
        /// Whether the newest point is the base.
        incremental: bool,
    },
    /// Points of several volumes are replicated as a group, each from its newest one.
    Group(Vec<(VolumeName, Arc<Image>)>),
    /// A stream that ends after so many messages, without a commit.
    Abandon {
        /// Which volume.
        name: VolumeName,
        /// What it would have then.
        image: Arc<Image>,
        /// Messages of the initiator that arrive.
        messages: usize,
    },
    /// The secondary is brought up to date.
    Settle(VolumeName),
    /// Points are removed.
    Remove {
        /// Of which volume.
        name: VolumeName,
        /// Which.
        numbers: BTreeSet<u64>,
    },
    /// Points are protected, or not any more.
    Protect {
        /// Of which volume.
        name: VolumeName,
        /// Which.
        numbers: BTreeSet<u64>,
        /// Whether they are.
        protected: bool,
    },
    /// So many points are to be kept.
    Keep {
        /// Of which volume.
        name: VolumeName,
        /// The newest ones.
        last: u32,
    },
    /// Space is given back.
    Collect,
    /// Everything is checked.
    Scrub,
}

/// A course of events on its way.
#[derive(Debug)]
pub struct Run {
    /// The computer.
    pub machine: Machine,
    /// What must be there.
    pub model: Model,
    steps: Arc<[Step]>,
    next: usize,
    /// The step that the newest stream is of.
    tried: usize,
    streams: u64,
}

impl Run {
    /// A run on an empty disk.
    pub fn new(steps: Arc<[Step]>, seed: u64) -> Self {
        Self { machine: Machine::new(seed), model: Model::default(), steps, next: 0, tried: 0, streams: 0 }
    }

    /// The same with segments of another size, bytes.
    pub fn with_segments(self, size: u64) -> Self {
        Self { machine: self.machine.with_segments(size), ..self }
    }

    /// Starts the appliance, and takes all steps that are left.
    pub fn go(&mut self) -> Result<()> {
        self.machine.start()?;
        while self.next < self.steps.len() {
            self.step()?;
        }
        Ok(())
    }

    /// The step that is next, for messages.
    pub fn next_step(&self) -> Option<&Step> {
        self.steps.get(self.next)
    }

    fn step(&mut self) -> Result<()> {
        match self.steps[self.next].clone() {
            Step::Replicate { name, image, incremental } => self.replicate(name, image, incremental)?,
            Step::Group(members) => self.group(members)?,
            Step::Abandon { name, image, messages } => {
                let job = self.job(name, image, true);
                let mut session = Session::new(self.machine.pool()?.clone());
                exchange(&mut session, &mut Initiator::new(job), messages)?;
            }
            Step::Settle(name) => self.machine.settle(&name)?,
            Step::Remove { name, numbers } => self.remove(&name, numbers)?,
            Step::Protect { name, numbers, protected } => self.protect(&name, numbers, protected)?,
            Step::Keep { name, last } => self.keep(&name, last)?,
            Step::Scrub => drop(self.machine.scrub()?),
            Step::Collect => drop(self.machine.collect()?),
        }
        self.next += 1;
        Ok(())
    }

    fn job(&mut self, name: VolumeName, image: Arc<Image>, incremental: bool) -> Job {
        self.streams += 1;
        self.tried = self.next;
        let newest = self.model.newest(&name).filter(|_| incremental);
        Job { base: newest.map(|kept| kept.image.clone()), name, stream: uuid(self.streams), image, group: None }
    }

    fn replicate(&mut self, name: VolumeName, image: Arc<Image>, incremental: bool) -> Result<()> {
        let job = self.job(name.clone(), image.clone(), incremental);
        let number = self.model.next_number(&name);
        let kept = Kept { number, stream: job.stream, image };
        let mut initiator = Initiator::new(job);
        let sent = exchange(&mut Session::new(self.machine.pool()?.clone()), &mut initiator, usize::MAX);
        match initiator.stored() {
            Some(_) => self.model.committed(&name, kept),
            None if initiator.is_committing() => self.model.doubt_commit(&name, kept),
            None => {}
        }
        sent
    }

    fn group(&mut self, members: Vec<(VolumeName, Arc<Image>)>) -> Result<()> {
        let group = Group { uuid: uuid(self.streams + 1), members: members.len() as u16 };
        let (mut all, mut ready) = (Vec::new(), Vec::new());
        for (name, image) in members {
            let job = Job { group: Some(group), ..self.job(name.clone(), image.clone(), true) };
            all.push((name.clone(), Kept { number: self.model.next_number(&name), stream: job.stream, image }));
            let mut session = Session::new(self.machine.pool()?.clone());
            exchange(&mut session, &mut Initiator::new(job), usize::MAX)?;
            ready.extend(session.take_held());
        }
        let committed = Ready::commit(&ready);
        match committed {
            Ok(()) => all.into_iter().for_each(|(name, kept)| self.model.committed(&name, kept)),
            Err(_) => self.model.doubt_group(all),
        }
        committed
    }

    fn remove(&mut self, name: &VolumeName, mut numbers: BTreeSet<u64>) -> Result<()> {
        // Some may be gone already, when the step is taken again.
        numbers.retain(|number| self.model.points(name).iter().any(|kept| kept.number == *number));
        if numbers.is_empty() {
            return Ok(());
        }
        match self.machine.pool()?.remove_points(name, &numbers, 1) {
            Ok(()) => self.model.removed(name, &numbers),
            Err(error) => {
                self.model.doubt_removal(name, numbers);
                return Err(error);
            }
        }
        Ok(())
    }

    fn protect(&mut self, name: &VolumeName, numbers: BTreeSet<u64>, protected: bool) -> Result<()> {
        match self.machine.pool()?.protect(name, &numbers, protected) {
            Ok(()) => self.model.protected(name, &numbers, protected),
            Err(error) => {
                self.model.doubt_protection(name, numbers);
                return Err(error);
            }
        }
        Ok(())
    }

    fn keep(&mut self, name: &VolumeName, last: u32) -> Result<()> {
        let settings = Settings { keep: [last, 0, 0, 0, 0, 0], ..Settings::default() };
        match self.machine.pool()?.set(name, |set| set.clone_from(&settings)) {
            Ok(()) => self.model.set(name, settings),
            Err(error) => {
                self.model.doubt_settings(name, settings);
                return Err(error);
            }
        }
        Ok(())
    }

    /// After the appliance ended, however it did: it starts, what was in doubt is decided, and everything is compared.
    pub fn recover(&mut self) -> Checked {
        let pool = self.machine.start().map_err(|error| Wrong(format!("the pool cannot be opened: {error}")))?.clone();
        self.model.resolve(&pool);
        // A step whose point is there after all is done: every try has a stream of its own.
        let is_tried = matches!(self.next_step(), Some(Step::Replicate { .. } | Step::Group(_)))
            && self.model.has_stream(uuid(self.streams));
        if is_tried && self.tried == self.next {
            self.next += 1;
        }
        self.model.check(&pool)
    }

    /// Brings every secondary up to date, and compares it.
    pub fn settle_all(&self) -> Checked {
        self.model.names().try_for_each(|name| {
            self.machine.settle(name).map_err(|error| Wrong(format!("the secondary of {name}: {error}")))?;
            self.model.check_secondary(name, self.machine.secondary(name).as_deref())
        })
    }
}

/// Passes messages between an initiator and a pool, up to `messages` of the initiator, until the point is stored or, in a
/// group, its commit is held.
pub fn exchange(session: &mut Session, initiator: &mut Initiator, messages: usize) -> Result<()> {
    for _ in 0..messages {
        let Some(message) = initiator.poll()? else {
            let stuck = || Error::refused("neither end has anything to say, and nothing is stored");
            let is_done = initiator.stored().is_some() || session.is_holding();
            return if is_done { Ok(()) } else { Err(stuck()) };
        };
        if let Some(answer) = session.handle(message)? {
            initiator.handle(answer)?;
        }
    }
    Ok(())
}
