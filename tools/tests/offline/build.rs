//! Builds pools and streams with the format's encoders alone, so that tests know every byte of them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use understudy_format::catalogue::{ProtectionRecord, RemovalRecord};
use understudy_format::codec::encode_into;
use understudy_format::layout::Layout;
use understudy_format::map::{Builder, Map, Page, PageStore};
use understudy_format::point::{Point, Volume};
use understudy_format::pool::PoolRecord;
use understudy_format::secondary::{Place, Settled, State};
use understudy_format::segment::{
    FooterEntry, Kind, NewRecord, RecordHeader, SegmentHeader, Trailer, encode_footer, pad_header,
};
use understudy_format::{BlockSize, Digest, Geometry};
use uuid::Uuid;

pub const BLOCK: usize = 4096;
pub const POOL: Uuid = Uuid::from_u128(7);
pub const VOLUME: Uuid = Uuid::from_u128(8);

/// The bytes of a segment in the making.
pub struct Segment {
    pub bytes: Vec<u8>,
    number: u64,
    entries: Vec<FooterEntry>,
}

impl Segment {
    pub fn new(number: u64) -> Self {
        Self { bytes: SegmentHeader::new(POOL, number).encode(), number, entries: Vec::new() }
    }

    /// Appends a record; returns where it starts.
    pub fn put(&mut self, kind: Kind, digest: Digest, content: &[u8]) -> u64 {
        let offset = self.bytes.len() as u64;
        let mut stored = Vec::new();
        let codec = encode_into(content, &mut stored);
        let record = NewRecord { kind, codec, digest, content_length: content.len() as u32, stored: &stored };
        let header = record.header(offset);
        self.bytes.extend(header.encode());
        self.bytes.extend(&stored);
        self.bytes.resize(self.bytes.len().next_multiple_of(64), 0);
        if kind != Kind::Footer {
            let RecordHeader { content_length, stored_length, kind, codec, .. } = header;
            self.entries.push(FooterEntry {
                digest,
                offset,
                content_length,
                stored_length,
                kind,
                codec,
                reserved: [0; 6],
            });
        }
        offset
    }

    pub fn content(&mut self, kind: Kind, content: &[u8]) -> u64 {
        self.put(kind, kind.digest(content), content)
    }

    /// What a sync does.
    pub fn sync(&mut self, reserve: u64) {
        if let Some(header) = pad_header(self.bytes.len() as u64, reserve) {
            self.bytes.extend(header.encode());
            self.bytes.resize(self.bytes.len() + header.stored_length as usize, 0);
        }
    }

    /// Leaves the last record out of the footer to come; returns how many are left in it.
    pub fn forget_last(&mut self) -> usize {
        self.entries.pop();
        self.entries.len()
    }

    /// Appends all records of this segment to another, as collecting does.
    pub fn copy_to(&self, other: &mut Self) {
        self.copy_some(other, |_| true);
    }

    /// Appends the records of some kinds to another segment.
    pub fn copy_some(&self, other: &mut Self, of: impl Fn(Kind) -> bool) {
        for entry in self.entries.iter().filter(|entry| of(Kind::from_wire(entry.kind).unwrap())) {
            let at = entry.offset as usize;
            let header = RecordHeader::decode(&self.bytes[at..], entry.offset).unwrap();
            let content = header.content(&self.bytes[at + RecordHeader::SIZE..]).unwrap();
            other.put(Kind::from_wire(entry.kind).unwrap(), entry.digest, &content);
        }
        other.sync(0);
    }

    /// Appends footer and trailer.
    pub fn seal(&mut self) {
        let (offset, entries) = (self.bytes.len() as u64, self.entries.clone());
        self.put(Kind::Footer, Digest::ZERO, &encode_footer(&entries));
        self.sync(Trailer::SIZE as u64);
        let length = (self.bytes.len() + Trailer::SIZE) as u64;
        self.bytes.extend(Trailer::new(self.number, offset, entries.len() as u64, length).encode());
    }

    pub fn write(&self, dir: &Path) -> PathBuf {
        let path = dir.join("segments").join(format!("{:016x}.seg", self.number));
        fs::write(&path, &self.bytes).unwrap();
        path
    }
}

/// Map pages in memory, until they are put into a segment.
#[derive(Default)]
pub struct Pages(pub HashMap<Digest, Arc<Page>>);

impl PageStore for Pages {
    type Error = std::convert::Infallible;
    fn load(&mut self, digest: Digest) -> Result<Arc<Page>, Self::Error> {
        Ok(self.0[&digest].clone())
    }
    fn store(&mut self, digest: Digest, page: &Page) -> Result<(), Self::Error> {
        self.0.insert(digest, Arc::new(page.clone()));
        Ok(())
    }
}

