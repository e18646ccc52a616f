//! One overlay: an export that may be written, over another that is not.
//!
//! A read takes each granule from where it is owned; a write takes the rest of a granule that it writes for the first time,
//! and only in part, from the export below. Invariants: data is written before its granules are owned, in memory
//! ([`Bits`]) as on the disk ([`Overlay::flush`]); writes that meet are done one after the other ([`Claims`]); what is not owned
//! has no meaning in the data file, so it is overwritten before it is owned; the pool's reserve of space is left alone. After a
//! failed sync nothing is read or written any more, until the overlay is opened again; what it shows then is what the disk has, and
//! durable ([`Overlay::renew`]).

use super::bits::Bits;
use super::files::Files;
use crate::error::Error;
use crate::locks::lock;
use crate::pool::space::Space;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};
use understudy_format::nbd::{
    BASE_ALLOCATION, BlockSizes, EXTENTS_MAX, Errno, Extent, Failure, Geometry, STATE_ZERO, Span, TransmissionFlags,
};
use understudy_format::overlay::GRANULE;
use understudy_net::claims::{Claim, Claims};
use understudy_net::export::{Content, Export, Parts, Zeroing};
use uuid::Uuid;

/// Zeros that are written where a client wants them allocated.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// See the module documentation.
#[derive(Debug)]
pub struct Overlay {
    name: String,
    base: Base,
    size: u64,
    space: Space,
    files: Files,
    bits: Bits,
    claims: Claims,
    flushing: Mutex<()>,
    end: OnceLock<End>,
}

/// The export below.
struct Base(Arc<dyn Export>);

impl std::fmt::Debug for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.name())
    }
}

/// Why nothing is read or written any more.
#[derive(Debug)]
enum End {
    /// A sync failed: also what was taken from below may be lost of granules that are owned in memory.
    Broken(String),
    /// It was discarded.
    Discarded,
}

impl Overlay {
    pub(super) fn new(base: Arc<dyn Export>, files: Files, space: Space, boot: Uuid) -> Self {
        let (name, size) = (format!("{}{}", base.name(), super::SUFFIX), base.geometry().size);
        let bits = Bits::new(files.owned.clone(), files.pending.clone(), boot);
        let (claims, flushing, end) = Default::default();
        Self { name, base: Base(base), size, space, files, bits, claims, flushing, end }
    }

    /// Whether a sync failed: it must be opened again.
    pub fn is_broken(&self) -> bool {
        matches!(self.end.get(), Some(End::Broken(_)))
    }

    /// Nobody reads or writes from now on; returns when nobody does any more.
    pub(super) fn discard(&self) {
        let _all = self.claims.all();
        let _ = self.end.set(End::Discarded);
    }

    /// Bytes that are owned.
    pub fn owned_bytes(&self) -> io::Result<u64> {
        Ok((self.bits.count()? * GRANULE).min(self.size))
    }

