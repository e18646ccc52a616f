//! Points as NBD exports: `NAME` is the newest point of a volume, `NAME@POINT` any of them, `NAME@TIME` and `NAME@now` a moment between
//! two where a journal has one; with `+w`, the scratch overlay of a point.
//!
//! Invariants: an export stays the point that it was when the client opened it, also when newer points
//! come; it is read-only, what is written goes to an [`overlay`](crate::overlay); nothing is read that the map does not name. A block
//! status looks at [`LOOKS_MAX`] blocks one by one at most, however much was asked for: the client asks on from there.

mod image;
mod since;

use crate::access::{Peer, Right};
use crate::clock;
use crate::daemon::Daemon;
use crate::error::{Error, Result};
use crate::moments::{self, Opened};
use crate::overlay::{Overlays, SUFFIX};
use crate::pool::VolumeEntry;
use crate::secondary::Secondaries;
use crate::view::PointView;
use image::{From, Image, KnownParts, known_parts};
use since::Others;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use understudy_format::nbd::{BASE_ALLOCATION, BlockSizes, Runs, STATE_HOLE, STATE_ZERO};
use understudy_format::nbd::{Errno, ExportName, Extent, Failure, Geometry, Span};
use understudy_format::point::{Point, Volume};
use understudy_format::select::PointName;
use understudy_format::wire::{OverlayInfo, OverlayStatus};
use understudy_format::{BlockId, Digest};
use understudy_net::export::{Catalog, Content, Export, OpenError, Parts, Visitor};

/// What exports use their points for.
pub const USE: &str = "an export";

/// Everything of a pool that can be opened over NBD, by whom it is for.
#[derive(Debug)]
pub struct PoolCatalog {
    daemon: Arc<Daemon>,
    overlays: Arc<Overlays>,
    parts: Arc<KnownParts>,
    controlled: bool,
}

impl PoolCatalog {
    /// The exports of the daemon's pool; times in export names are in its time zone. With `controlled` only clients see any.
    pub fn new(daemon: Arc<Daemon>, overlays: Arc<Overlays>, controlled: bool) -> Self {
        Self { daemon, overlays, parts: Arc::new(known_parts()), controlled }
    }

    fn find(&self, name: &str, peer: &Peer) -> Result<Arc<dyn Export>> {
        if let Some(name) = name.strip_suffix(SUFFIX) {
            let Opened { volume, point, .. } = self.point(name, peer, Right::Restore)?;
            let overlay = self.overlays.open(&volume, &point, clock::now_ns())?;
            // Asked with the overlay in hand, which nobody makes a point of then.
            self.daemon.journals.check_writable(&volume.name, point.number)?;
            return Ok(overlay);
        }
        let Opened { volume, point, hold } = self.point(name, peer, Right::Read)?;
        let view = PointView::open(&self.daemon.pool, &volume, &point, USE)?;
        drop(hold);
        Ok(Arc::new(PointExport::new(view, &self.daemon.secondaries, &self.parts)))
    }

    fn point(&self, name: &str, peer: &Peer, right: Right) -> Result<Opened> {
        let Daemon { pool, journals, access, zone, .. } = &*self.daemon;
        let wanted = PointName::parse(name, zone)?;
        let (volume, selector) = (&wanted.volume, &wanted.selector);
        let unknown = || Error::refused(format!("there is no volume {volume}; \"understudy volumes\" lists them"));
        pool.volume(volume).filter(|_| access.sees(peer, volume)).ok_or_else(unknown)?;
        access.may(peer, right, Some(volume))?;
        let none = || {
            let all = format!("\"understudy points {volume}\" lists them");
            Error::refused(format!("volume {volume} has no point {selector}; {all}"))
        };
        moments::find(pool, journals, &wanted)?.ok_or_else(none)
    }

    /// Who asks; nobody, when there is access control and no client is known by the certificate.
    fn peer(&self, visitor: &Visitor) -> Option<Peer> {
        match visitor {
            _ if !self.controlled => Some(Peer::Local),
            Visitor::Unknown => None,
            Visitor::Certified(der) => {
                self.daemon.access.by_certificate(&Digest::of_certificate(der)).map(Peer::Client)
            }
        }
    }

    fn open_for(&self, name: &str, visitor: &Visitor) -> Result<Arc<dyn Export>> {
        let unknown =
            || Error::refused("no certificate of a client was shown: `understudy login` on this host gets one");
        let peer = self.peer(visitor).ok_or_else(unknown)?;
        let export = self.find(name, &peer)?;
        if let Peer::Client(_) = peer {
            self.daemon.access.audit.record("open", &peer, &export.name())?;
        }
        Ok(export)
    }