/// A block full of one byte, with its number in front so that blocks differ.
pub fn block(content: u64) -> Vec<u8> {
    let mut block = vec![content as u8; BLOCK];
    block[..8].copy_from_slice(&content.to_le_bytes());
    block
}

/// Incompressible bytes.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A pool with one volume `v` whose blocks are given for each point; zero blocks are empty vectors.
pub struct Scene {
    pub dir: TempDir,
    pub segment: Segment,
    pages: Pages,
    pub points: Vec<Point>,
}

impl Scene {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["segments", "volumes/v"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("pool"), PoolRecord::new(POOL, 1).encode()).unwrap();
        fs::write(dir.path().join("lock"), "").unwrap();
        let mut segment = Segment::new(1);
        let name = "v".parse().unwrap();
        let volume = Volume { uuid: VOLUME, name, block_size: block_size(), created_ns: 1 };
        segment.content(Kind::Volume, &volume.encode());
        Self { dir, segment, pages: Pages::default(), points: Vec::new() }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Stores what is new, the map, and commits.
    pub fn commit(&mut self, blocks: &[Vec<u8>]) -> Point {
        let geometry = Geometry::new((blocks.len() * BLOCK) as u64, block_size()).unwrap();
        let mut builder = Builder::new(geometry, None);
        let known = std::mem::take(&mut self.pages.0);
        for content in blocks {
            let digest = Digest::of_block(content);
            let is_new = !digest.is_zero() && !self.segment.entries.iter().any(|entry| entry.digest == digest);
            if is_new {
                self.segment.put(Kind::Block, digest, content);
            }
            let Ok(()) = builder.block(digest, &mut self.pages);
        }
        let Ok(map) = builder.finish(&mut self.pages);
        let mut fresh: Vec<_> = self.pages.0.iter().filter(|(digest, _)| !known.contains_key(digest)).collect();
        fresh.sort_by_key(|(digest, _)| **digest);
        for (digest, page) in fresh {
            self.segment.put(Kind::Page, *digest, page.bytes());
        }
        self.pages.0.extend(known);
        self.segment.sync(0);
        let point = self.point(map);
        self.segment.content(Kind::Point, &point.encode());
        self.segment.sync(0);
        self.points.push(point.clone());
        self.settle(blocks, &point);
        point
    }

    fn point(&self, map: Map) -> Point {
        Point {
            volume: VOLUME,
            number: self.points.len() as u64 + 1,
            base: None,
            created_ns: 1,
            map,
            stream: Uuid::from_u128(9),
            changed_blocks: 0,
            stored_bytes: 0,
            new_bytes: 0,
            label: None,
            position: None,
        }
    }

    /// Writes the secondary and its state.
    pub fn settle(&self, blocks: &[Vec<u8>], point: &Point) {
        let dir = self.path().join("volumes/v");
        let image: Vec<u8> = blocks.iter().flat_map(|block| block.iter().copied()).collect();
        fs::write(dir.join("secondary.raw"), image).unwrap();
        let settled = Settled { point: point.number, root: point.map.root() };
        self.state(State { volume: VOLUME, place: Place::IMAGE, settled: Some(settled), applying: None });
    }

    pub fn state(&self, state: State) {
        fs::write(self.path().join("volumes/v/state"), state.encode()).unwrap();
    }

    /// Appends a record of the catalogue.
    pub fn record(&mut self, kind: Kind, content: &[u8]) {
        self.segment.content(kind, content);
        self.segment.sync(0);
    }

    pub fn remove(&mut self, point: u64) {
        let (volume, removed_ns, segment) = (VOLUME, 5, 1);
        self.record(Kind::Removal, &RemovalRecord { volume, point, removed_ns, segment }.encode());
    }

    pub fn protect(&mut self, point: u64, protected: bool) {
        self.record(Kind::Protection, &ProtectionRecord::new(VOLUME, point, protected).encode());
    }

    /// Seals and writes the segment, and goes on in a new one.
    pub fn next_segment(&mut self, number: u64) {
        self.segment.seal();
        self.segment.write(self.path());
        self.segment = Segment::new(number);
    }

    /// Writes the segment and checks the pool.
    pub fn check(&self) -> understudy_tools::pool::report::Report {
        self.segment.write(self.path());
        understudy_tools::pool::check(self.path(), false).unwrap()
    }

    /// Where in the segment the content of this block is stored, as it is.
    pub fn find(&self, content: &[u8]) -> usize {
        let needle = &content[100..132];
        let at = self.segment.bytes.windows(32).position(|window| window == needle);
        at.expect("the block is stored as it is") - 100
    }
}

pub fn block_size() -> BlockSize {
    BlockSize::new(BLOCK as u32).unwrap()
}
