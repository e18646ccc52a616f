//! The receiving end of a stream.
//!
//! Invariants: offers and chunks come in order, an offer at most a window ahead of its chunk; a
//! block is asked for once, even when it is offered again before it arrived, and must come; only a stream whose chunks
//! cover the volume, whose totals agree and whose root is the one that was computed here commits.

use super::WINDOW_MAX;
use crate::Digest;
use crate::chunk::{Chunk, ChunkHead};
use crate::error::{FormatError, Result};
use crate::geometry::BlockId;
use crate::stream::{Begin, Checker, Commit, Totals};
use std::collections::{HashSet, VecDeque};

/// The receiving end; see the module documentation.
#[derive(Debug)]
pub struct Receiver {
    checker: Checker,
    next_offer: u64,
    /// Digests that were asked for and did not arrive yet.
    asked: HashSet<Digest>,
    /// The same by the chunk that must bring them, in order.
    owed: VecDeque<(u64, Vec<Digest>)>,
}

impl Receiver {
    /// The receiver of the stream that begins so.
    pub fn new(begin: Begin) -> Self {
        Self::resume(begin, Totals::default(), BlockId(0))
    }

    /// The receiver of the rest of a stream that was cut behind chunks that carried `totals`.
    ///
    /// What was asked for then and did not come is forgotten: the sender offers it again.
    pub fn resume(begin: Begin, totals: Totals, next_block: BlockId) -> Self {
        let checker = Checker::resume(begin, totals, next_block);
        Self { checker, next_offer: totals.chunks, asked: HashSet::new(), owed: VecDeque::new() }
    }

    /// How the stream began.
    pub fn begin(&self) -> &Begin {
        self.checker.begin()
    }

    /// What was received so far.
    pub fn totals(&self) -> &Totals {
        self.checker.totals()
    }

    /// The block that the next chunk starts with.
    pub fn next_block(&self) -> BlockId {
        self.checker.next_block()
    }

    /// Answers an offer: which of its data entries are lacking, when `has` knows what is there.
    pub fn offer<E: From<FormatError>>(
        &mut self,
        head: &ChunkHead,
        mut has: impl FnMut(&Digest) -> Result<bool, E>,
    ) -> Result<Vec<bool>, E> {
        let received = self.checker.totals().chunks;
        let ahead = head.sequence >= self.next_offer && head.sequence < received + u64::from(WINDOW_MAX);
        if head.sequence < received || !ahead || head.stream != self.begin().stream {
            let reason = format!("of chunk {} is out of turn (chunk {received} is next)", head.sequence);
            return Err(FormatError::invalid("offer", reason).into());
        }
        self.next_offer = head.sequence + 1;
        let mut owed = Vec::new();
        let mut wants = |digest| {
            let wanted = !has(&digest)? && self.asked.insert(digest);
            owed.extend(wanted.then_some(digest));
            Ok(wanted)
        };
        let wanted = head.offered().map(&mut wants).collect();
        self.owed.push_back((head.sequence, owed));
        wanted
    }

    /// Takes the next chunk.
    pub fn chunk(&mut self, chunk: &Chunk) -> Result<()> {
        self.checker.chunk(&chunk.head)?;
        self.next_offer = self.next_offer.max(chunk.head.sequence + 1);
        for digest in chunk.head.offered() {
            self.asked.remove(&digest);
        }
        self.check_owed(chunk.head.sequence)
    }

    /// What was asked for must come with its chunk: so `asked` never outgrows the window.
    fn check_owed(&mut self, sequence: u64) -> Result<()> {
        let owed = self.owed.pop_front_if(|(chunk, _)| *chunk == sequence).map_or(Vec::new(), |(_, owed)| owed);
        match owed.iter().find(|digest| self.asked.contains(digest)) {
            None => Ok(()),
            Some(digest) => {
                let reason = format!("{sequence} lacks block {digest}, which was asked for");
                Err(FormatError::invalid("chunk", reason))
            }
        }
    }

    /// Takes the commit record; `root` is the one that was computed here.
    pub fn commit(&self, commit: &Commit, root: Digest) -> Result<()> {
        self.checker.commit(commit)?;
        match commit.root == root {
            true => Ok(()),
            false => Err(FormatError::Digest { what: "root of the stream", expected: commit.root, computed: root }),
        }
    }
}
