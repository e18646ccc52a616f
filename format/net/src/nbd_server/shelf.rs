//! Buffers for replies, used again: a fresh 256 KiB buffer costs more in page faults than its read.
//!
//! Invariants: the shelf keeps at most [`KEPT_MAX`] bytes; every byte of a buffer is initialised, with
//! whatever an earlier reply left there. A buffer returns by being dropped, on whichever thread.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Most bytes kept for later.
const KEPT_MAX: usize = 64 << 20;
/// Room beside a power of two, for the head of a reply.
const HEAD_ROOM: usize = 64;
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
    /// A buffer of `len` bytes of any content.
    pub(super) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let room = room_for(len);
        let memory = self.stocked(room).unwrap_or_else(|| vec![0; room]);
        Buffer {
            memory,
            len,
            shelf: Some(Arc::clone(self)),
        }
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

/// Few distinct lengths, so that what was returned fits what is asked for next.
fn room_for(len: usize) -> usize {
    len.saturating_sub(HEAD_ROOM).next_power_of_two() + HEAD_ROOM
}

/// Bytes of a reply.
pub(super) struct Buffer {
    memory: Vec<u8>,
    len: usize,
    /// Where it returns to; small ones do not.
    shelf: Option<Arc<Shelf>>,
}

impl From<Vec<u8>> for Buffer {
    fn from(memory: Vec<u8>) -> Self {
        Self {
            len: memory.len(),
            memory,
            shelf: None,
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
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
        let first = shelf.take(262_144 + 28).as_ptr();
        assert_eq!(shelf.take(262_144 + 16).as_ptr(), first);
    }

    #[test]
    fn the_shelf_keeps_no_more_than_its_maximum() {
        let shelf = Arc::new(Shelf::default());
        let buffers: Vec<_> = (0..5).map(|_| shelf.take(32 << 20)).collect();
        drop(buffers);
        assert!(shelf.stock.lock().unwrap().kept <= KEPT_MAX);
    }
}
