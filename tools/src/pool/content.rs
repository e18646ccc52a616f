//! Reads single blocks and map pages out of segments, whichever copy is good, beside a daemon that may collect.
//!
//! Invariants: nothing is returned that does not have the digest that was asked for, and nothing else is asked of a
//! copy: a damaged header in front of good bytes costs nothing. A content is missed only when the pool was looked at
//! after a segment last came or went, or once more for this content.

use super::known::segment_name;
use super::places::{Place, Places};
use super::survey::{Survey, last_change, survey};
use anyhow::bail;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use understudy_format::Digest;
use understudy_format::codec::{Codec, decode_into};
use understudy_format::layout::Layout;
use understudy_format::map::{PAGE_SIZE, Page};
use understudy_format::point::Point;
use understudy_format::segment::{ALIGNMENT, Kind, RecordHeader};

/// Segment files that are held open.
const OPEN_MAX: usize = 64;
/// How often the same content is looked for again because a segment vanished.
const TRIES: u32 = 16;

/// Why a content cannot be had, for people.
pub type Absent = String;

/// See the module documentation.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    places: Places,
    files: HashMap<u64, File>,
    /// The point that is being read: it must not go meanwhile.
    point: Point,
    /// When a segment last came or went before the places were found.
    changed: Option<SystemTime>,
    stored: Vec<u8>,
}

/// A content that was read and has its digest.
#[derive(Debug)]
pub struct Content {
    /// The bytes.
    pub bytes: Vec<u8>,
    place: Place,
}

/// What came of reading one copy.
enum Copy {
    Good(Content),
    Bad(Absent),
    Vanished,
}

impl Reader {
    /// Reads `point` out of the pool in `dir`, whose blocks are at `places`, as found after it `changed`.
    pub fn new(dir: &Path, places: Places, changed: Option<SystemTime>, point: Point) -> Self {
        Self { dir: dir.to_owned(), places, files: HashMap::new(), point, changed, stored: Vec::new() }
    }

    /// The block with this digest and length.
    pub fn block(&mut self, digest: Digest, length: u32) -> anyhow::Result<Result<Content, Absent>> {
        self.content(Kind::Block, digest, length as usize)
    }

    /// The map page with this digest.
    pub fn page(&mut self, digest: Digest) -> anyhow::Result<Result<Page, Absent>> {
        let content = self.content(Kind::Page, digest, PAGE_SIZE)?;
        Ok(content.map(|content| Page::from_bytes(&content.bytes)))
    }

    /// The file that has a content as it is, and from where on, when another file can share it there.
    pub fn shareable(&mut self, content: &Content) -> io::Result<Option<(&File, u64)>> {
        let (place, length) = (content.place, content.bytes.len());
        let from = place.offset + RecordHeader::SIZE as u64;
        let is_plain = place.stored_length as usize == length;
        match is_plain && from.is_multiple_of(ALIGNMENT) && length.is_multiple_of(ALIGNMENT as usize) {
            true => Ok(Some((self.file(place.segment)?, from))),
            false => Ok(None),
        }
    }

    fn content(&mut self, kind: Kind, digest: Digest, length: usize) -> anyhow::Result<Result<Content, Absent>> {
        for again in 0..TRIES {
            match self.look(kind, digest, length)? {
                Copy::Good(content) => return Ok(Ok(content)),
                Copy::Bad(reason) if again > 0 || last_change(&self.dir) == self.changed => return Ok(Err(reason)),
                Copy::Bad(_) | Copy::Vanished => self.look_again()?,
            }
        }
        bail!("the segments of {} vanish faster than they can be read: stop its understudyd first", self.dir.display())
    }

    /// The first good copy, or what is wrong with the newest.
    fn look(&mut self, kind: Kind, digest: Digest, length: usize) -> io::Result<Copy> {
        let copies: Vec<Place> = self.places.copies(&digest).collect();
        let (mut reason, mut vanished) = (None, false);
        for place in copies {
            match self.copy(kind, digest, length, place)? {
                Copy::Good(content) => return Ok(Copy::Good(content)),
                Copy::Vanished => vanished = true,
                Copy::Bad(bad) => reason = reason.or(Some(bad)),
            }
        }
        match vanished {
            true => Ok(Copy::Vanished),
            false => Ok(Copy::Bad(reason.unwrap_or_else(|| "in no segment that can be read".into()))),
        }
    }

    fn copy(&mut self, kind: Kind, digest: Digest, length: usize, place: Place) -> io::Result<Copy> {
        let mut record = std::mem::take(&mut self.stored);
        record.resize(RecordHeader::SIZE + place.stored_length as usize, 0);
        let read = self.file(place.segment).and_then(|file| file.read_exact_at(&mut record, place.offset));
        let copy = match read {
            Ok(()) => match decoded(kind, digest, length, &record[RecordHeader::SIZE..]) {
                Some(bytes) => Copy::Good(Content { bytes, place }),
                None => Copy::Bad(told(place, &damage(&record, place))),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => Copy::Vanished,
            Err(error) => Copy::Bad(told(place, &error.to_string())),
        };
        self.stored = record;
        Ok(copy)
    }

    fn file(&mut self, segment: u64) -> io::Result<&File> {
        if self.files.len() >= OPEN_MAX && !self.files.contains_key(&segment) {
            self.files.clear();
        }
        match self.files.entry(segment) {
            std::collections::hash_map::Entry::Occupied(open) => Ok(open.into_mut()),
            std::collections::hash_map::Entry::Vacant(free) => {
                Ok(free.insert(File::open(self.dir.join("segments").join(segment_name(segment)))?))
            }
        }
    }

    fn look_again(&mut self) -> anyhow::Result<()> {
        let Survey { contents, places, changed, .. } = survey(&self.dir, true)?;
        if !contents.points().any(|point| *point == self.point) {
            bail!("the point was removed, and its blocks collected, while it was read: what was written is not whole");
        }
        (self.places, self.changed, self.files) = (places, changed, HashMap::new());
        Ok(())
    }
}

/// The content, when it has the digest. A writer compresses exactly when that is shorter.
fn decoded(kind: Kind, digest: Digest, length: usize, stored: &[u8]) -> Option<Vec<u8>> {
    let codec = if stored.len() < length { Codec::Lz4 } else { Codec::Stored };
    let mut content = vec![0; length];
    decode_into(codec, stored, &mut content).ok()?;
    (kind.digest(&content) == digest).then_some(content)
}

/// What is wrong with a record whose bytes are not what they should be.
fn damage(record: &[u8], place: Place) -> String {
    let header = RecordHeader::decode(record, place.offset);
    match header.and_then(|header| header.content(&record[RecordHeader::SIZE..])) {
        Err(error) => error.to_string(),
        Ok(content) => format!("another content, of {} bytes", content.len()),
    }
}

fn told(place: Place, reason: &str) -> Absent {
    format!("damaged in segment {} at {}: {reason}", place.segment, place.offset)
}
