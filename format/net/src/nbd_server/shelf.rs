//! Buffers for replies, used again: a fresh 256 KiB buffer costs more in page faults than its read.
//!
//! Invariants: the shelf keeps at most [`KEPT_MAX`] bytes; every byte of a buffer is initialised, with
//! whatever an earlier reply left there. A buffer returns by being dropped, on whichever thread.
//! Content starts at a multiple of [`ALIGNMENT`] in memory, with the head right before it: copying to
//! an odd address takes four times as long on some processors.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut, Range};
use std::sync::{Arc, Mutex, PoisonError};

/// Most bytes kept for later.
const KEPT_MAX: usize = 64 << 20;
/// Alignment of content: a cache line.
const ALIGNMENT: usize = 64;
/// Longest head of a reply.
const HEAD_MAX: usize = 64;
/// Room beside the content: the head, and what alignment takes.
const ROOM: usize = HEAD_MAX + ALIGNMENT;
/// Replies below this are allocated anew each time.
const SHELVED_MIN: usize = 2048;

#[derive(Default)]
pub(super) struct Shelf {
    stock: Mutex<Stock>,
}

#[derive(Default)]
struct Stock {
    kept: usize,
    /// By length.
    buffers: BTreeMap<usize, Vec<Vec<u8>>>,
}

impl Shelf {
    /// A buffer for `head` bytes, at most [`HEAD_MAX`], and `content` bytes after them, of any value.
    pub(super) fn take(self: &Arc<Self>, head: usize, content: usize) -> Buffer {
        // Few distinct lengths, so that what was returned fits what is asked for next.
        let room = content.next_power_of_two() + ROOM;
        let memory = self.stocked(room).unwrap_or_else(|| vec![0; room]);
        let content_at = HEAD_MAX + memory[HEAD_MAX..].as_ptr().align_offset(ALIGNMENT);
        let span = content_at - head..content_at + content;
        Buffer { memory, span, shelf: Some(Arc::clone(self)) }
    }

    fn stocked(&self, room: usize) -> Option<Vec<u8>> {
        let mut stock = self.stock.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = stock.buffers.get_mut(&room)?.pop()?;
        stock.kept -= memory.len();
        Some(memory)
    }

    fn give_back(&self, memory: Vec<u8>) {
        let mut stock = self.stock.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.len() < SHELVED_MIN || stock.kept + memory.len() > KEPT_MAX {
            return;
        }
        stock.kept += memory.len();
        stock.buffers.entry(memory.len()).or_default().push(memory);
    }
}

/// Bytes of a reply.
pub(super) struct Buffer {
    memory: Vec<u8>,
    span: Range<usize>,
    /// Where it returns to; small ones do not.
    shelf: Option<Arc<Shelf>>,
}

impl From<Vec<u8>> for Buffer {
    fn from(memory: Vec<u8>) -> Self {
        Self { span: 0..memory.len(), memory, shelf: None }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.span.clone()]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.span.clone()]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(shelf) = &self.shelf {
            shelf.give_back(std::mem::take(&mut self.memory));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_for_a_read_of_the_same_size() {
        let shelf = Arc::new(Shelf::default());
        let first = shelf.take(28, 262_144).memory.as_ptr();
        assert_eq!(shelf.take(16, 262_144).memory.as_ptr(), first);
    }

    #[test]
    fn the_shelf_keeps_no_more_than_its_maximum() {
        let shelf = Arc::new(Shelf::default());
        let buffers: Vec<_> = (0..5).map(|_| shelf.take(28, 32 << 20)).collect();
        drop(buffers);
        assert!(shelf.stock.lock().unwrap().kept <= KEPT_MAX);
    }

    #[test]
    fn content_is_aligned_whatever_the_length_of_the_head() {
        let shelf = Arc::new(Shelf::default());
        for head in [0, 16, 28, HEAD_MAX] {
            let buffer = shelf.take(head, 4096);
            assert_eq!(buffer.len(), head + 4096);
            assert_eq!(buffer[head..].as_ptr().align_offset(ALIGNMENT), 0);
        }
    }
}
