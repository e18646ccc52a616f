//! A disk that an NBD server of this project serves, with a dirty bitmap that does what a test wants.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use understudy_format::nbd::{Errno, ExportName, Extent, Failure, Geometry, STATE_HOLE, STATE_ZERO, Span};
use understudy_net::export::{Catalog, Content, Export, OpenError, Visitor};
use understudy_net::nbd_server::{Encryption, Limits, Listener, serve};

/// What a bit of the bitmap stands for, bytes.
const GRAIN: u64 = 1024;
const BITMAP: &str = "qemu:dirty-bitmap:b0";

/// What is on the disk, and what is told of it.
#[derive(Default)]
pub struct State {
    pub content: Vec<u8>,
    dirty: Vec<bool>,
    /// Whether the bitmap is offered.
    pub hides_bitmap: bool,
    /// Extents from here on cannot be told.
    pub blind_from: Option<u64>,
    /// Most extents of an answer.
    pub told_at_once: usize,
}

impl State {
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.content[offset..offset + bytes.len()].copy_from_slice(bytes);
        self.mark(offset, bytes.len());
    }

    pub fn mark(&mut self, offset: usize, length: usize) {
        let grain = GRAIN as usize;
        self.dirty[offset / grain..(offset + length).div_ceil(grain)].fill(true);
    }

    pub fn forget(&mut self) {
        self.dirty.fill(false);
    }

    fn flags(&self, context: &str, grain: u64) -> u32 {
        if context == BITMAP {
            return self.dirty[grain as usize].into();
        }
        let start = (grain * GRAIN) as usize;
        let end = (start + GRAIN as usize).min(self.content.len());
        let zero = self.content[start..end].iter().all(|byte| *byte == 0);
        if zero { STATE_HOLE | STATE_ZERO } else { 0 }
    }
}

#[derive(Clone)]
pub struct Disk(Arc<Mutex<State>>);

impl Disk {
    pub fn new(content: Vec<u8>) -> Self {
        let dirty = vec![false; content.len().div_ceil(GRAIN as usize)];
        Self(Arc::new(Mutex::new(State { content, dirty, told_at_once: 1000, ..State::default() })))
    }

    /// Looks at it, or changes it.
    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }
}

impl Export for Disk {
    fn name(&self) -> String {
        "disk".to_owned()
    }

    fn geometry(&self) -> Geometry {
        self.with(|state| Geometry::read_only(state.content.len() as u64))
    }

    fn contexts(&self) -> Vec<String> {
        let offered = if self.with(|state| state.hides_bitmap) { 1 } else { 2 };
        ["base:allocation", BITMAP][..offered].iter().map(|&name| name.to_owned()).collect()
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<Content, Failure> {
        self.with(|state| buf.copy_from_slice(&state.content[offset as usize..][..buf.len()]));
        Ok(Content::Data)
    }

    /// The contexts end in different places: what the bitmap tells is shorter.
    fn extents(&self, context: &str, span: Span, _one: bool) -> Result<Vec<Extent>, Failure> {
        self.with(|state| {
            if state.blind_from.is_some_and(|from| span.offset + span.length > from) {
                return Err(Failure::new(Errno::Io, "the bitmap was eaten"));
            }
            let most = if context == BITMAP { state.told_at_once.div_ceil(2) } else { state.told_at_once };
            let end = (span.offset + span.length).div_ceil(GRAIN);
            let grains = (span.offset / GRAIN..end).take(most);
            let extents = grains.map(|grain| {
                let start = (grain * GRAIN).max(span.offset);
                Extent { length: (grain + 1) * GRAIN - start, flags: state.flags(context, grain) }
            });
            Ok(extents.collect())
        })
    }
}

struct Only(Disk);

impl Catalog for Only {
    fn list(&self, _visitor: &Visitor) -> Vec<ExportName> {
        Vec::new()
    }

    fn open(&self, _name: &str, _visitor: &Visitor) -> Result<Arc<dyn Export>, OpenError> {
        Ok(Arc::new(self.0.clone()))
    }
}

/// A server of a disk; stopped when dropped.
pub struct Served {
    pub disk: Disk,
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
    _runtime: Runtime,
}

impl Served {
    pub fn start(disk: &Disk) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(Listener::bind_tcp("127.0.0.1:0".parse().unwrap())).unwrap();
        let address = listener.tcp_address().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let catalog: Arc<dyn Catalog> = Arc::new(Only(disk.clone()));
        let stopped = async move { drop(stopped.await) };
        runtime.spawn(serve(vec![listener], catalog, Limits::default(), Encryption::Off, stopped));
        Self { disk: disk.clone(), address, _stop: stop, _runtime: runtime }
    }

    pub fn uri(&self) -> String {
        format!("nbd://{}/disk", self.address)
    }
}
