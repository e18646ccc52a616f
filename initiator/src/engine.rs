//! The emitting end of a run as a plain value: scanned cuts, needs and packed chunks in; messages and pack jobs out.
//!
//! Sans-I/O around `session::Sender`, shared by the online and the offline driver, so that both make the same stream.
//! Invariants: unchanged and zero runs coalesce across cuts, and a few changed blocks are gathered into one chunk,
//! so a chunk costs what changed and not what was looked at; a chunk has at most a piece's worth of data; offers are
//! never further ahead of the last chunk that left than the window.

use crate::cutter::PIECE_MAX;
use crate::map_writer::MapWriter;
use crate::pack::{Cargo, Compress, PackJob};
use crate::scan::{InOrder, Met, Scanned, push_entry};
use anyhow::Result;
use std::collections::VecDeque;
use understudy_format::BlockId;
use understudy_format::chunk::{Chunk, Entry};
use understudy_format::session::{Cursor, Prepared, Ready, Sender};
use understudy_format::stream::{Begin, Commit};
use understudy_format::wire::Message;

/// A chunk leaves when it has this many entries, far below what a mapping may have.
const ENTRIES_ENOUGH: usize = 16 << 10;
/// Data up to this is copied into the chunk being gathered; more keeps its own buffer.
const GATHER_MAX: usize = PIECE_MAX / 4;

/// What a run did, in blocks and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Blocks that were looked at, holes included: how far the run is.
    pub blocks_done: u64,
    /// What they are.
    pub met: Met,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Engine<'a> {
    begin: Begin,
    sender: Sender<Option<Cargo>>,
    window: u64,
    compress: Compress,
    scanned: InOrder<Scanned>,
    map: &'a mut MapWriter,
    gathered: Vec<Entry>,
    gathered_cargo: Option<(Cargo, usize)>,
    prepared: VecDeque<Prepared<Option<Cargo>>>,
    offered: u64,
    left: u64,
    packed: InOrder<Chunk>,
    counts: Counts,
}

/// What is to be done after the engine was told something.
#[derive(Debug, Default)]
pub struct Output {
    /// To be sent, in order.
    pub messages: Vec<Message>,
    /// To be packed.
    pub jobs: Vec<PackJob>,
}

impl<'a> Engine<'a> {
    /// An engine for a stream that nobody answers.
    pub fn offline(begin: Begin, compress: Compress, map: &'a mut MapWriter) -> Self {
        // Nothing is in flight at a receiver; what is being packed is bounded by the buffers.
        Self::make(begin, Sender::offline(begin), u64::MAX, compress, map)
    }

    /// An engine for the stream that the appliance accepted with this window, from its cursor on, where the map is.
    pub fn online(
        begin: Begin,
        window: u32,
        cursor: &Cursor,
        compress: Compress,
        map: &'a mut MapWriter,
        met: Met,
    ) -> Self {
        debug_assert_eq!(map.next_block(), cursor.next_block.0);
        let sender = Sender::resume(begin, window, cursor);
        let blank = Self::make(begin, sender, u64::from(window.max(1)), compress, map);
        let counts = Counts { blocks_done: cursor.next_block.0, met };
        Self { packed: InOrder::starting_at(cursor.totals.chunks), counts, ..blank }
    }

    fn make(
        begin: Begin,
        sender: Sender<Option<Cargo>>,
        window: u64,
        compress: Compress,
        map: &'a mut MapWriter,
    ) -> Self {
        Self {
            begin,
            sender,
            window,
            compress,
            scanned: InOrder::default(),
            map,
            gathered: Vec::new(),
            gathered_cargo: None,
            prepared: VecDeque::new(),
            offered: 0,
            left: 0,
            packed: InOrder::default(),
            counts: Counts::default(),
        }
    }

    /// What was done so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Bytes of the volume that were looked at, holes included.
    pub fn bytes_done(&self) -> u64 {
        self.begin.geometry.byte_range(BlockId(0), self.counts.blocks_done).end
    }

    /// Whether everything was scanned and left.
    pub fn is_done(&self) -> bool {
        self.counts.blocks_done == self.begin.geometry.block_count()
            && self.gathered.is_empty()
            && self.prepared.is_empty()
            && self.left == self.offered
    }

    /// A cut was scanned.
    pub fn scanned(&mut self, number: u64, scanned: Scanned) -> Result<()> {
        self.scanned.put(number, scanned);
        while let Some(next) = self.scanned.next_item() {
            self.counts.blocks_done += next.count;
            self.counts.met.add(&self.begin.geometry, &next);
            next.put_into(self.map)?;
            self.gather(next);
        }
        if self.counts.blocks_done == self.begin.geometry.block_count() {
            self.close_chunk();
        }
        Ok(())
    }

