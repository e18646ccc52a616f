//! What the segments hold, by digest: where the newest good copy of each block and page is.
//!
//! Invariant: a good copy is never displaced by a damaged one, and a newer good copy displaces an older one: content
//! is stored again when its segment is collected, and when a damaged copy was noticed. Memory: at most 230 bytes for each unique digest of the pool, 75 to 150 unless the table is just growing
//! (so 1.2 to 3.9 GB for 1 TiB of different 64 KiB blocks), whatever the number and size of volumes and points.

use super::segment::Found;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use understudy_format::layout::Layout;
use understudy_format::map::{Page, PageStore};
use understudy_format::segment::{Kind, RecordHeader};
use understudy_format::{Digest, FormatError};

/// Where a block or page is.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The segment.
    pub segment: u64,
    /// Of the record's header in it, bytes.
    pub offset: u64,
    /// Bytes of the record after its header.
    pub stored_length: u32,
    /// Bytes of the content.
    pub content_length: u32,
    /// Whether it is a map page.
    pub is_page: bool,
    /// Whether checksum and digest are right.
    pub is_good: bool,
    /// Whether a point needs it.
    pub is_used: bool,
    /// Set for a page when everything under it was found good: as what ([`super::walk`]).
    pub walked_as: u8,
}

/// The bound on memory in the module documentation rests on this.
const _: () = assert!(size_of::<(Digest, Place)>() == 64);

impl Place {
    fn of(segment: u64, found: &Found) -> Self {
        Self {
            segment,
            offset: found.entry.offset,
            stored_length: found.entry.stored_length,
            content_length: found.entry.content_length,
            is_page: found.kind() == Some(Kind::Page),
            is_good: found.damage.is_none(),
            is_used: false,
            walked_as: 0,
        }
    }

    fn position(&self) -> (u64, u64) {
        (self.segment, self.offset)
    }
}

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Known {
    places: HashMap<Digest, Place>,
}

impl Known {
    /// Takes a block or page record.
    pub fn insert(&mut self, segment: u64, found: &Found) {
        let new = Place::of(segment, found);
        let place = self.places.entry(found.entry.digest).or_insert(new);
        let newer = (new.is_good, new.position()) > (place.is_good, place.position());
        if newer {
            *place = new;
        }
    }

    /// Where the content with this digest is.
    pub fn get(&self, digest: &Digest) -> Option<&Place> {
        self.places.get(digest)
    }

    /// The same, to mark it.
    pub fn get_mut(&mut self, digest: &Digest) -> Option<&mut Place> {
        self.places.get_mut(digest)
    }

    /// Whether a good copy of this content is anywhere: then nobody will miss a damaged one.
    pub fn has_good(&self, digest: &Digest) -> bool {
        self.get(digest).is_some_and(|place| place.is_good)
    }

    /// All places.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.places.values()
    }
}

/// Reads map pages back; the last segment file stays open.
#[derive(Debug)]
pub struct PageReader {
    dir: PathBuf,
    open: Option<(u64, File)>,
}

impl PageReader {
    /// A reader of the segments in `dir`.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), open: None }
    }

    /// The page at `place`.
    pub fn read(&mut self, place: &Place, digest: Digest) -> Result<Page, FormatError> {
        let mut bytes = vec![0; RecordHeader::SIZE + place.stored_length as usize];
        let read = self.file(place.segment).and_then(|file| file.read_exact_at(&mut bytes, place.offset));
        read.map_err(|error| FormatError::invalid("map page", format!("reading it: {error}")))?;
        let header = RecordHeader::decode(&bytes, place.offset)?;
        Page::checked(&header.content(&bytes[RecordHeader::SIZE..])?, digest)
    }

    fn file(&mut self, segment: u64) -> io::Result<&File> {
        if self.open.as_ref().is_none_or(|(number, _)| *number != segment) {
            self.open = Some((segment, File::open(self.dir.join(segment_name(segment)))?));
        }
        Ok(&self.open.as_ref().expect("just opened").1)
    }
}

/// The file name of a segment.
pub fn segment_name(segment: u64) -> String {
    format!("{segment:016x}.seg")
}

/// Pages of a map that was found good.
#[derive(Debug)]
pub struct GoodPages<'a> {
    /// Where they are.
    pub known: &'a Known,
    /// Reads them.
    pub reader: &'a mut PageReader,
}

impl PageStore for GoodPages<'_> {
    type Error = FormatError;

    fn load(&mut self, digest: Digest) -> Result<Arc<Page>, FormatError> {
        let place = self.known.get(&digest).ok_or_else(|| FormatError::invalid("map page", "is missing"))?;
        self.reader.read(place, digest).map(Arc::new)
    }

    fn store(&mut self, _: Digest, _: &Page) -> Result<(), FormatError> {
        Ok(())
    }
}
