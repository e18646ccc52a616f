//! Fetching the map of a point into a digest map file, with what a stale local map still has of it.
//!
//! Invariant: the file that comes out is the point's map and nothing else: fetched pages are checked on the
//! way down from the point's root, and what is taken over from the local map hangs under a digest that the appliance named. Of a part
//! of a map the pages over that part are there, so every subtree beside it is known by its digest.

use crate::connection::Appliance;
use crate::descend::{Descent, Finding, Wanted};
use crate::digest_map::MapFile;
use anyhow::{Context, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use understudy_format::mapfile::{MapFileId, Shape};
use understudy_format::point::Point;
use uuid::Uuid;

/// What the map file of a point stands for.
pub fn id_of(pool: Uuid, point: &Point) -> MapFileId {
    MapFileId { pool, volume: point.volume, point: point.number, geometry: point.map.geometry, root: point.map.root() }
}

/// Fetches the map of `point` into the empty file `into`; returns the number of pages that were fetched.
pub async fn fetch_map(appliance: &mut Appliance, point: &Point, stale: Option<&MapFile>, into: &File) -> Result<u64> {
    fetch(appliance, point, Descent::new(point, stale), stale, into).await
}

/// Fetches as much of the map of `point` as there is over the blocks that are `wanted`.
pub async fn fetch_part(appliance: &mut Appliance, point: &Point, wanted: &Wanted, into: &File) -> Result<u64> {
    fetch(appliance, point, Descent::new(point, None).only(wanted), None, into).await
}

async fn fetch(
    appliance: &mut Appliance,
    point: &Point,
    mut descent: Descent<'_>,
    stale: Option<&MapFile>,
    into: &File,
) -> Result<u64> {
    let shape = Shape::new(&point.map.geometry);
    into.set_len(shape.file_length()).context("digest map: setting its length")?;
    let top = shape.node(shape.top_level(), 0).start as u64;
    into.write_all_at(&point.map.top.0, top).context("digest map: writing")?;
    let mut fetched = 0;
    let mut visit = |finding: Finding<'_>| match finding {
        Finding::Same { level, index } => match stale {
            Some(stale) => stale.copy_below(&shape, level, index, into).context("digest map: writing"),
            None => Ok(()),
        },
        Finding::Zero { .. } => Ok(()),
        Finding::Page { level, index, page } => {
            fetched += 1;
            let offset = shape.page(level, index).start as u64;
            into.write_all_at(page.bytes(), offset).context("digest map: writing")
        }
    };
    descent.start(&mut visit)?;
    while descent.step(appliance, &mut visit).await? {}
    Ok(fetched)
}
