//! The volume that everybody copies: half of it can be compressed, none of it is zero, nothing is there twice.
//!
//! Each 64 KiB block is 32 KiB of random bytes, then 32 KiB of lines as they stand in logs, with numbers, names and
//! times that differ (LZ4 makes about a third of them, at the speed that such text takes). Random bytes and numbers come from
//! the block's number and its version, so the same command makes the same volume everywhere.

use anyhow::Context;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes of a block.
const BLOCK: usize = 64 << 10;
/// Blocks that are made and written at once.
const BATCH: u64 = 64;
/// Words of the text.
const WORDS: [&str; 16] = [
    "connection",
    "volume",
    "request",
    "accepted",
    "refused",
    "timeout",
    "session",
    "restored",
    "snapshot",
    "attached",
    "replicated",
    "user",
    "backend",
    "retrying",
    "completed",
    "storage",
];

/// See the module documentation.
#[derive(Debug)]
pub struct Volume {
    path: PathBuf,
    blocks: u64,
}

impl Volume {
    /// Writes the volume, and waits until it is on the disk, so that nobody pays for it later.
    pub fn make(path: &Path, size: u64) -> anyhow::Result<Self> {
        let file = File::create(path).context("cannot make the volume")?;
        let blocks = size / BLOCK as u64;
        for first in (0..blocks).step_by(BATCH as usize) {
            let count = BATCH.min(blocks - first);
            let bytes: Vec<u8> = (first..first + count).flat_map(|number| block(number, 0)).collect();
            file.write_all_at(&bytes, first * BLOCK as u64).context("cannot write the volume")?;
        }
        file.sync_all().context("cannot write the volume")?;
        Ok(Self { path: path.to_owned(), blocks })
    }

    /// Reads it once, so that everybody finds it in the page cache.
    pub fn warm(&self) -> anyhow::Result<()> {
        let mut file = File::open(&self.path).context("cannot read the volume")?;
        let mut buffer = vec![0; 4 << 20];
        while file.read(&mut buffer).context("cannot read the volume")? > 0 {}
        Ok(())
    }

    /// Replaces every block: of the version before, a secondary has nothing left.
    pub fn change_all(&mut self) -> anyhow::Result<()> {
        self.replace(0, 1, u64::MAX)
    }

    /// Replaces every hundredth block, other ones each round.
    pub fn change(&mut self, round: u64) -> anyhow::Result<()> {
        self.replace(round % 100, 100, round + 1)
    }

    fn replace(&mut self, first: u64, step: usize, version: u64) -> anyhow::Result<()> {
        let file = File::options().write(true).open(&self.path).context("cannot change the volume")?;
        for number in (first..self.blocks).step_by(step) {
            file.write_all_at(&block(number, version), number * BLOCK as u64).context("cannot change the volume")?;
        }
        file.sync_all().context("cannot change the volume")
    }
}

/// One block of the volume.
fn block(number: u64, version: u64) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let (random, text) = block.split_at_mut(BLOCK / 2);
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"understudy bench").update(&number.to_le_bytes()).update(&version.to_le_bytes());
    hasher.finalize_xof().fill(random);
    write_log(text, hasher.finalize_xof());
    block
}

/// Fills `text` with log lines whose words and numbers come from `random`.
fn write_log(text: &mut [u8], mut random: blake3::OutputReader) {
    let mut written = 0;
    while written < text.len() {
        let mut seed = [0; 8];
        random.fill(&mut seed);
        let word = |at: usize| WORDS[usize::from(seed[at] % 16)];
        let (pid, time) = (u16::from_le_bytes([seed[0], seed[1]]), u32::from_le_bytes([seed[2], seed[3], seed[4], 0]));
        let line = format!(
            "2026-11-21T10:{:02}:{:02}.{time:08} host-{:02} service[{pid}]: {} {} {} in {} ms\n",
            seed[5] % 60,
            seed[6] % 60,
            seed[7] % 8,
            word(5),
            word(6),
            word(7),
            seed[1],
        );
        let length = line.len().min(text.len() - written);
        text[written..written + length].copy_from_slice(&line.as_bytes()[..length]);
        written += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_format::codec::encode_into;

    #[test]
    fn blocks_are_half_compressible_and_all_different() {
        let (a, b) = (block(1, 0), block(2, 0));
        assert!(a != b && a != block(1, 1) && a == block(1, 0));
        let mut encoded = Vec::new();
        encode_into(&a, &mut encoded);
        assert!((BLOCK * 60 / 100..BLOCK * 75 / 100).contains(&encoded.len()), "{}", encoded.len());
    }
}
