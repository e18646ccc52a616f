//! Runs of an export with one status each, as `NBD_CMD_BLOCK_STATUS` reports them.
//!
//! Invariant of what [`fit`] returns: no empty run, no two neighbours with equal flags, never more
//! bytes than asked for and never more than [`EXTENTS_MAX`] runs. It must not interpret flags: their
//! meaning belongs to the metadata context.

/// `base:allocation`: not allocated in the storage behind the export.
pub const STATE_HOLE: u32 = 1;
/// `base:allocation`: reads as zeroes.
pub const STATE_ZERO: u32 = 2;
/// Most runs in one reply for one context; a client asks again from where they end. 32 KiB on the wire.
pub const EXTENTS_MAX: usize = 4096;

/// A run of bytes with one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Length, in bytes.
    pub length: u64,
    /// Status, with the meaning that its context gives it.
    pub flags: u32,
}

impl Extent {
    /// A run that holds, or may hold, data (`base:allocation`).
    pub const fn data(length: u64) -> Self {
        Self { length, flags: 0 }
    }

    /// A run without storage that reads as zeroes (`base:allocation`).
    pub const fn hole(length: u64) -> Self {
        Self { length, flags: STATE_HOLE | STATE_ZERO }
    }
}

/// Makes `extents`, which start at a request's offset, sendable as the answer to a request of
/// `length` bytes: clipped, merged and bounded; a single run when `one` is set.
pub fn fit(extents: impl IntoIterator<Item = Extent>, length: u64, one: bool) -> Vec<Extent> {
    let count_max = if one { 1 } else { EXTENTS_MAX };
    let mut left = length;
    let mut fitted: Vec<Extent> = Vec::new();
    for Extent { length, flags } in extents {
        let length = length.min(left);
        left -= length;
        let full = fitted.len() == count_max;
        match fitted.last_mut() {
            _ if length == 0 => {}
            Some(last) if last.flags == flags => last.length += length,
            _ if full => break,
            _ => fitted.push(Extent { length, flags }),
        }
    }
    fitted
}
