//! Scanning: a source is read in pieces by several threads, and each block is digested and compared.
//!
//! Cutter (under the lock) -> free buffer -> `pread` -> digest -> compare with the base -> event. The same threads pack chunks,
//! which goes first: what is on its way out frees buffers. Invariants: a cut is taken only
//! with a buffer in hand, and each cut is numbered as it is taken, so whatever the order in which events come, the
//! oldest piece is always on its way and the pipeline cannot starve; dropping [`Workers`] stops and joins the threads.

use crate::base::Base;
use crate::buffers::{self, Buffer, Pool};
use crate::cutter::{Cut, Cutter};
use crate::map_writer::MapWriter;
use crate::pack::{Cargo, PackJob};
use crate::piece::Piece;
use crate::source::Source;
use anyhow::{Context, Result, anyhow};
use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use understudy_format::chunk::{Chunk, Entry};
use understudy_format::{BlockId, Digest, Geometry};

/// What the workers tell.
#[derive(Debug)]
pub enum Event {
    /// The cut with this number was scanned; numbers have no order.
    Scanned(u64, Scanned),
    /// A chunk was packed; chunks have no order.
    Packed(Chunk),
    /// Reading failed.
    Failed(anyhow::Error),
}

/// A cut that was scanned.
#[derive(Debug)]
pub struct Scanned {
    /// The first block.
    pub first: BlockId,
    /// Number of blocks.
    pub count: u64,
    /// What the blocks are, compared with the base.
    pub entries: Vec<Entry>,
    /// Their digests.
    pub found: Found,
    /// The bytes of the data entries. Every cut holds a buffer until it was dealt with: that is the bound.
    pub cargo: Cargo,
}

/// The digests of the blocks of a cut.
#[derive(Debug)]
pub enum Found {
    /// All of them are zero.
    Zeros,
    /// Those of the base: a dirty bitmap calls the blocks clean.
    AsInBase,
    /// Those of what was read.
    Read(Vec<Digest>),
    /// There are none: a clean block was read that belongs to another cut, and it is as in the base.
    Checked,
}

impl Scanned {
    /// Adds the blocks to a map.
    pub fn put_into(&self, map: &mut MapWriter) -> std::io::Result<()> {
        match &self.found {
            Found::Zeros => map.zeros(self.count),
            Found::AsInBase => map.unchanged(self.count)?,
            Found::Read(digests) => map.blocks(digests)?,
            Found::Checked => {}
        }
        Ok(())
    }
}

/// What a scan met, in blocks and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Met {
    /// Blocks read from the source.
    pub read: u64,
    /// Bytes read from the source.
    pub bytes_read: u64,
    /// Blocks that are zero, as far as they were looked at.
    pub zero: u64,
    /// Blocks that were not looked at, because a dirty bitmap calls them clean.
    pub clean: u64,
    /// Of these, blocks that were read nevertheless, and are clean.
    pub sampled: u64,
}

impl Met {
    /// Adds what another scan met.
    pub fn extend(&mut self, more: &Self) {
        self.read += more.read;
        self.bytes_read += more.bytes_read;
        self.zero += more.zero;
        self.clean += more.clean;
        self.sampled += more.sampled;
    }

    /// Counts a cut.
    pub fn add(&mut self, geometry: &Geometry, cut: &Scanned) {
        match &cut.found {
            Found::Zeros => self.zero += cut.count,
            Found::AsInBase => self.clean += cut.count,
            Found::Read(digests) => {
                self.add_read(geometry, cut.first, cut.count);
                self.zero += digests.iter().filter(|digest| digest.is_zero()).count() as u64;
            }
            Found::Checked => {
                self.add_read(geometry, cut.first, 1);
                self.sampled += 1;
            }
        }
    }

    fn add_read(&mut self, geometry: &Geometry, first: BlockId, count: u64) {
        let range = geometry.byte_range(first, count);
        self.read += count;
        self.bytes_read += range.end - range.start;
    }
}

/// What is scanned.
#[derive(Debug, Clone)]
pub struct Job {
    /// The source.
    pub source: Arc<dyn Source>,
    /// Of the volume.
    pub geometry: Geometry,
    /// What its blocks are compared with.
    pub base: Option<Base>,
    /// The blocks to scan.
    pub blocks: Range<u64>,
}

/// The number of worker threads: one for each processor, 2 to 8.
pub fn worker_count() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8)
}

/// The worker threads of one scan; see the module documentation.
#[derive(Debug)]
pub struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    job: Job,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.job.fmt(f)
    }
}

struct State {
    cutter: Option<Cutter>,
    taken: u64,
    pack_jobs: VecDeque<PackJob>,
    stop: bool,
}

enum Task {
    Pack(PackJob),
    Scan(u64, Cut, Buffer),
    /// The cutter is done. The buffer goes with it: coming back it takes the lock.
    End(Option<anyhow::Error>, Buffer),
}