    /// Whether who has opened an export may still use it.
    fn may_stay(&self, export: &str, visitor: &Visitor) -> bool {
        let (point, right) = match export.strip_suffix(SUFFIX) {
            Some(point) => (point, Right::Restore),
            None => (export, Right::Read),
        };
        let volume = point.split_once('@').and_then(|(volume, _)| volume.parse().ok());
        self.peer(visitor).is_some_and(|peer| self.daemon.access.allows(&peer, right, volume.as_ref()))
    }

    fn points(&self, peer: &Peer) -> impl Iterator<Item = ExportName> {
        let of_volume = |entry: Arc<VolumeEntry>| {
            let newest = entry.points.last().map(|point| (entry.volume.name.to_string(), point.clone()));
            let name = entry.volume.name.to_string();
            let each = entry.points.iter().map(|point| (format!("{name}@{}", point.number), point.clone()));
            let all: Vec<_> = newest.into_iter().chain(each).collect();
            let volume = entry.volume.clone();
            all.into_iter().map(move |(name, point)| ExportName { name, description: describe(&volume, &point) })
        };
        let may_read =
            |entry: &Arc<VolumeEntry>| self.daemon.access.allows(peer, Right::Read, Some(&entry.volume.name));
        self.daemon.pool.volumes().into_iter().filter(may_read).flat_map(of_volume)
    }

    fn scratch(&self, peer: &Peer) -> impl Iterator<Item = ExportName> {
        let named = |overlay: OverlayInfo| {
            let (name, OverlayStatus { point, owned_bytes, .. }) = (overlay.name, overlay.status);
            let description = format!("scratch overlay over {name}@{point}, {owned_bytes} bytes written");
            ExportName { name: format!("{name}@{point}{SUFFIX}"), description }
        };
        let may_write = |overlay: &OverlayInfo| self.daemon.access.allows(peer, Right::Restore, Some(&overlay.name));
        self.overlays.list().into_iter().filter(may_write).map(named)
    }
}

impl Catalog for PoolCatalog {
    fn list(&self, visitor: &Visitor) -> Vec<ExportName> {
        let peer = self.peer(visitor);
        peer.map_or_else(Vec::new, |peer| self.points(&peer).chain(self.scratch(&peer)).collect())
    }

    fn open(&self, name: &str, visitor: &Visitor) -> Result<Arc<dyn Export>, OpenError> {
        match self.open_for(name, visitor) {
            Ok(export) => Ok(export),
            Err(error @ (Error::Full { .. } | Error::Disk { .. })) => Err(OpenError::Refused(error.to_string())),
            Err(error) => Err(OpenError::Unknown(error.to_string())),
        }
    }

    fn ended(self: Arc<Self>, export: String, visitor: Visitor) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let mut changes = self.daemon.access.changes();
            // The sender is the daemon's, which this has.
            let _ = changes.wait_for(|_| !self.may_stay(&export, &visitor)).await;
        })
    }
}

fn describe(volume: &Volume, point: &Point) -> String {
    let time = jiff::Timestamp::from_nanosecond(point.created_ns.into());
    let time = time.map_or_else(|_| "an unknown time".into(), |time| format!("{time:.0}"));
    let label = point.label.as_ref().map_or(String::new(), |label| format!(" \"{}\"", label.as_str()));
    let what = if point.is_moment() { "a moment".to_owned() } else { format!("point {}", point.number) };
    format!("{what}{label} of volume {} from {time}, root {}", volume.name, point.map.root().short())
}

/// Blocks that one block status looks at one by one.
const LOOKS_MAX: u32 = 1 << 16;

/// One point.
#[derive(Debug)]
pub(crate) struct PointExport {
    view: PointView,
    image: Option<Image>,
    others: Others,
}

impl PointExport {
    /// A point that is read out of the history alone.
    pub(crate) fn of_history(view: PointView) -> Self {
        Self { view, image: None, others: Others::default() }
    }

    fn new(view: PointView, secondaries: &Secondaries, parts: &Arc<KnownParts>) -> Self {
        let image = Image::of(&view, secondaries, parts);
        Self { view, image, others: Others::default() }
    }

    fn read_blocks(&self, offset: u64, buffer: &mut [u8]) -> Result<Content> {
        let (view, geometry) = (&self.view, self.view.geometry());
        let mut lookup = view.lookup();
        let end = offset + buffer.len() as u64;
        let (mut at, mut parts) = (offset, Parts::of(buffer));
        while at < end {
            let block = geometry.block_at(at);
            let block_end = geometry.byte_range(block, 1).end.min(end);
            let skip = (at - geometry.offset(block)) as usize;
            let digest = view.digest(&mut lookup, block)?;
            parts.put((block_end - at) as usize, |target| match digest.is_zero() {
                true => Ok(Content::Zeroes),
                false => self.fill(block, digest, skip, target).map(|()| Content::Data),
            })?;
            at = block_end;
        }
        Ok(parts.content())
    }