    /// Nothing is written as long as this is held.
    pub(super) fn hold_still(&self) -> Claim<'_> {
        self.claims.all()
    }

    /// The first owned byte at or after `from`.
    pub(super) fn next_owned(&self, from: u64) -> io::Result<Option<u64>> {
        let next = self.bits.next_owned(from / GRANULE)?;
        Ok(next.map(|granule| (granule * GRANULE).max(from)))
    }

    fn check(&self) -> Result<(), Failure> {
        let name = &self.name;
        match self.end.get() {
            None => Ok(()),
            Some(End::Discarded) => Err(Failure::new(Errno::Shutdown, format!("{name} was discarded"))),
            Some(End::Broken(why)) => Err(Failure::new(
                Errno::Io,
                format!(
                    "{name} stopped after an error: {why}; check the disk of the pool, then detach and attach again"
                ),
            )),
        }
    }

    /// Remembers that a sync failed: what it was about may be lost.
    fn broken(&self, error: io::Error) -> Failure {
        tracing::error!(overlay = self.name, %error, "a scratch overlay could not be made durable");
        let _ = self.end.set(End::Broken(error.to_string()));
        let _still = self.claims.all();
        if let Err(error) = self.bits.forget_pending() {
            tracing::error!(overlay = self.name, %error, "what was not flushed may come back in part");
        }
        self.forget_cached();
        error.into()
    }

    /// After a failed sync the system still shows what it will never write.
    fn forget_cached(&self) {
        self.files.data.forget_cached();
        self.files.owned.forget_cached();
    }

    /// After a failed sync, and before anything else: what is found is durable from now on.
    pub(super) fn renew(&self) -> io::Result<()> {
        self.forget_cached();
        self.files.data.sync()?;
        // Bits are overwritten only once their other slot is sure to stay.
        self.files.owned.sync()?;
        self.bits.renew()?;
        self.files.owned.sync()
    }

    /// The granules that `bytes` touches.
    fn granules(bytes: &Range<u64>) -> Range<u64> {
        bytes.start / GRANULE..bytes.end.div_ceil(GRANULE)
    }

    /// The whole granules within `bytes`; the last one of the export may be shorter than others.
    fn inner(&self, bytes: &Range<u64>) -> Range<u64> {
        let end = if bytes.end == self.size { bytes.end } else { bytes.end / GRANULE * GRANULE };
        let start = bytes.start.next_multiple_of(GRANULE).min(end);
        start..end
    }

    /// Whether the granule at `from` is owned, and up to where, at most `end`, that stays so.
    fn run(&self, from: u64, end: u64) -> io::Result<(bool, u64)> {
        let first = from / GRANULE;
        let (owned, count) = self.bits.run(first, end.div_ceil(GRANULE) - first)?;
        Ok((owned, ((first + count) * GRANULE).min(end)))
    }

    fn read_owned(&self, offset: u64, buffer: &mut [u8]) -> io::Result<Content> {
        if self.files.data.next_data(offset)? >= offset + buffer.len() as u64 {
            return Ok(Content::Zeroes);
        }
        self.files.data.read_at(buffer, offset)?;
        Ok(Content::Data)
    }

    /// Writes within a claim.
    fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        let range = offset..offset + bytes.len() as u64;
        let granules = Self::granules(&range);
        self.space.check(bytes.len() as u64 + 2 * GRANULE).map_err(failure)?;
        self.copy_up(granules.start * GRANULE..range.start)?;
        self.copy_up(range.end..(granules.end * GRANULE).min(self.size))?;
        self.files.data.write_at(bytes, offset)?;
        Ok(self.bits.own(granules)?)
    }

    /// Takes a part of a granule from below, unless it is owned.
    fn copy_up(&self, range: Range<u64>) -> Result<(), Failure> {
        if range.is_empty() || self.bits.run(range.start / GRANULE, 1)?.0 {
            return Ok(());
        }
        let mut rest = [0; GRANULE as usize];
        let rest = &mut rest[..(range.end - range.start) as usize];
        if self.base.0.read(range.start, rest)? == Content::Zeroes {
            rest.fill(0);
        }
        Ok(self.files.data.write_at(rest, range.start)?)
    }

    /// Makes whole granules zero, within a claim; those that are zero below stay there.
    fn clear(&self, range: Range<u64>) -> Result<(), Failure> {
        let mut from = range.start;
        while from < range.end {
            let (owned, end) = self.run(from, range.end)?;
            if owned {
                self.files.data.zero(from, end - from)?;
                from = end;
                continue;
            }
            for extent in self.base.0.extents(BASE_ALLOCATION, span(from..end), false)? {
                let extent_end = (from + extent.length).min(end);
                if extent.flags & STATE_ZERO == 0 {
                    self.own_zeros(from..extent_end)?;
                }
                from = extent_end;
            }
        }
        Ok(())
    }

    fn own_zeros(&self, range: Range<u64>) -> Result<(), Failure> {
        let granules = Self::granules(&range);
        let (start, end) = (granules.start * GRANULE, (granules.end * GRANULE).min(self.size));
        self.files.data.zero(start, end - start)?;
        Ok(self.bits.own(granules)?)
    }

    /// Writes zeros within a claim, so that they have storage.
    fn put_zeros(&self, range: Range<u64>) -> Result<(), Failure> {
        let mut from = range.start;
        while from < range.end {
            let length = (range.end - from).min(ZEROS.len() as u64);
            self.put(from, &ZEROS[..length as usize])?;
            from += length;
        }
        Ok(())
    }

    /// After a change: makes it durable when that is asked for, or when too much is not.
    fn settle(&self, fua: bool) -> Result<(), Failure> {
        if fua || self.bits.is_crowded() { self.flush() } else { Ok(()) }
    }
}

