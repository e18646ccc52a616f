//! A window over a file that is read from front to back: few large reads, bounded memory, never a write.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of one read.
const WINDOW: usize = 4 << 20;

/// See the module documentation.
#[derive(Debug)]
pub struct Window {
    file: File,
    length: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// A window over the file as long as it is now; what is appended later is not seen.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length, start: 0, bytes: Vec::new() })
    }

    /// Length of the file when it was opened, bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The `count` bytes at `offset`, or as many as the file has there.
    pub fn at(&mut self, offset: u64, count: usize) -> io::Result<&[u8]> {
        let count = (self.length.saturating_sub(offset)).min(count as u64) as usize;
        let held = self.start..=self.start + self.bytes.len() as u64;
        if !(held.contains(&offset) && held.contains(&(offset + count as u64))) {
            self.fill(offset, count)?;
        }
        Ok(&self.bytes[(offset - self.start) as usize..][..count])
    }

    fn fill(&mut self, offset: u64, count: usize) -> io::Result<()> {
        let wanted = self.length.saturating_sub(offset).min(count.max(WINDOW) as u64) as usize;
        self.bytes.resize(wanted, 0);
        self.start = offset;
        self.file.read_exact_at(&mut self.bytes, offset)
    }
}
