//! A disk in memory that loses power, fails, fills up, rots and lies when it is told to.
//!
//! It keeps the promises of `understudy_appliance::pool::disk` and none beyond: what was synced survives, of
//! everything else anything may survive ([`file`], [`directory`]). Invariants: the same seed and the same operations
//! give the same result; a disk whose power went off does nothing more, whoever still has files of it open; the
//! disk after a restart shares nothing with the one before.

pub mod directory;
pub mod fault;
pub mod file;
mod handle;
mod tree;

use crate::rng::Rng;
use directory::NodeId;
use fault::{Errno, Fault, Kind, Lie, Operation, power_is_off};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tree::Tree;

struct State {
    tree: Tree,
    rng: Rng,
    history: Vec<Operation>,
    fault: Option<Fault>,
    /// The operation at which the power went off.
    off: Option<u64>,
    /// Whether a failure that was asked for came.
    failed: bool,
    /// Space of the whole disk, bytes.
    limit: Option<u64>,
    lie: Option<Lie>,
    /// Whether files can share bytes.
    shares: bool,
    /// What a failed sync forgot is read until the cache lets go of it.
    caches: bool,
    /// Files that somebody holds a lock on.
    locked: Vec<PathBuf>,
    /// How often the power went on.
    boot: u64,
}

/// How an operation ends.
enum Outcome {
    Done,
    Lied,
    Failed(io::Error),
}

impl State {
    fn new(tree: Tree, seed: u64) -> Self {
        let (history, locked) = (Vec::new(), Vec::new());
        Self {
            tree,
            rng: Rng::new(seed),
            history,
            fault: None,
            off: None,
            failed: false,
            limit: None,
            lie: None,
            shares: seed % 2 == 1,
            caches: false,
            locked,
            boot: 1,
        }
    }

    fn check_power(&self) -> io::Result<()> {
        self.off.map_or(Ok(()), |operation| Err(power_is_off(operation)))
    }

    /// Counts an operation and says how it ends.
    fn step(&mut self, kind: Kind, path: &Path) -> io::Result<Outcome> {
        self.check_power()?;
        self.history.push(Operation { kind, path: path.to_owned() });
        let now = self.history.len() as u64;
        let is_sync = matches!(kind, Kind::Sync | Kind::SyncDir | Kind::IndexSync);
        match self.fault {
            Some(Fault::Cut(at)) if at == now => {
                self.off = Some(now);
                Ok(Outcome::Failed(power_is_off(now)))
            }
            Some(Fault::Fail(at, errno)) if at == now => Ok(self.fail(errno)),
            Some(Fault::Stuck(from, errno)) if from <= now => Ok(self.fail(errno)),
            _ if is_sync && self.lie.as_mut().is_some_and(|lie| lie(path)) => Ok(Outcome::Lied),
            _ => Ok(Outcome::Done),
        }
    }

    fn fail(&mut self, errno: Errno) -> Outcome {
        self.failed = true;
        Outcome::Failed(errno.error())
    }

    /// An operation that is done as a whole or not at all.
    fn whole(&mut self, kind: Kind, path: &Path) -> io::Result<()> {
        match self.step(kind, path)? {
            Outcome::Failed(error) => Err(error),
            Outcome::Done | Outcome::Lied => Ok(()),
        }
    }

    fn change(&mut self, node: NodeId, kind: Kind, path: &Path, change: file::Change) -> io::Result<()> {
        let outcome = self.step(kind, path)?;
        self.check_space(node, &change)?;
        match outcome {
            Outcome::Failed(error) => {
                let part = change.cut_short(&mut self.rng);
                part.map_or(Ok(()), |part| self.tree.file_mut(node).map(|file| file.change(part)))?;
                Err(error)
            }
            Outcome::Done | Outcome::Lied => self.tree.file_mut(node).map(|file| file.change(change)),
        }
    }

    fn check_space(&self, node: NodeId, change: &file::Change) -> io::Result<()> {
        let Some(limit) = self.limit else { return Ok(()) };
        let needed = self.tree.file(node)?.space_for(change);
        match needed == 0 || self.tree.space() + needed <= limit {
            true => Ok(()),
            false => Err(Errno::NoSpace.error()),
        }
    }

