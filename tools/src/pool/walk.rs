//! Walks the map of a point and finds every block and page that it needs, and cannot have.
//!
//! Invariants: a subtree that was found good is not walked again, by whichever point shares it, as long as it stands
//! for the same thing (same level, same block size, no block of another length); a damaged one is walked for each point,
//! so that each point's damage is known. A block must have the length that its position gives it; entries behind the end
//! of the volume must be zero.

use super::known::{Known, PageReader};
use understudy_format::map::{FANOUT, Map, Page, Partial, span};
use understudy_format::{BlockId, Digest, Geometry};

/// Blocks of a point that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The first block.
    pub first: BlockId,
    /// How many.
    pub count: u64,
    /// Of the block or page at fault.
    pub digest: Digest,
    /// What is wrong with it.
    pub reason: String,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Walk<'a> {
    /// What there is; good pages are marked in it.
    pub known: &'a mut Known,
    /// Reads pages.
    pub reader: &'a mut PageReader,
    /// Of the volume.
    pub geometry: Geometry,
    /// Everything that is wrong, in ascending order.
    pub troubles: Vec<Trouble>,
}

impl<'a> Walk<'a> {
    /// Everything that is wrong with a map, in ascending order.
    pub fn troubles(known: &'a mut Known, reader: &'a mut PageReader, map: &Map) -> Vec<Trouble> {
        let mut walk = Self { known, reader, geometry: map.geometry, troubles: Vec::new() };
        walk.node(map.top_level(), 0, map.top);
        walk.troubles
    }

    /// Everything that is wrong with a map as far as it was built: of a stream that may go on.
    pub fn partial(
        known: &'a mut Known,
        reader: &'a mut PageReader,
        geometry: Geometry,
        partial: &Partial,
    ) -> Vec<Trouble> {
        let mut walk = Self { known, reader, geometry, troubles: Vec::new() };
        for (level, page) in (0u8..).zip(&partial.open) {
            let first = partial.next / span(level + 1) * FANOUT;
            for slot in 0..FANOUT {
                walk.node(level, first + slot, page.get(slot as usize));
            }
        }
        if let Some(top) = partial.top {
            walk.node(partial.open.len() as u8, 0, top);
        }
        walk.troubles
    }

    /// Whether everything under a node is good. A node past the end of the volume, of a crafted record, is none.
    fn node(&mut self, level: u8, index: u64, digest: Digest) -> bool {
        match (digest.is_zero() || index.saturating_mul(span(level)) >= self.geometry.block_count(), level) {
            (true, _) => true,
            (false, 0) => self.block(BlockId(index), digest),
            (false, _) => self.page(level, index, digest),
        }
    }

    fn block(&mut self, block: BlockId, digest: Digest) -> bool {
        let length = self.geometry.block_len(block);
        let Some(place) = self.known.get_mut(&digest) else {
            return self.trouble(block, 1, digest, "is in no segment");
        };
        place.is_used = true;
        let place = *place;
        let found = place.content_length;
        if place.is_page {
            self.trouble(block, 1, digest, "is a map page and no block")
        } else if !place.is_good {
            let reason = format!("is damaged in segment {} at {}", place.segment, place.offset);
            self.trouble(block, 1, digest, &reason)
        } else if found != length {
            self.trouble(block, 1, digest, &format!("has {found} bytes, {length} belong here"))
        } else {
            true
        }
    }

    fn page(&mut self, level: u8, index: u64, digest: Digest) -> bool {
        let first = index * span(level);
        let count = span(level).min(self.geometry.block_count() - first);
        let role = self.role(level, first);
        let Some(place) = self.known.get_mut(&digest) else {
            return self.trouble(BlockId(first), count, digest, "is a map page in no segment");
        };
        place.is_used = true;
        let place = *place;
        if role.is_some_and(|role| role == place.walked_as) {
            return true;
        }
        match self.reader.read(&place, digest) {
            Ok(page) => {
                let good = self.entries(level - 1, index * FANOUT, &page, digest);
                if let Some(role) = role.filter(|_| good) {
                    self.known.get_mut(&digest).expect("just found").walked_as = role;
                }
                good
            }
            Err(error) => {
                let reason = format!("is a map page in segment {} at {}: {error}", place.segment, place.offset);
                self.trouble(BlockId(first), count, digest, &reason)
            }
        }
    }

    fn entries(&mut self, level: u8, first_index: u64, page: &Page, digest: Digest) -> bool {
        let nodes = self.geometry.block_count().div_ceil(span(level));
        let mut good = true;
        for slot in 0..FANOUT {
            let (index, entry) = (first_index + slot, page.get(slot as usize));
            if index < nodes {
                good &= self.node(level, index, entry);
            } else if !entry.is_zero() {
                let last = BlockId(self.geometry.block_count() - 1);
                good = self.trouble(last, 1, digest, "is a map page that names blocks behind the end of the volume");
                break;
            }
        }
        good
    }

    /// What a page stands for when all blocks under it are whole blocks of the volume: block size and level.
    fn role(&self, level: u8, first: u64) -> Option<u8> {
        let block_size = self.geometry.block_size().bytes();
        let whole_blocks = self.geometry.volume_size() / u64::from(block_size);
        (first + span(level) <= whole_blocks).then(|| ((block_size.trailing_zeros() as u8) << 3) | level)
    }

    fn trouble(&mut self, first: BlockId, count: u64, digest: Digest, reason: &str) -> bool {
        self.troubles.push(Trouble { first, count, digest, reason: reason.to_owned() });
        false
    }
}
