//! A sample of the blocks that a dirty bitmap calls clean, drawn evenly while they go by.
//!
//! Reservoir sampling that skips (Li's algorithm L): each block that was offered is in the sample with the same probability, at a
//! cost that grows with the logarithm of their number. Invariant: the same seed and the same offers give the same sample.

use understudy_format::BlockSize;

/// Most blocks of a sample: one wrong block in fifty is found nine times in ten, one in a hundred seven times.
const BLOCKS_MAX: u32 = 128;
/// Bytes of a sample, unless that is less than [`BLOCKS_MIN`] blocks.
const BYTES: u32 = 16 << 20;
const BLOCKS_MIN: u32 = 16;

/// See the module documentation.
#[derive(Debug)]
pub struct Sample {
    random: Random,
    room: usize,
    blocks: Vec<u64>,
    offered: u64,
    /// The number of the offer that is taken next, once the sample is full.
    next: u64,
    weight: f64,
}

impl Sample {
    /// An empty sample for blocks of this size.
    pub fn new(block_size: BlockSize, seed: u64) -> Self {
        let room = (BYTES / block_size.bytes()).clamp(BLOCKS_MIN, BLOCKS_MAX) as usize;
        Self { random: Random(seed), room, blocks: Vec::new(), offered: 0, next: 0, weight: 1.0 }
    }

    /// A sample that stays empty: of what is known not to lie.
    pub fn nothing() -> Self {
        Self { random: Random(0), room: 0, blocks: Vec::new(), offered: 0, next: u64::MAX, weight: 1.0 }
    }

    /// `count` clean blocks from `first` on went by.
    pub fn offer(&mut self, first: u64, count: u64) {
        let (start, end) = (self.offered, self.offered + count);
        self.offered = end;
        let fill = (self.room as u64).saturating_sub(start).min(count);
        self.blocks.extend(first..first + fill);
        if fill > 0 && self.blocks.len() == self.room {
            self.next = self.room as u64 - 1;
            self.skip();
        }
        while self.blocks.len() == self.room && self.next < end {
            let slot = self.random.below(self.room as u64) as usize;
            self.blocks[slot] = first + (self.next - start);
            self.skip();
        }
    }

    /// The blocks that were drawn, ascending.
    pub fn blocks(&self) -> Vec<u64> {
        let mut blocks = self.blocks.clone();
        blocks.sort_unstable();
        blocks.dedup();
        blocks
    }

    fn skip(&mut self) {
        self.weight *= (self.random.unit().ln() / self.room as f64).exp();
        let skipped = (self.random.unit().ln() / (-self.weight).ln_1p()).floor();
        // As many as there are numbers is as good as never.
        self.next = self.next.saturating_add(skipped as u64).saturating_add(1);
    }
}

/// SplitMix64.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Above 0, at most 1.
    fn unit(&mut self) -> f64 {
        ((self.number() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(end)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seed: u64, runs: &[(u64, u64)]) -> Vec<u64> {
        let mut sample = Sample::new(BlockSize::default(), seed);
        runs.iter().for_each(|(first, count)| sample.offer(*first, *count));
        sample.blocks()
    }

    #[test]
    fn few_blocks_are_all_drawn() {
        assert_eq!(sample(1, &[(5, 3), (100, 2)]), [5, 6, 7, 100, 101]);
        assert_eq!(sample(1, &[(0, 128)]), (0..128).collect::<Vec<_>>());
        assert!(sample(1, &[]).is_empty());
        let mut nothing = Sample::nothing();
        nothing.offer(0, 1 << 40);
        assert!(nothing.blocks().is_empty());
    }

    #[test]
    fn only_what_was_offered_is_drawn_however_it_is_cut() {
        let runs = [(1000, 1), (2000, 126), (3000, 1), (10_000, 70_000), (1 << 40, 1 << 33)];
        let blocks = sample(7, &runs);
        assert!(blocks.len() > 100 && blocks.len() <= 128, "{}", blocks.len());
        let offered = |block: &u64| runs.iter().any(|(first, count)| (*first..first + count).contains(block));
        assert!(blocks.iter().all(offered), "{blocks:?}");
        assert_eq!(blocks, sample(7, &runs));
        assert_ne!(blocks, sample(8, &runs));
    }

    #[test]
    fn every_part_is_drawn_alike() {
        let mut tenths = [0u32; 10];
        for seed in 0..500 {
            sample(seed, &[(0, 400), (400, 9_600)]).iter().for_each(|block| tenths[(block / 1000) as usize] += 1);
        }
        // 6400 are expected of each; the deviation is 76.
        assert!(tenths.iter().all(|count| (6_000..6_800).contains(count)), "{tenths:?}");
    }

    #[test]
    fn large_blocks_make_small_samples() {
        let rooms = [4 << 10, 64 << 10, 256 << 10, 1 << 20].map(|size| {
            let mut sample = Sample::new(BlockSize::new(size).unwrap(), 1);
            sample.offer(0, 1 << 20);
            sample.room
        });
        assert_eq!(rooms, [128, 128, 64, 16]);
    }
}
