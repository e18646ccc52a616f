//! A server with a few exports in memory, on a loopback port and on a Unix socket.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use understudy_format::nbd::{BlockSizes, Errno, ExportName, Extent, Failure, Geometry, Span, TransmissionFlags};
use understudy_net::export::{Catalog, Content, Export, OpenError, Visitor, Zeroing};
use understudy_net::nbd_server::{Encryption, Limits, Listener, serve};

/// Not a multiple of the run length, nor of a disk's sector of 4 KiB.
pub const SIZE: u64 = (8 << 20) + 512;
/// Length of the runs of data and holes.
pub const RUN: u64 = 64 << 10;

/// Every third run is a hole.
fn is_hole(offset: u64) -> bool {
    offset / RUN % 3 == 1
}

pub fn byte_at(offset: u64) -> u8 {
    if is_hole(offset) { 0 } else { (offset ^ (offset >> 8) ^ (offset >> 16)) as u8 | 1 }
}

pub fn content() -> Vec<u8> {
    (0..SIZE).map(byte_at).collect()
}

/// The runs of an export of the pattern between `offset` and `end`.
pub fn extents_of(mut offset: u64, end: u64) -> Vec<Extent> {
    let mut extents = Vec::new();
    while offset < end {
        let length = (RUN - offset % RUN).min(end - offset);
        extents.push(if is_hole(offset) { Extent::hole(length) } else { Extent::data(length) });
        offset += length;
    }
    extents
}

/// A fixed pattern with holes.
struct Pattern;

impl Export for Pattern {
    fn name(&self) -> String {
        "pattern".to_owned()
    }

    fn describe(&self) -> String {
        "a pattern with holes".to_owned()
    }

    fn geometry(&self) -> Geometry {
        Geometry::read_only(SIZE)
    }

    fn contexts(&self) -> Vec<String> {
        ["base:allocation", "x-test:odd"].map(str::to_owned).to_vec()
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<Content, Failure> {
        let end = offset + buf.len() as u64;
        if extents_of(offset, end).iter().all(|extent| *extent == Extent::hole(extent.length)) {
            return Ok(Content::Zeroes);
        }
        buf.iter_mut().zip(offset..).for_each(|(byte, offset)| *byte = byte_at(offset));
        Ok(Content::Data)
    }

    fn extents(&self, context: &str, span: Span, one: bool) -> Result<Vec<Extent>, Failure> {
        let Span { offset, length } = span;
        let end = offset + length;
        match context {
            "base:allocation" if one => Ok(extents_of(offset, SIZE).into_iter().take(1).collect()),
            "base:allocation" => Ok(extents_of(offset, end)),
            _ => Ok(vec![Extent { length: 512, flags: (offset / 512 % 2) as u32 }]),
        }
    }
}

/// Bytes that can be written, with a minimum block size that only those who ask must keep.
struct Writable(Mutex<Vec<u8>>);

impl Writable {
    fn fill(&self, span: Span, byte: u8) {
        let start = span.offset as usize;
        self.0.lock().unwrap()[start..start + span.length as usize].fill(byte);
    }
}

impl Export for Writable {
    fn name(&self) -> String {
        "writable".to_owned()
    }

    fn geometry(&self) -> Geometry {
        let flags = TransmissionFlags::SEND_FLUSH
            | TransmissionFlags::SEND_FUA
            | TransmissionFlags::SEND_TRIM
            | TransmissionFlags::SEND_WRITE_ZEROES
            | TransmissionFlags::SEND_FAST_ZERO
            | TransmissionFlags::SEND_CACHE;
        let blocks = BlockSizes { min: 512, ..BlockSizes::default() };
        Geometry { flags, blocks, ..Geometry::read_only(1 << 20) }
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<Content, Failure> {
        buf.copy_from_slice(&self.0.lock().unwrap()[offset as usize..][..buf.len()]);
        Ok(Content::Data)
    }

    fn write(&self, offset: u64, data: &[u8], _fua: bool) -> Result<(), Failure> {
        self.0.lock().unwrap()[offset as usize..][..data.len()].copy_from_slice(data);
        Ok(())
    }

    fn trim(&self, span: Span, _fua: bool) -> Result<(), Failure> {
        self.fill(span, 0xee);
        Ok(())
    }

    fn write_zeroes(&self, span: Span, how: Zeroing) -> Result<(), Failure> {
        if how.fast {
            return Err(Failure::new(Errno::NotSupported, "zeroes are as slow as writes here"));
        }
        self.fill(span, 0);
        Ok(())
    }
}

/// Another one whenever it is opened: all bytes are its number.
struct Numbered(u8);

impl Export for Numbered {
    fn name(&self) -> String {
        "numbered".to_owned()
    }

    fn geometry(&self) -> Geometry {
        Geometry::read_only(1 << 20)
    }

    fn read(&self, _offset: u64, buf: &mut [u8]) -> Result<Content, Failure> {
        buf.fill(self.0);
        Ok(Content::Data)
    }
}

/// A block of 4096 bytes that is damaged as a whole; panics above.
struct Broken;

impl Export for Broken {
    fn name(&self) -> String {
        "broken".to_owned()
    }

    fn geometry(&self) -> Geometry {
        Geometry::read_only(1 << 20)
    }

    fn read(&self, offset: u64, _buf: &mut [u8]) -> Result<Content, Failure> {
        assert!(offset < 4096, "a bug in an export");
        let text = "block 0 of point p1 is damaged".to_owned();
        Err(Failure { errno: Errno::Io, text, at: Some(0) })
    }
}

/// Reads that enter, say so, and wait to be let through.
pub struct Gate {
    entered: Sender<u64>,
    passes: Mutex<Receiver<()>>,
    inside: AtomicUsize,
    pub most_inside: AtomicUsize,
}

impl Export for Gate {
    fn name(&self) -> String {
        "gate".to_owned()
    }

