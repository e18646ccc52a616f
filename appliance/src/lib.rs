//! The appliance: takes block streams, keeps block-identical secondaries and deduplicated history, exports them.
//!
//! The way of the data: a [`session`] (or [`offline`] input) hands chunks to an [`ingest`], which verifies
//! each block and appends it to the [`pool`]'s log once per digest, builds the map of the new point and
//! commits it. The [`secondary`] of the volume then applies what the point changed to its image. A point is read through
//! a [`view`] of its map, by NBD [`export`]s and by restores. Nothing flows back: what is written to an export goes to an
//! [`overlay`] beside the point.
//!
//! What a tap ships goes into the [`journals`]; a [`fold`] makes points of it, and [`moments`] between them are opened like points.
//!
//! What is done to a pool from time to time is [`upkeep`]; [`control`] has it done by the daemon that has the pool open, through the
//! [`api`], and [`retention`] decides which points a policy keeps. What an administrator wants is [`config`]; [`jobs`] does upkeep when its
//! [`schedule`] says so, and [`daemon`] is what all that shares while a pool is served. Who may ask for
//! what is [`access`], and whoever comes comes in by the [`front`] door. What is to be done on other hosts, their [`agents`] do.
//!
//! What must not happen here: the initiator's code is unknown; the time and randomness come from [`clock`] alone;
//! nothing but [`pool`] touches segments and index, nothing but [`secondary`] touches images and devices, nothing but [`overlay`] what is written over points, nothing but
//! [`journals`] what taps write down of their primaries.

pub mod access;
pub mod agents;
pub mod api;
pub mod args;
pub mod check;
pub mod clock;
pub mod config;
pub mod control;
pub mod daemon;
pub mod error;
pub mod events;
pub mod export;
pub mod failover;
pub mod fold;
pub mod front;
pub mod ingest;
pub mod jobs;
pub mod journals;
mod locks;
pub mod manual;
pub mod metrics;
pub mod moments;
pub mod nbd_terms;
pub mod offline;
pub mod overlay;
pub mod pool;
pub mod retention;
pub mod schedule;
pub mod scrub;
pub mod secondary;
pub mod serve;
pub mod session;
pub mod systemd;
pub mod upkeep;
pub mod view;

use error::Result;
use pool::disk::RealDisk;
use pool::store::FjallStores;
use pool::{NewVolumes, Pool};
use std::path::Path;
use std::sync::Arc;
use understudy_format::catalogue::Settings;

/// Opens a pool on the disk of this machine.
fn open_pool(dir: &Path, new_volume: NewVolumes) -> Result<Pool> {
    Pool::open(dir, options(dir, new_volume))
}

fn options(dir: &Path, new_volume: NewVolumes) -> pool::Options {
    pool::Options {
        disk: Arc::new(RealDisk),
        stores: Arc::new(FjallStores),
        inline: false,
        segment_size: pool::space::segment_size(disk_size(dir)),
        new_volume,
        now_ns: clock::now_ns(),
        uuid: clock::random_uuid(),
    }
}

/// The size of the disk that a pool is on, or will be; a large one when it is not told.
fn disk_size(dir: &Path) -> u64 {
    let stat = dir.ancestors().chain([Path::new(".")]).find_map(|dir| rustix::fs::statvfs(dir).ok());
    stat.map_or(u64::MAX, |stat| stat.f_blocks.saturating_mul(stat.f_frsize))
}

/// Opens a pool on the disk of this machine, its index made anew from the segments.
fn reindex_pool(dir: &Path) -> Result<Pool> {
    Pool::reindex(dir, options(dir, Settings::default().into()))
}