    /// The appliance said which blocks of an offer it lacks.
    pub fn need(&mut self, sequence: u64, wanted: &[bool]) -> Result<()> {
        Ok(self.sender.need(sequence, wanted)?)
    }

    /// A chunk was packed.
    pub fn packed(&mut self, chunk: Chunk) {
        self.packed.put(chunk.head.sequence, chunk);
    }

    /// Lets runs go that were gathered for long: a sign of life towards the appliance.
    pub fn let_go(&mut self) {
        self.close_chunk();
    }

    /// What can be done now; `waiting` packed chunks wait for the connection.
    pub fn pump(&mut self, waiting: usize) -> Result<Output> {
        let mut output = Output::default();
        loop {
            let before = (self.offered, self.left, output.jobs.len());
            self.offer_next(&mut output);
            while let Some(ready) = self.sender.take_ready()? {
                self.take(ready, waiting + output.jobs.len(), &mut output);
            }
            while let Some(chunk) = self.packed.next_item() {
                self.left += 1;
                output.messages.push(Message::Chunk(chunk));
            }
            if before == (self.offered, self.left, output.jobs.len()) {
                return Ok(output);
            }
        }
    }

    /// Everything left: the commit record, with the root of what was read.
    pub fn commit(&mut self) -> Result<Commit> {
        let map = self.map.finish()?;
        Ok(self.sender.commit(map.root())?)
    }

    fn offer_next(&mut self, output: &mut Output) {
        while self.sender.has_room() && self.offered - self.left < self.window {
            let Some(prepared) = self.prepared.pop_front() else { return };
            self.offered += 1;
            output.messages.extend(self.sender.offer(prepared).map(Message::Offer));
        }
    }

    /// A chunk whose need is known is packed, unless no block of it travels.
    fn take(&mut self, ready: Ready<Option<Cargo>>, waiting: usize, output: &mut Output) {
        let Ready { head, token } = ready;
        let travels = head.entries.iter().any(|entry| matches!(entry, Entry::Data { .. }));
        match token {
            Some(cargo) if travels => {
                let cargo = Cargo { starts: kept_starts(&head.entries, &cargo.starts), ..cargo };
                output.jobs.push(PackJob { head, cargo, packing: self.compress.now(waiting) });
            }
            _ => self.packed(Chunk { head, payload: bytes::Bytes::new() }),
        }
    }

    /// Adds a cut to the chunk being gathered.
    fn gather(&mut self, scanned: Scanned) {
        let data = data_bytes(&scanned.entries);
        let gathered = self.gathered_cargo.as_ref().map_or(0, |(_, end)| *end);
        let full = gathered > 0 && (data > GATHER_MAX || gathered + data > PIECE_MAX);
        if full || self.gathered.len() + scanned.entries.len() > ENTRIES_ENOUGH {
            self.close_chunk();
        }
        if data > 0 {
            self.gather_cargo(scanned.cargo, &scanned.entries, data);
        }
        for entry in scanned.entries {
            push_entry(&mut self.gathered, entry);
        }
        if data > GATHER_MAX {
            self.close_chunk();
        }
    }

    /// The first data of a chunk brings its buffer; later data is copied behind it.
    fn gather_cargo(&mut self, cargo: Cargo, entries: &[Entry], data: usize) {
        let Some((gathered, end)) = &mut self.gathered_cargo else {
            self.gathered_cargo = Some((cargo, data));
            return;
        };
        for (start, length) in cargo.starts.iter().zip(data_lengths(entries)) {
            let from = &cargo.buffer.as_ref()[*start as usize..][..length];
            gathered.buffer.bytes()[*end..*end + length].copy_from_slice(from);
            gathered.starts.push(*end as u32);
            *end += length;
        }
    }

    fn close_chunk(&mut self) {
        if !self.gathered.is_empty() {
            let entries = std::mem::take(&mut self.gathered);
            let token = self.gathered_cargo.take().map(|(cargo, _)| cargo);
            self.prepared.push_back(Prepared { entries, token });
        }
    }
}

fn data_lengths(entries: &[Entry]) -> impl Iterator<Item = usize> {
    entries.iter().filter_map(|entry| match entry {
        Entry::Data { block_length, .. } => Some(*block_length as usize),
        _ => None,
    })
}

fn data_bytes(entries: &[Entry]) -> usize {
    data_lengths(entries).sum()
}

/// The starts of the blocks that still travel: those that became references fell out.
fn kept_starts(entries: &[Entry], starts: &[u32]) -> Vec<u32> {
    let offered = entries.iter().filter(|entry| matches!(entry, Entry::Data { .. } | Entry::Reference { .. }));
    let kept = offered.zip(starts).filter(|(entry, _)| matches!(entry, Entry::Data { .. }));
    kept.map(|(_, start)| *start).collect()
}
