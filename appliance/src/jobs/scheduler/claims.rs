//! What may run beside what already runs.

use crate::config::{Job, JobLimits, Task};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use understudy_format::access::ClientName;
use understudy_format::point::VolumeName;

/// What keeps a job from running now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hindrance {
    /// It runs already.
    Itself,
    /// So many jobs run, and that is the limit.
    Jobs(usize),
    /// Other upkeep of the pool runs.
    Upkeep,
    /// Its agent is not connected.
    Away(ClientName),
    /// So many jobs run on its agent, and that is the limit.
    Agent(ClientName, usize),
    /// Another job does something with one of its volumes.
    Volume(VolumeName),
    /// Its agent does something with one of its volumes that is no run of a job.
    Busy(ClientName, VolumeName),
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Itself => f.write_str("it runs already"),
            Self::Jobs(limit) => write!(f, "{limit} jobs run (limits.jobs)"),
            Self::Upkeep => f.write_str("other upkeep of the pool runs"),
            Self::Away(agent) => write!(f, "agent {agent} is not connected"),
            Self::Agent(agent, limit) => write!(f, "{limit} jobs run on agent {agent} (limits.jobs-per-agent)"),
            Self::Volume(volume) => write!(f, "another job has volume {volume}"),
            Self::Busy(agent, volume) => write!(f, "agent {agent} still does something with volume {volume}"),
        }
    }
}

/// What runs, and which volumes are kept for what waits.
#[derive(Debug, Default)]
pub(super) struct Claims<'a> {
    jobs: BTreeSet<&'a str>,
    is_upkeep: bool,
    agents: BTreeMap<&'a ClientName, usize>,
    volumes: BTreeSet<&'a VolumeName>,
}

impl<'a> Claims<'a> {
    /// Of what runs.
    pub(super) fn of(running: impl Iterator<Item = &'a Job>) -> Self {
        let mut claims = Self::default();
        for job in running {
            claims.jobs.insert(&job.name);
            claims.is_upkeep |= matches!(job.task, Task::Upkeep { .. });
            if let Some(agent) = job.agent() {
                *claims.agents.entry(agent).or_default() += 1;
            }
            claims.reserve(job);
        }
        claims
    }

    /// Keeps others from its volumes.
    pub(super) fn reserve(&mut self, job: &'a Job) {
        self.volumes.extend(job.volumes());
    }

    pub(super) fn hindrance(
        &self,
        job: &Job,
        limits: JobLimits,
        connected: &BTreeMap<ClientName, BTreeSet<VolumeName>>,
    ) -> Option<Hindrance> {
        if self.jobs.contains(job.name.as_str()) {
            return Some(Hindrance::Itself);
        }
        if let Some(agent) = job.agent().filter(|agent| !connected.contains_key(*agent)) {
            return Some(Hindrance::Away(agent.clone()));
        }
        if self.jobs.len() >= limits.jobs {
            return Some(Hindrance::Jobs(limits.jobs));
        }
        if self.is_upkeep && matches!(job.task, Task::Upkeep { .. }) {
            return Some(Hindrance::Upkeep);
        }
        let is_busy = |agent: &&ClientName| self.agents.get(*agent).is_some_and(|runs| *runs >= limits.per_agent);
        if let Some(agent) = job.agent().filter(is_busy) {
            return Some(Hindrance::Agent(agent.clone(), limits.per_agent));
        }
        let taken = job.volumes().iter().find(|volume| self.volumes.contains(volume));
        taken.map(|volume| Hindrance::Volume(volume.clone())).or_else(|| busy(job, connected))
    }
}

/// What the agent of this job still does with its volumes: a run that another daemon began, or that somebody asked for.
fn busy(job: &Job, connected: &BTreeMap<ClientName, BTreeSet<VolumeName>>) -> Option<Hindrance> {
    let agent = job.agent()?;
    let volume = connected.get(agent)?.iter().find(|volume| job.volumes().contains(volume))?;
    Some(Hindrance::Busy(agent.clone(), volume.clone()))
}
