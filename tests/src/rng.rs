//! Reproducible randomness: a seed makes a run, the same seed makes it again.

/// The seed of this run: `UNDERSTUDY_TEST_SEED`, or a fixed one. Printed, so that a failure shows it.
pub fn seed() -> u64 {
    let seed = match std::env::var("UNDERSTUDY_TEST_SEED") {
        Ok(text) => text.parse().expect("UNDERSTUDY_TEST_SEED is a number"),
        Err(_) => 7410,
    };
    eprintln!("UNDERSTUDY_TEST_SEED={seed}");
    seed
}

/// SplitMix64: small, fast, good enough for content that no codec can shrink.
pub struct Rng(u64);

impl Rng {
    /// A generator that always gives the same run for the same seed.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        assert!(limit > 0, "an empty range has no numbers");
        self.bits() % limit
    }

    /// Fills a buffer with incompressible bytes.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for piece in buffer.chunks_mut(8) {
            piece.copy_from_slice(&self.bits().to_le_bytes()[..piece.len()]);
        }
    }

    /// Incompressible bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes);
        bytes
    }
}
