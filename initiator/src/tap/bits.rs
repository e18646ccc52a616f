//! A bit for each block of a volume, or each extent, in memory.
//!
//! Invariant: no bit is set at or after the number of bits.

use std::ops::Range;

const WORD: u64 = u64::BITS as u64;

/// See the module documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bits {
    words: Vec<u64>,
    count: u64,
}

impl Bits {
    /// None of `count` bits is set.
    pub fn none(count: u64) -> Self {
        Self { words: vec![0; count.div_ceil(WORD) as usize], count }
    }

    /// All of `count` bits are set.
    pub fn all(count: u64) -> Self {
        let mut bits = Self::none(count);
        bits.insert(0..count);
        bits
    }

    /// How many bits there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether no bit is set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// How many bits are set.
    pub fn ones(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Whether a bit is set.
    pub fn contains(&self, at: u64) -> bool {
        self.words[(at / WORD) as usize] & 1 << (at % WORD) != 0
    }

    /// Whether all bits of a range are set.
    pub fn contains_all(&self, range: &Range<u64>) -> bool {
        range.clone().all(|at| self.contains(at))
    }

    /// Sets the bits of a range, as far as there are such.
    pub fn insert(&mut self, range: Range<u64>) {
        let end = range.end.min(self.count);
        let mut at = range.start;
        while at < end {
            let (word, from) = (at / WORD, at % WORD);
            let length = (WORD - from).min(end - at);
            self.words[word as usize] |= (u64::MAX >> (WORD - length)) << from;
            at += length;
        }
    }

    /// Sets what is set in another one of the same length.
    pub fn merge(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(own, other)| *own |= other);
    }

    /// The bits of a range that begins with a whole byte, as far as there are such, the lowest bit of the first byte first.
    pub(super) fn bytes(&self, range: Range<u64>) -> Vec<u8> {
        let byte = |index: u64| (self.words[(index / 8) as usize] >> (index % 8 * 8)) as u8;
        (range.start / 8..range.end.min(self.count).div_ceil(8)).map(byte).collect()
    }

    /// Sets the bits that are set in bytes, from a bit on that is the first of a byte.
    pub(super) fn put_bytes(&mut self, from: u64, bytes: &[u8]) {
        for (index, byte) in (from..self.count).step_by(8).zip(bytes) {
            let valid = u8::MAX >> (8 - (self.count - index).min(8));
            self.words[(index / WORD) as usize] |= u64::from(byte & valid) << (index % WORD);
        }
    }

    /// Whether the bit at `at` is set, and where that ends to be so.
    pub fn run(&self, at: u64) -> (bool, u64) {
        let is_set = self.contains(at);
        let other = |index: u64| if is_set { !self.words[index as usize] } else { self.words[index as usize] };
        let first = other(at / WORD) & u64::MAX << (at % WORD);
        let rest = (at / WORD + 1..self.words.len() as u64).map(|index| (index, other(index)));
        let found = std::iter::once((at / WORD, first)).chain(rest).find(|(_, word)| *word != 0);
        let end = found.map_or(self.count, |(index, word)| index * WORD + u64::from(word.trailing_zeros()));
        (is_set, end.min(self.count))
    }

    /// The runs of set bits, ascending.
    pub fn runs(&self) -> impl Iterator<Item = Range<u64>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            while at < self.count {
                let (from, (is_set, end)) = (at, self.run(at));
                at = end;
                if is_set {
                    return Some(from..end);
                }
            }
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_those_that_were_inserted() {
        for count in [1, 63, 64, 65, 200, 1000] {
            for range in [0..1, 0..count, 5..70, 63..65, 64..128, 199..5000] {
                let mut bits = Bits::none(count);
                bits.insert(range.clone());
                let expected: Vec<u64> = range.clone().filter(|at| *at < count).collect();
                let found: Vec<u64> = bits.runs().flatten().collect();
                assert_eq!((found, bits.ones()), (expected.clone(), expected.len() as u64), "{range:?} of {count}");
                assert_eq!(bits.is_empty(), expected.is_empty());
            }
        }
    }

    #[test]
    fn merged_bits_are_those_of_both() {
        let (mut one, mut two) = (Bits::none(300), Bits::none(300));
        one.insert(10..20);
        two.insert(15..70);
        one.merge(&two);
        assert!(one.runs().eq(std::iter::once(10..70)));
        assert!(one.contains_all(&(10..70)) && !one.contains_all(&(10..71)));
        assert_eq!((one.run(0), one.run(12), one.run(70)), ((false, 10), (true, 70), (false, 300)));
        assert!(Bits::all(65).runs().eq(std::iter::once(0..65)));
    }
}
