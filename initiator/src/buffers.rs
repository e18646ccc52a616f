//! The buffers of a run: a fixed number of pieces, handed around and never freed while it runs.
//!
//! Invariants: a buffer that is dropped, in whatever stage, is back in the pool; every piece that
//! was read and not yet dealt with holds one, so the number of buffers bounds the memory of the whole
//! pipeline ([`count`] × 1 MiB, whatever the size of the volume). The buffer given back last is
//! handed out first, so that a fast receiver keeps the pipeline within the processor's cache.

use crate::cutter::PIECE_MAX;
use bytes::BytesMut;
use std::sync::{Arc, Mutex};
use understudy_format::codec::encoded_room;
use understudy_format::geometry::BLOCK_SIZE_MAX;
use understudy_net::aligned;

/// Buffers for `workers` worker threads: a window of chunks in flight, a few packed ones, and
/// two for each worker.
pub fn count(workers: usize) -> usize {
    24 + 2 * workers
}

/// Where buffers rest; see the module documentation.
pub struct Pool {
    resting: Mutex<Vec<BytesMut>>,
    returned: Box<dyn Fn() + Send + Sync>,
}

impl Pool {
    /// A pool of `count` buffers that calls `returned` after one came back.
    pub fn new(count: usize, returned: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        let resting = (0..count).map(|_| blank()).collect();
        Arc::new(Self { resting: Mutex::new(resting), returned: Box::new(returned) })
    }

    /// A buffer, if one is there.
    pub fn take(self: &Arc<Self>) -> Option<Buffer> {
        let bytes = self.resting.lock().expect("no panic while locked").pop()?;
        Some(Buffer { bytes, pool: self.clone() })
    }
}

/// A blank buffer: a piece, and room for the compressed form of its last block.
pub fn blank() -> BytesMut {
    let last = BLOCK_SIZE_MAX as usize;
    // Untouched pages of a large zeroed allocation cost no memory.
    aligned::zeroed(PIECE_MAX - last + encoded_room(last))
}

/// A buffer out of a [`Pool`].
pub struct Buffer {
    bytes: BytesMut,
    pool: Arc<Pool>,
}

impl Buffer {
    /// The bytes, at least [`PIECE_MAX`] of them.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Exchanges the bytes for others of the same length.
    pub fn swap(&mut self, other: &mut BytesMut) {
        debug_assert_eq!(self.bytes.len(), other.len());
        std::mem::swap(&mut self.bytes, other);
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.pool.resting.lock().expect("no panic while locked").push(bytes);
        (self.pool.returned)();
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.bytes.len())
    }
}
