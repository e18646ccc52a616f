//! What is wrong with the points of one volume, told once for each digest at fault and not once for each point.

use super::catalogue::Entry;
use super::report::Damage;
use super::walk::Trouble;
use std::collections::HashMap;
use understudy_format::{BlockId, Digest};

/// What is wrong with the points of one volume, by the digest at fault.
#[derive(Debug, Default)]
pub struct Findings {
    by_digest: HashMap<Digest, Finding>,
}

#[derive(Debug)]
struct Finding {
    /// The newest point, which is the first that was walked.
    point: u64,
    first: Trouble,
    /// Blocks of that point.
    blocks: u64,
    /// Other points, and the last one that was counted.
    others: u64,
    last: u64,
}

impl Findings {
    /// Takes a trouble of a point; points come newest first.
    pub fn add(&mut self, point: u64, trouble: Trouble) {
        let count = trouble.count;
        let fresh = Finding { point, first: trouble.clone(), blocks: 0, others: 0, last: point };
        let finding = self.by_digest.entry(trouble.digest).or_insert(fresh);
        if finding.point == point {
            finding.blocks += count;
        }
        if finding.last != point {
            (finding.others, finding.last) = (finding.others + 1, point);
        }
    }

    /// In the order of points, newest first, and blocks.
    pub fn damages(self, entry: &Entry) -> Vec<Damage> {
        let mut findings: Vec<Finding> = self.by_digest.into_values().collect();
        findings.sort_by_key(|finding| (std::cmp::Reverse(finding.point), finding.first.first));
        findings.iter().map(|finding| finding.damage(entry)).collect()
    }
}

impl Finding {
    fn damage(&self, entry: &Entry) -> Damage {
        let Trouble { first: BlockId(block), digest, reason, .. } = &self.first;
        let name = entry.volume.name.to_string();
        let offset = block * u64::from(entry.volume.block_size.bytes());
        let more = match (self.first.count, self.blocks) {
            (1, 1) => format!("block {block}"),
            (1, blocks) => format!("block {block} and {} more like it", blocks - 1),
            (count, _) => format!("blocks {block} to {}", block + count - 1),
        };
        let others = match self.others {
            0 => String::new(),
            1 => "; 1 older point is hurt by the same".into(),
            others => format!("; {others} older points are hurt by the same"),
        };
        let text = format!("{name}@{}: {more} (offset {offset}): {digest} {reason}{others}", self.point);
        Damage {
            volume: Some(name),
            point: Some(self.point),
            block: Some(*block),
            blocks: Some(self.blocks),
            block_offset: Some(offset),
            other_points: Some(self.others),
            digest: Some(digest.to_string()),
            ..Damage::new("block", text)
        }
    }
}