    fn sync(&mut self, node: NodeId, path: &Path) -> io::Result<()> {
        let outcome = self.step(Kind::Sync, path)?;
        let file = self.tree.file_mut(node)?;
        match outcome {
            Outcome::Done => file.sync(),
            Outcome::Lied => {}
            Outcome::Failed(error) => {
                // Without power nothing is forgotten now: that is for the restart to say.
                if self.off.is_none() {
                    file.fail_sync(&mut self.rng);
                    if !self.caches {
                        file.forget_cached();
                    }
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        self.check_power()?;
        self.tree.directory(path)?;
        match self.step(Kind::SyncDir, path)? {
            Outcome::Done => self.tree.directory_mut(path)?.sync(),
            Outcome::Lied => {}
            Outcome::Failed(error) => return Err(error),
        }
        Ok(())
    }
}

/// See the module documentation. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        write!(f, "SimDisk({} operations, fault {:?}, off {:?})", state.history.len(), state.fault, state.off)
    }
}

impl SimDisk {
    /// An empty disk; the seed decides how operations are torn.
    pub fn new(seed: u64) -> Self {
        Self::with(State::new(Tree::default(), seed))
    }

    fn with(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All operations since the disk was made or restarted; the first one has the number 1.
    pub fn history(&self) -> Vec<Operation> {
        self.state().history.clone()
    }

    /// How many operations there were since the disk was made or restarted.
    pub fn operations(&self) -> u64 {
        self.state().history.len() as u64
    }

    /// What is to go wrong; replaces what was asked for before.
    pub fn set_fault(&self, fault: Option<Fault>) {
        let mut state = self.state();
        (state.fault, state.failed) = (fault, false);
    }

    /// The power goes off at the `n`th operation.
    pub fn cut_at(&self, n: u64) {
        self.set_fault(Some(Fault::Cut(n)));
    }

    /// The `n`th operation fails, once.
    pub fn fail_at(&self, n: u64, errno: Errno) {
        self.set_fault(Some(Fault::Fail(n, errno)));
    }

    /// Switches the power off now.
    pub fn cut(&self) {
        let mut state = self.state();
        let operations = state.history.len() as u64;
        state.off.get_or_insert(operations);
    }

    /// Whether the power is off.
    pub fn is_off(&self) -> bool {
        self.state().off.is_some()
    }

    /// Whether a failure that was asked for came.
    pub fn failed(&self) -> bool {
        self.state().failed
    }

    /// Space of the whole disk, bytes; `None` for as much as is wanted.
    pub fn set_limit(&self, limit: Option<u64>) {
        self.state().limit = limit;
    }

    /// Whether what a failed sync forgot is read as long as the cache has it; otherwise it is gone at once, as after direct I/O.
    pub fn set_caches(&self, caches: bool) {
        self.state().caches = caches;
    }

    /// Bytes of the disk that are taken.
    pub fn space(&self) -> u64 {
        self.state().tree.space()
    }

    /// Syncs of files and directories whose path this is true of succeed without doing anything.
    pub fn lie(&self, lie: impl FnMut(&Path) -> bool + Send + 'static) {
        self.state().lie = Some(Box::new(lie));
    }

    /// Flips a bit of a file on the disk; returns whether the file is there and long enough.
    pub fn flip(&self, path: &Path, offset: u64, bit: u8) -> bool {
        let mut state = self.state();
        let node = state.tree.find(path);
        node.and_then(|node| state.tree.file_mut(node).ok()).is_some_and(|file| file.flip(offset, bit))
    }

    /// What a reader finds in a file; `None` when it is not there.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        state.tree.file(state.tree.find(path)?).ok().map(|file| file.content().to_vec())
    }

    /// A copy that shares nothing with this disk, without its faults.
    pub fn copy(&self) -> Self {
        let state = self.state();
        Self::with(State { limit: state.limit, ..State::new(state.tree.clone(), state.rng.clone().next_u64()) })
    }

    /// Counts an operation of something else that is on this disk; `false` when the disk lies about it.
    pub(crate) fn foreign(&self, kind: Kind, path: &Path) -> io::Result<bool> {
        match self.state().step(kind, path)? {
            Outcome::Failed(error) => Err(error),
            outcome => Ok(matches!(outcome, Outcome::Done)),
        }
    }

    /// Switches the power off, and gives the disk as it is when it is on again. Limit and lies stay, faults go.
    pub fn restart(&self, rng: &mut Rng) -> Self {
        let next = self.again(rng, |tree, rng| tree.lose_power(rng));
        next.state().boot += 1;
        next
    }

    /// Ends whoever uses the disk, without loss of power: all that was written is there, durable or not.
    pub fn kill(&self, rng: &mut Rng) -> Self {
        self.again(rng, |_, _| ())
    }

    fn again(&self, rng: &mut Rng, change: impl FnOnce(&mut Tree, &mut Rng)) -> Self {
        self.cut();
        let mut state = self.state();
        let mut tree = state.tree.clone();
        change(&mut tree, rng);
        let (limit, lie, boot) = (state.limit, state.lie.take(), state.boot);
        Self::with(State { limit, lie, boot, ..State::new(tree, rng.next_u64()) })
    }
}
