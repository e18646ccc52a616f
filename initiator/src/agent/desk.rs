//! What the agent decides of an assignment: whether it is done, and what exactly that is.
//!
//! Invariants: an [`Order`] holds nothing of an assignment but names that the configuration has, numbers and checked texts: sources,
//! targets and commands are those of the configuration at that moment. A volume and a target have one run at a time. A run is known
//! from its assignment until its report was taken. No I/O, no clock.

use super::config::{Bracket, Config, Target};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;
use understudy_format::ErrorKind;
use understudy_format::agent::{Announcement, Assignment, LocalName, Replicate, Report, UNDER_WAY_MAX, Work};
use understudy_format::group::MEMBERS_MAX;
use understudy_format::point::VolumeName;
use uuid::Uuid;

/// The lowest rate that `--bandwidth` takes, bytes a second.
const RATE_MIN: u64 = 128 << 10;

/// The runs of an agent.
#[derive(Debug)]
pub struct Desk {
    config: Arc<Config>,
    runs: BTreeMap<Uuid, Known>,
}

#[derive(Debug)]
struct Known {
    work: Work,
    report: Option<Report>,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// The run.
    pub run: Uuid,
    /// What is to be done, volume by volume.
    pub tasks: Vec<Task>,
    /// Whether all are done at the same time: the points of a group are made together.
    pub together: bool,
    /// What they are put between.
    pub bracket: Option<(LocalName, Bracket)>,
    /// Why fulls were asked for.
    pub full: Option<String>,
}

/// What is done with one volume.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// The volume.
    pub volume: VolumeName,
    /// The arguments of `understudy`.
    pub words: Vec<OsString>,
    /// What is written to, if anything is.
    pub target: Option<Target>,
}

/// Why an assignment is not carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// What the appliance does about it.
    pub kind: ErrorKind,
    /// For people.
    pub text: String,
}

impl Desk {
    /// Without runs.
    pub fn new(config: Arc<Config>) -> Self {
        Self { config, runs: BTreeMap::new() }
    }

    /// From now on this is allowed. What is under way goes on.
    pub fn configure(&mut self, config: Arc<Config>) {
        self.config = config;
    }

    /// What the appliance is told when a session begins.
    pub fn announcement(&self) -> Announcement {
        let assignment = |(run, known): (&Uuid, &Known)| Assignment { run: *run, work: known.work.clone() };
        Announcement { under_way: self.runs.iter().map(assignment).collect(), ..self.config.announcement() }
    }

    /// Decides. `None`: the run is known already, and nothing is begun.
    pub fn assign(&mut self, assignment: Assignment) -> Result<Option<Order>, Refusal> {
        let Assignment { run, work } = assignment;
        if self.runs.contains_key(&run) {
            return Ok(None);
        }
        let order = self.order(run, &work)?;
        self.check_room(&work)?;
        self.runs.insert(run, Known { work, report: None });
        Ok(Some(order))
    }

    /// A run that an earlier agent of this host did not finish, or whose report was not taken.
    pub fn remember(&mut self, assignment: Assignment, report: Option<Report>) {
        self.runs.insert(assignment.run, Known { work: assignment.work, report });
    }

    /// A run ended; what it was.
    pub fn reported(&mut self, report: Report) -> Option<Assignment> {
        let (run, known) = (report.run, self.runs.get_mut(&report.run)?);
        known.report = Some(report);
        Some(Assignment { run, work: known.work.clone() })
    }

    /// A run that was decided on does not begin.
    pub fn forget(&mut self, run: Uuid) {
        self.runs.remove(&run);
    }

    /// The report of a run was taken; whether there was one.
    pub fn taken(&mut self, run: Uuid) -> bool {
        let is_reported = self.runs.get(&run).is_some_and(|known| known.report.is_some());
        is_reported && self.runs.remove(&run).is_some()
    }

    /// What is under way.
    pub fn under_way(&self) -> impl Iterator<Item = (Uuid, &Work)> {
        self.runs.iter().filter(|(_, known)| known.report.is_none()).map(|(run, known)| (*run, &known.work))
    }

    /// Reports that were not taken.
    pub fn reports(&self) -> impl Iterator<Item = &Report> {
        self.runs.values().filter_map(|known| known.report.as_ref())
    }

    /// The bracket of a run, as it is configured now.
    pub fn bracket_of(&self, work: &Work) -> Option<(LocalName, Bracket)> {
        let Work::Replicate(Replicate { bracket: Some(name), .. }) = work else { return None };
        self.config.brackets.get(name).map(|bracket| (name.clone(), bracket.clone()))
    }

    fn check_room(&self, work: &Work) -> Result<(), Refusal> {
        let busy = |text| Err(Refusal { kind: ErrorKind::Retry, text });
        if self.under_way().count() >= self.config.runs_max || self.runs.len() >= UNDER_WAY_MAX as usize {
            return busy(format!("{} runs are under way, and more are not allowed here", self.config.runs_max));
        }
        for (run, other) in self.under_way() {
            if let Some(volume) = work.volumes().iter().find(|volume| other.volumes().contains(volume)) {
                return busy(format!("volume {volume} is in use by run {run}: {other}"));
            }
            if target_of(work).is_some() && target_of(work) == target_of(other) {
                return busy(format!("the target is in use by run {run}: {other}"));
            }
        }
        Ok(())
    }

