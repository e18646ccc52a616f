//! Opens what a tap works on: the volume, the state directory with the journal, and the geometry that both go by.
//!
//! Invariant: the blocks of the volume are those that the state directory goes by, or else those of the volume at the appliance where that can be
//! asked: what is known of blocks of one size says nothing of those of another.

use super::core::{Core, Parts};
use super::disk::Volume;
use super::export::TapExport;
use super::files::{FileVolume, StateDirectory, SystemClock};
use super::{blocking, state};
use crate::args::{Sync, Tap};
use crate::connection::Appliance;
use crate::source::FileSource;
use crate::text;
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::sync::Arc;
use understudy_format::{BlockSize, Geometry};
use understudy_net::export::Export;

/// What was opened.
pub struct Opened {
    /// The owner of all.
    pub core: Arc<Core>,
    /// The volume, for clients.
    pub export: Arc<dyn Export>,
    /// The volume, for reading it as a source.
    pub volume: VolumeFile,
    /// Of the volume.
    pub geometry: Geometry,
}

/// A volume that is open.
#[derive(Debug)]
pub struct VolumeFile {
    file: File,
    name: String,
}

impl VolumeFile {
    /// The volume as a source.
    pub fn source(&self) -> Result<FileSource> {
        let file = self.file.try_clone().with_context(|| format!("volume {}", self.name))?;
        FileSource::from_file(file, self.name.clone())
    }
}

/// Opens everything, which takes the volume and the state directory for this tap alone.
pub async fn open(args: &Tap) -> Result<Opened> {
    let directory = Arc::new(StateDirectory::open(&args.state())?);
    let volume = Arc::new(FileVolume::open(&args.path, args.force)?);
    let known = state::load(&*directory).ok().flatten().map(|state| state.geometry.block_size());
    let block_size = block_size(args, known).await?;
    let geometry = Geometry::new(volume.size(), block_size).with_context(|| format!("volume {}", volume.name()))?;
    let name = volume.name().to_owned();
    let file = volume.file().with_context(|| format!("volume {name}"))?;
    let parts = Parts { volume, directory, geometry, journal_max: args.journal_max, clock: Arc::new(SystemClock) };
    let core = Arc::new(blocking(move || Core::open(parts)).await?.with_context(|| state_of(args))?);
    let behind = core.clone();
    std::thread::spawn(move || behind.write_behind());
    let export = Arc::new(TapExport::new(args.volume.to_string(), core.clone(), args.sync == Sync::Flush));
    Ok(Opened { core, export, volume: VolumeFile { file, name }, geometry })
}

fn state_of(args: &Tap) -> String {
    format!("the tap of {} cannot begin; its state is in {}", args.path.display(), args.state().display())
}

/// The size of the blocks, by which everything goes that is known of them.
async fn block_size(args: &Tap, known: Option<BlockSize>) -> Result<BlockSize> {
    let (fixed, by) = match known {
        Some(known) => (Some(known), "its state here"),
        None => (at_appliance(args).await, "the appliance"),
    };
    let (Some(fixed), Some(asked)) = (fixed, args.block_size) else {
        return Ok(fixed.or(args.block_size).unwrap_or_default());
    };
    ensure!(
        fixed == asked,
        "volume {} has blocks of {fixed}, says {by}, and {asked} was asked for: a volume keeps its block size; leave out --block-size, \
         or name another volume and another --state",
        args.volume
    );
    Ok(fixed)
}

/// What the volume has at the appliance, if that can be asked now: the tap serves its volume also when not.
async fn at_appliance(args: &Tap) -> Option<BlockSize> {
    let found = async { Appliance::connect(&args.appliance).await?.points(&args.volume, 1).await };
    match found.await {
        Ok(found) => found.map(|found| found.volume.block_size),
        Err(error) => {
            tracing::debug!(error = text::one_line(&error), "the appliance cannot be asked");
            None
        }
    }
}
