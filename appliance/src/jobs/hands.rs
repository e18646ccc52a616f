//! Who does what jobs of agents ask for: the agents that are connected, or what stands for them in tests.

use super::scheduler::Started;
use crate::agents::Agents;
use crate::config::Task;
use crate::error::Result;
use crate::upkeep::Told;
use std::fmt::Debug;
use std::sync::atomic::AtomicBool;
use understudy_format::access::ClientName;
use understudy_format::agent::{Replicate, Report, Work};

/// See the module documentation.
pub trait Hands: Debug + Send + Sync {
    /// Has this agent do this, and waits for the end of it; an error when it is not there, refuses, or is lost.
    fn carry_out(
        &self,
        agent: &ClientName,
        work: Work,
        stop: &AtomicBool,
        tell: &mut dyn FnMut(Told),
    ) -> Result<Report>;
}

impl Hands for Agents {
    fn carry_out(
        &self,
        agent: &ClientName,
        work: Work,
        stop: &AtomicBool,
        tell: &mut dyn FnMut(Told),
    ) -> Result<Report> {
        Self::carry_out(self, agent, work, stop, tell)
    }
}

/// What an agent is asked for by a run, one after the other.
pub fn works(started: &Started) -> Vec<Work> {
    match &started.job.task {
        Task::Upkeep { .. } => Vec::new(),
        Task::Replicate(replicate) => vec![Work::Replicate(Replicate {
            volumes: replicate.volumes.clone(),
            group: replicate.group,
            full: started.full.clone(),
            label: None,
            bytes_per_second: started.bytes_per_second,
            bracket: replicate.bracket.clone(),
        })],
        Task::Verify { volumes, .. } => {
            volumes.iter().map(|volume| Work::Verify { volume: volume.clone(), point: 0 }).collect()
        }
    }
}