impl Workers {
    /// Starts scanning; `tell` is called from the worker threads.
    pub fn start(job: Job, tell: impl Fn(Event) + Send + Sync + 'static) -> Self {
        let count = worker_count();
        let cutter = Cutter::new(job.source.clone(), job.geometry, job.base.clone(), job.blocks.clone());
        let state = State { cutter: Some(cutter), taken: 0, pack_jobs: VecDeque::new(), stop: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), wake: Condvar::new(), job });
        let waker = Arc::downgrade(&shared);
        let pool = Pool::new(buffers::count(count), move || {
            waker.upgrade().inspect(|shared| shared.notify());
        });
        let tell = Arc::new(tell);
        let spawn = |_| {
            let (shared, pool, tell) = (shared.clone(), pool.clone(), tell.clone());
            std::thread::spawn(move || {
                // Whoever waits for events must not wait for a thread that is gone.
                let worked = catch_unwind(AssertUnwindSafe(|| shared.work(&pool, &*tell)));
                worked.unwrap_or_else(|_| {
                    tell(Event::Failed(anyhow!("a worker thread panicked (a fault of this program)")))
                });
            })
        };
        let threads = (0..count).map(spawn).collect();
        Self { shared, threads }
    }

    /// Has a chunk packed.
    pub fn pack(&self, job: PackJob) {
        self.shared.lock().pack_jobs.push_back(job);
        self.shared.wake.notify_one();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let left_over = {
            let mut state = self.shared.lock();
            state.stop = true;
            std::mem::take(&mut state.pack_jobs)
        };
        // Outside of the lock: a buffer that comes back takes it.
        drop(left_over);
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            // A panic of a worker was printed by the panic hook; the run failed without its event.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while locked")
    }

    /// Wakes a worker; taking the lock makes sure that none is between looking and sleeping.
    fn notify(&self) {
        drop(self.lock());
        self.wake.notify_one();
    }

    fn work(&self, pool: &Arc<Pool>, tell: &(impl Fn(Event) + ?Sized)) {
        let mut spare = buffers::blank();
        while let Some(task) = self.next_task(pool) {
            match task {
                Task::Pack(job) => tell(Event::Packed(job.run(&mut spare))),
                Task::Scan(number, cut, buffer) => tell(match self.job.scan(cut, buffer) {
                    Ok(scanned) => Event::Scanned(number, scanned),
                    Err(e) => Event::Failed(e),
                }),
                Task::End(error, buffer) => {
                    drop(buffer);
                    if let Some(e) = error {
                        tell(Event::Failed(e.context(self.job.source_name())));
                    }
                }
            }
        }
    }

    /// What to do next, waiting for it; `None` when the workers are stopped.
    fn next_task(&self, pool: &Arc<Pool>) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if state.stop {
                return None;
            }
            if let Some(job) = state.pack_jobs.pop_front() {
                return Some(Task::Pack(job));
            }
            if let Some(task) = state.scan_task(pool) {
                return Some(task);
            }
            state = self.wake.wait(state).expect("no panic while locked");
        }
    }
}

impl State {
    fn scan_task(&mut self, pool: &Arc<Pool>) -> Option<Task> {
        let cutter = self.cutter.as_mut()?;
        let buffer = pool.take()?;
        match cutter.next_cut() {
            Ok(Some(cut)) => {
                self.taken += 1;
                Some(Task::Scan(self.taken - 1, cut, buffer))
            }
            ended => {
                self.cutter = None;
                Some(Task::End(ended.err(), buffer))
            }
        }
    }
}

impl Job {
    /// All of a source.
    pub fn all(source: Arc<dyn Source>, geometry: Geometry, base: Option<Base>) -> Self {
        Self { source, geometry, base, blocks: 0..geometry.block_count() }
    }

    /// The source, for errors.
    pub fn source_name(&self) -> String {
        format!("source {}", self.source.name())
    }

    fn scan(&self, cut: Cut, mut buffer: Buffer) -> Result<Scanned> {
        let (first, count, entries, found) = match cut {
            Cut::Piece { first, count } => return Piece::scan(self, first, count, buffer),
            Cut::Hole { first, count, unchanged: false } => (first, count, vec![Entry::Zero { count }], Found::Zeros),
            Cut::Hole { first, count, .. } => (first, count, vec![Entry::Unchanged { count }], Found::Zeros),
            Cut::Clean { first, count } => (first, count, vec![Entry::Unchanged { count }], Found::AsInBase),
            Cut::Check { block } => {
                self.check(block, &mut buffer)?;
                (block, 0, Vec::new(), Found::Checked)
            }
        };
        Ok(Scanned { first, count, entries, found, cargo: Cargo { buffer, starts: Vec::new() } })
    }

    /// Fails unless a block that was said to be clean is as in the base.
    fn check(&self, block: BlockId, buffer: &mut Buffer) -> Result<()> {
        let content = &mut buffer.bytes()[..self.geometry.block_len(block) as usize];
        self.read(self.geometry.offset(block), content)?;
        let base = self.base.as_ref().expect("only over a base anything is clean");
        base.check(block, &Digest::of_block(content), &self.geometry).with_context(|| self.source_name())
    }

    /// Fills `into` from `offset` of the source.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        let length = into.len();
        let read = self.source.read_at(offset, into);
        read.with_context(|| format!("{}: reading {length} bytes at offset {offset}", self.source_name()))
    }
}

/// Appends an entry; runs of the same kind become one.
pub fn push_entry(entries: &mut Vec<Entry>, entry: Entry) {
    match (entries.last_mut(), entry) {
        (Some(Entry::Zero { count }), Entry::Zero { count: more })
        | (Some(Entry::Unchanged { count }), Entry::Unchanged { count: more }) => *count += more,
        _ => entries.push(entry),
    }
}

/// Puts what comes in any order back into order.
#[derive(Debug)]
pub struct InOrder<T> {
    next: u64,
    early: std::collections::BTreeMap<u64, T>,
}

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        Self { next: 0, early: std::collections::BTreeMap::new() }
    }
}

impl<T> InOrder<T> {
    /// The first item that comes out has this number.
    pub fn starting_at(next: u64) -> Self {
        Self { next, ..Self::default() }
    }

    /// Takes the item with this number.
    pub fn put(&mut self, number: u64, item: T) {
        self.early.insert(number, item);
    }

    /// The next item, if it is there.
    pub fn next_item(&mut self) -> Option<T> {
        let item = self.early.remove(&self.next)?;
        self.next += 1;
        Some(item)
    }
}
