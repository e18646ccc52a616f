//! Where the content of a damaged record may still be, and proof that it is that.
//!
//! Invariant: nothing is returned that does not have the digest that was asked for; so it does not matter
//! whether a secondary has settled, is being applied to, or is damaged itself.

use super::find::{Source, Wound};
use super::pace::Pace;
use super::walk::Node;
use crate::error::Result;
use crate::pool::Pool;
use crate::secondary::Secondaries;
use bytes::Bytes;
use understudy_format::map::{FANOUT, Page, span};
use understudy_format::segment::Kind;
use understudy_format::{BlockId, Digest};

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
    /// Its secondaries.
    pub secondaries: &'a Secondaries,
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
        let Node { level, index, .. } = source.node;
        match source.node.kind() {
            Kind::Block => {
                let block = BlockId(index);
                self.pace.take(source.volume.volume.block_size.bytes().into())?;
                Ok(self.secondaries.block(&source.volume.volume, block, digest))
            }
            _ => {
                let page = self.page(source, level, index)?.filter(|page| page.digest() == digest);
                Ok(page.map(|page| Bytes::copy_from_slice(page.bytes())))
            }
        }
    }

    /// The map page over node `index` of `level`, computed from all blocks beneath it; `None` when one cannot be read.
    fn page(&mut self, source: &Source, level: u8, index: u64) -> Result<Option<Page>> {
        let blocks = source.volume.newest().map_or(0, |point| point.map.geometry.block_count());
        let mut page = Page::zero();
        for slot in 0..FANOUT {
            let child = index * FANOUT + slot;
            if child * span(level - 1) >= blocks {
                break;
            }
            let digest = match level {
                1 => self.digest(source, BlockId(child))?,
                _ => self.page(source, level - 1, child)?.map(|page| page.digest()),
            };
            let Some(digest) = digest else { return Ok(None) };
            page.set(slot as usize, digest);
        }
        Ok(Some(page))
    }

    fn digest(&mut self, source: &Source, block: BlockId) -> Result<Option<Digest>> {
        let volume = &source.volume.volume;
        self.pace.take(volume.block_size.bytes().into())?;
        Ok(self.secondaries.unproven_block(volume, block).map(|content| Digest::of_block(&content)))
    }
}
