//! Streams of volumes that nobody has: their blocks are made as they are sent.
//!
//! Each block is all its own (16 bytes that no other has) and costs hardly anything to store (the rest is zeros). Invariants: the same
//! version of the same block is always the same bytes; memory is a few chunks, however large the volume.

use anyhow::{Context, bail};
use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;
use understudy_format::chunk::Entry;
use understudy_format::codec::Codec;
use understudy_format::map::{Builder, Map, Page, PageStore};
use understudy_format::session::{Prepared, Sender, pack};
use understudy_format::stream::{Base, Begin};
use understudy_format::wire::Message;
use understudy_format::{BlockId, Digest, Geometry};
use understudy_net::blocking::write_message;
use uuid::Uuid;

/// Content of a chunk, bytes.
const CHUNK_BYTES: usize = 1 << 20;
/// Map pages that are kept: those above the blocks that were sent last.
const PAGES: usize = 64;
/// When the first source was read, nanoseconds since 1970: 2026-01-01. Later ones a second each.
const FIRST_NS: i64 = 1_767_225_600_000_000_000;

/// A run of blocks.
#[derive(Debug, Clone, Copy)]
pub enum Run {
    /// Blocks with data, of this version.
    Data { count: u64, version: u64 },
    /// Blocks as in the base.
    Unchanged { count: u64 },
    /// Blocks of zeros.
    Zero { count: u64 },
}

/// A stream in the making.
#[derive(Debug, Clone)]
pub struct Stream {
    /// No two streams have the same; later ones have greater ones.
    pub number: u64,
    /// Of the volume.
    pub geometry: Geometry,
    /// What unchanged blocks are as.
    pub base: Option<Map>,
    /// All blocks, in order.
    pub runs: Vec<Run>,
}

impl Stream {
    /// How it begins.
    pub fn begin(&self) -> Begin {
        Begin {
            volume: Uuid::nil(),
            stream: Uuid::from_u64_pair(0x5CA1_E000, self.number),
            geometry: self.geometry,
            base: self.base.map(|map| Base { root: map.root(), size: map.geometry.volume_size() }),
            created_ns: FIRST_NS + self.number as i64 * 1_000_000_000,
        }
    }
}

/// Who takes a stream.
pub trait Peer {
    /// Takes a message.
    fn send(&mut self, message: &Message) -> anyhow::Result<()>;
    /// Which data entries of which offer are needed.
    fn need(&mut self) -> anyhow::Result<(u64, Vec<bool>)>;
}

/// A file or pipe: nobody answers.
#[derive(Debug)]
pub struct Offline<W>(pub W);

impl<W: Write> Peer for Offline<W> {
    fn send(&mut self, message: &Message) -> anyhow::Result<()> {
        write_message(&mut self.0, message).map(drop).context("cannot write the stream")
    }

    fn need(&mut self) -> anyhow::Result<(u64, Vec<bool>)> {
        bail!("nobody answers offline")
    }
}

/// The map pages that were stored last.
#[derive(Debug, Default)]
pub struct Recent(VecDeque<(Digest, Arc<Page>)>);

impl PageStore for Recent {
    type Error = anyhow::Error;

    fn load(&mut self, digest: Digest) -> anyhow::Result<Arc<Page>> {
        let found = self.0.iter().rev().find(|(own, _)| *own == digest);
        Ok(found.with_context(|| format!("map page {digest} was not kept"))?.1.clone())
    }

    fn store(&mut self, digest: Digest, page: &Page) -> anyhow::Result<()> {
        if self.0.len() == PAGES {
            self.0.pop_front();
        }
        self.0.push_back((digest, Arc::new(page.clone())));
        Ok(())
    }
}

/// Writes a whole stream, and returns its map.
pub fn write(to: impl Write, stream: &Stream, pages: &mut Recent) -> anyhow::Result<Map> {
    let mut peer = Offline(to);
    let begin = stream.begin();
    peer.send(&Message::Begin(begin))?;
    let (map, sender) = send(&mut peer, Sender::offline(begin), stream, pages)?;
    peer.send(&Message::Commit(sender.commit(map.root())?))?;
    peer.0.flush().context("cannot write the stream")?;
    Ok(map)
}

/// The bytes of the data entries of a chunk, by block.
type Contents = Vec<(BlockId, Vec<u8>)>;

