//! What people ask of agents, from the arguments of the command line.

use crate::args::{Place, volume_of};
use clap::{Args, Subcommand};
use understudy_format::FormatError;
use understudy_format::access::{ClientName, Right};
use understudy_format::agent::LocalName;
use understudy_format::point::{Label, VolumeName};
use understudy_format::text::parse_bytes;

/// What is asked of agents, by way of the daemon that they are connected to.
#[derive(Debug, Subcommand)]
pub enum OfAgents {
    /// List the agents: whether they are connected, what they offer, and what they do.
    Agents(List),
    /// Have an agent replicate volumes now, and show how that goes; it is cancelled when this command is interrupted.
    Replicate(ReplicateNow),
    /// Have an agent compare the source of a volume with a point; exit code 4 when they differ.
    Verify(VerifyNow),
    /// Have an agent make one of its targets equal to a point.
    Restore(RestoreNow),
}

impl OfAgents {
    /// Whose daemon is asked, and how it is told.
    pub fn place(&self) -> &Place {
        match self {
            Self::Agents(List { place })
            | Self::Replicate(ReplicateNow { place, .. })
            | Self::Verify(VerifyNow { place, .. })
            | Self::Restore(RestoreNow { place, .. }) => place,
        }
    }

    /// The agent that is named.
    pub fn agent(&self) -> Option<&ClientName> {
        match self {
            Self::Agents(_) => None,
            Self::Replicate(ReplicateNow { agent, .. }) | Self::Verify(VerifyNow { agent, .. }) => agent.as_ref(),
            Self::Restore(RestoreNow { agent, .. }) => Some(agent),
        }
    }

    /// The right that it takes, and to which volumes; to the pool as a whole when none is named.
    pub fn needs(&self) -> Result<(Right, Vec<VolumeName>), FormatError> {
        Ok(match self {
            Self::Agents(_) => (Right::Read, Vec::new()),
            Self::Replicate(ReplicateNow { volumes, .. }) => (Right::Replicate, volumes.clone()),
            Self::Verify(VerifyNow { point, .. }) => (Right::Read, vec![volume_of(point)?]),
            Self::Restore(RestoreNow { point, .. }) => (Right::Restore, vec![volume_of(point)?]),
        })
    }
}

/// Arguments of `agents`.
#[derive(Debug, Args)]
pub struct List {
    /// Where.
    #[command(flatten)]
    pub place: Place,
}

/// Arguments of `replicate`.
#[derive(Debug, Args)]
pub struct ReplicateNow {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// The volumes.
    #[arg(value_name = "VOLUME", required = true)]
    pub volumes: Vec<VolumeName>,
    /// The agent; the one that offers the volumes when none is named.
    #[arg(long, value_name = "NAME")]
    pub agent: Option<ClientName>,
    /// Make the points of all volumes or none.
    #[arg(long)]
    pub group: bool,
    /// Make fulls, for this reason.
    #[arg(long, value_name = "REASON")]
    pub full: Option<String>,
    /// A name for the new points.
    #[arg(long, value_name = "TEXT")]
    pub label: Option<Label>,
    /// At most so many bytes a second, all volumes together (such as 50M).
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub bandwidth: Option<u64>,
    /// What the agent puts reading between: a bracket of its configuration.
    #[arg(long, value_name = "NAME")]
    pub bracket: Option<LocalName>,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyNow {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// NAME, NAME@3, NAME@label, NAME@2026-11-21T10:00.
    #[arg(value_name = "NAME[@POINT]")]
    pub point: String,
    /// The agent; the one that offers the volume when none is named.
    #[arg(long, value_name = "NAME")]
    pub agent: Option<ClientName>,
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub struct RestoreNow {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// NAME, NAME@3, NAME@label, NAME@2026-11-21T10:00.
    #[arg(value_name = "NAME[@POINT]")]
    pub point: String,
    /// What the agent's configuration calls the target.
    #[arg(long, value_name = "NAME")]
    pub target: LocalName,
    /// The agent.
    #[arg(long, value_name = "NAME")]
    pub agent: ClientName,
}
