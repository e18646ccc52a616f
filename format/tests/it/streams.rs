//! Whole streams: volumes with known content, a replica that takes a stream, and streams that were damaged.
//!
//! Invariant: a stream with a flipped bit or a missing end never becomes a volume, and nothing here panics.

use crate::reader::{Sink, read_stream};
use crate::samples::{self, encoded, uuid};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use understudy_format::chunk::{Chunk, Entry};
use understudy_format::codec::{Codec, decode_into, encode_into};
use understudy_format::error::{FormatError, Result};
use understudy_format::geometry::BlockId;
use understudy_format::map::{Builder, Map, Page, PageStore};
use understudy_format::session::{Cursor, Prepared, Progress, Receiver, Sender, pack};
use understudy_format::stream::{Base, Begin, Commit};
use understudy_format::wire::Message;
use understudy_format::{Digest, Geometry};

/// Pages in memory.
#[derive(Default)]
pub struct Pages(HashMap<Digest, Arc<Page>>);

impl PageStore for Pages {
    type Error = Infallible;
    fn load(&mut self, digest: Digest) -> Result<Arc<Page>, Infallible> {
        Ok(self.0[&digest].clone())
    }
    fn store(&mut self, digest: Digest, page: &Page) -> Result<(), Infallible> {
        self.0.insert(digest, Arc::new(page.clone()));
        Ok(())
    }
}

/// A volume in memory, in blocks of 4 KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub geometry: Geometry,
    pub bytes: Vec<u8>,
}

impl Volume {
    /// A block for each content (0 is zero), the last one of `tail` sectors.
    pub fn new(contents: &[u8], tail: usize) -> Self {
        let mut bytes: Vec<u8> = contents.iter().flat_map(|content| block_of(*content)).collect();
        bytes.truncate((contents.len() - 1) * 4096 + tail * 512);
        Self { geometry: Geometry::from_wire(bytes.len() as u64, 4096).unwrap(), bytes }
    }

    pub fn block(&self, block: BlockId) -> &[u8] {
        let range = self.geometry.byte_range(block, 1);
        &self.bytes[range.start as usize..range.end as usize]
    }

    /// The root of this volume with all blocks from `next` on zero.
    pub fn prefix_root(&self, next: u64) -> Digest {
        let mut bytes = self.bytes.clone();
        bytes[self.geometry.byte_range(BlockId(0), next).end as usize..].fill(0);
        Self { geometry: self.geometry, bytes }.map(&mut Pages::default()).root()
    }

    pub fn map(&self, pages: &mut Pages) -> Map {
        let mut builder = Builder::new(self.geometry, None);
        for block in 0..self.geometry.block_count() {
            let Ok(()) = builder.block(Digest::of_block(self.block(BlockId(block))), pages);
        }
        let Ok(map) = builder.finish(pages);
        map
    }
}

/// Odd contents compress, even ones do not.
pub fn block_of(content: u8) -> Vec<u8> {
    let mut bytes = vec![content; 4096];
    if content != 0 && content.is_multiple_of(2) {
        blake3::Hasher::new().update(&[content]).finalize_xof().fill(&mut bytes);
    }
    bytes
}

/// The begin record for `new` over `base`.
pub fn begin(new: &Volume, base: Option<&Volume>) -> Begin {
    let of = |base: &Volume| Base { root: base.map(&mut Pages::default()).root(), size: base.geometry.volume_size() };
    Begin { volume: uuid(1), stream: uuid(2), geometry: new.geometry, base: base.map(of), created_ns: 1 }
}

/// What blocks `first..end` of `new` are.
pub fn entries(new: &Volume, base: Option<&Volume>, first: u64, end: u64) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for block in (first..end).map(BlockId) {
        let content = new.block(block);
        let digest = Digest::of_block(content);
        let same = base.is_some_and(|base| block.0 < base.geometry.block_count() && base.block(block) == content);
        match entries.last_mut() {
            Some(Entry::Unchanged { count }) if same => *count += 1,
            Some(Entry::Zero { count }) if !same && digest.is_zero() => *count += 1,
            _ if same => entries.push(Entry::Unchanged { count: 1 }),
            _ if digest.is_zero() => entries.push(Entry::Zero { count: 1 }),
            _ => entries.push(data(digest, content.len())),
        }
    }
    entries
}

pub fn data(digest: Digest, length: usize) -> Entry {
    Entry::Data { digest, codec: Codec::Stored, payload_offset: 0, payload_length: 0, block_length: length as u32 }
}