impl Export for Overlay {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn describe(&self) -> String {
        format!("scratch overlay over {}", self.base.0.describe())
    }

    fn geometry(&self) -> Geometry {
        use TransmissionFlags as Flags;
        let mut flags = Flags::SEND_FLUSH | Flags::SEND_FUA | Flags::SEND_TRIM | Flags::SEND_WRITE_ZEROES;
        flags = flags | Flags::CAN_MULTI_CONN;
        if self.files.data.frees() {
            flags = flags | Flags::SEND_FAST_ZERO;
        }
        let blocks = BlockSizes { preferred: GRANULE as u32, ..BlockSizes::default() };
        Geometry { size: self.size, blocks, flags }
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<Content, Failure> {
        self.check()?;
        let end = offset + buffer.len() as u64;
        let (mut from, mut parts) = (offset, Parts::of(buffer));
        while from < end {
            let (owned, run_end) = self.run(from, end)?;
            parts.put((run_end - from) as usize, |part| match owned {
                true => Ok(self.read_owned(from, part)?),
                false => self.base.0.read(from, part),
            })?;
            from = run_end;
        }
        Ok(parts.content())
    }

    fn extents(&self, context: &str, range: Span, one: bool) -> Result<Vec<Extent>, Failure> {
        self.check()?;
        let end = range.offset + range.length;
        let (mut from, mut extents) = (range.offset, Vec::new());
        while from < end && extents.len() < if one { 1 } else { EXTENTS_MAX } {
            let (owned, run_end) = self.run(from, end)?;
            if owned {
                let data = self.files.data.next_data(from)?.min(run_end);
                extents.push(if data > from { Extent::hole(data - from) } else { Extent::data(run_end - from) });
                from = if data > from { data } else { run_end };
                continue;
            }
            let below = self.base.0.extents(context, span(from..run_end), one)?;
            from = below.iter().fold(from, |from, extent| from + extent.length).min(run_end);
            extents.extend(below);
        }
        Ok(extents)
    }

    fn write(&self, offset: u64, data: &[u8], fua: bool) -> Result<(), Failure> {
        let claim = self.claims.take(Self::granules(&(offset..offset + data.len() as u64)));
        self.check()?;
        self.put(offset, data)?;
        drop(claim);
        self.settle(fua)
    }

    /// Data first, then the bits that own it: each durable before the next step.
    fn flush(&self) -> Result<(), Failure> {
        let _one = lock(&self.flushing);
        self.check()?;
        let taken = self.bits.take();
        self.files.data.sync().map_err(|error| self.broken(error))?;
        if taken.is_empty() {
            return Ok(());
        }
        self.bits.store(&taken)?;
        self.files.owned.sync().map_err(|error| self.broken(error))
    }

    fn trim(&self, range: Span, fua: bool) -> Result<(), Failure> {
        let inner = self.inner(&bytes(range));
        let claim = self.claims.take(Self::granules(&inner));
        self.check()?;
        self.clear(inner)?;
        drop(claim);
        self.settle(fua)
    }

    fn write_zeroes(&self, range: Span, how: Zeroing) -> Result<(), Failure> {
        if how.fast && how.no_hole {
            return Err(Failure::new(Errno::NotSupported, "zeros that keep their storage are as slow as a write"));
        }
        let range = bytes(range);
        let claim = self.claims.take(Self::granules(&range));
        self.check()?;
        let inner = if how.no_hole { range.end..range.end } else { self.inner(&range) };
        self.put_zeros(range.start..inner.start.min(range.end))?;
        self.clear(inner.clone())?;
        self.put_zeros(inner.end.max(range.start)..range.end)?;
        drop(claim);
        self.settle(how.fua)
    }
}

fn bytes(span: Span) -> Range<u64> {
    span.offset..span.offset + span.length
}

fn span(range: Range<u64>) -> Span {
    Span { offset: range.start, length: range.end - range.start }
}

fn failure(error: Error) -> Failure {
    let errno = match error.kind() {
        understudy_format::ErrorKind::Full => Errno::NoSpace,
        _ => Errno::Io,
    };
    Failure::new(errno, error.to_string())
}