    fn geometry(&self) -> Geometry {
        Geometry { flags: TransmissionFlags::SEND_FUA, ..Geometry::read_only(1 << 20) }
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<Content, Failure> {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_inside.fetch_max(inside, Ordering::SeqCst);
        self.entered.send(offset).unwrap();
        self.passes.lock().unwrap().recv().unwrap();
        self.inside.fetch_sub(1, Ordering::SeqCst);
        buf.fill(9);
        Ok(Content::Data)
    }

    /// What is above a kilobyte is known without entering.
    fn read_now(&self, offset: u64, buf: &mut [u8]) -> Option<Content> {
        buf.fill(7);
        match offset {
            0..1024 => None,
            1024..2048 => Some(Content::Data),
            2048..4096 => Some(Content::Zeroes),
            _ => panic!("a bug in an export"),
        }
    }

    fn write_now(&self, offset: u64, data: &[u8]) -> Option<Result<(), Failure>> {
        let written = if data == [7; 4] { Ok(()) } else { Err(Failure::new(Errno::NoSpace, "only sevens")) };
        (offset < 1024).then_some(written)
    }
}

struct Exports {
    writable: Arc<Writable>,
    gate: Arc<Gate>,
    numbers: AtomicU8,
}

impl Catalog for Exports {
    fn list(&self, _visitor: &Visitor) -> Vec<ExportName> {
        let export =
            |name: &str, description: &str| ExportName { name: name.to_owned(), description: description.to_owned() };
        vec![export("pattern", "a pattern with holes"), export("writable", "")]
    }

    fn open(&self, name: &str, _visitor: &Visitor) -> Result<Arc<dyn Export>, OpenError> {
        match name {
            "" | "pattern" => Ok(Arc::new(Pattern)),
            "writable" => Ok(self.writable.clone()),
            "gate" => Ok(self.gate.clone()),
            "numbered" => Ok(Arc::new(Numbered(self.numbers.fetch_add(1, Ordering::SeqCst) + 1))),
            "broken" => Ok(Arc::new(Broken)),
            "private" => Err(OpenError::Refused("private is not for you".to_owned())),
            _ => Err(OpenError::Unknown(format!("no volume is named {name:?}"))),
        }
    }
}

/// A running server; stopped when dropped.
pub struct Fixture {
    pub dir: TempDir,
    pub tcp: SocketAddr,
    pub gate: Arc<Gate>,
    /// Offsets of gated reads, as they enter.
    pub entered: Receiver<u64>,
    /// Lets one gated read through.
    pub pass: Sender<()>,
    runtime: Runtime,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<std::io::Result<()>>>,
}

impl Fixture {
    pub fn start() -> Self {
        Self::with_limits(Limits::default())
    }

    pub fn with_limits(limits: Limits) -> Self {
        Self::with(limits, Encryption::Off)
    }

    pub fn with(limits: Limits, encryption: Encryption) -> Self {
        let (dir, runtime) = (TempDir::new().unwrap(), Runtime::new().unwrap());
        let ((entered_in, entered), (pass, passes)) = (channel(), channel());
        let gate = Arc::new(Gate {
            entered: entered_in,
            passes: Mutex::new(passes),
            inside: AtomicUsize::default(),
            most_inside: AtomicUsize::default(),
        });
        let writable = Arc::new(Writable(Mutex::new(vec![0; 1 << 20])));
        let catalog: Arc<dyn Catalog> =
            Arc::new(Exports { writable, gate: gate.clone(), numbers: AtomicU8::default() });
        let tcp = runtime.block_on(Listener::bind_tcp("127.0.0.1:0".parse().unwrap())).unwrap();
        let address = tcp.tcp_address().unwrap();
        let unix = runtime.block_on(async { Listener::bind_unix(&dir.path().join("s")) }).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move { drop(stopped.await) };
        let server = runtime.spawn(serve(vec![tcp, unix], catalog, limits, encryption, stopped));
        Self { dir, tcp: address, gate, entered, pass, runtime, stop: Some(stop), server: Some(server) }
    }

    /// Gives the shutdown signal, without waiting for anything.
    pub fn stop(&mut self) {
        self.stop = None;
    }

    /// Waits until every connection is drained.
    pub fn join(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server).unwrap().unwrap();
        }
    }

    pub fn tcp_uri(&self, export: &str) -> String {
        format!("nbd://{}/{export}", self.tcp)
    }

    pub fn unix_uri(&self, export: &str) -> String {
        format!("nbd+unix:///{export}?socket={}", self.dir.path().join("s").display())
    }

    /// Both ways to reach an export.
    pub fn uris(&self, export: &str) -> [String; 2] {
        [self.tcp_uri(export), self.unix_uri(export)]
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop();
        self.join();
    }
}

/// Runs a peer to its end, with the search path under which the system's Python finds libnbd.
pub fn run(program: &str, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").args(args);
    command.output().unwrap_or_else(|error| panic!("{program} must be installed: {error}"))
}

/// What a peer that must succeed prints.
#[track_caller]
pub fn stdout(program: &str, args: &[&str]) -> String {
    let output = run(program, args);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a peer that must fail prints on its error output.
#[track_caller]
pub fn stderr_of_failure(program: &str, args: &[&str]) -> String {
    let output = run(program, args);
    assert!(!output.status.success(), "{program} {args:?} succeeded");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
pub fn assert_pattern(path: impl AsRef<Path>) {
    let found = std::fs::read(path).unwrap();
    let first = found.iter().zip(content()).position(|(found, expected)| *found != expected);
    assert_eq!((found.len() as u64, first), (SIZE, None));
}
