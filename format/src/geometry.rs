//! The geometry of a volume: its size, its block size, and what follows from the two.
//!
//! Invariants: a size is a multiple of 512 and at least 512; only the last block may be shorter
//! than the block size; a [`BlockId`] is an index, a byte offset is a `u64` named `offset`.

use crate::error::{FormatError, Result};
use crate::layout::{Field, check_range};
use std::fmt;
use std::str::FromStr;

/// Smallest block, bytes.
pub const BLOCK_SIZE_MIN: u32 = 4 << 10;
/// Largest block, bytes.
pub const BLOCK_SIZE_MAX: u32 = 1 << 20;
/// The block size of a volume for which none was chosen, bytes.
pub const BLOCK_SIZE_DEFAULT: u32 = 64 << 10;
/// Volume sizes are multiples of this, bytes: the sector of every protocol that serves them.
pub const SECTOR: u64 = 512;
/// Largest volume, bytes: offsets fit in a signed 64-bit file offset with room for one block.
pub const VOLUME_SIZE_MAX: u64 = 1 << 62;

/// The index of a block in its volume, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u64);

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Field for BlockId {
    const SIZE: usize = 8;
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn get(bytes: &[u8]) -> Self {
        Self(u64::get(bytes))
    }
}

/// The size of a volume's blocks: a power of two from 4 KiB to 1 MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSize(u32);

impl BlockSize {
    /// A block size of `bytes`.
    pub fn new(bytes: u32) -> Result<Self> {
        check_range("block size", "bytes", bytes.into(), BLOCK_SIZE_MIN.into(), BLOCK_SIZE_MAX.into())?;
        match bytes.is_power_of_two() {
            true => Ok(Self(bytes)),
            false => Err(FormatError::invalid("block size", format!("{bytes} is not a power of two"))),
        }
    }

    /// Bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }
}

impl Default for BlockSize {
    fn default() -> Self {
        Self(BLOCK_SIZE_DEFAULT)
    }
}

impl fmt::Display for BlockSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}K", self.0 >> 10)
    }
}

impl FromStr for BlockSize {
    type Err = FormatError;

    /// Reads `65536`, `64K`, `64KiB` or `1M`.
    fn from_str(text: &str) -> Result<Self> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = match text[digits.len()..].trim_end_matches("iB") {
            "" => Some(1),
            "K" | "k" => Some(1 << 10),
            "M" | "m" => Some(1 << 20),
            _ => None,
        };
        let bytes = unit.and_then(|unit| digits.parse::<u32>().ok()?.checked_mul(unit));
        let bytes = bytes.filter(|_| !text.starts_with('+'));
        let expected = "expected a size such as 65536, 64K or 1M";
        Self::new(bytes.ok_or_else(|| FormatError::invalid("block size", format!("{text:?}: {expected}")))?)
    }
}

/// A volume's size and block size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    volume_size: u64,
    block_size: BlockSize,
}

impl Geometry {
    /// The geometry of a volume of `volume_size` bytes.
    ///
    /// Refuses an empty volume and sizes that are not a multiple of 512: no block protocol can
    /// serve the remainder, so the secondary could not be attached.
    pub fn new(volume_size: u64, block_size: BlockSize) -> Result<Self> {
        let refuse = |reason: String| Err(FormatError::invalid("volume", reason));
        if volume_size == 0 {
            return refuse("its size is 0 bytes: there is nothing to replicate".into());
        }
        if !volume_size.is_multiple_of(SECTOR) {
            let more = SECTOR - volume_size % SECTOR;
            return refuse(format!(
                "its size of {volume_size} bytes is not a multiple of 512 (block devices have whole sectors): \
                 extend it by {more} bytes or name another source"
            ));
        }
        check_range("volume", "size", volume_size, SECTOR, VOLUME_SIZE_MAX)?;
        Ok(Self { volume_size, block_size })
    }

    /// The geometry from the two numbers of a header.
    pub fn from_wire(volume_size: u64, block_size: u32) -> Result<Self> {
        Self::new(volume_size, BlockSize::new(block_size)?)
    }

    /// Bytes of the whole volume.
    pub fn volume_size(&self) -> u64 {
        self.volume_size
    }

    /// The block size.
    pub fn block_size(&self) -> BlockSize {
        self.block_size
    }

    /// The number of blocks, the short last one included.
    pub fn block_count(&self) -> u64 {
        self.volume_size.div_ceil(self.block_size.0.into())
    }

    /// Where a block starts, bytes from the start of the volume.
    pub fn offset(&self, block: BlockId) -> u64 {
        block.0 * u64::from(self.block_size.0)
    }

    /// The block that holds the byte at `offset`.
    pub fn block_at(&self, offset: u64) -> BlockId {
        BlockId(offset / u64::from(self.block_size.0))
    }

    /// The length of a block in bytes: the block size, or less for the last one.
    ///
    /// The block must be one of the volume's.
    pub fn block_len(&self, block: BlockId) -> u32 {
        let left = self.volume_size - self.offset(block);
        left.min(self.block_size.0.into()) as u32
    }

    /// The bytes of `count` blocks from `first`, as a range within the volume.
    pub fn byte_range(&self, first: BlockId, count: u64) -> std::ops::Range<u64> {
        self.offset(first)..self.offset(BlockId(first.0 + count)).min(self.volume_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_block_is_shorter() {
        let g = Geometry::new(65536 * 2 + 512, BlockSize::default()).unwrap();
        assert_eq!(g.block_count(), 3);
        assert_eq!((g.block_len(BlockId(1)), g.block_len(BlockId(2))), (65536, 512));
        assert_eq!(g.byte_range(BlockId(1), 2), 65536..65536 * 2 + 512);
    }

    #[test]
    fn sizes_that_are_no_whole_sectors_are_refused_with_the_reason() {
        let text = Geometry::new(1000, BlockSize::default()).unwrap_err().to_string();
        assert!(
            text.contains("1000 bytes is not a multiple of 512") && text.contains("extend it by 24 bytes"),
            "{text}"
        );
        assert!(Geometry::new(0, BlockSize::default()).unwrap_err().to_string().contains("0 bytes"));
        assert!(Geometry::new(u64::MAX - 511, BlockSize::default()).is_err());
    }

    #[test]
    fn block_sizes_are_read_as_people_write_them() {
        for (text, bytes) in [("4096", 4096), ("64K", 65536), ("64KiB", 65536), ("1M", 1 << 20)] {
            assert_eq!(text.parse::<BlockSize>().unwrap().bytes(), bytes);
        }
        for text in ["", "K", "64X", "2M", "2K", "65537", "99999999999M", "-4K", "+64K"] {
            assert!(text.parse::<BlockSize>().is_err(), "{text}");
        }
    }
}