    fn order(&self, run: Uuid, work: &Work) -> Result<Order, Refusal> {
        let order = |task| Order { run, tasks: vec![task], together: false, bracket: None, full: None };
        match work {
            Work::Replicate(replicate) => self.replicate(run, replicate),
            Work::Verify { volume, point } => self.verify(volume, *point).map(order),
            Work::Restore { volume, point, target } => self.restore(volume, *point, target).map(order),
        }
    }

    fn replicate(&self, run: Uuid, replicate: &Replicate) -> Result<Order, Refusal> {
        let volumes = &replicate.volumes;
        if let Some(twice) = volumes.iter().enumerate().find(|(at, volume)| volumes[..*at].contains(volume)) {
            return Err(refused(format!("volume {} is named twice", twice.1)));
        }
        if replicate.group && volumes.len() > usize::from(MEMBERS_MAX) {
            return Err(refused(format!("a group has at most {MEMBERS_MAX} volumes, not {}", volumes.len())));
        }
        let bracket = match &replicate.bracket {
            None => None,
            Some(name) => {
                let found = allowed("bracket", name, &self.config.brackets)?;
                Some((name.clone(), found.clone()))
            }
        };
        let tasks =
            volumes.iter().map(|volume| self.replicate_one(run, volume, replicate)).collect::<Result<_, _>>()?;
        Ok(Order { run, tasks, together: replicate.group, bracket, full: replicate.full.clone() })
    }

    fn replicate_one(&self, run: Uuid, volume: &VolumeName, replicate: &Replicate) -> Result<Task, Refusal> {
        let found = allowed("volume", volume, &self.config.volumes)?;
        let mut words = self.words("replicate");
        words.extend(["--json".into(), "--volume".into(), volume.as_str().into()]);
        let count = replicate.volumes.len();
        // A group of one is none; those of a group are read at the same time.
        let together = replicate.group && count > 1;
        let share = replicate.bytes_per_second.div_ceil(if together { count as u64 } else { 1 });
        let options = [
            ("--bitmap", found.bitmap.clone()),
            ("--block-size", found.block_size.map(|size| size.bytes().to_string())),
            ("--label", replicate.label.as_ref().map(|label| label.as_str().to_owned())),
            ("--bandwidth", (share > 0).then(|| share.max(RATE_MIN).to_string())),
            ("--group", together.then(|| format!("{run}:{count}"))),
        ];
        for (option, value) in options {
            words.extend(value.map(|value| format!("{option}={value}").into()));
        }
        words.extend(replicate.full.as_ref().map(|_| "--full".into()));
        words.extend(["--".into(), found.source.clone().into()]);
        Ok(Task { volume: volume.clone(), words, target: None })
    }

    fn verify(&self, volume: &VolumeName, point: u64) -> Result<Task, Refusal> {
        let found = allowed("volume", volume, &self.config.volumes)?;
        let mut words = self.words("verify");
        words.extend(["--".into(), found.source.clone().into(), point_name(volume, point)]);
        Ok(Task { volume: volume.clone(), words, target: None })
    }

    fn restore(&self, volume: &VolumeName, point: u64, target: &LocalName) -> Result<Task, Refusal> {
        let found = allowed("target", target, &self.config.targets)?;
        let mut words = self.words("restore");
        words.extend(["--json".into(), "--".into(), point_name(volume, point), found.path.clone().into()]);
        Ok(Task { volume: volume.clone(), words, target: Some(found.clone()) })
    }

    fn words(&self, command: &str) -> Vec<OsString> {
        let (appliance, state) = (self.config.appliance.clone(), self.config.state_dir.clone());
        let mut words: Vec<OsString> = vec![command.into(), "--to".into(), appliance.into()];
        words.extend(["--state-dir".into(), state.into()]);
        let identity = self.config.identity.iter();
        words.extend(identity.flat_map(|dir| [OsString::from("--identity"), dir.into()]));
        words
    }
}

fn point_name(volume: &VolumeName, point: u64) -> OsString {
    if point == 0 { format!("{volume}@latest").into() } else { format!("{volume}@{point}").into() }
}

fn target_of(work: &Work) -> Option<&LocalName> {
    match work {
        Work::Restore { target, .. } => Some(target),
        _ => None,
    }
}

fn refused(text: String) -> Refusal {
    Refusal { kind: ErrorKind::Refused, text }
}

/// What the configuration has under a name.
fn allowed<'a, N: Ord + ToString, T>(kind: &str, name: &N, there: &'a BTreeMap<N, T>) -> Result<&'a T, Refusal> {
    there.get(name).ok_or_else(|| {
        let names: Vec<String> = there.keys().map(ToString::to_string).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        refused(format!("the configuration of this agent allows no {kind} {}; it allows: {names}", name.to_string()))
    })
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
