//! A stream under way: what outlives the connections that carry it.
//!
//! Invariants: the map has the digests of all blocks that were scanned, from the first on, whatever of them was sent; a
//! stream goes on behind a cursor only when the digests before it are those of the source as far as anybody can know, and
//! their root is the cursor's.

use crate::base::Base;
use crate::engine::Counts;
use crate::map_writer::MapWriter;
use crate::plan::Plan;
use crate::report::Report;
use crate::scan::{Job, Met};
use crate::scan_map::scan_into;
use crate::source::Source;
use crate::state::NewFile;
use anyhow::{Context, Result};
use std::path::Path;
use std::sync::Arc;
use understudy_format::session::Cursor;
use understudy_format::stream::{Begin, Commit};
use understudy_format::wire::BlockRange;

/// See the module documentation.
#[derive(Debug)]
pub struct Flight {
    /// What was planned.
    pub plan: Plan,
    /// How the stream began.
    pub begin: Begin,
    /// What its blocks are compared with.
    pub base: Option<Base>,
    /// The digests of the blocks that were scanned.
    pub map: MapWriter,
    /// The file that the map is in.
    pub file: NewFile,
    /// What was met in the source so far.
    pub met: Met,
    /// The commit record, once it was made.
    pub commit: Option<Commit>,
    /// Whether the state directory has the stream.
    pub remembered: bool,
    /// Whether the map was made of the source only just now.
    fresh: bool,
}

/// What is to be done for a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ahead {
    /// The stream goes on from there.
    Send,
    /// The blocks before it must be digested (again).
    Check,
    /// They are not those that the appliance has.
    Differs,
}

impl Flight {
    /// A stream that was planned; its map will be `map_path`.
    pub fn new(plan: Plan, begin: Begin, base: Option<Base>, remembered: bool, map_path: &Path) -> Result<Self> {
        let file = NewFile::create(map_path)?;
        let map = MapWriter::new(plan.geometry, Some(file.file()?)).context("digest map: writing")?;
        let map = map.over(base.as_ref().map(|base| base.map.clone()));
        let (met, commit) = (Met::default(), None);
        Ok(Self { plan, begin, base, map, file, met, commit, remembered, fresh: false })
    }

    /// Makes the map end where the appliance's cursor is, and tells what is ahead.
    pub fn turn_to(&mut self, cursor: &Cursor, source: &dyn Source) -> Result<Ahead> {
        let next = cursor.next_block.0;
        let fresh = std::mem::take(&mut self.fresh);
        if next > self.plan.geometry.block_count() {
            return Ok(Ahead::Differs);
        }
        if next > self.map.next_block() || (next > 0 && !fresh && source.may_have_moved()?) {
            return Ok(Ahead::Check);
        }
        self.rewind(next)?;
        let same = cursor.is_start() || self.map.prefix_root() == cursor.root;
        Ok(if same { Ahead::Send } else { Ahead::Differs })
    }

    /// Digests the blocks before the cursor, whatever was known of them; what a bitmap that is believed calls clean is
    /// as in the base, as it is behind the cursor.
    pub fn check(&mut self, cursor: &Cursor, source: Arc<dyn Source>, report: &mut Report) -> Result<()> {
        self.rewind(0)?;
        let blocks = 0..cursor.next_block.0;
        let base = self.base.clone().filter(|base| base.believed.is_some());
        let job = Job { source, geometry: self.plan.geometry, base, blocks };
        self.met.extend(&scan_into(&mut self.map, job, report)?);
        self.fresh = true;
        Ok(())
    }

    /// The appliance lost these blocks of the base: none of them counts as unchanged.
    pub fn send_again(&mut self, again: Vec<BlockRange>) {
        self.base.iter_mut().for_each(|base| base.again = again.clone().into());
    }

    /// What is still to be scanned.
    pub fn job(&self, source: Arc<dyn Source>) -> Job {
        let blocks = self.map.next_block()..self.plan.geometry.block_count();
        Job { source, geometry: self.plan.geometry, base: self.base.clone(), blocks }
    }

    /// A connection brought the stream so far.
    pub fn came_to(&mut self, counts: &Counts, commit: Option<Commit>) {
        self.met = counts.met;
        self.commit = commit.or(self.commit);
    }

    fn rewind(&mut self, to: u64) -> Result<()> {
        // Zeros that a bitmap calls clean were not counted.
        self.met.zero = self.met.zero.saturating_sub(self.map.rewind(to).context("digest map: rewinding")?);
        Ok(())
    }
}