/// Sends all blocks of a stream that began; returns its map and what commits it.
pub fn send<P: Peer>(
    peer: &mut P,
    sender: Sender<Contents>,
    stream: &Stream,
    pages: &mut Recent,
) -> anyhow::Result<(Map, Sender<Contents>)> {
    let builder = Builder::new(stream.geometry, stream.base);
    let (entries, contents) = Default::default();
    let mut maker = Maker { peer, sender, builder, pages, geometry: stream.geometry, next: 0, entries, contents };
    stream.runs.iter().try_for_each(|run| maker.run(*run))?;
    maker.flush()?;
    while !maker.sender.is_idle() {
        maker.advance()?;
    }
    let Maker { sender, builder, pages, .. } = maker;
    Ok((builder.finish(pages)?, sender))
}

struct Maker<'a, P> {
    peer: &'a mut P,
    sender: Sender<Contents>,
    builder: Builder,
    pages: &'a mut Recent,
    geometry: Geometry,
    next: u64,
    /// Of the chunk that is being made.
    entries: Vec<Entry>,
    contents: Contents,
}

impl<P: Peer> Maker<'_, P> {
    fn run(&mut self, run: Run) -> anyhow::Result<()> {
        match run {
            Run::Data { count, version } => return (0..count).try_for_each(|_| self.data(version)),
            Run::Unchanged { count } => {
                self.entries.push(Entry::Unchanged { count });
                self.builder.unchanged(count, self.pages)?;
                self.next += count;
            }
            Run::Zero { count } => {
                self.entries.push(Entry::Zero { count });
                self.builder.zero(count, self.pages)?;
                self.next += count;
            }
        }
        Ok(())
    }

    fn data(&mut self, version: u64) -> anyhow::Result<()> {
        let block = BlockId(self.next);
        let content = content(block, version, self.geometry.block_len(block));
        let (digest, block_length) = (Digest::of_block(&content), content.len() as u32);
        self.entries.push(Entry::Data {
            digest,
            codec: Codec::Stored,
            payload_offset: 0,
            payload_length: 0,
            block_length,
        });
        self.contents.push((block, content));
        self.builder.block(digest, self.pages)?;
        self.next += 1;
        match self.contents.len() * self.geometry.block_size().bytes() as usize >= CHUNK_BYTES {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Offers what was made as a chunk.
    fn flush(&mut self) -> anyhow::Result<()> {
        let (entries, token) = (std::mem::take(&mut self.entries), std::mem::take(&mut self.contents));
        if entries.is_empty() {
            return Ok(());
        }
        while !self.sender.has_room() {
            self.advance()?;
        }
        match self.sender.offer(Prepared { entries, token }) {
            Some(offer) => self.peer.send(&Message::Offer(offer)),
            None => Ok(()),
        }
    }

    /// Sends a chunk, or waits for the answer that one waits for.
    fn advance(&mut self) -> anyhow::Result<()> {
        let Some(ready) = self.sender.take_ready()? else {
            let (sequence, wanted) = self.peer.need()?;
            return Ok(self.sender.need(sequence, &wanted)?);
        };
        let content = |block: BlockId| {
            let at = ready.token.binary_search_by_key(&block, |(block, _)| *block);
            &ready.token[at.expect("every data entry has its bytes")].1[..]
        };
        self.peer.send(&Message::Chunk(pack(ready.head, true, content)?))
    }
}

/// The bytes of a block.
fn content(block: BlockId, version: u64, length: u32) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    bytes[..8].copy_from_slice(&(block.0 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    bytes[8..16].copy_from_slice(&(version + 1).wrapping_mul(0xBF58_476D_1CE4_E5B9).to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_format::BlockSize;
    use understudy_net::blocking::FrameFile;

    #[test]
    fn a_stream_has_the_blocks_that_were_asked_for_and_a_sound_commit() {
        let geometry = Geometry::new(1000 * 4096, BlockSize::new(4096).unwrap()).unwrap();
        let runs = vec![Run::Data { count: 600, version: 1 }, Run::Zero { count: 400 }];
        let mut bytes = Vec::new();
        let stream = Stream { number: 1, geometry, base: None, runs };
        let map = write(&mut bytes, &stream, &mut Recent::default()).unwrap();
        let mut frames = FrameFile::new(&bytes[..]);
        let mut last = None;
        while let Some(message) = frames.next_message().unwrap() {
            last = Some(message);
        }
        let Some(Message::Commit(commit)) = last else { panic!("no commit") };
        assert_eq!((commit.totals.data, commit.totals.zero, commit.root), (600, 400, map.root()));
        assert!(bytes.len() < 600 * 200, "{} bytes", bytes.len());
    }

    #[test]
    fn blocks_and_versions_are_all_different() {
        let of = |block, version| content(BlockId(block), version, 512);
        assert!(of(0, 0) != of(0, 1) && of(0, 1) != of(1, 0) && of(7, 7) == of(7, 7));
    }
}