/// The volume in groups of blocks; `sizes` are used in turn.
pub fn prepared(new: &Volume, base: Option<&Volume>, sizes: &[u64]) -> Vec<Prepared<BlockId>> {
    prepared_from(0, new, base, sizes)
}

/// The same, from a block on.
pub fn prepared_from(first: u64, new: &Volume, base: Option<&Volume>, sizes: &[u64]) -> Vec<Prepared<BlockId>> {
    let (mut first, mut groups, count) = (first, Vec::new(), new.geometry.block_count());
    for size in sizes.iter().cycle() {
        if first >= count {
            break;
        }
        let end = (first + size).min(count);
        groups.push(Prepared { entries: entries(new, base, first, end), token: BlockId(first) });
        first = end;
    }
    groups
}

/// An offline stream.
pub fn stream(new: &Volume, base: Option<&Volume>, sizes: &[u64]) -> Vec<u8> {
    let begin = begin(new, base);
    let mut sender = Sender::offline(begin);
    let mut bytes = encoded(&Message::Begin(begin));
    for prepared in prepared(new, base, sizes) {
        assert_eq!(sender.offer(prepared), None, "nothing is offered offline");
        let ready = sender.take_ready().unwrap().expect("offline chunks are ready at once");
        let chunk = pack(ready.head, true, |block| new.block(block)).unwrap();
        bytes.extend(encoded(&Message::Chunk(chunk)));
    }
    let commit = sender.commit(new.map(&mut Pages::default()).root()).unwrap();
    bytes.extend(encoded(&Message::Commit(commit)));
    bytes
}

/// Takes a stream as an appliance would, in memory.
pub struct Replica {
    pub receiver: Option<Receiver>,
    pub known: HashMap<Digest, Vec<u8>>,
    pub bytes: Vec<u8>,
    base: Option<Volume>,
    builder: Option<Builder>,
    pages: Pages,
}

impl Replica {
    pub fn new(base: Option<&Volume>) -> Self {
        let (pages, known) = (Pages::default(), HashMap::new());
        Self { receiver: None, known, bytes: Vec::new(), base: base.cloned(), builder: None, pages }
    }

    pub fn receiver(&mut self) -> &mut Receiver {
        self.receiver.as_mut().expect("the stream began")
    }

    /// What is recorded durably: as it is read back.
    pub fn progress(&self) -> Progress {
        let receiver = self.receiver.as_ref().expect("the stream began");
        let progress = Progress {
            volume: samples::volume(),
            label: None,
            begin: *receiver.begin(),
            totals: *receiver.totals(),
            map: self.builder.as_ref().expect("the stream began").partial(),
            recorded_ns: 0,
            stored_bytes: 0,
            new_bytes: 0,
        };
        let read = Progress::decode(&progress.encode()).unwrap();
        assert_eq!(read, progress);
        read
    }

    /// Goes on behind what was recorded, and tells where that is.
    pub fn resume(&mut self, progress: &Progress) -> Cursor {
        let base = self.base.as_ref().map(|base| base.map(&mut self.pages));
        let (begin, totals, next_block) = (progress.begin, progress.totals, BlockId(progress.next_block()));
        self.bytes.truncate(begin.geometry.byte_range(BlockId(0), next_block.0).end as usize);
        self.receiver = Some(Receiver::resume(begin, totals, next_block));
        let builder = Builder::resume(begin.geometry, base, progress.map.clone());
        let Ok(prefix) = builder.prefix(&mut self.pages);
        self.builder = Some(builder);
        if next_block.0 == 0 { Cursor::START } else { Cursor { next_block, totals, root: prefix.root() } }
    }

    fn entry(&mut self, chunk: &Chunk, block: BlockId, entry: &Entry) -> Result<()> {
        let builder = self.builder.as_mut().expect("the stream began");
        let start = chunk.head.geometry.offset(block) as usize;
        let length = chunk.head.geometry.byte_range(block, entry.count()).count();
        let Ok(()) = match *entry {
            Entry::Data { digest, .. } | Entry::Reference { digest, .. } => builder.block(digest, &mut self.pages),
            Entry::Zero { count } => builder.zero(count, &mut self.pages),
            Entry::Unchanged { count } => builder.unchanged(count, &mut self.pages),
        };
        match *entry {
            Entry::Data { digest, block_length, .. } => {
                let content = self.content(chunk, entry, digest, block_length)?;
                self.bytes.extend(&content);
                self.known.insert(digest, content);
            }
            Entry::Reference { digest, .. } => {
                let known = self.known.get(&digest);
                let lacking = || FormatError::invalid("reference", format!("to {digest}, which is not here"));
                self.bytes.extend(known.ok_or_else(lacking)?);
            }
            Entry::Zero { .. } => self.bytes.resize(start + length, 0),
            Entry::Unchanged { .. } => {
                self.bytes.extend(&self.base.as_ref().expect("checked").bytes[start..start + length]);
            }
        }
        Ok(())
    }

