//! A job: what is done, when, and under which conditions.
//!
//! What is done is a command of `understudyd` on the pool, or something that an agent does: replicating volumes, verifying them. The
//! agent decides what the names of volumes and brackets stand for; here they are names.

mod read;

use crate::args::Upkeep;
use crate::schedule::{Schedule, Window, Windows};
use jiff::{SignedDuration, Timestamp};
pub(super) use read::{Wrong, check_template, length};
use std::fmt;
use understudy_format::access::ClientName;
use understudy_format::agent::LocalName;
use understudy_format::point::VolumeName;

/// See the module documentation.
#[derive(Debug)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// What is done.
    pub task: Task,
    /// When.
    pub schedule: Schedule,
    /// How much later than its time it may start.
    pub delay_max: SignedDuration,
    /// Whether what was missed, while no daemon ran or its agent was away, is made up for.
    pub catch_up: bool,
    /// When it may run at all.
    pub windows: Windows,
    /// What happens when it fails.
    pub retry: Retry,
    /// How old the newest point of a volume may be.
    pub rpo: Option<SignedDuration>,
}

/// What is done.
#[derive(Debug)]
pub enum Task {
    /// A command on the pool.
    Upkeep {
        /// As it was written.
        text: String,
        /// The same, understood.
        command: Box<Upkeep>,
    },
    /// Volumes get new points.
    Replicate(Box<Replicate>),
    /// Volumes are compared with their newest points.
    Verify {
        /// By this agent.
        agent: ClientName,
        /// These.
        volumes: Vec<VolumeName>,
    },
}

/// Volumes that get new points.
#[derive(Debug)]
pub struct Replicate {
    /// The agent that has them.
    pub agent: ClientName,
    /// Which ones.
    pub volumes: Vec<VolumeName>,
    /// Whether they are captured at one moment and committed together or not at all.
    pub group: bool,
    /// A pair of commands of the agent, before and after capturing.
    pub bracket: Option<LocalName>,
    /// When all is read and sent, whatever is known of the last point.
    pub full: Full,
    /// How fast.
    pub bandwidth: Bandwidth,
}

/// When a run is full; without anything, only when it must be.
#[derive(Debug, Default)]
pub struct Full {
    /// Every so many runs.
    pub every: Option<u32>,
    /// The first run after each of these times.
    pub schedule: Option<Schedule>,
}

/// How many bytes a second, 0 for no limit.
#[derive(Debug, Default)]
pub struct Bandwidth {
    /// Outside of all windows.
    pub usual: u64,
    /// In windows; the first that is open counts.
    pub windows: Vec<(Window, u64)>,
}

impl Bandwidth {
    /// The limit at this moment.
    pub fn at(&self, now: Timestamp) -> u64 {
        let open = self.windows.iter().find(|(window, _)| window.is_open(now));
        open.map_or(self.usual, |(_, limit)| *limit)
    }
}

/// What happens when a run fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How often it is tried again.
    pub count: u16,
    /// How long after the first failure; after each further one twice as long, up to an hour.
    pub delay: SignedDuration,
}

/// The longest time between two tries, unless the first is longer.
const RETRY_DELAY_MAX: SignedDuration = SignedDuration::from_hours(1);

impl Retry {
    /// How long after the end of this attempt, counted from 1, the next one comes; `None` where none does.
    pub fn after(&self, attempt: u16) -> Option<SignedDuration> {
        let doubled = 1i32.checked_shl(u32::from(attempt) - 1).filter(|factor| *factor > 0).unwrap_or(i32::MAX);
        let delay = self.delay.checked_mul(doubled).unwrap_or(SignedDuration::MAX);
        (attempt <= self.count).then(|| delay.min(RETRY_DELAY_MAX.max(self.delay)))
    }
}

impl Job {
    /// The agent that does it.
    pub fn agent(&self) -> Option<&ClientName> {
        match &self.task {
            Task::Upkeep { .. } => None,
            Task::Replicate(replicate) => Some(&replicate.agent),
            Task::Verify { agent, .. } => Some(agent),
        }
    }

    /// Whether it makes points of this volume.
    pub fn replicates(&self, volume: &VolumeName) -> bool {
        matches!(self.task, Task::Replicate(_)) && self.volumes().contains(volume)
    }

    /// The volumes that it is about; of a command on the pool nobody knows.
    pub fn volumes(&self) -> &[VolumeName] {
        match &self.task {
            Task::Upkeep { .. } => &[],
            Task::Replicate(replicate) => &replicate.volumes,
            Task::Verify { volumes, .. } => volumes,
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, agent, volumes) = match self {
            Self::Upkeep { text, .. } => return f.write_str(text),
            Self::Replicate(replicate) => {
                let verb = if replicate.group { "replicate together" } else { "replicate" };
                (verb, &replicate.agent, &replicate.volumes)
            }
            Self::Verify { agent, volumes } => ("verify", agent, volumes),
        };
        let volumes: Vec<&str> = volumes.iter().map(VolumeName::as_str).collect();
        write!(f, "{verb} {} of {agent}", volumes.join(", "))
    }
}
