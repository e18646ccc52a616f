//! On what terms a tap follows: what was said on the command line, and what follows from that.

use crate::args::{ApplianceArguments, Sync, Tap};
use std::path::PathBuf;
use std::time::Duration;
use understudy_format::Geometry;
use understudy_format::point::VolumeName;

/// See the module documentation.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Which appliance.
    pub appliance: ApplianceArguments,
    /// The volume there.
    pub volume: VolumeName,
    /// Of the volume here.
    pub geometry: Geometry,
    /// For how long entries are gathered.
    pub delay: Duration,
    /// The longest wait before connecting again.
    pub reconnect: Duration,
    /// Bytes a second of what is read again.
    pub bandwidth: Option<u64>,
    /// Where files of this run are.
    pub state: PathBuf,
    /// Whether to tell in JSON.
    pub json: bool,
}

impl Terms {
    /// What the command line says of a volume of this geometry.
    pub fn of(args: &Tap, geometry: Geometry) -> Self {
        // Who waits for a flush waits for no others.
        let delay = if args.sync == Sync::Flush { 0 } else { args.delay };
        Self {
            appliance: args.appliance.clone(),
            volume: args.volume.clone(),
            geometry,
            delay: Duration::from_millis(delay),
            reconnect: Duration::from_millis(args.reconnect),
            bandwidth: args.bandwidth,
            state: args.state(),
            json: args.json,
        }
    }
}
