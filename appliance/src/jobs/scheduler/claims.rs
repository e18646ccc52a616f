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
        connected: &BTreeSet<ClientName>,
    ) -> Option<Hindrance> {
        if self.jobs.contains(job.name.as_str()) {
            return Some(Hindrance::Itself);
        }
        if let Some(agent) = job.agent().filter(|agent| !connected.contains(*agent)) {
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
        taken.map(|volume| Hindrance::Volume(volume.clone()))
    }
}