    /// Fills `target` with what a block that is not zero has from `skip` on: out of the secondary, or out of the history.
    fn fill(&self, block: BlockId, digest: Digest, skip: usize, target: &mut [u8]) -> Result<()> {
        let length = self.view.geometry().block_len(block) as usize;
        if self.is_filled(block, digest, skip, length, target) {
            return Ok(());
        }
        let shorter = || self.image.as_ref()?.block(self.view.geometry(), block, digest);
        let content = self.view.pool().block_or(digest, shorter).map_err(self.view.at(block))?;
        let found = content.len();
        let wrong = || Error::refused(format!("the block has {found} bytes, {length} expected"));
        let part = content.get(skip..skip + target.len()).filter(|_| found == length);
        target.copy_from_slice(part.ok_or_else(wrong).map_err(self.view.at(block))?);
        Ok(())
    }

    /// The same, where the secondary has it and it need not pass through the cache of whole blocks.
    fn is_filled(&self, block: BlockId, digest: Digest, skip: usize, length: usize, target: &mut [u8]) -> bool {
        let (Some(image), geometry) = (&self.image, self.view.geometry()) else { return false };
        match target.len() == length {
            true => image.fill(geometry, block, digest, target),
            false => {
                !self.view.pool().has_at_hand(&digest)
                    && image.fill_part(From::Disk, geometry, block, digest, skip, target)
            }
        }
    }

    fn allocation(&self, span: Span, one: bool) -> Result<Vec<Extent>> {
        let (view, geometry) = (&self.view, self.view.geometry());
        let (mut lookup, mut runs) = (view.lookup(), Runs::new(span, one));
        let last = geometry.block_at(runs.end() - 1).0;
        for _ in 0..LOOKS_MAX {
            let block = geometry.block_at(runs.at());
            let (zero, count) = view.run(&mut lookup, block, last + 1 - block.0).map_err(view.at(block))?;
            let flags = if zero { STATE_HOLE | STATE_ZERO } else { 0 };
            if runs.until(geometry.byte_range(block, count).end, flags) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(runs.extents())
    }
}

impl Export for PointExport {
    fn name(&self) -> String {
        PointName::of(&self.view.volume().name, self.view.point()).to_string()
    }

    fn describe(&self) -> String {
        describe(self.view.volume(), self.view.point())
    }

    fn geometry(&self) -> Geometry {
        let block_size = self.view.geometry().block_size().bytes();
        let blocks = BlockSizes { preferred: block_size, ..BlockSizes::default() };
        Geometry { blocks, ..Geometry::read_only(self.view.geometry().volume_size()) }
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<Content, Failure> {
        self.read_blocks(offset, buffer).map_err(failure)
    }

    fn read_now(&self, offset: u64, buffer: &mut [u8]) -> Option<Content> {
        let (view, geometry) = (&self.view, self.view.geometry());
        let block = geometry.block_at(offset);
        let range = geometry.byte_range(block, 1);
        let skip = (offset - range.start) as usize;
        // Parts of one block: more of them are worth a thread of their own.
        let digest = view.digest_at_hand(block).filter(|_| offset + buffer.len() as u64 <= range.end)?;
        if digest.is_zero() {
            return Some(Content::Zeroes);
        }
        if let Some(content) = view.pool().block_at_hand(&digest) {
            buffer.copy_from_slice(content.get(skip..skip + buffer.len())?);
            return Some(Content::Data);
        }
        let image = self.image.as_ref()?;
        image.fill_part(From::Memory, geometry, block, digest, skip, buffer).then_some(Content::Data)
    }

    fn contexts(&self) -> Vec<String> {
        let since = since::shown(&self.view);
        [BASE_ALLOCATION.to_owned()].into_iter().chain(since).collect()
    }

    fn knows(&self, context: &str) -> bool {
        context == BASE_ALLOCATION || since::knows(&self.view, context)
    }

    fn hold(&self, context: &str) -> bool {
        context == BASE_ALLOCATION || self.others.find(&self.view, context).is_some()
    }

    fn extents(&self, context: &str, span: Span, one: bool) -> Result<Vec<Extent>, Failure> {
        if context == BASE_ALLOCATION {
            return self.allocation(span, one).map_err(failure);
        }
        let gone = || Failure::new(Errno::Invalid, format!("{context}: there is no such point any more"));
        let other = self.others.find(&self.view, context).ok_or_else(gone)?;
        since::extents(&self.view, &other, span, one).map_err(failure)
    }
}

fn failure(error: Error) -> Failure {
    let at = match &error {
        Error::At { offset, .. } => Some(*offset),
        _ => None,
    };
    tracing::error!(%error, "a read over NBD failed");
    Failure { at, ..Failure::new(Errno::Io, error.to_string()) }
}