    fn content(&self, chunk: &Chunk, entry: &Entry, expected: Digest, length: u32) -> Result<Vec<u8>> {
        let (codec, encoded) = chunk.encoded(entry).expect("a data entry");
        let mut content = vec![0; length as usize];
        decode_into(codec, &encoded, &mut content)?;
        match Digest::of_block(&content) {
            computed if computed == expected => Ok(content),
            computed => Err(FormatError::Digest { what: "block", expected, computed }),
        }
    }
}

impl Sink for Replica {
    fn begin(&mut self, begin: &Begin) -> Result<()> {
        let base = self.base.as_ref().map(|base| base.map(&mut self.pages));
        if base.map(|base| base.root()) != begin.base.map(|base| base.root) {
            return Err(FormatError::invalid("begin record", "no common base"));
        }
        self.receiver = Some(Receiver::new(*begin));
        self.builder = Some(Builder::new(begin.geometry, base));
        Ok(())
    }

    fn chunk(&mut self, chunk: &Chunk) -> Result<()> {
        self.receiver().chunk(chunk)?;
        chunk.head.blocks().try_for_each(|(block, entry)| self.entry(chunk, block, entry))
    }

    fn commit(&mut self, commit: &Commit) -> Result<()> {
        let Ok(map) = self.builder.take().expect("the stream began").finish(&mut self.pages);
        self.receiver().commit(commit, map.root())
    }
}

fn incremental() -> (Volume, Volume) {
    (Volume::new(&[1, 2, 0, 3, 3], 1), Volume::new(&[1, 4, 4, 0, 3, 0, 5], 1))
}

/// Seeds for the fuzz targets: name, target, what its decoder wants to know, bytes.
pub fn seeds() -> Vec<(String, &'static str, u64, Vec<u8>)> {
    let (base, new) = incremental();
    let mut lz4 = Vec::new();
    encode_into(&block_of(1), &mut lz4);
    let name = |name: &str| ("names", name.as_bytes().to_vec());
    let names =
        ["vm-1", "vm-1@latest", "vm-1@7", "a@before", "a@2026-11-21T10:00", "a@2026-11-21T10:00:01+02:00", "64K"];
    let mut seeds =
        vec![("stream", stream(&new, None, &[3])), ("stream", stream(&new, Some(&base), &[2, 9])), ("lz4", lz4)];
    seeds.extend(names.map(name));
    let named = |(at, (target, bytes)): (usize, (&'static str, Vec<u8>))| {
        (format!("seed-{at}"), target, if target == "lz4" { 4096 } else { 0 }, bytes)
    };
    seeds.into_iter().enumerate().map(named).collect()
}

#[test]
fn every_flipped_bit_of_a_stream_is_an_error() {
    let (base, new) = incremental();
    let good = stream(&new, Some(&base), &[3]);
    let mut replica = Replica::new(Some(&base));
    read_stream(&good, &mut replica).unwrap();
    assert_eq!(replica.bytes, new.bytes);
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(read_stream(&bytes, &mut Replica::new(Some(&base))).is_err(), "bit {bit}");
    }
}

#[test]
fn every_truncation_of_a_stream_is_an_error() {
    let (base, new) = incremental();
    let good = stream(&new, Some(&base), &[3]);
    for length in 0..good.len() {
        let cut = read_stream(&good[..length], &mut Replica::new(Some(&base)));
        assert!(matches!(cut, Err(FormatError::Truncated { .. })), "cut to {length} bytes: {cut:?}");
    }
}

#[test]
fn bytes_after_the_commit_record_are_an_error() {
    let (_, new) = incremental();
    let bytes = [stream(&new, None, &[3]), vec![0]].concat();
    let error = read_stream(&bytes, &mut Replica::new(None)).unwrap_err();
    assert_eq!(error, FormatError::LeftOver { what: "stream", count: 1 });
}
