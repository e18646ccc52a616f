//! Whether a device holds what it should: a look at some of its blocks, before anything is written to it.
//!
//! Invariant: no device is written to whose content is neither known, nor blank, nor given up by the user. Its path alone says nothing:
//! kernels hand out names in another order after a restart, and a disk may have been exchanged.

use super::compare::Comparer;
use super::target::Target;
use crate::error::Result;
use crate::view::PointView;
use std::collections::BTreeSet;
use understudy_format::BlockId;

/// Places, evenly spread, at which blocks are looked at.
const PLACES: u64 = 64;

/// What a device holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// What it should, wherever one looked.
    Expected,
    /// Mostly what it should: it must be compared.
    Similar,
    /// Nothing, or nothing that anybody would miss.
    Blank,
    /// Something else.
    Foreign,
}

/// Looks at a device that should be any of these points, or between them.
pub fn look(target: &Target, points: &[PointView]) -> Result<Content> {
    let blank = || Ok(if target.is_blank()? { Content::Blank } else { Content::Foreign });
    let Some((first, others)) = points.split_first() else { return blank() };
    let mut others: Vec<_> = others.iter().map(|point| Comparer::new(point, target)).collect();
    let (mut comparer, mut lookup) = (Comparer::new(first, target), first.lookup());
    // A blank device has the zero blocks of any volume, so the others are those that tell.
    let (mut missed, mut telling, mut found) = (0, 0, 0);
    for block in places(first)? {
        let is_telling = !first.run(&mut lookup, block, 1).map_err(first.at(block))?.0;
        let is_known = comparer.is_known(block, &mut others)?;
        missed += u64::from(!is_known);
        telling += u64::from(is_telling);
        found += u64::from(is_telling && is_known);
    }
    match () {
        () if missed == 0 => Ok(Content::Expected),
        () if found > 0 && found * 2 >= telling => Ok(Content::Similar),
        () => blank(),
    }
}

/// Blocks to look at: evenly spread, and where a run of zeros begins at one of these, what comes after it.
fn places(point: &PointView) -> Result<BTreeSet<BlockId>> {
    let (blocks, mut lookup) = (point.geometry().block_count(), point.lookup());
    let mut places = BTreeSet::new();
    for place in 0..=PLACES {
        let block = BlockId((u128::from(blocks - 1) * u128::from(place) / u128::from(PLACES)) as u64);
        let (is_zero, count) = point.run(&mut lookup, block, blocks - block.0).map_err(point.at(block))?;
        places.insert(block);
        places.extend(Some(BlockId(block.0 + count)).filter(|next| is_zero && next.0 < blocks));
    }
    Ok(places)
}
