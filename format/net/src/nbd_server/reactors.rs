//! Threads that connections live on: each has a reactor of its own, and nothing but connections.
//!
//! Invariants: a connection stays on one thread, so what arrives for it wakes that one alone (a runtime of several threads wakes another one for
//! each, to look for more work), and nothing else that a program does waits for it. The threads leave when this is dropped.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

/// The most threads: connections mostly wait, and workers have the processors as well.
const THREADS_MAX: usize = 8;

/// See the module documentation.
pub(super) struct Reactors {
    handles: Vec<Handle>,
    next: usize,
    _ended: watch::Sender<()>,
}

impl Reactors {
    /// One for each processor, up to so many.
    pub(super) fn start() -> io::Result<Self> {
        let (ended, _) = watch::channel(());
        let count = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let handles = (0..count).map(|index| start(index, ended.subscribe())).collect::<io::Result<_>>()?;
        Ok(Self { handles, next: 0, _ended: ended })
    }

    /// Where the next connection is to live.
    pub(super) fn next(&mut self) -> &Handle {
        self.next = (self.next + 1) % self.handles.len();
        &self.handles[self.next]
    }
}

fn start(index: usize, mut ended: watch::Receiver<()>) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let named = thread::Builder::new().name(format!("nbd-reactor-{index}"));
    named.spawn(move || runtime.block_on(async { while ended.changed().await.is_ok() {} }))?;
    Ok(handle)
}
