//! The arguments of `promote`, `failback` and `demote`.

use super::{ApplianceArguments, RateArguments, StateArguments};
use clap::Args;
use std::path::PathBuf;
use understudy_format::point::VolumeName;

/// `understudy promote`.
#[derive(Debug, Clone, Args)]
pub struct Promote {
    /// The volume
    pub name: VolumeName,
    /// Also while a tap follows it, which ends that, or in the middle of a failback
    #[arg(long)]
    pub force: bool,
    /// Which appliance.
    #[command(flatten)]
    pub appliance: ApplianceArguments,
    /// Tell what was done as a JSON object
    #[arg(long)]
    pub json: bool,
}

/// `understudy failback`.
#[derive(Debug, Clone, Args)]
pub struct Failback {
    /// The volume
    pub name: VolumeName,
    /// The primary: the old one, or a file (created when it does not exist) or block device that becomes one
    #[arg(value_name = "VOLUME-PATH")]
    pub path: PathBuf,
    /// Where its tap has its state [default: taps/NAME in the state directory of the other commands]
    #[arg(long = "state", value_name = "DIR")]
    tap_state: Option<PathBuf>,
    /// Also write to a volume that is in use or of another size
    #[arg(long)]
    pub force: bool,
    /// Read all of the volume afterwards, and compare
    #[arg(long)]
    pub verify: bool,
    /// How fast.
    #[command(flatten)]
    pub rate: RateArguments,
    /// Which appliance.
    #[command(flatten)]
    pub appliance: ApplianceArguments,
    /// Tell what happens as JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

impl Failback {
    /// The directory with the state of the tap.
    pub fn state(&self) -> PathBuf {
        self.tap_state.clone().unwrap_or_else(|| StateArguments::of_tap(&self.name))
    }
}

/// `understudy demote`.
#[derive(Debug, Clone, Args)]
pub struct Demote {
    /// The volume
    pub name: VolumeName,
    /// Give up what was written since the promotion
    #[arg(long, required = true)]
    pub discard: bool,
    /// Which appliance.
    #[command(flatten)]
    pub appliance: ApplianceArguments,
    /// Tell what was done as a JSON object
    #[arg(long)]
    pub json: bool,
}
