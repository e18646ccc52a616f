//! Scanning alone: the map of a source's content, for comparing it with a point.

use crate::digest_map::MapFile;
use crate::map_writer::MapWriter;
use crate::report::Report;
use crate::scan::{Event, InOrder, Job, Met, Workers};
use crate::source::Source;
use crate::state::scratch_file;
use anyhow::{Context, Result};
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, mpsc};
use understudy_format::mapfile::MapFileId;
use understudy_format::{BlockId, Geometry};
use uuid::Uuid;

/// Reads all of a source, and returns the map of it and the file it is in.
pub fn scan_map(
    source: Arc<dyn Source>,
    geometry: Geometry,
    state_dir: &Path,
    report: &mut Report,
) -> Result<(MapFile, File)> {
    let file = scratch_file(state_dir)?;
    let mut map = MapWriter::new(geometry, Some(file.try_clone()?)).context("digest map: writing")?;
    scan_into(&mut map, Job::all(source, geometry, None), report)?;
    let root = map.finish().context("digest map: writing")?.root();
    let id = MapFileId { pool: Uuid::nil(), volume: Uuid::nil(), point: 0, geometry, root };
    Ok((MapFile::of_file(file.try_clone()?, id)?, file))
}

/// Reads the blocks of `job`, which follow those that the map has, and adds them to it.
pub fn scan_into(map: &mut MapWriter, job: Job, report: &mut Report) -> Result<Met> {
    let (geometry, end) = (job.geometry, job.blocks.end);
    let mut met = Met::default();
    let (tell, events) = mpsc::channel();
    let _workers = Workers::start(job, move |event| {
        // Nobody listens once the run has failed; the workers are being stopped then.
        let _ = tell.send(event);
    });
    let mut scanned = InOrder::default();
    while map.next_block() < end {
        match events.recv().context("the worker threads are gone")? {
            Event::Scanned(number, cut) => scanned.put(number, cut),
            Event::Failed(e) => return Err(e),
            Event::Packed(_) => {}
        }
        while let Some(cut) = scanned.next_item() {
            met.add(&geometry, &cut);
            cut.put_into(map).context("digest map: writing")?;
        }
        report.progress(geometry.byte_range(BlockId(0), map.next_block()).end, 0);
    }
    report.end();
    Ok(met)
}
