//! Where the content of a damaged record may still be, and proof that it is that.
//!
//! Invariant: nothing is returned that does not have the digest that was asked for; so it does not matter
//! whether a secondary has settled, is being applied to, or is damaged itself.

use super::find::{Source, Wound};
use super::pace::Pace;
use crate::error::Result;
use crate::pool::Pool;
use crate::pool::disk::{Access, DiskFile};
use bytes::Bytes;
use std::sync::Arc;
use understudy_format::map::{FANOUT, Page, span};
use understudy_format::segment::Kind;
use understudy_format::{BlockId, Digest, Geometry};

/// What was found out about a damaged record.
pub struct Found {
    /// In which way it is damaged.
    pub reason: String,
    /// Its content, and where that was.
    pub content: Option<(Bytes, String)>,
}

/// Looks for content; see the module documentation.
pub struct Healer<'a, 'p, 'c> {
    /// The pool.
    pub pool: &'a Pool,
    /// Asked before each read of a secondary.
    pub pace: &'p mut Pace<'c>,
}

impl Healer<'_, '_, '_> {
    /// Looks for the content of a damaged record.
    pub fn find(&mut self, wound: &Wound) -> Result<Found> {
        let reason = match self.pool.read_again(&wound.damage) {
            Err(error) => error.to_string(),
            Ok(content) => {
                let reason = "it could not be read once, and can be read now".into();
                return Ok(Found { reason, content: Some((content, "where it stands".into())) });
            }
        };
        if let Some(content) = self.pool.salvage(&wound.damage) {
            return Ok(Found { reason, content: Some((content, "what the pool still has of it".into())) });
        }
        for source in &wound.sources {
            if let Some(content) = self.in_secondary(source, wound.damage.digest)? {
                let from = format!("the secondary of volume {}", source.volume.volume.name);
                return Ok(Found { reason, content: Some((content, from)) });
            }
        }
        Ok(Found { reason, content: None })
    }

    fn in_secondary(&mut self, source: &Source, digest: Digest) -> Result<Option<Bytes>> {
        let (Some(geometry), Some(file)) = (geometry(source), self.image(source)) else { return Ok(None) };
        let mut image = Image { file: &*file, geometry, pace: self.pace };
        let content = match source.node.kind() {
            Kind::Block => image.block(source.node.index)?,
            _ => image.page(source.node.level, source.node.index)?.map(|page| Bytes::copy_from_slice(page.bytes())),
        };
        Ok(content.filter(|content| source.node.kind().digest(content) == digest))
    }

    fn image(&self, source: &Source) -> Option<Arc<dyn DiskFile>> {
        let path = self.pool.dir().join("volumes").join(source.volume.volume.name.as_str()).join("secondary.raw");
        self.pool.disk().open(&path, Access::Read).ok()
    }
}

fn geometry(source: &Source) -> Option<Geometry> {
    source.volume.newest().map(|point| point.map.geometry)
}

/// A secondary, of whose content nothing is known.
struct Image<'a, 'p, 'c> {
    file: &'a dyn DiskFile,
    geometry: Geometry,
    pace: &'p mut Pace<'c>,
}

impl Image<'_, '_, '_> {
    /// The content of a block; `None` when it cannot be read.
    fn block(&mut self, block: u64) -> Result<Option<Bytes>> {
        let length = self.geometry.block_len(BlockId(block));
        self.pace.take(length.into())?;
        let mut bytes = vec![0; length as usize];
        let read = self.file.read_at(&mut bytes, self.geometry.offset(BlockId(block)));
        Ok(read.ok().map(|()| bytes.into()))
    }

    /// The map page over node `index` of `level`, computed from all blocks beneath it.
    fn page(&mut self, level: u8, index: u64) -> Result<Option<Page>> {
        let mut page = Page::zero();
        for slot in 0..FANOUT {
            let child = index * FANOUT + slot;
            if child * span(level - 1) >= self.geometry.block_count() {
                break;
            }
            let digest = match level {
                1 => self.block(child)?.map(|content| Digest::of_block(&content)),
                _ => self.page(level - 1, child)?.map(|page| page.digest()),
            };
            let Some(digest) = digest else { return Ok(None) };
            page.set(slot as usize, digest);
        }
        Ok(Some(page))
    }
}
